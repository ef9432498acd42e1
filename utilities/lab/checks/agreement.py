"""Whether people agree with the utility: six statistics, each beside a constant predictor and people among themselves.

A pair is the utility's score of an answer and one rater's label of it; an answer that several raters labelled is
several pairs. So a utility is compared with single people, as people are with each other, and raters who labelled a few
answers each (a crowd) need no treatment of their own.
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

__all__ = ["AGREEMENT", "agreement", "as_labels", "human_human"]

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats, Floats], float]
"""Of scores [pairs], labels [pairs], and the classes [classes] in order; nan where it has no value."""

RESAMPLES = 500
SLIGHT = 0.2
"""Agreement beyond chance up to which it is called slight (Landis and Koch 1977): more than nothing, and of no use."""
MOST_CLASSES = 20
"""Distinct labels up to which they are classes."""


class _Measure(NamedTuple):
    compute: Statistic
    good: float
    """What is published of good ones."""
    source: str
    classes: int | None
    """Least number of classes that it needs; None where it reads the order of scores, whatever they are."""


def _same(scores: Floats, labels: Floats, classes: Floats) -> float:
    return float(np.mean(scores == labels))


def _kappa(scores: Floats, labels: Floats, classes: Floats, weights: str | None = None) -> float:
    from sklearn.metrics import cohen_kappa_score

    kinds = np.searchsorted(classes, scores), np.searchsorted(classes, labels)
    if len(np.unique(kinds)) < 2:  # nothing but one class on both sides: chance agrees as well
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
    return _alpha(np.stack([scores, labels]))


def _alpha(table: Floats) -> float:
    """Krippendorff's alpha of ordinal ratings [raters, answers] with nan where one is missing."""
    import krippendorff

    known = table[~np.isnan(table)]
    if known.size < 2 or np.ptp(known) == 0 or not ((~np.isnan(table)).sum(0) > 1).any():
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
    """[pairs]: the utility's, as they are."""
    kinds: Floats
    """[pairs]: the same as labels; see `as_labels`."""
    labels: Floats
    clusters: list[str]


def agreement(
    labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str] | None = None, seed: int = 0
) -> list[Finding]:
    """Agreement of a utility with raters, one finding a statistic, and that of the raters among themselves.

    The utility fails where the interval does not leave the constant predictor behind (0, or the share of the commonest
    label), or not by more than a slight agreement; passes where it is as good as published ones or as one rater is for
    another; and is warned of in between. Where raters agree little, half of their agreement is no longer slight.
    For kappa, alpha and the share of same labels the scores become labels by `as_labels`.

    Args:
        labels: What people said.
        scored: The utility's scores of the labelled answers; missing where it has none.
        clusters: Item to what it shares with others; itself where it is missing.
        seed: Of the bootstrap.
    """
    among = human_human(labels, clusters, seed)
    pairs = _paired(labels, scored, clusters or {})
    if isinstance(pairs, str):
        return [*(inapplicable(check, pairs) for check in AGREEMENT), among]
    classes = np.unique(pairs.labels)
    people = _people(labels)
    matched = {"answers": len({a for a in labels.answers if _known(scored, a)}), "labelled": len(labels.answers)}
    found = [_measured(check, pairs, classes, people, matched, seed) for check in AGREEMENT]
    return [*found, among]


def human_human(labels: Labels, clusters: Mapping[str, str] | None = None, seed: int = 0) -> Finding:
    """Krippendorff's alpha (ordinal) of the raters among themselves."""
    check = "human_human"
    if len(labels.raters) < 2:
        return inapplicable(check, "there is a single rater, so nobody knows how far people agree")
    table = labels.table
    known = clusters or {}
    of_items = [known.get(item, item) for item, _ in labels.answers]
    twice = int(((~np.isnan(table)).sum(0) > 1).sum())
    if twice < ENOUGH_ITEMS:
        return inapplicable(check, f"{twice} answers have labels by several raters, {ENOUGH_ITEMS} are needed")
    found = clustered_estimate(lambda index: _alpha(table[:, index]), of_items, seed, RESAMPLES)
    if not np.isfinite(found.value):
        return inapplicable(check, "all labels are the same, so agreement beyond chance is not defined")
    low = found.low if found.low is not None else found.value
    verdict: Verdict = "pass" if found.value >= AGREEMENT["krippendorff"].good else "warn" if low > 0 else "fail"
    advice = {
        "pass": "the raters agree enough to be a yardstick",
        "warn": "the raters agree little: no utility can agree with all of them; see whether their task is clear",
        "fail": "the raters do not agree beyond chance: these labels are no yardstick",
    }[verdict]
    numbers = {"raters": len(labels.raters), "answers": twice}
    yardstick = "0.8 reliable, 0.667 for tentative conclusions (Krippendorff 2004)"
    return finding(check, verdict, advice, found, yardstick, numbers)


def as_labels(scores: Floats, labels: Floats) -> Floats:
    """Scores as labels: as they are where each is one, else by their ranks, as often as the labels occur.

    The lowest scores become the lowest label, as many of them as there are such labels; equal scores stay equal. No
    pair is looked at, so nothing is fitted to the labels but how often each occurs.
    """
    from scipy import stats

    classes, counts = np.unique(labels, return_counts=True)
    if np.isin(scores, classes).all():
        return scores
    # Mid-ranks from 0 to 1 against the ends of the labels' shares.
    places = (stats.rankdata(scores) - 0.5) / scores.size
    found: Floats = classes[np.searchsorted(np.cumsum(counts)[:-1] / counts.sum(), places)]
    return found


def _measured(
    check: str,
    pairs: _Pairs,
    classes: Floats,
    people: tuple[Floats, Floats] | None,
    matched: Mapping[str, int],
    seed: int,
) -> Finding:
    measure = AGREEMENT[check]
    if measure.classes is not None and len(classes) > MOST_CLASSES:
        return inapplicable(check, f"the labels have {len(classes)} different values and are no classes")
    if measure.classes is not None and len(classes) < measure.classes:
        return inapplicable(check, "there are two classes only, for which it is the same as kappa")
    said = pairs.scores if measure.classes is None else pairs.kinds
    found = clustered_estimate(
        lambda index: measure.compute(said[index], pairs.labels[index], classes), pairs.clusters, seed, RESAMPLES
    )
    constant = _commonest(pairs.labels) if check == "same_label" else 0.0
    human = measure.compute(*people, np.unique(people)) if people else float("nan")
    known = bool(np.isfinite(human))
    yardstick = f"a constant {constant:.2f}; {measure.source}"
    yardstick += f"; one rater for another {human:.2f}" if known else ""
    numbers = {**matched, "constant": constant, "human_human": human, "pairs": len(pairs.labels)}
    if not np.isfinite(found.value):
        found = Estimate(constant, None, None)  # the utility says the same of every answer: it is the constant
    low = found.low if found.low is not None else constant
    slight = constant + (1 - constant) * SLIGHT
    if known:
        slight = min(slight, (constant + max(human, constant)) / 2)
    verdict: Verdict = "pass" if found.value >= (min(measure.good, human) if known else measure.good) else "warn"
    if low <= constant or found.value < slight:
        verdict = "fail"
    advice = {
        "pass": "it agrees with people about as well as good ones do",
        "warn": "it agrees better than a constant and less than good ones: look at where it and people differ most",
        "fail": "a constant predictor agrees about as well: it does not measure what people labelled",
    }[verdict]
    return finding(check, verdict, advice, found, yardstick, numbers)


def _paired(labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str]) -> _Pairs | str:
    """The pairs, or why there are none to speak of."""
    answers = labels.answers
    matched = [k for k, answer in enumerate(answers) if _known(scored, answer)]
    if not matched:
        example = f"{answers[0][0]!r:.40}" if answers else "none"
        return f"none of the {len(answers)} labelled answers has a score; {labels.where} names items such as {example}"
    if (items := len({answers[k][0] for k in matched})) < ENOUGH_ITEMS:
        return f"{items} labelled items have a score, and below {ENOUGH_ITEMS} an interval says nothing"
    table = labels.table[:, matched]
    raters, columns = np.nonzero(~np.isnan(table))
    said = table[raters, columns]
    if np.ptp(said) == 0:
        return f"all labels of scored answers are {said[0]:g}: with one class there is no agreement beyond chance"
    by_answer = np.array([scored[answers[k]] for k in matched])
    scores = by_answer[columns]
    of_items = [clusters.get(answers[k][0], answers[k][0]) for k in matched]
    return _Pairs(scores, as_labels(scores, said), said, [of_items[k] for k in columns])


def _people(labels: Labels) -> tuple[Floats, Floats] | None:
    """Labels of two raters for one answer, in both orders; None where too few answers have two."""
    table = labels.table
    if int(((~np.isnan(table)).sum(0) > 1).sum()) < ENOUGH_ITEMS:
        return None
    first, second = [], []
    for column in table.T:
        said = column[~np.isnan(column)]
        a, b = np.nonzero(~np.eye(said.size, dtype=bool))
        first.append(said[a])
        second.append(said[b])
    return np.concatenate(first), np.concatenate(second)


def _known(scored: Mapping[Answer, float], answer: Answer) -> bool:
    return bool(np.isfinite(scored.get(answer, np.nan)))


def _commonest(labels: Floats | Sequence[float]) -> float:
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
