"""How many requests a judge's server gets at the same time: what it bears, found out while it is asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

__all__ = ["AdaptiveLimiter", "Slot"]


class AdaptiveLimiter:
    """A limit on requests in flight that falls by half at trouble and rises by one a round without.

    Additive increase, multiplicative decrease is what shares a network fairly between senders that know nothing of
    each other (Chiu and Jain 1989; Jacobson 1988). It begins at the most that is allowed: servers that bear it, and
    most do, never see a slow start.

    Used from one event loop at a time; several `asyncio.run` one after another may share a limiter.

    Args:
        most: Requests in flight at most, from 1.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least 1 request must be allowed, not {most}")
        self.most = most
        self.limit = float(most)
        """Whole requests of it are let through; the fraction is how far the next one is earned."""
        self.in_flight = 0
        self._round = 0
        self._pauses = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Waits for a place, first come first served, and holds it."""
        if self._has_room():
            self.in_flight += 1
        else:
            await self._wait()
        try:
            yield Slot(self, self._round)
        finally:
            self.in_flight -= 1
            self._let_in()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lets nobody in meanwhile: when a server says how long to wait, it means everyone."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self._let_in()

    def _has_room(self) -> bool:
        return not self._pauses and self.in_flight < int(self.limit)

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # let in and cancelled in the same moment
                self.in_flight -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():  # else: cancelled
                self.in_flight += 1
                place.set_result(None)

    def _judge(self, round_: int, *, trouble: bool) -> None:
        # One burst is one piece of news: who was let in before the last cut says nothing about the limit after it.
        if round_ != self._round:
            return
        if trouble:
            self.limit = max(1.0, self.limit / 2)
            self._round += 1
        else:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)


class Slot:
    """A place in flight, and what became of the request in it."""

    __slots__ = ("_limiter", "_round")

    def __init__(self, limiter: AdaptiveLimiter, round_: int) -> None:
        self._limiter, self._round = limiter, round_

    def went_well(self) -> None:
        """The server answered."""
        self._limiter._judge(self._round, trouble=False)

    def met_trouble(self) -> None:
        """The server was overloaded, or did not answer."""
        self._limiter._judge(self._round, trouble=True)
