"""Renders a finished or running comparison as tables, and writes `compare.csv`.

Tables fit 80 columns, so values have three decimals without the leading zero (two decimals if values exceed 1);
`compare.json` and `compare.csv` have full precision.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

from rich.console import Group, RenderableType
from rich.text import Text

from harness.compare.result import ALL_TASKS, Compared, Outcome, Ranking, Versus
from harness.compare.statistics import Summary, shown_reference, summary
from harness.display.tables import clock, plain_table

__all__ = ["COLUMNS", "MARKS", "comparison_tables", "live_view", "ranking_table", "task_table", "write_csv"]

MARKS = {"better": "▲", "worse": "▼", "tie": "="}
NEAR_BEST = "≈"


def comparison_tables(compared: Compared) -> RenderableType:
    """One table per task and, for several tasks, one of mean ranks; for complete and incomplete comparisons."""
    shown: list[RenderableType] = [task_table(compared, task) for task in compared.tasks]
    if compared.ranking is not None and len(compared.tasks) > 1:
        shown.append(ranking_table(compared, compared.ranking))
    return Group(*[part for one in shown for part in (one, Text())][:-1])


def live_view(compared: Compared) -> RenderableType:
    """Progress of a running comparison, and the table of the most recent task."""
    expected = len(compared.tasks) * len(compared.methods)
    settled = {(one.method, one.task) for one in compared.outcomes}
    settled |= {(one.method, one.task) for one in compared.absent}
    status = f"{len(settled)} of {expected} methods measured or absent, {clock(compared.seconds)}"
    task = compared.outcomes[-1].task if compared.outcomes else compared.tasks[0]
    return Group(Text(status, style="bold cyan"), task_table(compared, task))


def task_table(compared: Compared, task: str) -> RenderableType:
    """The methods on one task, the best on test first, with a legend and absent methods below."""
    by_method: dict[str, list[Outcome]] = {}
    for outcome in compared.outcomes:
        if outcome.task == task:
            by_method.setdefault(outcome.method, []).append(outcome)
    rows = {method: summary(outcomes) for method, outcomes in by_method.items()}
    order = sorted(rows, key=lambda method: _last_if_none(rows[method].test))
    pairs = {(v.method, v.reference): v for v in compared.versus if v.task == task}
    reference = shown_reference(compared)
    compared_to_reference = any(against == reference for _, against in pairs)
    best_dev, best_test = _highest(rows, "dev"), _highest(rows, "test")
    # not significantly different from the best on test
    near = {m for (m, against), v in pairs.items() if against in best_test and v.verdict == "tie"} - best_test

    shown = [value for row in rows.values() for value in (row.dev, row.test) if value is not None]
    digits = 3 if all(abs(value) <= 1 for value in shown) else 2
    table = plain_table(f"{task} ({compared.engine}, {compared.model}, budget {compared.budget})")
    table.add_column("method", overflow="fold")
    for name in (
        "dev",
        "test ± se",
        "",
        *([f"vs {reference}"] if compared_to_reference else []),
        "gap",
        "evals",
        "time",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for method in order:
        row = rows[method]
        cells = [
            Text(_label(compared, method, by_method[method]), style="bold" if method == reference else ""),
            Text(_number(row.dev, digits), style="bold" if method in best_dev else ""),
            Text(_with_se(row, digits), style="bold green" if method in best_test else ""),
            Text(NEAR_BEST if method in near else ""),
        ]
        if compared_to_reference:
            found = pairs.get((method, reference or ""))
            cells.append(
                Text("reference  " if method == reference else "") if found is None else _against(found, digits)
            )
        cells += [
            Text(_number(row.optimism, digits, "+")),
            Text(f"{row.evaluations:.0f}"),
            Text(_brief(row.seconds)),
        ]
        table.add_row(*cells)
    missing = {one.method for one in compared.absent if one.task == task}
    for method in compared.methods:
        if method not in rows and method not in missing:
            table.add_row(Text(method, style="dim"), Text("..", style="dim"))
    return Group(table, *_below(compared, task, rows, reference if compared_to_reference else None, bool(near), digits))


def _below(
    compared: Compared, task: str, rows: Mapping[str, Summary], reference: str | None, near: bool, digits: int
) -> list[Text]:
    """Lines below a table: legend, absent methods with reasons, and notes."""
    lines = []
    if reference is not None:
        floor = compared.noise_floor.get(task)
        lines.append(f"vs {reference}: {_legend(compared, task, reference)}" + _floor(floor, digits))
    if near:
        lines.append(f"{NEAR_BEST} not significantly different from the best test value (bold)")
    if rows:
        lines.append("gap = dev - test; subtract base's gap to get the selection bias")
    lines += list(_planned(compared, task, digits))
    lines += [f"{method}: no test value: {text}" for method, row in rows.items() for text in row.problems]
    tested = [(o.method, o.test) for o in compared.outcomes if o.task == task and o.test.unscored]
    lines += dict.fromkeys(f"{name}: {m.unscored} of {m.n + m.unscored} test items unscored" for name, m in tested)
    notes = dict.fromkeys((o.method, o.note) for o in compared.outcomes if o.task == task and o.note)
    lines += [f"{method}: {note}" for method, note in notes]
    lines += [f"absent: {one.method}: {one.reason}" for one in compared.absent if one.task == task]
    return [Text(line, style="dim") for line in lines]


def _planned(compared: Compared, task: str, digits: int) -> Iterator[str]:
    """A line for each planned contrast."""
    own = [one for one in compared.contrasts if one.task == task]
    if own:
        yield f"planned contrasts, with Holm's correction for {len(own)}:"
    for one in own:
        yield f"{one.method} - {one.reference}: {_against(one, digits).plain}, finds {_number(one.detectable, digits)}"


def ranking_table(compared: Compared, ranking: Ranking) -> RenderableType:
    """Mean ranks over tasks, groups that do not differ, tasks won, tied and lost, and the mean difference."""
    reference = shown_reference(compared)
    against = [v for v in compared.versus if v.reference == reference]
    over_all = {v.method: v for v in against if v.task == ALL_TASKS}
    digits = 3 if all(abs(v.difference) <= 1 for v in over_all.values()) else 2
    table = plain_table(f"over {len(compared.tasks)} tasks")
    table.add_column("method", overflow="fold")
    table.add_column("mean rank", justify="right", no_wrap=True)
    if ranking.cliques:
        table.add_column("group", no_wrap=True)
    if reference is not None:
        table.add_column("▲/=/▼", justify="right", no_wrap=True)
        table.add_column(f"mean difference to {reference}", justify="right", no_wrap=True)
    for method, rank in ranking.mean_rank.items():
        cells = [Text(method, style="bold" if method == reference else ""), Text(f"{rank:.2f}")]
        if ranking.cliques:
            members = zip(ascii_lowercase, ranking.cliques, strict=False)
            cells.append(Text("".join(letter if method in clique else " " for letter, clique in members)))
        verdicts = [v.verdict for v in against if v.method == method and v.task != ALL_TASKS]
        if reference is not None:
            won = "/".join(str(verdicts.count(verdict)) for verdict in ("better", "tie", "worse"))
            found = over_all.get(method)
            cells += [Text(won if verdicts else ""), Text("") if found is None else _against(found, digits)]
        table.add_row(*cells)
    lines = []
    if over_all and reference is not None:
        lines.append(f"{_legend(compared, ALL_TASKS, reference)}; ▲/=/▼ counts tasks")
    if ranking.critical_difference is not None:
        lines.append(
            f"methods with a letter in common do not differ in rank (Nemenyi, critical difference"
            f" {ranking.critical_difference:.2f}; Friedman p = {ranking.friedman_p or 0.0:.2g})"
        )
    lines += [ranking.note] if ranking.note else []
    return Group(table, *(Text(line, style="dim") for line in lines))


def _legend(compared: Compared, task: str, reference: str) -> str:
    family = [v.detectable for v in compared.versus if v.task == task and v.reference == reference]
    sizes = sorted(size for size in family if size is not None)
    power = f"; it finds differences of {sizes[len(sizes) // 2]:.2g} (power 80 %)" if sizes else ""
    one_seed = "; one seed of a random method is a tie" if len(compared.seeds) == 1 else ""
    return (
        f"95 % interval; ▲ better, ▼ worse, = tie, at 5 % with Holm's correction for {len(family)} methods"
        f"{power}{one_seed}"
    )


def _floor(floor: float | None, digits: int) -> str:
    return "" if floor is None else f"; up to {_number(floor, digits)} apart is a tie (noise floor)"


def _label(compared: Compared, method: str, outcomes: Sequence[Outcome]) -> str:
    """The method and, while seeds are missing, the number of finished seeds."""
    partial = outcomes[0].seed is not None and len(outcomes) < len(compared.seeds)
    return f"{method} {len(outcomes)}/{len(compared.seeds)}" if partial else method


def _highest(rows: Mapping[str, Summary], split: str) -> set[str]:
    """The methods with the highest value; several in case of ties."""
    values = {method: value for method, row in rows.items() if (value := getattr(row, split)) is not None}
    return {method for method, value in values.items() if value == max(values.values())}


def _last_if_none(value: float | None) -> float:
    return float("inf") if value is None else -value


def _number(value: float | None, digits: int, sign: str = "-") -> str:
    """Three decimals without the leading zero, or two with it; both have the same width."""
    if value is None:
        return "-"
    text = f"{value:{sign}z.{digits}f}"
    return text.replace("0.", ".", 1) if digits == 3 and abs(value) < 0.9995 else text


def _with_se(row: Summary, digits: int) -> str:
    value = _number(row.test, digits)
    return value if row.se is None or row.test is None else f"{value} ± {_number(row.se, digits)}"


def _against(found: Versus, digits: int) -> Text:
    low, high = _number(found.low, digits, "+"), _number(found.high, digits, "+")
    text = f"{_number(found.difference, digits, '+')} [{low}, {high}] {MARKS[found.verdict]}"
    return Text(text, style={"better": "green", "worse": "red", "tie": ""}[found.verdict])


def _brief(seconds: float) -> str:
    """A duration in at most five characters."""
    if seconds < 100:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 6000 else f"{seconds / 3600:.1f}h"


COLUMNS: dict[str, tuple[str, Callable[[Outcome], object]]] = {
    "method": ("name of the method", lambda o: o.method),
    "task": ("name of the task", lambda o: o.task),
    "seed": ("empty: the method draws no random number", lambda o: o.seed),
    "dev": ("value on the split that the method chose on", lambda o: o.dev.value),
    "dev_se": ("its standard error over items", lambda o: o.dev.se),
    "dev_n": ("scored dev items", lambda o: o.dev.n),
    "dev_unscored": ("dev items without a score", lambda o: o.dev.unscored),
    "dev_problem": ("why there is no value", lambda o: o.dev.problem),
    "test": ("value on the split that was read once", lambda o: o.test.value),
    "test_se": ("its standard error over items", lambda o: o.test.se),
    "test_n": ("scored test items", lambda o: o.test.n),
    "test_unscored": ("test items without a score", lambda o: o.test.unscored),
    "test_problem": ("why there is no value", lambda o: o.test.problem),
    "evaluations": ("full dev evaluations that choosing took", lambda o: o.evaluations),
    "items": ("answers to single items that choosing took", lambda o: o.items),
    "tokens": ("tokens generated for them", lambda o: o.tokens),
    "seconds": ("wall seconds of the method, without test", lambda o: o.seconds),
    "coefficients": ("JSON: expert to coefficient", lambda o: o.coefficients and json.dumps(o.coefficients)),
    "adapter": ("folder of the result", lambda o: o.adapter),
    "records": ("file with the per-item test results", lambda o: o.records),
    "note": ("what else must be known", lambda o: o.note),
}
"""The columns of `compare.csv`: name to meaning and getter. An empty cell is a missing value."""


def write_csv(compared: Compared, path: Path) -> None:
    """Writes a header and one line per outcome; the file is replaced atomically."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        lines.writerows([value(outcome) for _, value in COLUMNS.values()] for outcome in compared.outcomes)
    temporary.replace(path)
