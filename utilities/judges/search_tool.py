"""A user-defined search function as the source of evidence: `--evidence my_search.py:find`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

from utilities.core import Reason, Unscored
from utilities.errors import UserError, first_line
from utilities.judges.evidence import Passage
from utilities.user_code import object_in_file

__all__ = ["SearchFailed", "SearchTool"]

ACCEPTED = "a list of texts, or of pairs (source, text)"


class SearchFailed(Exception):  # noqa: N818 - the name describes the state of the search
    """The search failed; `why` is the reason why a claim is unscored."""

    def __init__(self, why: Unscored) -> None:
        super().__init__(why.detail)
        self.why = why


class SearchTool:
    """Calls a function `find(query)` from a user's file, sync (in a thread) or async; results are cached by query.

    Args:
        spec: `FILE.py:NAME`.

    Raises:
        UserError: The file or the name does not exist, or it is not a function.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._find = object_in_file(spec, "search tool")
        if not callable(self._find):
            raise UserError(f"search tool {spec!r}: it is no function; expected find(query) that gives {ACCEPTED}")
        self._found: dict[str, list[Passage]] = {}

    async def search(self, query: str, k: int) -> list[Passage]:
        """The first `k` passages that the function returns.

        Raises:
            SearchFailed: The function raised.
            UserError: Its result is not a list of passages.
        """
        if query not in self._found:
            self._found[query] = self._passages(await self._asked(query))
        return self._found[query][:k]

    async def _asked(self, query: str) -> Any:
        try:
            if inspect.iscoroutinefunction(self._find):
                return await self._find(query)
            return await asyncio.to_thread(self._find, query)
        except Exception as error:  # a user's function may raise anything
            detail = f"search tool {self.spec}: {type(error).__name__}: {first_line(error)}"
            raise SearchFailed(Unscored(Reason.TRANSPORT, detail)) from error

    def _passages(self, result: Any) -> list[Passage]:
        passages = [self._passage(one) for one in result] if isinstance(result, list | tuple) else [None]
        if None in passages:
            raise UserError(f"search tool {self.spec!r} gave {str(result)[:60]!r}; expected {ACCEPTED}")
        return [passage for passage in passages if passage is not None and passage.text]

    def _passage(self, entry: Any) -> Passage | None:
        pair: Sequence[Any] = (self.spec.rpartition(":")[2], entry) if isinstance(entry, str) else entry
        if isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, str) for one in pair):
            return Passage(pair[0], " ".join(pair[1].split()))
        return None
