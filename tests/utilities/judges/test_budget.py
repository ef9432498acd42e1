"""The budget: a limit that holds whatever is in flight, whoever is cancelled."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilities.errors import UserError
from utilities.judges.budget import Budget, Price, Spent, estimate_tokens, most_tokens


def spend(budget, reserved, tokens, usd=0.0, reserved_usd=0.0):
    budget.settle(reserved, reserved_usd, prompt_tokens=tokens, completion_tokens=0, usd=usd)


async def asks(budget, tokens, usd=0.0):
    """A task that waits for a reservation, and has had time to ask."""
    task = asyncio.create_task(budget.reserve(tokens, usd))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def sum_in_order(amounts):
    total = 0.0  # from Python 3.12 on, the built-in sum is exact
    for amount in amounts:
        total += amount
    return total


# The limit

REQUEST = st.tuples(
    st.integers(0, 60),  # tokens reserved
    st.floats(0, 1),  # share of them used
    st.sampled_from(["settle", "release", "cancel"]),
    st.integers(0, 5),  # how often others go first
)


@settings(max_examples=100)
@given(
    st.lists(REQUEST, max_size=60), st.none() | st.integers(0, 300), st.none() | st.floats(0, 300), st.integers(0, 9)
)
def test_no_order_of_events_passes_a_limit_or_leaves_anyone_waiting(requests, tokens, usd, seed):
    budget = Budget(tokens, usd)
    held = {"tokens": 0, "usd": 0.0}
    order = random.Random(seed)

    def within():
        assert tokens is None or budget.spent.tokens + held["tokens"] <= tokens
        assert usd is None or budget.spent.usd + held["usd"] <= usd + 1e-9

    async def request(most, share, end, steps):
        for _ in range(order.randrange(3)):
            await asyncio.sleep(0)
        if not await budget.reserve(most, most / 3):
            return "refused"
        held["tokens"] += most
        held["usd"] += most / 3
        try:
            within()
            for _ in range(steps):
                await asyncio.sleep(0)
        finally:
            held["tokens"] -= most
            held["usd"] -= most / 3
            if end == "release":
                budget.release(most, most / 3)
            else:
                spend(budget, most, int(most * share), most * share / 3, most / 3)
            within()
        return "made"

    async def all_of_them():
        tasks = [asyncio.create_task(request(*one)) for one in requests]
        for _ in range(2):
            await asyncio.sleep(0)
        for task, one in zip(tasks, requests, strict=True):
            if one[2] == "cancel":
                task.cancel()
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(all_of_them())
    within()
    assert budget.exhausted >= ("refused" in ends)
    assert all(end in {"made", "refused"} or isinstance(end, asyncio.CancelledError) for end in ends)
    # All was given back: whatever is left can still be reserved.
    left = None if tokens is None else tokens - budget.spent.tokens
    if left is not None and usd is None:
        assert asyncio.run(budget.reserve(left, None))


def test_two_thousand_requests_at_once_stay_within_the_limit():
    budget, made = Budget(tokens=10_000), 0

    async def request(k):
        nonlocal made
        if await budget.reserve(100, 0.0):
            await asyncio.sleep(0)
            assert budget.spent.tokens <= 10_000
            spend(budget, 100, 40 + k % 20)
            made += 1

    async def everybody():
        await asyncio.gather(*(request(k) for k in range(2000)))

    asyncio.run(everybody())
    assert budget.exhausted
    # The last one that was made found room for all that it might have needed.
    assert 10_000 - 100 < budget.spent.tokens <= 10_000
    assert budget.spent.requests == made


def test_without_limits_everything_fits():
    budget = Budget()
    assert asyncio.run(budget.reserve(10**12, None))
    assert not budget.exhausted


def test_what_fits_exactly_is_reserved_and_one_more_is_refused():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(100, 0.0)
        spend(budget, 100, 100)
        assert await budget.reserve(0, 0.0)
        assert not budget.exhausted
        assert not await budget.reserve(1, 0.0)
        assert budget.exhausted

    asyncio.run(steps())


def test_money_is_limited_as_tokens_are():
    async def steps():
        budget = Budget(usd=0.01)
        assert await budget.reserve(10**9, 0.006)
        second = await asks(budget, 1, 0.006)
        assert not second.done()
        spend(budget, 10**9, 10, usd=0.002, reserved_usd=0.006)
        assert await second
        spend(budget, 1, 1, usd=0.006, reserved_usd=0.006)
        assert not await budget.reserve(1, 0.003)

    asyncio.run(steps())


def test_sums_that_do_not_come_out_even_leave_nothing_held():
    amounts = [0.3] * 50
    total = sum_in_order(amounts)
    left = sum_in_order([total, *(-amount for amount in amounts)])
    assert total + left > total  # so floating-point numbers do by themselves

    async def steps():
        budget = Budget(usd=total)
        for amount in amounts:
            assert await budget.reserve(0, amount)
        for amount in amounts:
            budget.release(0, amount)
        assert await budget.reserve(0, total)

    asyncio.run(steps())


def test_a_request_that_cost_more_than_was_reserved_is_counted_in_full():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(50, 0.0)
        spend(budget, 50, 130)
        assert budget.spent.tokens == 130
        assert not await budget.reserve(0, 0.0)

    asyncio.run(steps())


# Who waits


def test_who_may_still_fit_waits_and_who_never_can_is_refused_at_once():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(80, 0.0)
        assert not await budget.reserve(101, 0.0)
        waiting = await asks(budget, 50)
        assert not waiting.done()
        spend(budget, 80, 40)
        assert await waiting

    asyncio.run(steps())


def test_who_waits_is_refused_once_nothing_can_give_back_enough():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(80, 0.0)
        waiting = await asks(budget, 50)
        spend(budget, 80, 80)
        assert not await waiting
        assert budget.exhausted

    asyncio.run(steps())


def test_who_asked_first_is_served_first():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(100, 0.0)
        large, small = await asks(budget, 90), await asks(budget, 5)
        spend(budget, 100, 0)
        await asyncio.sleep(0)
        assert await large and await small
        assert not (await asks(budget, 6)).done()

    asyncio.run(steps())


def test_a_cancelled_one_takes_its_place_in_the_queue_with_it():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(60, 0.0)
        large, small = await asks(budget, 90), await asks(budget, 40)
        assert not small.done()
        large.cancel()
        assert await small

    asyncio.run(steps())


def test_one_who_is_cancelled_in_the_moment_of_being_served_gives_back():
    async def steps():
        budget = Budget(tokens=100)
        assert await budget.reserve(100, 0.0)
        waiting, next_one = await asks(budget, 100), await asks(budget, 100)
        budget.release(100, 0.0)  # serves the first one ...
        waiting.cancel()  # ... which never learns of it
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await next_one

    asyncio.run(steps())


def test_a_budget_serves_one_event_loop_after_another():
    budget = Budget(tokens=100)

    async def abandoned():
        assert await budget.reserve(60, 0.0)
        await asks(budget, 60)  # still waits when the loop ends

    asyncio.run(abandoned())
    budget.release(60, 0.0)
    assert asyncio.run(budget.reserve(100, 0.0))


# What is counted


def test_answered_and_failed_requests_are_counted_apart():
    async def steps():
        budget = Budget()
        for _ in range(3):
            assert await budget.reserve(10, 0.1)
        budget.settle(10, 0.1, prompt_tokens=5, completion_tokens=2, usd=0.01)
        budget.settle(10, 0.1, prompt_tokens=3, completion_tokens=1, usd=0.02)
        budget.release(10, 0.1)
        return budget.spent

    spent = asyncio.run(steps())
    assert (spent.requests, spent.failed, spent.prompt_tokens, spent.completion_tokens) == (2, 1, 8, 3)
    assert spent.tokens == 11
    assert spent.usd == pytest.approx(0.03)


def test_one_unknown_price_makes_the_sum_unknown_and_not_smaller():
    async def steps():
        budget = Budget()
        for usd in (0.5, None, 0.5):
            assert await budget.reserve(1, usd)
            budget.settle(1, usd, prompt_tokens=1, completion_tokens=0, usd=usd)
        return budget.spent

    assert asyncio.run(steps()).usd is None


def test_an_unknown_price_cannot_be_held_to_a_limit_in_dollars():
    with pytest.raises(ValueError, match="unknown price"):
        asyncio.run(Budget(usd=1.0).reserve(1, None))
    with pytest.raises(UserError, match="unknown price"):
        Budget(usd=1.0, spent=Spent(usd=None))


def test_a_resumed_run_goes_on_counting():
    before = Spent(requests=3, cached=1, prompt_tokens=70, completion_tokens=20, usd=0.5, failed=2)
    spent = Spent.from_dict(before.to_dict())
    assert spent == before
    budget = Budget(tokens=100, spent=spent)
    assert not asyncio.run(budget.reserve(11, 0.0))
    assert asyncio.run(budget.reserve(10, 0.0))
    spend(budget, 10, 10)
    assert budget.spent.tokens == 100
    assert spent == before  # the caller's own is left alone


# Tokens and prices


def test_tokens_are_estimated_by_script():
    assert estimate_tokens("") == 0
    assert estimate_tokens("a") == 1
    assert estimate_tokens("four characters a token, about") == 8
    assert estimate_tokens("评价这个回答") == 6


@given(st.text(st.characters()))
def test_an_estimate_is_never_more_than_the_bound(text):
    assert 0 <= estimate_tokens(text) <= most_tokens(text)


def test_no_tokenizer_makes_more_tokens_than_bytes(base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    text = "Rating: 7/10 — 评分 🦜"
    assert len(tokenizer.encode(text, add_special_tokens=False)) <= most_tokens(text) == 28


def test_a_price_is_for_a_million_tokens():
    assert Price(0.15, 0.6).usd(1_000_000, 0) == pytest.approx(0.15)
    assert Price(0.15, 0.6).usd(2_000, 1_000) == pytest.approx(0.0009)


@pytest.mark.parametrize("price", [(-1, 0), (0, float("nan")), (float("inf"), 0)])
def test_what_is_no_price_is_refused(price):
    with pytest.raises(ValueError, match="finite number from 0"):
        Price(*price)
