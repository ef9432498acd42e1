"""Model Swarms from Python.

    >>> import harness
    >>> run = harness.search(task="medical", iterations=5)
    >>> run.table()
    >>> run.winner.save("my-expert")

Keyword arguments are the settings by the names of the flags (`--top-k` is `top_k`). Objects are accepted in place of
names: a utility function, a `Task`, a list of `Item`s, adapter folders as `Path`s. Every function works in a notebook,
and has an async pair (`search_async`). `docs/python.md` has more. Importing this package loads nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from harness.compare.result import Compared
    from harness.engines.token_mixture import load_token_mixture
    from harness.lab.result import Examination
    from harness.run.interactive import Session
    from harness.run_folder.read import Run, open_run
    from harness.session.settings import RunSettings
    from harness.sweep.result import Swept
    from utilities.core import Evaluation

    compare: Callable[..., Compared]
    lab: Callable[..., Examination]
    sweep: Callable[..., Swept]

Display = Literal["auto", "plain", "none"]

__all__ = [
    "Run",
    "RunSettings",
    "Session",
    "__version__",
    "compare",
    "compare_async",
    "evaluate",
    "evaluate_async",
    "lab",
    "lab_async",
    "load_token_mixture",
    "open_run",
    "search",
    "search_async",
    "sweep",
    "sweep_async",
]

_HOME = {
    "Run": "harness.run_folder.read",
    "RunSettings": "harness.session.settings",
    "Session": "harness.run.interactive",
    "load_token_mixture": "harness.engines.token_mixture",
    "open_run": "harness.run_folder.read",
}


def search(**settings: Any) -> Run:
    """Searches the mixtures of a pool of experts for a task; the run as `open_run` gives it.

    Args:
        settings: Arguments of `Session` and of `Session.search`: settings by flat name, `out` and `name` of the run
            folder, `display` ("auto", "plain" or "none"), `on_event` (a function of each event).

    Raises:
        UserError: A mistake in the settings, the data or the adapters.
    """
    session, own = _split(settings)
    with _session(session) as opened:
        return opened.search(**own)


async def search_async(**settings: Any) -> Run:
    """As `search`."""
    session, own = _split(settings)
    async with _session(session) as opened:
        return await opened.search_async(**own)


def evaluate(*, split: Literal["dev", "test"] = "dev", **settings: Any) -> pd.DataFrame:
    """The value of the base model and of every expert on a split: name, value, se, n, unscored, problem.

    Args:
        split: dev, or test.
        settings: Arguments of `Session`.

    Raises:
        UserError: A mistake in the settings, the data or the adapters.
    """
    with _session(settings) as opened:
        return _table(opened.evaluate_all(split))


async def evaluate_async(*, split: Literal["dev", "test"] = "dev", **settings: Any) -> pd.DataFrame:
    """As `evaluate`."""
    frame: pd.DataFrame = await _in_thread(evaluate, {"split": split, **settings})
    return frame


def _compare(
    *,
    task: Any,
    methods: str | Sequence[str] = "all",
    seeds: int = 3,
    budget: int = 120,
    space: Literal["factors", "delta"] = "factors",
    training_data: str | Path | None = None,
    contrasts: str | Sequence[str] = (),
    out: str | Path | None = None,
    display: Display = "auto",
    **settings: Any,
) -> Compared:
    """Compares the search with baseline methods at equal budget.

    Args:
        task: As in `Session`; names separated by commas are several tasks.
        methods: all, static, dynamic, or names.
        seeds: Seeds of each method that draws random numbers.
        budget: Evaluations on dev of each search.
        space: Merge A and B separately ("factors"), or their products BA ("delta").
        training_data: Folder of EXPERT.jsonl with the training texts of each expert.
        contrasts: Planned comparisons, such as "swarm:random".
        out: Folder of the comparison; an interrupted one is continued.
        display: "none" prints nothing.
        settings: Settings by flat name.

    Raises:
        UserError: A mistake in the settings, the data or the adapters.
    """
    from harness.cli.compare import run_compare

    tasks = [name.strip() for name in task.split(",")] if isinstance(task, str) else [task]
    return run_compare(
        [_settings({**settings, "task": one}) for one in tasks],
        methods if isinstance(methods, str) else ",".join(methods),
        seeds=seeds,
        budget=budget,
        space=space,
        training_data=None if training_data is None else Path(training_data),
        contrasts=contrasts if isinstance(contrasts, str) else ",".join(contrasts),
        out=None if out is None else Path(out),
        display=display,
        json=False,
    )


def _sweep(
    *,
    trials: int = 30,
    sampler: Literal["tpe", "random"] = "tpe",
    budget: int | None = None,
    out: str | Path | None = None,
    display: Display = "auto",
    **settings: Any,
) -> Swept:
    """Sweeps hyperparameters of the particle swarm and re-evaluates the best trial on held-out dev data.

    Args:
        trials: Searches; the first has the settings as given.
        sampler: How hyperparameters are proposed.
        budget: Evaluations of each search; by default those of the settings' iterations, or 120.
        out: Folder of the sweep; an interrupted one is continued.
        display: "none" prints nothing.
        settings: Settings by flat name.

    Raises:
        UserError: A mistake in the settings, the data or the adapters.
    """
    from harness.cli.sweep import run_sweep

    return run_sweep(
        _settings(settings),
        trials=trials,
        sampler=sampler,
        budget=budget,
        out=None if out is None else Path(out),
        display=display,
        json=False,
    )


def _lab(
    *designs: Any,
    labels: str | Path | None = None,
    responses: Sequence[str | Path] = (),
    cloud: int = 12,
    probes: int | None = None,
    search: bool = False,
    budget: int = 60,
    seeds: int = 1,
    out: str | Path | None = None,
    display: Display = "auto",
    **settings: Any,
) -> Examination:
    """Tests whether utilities can be trusted as objectives.

    Args:
        designs: Utilities: functions, or names with options as in `python run.py lab`; by default the task's own.
        labels: File of human labels of answers.
        responses: Folders of runs whose stored answers are tested; no model is loaded.
        cloud: Mixtures of two experts that are measured too.
        probes: Dev items that bad and repeated answers are made of.
        search: Also search with each design as the objective.
        budget: Evaluations on dev of each of these searches.
        seeds: Searches with each design.
        out: Folder of the lab; an interrupted one is continued.
        display: "none" prints nothing.
        settings: Settings by flat name.

    Raises:
        UserError: A mistake in the settings, the data or the adapters.
    """
    from harness.cli.lab import run_lab
    from harness.session.objects import with_names

    names = [str(with_names({"utility": design})["utility"]) for design in designs]
    options = {"designs": tuple(names), "labels": None if labels is None else Path(labels), "cloud": cloud}
    options |= {"probes": probes, "search": search, "budget": budget, "seeds": seeds}
    return run_lab(
        with_names(settings) if responses else _settings(settings),
        options,
        [Path(folder) for folder in responses],
        None if out is None else Path(out),
        display,
        False,
    )


async def compare_async(**arguments: Any) -> Compared:
    """As `compare`, in a thread."""
    compared: Compared = await _in_thread(_compare, arguments)
    return compared


async def sweep_async(**arguments: Any) -> Swept:
    """As `sweep`, in a thread."""
    swept: Swept = await _in_thread(_sweep, arguments)
    return swept


async def lab_async(*designs: Any, **arguments: Any) -> Examination:
    """As `lab`, in a thread."""
    examination: Examination = await _in_thread(_lab, arguments, *designs)
    return examination


async def _in_thread(function: Callable[..., Any], arguments: Mapping[str, Any], *more: Any) -> Any:
    from asyncio import to_thread

    return await to_thread(function, *more, **arguments)


def _table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    import pandas as pd

    columns = ("value", "se", "n", "n_unscored", "problem")
    rows = [{"name": name, **{key: getattr(e, key) for key in columns}} for name, e in evaluations.items()]
    return pd.DataFrame(rows).rename(columns={"n_unscored": "unscored"})


def _session(settings: Mapping[str, Any]) -> Session:
    from harness.run.interactive import Session

    return Session(**settings)


def _split(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a session, and those of its `search`."""
    own = {name: value for name, value in arguments.items() if name in ("out", "name", "display", "on_event")}
    return {name: value for name, value in arguments.items() if name not in own}, own


def _settings(settings: Mapping[str, Any]) -> RunSettings:
    from harness.session.objects import with_names
    from harness.session.settings import recommended_settings

    return recommended_settings(with_names(settings))


_FUNCTIONS: dict[str, Callable[..., Any]] = {"compare": _compare, "lab": _lab, "sweep": _sweep}
"""Functions that have the name of a room."""


class _CallableRoom(ModuleType):
    """A package that can be called: `harness.compare(...)` beside `harness.compare.result`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _FUNCTIONS[self.__name__.rpartition(".")[2]](*args, **kwargs)


class _Package(ModuleType):
    """This package: a room that a function is named after becomes callable when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value.__class__ = _CallableRoom
            value.__doc__ = _FUNCTIONS[name].__doc__
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _FUNCTIONS:
        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("model-swarms")
        except PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
