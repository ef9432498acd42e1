"""A user's own search in the place of documents, of the web or an own index: `--evidence my_search.py:find`."""

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


class SearchFailed(Exception):  # noqa: N818 - it says what happened to the search
    """Nobody knows what would have been found; `why` is what a claim is unscored for."""

    def __init__(self, why: Unscored) -> None:
        super().__init__(why.detail)
        self.why = why


class SearchTool:
    """Asks a function `find(query)` of a user's file, plain or async; each query once, and plain ones in threads.

    Args:
        spec: `FILE.py:NAME`.

    Raises:
        UserError: No such file or name, or no function.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._find = object_in_file(spec, "search tool")
        if not callable(self._find):
            raise UserError(f"search tool {spec!r}: it is no function; expected find(query) that gives {ACCEPTED}")
        self._found: dict[str, list[Passage]] = {}

    async def search(self, query: str, k: int) -> list[Passage]:
        """The first `k` passages that the function finds.

        Raises:
            SearchFailed: The function raised.
            UserError: It gave something else than passages.
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
            told = f"search tool {self.spec}: {type(error).__name__}: {first_line(error)}"
            raise SearchFailed(Unscored(Reason.TRANSPORT, told)) from error

    def _passages(self, given: Any) -> list[Passage]:
        found = [self._passage(one) for one in given] if isinstance(given, list | tuple) else [None]
        if None in found:
            raise UserError(f"search tool {self.spec!r} gave {str(given)[:60]!r}; expected {ACCEPTED}")
        return [passage for passage in found if passage is not None and passage.text]

    def _passage(self, given: Any) -> Passage | None:
        pair: Sequence[Any] = (self.spec.rpartition(":")[2], given) if isinstance(given, str) else given
        if isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, str) for one in pair):
            return Passage(pair[0], " ".join(pair[1].split()))
        return None
