"""Agreement of the utility with people: six statistics, compared with a constant predictor and with other raters.

A pair is the utility's score of an answer and one rater's label of it; an answer that several raters labelled is
several pairs. So a utility is compared with single raters, as raters are with each other, and raters with few labels
need no special treatment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.labels import Labels
from utilities.lab.scores import ENOUGH_ITEMS, Answer
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["AGREEMENT", "agreement", "as_labels", "human_human", "krippendorff_alpha"]

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats, Floats], float]
"""Of scores [pairs], labels [pairs], and the classes [classes] in order; nan if undefined."""

RESAMPLES = 500
SLIGHT = 0.2
"""Upper limit of slight agreement beyond chance (Landis and Koch 1977)."""
MOST_CLASSES = 20
"""Largest number of distinct labels that are treated as classes."""


class _Measure(NamedTuple):
    compute: Statistic
    good: float
    """Published value of good utilities."""
    source: str
    classes: int | None
    """Smallest number of classes; None for statistics on ranks."""


def _same(scores: Floats, labels: Floats, classes: Floats) -> float:
    return float(np.mean(scores == labels))


def _kappa(scores: Floats, labels: Floats, classes: Floats, weights: str | None = None) -> float:
    from sklearn.metrics import cohen_kappa_score

    kinds = np.searchsorted(classes, scores), np.searchsorted(classes, labels)
    if len(np.unique(kinds)) < 2:  # one class on both sides: agreement equals chance
        return float("nan")
    return float(cohen_kappa_score(*kinds, labels=np.arange(len(classes)), weights=weights))


def _quadratic_kappa(scores: Floats, labels: Floats, classes: Floats) -> float:
    return _kappa(scores, labels, classes, "quadratic")


def _spearman(scores: Floats, labels: Floats, classes: Floats) -> float:
    from scipy import stats

    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(scores), stats.rankdata(labels))[0, 1])


def _kendall(scores: Floats, labels: Floats, classes: Floats) -> float:
    from scipy import stats

    return float(stats.kendalltau(scores, labels).statistic)


def _krippendorff(scores: Floats, labels: Floats, classes: Floats) -> float:
    return krippendorff_alpha(np.stack([scores, labels]))


def krippendorff_alpha(table: Floats) -> float:
    """Krippendorff's alpha of ordinal ratings [raters, answers], nan for a missing one; nan if it is not defined."""
    import krippendorff

    ratings = table[~np.isnan(table)]
    if ratings.size < 2 or np.ptp(ratings) == 0 or not ((~np.isnan(table)).sum(0) > 1).any():
        return float("nan")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))


AGREEMENT: Mapping[str, _Measure] = {
    "same_label": _Measure(_same, 0.81, "people on MT-Bench 0.81 (Zheng et al. 2023)", 2),
    "kappa": _Measure(_kappa, 0.41, "moderate 0.41 (Landis and Koch 1977)", 2),
    "quadratic_kappa": _Measure(_quadratic_kappa, 0.41, "moderate 0.41 (Landis and Koch 1977)", 3),
    "spearman": _Measure(_spearman, 0.51, "G-Eval on SummEval 0.51 (Liu et al. 2023)", None),
    "kendall": _Measure(_kendall, 0.42, "G-Eval on SummEval 0.42 (Liu et al. 2023)", None),
    "krippendorff": _Measure(_krippendorff, 0.667, "tentative conclusions 0.667 (Krippendorff 2004)", 2),
}


@dataclass(frozen=True)
class _Pairs:
    scores: Floats
    """[pairs]: scores of the utility."""
    kinds: Floats
    """[pairs]: the same as labels; see `as_labels`."""
    labels: Floats
    clusters: list[str]


def agreement(
    labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str] | None = None, seed: int = 0
) -> list[Finding]:
    """Agreement of a utility with raters, one finding per statistic, and the agreement between raters.

    The verdict is fail if the interval includes the constant predictor (0, or the share of the commonest label) or the
    agreement is at most slight; pass if it is as good as published utilities or as one rater for another; else warn. If
    raters agree little, half of their agreement counts as more than slight.
    For kappa, alpha and the share of same labels the scores become labels by `as_labels`.

    Args:
        labels: The labels.
        scored: The utility's scores of the labelled answers.
        clusters: Item to what it shares with others; the item itself if missing.
        seed: Seed of the bootstrap.
    """
    among = human_human(labels, clusters, seed)
    pairs = _paired(labels, scored, clusters or {})
    if isinstance(pairs, str):
        return [*(inapplicable(check, pairs) for check in AGREEMENT), among]
    classes = np.unique(pairs.labels)
    between_raters = _rater_pairs(labels)
    matched = {"answers": len({a for a in labels.answers if _has_score(scored, a)}), "labelled": len(labels.answers)}
    measured = [_measured(check, pairs, classes, between_raters, matched, seed) for check in AGREEMENT]
    return [*measured, among]


def human_human(labels: Labels, clusters: Mapping[str, str] | None = None, seed: int = 0) -> Finding:
    """Krippendorff's alpha (ordinal) between raters."""
    check = "human_human"
    if len(labels.raters) < 2:
        return inapplicable(check, "there is a single rater, so agreement between raters is unknown")
    table = labels.table
    shared = clusters or {}
    of_items = [shared.get(item, item) for item, _ in labels.answers]
    twice = int(((~np.isnan(table)).sum(0) > 1).sum())
    if twice < ENOUGH_ITEMS:
        return inapplicable(check, f"{twice} answers have labels by several raters, {ENOUGH_ITEMS} are needed")
    estimate = clustered_estimate(lambda index: krippendorff_alpha(table[:, index]), of_items, seed, RESAMPLES)
    if not np.isfinite(estimate.value):
        return inapplicable(check, "all labels are the same, so agreement beyond chance is not defined")
    low = estimate.low if estimate.low is not None else estimate.value
    verdict: Verdict = "pass" if estimate.value >= AGREEMENT["krippendorff"].good else "warn" if low > 0 else "fail"
    advice = {
        "pass": "the raters agree enough to be a reference",
        "warn": "the raters agree little: no utility can agree with all of them; check whether their task is clear",
        "fail": "the raters do not agree beyond chance: these labels are no reference",
    }[verdict]
    numbers = {"raters": len(labels.raters), "answers": twice}
    yardstick = "0.8 reliable, 0.667 for tentative conclusions (Krippendorff 2004)"
    return finding(check, verdict, advice, estimate, yardstick, numbers)


def as_labels(scores: Floats, labels: Floats) -> Floats:
    """Scores as labels: unchanged if every score is a label, else by rank, with the frequencies of the labels.

    The lowest scores become the lowest label, as many as there are such labels; equal scores stay equal. Only the
    frequencies of the labels are used, so nothing is fitted to single pairs.
    """
    from scipy import stats

    classes, counts = np.unique(labels, return_counts=True)
    if np.isin(scores, classes).all():
        return scores
    # Mid-ranks from 0 to 1 against the ends of the labels' shares.
    places = (stats.rankdata(scores) - 0.5) / scores.size
    by_rank: Floats = classes[np.searchsorted(np.cumsum(counts)[:-1] / counts.sum(), places)]
    return by_rank


def _measured(
    check: str,
    pairs: _Pairs,
    classes: Floats,
    between_raters: tuple[Floats, Floats] | None,
    matched: Mapping[str, int],
    seed: int,
) -> Finding:
    measure = AGREEMENT[check]
    if measure.classes is not None and len(classes) > MOST_CLASSES:
        return inapplicable(check, f"the labels have {len(classes)} different values and are not classes")
    if measure.classes is not None and len(classes) < measure.classes:
        return inapplicable(check, "there are only two classes, for which it equals kappa")
    values = pairs.scores if measure.classes is None else pairs.kinds
    estimate = clustered_estimate(
        lambda index: measure.compute(values[index], pairs.labels[index], classes), pairs.clusters, seed, RESAMPLES
    )
    constant = _commonest(pairs.labels) if check == "same_label" else 0.0
    human_value = measure.compute(*between_raters, np.unique(between_raters)) if between_raters else float("nan")
    has_human = bool(np.isfinite(human_value))
    yardstick = f"a constant {constant:.2f}; {measure.source}"
    yardstick += f"; one rater for another {human_value:.2f}" if has_human else ""
    numbers = {**matched, "constant": constant, "human_human": human_value, "pairs": len(pairs.labels)}
    if not np.isfinite(estimate.value):
        estimate = Estimate(constant, None, None)  # the utility is constant
    low = estimate.low if estimate.low is not None else constant
    slight = constant + (1 - constant) * SLIGHT
    if has_human:
        slight = min(slight, (constant + max(human_value, constant)) / 2)
    verdict: Verdict = (
        "pass" if estimate.value >= (min(measure.good, human_value) if has_human else measure.good) else "warn"
    )
    if low <= constant or estimate.value < slight:
        verdict = "fail"
    advice = {
        "pass": "it agrees with people about as well as published utilities",
        "warn": "it agrees better than a constant and worse than published utilities: see the largest disagreements",
        "fail": "a constant predictor agrees about as well: it does not measure what people labelled",
    }[verdict]
    return finding(check, verdict, advice, estimate, yardstick, numbers)


def _paired(labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str]) -> _Pairs | str:
    """The pairs, or the reason why there are too few."""
    answers = labels.answers
    matched = [k for k, answer in enumerate(answers) if _has_score(scored, answer)]
    if not matched:
        example = f"{answers[0][0]!r:.40}" if answers else "none"
        return f"none of the {len(answers)} labelled answers has a score; {labels.where} names items such as {example}"
    if (items := len({answers[k][0] for k in matched})) < ENOUGH_ITEMS:
        return f"{items} labelled items have a score, and below {ENOUGH_ITEMS} an interval is not informative"
    table = labels.table[:, matched]
    raters, columns = np.nonzero(~np.isnan(table))
    values = table[raters, columns]
    if np.ptp(values) == 0:
        return f"all labels of scored answers are {values[0]:g}: with one class there is no agreement beyond chance"
    by_answer = np.array([scored[answers[k]] for k in matched])
    scores = by_answer[columns]
    of_items = [clusters.get(answers[k][0], answers[k][0]) for k in matched]
    return _Pairs(scores, as_labels(scores, values), values, [of_items[k] for k in columns])


def _rater_pairs(labels: Labels) -> tuple[Floats, Floats] | None:
    """Labels of two raters for one answer, in both orders; None if too few answers have two."""
    table = labels.table
    if int(((~np.isnan(table)).sum(0) > 1).sum()) < ENOUGH_ITEMS:
        return None
    first, second = [], []
    for column in table.T:
        values = column[~np.isnan(column)]
        a, b = np.nonzero(~np.eye(values.size, dtype=bool))
        first.append(values[a])
        second.append(values[b])
    return np.concatenate(first), np.concatenate(second)


def _has_score(scored: Mapping[Answer, float], answer: Answer) -> bool:
    return bool(np.isfinite(scored.get(answer, np.nan)))


def _commonest(labels: Floats | Sequence[float]) -> float:
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
