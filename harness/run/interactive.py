"""A session for scripts and notebooks: one loaded base model for several evaluations and searches."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.display.console import open_console
from harness.display.live import make_screen
from harness.display.tables import print_result
from harness.engines.base import Engine, Times
from harness.run.adapt import adapt_async
from harness.run_folder.events import AnyEvent, Bus
from harness.run_folder.read import Run, open_run
from harness.run_folder.store import Store, free_folder
from harness.session.answer_cache import AnswerCache
from harness.session.evaluator import StopRules, evaluate_models
from harness.session.objects import with_names
from harness.session.provenance import provenance
from harness.session.session import Session as OpenSession
from harness.session.session import open_session
from harness.session.settings import recommended_settings
from harness.swarm.settings import SwarmSettings
from utilities.core import Evaluation, Split
from utilities.errors import UserError
from utilities.registry import unknown_name

__all__ = ["KeptEngine", "Session"]

T = TypeVar("T")
Display = Literal["auto", "plain", "none"]
Row = Sequence[float] | Mapping[str, float] | NDArray[np.float64] | None

SEARCH_SETTINGS = {*SwarmSettings.model_fields, "seed", "preset", "variant", "objective"}
"""Settings that a search may change; the others are fixed when the session opens."""


class Session:
    """A checked task, pool and judges, and an engine with the base model loaded.

    Synchronous methods work in a notebook too: everything runs in one event loop in a thread of the session's own.

    Args:
        settings: Settings by flat name; objects are accepted in place of names (see `harness.session.objects`).

    Raises:
        UserError: A mistake in the settings, the data or the adapters.

    Example:
        >>> with Session(task="medical", experts=["./a", "./b"], base_model="./base") as session:
        ...     print(session.evaluate(session.base, "dev").value)
        ...     run = session.search(optimiser="pso", iterations=5)
    """

    base: Row = None
    """The row of the base model."""

    def __init__(self, **settings: Any) -> None:
        self._flat = with_names(settings)
        self.settings = recommended_settings(self._flat).anywhere()
        self._engine: Engine | None = None
        self._answers: AnswerCache | None = None
        self._evaluations: dict[tuple[bytes, Split], Evaluation] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="session", daemon=True)
        self._thread.start()
        try:
            self._session = self._run(self._open())
        except BaseException:
            self._end()
            raise

    @property
    def experts(self) -> list[str]:
        """Names of the experts, in the order of coefficients."""
        return list(self._session.pool.names)

    def expert(self, name: str) -> NDArray[np.float64]:
        """The row of one expert: coefficient 1 for it, 0 for the others.

        Raises:
            UserError: There is no such expert.
        """
        if name not in self.experts:
            raise unknown_name("expert", name, self.experts)
        row: NDArray[np.float64] = np.eye(len(self.experts))[self.experts.index(name)]
        return row

    def evaluate(self, row: Row, split: Split = "dev") -> Evaluation:
        """The evaluation of a model on a split; equal rows are evaluated once.

        Args:
            row: `session.base`, `session.expert(NAME)`, coefficients [experts], or expert -> coefficient.
            split: dev, or test.

        Raises:
            UserError: Not as many coefficients as experts, a spent budget or an unreachable judge.
        """
        return self._run(self._evaluate(row, split))

    async def evaluate_async(self, row: Row, split: Split = "dev") -> Evaluation:
        """As `evaluate`."""
        return await asyncio.wrap_future(self._submit(self._evaluate(row, split)))

    def evaluate_all(self, split: Split = "dev") -> dict[str, Evaluation]:
        """The evaluations of the base model and of every expert on a split, by name.

        Raises:
            UserError: A spent budget or an unreachable judge.
        """
        return self._run(self._evaluate_all(split))

    def search(
        self,
        *,
        out: str | Path = "runs",
        name: str | None = None,
        display: Display = "auto",
        on_event: Callable[[AnyEvent], None] | None = None,
        **changes: Any,
    ) -> Run:
        """Searches from the beginning, in a new run folder.

        Args:
            out: Folder of run folders.
            name: Name of the run folder; by default task, seed and a number.
            display: auto is a live screen on a terminal, else plain lines; none shows nothing.
            on_event: Called with every event of the run, in the session's thread.
            changes: Settings of this search over those of the session: optimiser, its hyperparameters, seed, objective.

        Raises:
            UserError: A setting that is fixed when the session opens, no model could be scored, the budget is spent, or
                the judge is unreachable.
        """
        return self._run(self._search(Path(out), name, display, on_event, changes))

    async def search_async(self, *, out: str | Path = "runs", name: str | None = None, **arguments: Any) -> Run:
        """As `search`."""
        own = {key: arguments.pop(key, default) for key, default in (("display", "auto"), ("on_event", None))}
        search = self._search(Path(out), name, own["display"], own["on_event"], arguments)
        return await asyncio.wrap_future(self._submit(search))

    def close(self) -> None:
        """Frees the model and ends the judges."""
        if not self._thread.is_alive():
            return
        self._run(self._close())
        self._end()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in the session's thread ---------------------------------------------------------------------------------------

    async def _open(self) -> OpenSession:
        return open_session(self.settings, start=True)  # here, because the judges' cache is of one thread

    async def _close(self) -> None:
        self._session.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if not self._thread.is_alive():
            work.close()
            raise UserError("the session is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _open_engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._session.engine()
        return self._engine

    def _open_answers(self) -> AnswerCache | None:
        if self._answers is None:
            self._answers = self._session.answer_cache(self._open_engine())
        return self._answers

    async def _evaluate(self, row: Row, split: Split) -> Evaluation:
        coefficients = self._coefficients(row)
        key = (b"" if coefficients is None else (coefficients + 0.0).tobytes(), split)
        if key not in self._evaluations:
            session = self._session
            rules = StopRules(session.task.name, session.panel, "evaluate again")
            engine_row = None if coefficients is None else session.expert_row(coefficients)
            answers = self._open_answers()
            model = (answers.model if answers is not None else self._open_engine().particle)(engine_row)
            found = await rules.gather(session.task(model, split))
            self._warn()
            rules.check_judge(found)
            if found[0].value is None:  # evaluated again when it is requested again, as in `Evaluator`
                return found[0]
            self._evaluations[key] = found[0]
        return self._evaluations[key]

    async def _evaluate_all(self, split: Split) -> dict[str, Evaluation]:
        try:
            return await evaluate_models(self._session, self._open_engine(), split, self._open_answers())
        finally:
            self._warn()

    def _warn(self) -> None:
        for note in self._session.take_notes():
            warnings.warn(note, stacklevel=2)

    def _coefficients(self, row: Row) -> NDArray[np.float64] | None:
        if row is None:
            return None
        if isinstance(row, Mapping):
            total = np.zeros(len(self.experts))
            for name, coefficient in row.items():
                total += coefficient * self.expert(name)
            return total
        values = np.asarray(row, dtype=np.float64)
        sizes = {len(self.experts), len(self._session.columns) * len(self._session.groups)}
        if values.ndim != 1 or values.size not in sizes or not np.isfinite(values).all():
            raise UserError(
                f"a row has a finite coefficient for each of {len(self.experts)} experts ({', '.join(self.experts)});"
                f" got {np.array2string(values, threshold=8)}"
            )
        return values

    async def _search(
        self,
        out: Path,
        name: str | None,
        display: Display,
        on_event: Callable[[AnyEvent], None] | None,
        changes: Mapping[str, Any],
    ) -> Run:
        for change in changes:
            if change not in SEARCH_SETTINGS:
                raise UserError(
                    f"search: {change!r} is not a setting of a search; the session is opened with it. A search accepts"
                    f" {', '.join(sorted(SEARCH_SETTINGS))}"
                )
        settings = recommended_settings({**self._flat, **with_names(changes)}).anywhere()
        folder = out / name if name else free_folder(out, f"{Path(settings.task).stem}-seed{settings.seed}")
        Store.check_new(folder)
        engine: Future[Engine] = Future()
        self._open_engine().times = Times()
        engine.set_result(KeptEngine(self._open_engine()))
        session = replace(self._session, settings=settings, starting=engine)
        store = Store.create(folder, {"settings": settings.model_dump(mode="json"), **provenance(session)})
        console = open_console()
        screen, bus = make_screen(display, console), Bus()
        bus.subscribe(store.log)
        bus.subscribe(screen)
        if on_event is not None:
            bus.subscribe(on_event)
        try:
            with screen:
                result = await adapt_async(session, store, bus)
        finally:
            store.close()
        if display != "none":
            print_result(result, console)
        return open_run(folder)


class KeptEngine:
    """An engine that a search does not close."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Nothing: the session closes the engine."""
