"""Connections to a judge in several small pools: a pool looks through all its connections for every request."""

from __future__ import annotations

from typing import Any

from httpx2 import AsyncBaseTransport, AsyncHTTPTransport, Request, Response

__all__ = ["Pools"]

POOLS = 25
"""With 50 requests in flight, a single pool spent a fifth of the client's time looking for a free connection."""


class Pools(AsyncBaseTransport):
    """Hands a request to the pool that waits for the fewest replies, the first of equals.

    Args:
        options: As for `httpx2.AsyncHTTPTransport`.
    """

    def __init__(self, **options: Any) -> None:
        self._pools = [AsyncHTTPTransport(**options) for _ in range(POOLS)]
        self._waiting = [0] * POOLS

    async def handle_async_request(self, request: Request) -> Response:
        """Sends a request through the least busy pool."""
        k = self._waiting.index(min(self._waiting))
        self._waiting[k] += 1
        try:
            return await self._pools[k].handle_async_request(request)
        finally:
            self._waiting[k] -= 1

    async def aclose(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            await pool.aclose()
