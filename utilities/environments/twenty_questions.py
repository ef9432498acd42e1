"""A hidden subject, to be found by yes/no questions that the environment answers from facts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from utilities.core import Item
from utilities.environments.base import Environment, IllegalAction, Observation, environment_registry
from utilities.scorers.normalize import normalize_answer

__all__ = ["TwentyQuestions"]

RULES = (
    "One of these is meant: {subjects}.\nFind out which. Write one line: `ask: PROPERTY` asks whether it has one of"
    " these properties: {objects}; `guess: NAME` guesses."
)
_ACTION = re.compile(r"\s*[`*]*(ask|guess)[`*]*\s*:\s*(.*?)[`*\s]*", re.IGNORECASE)


@dataclass(frozen=True)
class _State:
    item: Item
    said: tuple[tuple[str, bool], ...] = ()
    """Properties and guesses, and whether they are true."""

    @cached_property
    def facts(self) -> dict[str, str]:
        """The property of each subject."""
        pairs = (line.partition(": ") for line in (self.item.row or {}).get("facts", "").splitlines())
        return {subject: object_ for subject, _, object_ in pairs}

    @property
    def objects(self) -> list[str]:
        """The different properties."""
        return list(dict.fromkeys(self.facts.values()))

    @property
    def true_object(self) -> str | None:
        """The property that is known to be true: by a yes, or because every other one is not."""
        said = dict(self.said)
        possible = [one for one in self.objects if said.get(one, True)]
        return next((one for one in possible if said.get(one)), possible[0] if len(possible) == 1 else None)


@environment_registry.register("twenty_questions")
class TwentyQuestions(Environment):
    """Finds a hidden subject by asking for its property: 1 if it is guessed within the limit of turns, else 0.

    Data columns: `facts`, a line `SUBJECT: PROPERTY` for each subject that may be meant; `clue`, a question for the
    subject in which {o} stands for a property. The item's answer is the hidden subject.

    Args:
        guided: Whether the model chooses, by likelihood, among the properties that are not asked yet until one is known
            to be true, and then among the subjects, which is asked by `clue`. It must know itself which subjects have
            the property. For models that cannot follow rules.
    """

    columns = ("facts", "clue")

    def __init__(self, guided: bool = False) -> None:
        self.guided = guided

    def check(self, item: Item) -> str | None:
        """Requires facts about at least two subjects, of which the answer is one."""
        facts = _State(item).facts
        return None if len(facts) > 1 and item.answer in facts else "its answer is none of the subjects of its `facts`"

    def start(self, item: Item) -> _State:
        """Nothing is asked yet."""
        return _State(item)

    def observe(self, state: _State) -> Observation:
        """What was asked so far; the subjects and the properties."""
        said, known = dict(state.said), state.true_object
        if not self.guided:
            told = "".join(f"{what}: {'yes' if true else 'no'}\n" for what, true in state.said)
            rules = RULES.format(subjects=", ".join(state.facts), objects="; ".join(state.objects))
            return Observation(f"{rules}\n{told}Action:")
        if known is None:
            actions = tuple(one for one in state.objects if one not in said)
            return Observation(f"{state.item.question}\nAnswer:", actions)
        clue = (state.item.row or {})["clue"].replace("{o}", known)
        return Observation(f"{clue}\nAnswer:", tuple(subject for subject in state.facts if subject not in said))

    def act(self, state: _State, action: str) -> _State:
        """Asks or guesses."""
        parsed = _ACTION.fullmatch(action)
        if self.guided:
            what = action
        elif parsed:
            what = parsed[2]
        else:
            raise IllegalAction("write `ask: PROPERTY` or `guess: NAME`")
        asks = state.true_object is None if self.guided else parsed is not None and parsed[1].casefold() == "ask"
        names = {normalize_answer(one): one for one in (state.objects if asks else state.facts)}
        if (name := names.get(normalize_answer(what))) is None:
            raise IllegalAction("it must be one of the properties" if asks else "it must be one of the names")
        true = state.facts[state.item.answer or ""] == name if asks else name == state.item.answer
        return replace(state, said=(*state.said, (name, true)))

    def done(self, state: _State) -> bool:
        """Whether the subject was guessed."""
        return (state.item.answer, True) in state.said

    def score(self, state: _State) -> float:
        """1 if the subject was guessed, else 0."""
        return float(self.done(state))
