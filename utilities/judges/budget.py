"""What judges may cost, and have cost: a limit that holds for any number of requests in flight."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, replace

from utilities.errors import UserError
from utilities.judges.ledger import Ledger, Spent

__all__ = ["Budget", "Price", "Spent", "estimate_tokens", "most_tokens"]


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its ASCII characters, and one for every other character.

    English has about four characters a token. A Chinese or Japanese character is about one; for accented Latin,
    Cyrillic or Arabic letters that is more than they are, and so on the safe side. Only for estimates, and for bills
    where a server reports no usage.
    """
    ascii_characters = sum(character.isascii() for character in text)
    return math.ceil(ascii_characters / 4) + len(text) - ascii_characters


def most_tokens(text: str) -> int:
    """How many tokens a text has at most: one a byte. No tokenizer makes more, so a reservation of it is safe."""
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) and one >= 0 for one in (self.prompt, self.completion)):
            raise ValueError(f"a price is a finite number from 0, not {self.prompt}, {self.completion}")

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What a request with so many tokens costs."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that waits for budget; `eq=False`: compared by identity."""

    tokens: int
    usd: float
    answer: asyncio.Future[bool]


class Budget:
    """A hard limit on tokens and money for a whole run, shared by all its judges.

    A request is made only after its largest possible cost was reserved. What is spent and reserved never passes the
    limit: who might still fit once others give back waits, in the order of asking; who can never fit is refused.
    Nobody may ask for a second reservation while holding one: all could then wait for each other.

    Used from one event loop at a time; several `asyncio.run` one after another may share a budget.

    Args:
        tokens: Limit on prompt and completion tokens together; None for no limit.
        usd: Limit on US dollars; None for no limit.
        spent: What earlier parts of the run have spent.

    Raises:
        UserError: A limit on money, but what was spent has no known price.
    """

    def __init__(self, tokens: int | None = None, usd: float | None = None, spent: Spent | None = None) -> None:
        self.tokens, self.usd = tokens, usd
        self.spent = replace(spent) if spent is not None else Spent()
        self.exhausted = False
        """A judgement was refused for lack of budget."""
        self.ledger: Ledger | None = None
        """Where requests are recorded; None keeps the counts in memory."""
        self._check()
        self._held = 0
        self._held_tokens, self._held_usd = 0, 0.0
        self._waiting: deque[_Waiting] = deque()

    def record_in(self, ledger: Ledger) -> None:
        """Continues from what a ledger has counted, and records every request in it from now on.

        Raises:
            UserError: As for the class, or the ledger is damaged.
        """
        self.spent = ledger.resume(self.spent)
        self.ledger = ledger
        self._check()

    def _check(self) -> None:
        if self.usd is not None and self.spent.usd is None:
            raise UserError(
                "budget_usd: the run has spent money at an unknown price, so no limit on dollars can hold; "
                "use budget_tokens"
            )

    def begin(self, prompt_tokens: int, completion_tokens: int, usd: float | None) -> int | None:
        """Records what a request is expected to cost, before it is sent; `settle` or `release` takes the result."""
        return None if self.ledger is None else self.ledger.reserve(prompt_tokens, completion_tokens, usd)

    async def reserve(self, tokens: int, usd: float | None) -> bool:
        """Sets aside the most that a request can cost; False where that can never fit.

        What it really cost must not be more, or the limit is passed by the difference: `most_tokens` of the prompt
        and the request's own `max_tokens` are safe.

        Args:
            tokens: Prompt and completion together.
            usd: None where the price is unknown, which no limit on money allows.

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
        """Replaces a reservation by what the request cost, and counts the request; `entry` is from `begin`."""
        self.spent.add(prompt_tokens, completion_tokens, usd)
        self.spent.failed += failed
        self._end(reserved_tokens, reserved_usd, entry)

    def release(self, reserved_tokens: int, reserved_usd: float | None, entry: int | None = None) -> None:
        """Takes back the reservation of a request that failed and cost nothing, and counts the failure."""
        self.spent.failed += 1
        self._end(reserved_tokens, reserved_usd, entry)

    def _end(self, tokens: int, usd: float | None, entry: int | None) -> None:
        self._give_back(tokens, usd)
        self._serve()
        if self.ledger is not None and entry is not None:
            self.ledger.settle(entry, self.spent)

    def _give_back(self, tokens: int, usd: float | None) -> None:
        self._held -= 1
        # From nothing held nothing is left: sums of floating-point numbers need not come back to 0 by themselves.
        self._held_tokens = self._held_tokens - tokens if self._held else 0
        self._held_usd = self._held_usd - (usd or 0.0) if self._held else 0.0

    def _serve(self) -> None:
        """Answers waiting requests in order, as far as the budget allows."""
        while self._waiting:
            first = self._waiting[0]
            if first.answer.done():  # cancelled: its task will find that it waits no more
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
        enough_tokens = self.tokens is None or self.spent.tokens + held_tokens + waiting.tokens <= self.tokens
        return enough_tokens and (self.usd is None or (self.spent.usd or 0.0) + held_usd + waiting.usd <= self.usd)
