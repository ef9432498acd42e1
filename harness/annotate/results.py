"""What raters said: wins, ties and losses of the winner, how far raters agree, and the run's own scores beside it.

All figures are of the first showing of each pair; repeated pairs measure only how far raters agree with themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from harness.annotate.pairs import Key
from harness.annotate.verdicts import Verdict, key_of, latest, read_verdicts
from utilities.lab.checks.agreement import krippendorff_alpha
from utilities.standard_error import two_way_se
from utilities.statistics import clustered_estimate

__all__ = ["Results", "Share", "evaluate_verdicts", "result_lines"]

PAPER = "paper, 16 topics: comparable or better in 85 % of the topics by a judge, 70.8 % win rate by people"
FEW_RATERS = 5


class Share(BaseModel):
    """A figure with its 95 % interval; null if it cannot be computed."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    """Verdicts, or pairs."""


class Results(BaseModel):
    """The result of an annotation."""

    model_config = ConfigDict(frozen=True)

    annotation: str
    run: str
    other: str
    raters: list[str]
    instructions: int
    verdicts: int
    win: Share
    tie: Share
    """Both good or both bad."""
    loss: Share
    at_least_as_good: Share
    win_rate: Share
    """Wins among the verdicts without ties."""
    both_good: int
    both_bad: int
    first_side: Share
    """How often the left answer won among verdicts without ties; one half without a preference for a side."""
    alpha: Share
    """Krippendorff's alpha (ordinal) between raters on loss, tie, win; n is pairs with several raters."""
    self_agreement: Share
    """Repeated pairs on which a rater gave the same verdict with swapped sides."""
    scores: Share
    """Verdicts without ties whose better answer has the higher score in the run."""
    kappa: float | None
    """Cohen's kappa of these verdicts and the order of the scores."""
    names_model: int
    """Verdicts on pairs in which an answer names a model."""
    identical: int
    """Instructions with identical answers, which raters did not see."""


class _Rated(NamedTuple):
    verdict: Verdict
    source: str
    outcome: int
    """1 if the winner is better, 0 for a tie, -1 if it is worse."""


def evaluate_verdicts(files: Sequence[Path], folders: Sequence[Path]) -> Results:
    """The results of verdict files.

    Args:
        files: Verdicts of one annotation, by any number of raters.
        folders: Where its key may be.

    Raises:
        UserError: Files that cannot be read, of several annotations, or without their key.
    """
    lines = read_verdicts(files)
    return results_of(latest(lines), key_of(lines, folders))


def results_of(verdicts: Sequence[Verdict], key: Key) -> Results:
    """The results of verdicts, at most one of a rater for a pair."""
    rated = [_Rated(one, key.pairs[one.pair].source, _outcome(one, key)) for one in verdicts]
    first = [one for one in rated if key.pairs[one.verdict.pair].repeats is None]
    decided = [one for one in first if one.outcome]
    words = [one.verdict.verdict for one in first]
    scored = [(one, sign) for one in decided if (sign := _score_sign(key, one.verdict.pair)) is not None]
    kappa = math.nan
    if len({one.outcome for one, _ in scored} | {sign for _, sign in scored}) > 1:
        kappa = float(cohen_kappa_score([one.outcome for one, _ in scored], [sign for _, sign in scored]))
    return Results(
        annotation=key.id,
        run=key.run,
        other=key.other,
        raters=sorted({one.verdict.rater for one in rated}),
        instructions=len({one.verdict.pair for one in first}),
        verdicts=len(first),
        win=_share(first, lambda one: one.outcome > 0),
        tie=_share(first, lambda one: one.outcome == 0),
        loss=_share(first, lambda one: one.outcome < 0),
        at_least_as_good=_share(first, lambda one: one.outcome >= 0),
        win_rate=_share(decided, lambda one: one.outcome > 0),
        both_good=words.count("both good"),
        both_bad=words.count("both bad"),
        first_side=_share(decided, lambda one: one.verdict.verdict == "a"),
        alpha=_alpha(first),
        self_agreement=_self_agreement(rated, key),
        scores=_share([one for one, _ in scored], lambda one: one.outcome == _score_sign(key, one.verdict.pair)),
        kappa=kappa if math.isfinite(kappa) else None,
        names_model=sum(key.pairs[one.verdict.pair].names_model is not None for one in first),
        identical=key.identical,
    )


def _outcome(verdict: Verdict, key: Key) -> int:
    if verdict.verdict not in ("a", "b"):
        return 0
    return 1 if verdict.verdict == key.pairs[verdict.pair].winner else -1


def _score_sign(key: Key, number: int) -> int | None:
    pair = key.pairs[number]
    if pair.score is None or pair.other_score is None:
        return None
    return int(np.sign(pair.score - pair.other_score))


def _share(rated: Sequence[_Rated], holds: Callable[[_Rated], bool]) -> Share:
    """A share of verdicts with Wilson's interval for the effective number of independent verdicts.

    The effective number is p (1 - p) / se^2, where se allows for correlation within instructions and within raters; for
    a share of 0 or 1, whose se is 0, it is the number of sources.
    """
    if not rated:
        return Share(value=None, n=0)
    values = [float(holds(one)) for one in rated]
    sources, raters = [one.source for one in rated], [one.verdict.rater for one in rated]
    p, se = float(np.mean(values)), two_way_se(values, sources, raters)
    if se is None:
        return Share(value=p, n=len(values))
    n = min(len(values), p * (1 - p) / se**2 if se else np.inf) if 0 < p < 1 else len(set(sources))
    z = float(stats.norm.ppf(0.975))
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return Share(value=p, low=max(0.0, low), high=min(1.0, high), n=len(values))


def _alpha(rated: Sequence[_Rated]) -> Share:
    pairs = sorted({one.verdict.pair for one in rated})
    raters = sorted({one.verdict.rater for one in rated})
    table: NDArray[np.float64] = np.full((len(raters), len(pairs)), np.nan)
    sources = dict.fromkeys(pairs, "")
    for one in rated:
        table[raters.index(one.verdict.rater), pairs.index(one.verdict.pair)] = one.outcome
        sources[one.verdict.pair] = one.source
    several = int(((~np.isnan(table)).sum(0) > 1).sum())
    if not several:
        return Share(value=None, n=0)
    estimate = clustered_estimate(
        lambda index: krippendorff_alpha(table[:, index]), [sources[pair] for pair in pairs], resamples=500
    )
    if not math.isfinite(estimate.value):
        return Share(value=None, n=several)
    return Share(value=estimate.value, low=estimate.low, high=estimate.high, n=several)


def _self_agreement(rated: Sequence[_Rated], key: Key) -> Share:
    first = {(one.verdict.rater, one.verdict.pair): one for one in rated}
    again = [one for one in rated if (one.verdict.rater, key.pairs[one.verdict.pair].repeats) in first]

    def same(one: _Rated) -> bool:
        before = first[one.verdict.rater, key.pairs[one.verdict.pair].repeats or 0]
        return (one.outcome, one.outcome or one.verdict.verdict) == (
            before.outcome,
            before.outcome or before.verdict.verdict,
        )

    return _share(again, same)


def result_lines(results: Results) -> list[str]:
    """The results in sentences."""
    few = len(results.raters) < FEW_RATERS
    lines = [
        f"{results.verdicts} verdicts of {len(results.raters)} raters on {results.instructions} instructions: winner of"
        f" {results.run} against {results.other}",
        f"win {_text(results.win)}, tie {_text(results.tie)}, loss {_text(results.loss)}",
        f"ties: {results.both_good} both good, {results.both_bad} both bad",
        f"winner at least as good: {_text(results.at_least_as_good)}",
        f"win rate without ties: {_text(results.win_rate)}",
        f"({PAPER})",
        f"agreement between raters: {_alpha_text(results.alpha)}",
        f"same verdict on repeated pairs with swapped sides: {_text(results.self_agreement)}",
        f"left answer preferred: {_text(results.first_side)} (0.5 without a preference for a side)",
    ]
    kappa = "" if results.kappa is None else f", Cohen's kappa {results.kappa:.2f}"
    lines.append(f"the run's own scores prefer the same answer: {_text(results.scores)}{kappa}")
    if results.identical:
        lines.append(f"not counted, because both answers are the same: {results.identical} instructions")
    if results.names_model:
        lines.append(f"{results.names_model} verdicts are on pairs in which an answer names a model")
    lines.append(
        "intervals: 95 %, clustered by instruction and rater"
        + (f"; with fewer than {FEW_RATERS} raters they say little about other raters" if few else "")
    )
    return lines


def _text(share: Share) -> str:
    if share.value is None:
        return "no data"
    interval = "no interval" if share.low is None else f"{share.low:.2f} to {share.high:.2f}"
    return f"{share.value:.2f} ({interval}, n = {share.n})"


def _alpha_text(alpha: Share) -> str:
    if alpha.value is None:
        return "not defined: " + ("all verdicts are the same" if alpha.n else "no pair has verdicts of several raters")
    interval = "" if alpha.low is None else f", {alpha.low:.2f} to {alpha.high:.2f}"
    return f"Krippendorff's alpha {alpha.value:.2f}{interval} ({alpha.n} pairs; 0.8 reliable, 0.667 tentative)"
