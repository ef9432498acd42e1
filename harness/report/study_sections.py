"""The sections of a report on a comparison, a sweep, a lab and the claims of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from harness.analysis.result import Analysed
from harness.compare.result import Compared, Outcome, Versus
from harness.compare.statistics import Summary, shown_reference, summary
from harness.display.conclusion import Standing, compared, standing
from harness.display.tables import clock, number
from harness.lab.result import Examination, Examined
from harness.lab.table import figure_of
from harness.report.answers import SideBySide, compared_answers
from harness.report.charts import Mark, bars, interval, scatter
from harness.report.search_section import details_of, when
from harness.report.section import Cell, Figure, Section, Table, number_cell
from harness.run_folder.read import BASE, Run
from harness.run_folder.result import Difference
from harness.sweep.result import Swept
from utilities.core import Evaluation, Split

__all__ = ["analyse_section", "compare_section", "lab_section", "sweep_section"]


def _section(run: Run, title: str, subtitle: str) -> Section:
    return Section(title, subtitle, [], details=list(details_of(run.document)), folder=str(run.folder))


def _unfinished(run: Run, what: str) -> Section:
    section = _section(run, run.folder.name, what)
    section.conclusions.append(f"The {what} is not finished: it is {run.state}; the same command resumes it.")
    return section


def _stored(run: Run, records: Mapping[str, str]) -> dict[str, Evaluation]:
    """The evaluations in files of records, by name; missing files are left out."""
    found = {}
    for name, path in records.items():
        if evaluations := run.evaluations(Path(path).stem):
            found[name] = next(iter(evaluations.values()))
    return found


# -- compare -----------------------------------------------------------------------------------------------------------


def compare_section(run: Run) -> Section:
    """The section of a comparison."""
    one = run.read("compare.json", Compared)
    if one is None:
        return _unfinished(run, "comparison")
    section = _section(
        run, ", ".join(one.tasks), f"comparison, {one.model}, budget {one.budget} evaluations, {when(run)}"
    )
    reference = shown_reference(one)
    for task in one.tasks:
        _add_task(run, section, one, task, reference)
    section.warnings += [f"{a.method} was not measured on {a.task}: {a.reason}." for a in one.absent]
    section.facts += [("time", clock(one.seconds)), ("seeds", ", ".join(map(str, one.seeds))), ("engine", one.engine)]
    if one.ranking is not None and len(one.tasks) > 1:
        rows = [[Cell(name), number_cell(rank, f"{rank:.2f}")] for name, rank in one.ranking.mean_rank.items()]
        section.tables.append(
            Table("Mean rank over the tasks", ["method", "mean rank"], rows, ["mean rank"], note=one.ranking.note or "")
        )
    return section


def _add_task(run: Run, section: Section, one: Compared, task: str, reference: str | None) -> None:
    """The conclusion, the table and the answers of one task."""
    by_method: dict[str, list[Outcome]] = {}
    for outcome in one.outcomes:
        if outcome.task == task:
            by_method.setdefault(outcome.method, []).append(outcome)
    rows = {method: summary(outcomes) for method, outcomes in by_method.items()}
    values = {method: row.test for method, row in rows.items() if row.test is not None}
    if not values:
        section.conclusions.append(f"{task}: no method has a test value.")
        return
    best = max(values, key=values.__getitem__)
    pairs = {v.method: v for v in one.versus if v.task == task and v.reference == reference}
    sentence, known = _against(task, best, values[best], reference, pairs.get(best))
    section.conclusions.append(sentence)
    if len(section.conclusions) == 1:
        section.standing = known
    section.tables.append(_methods(task, rows, pairs, reference, best))
    names = dict.fromkeys(name for name in ("base", reference or "", best) if name in by_method)
    stored = _stored(run, {name: by_method[name][0].records for name in names})
    if len(stored) > 1:
        items = run.items_of(task)
        first = next((name for name, _, _ in items), "")
        section.answers.append((task if len(one.tasks) > 1 else "", compared_answers(stored, items, "test", first)))


def _against(task: str, best: str, value: float, reference: str | None, pair: Versus | None) -> tuple[str, Standing]:
    if reference is None or pair is None:
        return f"{task}: {best} has the highest value on test, {number(value)}.", "not known"
    difference = Difference(value=pair.difference, low=pair.low, high=pair.high)
    text = compared(f"{best} ({number(value)}, the highest on test)", reference, difference)
    known = standing(difference)
    if known == "better" and pair.verdict == "tie":
        text, known = f"{text[:-1]}; with Holm's correction or the noise floor it is a tie.", "not certainly better"
    return f"{task}: {text}", known


def _methods(
    task: str, rows: Mapping[str, Summary], pairs: Mapping[str, Versus], reference: str | None, best: str
) -> Table:
    ends = [end for pair in pairs.values() for end in (pair.low, pair.high)]
    low, high = min(ends, default=-1.0), max(ends, default=1.0)
    order = sorted(rows, key=lambda method: -(row if (row := rows[method].test) is not None else float("-inf")))
    cells = []
    for method in order:
        row, pair = rows[method], pairs.get(method)
        line = [Cell(method), number_cell(row.dev, number(row.dev)), number_cell(row.test, number(row.test, row.se))]
        if pair is None or high <= low:
            line += [Cell("reference" if method == reference else ""), Cell("")]
        else:
            kind = {"better": "winner", "worse": "base", "tie": "expert"}[pair.verdict]
            mark = Mark(method, pair.difference, pair.low, pair.high, kind)
            line += [
                number_cell(pair.difference, f"{pair.difference:+.4f}"),
                Cell("", pair.difference, interval(mark, low, high)),
            ]
        line += [number_cell(row.evaluations, f"{row.evaluations:.0f}"), number_cell(row.seconds, f"{row.seconds:.0f}")]
        cells.append(line)
    against = f"difference to {reference}"
    columns = ["method", "dev", "test ± se", against, "95 % interval", "evaluations", "seconds"]
    return Table(
        task,
        columns,
        cells,
        numbers=["dev", "test ± se", against, "evaluations", "seconds"],
        marked=[order.index(best)],
        note="Paired differences on the same test items, with intervals over items and seeds; the vertical line is 0.",
    )


# -- analyse -----------------------------------------------------------------------------------------------------------


def analyse_section(run: Run) -> Section:
    """The section of a study of the paper's claims."""
    one = run.read("analyse.json", Analysed)
    if one is None:
        return _unfinished(run, "study")
    section = _section(run, "Claims of the paper", f"analyse, {len(one.runs)} searches, {when(run)}")
    section.conclusions += [f"{claim.claim}: {claim.verdict}." for claim in one.claims]
    columns = ["claim of the paper", "there", "here, with 95 % interval", "holds?"]
    rows = [[Cell(text) for text in (c.claim, c.paper, c.here, c.verdict)] for c in one.claims]
    section.tables.append(Table("Claims", columns, rows))
    section.notes += [claim.sentence for claim in one.claims]
    section.facts += [("searches", ", ".join(one.runs)), ("sizes", one.settings)]
    return section


# -- sweep -------------------------------------------------------------------------------------------------------------


def sweep_section(run: Run) -> Section:
    """The section of a sweep."""
    one = run.read("sweep.json", Swept)
    if one is None:
        return _unfinished(run, "sweep")
    section = _section(run, f"{one.task} ({one.edition})", f"sweep, {one.model}, {len(one.trials)} trials, {when(run)}")
    defaults, initial = one.difference["picked_minus_defaults"], one.difference["picked_minus_best_initial"]
    section.standing = standing(defaults)
    picked = f"the picked trial ({one.picked.trial})"
    section.conclusions.append(
        "The defaults are the best trial: no swept value was better on the picking fold."
        if one.picked.trial == 0
        else compared(picked, "the defaults", defaults)
    )
    section.conclusions.append(compared(picked, f"the best initial expert ({one.best_initial.expert})", initial))
    finals = {f"picked, trial {one.picked.trial}": one.picked, "defaults, trial 0": one.defaults}
    finals[f"best initial, {one.best_initial.expert}"] = one.best_initial
    rows = [
        [
            Cell(name),
            number_cell(f.picking, number(f.picking)),
            number_cell(f.confirming.value, number(f.confirming.value, f.confirming.se)),
            number_cell(f.shrinkage, "-" if f.shrinkage is None else f"{f.shrinkage:+.4f}"),
            number_cell(f.test.value, number(f.test.value, f.test.se)),
        ]
        for name, f in finals.items()
    ]
    columns = ["model", "picking", "confirming ± se", "shrinkage", "test ± se"]
    note = "Trials search and are ranked on the picking fold; none of them saw the confirming fold. Test was read once."
    section.tables.append(Table("Values", columns, rows, columns[1:], [0], note))
    names = list(one.trials[0].parameters) if one.trials else []
    trials = [
        [
            number_cell(t.number, f"{t.number}{' (defaults)' if t.number == 0 else ''}"),
            *(number_cell(t.parameters[name], f"{t.parameters[name]:g}") for name in names),
            number_cell(t.value, number(t.value)),
            number_cell(t.evaluations, str(t.evaluations)),
            number_cell(t.seconds, clock(t.seconds)),
        ]
        for t in one.trials
    ]
    columns = ["trial", *names, "value", "evaluations", "time"]
    marked = [k for k, t in enumerate(one.trials) if t.number == one.picked.trial]
    section.tables.append(Table("Trials", columns, trials, columns[1:], marked))
    if one.importance:
        section.figures.append(
            Figure("Importance of the hyperparameters", bars(one.importance), "PED-ANOVA; the shares add up to 1.")
        )
    if one.picked.coefficients:
        section.figures.append(Figure("What the picked mixture is made of", bars(one.picked.coefficients)))
    section.facts += [
        ("time", clock(one.seconds)),
        ("budget", f"{one.budget} evaluations a trial"),
        ("sampler", one.sampler),
        ("engine", one.engine),
    ]
    expert = str(one.best_initial.expert)
    stored = _stored(
        run, {expert: one.best_initial.records, "defaults": one.defaults.records, "picked": one.picked.records}
    )
    if len(stored) > 1:
        section.answers.append(("", compared_answers(stored, run.items, "test", run.first_item_set)))
    return section


# -- lab ---------------------------------------------------------------------------------------------------------------


def lab_section(run: Run) -> Section:
    """The section of a lab."""
    one = run.read("lab.json", Examination)
    if one is None:
        return _unfinished(run, "lab")
    about = f"lab, {one.model}, {one.dev_items} dev and {one.test_items} test items, {one.made}"
    section = _section(run, f"{one.task} ({one.edition})", about)
    for design in one.designs:
        reasons = ", ".join(reason.partition(":")[0] for reason in design.conclusion.reasons)
        section.conclusions.append(
            f"{design.design} is {design.conclusion.fitness}{f'; reasons: {reasons}' if reasons else ''}."
        )
        section.notes += _not_made(design)
        section.tables.append(_findings(design))
        points = [
            (model.name, "base" if model.name == BASE else "expert", model.dev.value, model.test.value)
            for model in design.models
            if model.test is not None and model.dev.value is not None and model.test.value is not None
        ]
        if len(points) > 1:
            section.figures.append(
                Figure(f"{design.design}: dev and test", scatter(points), "On the dashed line dev and test are equal.")
            )
    fitness = [design.conclusion.fitness for design in one.designs]
    section.standing = (
        "better" if fitness[0] == "fit as objective" else "worse" if fitness[0] == "not fit" else "not certainly better"
    )
    for searched in one.searched:
        section.notes.append(
            f"Searches with {searched.design} as the objective reach {number(searched.test)} on test by the task's own"
            " scorer."
        )
    section.facts += [
        ("time", clock(one.seconds)),
        ("engine", one.engine or "stored answers"),
        ("experts", str(len(one.experts))),
    ]
    if one.judges:
        section.facts.append(("judges", ", ".join(one.judges)))
    section.answers += _rated_answers(run, one)
    return section


def _rated_answers(run: Run, one: Examination) -> list[tuple[str, SideBySide]]:
    """Answers of the base model and of the best expert on dev, with the scores of all designs that scored the same
    answers; designs that pose other prompts have answers of their own."""
    splits: tuple[Split, Split] = ("test", "dev")
    split: Split = next((s for s in splits if _lab_answers(run, one, 0, s)), "test")
    stored = {design.design: _lab_answers(run, one, k, split) for k, design in enumerate(one.designs)}
    values = {m.name: m.dev.value for m in one.designs[0].models if m.name != BASE and m.dev.value is not None}
    names = [BASE, *([max(values, key=values.__getitem__)] if values else one.experts[:1])]
    shown: dict[frozenset[str], tuple[str, SideBySide]] = {}
    for label, models in stored.items():
        chosen = {name: models[name] for name in names if name in models}
        prompts = frozenset(r.prompt_hash for e in chosen.values() for leaf in e.leaves.values() for r in leaf.results)
        if prompts and prompts not in shown:
            others = {other: of for other, of in stored.items() if other != label}
            answers = compared_answers(chosen, run.items, split, run.first_item_set, others)
            shown[prompts] = (label if len(stored) > 1 else "", answers)
    return list(shown.values())


def _lab_answers(run: Run, one: Examination, number: int, split: Split) -> dict[str, Evaluation]:
    """The evaluations of the base model and the experts by one design; empty without stored answers on the split."""
    part = f"designs/{number + 1:02d}"
    names = {
        "base": BASE,
        **{f"expert-{name}": name for name in one.experts},
        **{name: name for name in (BASE, *one.experts)},
    }
    found = {}
    for path in sorted((run.folder / part / "records").glob(f"*-{split}.parquet")):
        for label, evaluation in run.evaluations(path.stem, part).items():
            if label in names:
                found[names[label]] = evaluation
    return found


def _not_made(design: Examined) -> list[str]:
    """Checks that were not made, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for f in design.findings:
        if f.verdict == "not applicable":
            reasons.setdefault(f.advice, []).append(f.title)
    return [
        f"{design.design}, not checked: {', '.join(titles)} ({reason.rstrip('.')})."
        for reason, titles in reasons.items()
    ]


def _findings(design: Examined) -> Table:
    """Failed checks first."""
    rows = []
    order = {"fail": 0, "warn": 1, "pass": 2, "not applicable": 3}
    for f in sorted(design.findings, key=lambda f: order[f.verdict]):
        if f.verdict == "not applicable":
            continue
        ends = "" if f.low is None or f.high is None else f" [{figure_of(f.low)}, {figure_of(f.high)}]"
        cells = [
            Cell("", order[f.verdict], Markup('<span class="tag {0}">{0}</span>').format(f.verdict)),
            Cell(f.title),
            number_cell(f.value, "" if f.value is None else f"{figure_of(f.value)}{ends}"),
        ]
        rows.append([*cells, Cell(f.yardstick), Cell(f.advice)])
    columns = ["verdict", "check", "value [95 % interval]", "reference", "advice"]
    return Table(design.design, columns, rows, ["value [95 % interval]"])
