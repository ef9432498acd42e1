"""Tables and sentences on evaluations and results, as terminals show them at any width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from harness.display.conclusion import search_conclusion
from harness.experts.environment import installed_server
from harness.run_folder.result import Cost, Difference, Result, Watch
from harness.run_folder.result import Row as ResultRow
from utilities.core import Evaluation, Score, Unscored
from utilities.rewards.mixes import pareto_front

__all__ = [
    "ModelTable",
    "clock",
    "difference_line",
    "evaluation_table",
    "judged_line",
    "measure_means",
    "mixture",
    "number",
    "plain_table",
    "print_result",
    "result_table",
    "unscored_reason",
    "watched_line",
    "winner_line",
]

LONGEST_NAME = 28
"""Characters of a model's name in one line of a table; a longer name continues on the next line."""


@dataclass
class ModelTable:
    """A row a model; columns that do not fit the terminal continue in a further table under the same names."""

    title: str
    names: Sequence[str]
    columns: Sequence[tuple[str, Sequence[str]]]
    """Heading and one cell a model, the most important column first."""
    styles: Sequence[str] = ()
    """Style of each row."""
    heading: str = "model"
    foot: Sequence[str] = field(default_factory=list)
    """Lines below."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields as many tables as the width requires."""
        name_width = min(LONGEST_NAME, max(map(cell_len, [self.heading, *self.names])))
        title = self.title
        for columns in self._fitting(options.max_width - name_width - 4):
            table = Table(title=title, title_justify="left", title_style="bold")
            table.add_column(self.heading, overflow="fold", min_width=name_width)
            for heading, _ in columns:
                table.add_column(heading, justify="right", overflow="fold")
            for k, name in enumerate(self.names):
                style = self.styles[k] if self.styles else ""
                table.add_row(name, *(cells[k] for _, cells in columns), style=style)
            yield table
            title = f"{self.title}, continued"
        yield from self.foot

    def _fitting(self, room: int) -> list[list[tuple[str, Sequence[str]]]]:
        """The columns in groups that fit `room` characters, borders included."""
        groups: list[list[tuple[str, Sequence[str]]]] = [[]]
        left = room
        for heading, cells in self.columns:
            width = max(map(cell_len, [heading, *cells])) + 3
            if width > left and groups[-1]:
                groups.append([])
                left = room
            groups[-1].append((heading, cells))
            left -= width
        return groups


def result_table(rows: Sequence[ResultRow], title: str, *, best_initial: str | None = None) -> ModelTable:
    """Value ± standard error on dev and test, scored and unscored items of test, and report-only scores."""
    columns = []
    if any(row.dev is not None for row in rows):
        columns.append(("dev", [number(row.dev, row.dev_se) for row in rows]))
    if any(row.test is not None for row in rows):
        columns.append(("test", [number(row.test, row.test_se) for row in rows]))
    columns += [("n", [str(row.n) for row in rows]), ("unscored", [str(row.unscored) for row in rows])]
    for name in dict.fromkeys(name for row in rows for name in row.report_only):
        scores = [row.report_only.get(name) for row in rows]
        columns.append((name, ["" if one is None else number(one.value, one.se) for one in scores]))
    names = [f"{row.name} (best initial)" if row.name == best_initial else row.name for row in rows]
    styles = ["bold green" if r.kind == "winner" else "bold" if r.name == best_initial else "" for r in rows]
    return ModelTable(title, names, columns, styles)


def evaluation_table(evaluations: Mapping[str, Evaluation], title: str, objectives: Sequence[str] = ()) -> ModelTable:
    """A row a model: its value, scored and unscored items, its parts if there are several, and the means of measures.

    Args:
        evaluations: By the model's name.
        title: What was evaluated.
        objectives: Measures that conflict; models that no other one beats in all of them are marked.
    """
    each = list(evaluations.values())
    means = [measure_means(one) for one in each]
    columns = [
        ("value", [number(one.value, one.se) for one in each]),
        ("n", [str(one.n) for one in each]),
        ("unscored", [str(one.n_unscored) for one in each]),
    ]
    parts = {name: [one.parts.get(name) for one in each] for name in each[0].parts}
    columns += [(name, ["" if p is None else number(p.value, p.se) for p in of]) for name, of in parts.items()]
    measures = sorted({name for one in means for name in one})
    columns += [(name, [number(one.get(name)) for one in means]) for name in measures]
    points = [{o: one.get(o, float("-inf")) for o in objectives} for one in means]
    front = pareto_front(points) if objectives else []
    names = [f"{name} (Pareto)" if k in front else name for k, name in enumerate(evaluations)]
    return ModelTable(title, names, columns, foot=_unscored_lines(each))


def _unscored_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """How many answers are unscored, and the most frequent reason; nothing if all are scored."""
    missing = sum(one.n_unscored for one in evaluations)
    if not missing:
        return []
    total = missing + sum(one.n for one in evaluations)
    reasons = sum((_reasons(one) for one in evaluations), Counter[str]())
    reason = f"; most frequent reason: {reasons.most_common(1)[0][0]}" if reasons else ""
    return [f"{missing} of {total} answers are unscored{reason}"]


def unscored_reason(evaluation: Evaluation) -> str | None:
    """The most frequent reason of its unscored items; None if all are scored."""
    common = _reasons(evaluation).most_common(1)
    return common[0][0] if common else None


def _reasons(evaluation: Evaluation) -> Counter[str]:
    outcomes = [result.outcome for leaf in evaluation.leaves.values() for result in leaf.results]
    return Counter(
        f"{o.reason.value}{f': {o.detail}' if o.detail else ''}" for o in outcomes if isinstance(o, Unscored)
    )


def measure_means(evaluation: Evaluation) -> dict[str, float]:
    """The means of the measures that the scores of an evaluation were made of."""
    measures: dict[str, list[float]] = {}
    for leaf in evaluation.leaves.values():
        for result in leaf.results:
            if isinstance(result.outcome, Score):
                for name, value in result.outcome.measures.items():
                    measures.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in measures.items()}


def mixture(coefficients: Mapping[str, float], most: int = 4) -> str:
    """The largest coefficients: "0.61 science + 0.44 cot - 0.12 sharegpt"."""
    parts = sorted(coefficients.items(), key=lambda part: -abs(part[1]))
    shown = [part for part in parts[:most] if abs(part[1]) >= 0.005]
    text = " ".join(f"{'-' if value < 0 else '+'} {abs(value):.2f} {name}" for name, value in shown).removeprefix("+ ")
    rest = sum(abs(value) >= 0.005 for _, value in parts) - len(shown)
    return text + (f" (+ {rest} more)" if rest > 0 else "")


def number(value: float | None, se: float | None = None) -> str:
    """A value, with its standard error if given; values above 1, such as ratings, have two decimals."""
    if value is None:
        return "-"
    if abs(value) >= 1e7:
        return f"{value:.3g}" if se is None else f"{value:.3g} ± {se:.3g}"
    digits = 4 if abs(value) <= 1 else 2
    return f"{value:.{digits}f}" if se is None else f"{value:.{digits}f} ± {se:.{digits}f}"


def plain_table(title: str) -> Table:
    """A table without lines, with its title on the left."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any."""
    total = int(seconds)
    hours, minutes = divmod(total // 60, 60)
    return f"{hours}:{minutes:02d}:{total % 60:02d}" if hours else f"{minutes}:{total % 60:02d}"


def judged_line(cost: Cost) -> str:
    """What the judges have cost so far."""
    usd = "price unknown" if cost.usd is None else f"${cost.usd:,.2f}"
    failed = f", {cost.failed} failed" if cost.failed else ""
    return (
        f"judges: {cost.requests:,} requests{failed}, {cost.cached:,} from the cache,"
        f" {cost.prompt_tokens + cost.completion_tokens:,} tokens, {usd}"
    )


def watched_line(watch: Watch) -> str:
    """The objective of the best mixture with scores on held-out items, text statistics and judge canaries."""
    text = f"monitor: objective {number(watch.objective)}, held-out {number(watch.hold_out)}"
    text += f" (best initial {number(watch.initial_hold_out)})"
    if watch.text_features:
        text += f", {watch.text_features['words']:.0f} words, {watch.text_features['repetition']:.0%} repeated"
        text += f", {watch.text_features['on_topic']:.0%} on topic"
    if watch.canaries:
        text += f", judge canaries at most {max(watch.canaries.values()):.2f}"
    return text


def winner_line(result: Result) -> str:
    """How the winner was selected, and the selection bias of its dev value."""
    winner = result.winner
    finalist = {
        "top-k-mean": "mean of the top mixtures",
        "best": "best mixture",
        "best_initial": "an initial expert (no mixture was better on the validation items)",
    }[winner.finalist]
    text = (
        f"winner: {finalist} ({result.evaluations} evaluated; optimiser {result.optimiser},"
        f" objective {result.objective})"
    )
    if winner.confirmed is not None:
        return f"{text}; value on the validation items: {number(winner.confirmed.value, winner.confirmed.se)}"
    if winner.optimism is None or winner.dev is None:
        return text
    bias = max(0.0, winner.optimism)
    return f"{text}; selection bias: about +{bias:.4f}; expected value on new dev-like items: {winner.dev - bias:.4f}"


def difference_line(label: str, difference: Difference) -> str:
    """A difference with its interval, in one sentence."""
    if difference.value is None:
        return f"{label}: not available ({difference.problem})"
    return (
        f"{label} on test: {difference.value:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
        " (paired bootstrap over items)"
    )


def cached_line(answers: int) -> str:
    """The number of answers that were not computed again, in one sentence."""
    return f"{answers:,} answers of the base model and the experts are from the cache; --no-cache computes them again"


def print_result(result: Result, console: Console) -> None:
    """Prints the end of a run: table, differences, winner, cost, the next commands, and last the conclusion."""
    console.print(result_table(result.rows, f"{result.task} ({result.edition})", best_initial=result.best_initial))

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(difference_line("winner - best initial", result.difference["winner_minus_best_initial"]))
    say(difference_line("winner - base", result.difference["winner_minus_base"]))
    say(f"winner = {mixture(result.winner.coefficients, most=5)}")
    say(winner_line(result))
    share = result.time_share
    if result.cached_answers:
        say(cached_line(result.cached_answers))
    say(
        f"{result.evaluations} evaluations in {clock(result.seconds)}; of the search {share.forward:.0%} forward pass,"
        f" {share.mixing:.0%} mixing, {share.scoring:.0%} scoring, {share.other:.0%} other"
    )
    if (noise := result.noise) is not None and noise.value is not None:
        say(
            f"noise floor: re-evaluating the winner in different batches changed its dev value by {noise.value:.4f}"
            f" ({noise.changed} of {noise.items} answers changed)"
        )
    if result.watched:
        tested = next((one.canaries for one in reversed(result.watched) if one.canaries), {})
        say(watched_line(result.watched[-1].model_copy(update={"canaries": tested})))
        for text in dict.fromkeys(one.warning for one in result.watched if one.warning):
            console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if result.judging is not None:
        say(judged_line(result.judging))
    say(f"run folder: {result.run}")
    mixes_tokens = result.engine == "token_mixture"
    if mixes_tokens:
        say(f"next: harness.load_token_mixture({result.winner.adapter!r}) is the winner as a model")
    else:
        say(f"next: the winner is an ordinary adapter folder, {result.winner.adapter}")
        verb = f"serve {result.run}" if installed_server() else f"merge {result.run} --out FOLDER"
        say(f"      python run.py {verb}")
    base = "" if result.model == "embedded" else f" --base-model {result.model}"
    task = result.task_given or result.task
    own = f"--task {task} --edition {result.edition}{base}"
    if not mixes_tokens:
        say(f"      python run.py evaluate {own} --experts {result.winner.adapter}")
    say(f"      python run.py report {result.run}")
    sentence = f"conclusion: {search_conclusion(result)}"
    console.print(sentence, style="bold", markup=False, highlight=False, soft_wrap=True)
