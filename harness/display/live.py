"""What a terminal shows while a search runs: a live screen or plain lines, both subscribers of the run's events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.display.tables import clock, judged_line, mixture, number, watched_line
from harness.run_folder.events import (
    AnyEvent,
    Evaluated,
    Finished,
    IterationDone,
    Judged,
    Note,
    Started,
    Testing,
    Watched,
)

__all__ = ["LiveScreen", "PlainLines", "Screen", "make_screen"]

T = TypeVar("T")
BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 12
BAR_WIDTH = 24
"""Characters of the progress bar."""
OTHER_COLUMNS = 48
"""Characters of a row besides the particle's name."""


class Screen(Protocol):
    """Shows events while the `with` block lasts."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, event: AnyEvent) -> None:
        """Shows an event."""
        ...


def make_screen(display: Literal["auto", "plain", "none"], console: Console) -> Screen:
    """The screen for a terminal, plain lines elsewhere, or nothing."""
    if display == "none":
        return _Silent()
    if display == "auto" and console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(console)
    return PlainLines(console)


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: AnyEvent) -> None:
        pass


class Progress:
    """The events so far, as both screens need them."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.started: Started | None = None
        self.done: list[IterationDone] = []
        self.now: dict[int, float | None] = {}
        """Metric of each particle that was evaluated in the running iteration."""
        self.testing: Testing | None = None
        self.judged: Judged | None = None
        self.watched: Watched | None = None
        self.answers = 0
        self._now = now or (lambda: time.monotonic())
        self._clock = self._now()

    def see(self, event: AnyEvent) -> None:
        """Takes an event into account."""
        if isinstance(event, Started):
            self.started = event
            self._clock = self._now()
            self.answers = 0
            last = -1 if event.resumed_from is None else event.resumed_from
            self.done = [done for done in self.done if done.iteration <= last]
            self.now = {}
            self.testing = None
        elif isinstance(event, Evaluated):
            self.now[event.particle] = event.value
            self.answers += event.items
        elif isinstance(event, Judged):
            self.judged = event
        elif isinstance(event, Watched):
            self.watched = event
        elif isinstance(event, IterationDone):
            self.done.append(event)
            self.now = {}
        elif isinstance(event, Testing):
            self.answers += event.answered - (self.testing.answered if self.testing else 0)
            self.testing = event
            self.now = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start (or the resumption)."""
        return self._now() - self._clock

    @property
    def expected(self) -> float | None:
        """Estimated seconds that remain, the final test included, at the mean speed so far; None before any answer."""
        if self.started is None or self.answers == 0:
            return None
        return self.elapsed / self.answers * self.answers_left

    @property
    def answers_left(self) -> int:
        """Answers that remain, on dev and in the final test."""
        if self.started is None:
            return 0
        tested = self.testing.done if self.testing else 0
        return max(0, self.left * self.started.dev_items + (self._test_rows - tested) * self.started.test_items)

    @property
    def share(self) -> float:
        """Share of all answers, those of the final test included, that is done; from 0 to 1."""
        if self.started is None:
            return 0.0
        search = (self.started.iterations + 1) * self.started.particles * self.started.dev_items
        total = search + self._test_rows * self.started.test_items
        return 1.0 - min(1.0, self.answers_left / max(1, total))

    @property
    def _test_rows(self) -> int:
        return len(self.started.experts) + 2 if self.started else 0

    @property
    def left(self) -> int:
        """Evaluations of the search that remain, unless patience ends it earlier."""
        if self.started is None or self.testing:
            return 0
        iterations = self.started.iterations - (self.done[-1].iteration if self.done else -1)
        return max(0, iterations * self.started.particles - len(self.now))

    def best(self, done: IterationDone | None) -> str:
        """The best mixture so far, by what the search maximises: "best smooth objective 0.61 (metric 0.72)".

        Its objective never falls from one iteration to the next; its metric may, unless the metric is the objective.
        """
        kind = self.started.objective if self.started else "metric"
        name = "metric" if kind == "metric" else f"{kind} objective"
        if done is None or done.global_best is None:
            return f"best {name}: none yet"
        if kind == "metric" or done.objective is None:
            return f"best {name} {done.global_best:.4f}"
        return f"best {name} {done.objective:.4f} (metric {done.global_best:.4f})"


class PlainLines:
    """A line an iteration: for logs, pipes and `--display plain`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: AnyEvent) -> None:
        """Prints the lines of an event, if it has any."""
        self._progress.see(event)
        for line in self._lines(event):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _lines(self, event: AnyEvent) -> list[str]:
        if isinstance(event, Started):
            return [_headline(event)]
        if isinstance(event, IterationDone):
            total = self._progress.started.iterations if self._progress.started else event.iteration
            scores = [score for score in event.scores if score is not None]
            mean = f"{sum(scores) / len(scores):.4f}" if scores else "-"
            step = "" if event.step_length is None else f"  step {event.step_length:.3f}"
            restarted = f"  restarted {sum(event.restarted)}" if any(event.restarted) else ""
            return [
                f"iteration {event.iteration}/{total}{step}  mean metric {mean}  {self._progress.best(event)}"
                f"{' = ' if event.coefficients else ''}{mixture(event.coefficients)}{restarted}"
                f"  evaluations {event.evaluations}  {clock(self._progress.elapsed)}"
            ]
        if isinstance(event, Watched):
            return [watched_line(event)]
        if isinstance(event, Testing) and event.done == 0:
            return [f"search done; evaluating {event.total} models on the test split"]
        if isinstance(event, Note):
            return [f"note: {event.text}"]
        if isinstance(event, Finished):
            cost = [judged_line(self._progress.judged)] if self._progress.judged else []
            return [*cost, f"finished after {clock(event.seconds)}: {event.reason}"]
        return []


class LiveScreen:
    """A screen that is redrawn: a row a particle, the global best and what it is made of, progress and time."""

    def __init__(self, console: Console, now: Callable[[], float] | None = None) -> None:
        self._console = console
        self._progress = Progress(now)
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=4, vertical_overflow="crop", transient=True
        )

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._live.__exit__(None, None, None)

    def __call__(self, event: AnyEvent) -> None:
        """Takes an event; the next redraw shows it."""
        self._progress.see(event)
        if isinstance(event, Started):
            self._console.print(_headline(event), markup=False, highlight=False)
        elif isinstance(event, Note):
            self._console.print(f"note: {event.text}", style="yellow", markup=False, highlight=False)

    def render(self) -> RenderableType:
        """What the screen shows now."""
        p = self._progress
        if p.started is None:
            return Text("loading the base model ...", style="dim")
        last = p.done[-1] if p.done else None
        more = [watched_line(p.watched)] if p.watched else []
        more += [judged_line(p.judged)] if p.judged else []
        room = max(3, self._console.size.height - 4 - len(more))  # status, heading, best and foot
        if p.started.particles > room:
            room = max(3, room - 1)  # a line says how many are not shown
        return Group(
            self._status(p.started, last),
            self._particles(p.started, last, room),
            self._best(last),
            *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in more),
            self._foot(),
        )

    def _status(self, started: Started, last: IterationDone | None) -> Text:
        iteration = 0 if last is None else min(last.iteration + 1, started.iterations)
        if self._progress.testing:
            t = self._progress.testing
            text = Text(f"test: {t.name} ({t.done + 1} of {t.total})", style="bold green")
        else:
            step = "" if last is None or last.step_length is None else f"   step length {last.step_length:.3f}"
            text = Text(f"iteration {iteration} of {started.iterations}{step}", style="bold cyan")
        share = self._progress.share
        done = round(share * BAR_WIDTH)
        text.append("   " + "━" * done, style="green")
        text.append("─" * (BAR_WIDTH - done) + f" {share:.0%}", style="dim")
        return text

    def _particles(self, started: Started, last: IterationDone | None, room: int) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        own_best = started.objective == "metric" and last is not None and bool(last.best)
        for name in ("particle", "metric", *(["own best"] if own_best else []), "history", ""):
            table.add_column(name, justify="right" if name in {"metric", "own best"} else "left", no_wrap=True)
        history = [
            [done.scores[i] for done in self._progress.done if i < len(done.scores)] for i in range(started.particles)
        ]
        scores = [score for row in history for score in row if score is not None]
        low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
        order = list(range(started.particles))
        if started.particles > room and last is not None:
            order.sort(key=lambda i: float("inf") if (best := _at(last.best or last.scores, i)) is None else -best)
        names = started.labels
        if last is None and names and names[0] not in started.experts:
            names = started.experts  # such a search evaluates them first
        for i in order[:room]:
            name = names[i] if i < len(names) else ""
            now = self._progress.now.get(i, _at(last.scores, i) if last else None)
            running = i in self._progress.now
            best = _at(last.best, i) if last else None
            mark = ""
            if last is not None:
                mark = "restarted" if _at(last.restarted, i) else "skipped" if _at(last.skipped, i) else ""
            leader = last is not None and best is not None and best == last.global_best
            value = "" if last is None and not running else number(now)  # blank before the first evaluation
            table.add_row(
                Text(shortened(name, self._console.size.width - OTHER_COLUMNS), style="bold" if leader else ""),
                Text(value, style="" if running or last is None else "dim"),
                *([Text(number(best), style="bold green" if leader else "")] if own_best else []),
                Text(sparkline(history[i], low, high), style="cyan"),
                Text(mark, style="yellow"),
            )
        if started.particles > room:
            table.add_row(Text(f"... and {started.particles - room} more", style="dim"))
        return table

    def _best(self, last: IterationDone | None) -> Text:
        found = last is not None and last.global_best is not None
        text = Text(self._progress.best(last), style="bold green" if found else "dim")
        if last is not None and found:
            text.append(f" = {mixture(last.coefficients)}", style="not bold default")
        text.truncate(self._console.size.width, overflow="ellipsis")
        return text

    def _foot(self) -> Text:
        p = self._progress
        assert p.started is not None  # noqa: S101 - render() asked
        done = (p.done[-1].evaluations if p.done else 0) + len(p.now)
        rate = p.answers / p.elapsed if p.elapsed > 0 else 0.0
        left = "..." if p.expected is None else clock(p.expected)
        counted = f"{done} evaluated, {p.left} left"
        return Text(f"{counted}   {rate:.0f} answers/s   {clock(p.elapsed)}, about {left} left", style="dim")


def _at(values: Sequence[T], i: int) -> T | None:
    return values[i] if i < len(values) else None


def _headline(event: Started) -> str:
    again = "" if event.resumed_from is None else f", resumed after iteration {event.resumed_from}"
    return (
        f"{event.task} ({event.edition}): {len(event.experts)} experts, {event.particles} particles,"
        f" {event.iterations} iterations, {event.dev_items} dev items, engine {event.engine} on {event.device}{again}"
    )


def shortened(name: str, most: int) -> str:
    """A name in at most `most` characters: its start and its end, which often tells names of one prefix apart."""
    most = max(most, 12)
    return name if len(name) <= most else f"{name[: most - most // 2 - 3]}...{name[-(most // 2) :]}"


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """The last values as bars, all particles on one scale; a dot where a value is missing."""
    span = (high - low) or 1.0
    return "".join(
        "·" if value is None else BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS)))]
        for value in values[-SPARK_WIDTH:]
    )
