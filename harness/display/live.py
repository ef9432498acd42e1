"""The rich screen: one subscriber of the events among others. Nothing here decides anything about a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

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
from harness.run_folder.result import Cost, Difference, Result, Watch
from harness.run_folder.result import Row as ResultRow
from utilities.core import Evaluation, Score
from utilities.rewards.mixes import pareto_front

__all__ = [
    "LiveScreen",
    "PlainLines",
    "Screen",
    "evaluation_table",
    "make_screen",
    "measure_means",
    "mixture",
    "number",
    "result_table",
]

T = TypeVar("T")
BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 12


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
    """What has been seen so far, in the words of the events; both screens draw from it."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.started: Started | None = None
        self.done: list[IterationDone] = []
        self.now: dict[int, float | None] = {}
        """Scores of the running iteration, by particle in the order of asking."""
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
            kept = -1 if event.resumed_from is None else event.resumed_from
            self.done = [done for done in self.done if done.iteration <= kept]
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
        """Seconds that the rest will take if it goes on like this; None before the first iteration is complete."""
        if self.started is None or self.answers == 0 or not self.done:
            return None
        per_answer = self.elapsed / self.answers
        dev = self.left * self.started.dev_items
        test_rows = len(self.started.experts) + 2
        tested = self.testing.done if self.testing else 0
        return per_answer * max(0, dev + (test_rows - tested) * self.started.test_items)

    @property
    def left(self) -> int:
        """Evaluations of the search that are still to come, if patience does not end it."""
        if self.started is None or self.testing:
            return 0
        iterations = self.started.iterations - (self.done[-1].iteration if self.done else -1)
        return max(0, iterations * self.started.particles - len(self.now))


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
        """Prints what an event says, if it is worth a line."""
        self._progress.see(event)
        for line in self._lines(event):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _lines(self, event: AnyEvent) -> list[str]:
        if isinstance(event, Started):
            return [_headline(event)]
        if isinstance(event, IterationDone):
            total = self._progress.started.iterations if self._progress.started else event.iteration
            best = "-" if event.global_best is None else f"{event.global_best:.4f}"
            known = [score for score in event.scores if score is not None]
            mean = f"{sum(known) / len(known):.4f}" if known else "-"
            step = "" if event.step_length is None else f"  step {event.step_length:.3f}"
            restarted = f"  restarted {sum(event.restarted)}" if event.restarted else ""
            return [
                f"iteration {event.iteration}/{total}{step}  mean {mean}  best {best}{restarted}"
                f"  evaluations {event.evaluations}"
                f"  {clock(self._progress.elapsed)}  best = {mixture(event.coefficients)}"
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
            return Text(f"test: {t.name} ({t.done + 1} of {t.total})", style="bold green")
        step = "" if last is None or last.step_length is None else f"   step length {last.step_length:.3f}"
        return Text(f"iteration {iteration} of {started.iterations}{step}", style="bold cyan")

    def _particles(self, started: Started, last: IterationDone | None, room: int) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for name in ("particle", "now", "best", "history", ""):
            table.add_column(name, justify="right" if name in {"now", "best"} else "left", no_wrap=True)
        history = [
            [done.scores[i] for done in self._progress.done if i < len(done.scores)] for i in range(started.particles)
        ]
        known = [score for row in history for score in row if score is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        order = list(range(started.particles))
        if started.particles > room and last is not None:
            order.sort(key=lambda i: float("inf") if (best := _at(last.best or last.scores, i)) is None else -best)
        names = started.labels
        if last is None and names and names[0] not in started.experts:
            names = started.experts  # which such a search looks at first
        for i in order[:room]:
            name = names[i] if i < len(names) else ""
            now = self._progress.now.get(i, _at(last.scores, i) if last else None)
            running = i in self._progress.now
            best = _at(last.best, i) if last else None
            mark = ""
            if last is not None:
                mark = "restarted" if _at(last.restarted, i) else "skipped" if _at(last.skipped, i) else ""
            leader = last is not None and best is not None and best == last.global_best
            table.add_row(
                Text(name[:18], style="bold" if leader else ""),
                Text(number(now), style="" if running or last is None else "dim"),
                Text(number(best), style="bold green" if leader else ""),
                Text(sparkline(history[i], low, high), style="cyan"),
                Text(mark, style="yellow"),
            )
        if started.particles > room:
            table.add_row(Text(f"... and {started.particles - room} more", style="dim"), "", "", "", "")
        return table

    def _best(self, last: IterationDone | None) -> Text:
        if last is None or last.global_best is None:
            return Text("global best: none yet", style="dim")
        text = Text("global best ")
        text.append(f"{last.global_best:.4f}", style="bold green")
        text.append(f" = {mixture(last.coefficients)}")
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


def winner_line(result: Result) -> str:
    """How the winner was chosen, and what that makes of its dev value."""
    winner = result.winner
    what = {
        "top-k-mean": "the mean of the best mixtures",
        "best": "the best mixture",
        "best_initial": "an initial expert: no mixture did better on dev items that the search had not seen",
    }[winner.finalist]
    told = f"winner: {what} of {result.evaluations} by {result.optimiser} on the {result.objective} objective"
    if winner.confirmed is not None:
        return f"{told}; on dev items that it had not seen {number(winner.confirmed.value, winner.confirmed.se)}"
    if winner.optimism is None or winner.dev is None:
        return told
    return (
        f"{told}; choosing makes a dev value look about {max(0.0, winner.optimism):.4f} too good: expect"
        f" {winner.dev - max(0.0, winner.optimism):.4f} of items like dev"
    )


def judged_line(cost: Cost) -> str:
    """What the judges have cost so far."""
    usd = "price unknown" if cost.usd is None else f"${cost.usd:,.2f}"
    failed = f", {cost.failed} failed" if cost.failed else ""
    return (
        f"judges: {cost.requests:,} requests{failed}, {cost.cached:,} from the cache,"
        f" {cost.prompt_tokens + cost.completion_tokens:,} tokens, {usd}"
    )


def watched_line(look: Watch) -> str:
    """The objective against what it does not see."""
    told = f"watch: objective {number(look.objective)}, hold-out {number(look.hold_out)}"
    told += f" (best initial {number(look.initial_hold_out)})"
    if look.companion:
        told += f", {look.companion['words']:.0f} words, {look.companion['repetition']:.0%} repeated"
        told += f", {look.companion['on_topic']:.0%} on topic"
    if look.canaries:
        told += f", canaries at most {max(look.canaries.values()):.2f}"
    return told


def _headline(event: Started) -> str:
    again = "" if event.resumed_from is None else f", resumed after iteration {event.resumed_from}"
    return (
        f"{event.task} ({event.edition}): {len(event.experts)} experts, {event.particles} particles,"
        f" {event.iterations} iterations, {event.dev_items} dev items, engine {event.engine} on {event.device}{again}"
    )


def mixture(coefficients: Mapping[str, float], most: int = 4) -> str:
    """The largest coefficients in words: "0.61 science + 0.44 cot - 0.12 sharegpt"."""
    parts = sorted(coefficients.items(), key=lambda part: -abs(part[1]))
    shown = [part for part in parts[:most] if abs(part[1]) >= 0.005]
    text = " ".join(f"{'-' if value < 0 else '+'} {abs(value):.2f} {name}" for name, value in shown).removeprefix("+ ")
    rest = sum(abs(value) >= 0.005 for _, value in parts) - len(shown)
    return text + (f" (+ {rest} more)" if rest > 0 else "")


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """The last values as bars, all particles on one scale; a dot where a value is missing."""
    span = (high - low) or 1.0
    return "".join(
        "·" if value is None else BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS)))]
        for value in values[-SPARK_WIDTH:]
    )


def number(value: float | None, se: float | None = None) -> str:
    """A value, with its standard error where there is one; ratings, which are above 1, with two decimals."""
    if value is None:
        return "-"
    digits = 4 if abs(value) <= 1 else 2
    return f"{value:.{digits}f}" if se is None else f"{value:.{digits}f} ± {se:.{digits}f}"


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def result_table(rows: Sequence[ResultRow], title: str, *, best_initial: str | None = None) -> Table:
    """Value ± standard error on dev and test, n and unscored n, a line a model."""
    with_dev, with_test = any(r.dev is not None for r in rows), any(r.test is not None for r in rows)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    if with_dev:
        table.add_column("dev", justify="right", no_wrap=True)
    if with_test:
        table.add_column("test", justify="right", no_wrap=True)
    measured = list(dict.fromkeys(name for row in rows for name in row.beside))
    for name in measured:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("unscored", justify="right")
    for row in rows:
        name = f"{row.name} (best initial)" if row.name == best_initial else row.name
        cells = [number(row.dev, row.dev_se)] * with_dev + [number(row.test, row.test_se)] * with_test
        of = [row.beside.get(name) for name in measured]
        cells += ["" if one is None else number(one.value, one.se) for one in of]
        style = "bold green" if row.kind == "winner" else "bold" if row.name == best_initial else ""
        table.add_row(name, *cells, str(row.n), str(row.unscored), style=style)
    return table


def evaluation_table(evaluations: Mapping[str, Evaluation], title: str, objectives: Sequence[str] = ()) -> Table:
    """A line a model: its value, its parts where there are several, and the means of what its scores were made of.

    Args:
        evaluations: By the model's name.
        title: What was evaluated.
        objectives: Measures that pull apart; the models that no other one beats in all of them are marked.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    first = next(iter(evaluations.values()))
    means = {name: measure_means(evaluation) for name, evaluation in evaluations.items()}
    measured = sorted({measure for found in means.values() for measure in found})
    for column in (*first.parts, *measured):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("unscored", justify="right")
    points = [{o: means[name].get(o, float("-inf")) for o in objectives} for name in evaluations]
    front = {list(evaluations)[k] for k in pareto_front(points)} if objectives else set()
    for name, e in evaluations.items():
        cells = [number(part.value, part.se) for part in e.parts.values()] if e.parts else [""] * len(first.parts)
        cells += [number(means[name].get(measure), None) for measure in measured]
        label = f"{name} (Pareto)" if name in front else name
        table.add_row(label, number(e.value, e.se), *cells, str(e.n), str(e.n_unscored))
    return table


def measure_means(evaluation: Evaluation) -> dict[str, float]:
    """The means of the measures that the scores of an evaluation were made of."""
    found: dict[str, list[float]] = {}
    for leaf in evaluation.leaves.values():
        for result in leaf.results:
            if isinstance(result.outcome, Score):
                for name, value in result.outcome.measures.items():
                    found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def difference_line(label: str, difference: Difference) -> str:
    """A difference with its interval, in one sentence."""
    if difference.value is None:
        return f"{label}: not known ({difference.problem})"
    return (
        f"{label} on test: {difference.value:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
        " (paired bootstrap over items)"
    )


def print_result(result: Result, console: Console, *, whole: bool = True) -> None:
    """The last screen of a run: table, differences, where things are, what to do next."""
    shown = [r for r in result.rows if whole or r.kind != "expert" or r.name == result.best_initial]
    console.print(result_table(shown, f"{result.task} ({result.edition})", best_initial=result.best_initial))

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(difference_line("winner - best initial", result.difference["winner_minus_best_initial"]))
    say(difference_line("winner - base", result.difference["winner_minus_base"]))
    say(f"winner = {mixture(result.winner.coefficients, most=5)}")
    say(winner_line(result))
    share = result.time_share
    say(
        f"{result.evaluations} evaluations in {clock(result.seconds)}; of the search {share.forward:.0%} forward pass,"
        f" {share.mixing:.0%} mixing, {share.scoring:.0%} scoring, {share.other:.0%} other"
    )
    if (noise := result.noise) is not None and noise.value is not None:
        told = f"{noise.value:.4f} ({noise.changed} of {noise.items} answers)"
        say(f"noise floor: asked again in another batch, the winner's dev value differs by {told}")
    if result.watched:
        tested = next((one.canaries for one in reversed(result.watched) if one.canaries), {})
        say(watched_line(result.watched[-1].model_copy(update={"canaries": tested})))
        for text in dict.fromkeys(one.warning for one in result.watched if one.warning):
            console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if result.judging is not None:
        say(judged_line(result.judging))
    say(f"run folder: {result.run}")
    say(f"next: the winner is an ordinary adapter folder, {result.winner.adapter}")
    say(f"      python run.py serve {result.run}")
    base = "" if result.model == "embedded" else f" --base-model {result.model}"
    again = (
        f"--task {result.task_given or result.task} --edition {result.edition}{base} --experts {result.winner.adapter}"
    )
    say(f"      python run.py evaluate {again}")
