"""Trackers of a run, by name or from a user's file, behind one subscriber that no tracker's error gets through.

A tracker is a class that is created with the run folder and called with every event, or in a user's file also a plain
function of the event:

    python run.py --task medical --track my_tracker.py:tell

A task file cannot choose a tracker; only the command line can.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from harness.run_folder.events import AnyEvent, Finished, IterationDone, Judged, Numbers, Watched
from harness.run_folder.read import open_run
from harness.run_folder.store import Store
from utilities.errors import UserError, describe
from utilities.registry import Registry

__all__ = ["ScalarTracker", "Tracker", "Trackers", "check_trackers", "scalars", "trackers"]

Tracker = Callable[[AnyEvent], object]
"""Called with every event; may have a method `close`."""

trackers: Registry[Any] = Registry(
    "tracker", ["harness.trackers"], ["trackers.register"], group="model_swarms.trackers"
)


class ScalarTracker(ABC):
    """Base of trackers that log numbers by iteration.

    Args:
        folder: The run folder.
    """

    package: ClassVar[str]
    """What must be installed; also the name of the extra."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._step = 0
        self.start()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, by the names of the flags."""
        run = open_run(self.folder)
        options = run.document.get(run.study)
        return {**run.settings, **(options if isinstance(options, Mapping) else {})}

    def __call__(self, event: AnyEvent) -> None:
        """Logs the numbers of an event, if it has any."""
        self._step = event.step if isinstance(event, Numbers) else getattr(event, "iteration", self._step)
        if values := scalars(event, self.folder):
            self.log(values, self._step)

    @abstractmethod
    def start(self) -> None:
        """Opens the tool's run; a resumed run continues the one it had."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of an iteration."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is not written yet."""


def scalars(event: AnyEvent, folder: Path) -> dict[str, float]:
    """The numbers of an event by name; missing values are left out.

    Args:
        event: Any event.
        folder: The run folder, whose result is read at the end.
    """
    values: dict[str, float | None] = event.values if isinstance(event, Numbers) else {}
    if isinstance(event, IterationDone):
        scores = [score for score in event.scores if score is not None]
        values = {
            "search/best_metric": event.best_metric,
            "search/objective": event.objective,
            "search/mean_metric": sum(scores) / len(scores) if scores else None,
            "search/evaluations": event.evaluations,
            **{f"coefficient/{name}": value for name, value in event.coefficients.items()},
        }
    elif isinstance(event, Judged):
        tokens = event.prompt_tokens + event.completion_tokens
        values = {"judge/requests": event.requests, "judge/tokens": tokens, "judge/usd": event.usd}
    elif isinstance(event, Watched):
        values = {"monitor/objective": event.objective, "monitor/hold_out": event.hold_out}
        values |= {f"monitor/{name}": value for name, value in event.text_features.items()}
        values |= {f"canary/{name}": value for name, value in event.canaries.items()}
    elif isinstance(event, Finished) and (result := open_run(folder).result) is not None:
        for row in result.rows:
            values |= {f"dev/{row.name}": row.dev, f"test/{row.name}": row.test}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def check_trackers(names: Sequence[str]) -> None:
    """Checks trackers before anything is measured.

    Raises:
        UserError: No such tracker, one whose package is not installed, or one that cannot be called.
    """
    for name in names:
        tracker = trackers.get(name)
        package = getattr(tracker, "package", None)
        if package is not None and find_spec(package) is None:
            raise UserError(f"--track {name}: {package} is not installed; pip install -e '.[{package}]'")
        if not callable(tracker):
            raise UserError(f"--track {name}: expected a class or a function, and it is a {type(tracker).__name__}")


class Trackers:
    """All trackers of a run as one subscriber; one that fails is named once and left out.

    Args:
        names: Registered names, or `FILE.py:NAME`.
        store: The store of the run folder, whose events they receive while the block runs.
        note: Shows a message.
    """

    def __init__(self, names: Sequence[str], store: Store, note: Callable[[str], None]) -> None:
        self._names, self._store, self._note = names, store, note
        self._each: dict[str, Tracker] = {}

    def _open(self, name: str, folder: Path) -> None:
        tracker = trackers.get(name)
        self._each[name] = tracker(folder) if isinstance(tracker, type) else tracker

    def _try(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # a tool or a user's file may raise anything; the search continues
            self._each.pop(name, None)
            self._note(f"--track {name} failed and is left out: {describe(error)}")

    def __call__(self, event: AnyEvent) -> None:
        """Passes an event on."""
        for name, tracker in list(self._each.items()):
            self._try(name, lambda tracker=tracker: tracker(event))  # type: ignore[misc]  # of this tracker

    def __enter__(self) -> None:
        for name in self._names:
            self._try(name, lambda name=name: self._open(name, self._store.folder))  # type: ignore[misc]  # of this name
        self._store.bus.subscribe(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in list(self._each.items()):
            self._try(name, getattr(tracker, "close", lambda: None))
