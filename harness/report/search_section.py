"""The section of a report on one search, or on one `evaluate --out`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from harness.analysis.stored import particles_of
from harness.analysis.trajectory import principal_plane
from harness.display.conclusion import evaluation_conclusion, search_conclusion, standing
from harness.display.tables import clock, judged_line, measure_means, number, winner_line
from harness.report.answers import side_by_side
from harness.report.charts import Mark, bars, interval, scatter, search_over_time, trajectory, watch
from harness.report.section import Cell, Figure, Section, Table, number_cell
from harness.run_folder.events import Finished, Note, Started
from harness.run_folder.read import BASE, Run
from harness.run_folder.result import Result, Row
from utilities.core import Evaluation, Split
from utilities.errors import UserError

__all__ = ["details_of", "evaluate_section", "measured_mark", "search_section", "when"]

NORMAL = 1.96
"""Standard errors on each side of a 95 % interval."""


def when(run: Run) -> str:
    """The day and time at which a run was finished, or was last active."""
    at = next((event.at for event in reversed(run.events)), None)
    if at is None:
        at = (run.folder / "settings.yaml").stat().st_mtime
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def details_of(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The values of `settings.yaml` by their paths; unset ones are left out."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from details_of(value, f"{prefix}{name}.")
        elif value not in (None, [], ""):
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def measured_mark(name: str, value: float | None, se: float | None, kind: str) -> Mark | None:
    """A value with its normal 95 % interval; None without a value."""
    if value is None:
        return None
    half = NORMAL * (se or 0.0)
    return Mark(name, value, value - half, value + half, kind)


def search_section(run: Run) -> Section:
    """The section of a search, finished or not."""
    started = next((event for event in reversed(run.events) if isinstance(event, Started)), None)
    result = run.result
    settings = run.settings
    task = result.task if result else started.task if started else str(settings.get("task"))
    edition = result.edition if result else started.edition if started else None
    model = result.model if result else settings.get("base_model")
    section = Section(
        title=f"{task} ({edition})" if edition else task,
        subtitle=f"search, {model}, seed {settings.get('seed')}, {when(run)}",
        conclusions=[],
        details=list(details_of(run.document)),
        folder=str(run.folder),
    )
    if result is None:
        iterations = (
            f"after iteration {run.iterations[-1].iteration}" if run.iterations else "before its first iteration"
        )
        section.conclusions.append(
            f"The search is not finished: it is {run.state} {iterations}, so there is no test value."
        )
    else:
        section.conclusions.append(search_conclusion(result))
        section.standing = (
            standing(result.difference["winner_minus_best_initial"]) if result.difference else "not known"
        )
        section.warnings += dict.fromkeys(_sentence(one.warning) for one in result.watched if one.warning)
        section.warnings += _overlaps(result)
        section.facts += _facts(run, result)
        section.tables.append(_table(result))
        section.figures.append(_mixture(result))
    if not run.scores.empty:
        section.figures.append(_over_time(run, result))
    if result is not None:
        section.figures += [*_dev_and_test(result), *_watched(result), *_trajectory(run)]
        section.answers += _answers(run, "test")
    section.notes += dict.fromkeys(_sentence(event.text) for event in run.events if isinstance(event, Note))
    return section


def evaluate_section(run: Run) -> Section:
    """The section of the folder of `evaluate --out`."""
    split: Split = "test" if run.document.get("evaluated") == "test" else "dev"
    models = run.models(split)
    settings = run.settings
    combine = run.combine
    section = Section(
        title=str(settings.get("task")),
        subtitle=f"evaluation on {split}, {settings.get('base_model')}, {when(run)}",
        conclusions=["No stored answers: the evaluation was interrupted."],
        details=list(details_of(run.document)),
        folder=str(run.folder),
    )
    if not models:
        return section
    if combine is not None and BASE in models:
        section.conclusions = [evaluation_conclusion(models, BASE, split, combine)]
    else:
        section.conclusions = ["Nothing is concluded: the task's combination of item sets cannot be read."]
    section.tables.append(_evaluated(models, split))
    section.answers += _answers(run, split)
    return section


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _answers(run: Run, split: Split) -> list[tuple[str, Any]]:
    try:
        answers = side_by_side(run, split)
    except UserError:
        return []
    return [("", answers)] if answers.items else []


def _overlaps(result: Result) -> list[str]:
    return [
        f"{count} test items of {name} also occur in dev, so the test value is optimistic."
        for name, count in result.overlap.items()
        if count
    ]


def _table(result: Result) -> Table:
    """Values on dev and test with intervals."""
    marks = {row.name: measured_mark(row.name, row.test, row.test_se, _kind(row, result)) for row in result.rows}
    known = [mark for mark in marks.values() if mark is not None]
    low, high = min((m.low for m in known), default=0.0), max((m.high for m in known), default=1.0)
    high = high if high > low else low + 1
    others = list(dict.fromkeys(name for row in result.rows for name in row.report_only))
    rows = []
    for row in result.rows:
        mark = marks[row.name]
        drawing = Cell("no value") if mark is None else Cell("", mark.value, interval(mark, low, high))
        name = f"{row.name} (best initial)" if row.name == result.best_initial else row.name
        cells = [
            Cell(name),
            number_cell(row.dev, number(row.dev, row.dev_se)),
            number_cell(row.test, number(row.test, row.test_se)),
        ]
        cells += [drawing, number_cell(row.n, str(row.n)), number_cell(row.unscored, str(row.unscored))]
        for other in others:
            one = row.report_only.get(other)
            cells.append(Cell("") if one is None else number_cell(one.value, number(one.value, one.se)))
        rows.append(cells)
    return Table(
        "Values",
        ["model", "dev ± se", "test ± se", "95 % interval on test", "items", "unscored", *others],
        rows,
        numbers=["dev ± se", "test ± se", "items", "unscored", *others],
        marked=[k for k, row in enumerate(result.rows) if row.kind == "winner"],
        note="± is the standard error over items, clustered by source. The winner was chosen on dev, so its dev value"
        " is biased upwards; test was read once. Intervals of single values may overlap although the paired difference"
        " is certain.",
    )


def _evaluated(models: Mapping[str, Evaluation], split: str) -> Table:
    marks = {
        name: measured_mark(name, e.value, e.se, "base" if name == BASE else "expert") for name, e in models.items()
    }
    known = [mark for mark in marks.values() if mark is not None]
    low, high = min((m.low for m in known), default=0.0), max((m.high for m in known), default=1.0)
    means = {name: measure_means(e) for name, e in models.items()}
    measures = sorted({measure for of in means.values() for measure in of})
    rows = []
    for name, e in models.items():
        mark = marks[name]
        drawing = (
            Cell("no value")
            if mark is None
            else Cell("", mark.value, interval(mark, low, high if high > low else low + 1))
        )
        cells = [Cell(name), number_cell(e.value, number(e.value, e.se)), drawing]
        cells += [number_cell(e.n, str(e.n)), number_cell(e.n_unscored, str(e.n_unscored))]
        rows.append([*cells, *(number_cell(means[name].get(m), number(means[name].get(m))) for m in measures)])
    columns = ["model", "value ± se", "95 % interval", "items", "unscored", *measures]
    return Table(f"Values on {split}", columns, rows, numbers=["value ± se", "items", "unscored", *measures])


def _kind(row: Row, result: Result) -> str:
    return "initial" if row.name == result.best_initial else row.kind


def _mixture(result: Result) -> Figure:
    caption = winner_line(result)
    if result.winner.groups:
        caption += f"; means over {len(result.winner.groups)} groups of modules"
    return Figure("What the winner is made of", bars(result.winner.coefficients), _sentence(caption))


def _over_time(run: Run, result: Result | None) -> Figure:
    scores = list(zip(run.scores["evaluations"], run.scores["metric"], strict=True))
    best, highest = [], float("-inf")
    for at, value in scores:
        if value > highest:
            highest = value
            best.append((at, value))
    shown = (
        {}
        if result is None
        else {row.name: row for row in result.rows if row.kind != "expert" or row.name == result.best_initial}
    )
    marks = [measured_mark(name, row.test, row.test_se, _kind(row, result)) for name, row in shown.items() if result]
    final = [mark for mark in marks if mark is not None]
    caption = "Each dot is one row of the search on dev; the line is the best metric so far."
    if result is not None and result.objective != "metric":
        caption += f" The search maximised the {result.objective} objective, so its best row may lie below the line."
    if final:
        caption += " At the right: values on test, which was read once, with 95 % intervals."
    return Figure("The search over time", search_over_time(scores, best, final, "metric"), caption)


def _trajectory(run: Run) -> list[Figure]:
    """The rows in the plane of their first two principal components; none if the checkpoint is missing."""
    try:
        data = particles_of(run)
    except UserError:
        return []
    plane = principal_plane(data.rows)
    points = [(float(a), float(b), float(v)) for (a, b), v in zip(plane.points, data.values, strict=True)]
    particles = data.particles.tolist()
    paths = [[p for p, of in zip(points, particles, strict=True) if of == k] for k in sorted(set(particles))]
    caption = (
        f"The rows of coefficients in the plane of their first two principal components, which has {plane.share:.0%} of"
        " their variance; the darker, the higher the metric on dev."
    )
    return [Figure("The path of the search", trajectory(paths, bool(run.iterations[-1].best)), caption)]


def _dev_and_test(result: Result) -> list[Figure]:
    """Where dev and test differ: the points, and by how much more the winner's values differ than those of the rest."""
    points = [
        (r.name, _kind(r, result), r.dev, r.test) for r in result.rows if r.dev is not None and r.test is not None
    ]
    if len(points) < 2:
        return []
    gaps = {name: dev - test for name, _, dev, test in points}
    others = [gap for name, gap in gaps.items() if name != "winner"]
    caption = "On the dashed line dev and test are equal."
    if "winner" in gaps and others:
        mean = sum(others) / len(others)
        more = gaps["winner"] - mean
        caption += (
            f" Dev minus test is {gaps['winner']:+.4f} for the winner and {mean:+.4f} on average for the models that"
            " were not searched: "
        )
        caption += (
            f"{more:+.4f} more, from choosing the winner on dev and from chance."
            if more > 0
            else "the winner loses no more from dev to test than they do."
        )
    if result.winner.optimism is not None:
        caption += f" Estimated selection bias of the winner on dev: {max(0.0, result.winner.optimism):+.4f}."
    return [Figure("Where dev and test differ", scatter(points), caption)]


def _watched(result: Result) -> list[Figure]:
    looks = [(one.iteration, one.objective, one.hold_out) for one in result.watched]
    if not any(value is not None for _, *pair in looks for value in pair):
        return []
    last = result.watched[-1]
    parts = [f"{name.replace('_', ' ')} {number(value)}" for name, value in last.text_features.items()]
    caption = "The objective that the search maximised, beside dev items that it never used."
    if parts:
        caption += f" Of the last winner's answers: {', '.join(parts)}."
    canaries = next((one.canaries for one in reversed(result.watched) if one.canaries), {})
    if canaries:
        worst = max(canaries, key=canaries.__getitem__)
        caption += f" The judge gave bad answers made by construction at most {canaries[worst]:.2f} ({worst})."
    return [Figure("Watch for over-optimisation", watch(looks), caption)]


def _facts(run: Run, result: Result) -> list[tuple[str, str]]:
    share = result.time_share
    facts = [
        ("time", clock(result.seconds)),
        ("evaluations", f"{result.evaluations:,} on dev, {result.item_evaluations:,} answers"),
        *([("from the cache", f"{result.cached_answers:,} answers on dev and test")] if result.cached_answers else []),
        ("time share", f"{share.forward:.0%} model, {share.mixing:.0%} mixing, {share.scoring:.0%} scoring"),
        ("search", f"{result.optimiser}, objective {result.objective}, {len(result.experts)} experts"),
        ("engine", result.engine),
        (
            "ended",
            next((event.reason for event in reversed(run.events) if isinstance(event, Finished)), result.stopped),
        ),
    ]
    if result.noise is not None and result.noise.value is not None:
        noise = result.noise
        facts.append(("noise floor", f"{number(noise.value)} ({noise.changed} of {noise.items} answers changed)"))
    if result.judging is not None:
        facts.append(
            ("judges", f"{', '.join(result.judging.judges)}; {judged_line(result.judging).removeprefix('judges: ')}")
        )
    return facts
