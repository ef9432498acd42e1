"""Tasks: items, scorers and their combination into one value. One YAML file per task; data in the published format.

A task has editions (`mini`, bundled for the embedded model; `full`, the published data), an edition has item sets, an
item set has a `dev` and a `test` split. dev is for selection, test is evaluated once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilities.contamination import find_overlap
from utilities.core import Evaluation, Item, ItemResult, Model, Scorer, Split, Usage
from utilities.errors import UserError
from utilities.prompts import bundled
from utilities.scorer_by_name import make_scorer, needs_judge, scorer_of
from utilities.task_file import Edition, GroupBy, ItemSetFile, read_task_file
from utilities.task_items import read_item_set, with_examples
from utilities.user_code import absolute_spec

if TYPE_CHECKING:
    from utilities.judges.panel import Panel

__all__ = ["ItemSet", "ReportOnly", "Task", "load_task"]

CHAT: dict[str, Any] = {"prompt": "bare", "chat": True, "max_tokens": 100}
"""Options with which a small chat model answers the instructions of a bundled task."""


def group_of(item: Item, group_by: str) -> str | None:
    """The group of an item: the value of a field, or of the data's grouping column."""
    value: str | None = getattr(item, group_by if group_by in Item.model_fields else "group")
    return value


@dataclass(frozen=True)
class ItemSet:
    """A loaded item set: its scorer and its two splits."""

    name: str
    scorer: Scorer
    dev: tuple[Item, ...]
    test: tuple[Item, ...]
    origin: str
    """File or hub repository of the items."""
    overlap: tuple[str, ...] = ()
    """Ids of the test items that also occur in dev; see `find_overlap`."""
    group_by: GroupBy | None = None
    examples: str = ""
    """Where the examples of `few_shot` are from; empty if there are none."""

    def split(self, name: Split) -> tuple[Item, ...]:
        """The items of a split."""
        return self.dev if name == "dev" else self.test

    def part(self, item: Item) -> str:
        """The part of an item: the set's name, or "set:group" with `group_by`."""
        return self.name if self.group_by is None else f"{self.name}:{group_of(item, self.group_by)}"

    def parts(self, evaluation: Evaluation, split: Split) -> dict[str, Evaluation]:
        """The scorer's evaluation of a split under the set's name; with `group_by`, its results by "set:group".

        The groups are in the order of their first items; usage is not divided among them.
        """
        if self.group_by is None:
            return {self.name: evaluation}
        part = {item.id: self.part(item) for item in self.split(split)}
        groups: dict[str, list[ItemResult]] = {}
        for result in evaluation.results:
            # A group of one source would be a single cluster without a variance estimate. As a group the source is
            # fixed, so each of its items is a cluster.
            alone = replace(result, cluster=result.item_id) if self.group_by == "source" else result
            groups.setdefault(part[result.item_id], []).append(alone)
        return {name: Evaluation.of(results) for name, results in groups.items()}


@dataclass(frozen=True)
class ReportOnly:
    """A scorer of an item set's responses that is reported and not optimised."""

    scorer: Scorer
    of: str

    async def __call__(self, items: Sequence[Item], evaluation: Evaluation) -> Evaluation:
        """Scores the responses of an evaluation of `items`; unanswered items keep their reason."""
        by_id = {item.id: item for item in items}
        answered = [result for result in evaluation.results if result.response.finish_reason != "unanswered"]
        outcomes = await self.scorer.score(
            [by_id[result.item_id] for result in answered], [result.response for result in answered]
        )
        scored = dict(zip((result.item_id for result in answered), outcomes, strict=True))
        return Evaluation.of([replace(r, outcome=scored.get(r.item_id, r.outcome)) for r in evaluation.results])


@dataclass(frozen=True)
class Task:
    """A task with its data; called with a model and a split, it is the utility `f(model) -> Evaluation`."""

    name: str
    title: str
    edition: str
    combination: str
    item_sets: Mapping[str, ItemSet]
    settings: Mapping[str, Any]
    weights: Mapping[str, float] | None = None
    """Weight of each item set if `combination` is weighted_mean."""
    report_only: Mapping[str, ReportOnly] = field(default_factory=dict)
    """Scorers that are reported and not optimised, by name."""

    @property
    def judged(self) -> bool:
        """Whether a judge scores an item set; then the search monitors over-optimisation."""
        return any(s.scorer.judged for s in self.item_sets.values())

    @property
    def combine(self) -> Callable[..., Any]:
        """The function that combines the values of the parts into one."""
        from utilities.combine import combinations, weighted_mean  # lazy import, as below: listing tasks needs no numpy

        if self.combination == "weighted_mean":
            return partial(weighted_mean, weights=self.weights)
        return combinations.get(self.combination)

    async def __call__(self, model: Model, split: Split) -> Evaluation:
        """Evaluates `model` on all item sets concurrently and combines the values of the sets or of their groups."""
        evaluations = await asyncio.gather(*(s.scorer(model, s.split(split)) for s in self.item_sets.values()))
        return self.joined(dict(zip(self.item_sets, evaluations, strict=True)), split)

    def joined(self, found: Mapping[str, Evaluation], split: Split) -> Evaluation:
        """Combines the evaluations of all item sets, by name, into the task's evaluation."""
        from utilities.combine import combine_evaluations

        parts: dict[str, Evaluation] = {}
        for name, s in self.item_sets.items():
            parts |= s.parts(found[name], split)
        usage = sum((evaluation.usage for evaluation in found.values()), Usage())
        return replace(combine_evaluations(parts, self.combine), usage=usage)

    def size(self, split: Split) -> int:
        """Number of items of a split over all item sets."""
        return sum(len(s.split(split)) for s in self.item_sets.values())

    def without_overlap(self) -> Task:
        """The task without the test items that also occur in dev.

        Raises:
            UserError: The test split of an item set becomes empty.
        """
        sets = {}
        for name, s in self.item_sets.items():
            test = tuple(item for item in s.test if item.id not in set(s.overlap))
            if not test:
                raise UserError(
                    f"{s.origin}: all {len(s.test)} test items of {name!r} stand in dev too, so dropping the overlap"
                    " leaves nothing to test on. Run without --drop-overlap, and read test values as dev values."
                )
            sets[name] = replace(s, test=test, overlap=())
        return replace(self, item_sets=sets)


def load_task(
    task: str,
    *,
    edition: str | None = None,
    prefer: str = "full",
    data: Path | None = None,
    limit: int | None = None,
    utility: str | None = None,
    options: Mapping[str, Any] | None = None,
    combine: str | None = None,
    judge: Panel | None = None,
    report_only: Mapping[str, Mapping[str, Any] | None] | None = None,
    trust: bool = False,
    chat: bool = False,
) -> Task:
    """Loads a task with its data and checks every item.

    Args:
        task: A bundled name, or the path of a task file.
        edition: The edition; by default the preferred one if it exists, else the first.
        prefer: The preferred edition if `edition` is None.
        data: Folder with the files of the published data; for every edition but `mini`.
        limit: Maximum number of items per split and item set, from the start.
        utility: Replaces the task's scorers: a registered scorer, or FILE.py:NAME.
        options: Options of the scorers, which override those of the task file.
        combine: Replaces the task file's combination.
        judge: The judges of the scorers that need some.
        report_only: Options of report-only scorers by name, which override the task file's; None removes the scorer.
        trust: As in `read_task_file`.
        chat: Whether the base model follows instructions in a chat format: judged answers of a bundled task are then
            asked for with `CHAT`.

    Raises:
        UserError: Unknown names, missing or malformed data; the message names file and line.
    """
    from utilities.combine import combinations

    described, path = read_task_file(task, trust=trust)
    edition = described.choose(edition, prefer)
    if data is not None and edition == "mini":
        raise UserError("--data is the folder of the published data, and edition 'mini' is bundled: add --edition full")
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: there is no such folder")
    combination = absolute_spec(described.combine, path.parent) if combine is None else combine
    combinations.get(combination)
    chosen = described.editions[edition]
    if combination == "weighted_mean":
        _check_weights(described.weights or {}, chosen, path)
    if chat and path.parent == bundled("tasks"):
        asked = {name: s for name, s in chosen.item_sets.items() if needs_judge(s.scorer)}
        changed = {name: s.model_copy(update={"options": _chat_options(s.options)}) for name, s in asked.items()}
        chosen = chosen.model_copy(update={"item_sets": {**chosen.item_sets, **changed}})
    sets = {
        name: _load_item_set(name, s, path.parent / "data", data, limit, utility, options or {}, judge)
        for name, s in chosen.item_sets.items()
    }
    weights = described.weights if combination == "weighted_mean" else None
    report_only_scorers = _load_report_only(chosen, path.parent, report_only or {}, judge)
    return Task(
        described.name, described.title, edition, combination, sets, chosen.settings, weights, report_only_scorers
    )


def _chat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an item set, with `CHAT`; a system prompt names the topic, as "Tell me about Zoe" does not."""
    topic = options.get("topic")
    about = {"system_prompt": f"You are a helpful assistant. The user is interested in {topic}."} if topic else {}
    return {**options, **CHAT, **about}


def _load_report_only(
    chosen: Edition, folder: Path, overrides: Mapping[str, Mapping[str, Any] | None], judge: Panel | None
) -> dict[str, ReportOnly]:
    scorers = {}
    for name, one in chosen.report_only.items():
        options = overrides.get(name, {})
        if options is None:
            continue
        try:
            scorer = make_scorer(absolute_spec(one.scorer, folder), {**one.options, **options}, judge)
        except UserError as error:
            raise UserError(f"report_only {name!r}: {error}") from error
        scorers[name] = ReportOnly(scorer, one.of or next(iter(chosen.item_sets)))
    return scorers


def _check_weights(weights: Mapping[str, float], chosen: Edition, path: Path) -> None:
    for name, item_set in chosen.item_sets.items():
        if name not in weights:
            raise UserError(f"{path}: weighted_mean needs a weight for item set {name!r}: add weights: {{{name}: 1}}")
        if item_set.group_by is not None:
            raise UserError(f"{path}: weighted_mean weighs whole item sets, and {name!r} is in groups: remove group_by")


def _load_item_set(
    name: str,
    described: ItemSetFile,
    beside: Path,
    data: Path | None,
    limit: int | None,
    utility: str | None,
    options: Mapping[str, Any],
    judge: Panel | None,
) -> ItemSet:
    try:
        scorer = scorer_of(described, beside.parent, utility, options, judge)
    except UserError as error:
        raise UserError(f"item set {name!r}: {error}") from error
    parts, origin = read_item_set(name, described, beside, data, scorer)
    splits, examples = with_examples(scorer, described, parts, origin)
    for split, items in splits.items():
        if not items:
            raise UserError(f"{origin}: split {split!r} is empty")
        for item in items:
            if problem := scorer.check(item):
                raise UserError(f"{origin}, {split} item {item.id!r}: {problem}")
            if described.group_by and not group_of(item, described.group_by):
                raise UserError(
                    f"{origin}, {split} item {item.id!r}: the item has no {described.group_by}, by which item set"
                    f" {name!r} is grouped"
                )
    dev, test = splits["dev"][:limit], splits["test"][:limit]
    overlap = find_overlap(dev, test)
    return ItemSet(name, scorer, tuple(dev), tuple(test), origin, overlap, described.group_by, examples)
