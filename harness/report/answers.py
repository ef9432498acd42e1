"""Answers of several models to the same items, side by side: what was fixed, what was broken, and in which order.

>>> shown = side_by_side(run, "test")
>>> [one.item for one in shown.items if "fixed" in one.tags]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.run_folder.read import BASE, Run
from utilities.core import Evaluation, Item, ItemResult, Score, Split
from utilities.errors import UserError

__all__ = ["TAGS", "Answer", "Claim", "Judgement", "ShownItem", "SideBySide", "compared_answers", "side_by_side"]

TAGS = {
    "fixed": "the first model was wrong (or scored lower) and the last one is right (or scores higher)",
    "broken": "the first model was right (or scored higher) and the last one is wrong (or scores lower)",
    "both wrong": "neither is right; with graded scores, both are in the lowest quarter of all scores shown",
    "unscored": "an answer has no score",
    "disagreement": "two judges rate an answer a quarter of the scale or more apart, or two scorers half of their"
    " scales; without judges and other scorers, the models' answers differ",
}
"""Filters of a report, and what they mean. "First" is the best initial expert, or the base model without one."""
APART = 0.25
"""Share of the scale by which two judges' ratings of one answer must differ to count as a disagreement."""
APART_SCORERS = 0.5
"""The same for two scorers, whose scales are the ranges of the scores shown."""


@dataclass(frozen=True)
class Judgement:
    """What a judge wrote about an answer."""

    judge: str
    rating: float | None
    words: str


@dataclass(frozen=True)
class Claim:
    """A claim of an answer, with the evidence and the verdict of the judges."""

    text: str
    verdict: str
    evidence: list[tuple[str, str]]
    """Source and text of each passage."""
    votes: list[Judgement]


@dataclass(frozen=True)
class Answer:
    """The answer of one model to one item."""

    model: str
    text: str
    score: float | None
    unscored: str | None
    """The reason and its description, if there is no score."""
    judgements: list[Judgement] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: str = ""
    """Notes of a scorer that are neither judgements nor claims."""
    measures: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    """Scores of the same answer by other scorers, by scorer."""


@dataclass(frozen=True)
class ShownItem:
    """One item with the answers of all models."""

    item_set: str
    item: str
    question: str | None
    """None if the text is not stored and the task's data cannot be read."""
    options: Mapping[str, str]
    gold: str | None
    answers: list[Answer]
    tags: list[str]
    change: float
    """Score of the last model minus score of the first; 0 if one is missing."""


@dataclass(frozen=True)
class SideBySide:
    """Items in the order of interest: largest changes first, then disagreements, unscored and wrong answers."""

    split: Split
    models: list[str]
    items: list[ShownItem]
    graded: bool
    """Whether there are scores other than 0 and 1."""

    def counts(self) -> dict[str, int]:
        """The number of items with each tag."""
        return {tag: sum(tag in one.tags for one in self.items) for tag in TAGS}

    @property
    def without_text(self) -> bool:
        """Whether no question is known."""
        return bool(self.items) and all(one.question is None for one in self.items)


def side_by_side(run: Run, split: Split, models: Sequence[str] = ()) -> SideBySide:
    """The answers of a run's final models on a split.

    Args:
        run: A run of `search` or `evaluate`.
        split: The split.
        models: Names of models; by default the base model, the best initial expert and the winner, or after `evaluate`
            the base model and the best expert.

    Raises:
        UserError: A model has no stored answers.
    """
    stored = run.models(split)
    names = list(models) or _usual(run, stored)
    for name in names:
        if name not in stored:
            raise UserError(
                f"{run.folder} has no answers of {name!r} on {split}; stored are those of {', '.join(stored) or 'none'}"
            )
    chosen = {name: stored[name] for name in names}
    return compared_answers(chosen, run.items, split, run.first_item_set, run.other_scores(split))


def _usual(run: Run, stored: Mapping[str, Evaluation]) -> list[str]:
    if run.study == "search" and run.result is not None:
        names = [BASE, run.result.best_initial, "winner"]
    else:
        experts = {name: e.value for name, e in stored.items() if name != BASE and e.value is not None}
        names = [BASE, *([max(experts, key=experts.__getitem__)] if experts else [])]
    return [name for name in names if name in stored]


def compared_answers(
    evaluations: Mapping[str, Evaluation],
    items: Mapping[tuple[str, str, str], Item],
    split: Split,
    first_item_set: str = "",
    others: Mapping[str, Mapping[str, Evaluation]] | None = None,
) -> SideBySide:
    """Answers of models to the same items. The last model is compared with the one before it.

    Args:
        evaluations: By the model's name.
        items: By (item set, split, id).
        split: The split that was answered.
        first_item_set: The item set of evaluations that have no parts.
        others: Other scores of the models' answers: scorer -> model -> evaluation.
    """
    results = {name: _by_item(e, first_item_set) for name, e in evaluations.items()}
    keys = dict.fromkeys(key for of in results.values() for key in of)
    scores = [s for of in results.values() for one in of.values() if (s := _score(one)) is not None]
    graded = any(score not in (0, 1) for score in scores)
    low = float(np.quantile(scores, 0.25)) if scores and graded else 0.0
    rated = {name: _other_scores(name, of, others or {}) for name, of in results.items()}
    shown = [
        _item(
            key,
            {name: _answer(name, of[key], rated[name].get(key, {})) for name, of in results.items() if key in of},
            items.get((key[0], split, key[1])),
        )
        for key in keys
    ]
    scales = _scales(answer for one in shown for answer in one.answers)
    tagged = [_tagged(one, low, scales) for one in shown]
    order = sorted(tagged, key=lambda one: (-abs(one.change), _rank(one)))
    return SideBySide(split, list(evaluations), order, graded)


def _by_item(evaluation: Evaluation, first: str) -> dict[tuple[str, str], ItemResult]:
    return {
        ((part or first).partition(":")[0], result.item_id): result
        for part, leaf in evaluation.leaves.items()
        for result in leaf.results
    }


def _score(result: ItemResult) -> float | None:
    return result.outcome.value if isinstance(result.outcome, Score) else None


def _other_scores(
    name: str, results: Mapping[tuple[str, str], ItemResult], others: Mapping[str, Mapping[str, Evaluation]]
) -> dict[tuple[str, str], dict[str, float]]:
    """Scores of a model's answers by other scorers: (item set, item) -> scorer -> score. Their records may lack the
    item set, so an answer is found by its prompt, item and text."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for scorer, models in others.items():
        leaves = models[name].leaves.values() if name in models else ()
        scores = {_answer_key(result): _score(result) for leaf in leaves for result in leaf.results}
        for key, result in results.items():
            if (score := scores.get(_answer_key(result))) is not None:
                found.setdefault(key, {})[scorer] = score
    return found


def _answer_key(result: ItemResult) -> tuple[str, str, str]:
    return result.prompt_hash, result.item_id, result.response.text


def _scales(answers: Iterable[Answer]) -> dict[str, tuple[float, float]]:
    """Lowest and highest score shown, by scorer; the one of the search is ""."""
    scores: dict[str, list[float]] = {}
    for answer in answers:
        for scorer, score in _scores(answer).items():
            scores.setdefault(scorer, []).append(score)
    return {scorer: (min(of), max(of)) for scorer, of in scores.items()}


def _scores(answer: Answer) -> dict[str, float]:
    return {**({} if answer.score is None else {"": answer.score}), **answer.others}


def _item(key: tuple[str, str], by_model: Mapping[str, Answer], item: Item | None) -> ShownItem:
    answers = list(by_model.values())
    question, options, gold = (None, {}, None) if item is None else (item.question, item.choices or {}, item.answer)
    return ShownItem(key[0], key[1], question, options, gold, answers, [], 0.0)


def _answer(name: str, result: ItemResult, others: Mapping[str, float]) -> Answer:
    text = "\n".join([result.response.text, *result.response.more])
    if not isinstance(result.outcome, Score):
        detail = f": {result.outcome.detail}" if result.outcome.detail else ""
        return Answer(name, text, None, f"{result.outcome.reason.value}{detail}", others=others)
    judgements, claims, rest = _notes(result.outcome.notes)
    return Answer(name, text, result.outcome.value, None, judgements, claims, rest, result.outcome.measures, others)


def _notes(notes: str) -> tuple[list[Judgement], list[Claim], str]:
    """Judgements, claims, and the notes themselves if they are neither."""
    try:
        read = json.loads(notes) if notes else {}
        judgements = [_judgement(one) for one in read.get("judgements", [])]
        claims = [
            Claim(
                str(one["claim"]),
                str(one["verdict"]),
                [(str(passage["source"]), str(passage["text"])) for passage in one.get("evidence", [])],
                [Judgement(str(v["judge"]), None, f"{v['verdict']}: {v['why']}") for v in one.get("votes", [])],
            )
            for one in read.get("claims", [])
        ]
    except (ValueError, TypeError, KeyError, AttributeError):  # a user's scorer may note anything
        return [], [], notes
    return judgements, claims, "" if judgements or claims or not read else notes


def _judgement(one: Mapping[str, Any]) -> Judgement:
    if "unscored" in one:
        return Judgement(str(one.get("judge", "")), None, f"no rating, {one['unscored']}: {one.get('detail', '')}")
    said = {name: value for name, value in one.items() if name not in {"judge", "replicate", "value"}}
    words = "\n".join(str(value) if isinstance(value, str) else f"{name}: {value}" for name, value in said.items())
    return Judgement(str(one.get("judge", "")), float(one["value"]), words)


def _tagged(one: ShownItem, low: float, scales: Mapping[str, tuple[float, float]]) -> ShownItem:
    """The item with its tags and the change of its score."""
    scores = [answer.score for answer in one.answers[-2:]]
    change, tags = 0.0, []
    if len(scores) == 2 and scores[0] is not None and scores[1] is not None:
        change = scores[1] - scores[0]
        tags = ["fixed"] if change > 0 else ["broken"] if change < 0 else []
        if max(scores[0], scores[1]) <= low:
            tags.append("both wrong")
    if any(answer.score is None for answer in one.answers):
        tags.append("unscored")
    low_score, high_score = scales.get("", (0.0, 0.0))
    ratings = [[value for name, value in a.measures.items() if name.startswith("judge:")] for a in one.answers]
    if any(ratings) or len(scales) > 1:
        differ = any(of and max(of) - min(of) >= APART * (high_score - low_score) > 0 for of in ratings)
        differ = differ or any(_scorers_disagree(answer, scales) for answer in one.answers)
    else:
        differ = len({answer.text.strip() for answer in one.answers}) > 1
    return ShownItem(**{**vars(one), "tags": [*tags, *(["disagreement"] if differ else [])], "change": change})


def _scorers_disagree(answer: Answer, scales: Mapping[str, tuple[float, float]]) -> bool:
    """Whether two scores of an answer are far apart, as shares of their scales."""
    shares = []
    for scorer, score in _scores(answer).items():
        low, high = scales[scorer]
        if high > low:
            shares.append((score - low) / (high - low))
    return bool(shares) and max(shares) - min(shares) >= APART_SCORERS


def _rank(one: ShownItem) -> int:
    """Order among items whose scores did not change."""
    return next((k for k, tag in enumerate(("unscored", "disagreement", "both wrong")) if tag in one.tags), 3)
