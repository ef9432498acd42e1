"""Two or more runs side by side: their settings, coefficients, paired difference, and the items that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.display.conclusion import compared
from harness.display.tables import number
from harness.report.listing import listed
from harness.report.section import Cell, Table, number_cell
from harness.run_folder.read import Run
from harness.run_folder.result import Difference
from utilities.core import Evaluation, Score
from utilities.errors import UserError
from utilities.statistics import paired_difference

__all__ = ["Changed", "RunDifference", "difference_of", "paired", "runs_table"]


class Changed(BaseModel):
    """An item whose score differs between the winners of two runs."""

    model_config = ConfigDict(extra="forbid")

    item_set: str
    item: str
    question: str | None
    before: float | None
    """None if it is unscored, as below."""
    after: float | None
    response_before: str
    response_after: str


class RunDifference(BaseModel):
    """What differs between two runs, the second against the first."""

    model_config = ConfigDict(extra="forbid")

    first: str
    second: str
    settings: dict[str, tuple[Any, Any]]
    """Setting to its values in the first and the second run."""
    coefficients: dict[str, tuple[float, float]]
    """Expert to its coefficients in the winners; 0 if a run does not have it."""
    difference: Difference
    """Value on test of the second winner minus the first, paired."""
    conclusion: str
    items: int
    """Test items that both answered."""
    changed: list[Changed]
    """Items with another score, the largest changes first."""


def difference_of(first: Run, second: Run) -> RunDifference:
    """Compares the winners of two searches.

    Raises:
        UserError: A folder is not one of a finished search.
    """
    for run in (first, second):
        if run.study != "search":
            raise UserError(f"{run.folder} is a folder of `{run.study}`; `diff` compares two searches")
    before, after = first.winner.coefficients, second.winner.coefficients  # raises if a run is not finished
    one, two = first.models("test").get("winner"), second.models("test").get("winner")
    if one is None or two is None:
        missing = first if one is None else second
        raise UserError(f"{missing.folder} has no stored answers of its winner on test")
    names = sorted({*before, *after}, key=lambda name: -max(abs(before.get(name, 0)), abs(after.get(name, 0))))
    difference = paired(first, second, one, two)
    shared = _results(one).keys() & _results(two).keys()
    return RunDifference(
        first=str(first.folder),
        second=str(second.folder),
        settings=_settings(first, second),
        coefficients={name: (before.get(name, 0.0), after.get(name, 0.0)) for name in names},
        difference=difference,
        conclusion=compared(f"the winner of {second.folder}", f"that of {first.folder}", difference),
        items=len(shared),
        changed=_changed(first, second, one, two),
    )


def _settings(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    one, two = first.settings, second.settings
    found = {name: (one.get(name), two.get(name)) for name in {**one, **two} if one.get(name) != two.get(name)}
    for part in ("task", "data", "experts", "base", "commit"):  # content, by hash
        if part in first.document and first.document.get(part) != second.document.get(part):
            found[f"{part} (hash)" if part != "commit" else part] = (
                first.document.get(part),
                second.document.get(part),
            )
    return found


def _results(evaluation: Evaluation) -> dict[tuple[str, str], Any]:
    return {(part.partition(":")[0], r.item_id): r for part, leaf in evaluation.leaves.items() for r in leaf.results}


def paired(first: Run, second: Run, one: Evaluation, two: Evaluation) -> Difference:
    """The value of `two` minus that of `one` with its 95 % interval, or the reason why there is none."""

    def missing(problem: str) -> Difference:
        return Difference(value=None, low=None, high=None, problem=problem)

    mine, others = _results(one), _results(two)
    if mine.keys() != others.keys():
        return missing(f"they answered different items ({len(mine.keys() & others.keys())} in common)")
    if any(mine[key].prompt_hash != others[key].prompt_hash for key in mine):
        return missing("they were given different prompts")
    if problem := one.problem or two.problem:
        return missing(problem)
    hashes = [run.document.get("task") for run in (first, second)]
    if hashes[0] != hashes[1]:
        return missing("they were scored by different utilities")
    if first.combine is None and len(one.leaves) > 1:
        return missing("the task's combination of item sets cannot be read")
    found = paired_difference(two, one, first.combine or (lambda values: next(iter(values.values()))))
    if found is None:
        return missing("too few items were scored by both")
    return Difference(value=found.value, low=found.low, high=found.high)


def _changed(first: Run, second: Run, one: Evaluation, two: Evaluation) -> list[Changed]:
    mine, others = _results(one), _results(two)
    texts = {
        (name, item): text for (name, split, item), text in {**first.items, **second.items}.items() if split == "test"
    }
    found = []
    for name, item in mine.keys() & others.keys():
        a, b = mine[name, item], others[name, item]
        before, after = (r.outcome.value if isinstance(r.outcome, Score) else None for r in (a, b))
        if before != after:
            known = texts.get((name or first.first_item_set, item))
            question = None if known is None else known.question
            found.append(
                Changed(
                    item_set=name or first.first_item_set,
                    item=item,
                    question=question,
                    before=before,
                    after=after,
                    response_before=a.response.text,
                    response_after=b.response.text,
                )
            )
    return sorted(found, key=lambda c: (-abs((c.after or 0.0) - (c.before or 0.0)), c.item_set, c.item))


def runs_table(runs: Sequence[Run]) -> Table:
    """Several runs side by side, with the paired difference of each winner to that of the first run, if possible."""
    reference = runs[0].models("test").get("winner") if runs[0].study == "search" else None
    rows = []
    for run in runs:
        one = listed(run)
        text = ""
        if run is not runs[0] and reference is not None and run.study == "search":
            winner = run.models("test").get("winner")
            difference = None if winner is None else paired(runs[0], run, reference, winner)
            if difference is not None and difference.value is not None:
                text = f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
            elif difference is not None:
                text = difference.problem or ""
        cells = [Cell(one.folder), Cell(one.task), Cell(one.model), Cell(one.when), Cell(one.state)]
        cells += [
            number_cell(one.dev, number(one.dev)),
            number_cell(one.test, number(one.test, one.test_se)),
            Cell(text),
        ]
        rows.append(cells)
    columns = ["run", "task", "model", "when", "state", "dev", "test ± se", "difference to the first, on test"]
    return Table("Runs", columns, rows, ["dev", "test ± se"], note="Paired on the same items, with 95 % intervals.")
