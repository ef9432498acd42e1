"""Sums beyond a model's head, with a calculator."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from utilities.core import Item
from utilities.environments.base import Environment, IllegalAction, Observation, environment_registry
from utilities.exact_calculator import calculate
from utilities.scorers.extract_number import parse_number

__all__ = ["Calculator"]

RULES = (
    "Solve the problem with a calculator. Write one line: `calculate: EXPRESSION` gives its value, such as"
    " `calculate: 12 * (3 + 4)`; `answer: NUMBER` gives the answer."
)
SIGNS = {"plus": "+", "minus": "-", "times": "*"}
_ACTION = re.compile(r"\s*[`*]*(calculate|answer)[`*]*\s*:\s*(.*?)[`*\s]*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class _State:
    item: Item
    lines: tuple[str, ...] = ()
    value: Fraction | None = None
    """With `guided`: the result so far."""
    answer: Fraction | None = None


@environment_registry.register("calculator")
class Calculator(Environment):
    """Word problems with an exact calculator: 1 if the answer is the right number, else 0.

    Args:
        guided: Whether the model chooses, by likelihood, the operation that joins the result so far with the problem's
            next number: plus, minus or times. The last result is the answer. For models that cannot follow rules.
    """

    def __init__(self, guided: bool = False) -> None:
        self.guided = guided

    def check(self, item: Item) -> str | None:
        """Requires a number as the answer; with `guided`, two numbers in the question."""
        if parse_number(item.answer or "") is None:
            return f"its answer {item.answer!r} is no number"
        few = self.guided and len(_NUMBER.findall(item.question)) < 2
        return "its question has fewer than two numbers" if few else None

    def start(self, item: Item) -> _State:
        """Nothing is calculated yet."""
        return _State(item, value=Fraction(_NUMBER.findall(item.question)[0]) if self.guided else None)

    def observe(self, state: _State) -> Observation:
        """The problem and the results so far."""
        done = "".join(f"{line}\n" for line in state.lines)
        if not self.guided:
            return Observation(f"{RULES}\n\n{state.item.question}\n{done}Action:")
        number = _NUMBER.findall(state.item.question)[len(state.lines) + 1]
        return Observation(
            f"{done}{state.item.question}\nAnswer:", tuple(f"{state.value} {sign} {number}" for sign in SIGNS)
        )

    def act(self, state: _State, action: str) -> _State:
        """Calculates or answers."""
        if self.guided:
            left, sign, right = action.split(" ")
            value = calculate(f"{left} {SIGNS[sign]} {right}")
            lines = (*state.lines, f"{action} is {value}.")
            last = len(lines) + 1 == len(_NUMBER.findall(state.item.question))
            return replace(state, lines=lines, value=value, answer=value if last else None)
        parsed = _ACTION.fullmatch(action)
        if not parsed:
            raise IllegalAction("write `calculate: EXPRESSION` or `answer: NUMBER`")
        if parsed[1].casefold() == "answer":
            if (number := parse_number(parsed[2])) is None:
                raise IllegalAction("the answer must be a number")
            return replace(state, answer=number)
        try:
            value = calculate(parsed[2])
        except ValueError as error:
            raise IllegalAction(str(error)) from error
        return replace(state, lines=(*state.lines, f"{parsed[2]} = {value}"))

    def done(self, state: _State) -> bool:
        """Whether an answer was given."""
        return state.answer is not None

    def score(self, state: _State) -> float:
        """1 for the right number, else 0."""
        return float(state.answer is not None and state.answer == parse_number(state.item.answer or ""))
