"""A user's own plain function as a utility: `score(item, response) -> float`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from utilities.core import Item, Outcome, Reason, Response, Scorer, Unscored
from utilities.errors import UserError
from utilities.scorers.generation import GenerationScorer
from utilities.user_code import object_in_file
from utilities.user_process import process_of, scored

__all__ = ["DecoratedFunction", "FunctionScorer", "ScoringFunction", "check_function", "scorer_from_file", "utility"]

ScoringFunction = Callable[[Item, Response], float]
GIVE_UP_AFTER = 3
"""Calls that may pass the time limit or end their process; after them the evaluation calls the function no more."""


class FunctionScorer(GenerationScorer):
    """Scores generated responses with a plain function; higher is better.

    Whatever the function does, the run goes on: an exception, NaN, a value that is no number or a call past the time
    limit makes the item unscored, with the reason. Past the share that `Evaluation` allows, it is not comparable.
    A function of a file is called in a process of its own, see `utilities.user_process`. A function object is called
    in a thread: there, no limit ends C code that holds the interpreter, and `os._exit` ends the program.

    Args:
        function: `score(item, response) -> float`; booleans count as 0 and 1.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        time_limit_s: Seconds that one call may take.
        spec: FILE.py:NAME, if the function is to be called in a process of its own; else it is called in a thread.

    Raises:
        UserError: There is no such prompt, or a limit that nothing can keep.
    """

    def __init__(
        self,
        function: ScoringFunction,
        prompt: str = "bare",
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        time_limit_s: float = 5.0,
        spec: str | None = None,
    ) -> None:
        super().__init__(prompt, max_tokens, stop)
        if not time_limit_s > 0:
            raise UserError(f"time_limit_s is {time_limit_s}; a call needs more than 0 seconds")
        self.function, self.time_limit_s, self.spec = function, time_limit_s, spec

    def check(self, item: Item) -> str | None:
        """Only the function knows what it needs."""
        return None

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Scores responses one after another."""
        outcomes: list[Outcome] = []
        lost = 0
        for item, response in zip(items, responses, strict=True):
            if lost >= GIVE_UP_AFTER:
                outcomes.append(Unscored(Reason.TIME, f"not called: {lost} calls before it did not return"))
                continue
            outcome, returned = self._call(item, response)
            outcomes.append(outcome)
            lost += not returned
        return outcomes

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Scores one response within the time limit."""
        return self._call(item, response)[0]

    def _call(self, item: Item, response: Response) -> tuple[Outcome, bool]:
        if self.spec is not None:
            return process_of(self.spec).call(item, response, self.time_limit_s)
        found: list[Outcome] = []
        call = threading.Thread(target=lambda: found.append(scored(self.function, item, response)), daemon=True)
        call.start()
        call.join(self.time_limit_s)
        if found:
            return found[0], True
        return Unscored(Reason.TIME, f"no score within {self.time_limit_s:g} s"), False


@dataclass(frozen=True)
class DecoratedFunction:
    """A function with the arguments of its scorer; it can still be called as the function it is."""

    function: ScoringFunction
    defaults: Mapping[str, Any]
    spec: str | None = None
    """FILE.py:NAME, if the function is to be called in a process of its own."""

    def __call__(self, item: Item, response: Response) -> float:
        """The plain function."""
        return self.function(item, response)

    def scorer(self, **options: Any) -> FunctionScorer:
        """The scorer, `await scorer(model, items)`; options win over the decorator's.

        Raises:
            UserError: `FunctionScorer` has no such option, or there is no such prompt.
        """
        chosen = {**self.defaults, **options}
        try:
            return FunctionScorer(self.function, spec=self.spec, **chosen)
        except TypeError as error:
            raise UserError(f"a utility made of a function does not take its options {chosen}: {error}") from error


def utility(**options: Any) -> Callable[[ScoringFunction], DecoratedFunction]:
    """Turns `score(item, response) -> float` into a utility; a plain function in a file is one too, with the defaults.

    Args:
        options: Arguments of `FunctionScorer`, such as `max_tokens`.

    Raises:
        UserError: Not a function of two arguments, or an option that `FunctionScorer` does not have.

    Example:
        >>> @utility(max_tokens=20)
        ... def short(item, response):
        ...     return 1.0 - min(1.0, len(response.text) / 100)
    """

    def decorate(function: ScoringFunction) -> DecoratedFunction:
        check_function(function)
        decorated = DecoratedFunction(function, options)
        decorated.scorer()  # a wrong option is named where it was written
        return decorated

    return decorate


def check_function(function: Any) -> None:
    """Checks that a function can be called with an item and a response.

    Raises:
        UserError: It cannot.
    """
    told = getattr(function, "__name__", repr(function))
    if not callable(function):
        raise UserError(f"{told} is no function: a utility is a function score(item, response) -> float")
    if any(inspect.iscoroutinefunction(part) for part in (function, function.__call__)):
        raise UserError(f"{told} is async; a utility made of a function is a plain one, score(item, response) -> float")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise UserError(f"{told} must take two arguments, score(item, response): {error}") from error
    except ValueError:
        return  # a builtin without a signature: the first call will tell


def scorer_from_file(spec: str) -> Callable[..., Scorer]:
    """The maker of the scorer `FILE.py:NAME`: a plain function, one that `@utility` decorated, or a scorer class.

    Raises:
        UserError: The file or name does not exist, the file raises when it is run, or the object is no utility.
    """
    found = object_in_file(spec, "utility")
    if inspect.isclass(found):
        has = {part for kind in found.__mro__ for part in vars(kind)}  # getattr would find the metaclass's __call__
        if missing := [part for part in ("__call__", "score", "check") if part not in has]:
            raise UserError(f"utility {spec!r}: the class has no {', '.join(missing)}; see utilities.core.Scorer")
        return cast(Callable[..., Scorer], found)
    try:
        check_function(found)
    except UserError as error:
        raise UserError(f"utility {spec!r}: {error}") from error
    decorated = found if isinstance(found, DecoratedFunction) else DecoratedFunction(found, {})
    return replace(decorated, spec=spec).scorer
