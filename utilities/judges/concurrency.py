"""Adaptive limit on the number of concurrent requests to a judge's server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

__all__ = ["AdaptiveLimiter", "Slot"]


class AdaptiveLimiter:
    """A limit on requests in flight that is halved after a failure and rises by one per round of successes.

    Additive increase, multiplicative decrease shares a network fairly between independent senders (Chiu and Jain 1989;
    Jacobson 1988). It starts at the maximum, because most servers can handle it.

    Use it from one event loop at a time; consecutive `asyncio.run` calls may share a limiter.

    Args:
        most: Maximum number of requests in flight, at least 1.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least 1 request must be allowed, not {most}")
        self.most = most
        self.limit = float(most)
        """The integer part is the current limit; the fraction accumulates towards the next increase."""
        self.in_flight = 0
        self._round = 0
        self._pauses = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Acquires a slot, first in, first out, and holds it."""
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
        """Grants no slots meanwhile: a server's retry-after time applies to all requests."""
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
            if not place.cancelled():  # granted and cancelled at the same time
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
        # A burst of failures counts once: requests started before the last decrease say nothing about the new limit.
        if round_ != self._round:
            return
        if trouble:
            self.limit = max(1.0, self.limit / 2)
            self._round += 1
        else:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)


class Slot:
    """A slot for one request, which reports the outcome of the request."""

    __slots__ = ("_limiter", "_round")

    def __init__(self, limiter: AdaptiveLimiter, round_: int) -> None:
        self._limiter, self._round = limiter, round_

    def went_well(self) -> None:
        """The server answered."""
        self._limiter._judge(self._round, trouble=False)

    def met_trouble(self) -> None:
        """The server was overloaded or did not answer."""
        self._limiter._judge(self._round, trouble=True)
