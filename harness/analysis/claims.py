"""What the stored answers of finished searches say about claims of the paper; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from harness.analysis.diamond import diamond_lines, initial_rank
from harness.analysis.emergence import AFTER, BEFORE, RANDOM, emergence_lines
from harness.analysis.result import Claim, Line, Verdict, verdict
from harness.analysis.stored import Correctness, correctness, final_population, initial_experts
from harness.run_folder.read import Run
from utilities.core import Evaluation, Split
from utilities.errors import UserError

__all__ = ["Answers", "diamond", "emergence", "interval", "not_measured"]

T = TypeVar("T")
Answers = Mapping[str, Sequence[Evaluation]]
"""Group of models (particles, random mixtures) to evaluations on the same split."""


def interval(line: Line, scale: float = 100.0, digits: int = 1) -> str:
    """A value with its interval, in per cent by default."""
    value = f"{line.value * scale:.{digits}f}"
    if line.low is None or line.high is None:
        return value
    return f"{value} ({line.low * scale:.{digits}f} to {line.high * scale:.{digits}f})"


def not_measured(claim: Claim, reason: str) -> Claim:
    """The claim without a measurement."""
    return claim.model_copy(update={"here": "-", "verdict": "not measured", "sentence": f"Not measured: {reason}."})


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
    """Claim 1: the search answers questions that no initial expert answers.

    On dev the final population is the stored one. On test a search stores only its winner's answers; `more` may have
    those of the population, and of random mixtures, by run folder.
    """
    more = more or {}
    claim = Claim(
        analysis="emergence",
        claim=f"particles answer questions that no initial expert answers ({split})",
        paper="36.0 to 53.5 % of them (dev)",
        here="-",
        verdict="not measured",
        sentence="",
    )

    def measure(run: Run) -> tuple[str, Correctness]:
        own = dict(more.get(str(run.folder), {}))
        if AFTER not in own:
            own[AFTER] = list(final_population(run).values()) if split == "dev" else [run.models("test")["winner"]]
        groups = {BEFORE: initial_experts(run, split), **own}
        return str(run.settings["task"]), correctness(run, split, groups)

    cells, reasons = collected(runs, measure)
    if not cells:
        return not_measured(claim, reasons)
    lines = {line.label: line for line in emergence_lines(cells)}
    if not lines:
        return not_measured(claim, "the initial experts answer every question")
    particles, experts, mixtures = (
        _span([len(data.right.get(group, ())) for _, data in cells]) for group in (AFTER, BEFORE, RANDOM)
    )
    emerged, alone = lines["emerged"], particles == "1"
    by = "the winner" if alone else f"at least one of {particles} particles"
    sentence = f"{interval(emerged)} % of {emerged.n} questions that no initial expert answers are answered by {by}"
    decision: Verdict = "not decided"
    for name, control in (
        ("one uniform guesser" if alone else f"{particles} uniform guessers", "guessed"),
        (f"{mixtures} random mixtures", "random"),  # the better control: they know what the experts know
    ):
        if (line := lines.get(f"emerged - {control}")) is not None:
            sentence += f"; control, {name}: {100 * (line.control or 0):.1f} %, difference {interval(line)} points"
            decision = verdict(line.low, line.high)
    if particles not in {"1", experts}:
        same = lines["emerged, as many particles as experts"]
        sentence += f". Of {experts} particles, as many as there are experts, it would be {interval(same)} %"
    if (surged := lines.get("surged")) is not None:
        sentence += f". {interval(surged)} % of all questions are answered by more particles than experts, of as many"
    return claim.model_copy(
        update={
            "here": f"{interval(emerged)} %",
            "verdict": decision,
            "sentence": f"{sentence}.",
            "lines": list(lines.values()),
        }
    )


def diamond(runs: Sequence[Run]) -> Claim:
    """Claim 2: the particle that ends best was a weak one at the start."""
    claim = Claim(
        analysis="diamond",
        claim="the particle that ends best started in the bottom half",
        paper="56.9 % in the bottom half, 10.4 % first",
        here="-",
        verdict="not measured",
        sentence="",
    )
    ranks, reasons = collected(runs, initial_rank)
    if not ranks:
        return not_measured(claim, reasons)
    first, bottom = diamond_lines(ranks)
    chance = f"{100 * (bottom.control or 0):.1f} and {100 * (first.control or 0):.1f} % for a random order"
    low, high = (None if end is None else end - (bottom.control or 0) for end in (bottom.low, bottom.high))
    return claim.model_copy(
        update={
            "here": f"{interval(bottom)} % in the bottom half, {interval(first)} % first",
            "verdict": verdict(low, high),
            "sentence": f"Searches: {bottom.n}. The particle that ended best started in the bottom half in"
            f" {interval(bottom)} % of them, and as the first in {interval(first)} %; control: {chance}.",
            "lines": [first, bottom],
        }
    )


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
