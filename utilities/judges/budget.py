"""Budget of the judges: costs so far and a limit that holds for any number of requests in flight."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, replace

from utilities.errors import UserError
from utilities.judges.ledger import Ledger, Spent

__all__ = ["Budget", "Price", "Spent", "estimate_tokens", "most_tokens"]


CONCURRENT_SHARE = 0.25
"""Maximum share of the remaining budget that concurrent requests reserve."""


def estimate_tokens(text: str) -> int:
    """Estimated number of tokens: a quarter of the ASCII characters, plus one for every other character.

    English has about four characters per token, Chinese and Japanese about one. For accented Latin, Cyrillic and
    Arabic letters this overestimates. Used for estimates, and for costs if a server reports no usage.
    """
    ascii_characters = sum(character.isascii() for character in text)
    return math.ceil(ascii_characters / 4) + len(text) - ascii_characters


def most_tokens(text: str) -> int:
    """Upper bound of the number of tokens: one per byte. No tokenizer produces more, so it is a safe reservation."""
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) and one >= 0 for one in (self.prompt, self.completion)):
            raise ValueError(f"a price is a finite number from 0, not {self.prompt}, {self.completion}")

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of a request in US dollars."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that waits for budget; `eq=False`: compared by identity."""

    tokens: int
    usd: float
    answer: asyncio.Future[bool]


class Budget:
    """A hard limit on tokens and money for a run, shared by all its judges.

    A request is sent only after its maximum possible cost is reserved. Spent plus reserved never exceeds the limit:
    a request that may fit after others release their reservations waits (first in, first out); a request that can
    never fit is refused. A caller must not request a second reservation while it holds one: this could deadlock.
    With a ledger, concurrent reservations use at most a quarter of the rest: a killed process loses no more.

    Use it from one event loop at a time; consecutive `asyncio.run` calls may share a budget.

    Args:
        tokens: Limit on prompt and completion tokens together; None for no limit.
        usd: Limit on US dollars; None for no limit.
        spent: Costs of earlier parts of the run.

    Raises:
        UserError: There is a limit on money, but earlier costs have an unknown price.
    """

    def __init__(self, tokens: int | None = None, usd: float | None = None, spent: Spent | None = None) -> None:
        self.tokens, self.usd = tokens, usd
        self.spent = replace(spent) if spent is not None else Spent()
        self.exhausted = False
        """True after a request was refused because the budget is too small."""
        self.ledger: Ledger | None = None
        """Where requests are recorded; None keeps the counts in memory."""
        self._check()
        self._held = 0
        self._held_tokens, self._held_usd = 0, 0.0
        self._waiting: deque[_Waiting] = deque()

    def record_in(self, ledger: Ledger) -> None:
        """Continues from the costs in a ledger, and records every further request in it.

        Raises:
            UserError: As for the class, or the ledger is damaged.
        """
        self.spent = ledger.resume(self.spent)
        self.ledger = ledger
        self._check()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.tokens is not None or self.usd is not None

    def _check(self) -> None:
        if self.usd is not None and self.spent.usd is None:
            raise UserError(
                "budget_usd: the run has spent money at an unknown price, so no limit on dollars can hold; "
                "use budget_tokens"
            )

    def begin(self, prompt_tokens: int, completion_tokens: int, usd: float | None) -> int | None:
        """Records the expected cost of a request before it is sent; pass the result to `settle` or `release`."""
        return None if self.ledger is None else self.ledger.reserve(prompt_tokens, completion_tokens, usd)

    async def reserve(self, tokens: int, usd: float | None) -> bool:
        """Reserves the maximum cost of a request; False if it can never fit.

        The actual cost must not be higher, otherwise the limit is exceeded by the difference: `most_tokens` of the
        prompt plus the request's `max_tokens` are safe.

        Args:
            tokens: Prompt and completion together.
            usd: None if the price is unknown; not allowed with a limit on money.

        Raises:
            ValueError: An unknown price under a limit on money.
        """
        if usd is None and self.usd is not None:
            raise ValueError("a request of unknown price cannot be held to a limit in dollars")
        waiting = _Waiting(tokens, usd or 0.0, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not waiting.answer.cancelled() and waiting.answer.result():
                self._give_back(tokens, usd)
            self._serve()
            raise

    def settle(
        self,
        reserved_tokens: int,
        reserved_usd: float | None,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        usd: float | None,
        failed: bool = False,
        entry: int | None = None,
    ) -> None:
        """Replaces a reservation by the actual cost and counts the request; `entry` is from `begin`."""
        self.spent.add(prompt_tokens, completion_tokens, usd)
        self.spent.failed += failed
        self._end(reserved_tokens, reserved_usd, entry)

    def release(self, reserved_tokens: int, reserved_usd: float | None, entry: int | None = None) -> None:
        """Releases the reservation of a request that failed at no cost, and counts the failure."""
        self.spent.failed += 1
        self._end(reserved_tokens, reserved_usd, entry)

    def _end(self, tokens: int, usd: float | None, entry: int | None) -> None:
        self._give_back(tokens, usd)
        self._serve()
        if self.ledger is not None and entry is not None:
            self.ledger.settle(entry, self.spent)

    def _give_back(self, tokens: int, usd: float | None) -> None:
        self._held -= 1
        # Reset to 0 without reservations: floating-point sums may leave a rounding error.
        self._held_tokens = self._held_tokens - tokens if self._held else 0
        self._held_usd = self._held_usd - (usd or 0.0) if self._held else 0.0

    def _serve(self) -> None:
        """Answers waiting requests in order, as far as the budget allows."""
        while self._waiting:
            first = self._waiting[0]
            if first.answer.done():  # cancelled
                self._waiting.popleft()
                continue
            if self._fits(first, self._held_tokens, self._held_usd):
                self._held += 1
                self._held_tokens += first.tokens
                self._held_usd += first.usd
                first.answer.set_result(True)
            elif not self._fits(first, 0, 0.0):
                self.exhausted = True
                first.answer.set_result(False)
            else:
                return
            self._waiting.popleft()

    def _fits(self, waiting: _Waiting, held_tokens: int, held_usd: float) -> bool:
        share = 1.0 if self.ledger is None or not held_tokens else CONCURRENT_SHARE
        tokens, usd = held_tokens + waiting.tokens, held_usd + waiting.usd
        enough_tokens = self.tokens is None or tokens <= share * (self.tokens - self.spent.tokens)
        return enough_tokens and (self.usd is None or usd <= share * (self.usd - (self.spent.usd or 0.0)))
