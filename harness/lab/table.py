"""Renders a lab in 80 columns: the conclusion, one row per check with its advice, and a comparison of designs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.display.tables import plain_table
from harness.lab.result import Examination, Examined, Searched
from utilities.lab.designs import Designs
from utilities.lab.finding import Finding, Fitness, Verdict

__all__ = ["FITNESS", "examination_tables", "figure_of"]

MARKS: dict[Verdict, tuple[str, str]] = {
    "pass": ("pass", "green"),
    "warn": ("warn", "yellow"),
    "fail": ("fail", "bold red"),
    "not applicable": ("-", "dim"),
}
FITNESS: dict[Fitness, str] = {
    "fit as objective": "bold green",
    "not decided": "bold yellow",
    "fit as report only": "bold yellow",
    "not fit": "bold red",
}
WIDTHS = (4, 48, 26)
"""Widths of verdict, check and value; with the spaces between them, 80 columns."""


def examination_tables(examination: Examination) -> RenderableType:
    """One table per design, and the comparisons of several designs."""
    shown: list[RenderableType] = [design_table(examination, one) for one in examination.designs]
    if examination.compared is not None:
        shown.append(comparison_table(examination.compared))
    if examination.searched:
        shown.append(search_table(examination.searched))
    return Group(*[part for one in shown for part in (one, Text())][:-1])


def design_table(examination: Examination, examined: Examined) -> RenderableType:
    """The conclusion on one design, its checks (failed ones first, passed ones on one line), and those not made."""
    x = examination
    engine = x.engine or "stored answers"
    about = f"{len(x.experts)} experts, {x.dev_items} dev and {x.test_items} test items, {engine}, {x.model}"
    conclusion = examined.conclusion
    lines: list[RenderableType] = [Text(f"{examined.design}: {conclusion.fitness}", style=FITNESS[conclusion.fitness])]
    if conclusion.reasons:
        lines.append(Padding(Text("reasons: " + "; ".join(map(_brief, conclusion.reasons))), (0, 0, 0, 5)))
    lines += [
        Text(f"on {x.task} ({x.edition}); {about}", style="dim"),
        _row(Text(), Text("check", style="bold"), Text("value [95 % interval]", style="bold")),
    ]
    for verdict in ("fail", "warn", "pass"):
        for finding in examined.findings:
            if finding.verdict == verdict:
                lines += _finding_rows(finding)
    lines += list(_left_out(examined.findings))
    return Group(*lines)


def _finding_rows(finding: Finding) -> list[RenderableType]:
    """Verdict, check and value; below a check that did not pass the reference value and the advice."""
    mark, style = MARKS[finding.verdict]
    rows: list[RenderableType] = [_row(Text(mark, style=style), Text(finding.title), Text(_value(finding)))]
    if finding.verdict == "pass":
        return rows
    if finding.yardstick:
        rows.append(Padding(Text(f"reference: {finding.yardstick}", style="dim"), (0, 0, 0, 5)))
    return [*rows, Padding(Text(finding.advice), (0, 0, 0, 5))]


def _row(*cells: Text) -> Table:
    row = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for width in WIDTHS:
        row.add_column(width=width, overflow="fold")
    row.add_row(*cells)
    return row


def _brief(reason: str) -> str:
    """The title of the check in a reason; the advice is in its row."""
    title, _, advice = reason.partition(": ")
    return f"{title} (not shown)" if advice.startswith("not shown") else title


def _left_out(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """Checks that do not apply, one line per reason."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.verdict == "not applicable":
            reasons.setdefault(finding.advice, []).append(finding.title)
    for reason, titles in reasons.items():
        yield Text(f"not applicable: {', '.join(titles)}: {reason}", style="dim")


def _value(finding: Finding) -> str:
    value = figure_of(finding.value)
    if finding.low is None or finding.high is None:
        return value
    return f"{value} [{figure_of(finding.low)}, {figure_of(finding.high)}]"


def figure_of(value: float | None) -> str:
    """A number in at most six characters, so that a value and its interval fit into a column."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e5:
        return f"{value:.0e}".replace("e+0", "e")
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:z.2f}" if size >= 0.01 or size == 0 else f"{value:.0e}".replace("e-0", "e-")


def comparison_table(designs: Designs) -> RenderableType:
    """Comparison of designs: separation of the experts, cost, and agreement of the experts' ranks."""
    table = plain_table("comparison of designs on the same experts and items")
    table.add_column("design", overflow="fold", ratio=1)
    for name in ("best expert", "separable", "signal/noise", "items", "s each"):
        table.add_column(name, justify="right", overflow="fold")
    for one in designs.designs:
        table.add_row(
            one.name,
            one.best or "-",
            "-" if one.separation is None else f"{one.separation:.0%}",
            figure_of(one.signal_to_noise),
            figure_of(one.items_needed),
            figure_of(one.cost.get("evaluation_seconds")),
        )
    lines = [
        "separable: pairs of experts; items: needed to see a difference of 5 % of the",
        "range of the scores; s each: seconds of one evaluation",
    ]
    agreed = [
        f"{one.first} and {one.second}: "
        + (one.note if one.tau is None else f"{figure_of(one.tau)} [{figure_of(one.low)}, {figure_of(one.high)}]")
        for one in designs.agreements
    ]
    return Group(
        table,
        *(Text(line, style="dim") for line in lines),
        Text("Kendall's tau of the experts' ranks:"),
        *(Padding(Text(line), (0, 0, 0, 1)) for line in agreed),
    )


def search_table(searched: Sequence[Searched]) -> RenderableType:
    """Test values of searches with each design as the objective."""
    trials = searched[0].trials
    evaluations = max(trial.evaluations for one in searched for trial in one.trials)
    table = plain_table(
        f"as objectives: {len(trials)} search{'es' * (len(trials) > 1)} each, {evaluations} evaluations"
    )
    table.add_column("design", overflow="fold", ratio=1)
    for name in ("test, by the task", "below the best", "seconds"):
        table.add_column(name, justify="right", overflow="fold")
    for one in searched:
        behind = "best" if one.behind == 0 and one.low is None else figure_of(one.behind)
        if one.low is not None:
            behind += f" [{figure_of(one.low)}, {figure_of(one.high)}]"
        seconds = sum(trial.seconds for trial in one.trials) / len(one.trials)
        table.add_row(one.design, figure_of(one.test), behind, figure_of(seconds))
    sure = [one.design for one in searched if one.low is not None and one.low > 0]
    summary = (
        f"significantly worse than the best: {', '.join(sure)}"
        if sure
        else "no design is significantly worse than the best"
    )
    return Group(table, Text(summary, style="dim"))
