"""The run folders in a folder, one line each."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.run_folder.events import Started
from harness.run_folder.read import BASE, Run, open_run
from utilities.errors import UserError

__all__ = ["Listed", "list_runs", "listed"]


class Listed(BaseModel):
    """A run folder in a list."""

    model_config = ConfigDict(extra="forbid")

    folder: str
    study: str
    """The verb that wrote it; empty if it cannot be read."""
    task: str
    model: str
    """Base model."""
    when: str
    """Of the last event, as 2026-01-31 12:00."""
    dev: float | None
    """Value of the winner of a search."""
    test: float | None
    test_se: float | None
    state: str
    """finished, running, interrupted (the last two with the iteration), or what is wrong with it."""


def list_runs(folder: Path) -> list[Listed]:
    """All folders of runs, comparisons, sweeps and labs in `folder`, or `folder` itself; the most recent last.

    Raises:
        UserError: The folder does not exist or has none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is no folder; give a folder that has run folders")
    places = [path.parent for pattern in ("settings.yaml", "*/settings.yaml") for path in folder.glob(pattern)]
    if not places:
        raise UserError(f"{folder} has no run folders; `search` writes them to `runs` unless --out says otherwise")
    found = []
    for place in sorted(places):
        try:
            found.append(listed(open_run(place)))
        except UserError as error:
            blank: dict[str, Any] = {"study": "", "task": "", "model": "", "dev": None, "test": None, "test_se": None}
            found.append(Listed(folder=str(place), when=_when(place), state=f"not readable: {error}", **blank))
    return sorted(found, key=lambda one: one.when)


def listed(run: Run) -> Listed:
    """One run folder.

    Raises:
        UserError: A file of it is corrupt.
    """
    study, state = run.study, run.state
    tasks = run.document.get("tasks")
    result = run.result if study == "search" else None
    if study == "search" and state != "finished":
        started = next((event for event in reversed(run.events) if isinstance(event, Started)), None)
        done = run.iterations[-1].iteration if run.iterations else None
        total = started.iterations if started else run.settings.get("iterations")
        state += " at the start" if done is None else f", {done}/{total}"
    return Listed(
        folder=str(run.folder),
        study=study,
        task=", ".join(tasks) if isinstance(tasks, dict) else str(run.settings.get("task", "")),
        model=str(run.settings.get("base_model", BASE)),
        when=_when(run.folder),
        dev=result.winner.dev if result else None,
        test=result.winner.test if result else None,
        test_se=result.winner.test_se if result else None,
        state=state,
    )


def _when(folder: Path) -> str:
    """The time at which a folder's log or settings were last written."""
    path = folder / "events.jsonl"
    path = path if path.is_file() else folder / "settings.yaml"
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M")
