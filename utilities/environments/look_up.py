"""Questions whose answers must be found in documents."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from utilities.core import Item
from utilities.environments.base import Environment, IllegalAction, Observation, environment_registry
from utilities.errors import UserError
from utilities.judges.evidence import Passage, bundled_evidence, read_evidence, terms
from utilities.scorers.normalize import normalize_answer

__all__ = ["LookUp"]

RULES = (
    "Answer the question from documents that you can search. Write one line: `search: WORDS` finds passages,"
    " `answer: WORDS` gives the answer. An answer counts only if a passage that you found contains it."
)
_ACTION = re.compile(r"\s*[`*]*(search|answer)[`*]*\s*:\s*(.*?)[`*\s]*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class _State:
    item: Item
    searches: int = 0
    found: tuple[Passage, ...] = ()
    answer: str | None = None


@environment_registry.register("look_up")
class LookUp(Environment):
    """Search documents (BM25) and answer: 1 if the answer is right and a found passage contains it, else 0.

    Args:
        evidence: Folder of documents, see `read_evidence`; by default the sentences of the bundled corpus.
        top: Number of passages that a search finds.
        searches: Number of searches. Without `guided` it is the maximum.
        guided: Whether the order is fixed: all searches, then the answer. The model then writes only the words. For
            models that cannot follow rules.

    Raises:
        UserError: An option is out of range, or the evidence cannot be read.
    """

    def __init__(self, evidence: str | None = None, top: int = 3, searches: int = 3, guided: bool = False) -> None:
        for name, number in {"top": top, "searches": searches}.items():
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise UserError(f"{name} is {number!r}; a whole number from 1 is accepted")
        self.evidence = bundled_evidence() if evidence is None else read_evidence(Path(evidence))
        self.top, self.searches, self.guided = top, searches, guided

    def start(self, item: Item) -> _State:
        """Nothing is found yet."""
        return _State(item)

    def observe(self, state: _State) -> Observation:
        """The passages found so far and the question."""
        found = [f"{passage.text}\n" for passage in state.found]
        if self.guided:
            return Observation(f"{''.join(found)}{state.item.question}\n{self._next(state).capitalize()}:")
        passages = f"\nFound:\n{''.join(found)}" if found else ""
        left = f"Searches left: {self.searches - state.searches}"
        return Observation(f"{RULES}\n\n{state.item.question}\n{passages}{left}\nAction:")

    def act(self, state: _State, action: str) -> _State:
        """Searches or answers."""
        parsed = _ACTION.fullmatch(action)
        verb, words = (parsed[1].casefold(), parsed[2]) if parsed else (self._next(state), action.strip())
        if self.guided:
            verb = self._next(state)
        elif not parsed:
            raise IllegalAction("write `search: WORDS` or `answer: WORDS`")
        if not words:
            raise IllegalAction(f"{verb} needs words")
        if verb == "answer":
            return replace(state, answer=words)
        if state.searches >= self.searches:
            raise IllegalAction("no searches are left: answer")
        found = dict.fromkeys((*state.found, *self.evidence.search(words, self.top)))
        return replace(state, searches=state.searches + 1, found=tuple(found))

    def done(self, state: _State) -> bool:
        """Whether an answer was given."""
        return state.answer is not None

    def score(self, state: _State) -> float:
        """1 for a right answer that was found, else 0."""
        gold = state.item.answer or ""
        right = normalize_answer(state.answer or "") == normalize_answer(gold)
        return float(right and any(set(terms(gold)) <= set(terms(passage.text)) for passage in state.found))

    def _next(self, state: _State) -> str:
        return "search" if state.searches < self.searches else "answer"
