import asyncio

import pytest

from utilities.judges.concurrency import AdaptiveLimiter


async def until_idle():
    for _ in range(10):
        await asyncio.sleep(0)


class Crowd:
    """Tasks that take a slot and hold it until told to leave it."""

    def __init__(self, limiter):
        self.limiter, self.inside, self.tasks = limiter, [], {}
        self.leave = {}

    def come(self, *names):
        for name in names:
            self.leave[name] = asyncio.get_running_loop().create_future()
            self.tasks[name] = asyncio.create_task(self._stay(name))

    async def _stay(self, name):
        async with self.limiter.slot() as slot:
            self.inside.append(name)
            try:
                what = await self.leave[name]
                if what is not None:
                    getattr(slot, what)()
            finally:
                self.inside.remove(name)

    async def go(self, name, what=None):
        self.leave[name].set_result(what)
        await until_idle()


def test_it_begins_at_the_most_and_lets_in_first_come_first_served():
    async def main():
        crowd = Crowd(AdaptiveLimiter(2))
        crowd.come("a", "b", "c", "d")
        await until_idle()
        assert crowd.inside == ["a", "b"]
        await crowd.go("b")
        assert crowd.inside == ["a", "c"]
        await crowd.go("a")
        assert crowd.inside == ["c", "d"]
        assert crowd.limiter.in_flight == 2

    asyncio.run(main())


def test_one_burst_of_trouble_halves_the_limit_once():
    async def main():
        limiter = AdaptiveLimiter(8)
        crowd = Crowd(limiter)
        crowd.come(*range(12))
        await until_idle()
        for name in range(6):
            await crowd.go(name, "met_trouble")
        assert limiter.limit == 4
        assert crowd.inside == [6, 7, 8, 9]
        await crowd.go(8, "met_trouble")  # let in after the cut: news of its own
        assert limiter.limit == 2

    asyncio.run(main())


def test_success_before_the_cut_does_not_raise_the_limit_after_it():
    async def main():
        limiter = AdaptiveLimiter(8)
        crowd = Crowd(limiter)
        crowd.come("early", "troubled")
        await until_idle()
        await crowd.go("troubled", "met_trouble")
        await crowd.go("early", "went_well")
        assert limiter.limit == 4

    asyncio.run(main())


def test_a_round_without_trouble_earns_about_one_place_and_never_more_than_the_most():
    async def main():
        limiter = AdaptiveLimiter(8)
        async with limiter.slot() as slot:
            slot.met_trouble()
        for _ in range(4):
            async with limiter.slot() as slot:
                slot.went_well()
        assert 4.9 < limiter.limit < 5.0
        for _ in range(100):
            async with limiter.slot() as slot:
                slot.went_well()
        assert limiter.limit == 8

    asyncio.run(main())


def test_it_never_falls_below_one():
    async def main():
        limiter = AdaptiveLimiter(3)
        for _ in range(5):
            async with limiter.slot() as slot:
                slot.met_trouble()
        assert limiter.limit == 1

    asyncio.run(main())


def test_a_pause_lets_nobody_in_until_the_last_one_ends():
    async def main():
        crowd = Crowd(AdaptiveLimiter(4))
        with crowd.limiter.paused():
            with crowd.limiter.paused():
                crowd.come("a", "b")
                await until_idle()
                assert crowd.inside == []
            await until_idle()
            assert crowd.inside == []
        await until_idle()
        assert crowd.inside == ["a", "b"]

    asyncio.run(main())


def test_one_that_is_cancelled_while_it_waits_takes_no_place():
    async def main():
        crowd = Crowd(AdaptiveLimiter(1))
        crowd.come("a", "b", "c")
        await until_idle()
        crowd.tasks["b"].cancel()
        await crowd.go("a")
        assert crowd.inside == ["c"]
        await crowd.go("c")
        assert crowd.limiter.in_flight == 0

    asyncio.run(main())


def test_one_that_is_let_in_and_cancelled_in_the_same_moment_gives_its_place_to_the_next():
    async def main():
        crowd = Crowd(AdaptiveLimiter(1))
        async with crowd.limiter.slot():
            crowd.come("b", "c")
            await until_idle()
        assert crowd.limiter.in_flight == 1  # b was let in, and has not run yet
        crowd.tasks["b"].cancel()
        await until_idle()
        assert crowd.inside == ["c"]
        assert crowd.limiter.in_flight == 1

    asyncio.run(main())


def test_it_serves_one_event_loop_after_another():
    limiter = AdaptiveLimiter(1)

    async def main():
        crowd = Crowd(limiter)
        crowd.come("a", "b")
        await until_idle()
        return crowd.inside.copy()  # asyncio.run cancels both

    assert asyncio.run(main()) == ["a"]
    assert asyncio.run(main()) == ["a"]


def test_no_request_at_all_is_no_limit():
    with pytest.raises(ValueError, match="at least 1"):
        AdaptiveLimiter(0)
