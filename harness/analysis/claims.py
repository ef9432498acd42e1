"""What the stored answers of finished searches say about claims of the paper; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from harness.analysis.diamond import diamond_lines, initial_rank
from harness.analysis.emergence import AFTER, BEFORE, RANDOM, emergence_lines
from harness.analysis.result import Claim, Verdict, measured, not_measured, verdict
from harness.analysis.stored import Correctness, correctness, final_population, initial_experts
from harness.run_folder.read import Run
from utilities.core import Evaluation, Split
from utilities.errors import UserError

__all__ = ["Answers", "diamond", "emergence"]

T = TypeVar("T")
Answers = Mapping[str, Sequence[Evaluation]]
"""Group of models (particles, random mixtures) to evaluations on the same split."""


def collected(runs: Sequence[Run], measure: Callable[[Run], T]) -> tuple[list[T], str]:
    """What could be measured of the runs, and the reasons why some could not be."""
    found, reasons = [], []
    for run in runs:
        try:
            found.append(measure(run))
        except UserError as error:
            reasons.append(str(error))
    return found, "; ".join(dict.fromkeys(reasons))


def emergence(runs: Sequence[Run], split: Split, more: Mapping[str, Answers] | None = None) -> Claim:
    """The claim that the search answers questions that no initial expert answers.

    On dev the final population is the stored one. On test a search stores only its winner's answers; `more` may have
    those of the population, and of random mixtures, by run folder.
    """
    more = more or {}

    def measure(run: Run) -> tuple[str, Correctness]:
        own = dict(more.get(str(run.folder), {}))
        if AFTER not in own:
            own[AFTER] = list(final_population(run).values()) if split == "dev" else [run.models("test")["winner"]]
        groups = {BEFORE: initial_experts(run, split), **own}
        return str(run.settings["task"]), correctness(run, split, groups)

    cells, reasons = collected(runs, measure)
    if not cells:
        return not_measured("emergence", reasons, split)
    lines = {line.label: line for line in emergence_lines(cells)}
    if not lines:
        return not_measured("emergence", "the initial experts answer every question", split)
    particles, experts, mixtures = (
        _span([len(data.right.get(group, ())) for _, data in cells]) for group in (AFTER, BEFORE, RANDOM)
    )
    emerged, alone = lines["emerged"], particles == "1"
    by = "the winner" if alone else f"at least one of {particles} particles"
    sentence = f"{emerged.text} % of {emerged.n} questions that no initial expert answers are answered by {by}"
    decision: Verdict = "not decided"
    for name, control in (
        ("one uniform guesser" if alone else f"{particles} uniform guessers", "guessed"),
        (f"{mixtures} random mixtures", "random"),  # the better control: they know what the experts know
    ):
        if (line := lines.get(f"emerged - {control}")) is not None:
            sentence += f"; control, {name}: {100 * (line.control or 0):.1f} %, difference {line.text} points"
            decision = verdict(line.low, line.high)
    if particles not in {"1", experts}:
        same = lines["emerged, as many particles as experts"]
        sentence += f". Of {experts} particles, as many as there are experts, it would be {same.text} %"
    if (surged := lines.get("surged")) is not None:
        sentence += f". {surged.text} % of all questions are answered by more particles than experts, of as many"
    sentence += f". Not measured: {reasons}." if reasons else "."
    return measured("emergence", sentence, decision, f"{emerged.text} %", list(lines.values()), split)


def diamond(runs: Sequence[Run]) -> Claim:
    """The claim that the particle that ends best was a weak one at the start."""
    ranks, reasons = collected(runs, initial_rank)
    if not ranks:
        return not_measured("diamond", reasons)
    first, bottom = diamond_lines(ranks)
    chance = f"{100 * (bottom.control or 0):.1f} and {100 * (first.control or 0):.1f} % for a random order"
    low, high = (None if end is None else end - (bottom.control or 0) for end in (bottom.low, bottom.high))
    sentence = (
        f"Searches: {bottom.n}. The particle that ended best started in the bottom half in {bottom.text} % of them, and"
        f" as the first in {first.text} %; control: {chance}." + (f" Not measured: {reasons}." if reasons else "")
    )
    here = f"{bottom.text} % in the bottom half, {first.text} % first"
    return measured("diamond", sentence, verdict(low, high), here, [first, bottom])


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
