"""A user-defined function as a utility: `score(item, response) -> float`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, cast

from utilities.core import Item, Outcome, Reason, Response, Scorer, Unscored
from utilities.errors import UserError
from utilities.prompt_format import PromptOptions
from utilities.scorers.generation import GenerationScorer
from utilities.user_code import object_in_file
from utilities.user_process import process_of, scored, serve

__all__ = [
    "DecoratedFunction",
    "FunctionScorer",
    "ScoringFunction",
    "check_function",
    "scorer_from_file",
    "serve_file",
    "utility",
]

ScoringFunction = Callable[[Item, Response], float]
GIVE_UP_AFTER = 3
"""Maximum number of calls that exceed the time limit or end their process; then the function is not called again."""


class FunctionScorer(GenerationScorer):
    """Scores generated responses with a plain function; higher is better.

    Errors of the function do not end the run: after an exception, NaN, a value that is not a number or a timeout, the
    item is unscored, with the reason. Above the share that `Evaluation` allows, the evaluation is not comparable. A
    function from a file is called in a separate process, see `utilities.user_process`. A function object is called in
    a thread: there, the time limit cannot interrupt C code that holds the interpreter lock, and `os._exit` ends the
    program.

    Args:
        function: `score(item, response) -> float`; booleans count as 0 and 1. None if `spec` names it.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
        time_limit_s: Maximum seconds of one call.
        spec: FILE.py:NAME to call the function in a separate process; None to call it in a thread.

    Raises:
        UserError: The prompt does not exist, or the time limit is not positive.
    """

    def __init__(
        self,
        function: ScoringFunction | None,
        prompt: str = "bare",
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        time_limit_s: float = 5.0,
        spec: str | None = None,
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        if not time_limit_s > 0:
            raise UserError(f"time_limit_s is {time_limit_s}; a call needs more than 0 seconds")
        self.function, self.time_limit_s, self.spec = function, time_limit_s, spec

    def check(self, item: Item) -> str | None:
        """Accepts every item."""
        return None

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Scores responses sequentially."""
        outcomes: list[Outcome] = []
        failed_calls = 0
        for item, response in zip(items, responses, strict=True):
            if failed_calls >= GIVE_UP_AFTER:
                outcomes.append(Unscored(Reason.TIME, f"not called: {failed_calls} calls before it did not return"))
                continue
            outcome, returned = self._call(item, response)
            outcomes.append(outcome)
            failed_calls += not returned
        return outcomes

    def score_one(self, item: Item, response: Response) -> Outcome:
        """Scores one response within the time limit."""
        return self._call(item, response)[0]

    def _call(self, item: Item, response: Response) -> tuple[Outcome, bool]:
        if self.spec is not None:
            try:
                return process_of(self.spec).call(item, response, self.time_limit_s)
            except UserError as error:  # the file was deleted since
                return Unscored(Reason.MALFORMED, str(error)), False
        function = self.function
        assert function is not None  # noqa: S101 - without `spec`
        outcomes: list[Outcome] = []
        call = threading.Thread(target=lambda: outcomes.append(scored(function, item, response)), daemon=True)
        call.start()
        call.join(self.time_limit_s)
        if outcomes:
            return outcomes[0], True
        return Unscored(Reason.TIME, f"no score within {self.time_limit_s:g} s"), False


@dataclass(frozen=True)
class DecoratedFunction:
    """A function with the arguments of its scorer; it is still callable."""

    function: ScoringFunction
    defaults: Mapping[str, Any]

    def __call__(self, item: Item, response: Response) -> float:
        """Calls the function."""
        return self.function(item, response)

    def scorer(self, **options: Any) -> FunctionScorer:
        """The scorer, `await scorer(model, items)`; options override the decorator's.

        Raises:
            UserError: An option is unknown, or the prompt does not exist.
        """
        return _function_scorer(self.function, None, {**self.defaults, **options})


def _function_scorer(function: ScoringFunction | None, spec: str | None, options: Mapping[str, Any]) -> FunctionScorer:
    try:
        return FunctionScorer(function, spec=spec, **options)
    except TypeError as error:
        raise UserError(f"a utility made of a function does not take its options {options}: {error}") from error


def utility(**options: Any) -> Callable[[ScoringFunction], DecoratedFunction]:
    """Turns `score(item, response) -> float` into a utility; a plain function in a file also works, with defaults.

    Args:
        options: Arguments of `FunctionScorer`, such as `max_tokens`.

    Raises:
        UserError: The function does not take two arguments, or `FunctionScorer` does not have an option.

    Example:
        >>> @utility(max_tokens=20)
        ... def short(item, response):
        ...     return 1.0 - min(1.0, len(response.text) / 100)
    """

    def decorate(function: ScoringFunction) -> DecoratedFunction:
        check_function(function)
        decorated = DecoratedFunction(function, options)
        decorated.scorer()  # reports an invalid option at the decorator
        return decorated

    return decorate


def check_function(function: Any) -> None:
    """Checks that a function can be called with an item and a response.

    Raises:
        UserError: It is not a synchronous function of two arguments.
    """
    name = getattr(function, "__name__", repr(function))
    if not callable(function):
        raise UserError(f"{name} is no function: a utility is a function score(item, response) -> float")
    if any(inspect.iscoroutinefunction(part) for part in (function, function.__call__)):
        raise UserError(f"{name} is async; a utility made of a function is a plain one, score(item, response) -> float")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise UserError(f"{name} must take two arguments, score(item, response): {error}") from error
    except ValueError:
        return  # a builtin without a signature cannot be checked before the first call


def scorer_from_file(spec: str) -> Callable[..., Scorer]:
    """The constructor of the scorer `FILE.py:NAME`: a plain function, a function with `@utility`, or a scorer class.

    The file is run in a process of its own; that of a scorer class then also in this one.

    Raises:
        UserError: The file or name does not exist, the file raises, or the object is not a utility.
    """
    defaults = process_of(spec).defined()["defaults"]
    if defaults is not None:
        return lambda **options: _function_scorer(None, spec, {**defaults, **options})
    process_of(spec).close()
    return cast(Callable[..., Scorer], object_in_file(spec, "utility"))


def serve_file(spec: str) -> None:
    """Calls the function `FILE.py:NAME` for requests on stdin, see `utilities.user_process`."""
    serve(lambda: _load(spec))


def _load(spec: str) -> tuple[ScoringFunction, dict[str, Any]]:
    """The function in a file, and {"defaults": its options}; None in place of the options of a scorer class.

    Raises:
        UserError: As for `scorer_from_file`.
    """
    loaded = object_in_file(spec, "utility")
    if inspect.isclass(loaded):
        members = {
            part for kind in loaded.__mro__ for part in vars(kind)
        }  # getattr would find the metaclass's __call__
        if missing := [part for part in ("__call__", "score", "check") if part not in members]:
            raise UserError(f"utility {spec!r}: the class has no {', '.join(missing)}; see utilities.core.Scorer")
        return cast(ScoringFunction, loaded), {"defaults": None}
    try:
        check_function(loaded)
    except UserError as error:
        raise UserError(f"utility {spec!r}: {error}") from error
    if not isinstance(loaded, DecoratedFunction):
        return loaded, {"defaults": {}}
    return loaded.function, {"defaults": dict(loaded.defaults)}
