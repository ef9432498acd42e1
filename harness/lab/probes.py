"""Scores probes: bad answers, corrupted gold answers, padded answers, paraphrased prompts, and repeated answers.

No model is needed, so a run's stored answers are sufficient. Judges score a subset of the items only, and all scores
are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast

from harness.lab.observations import Answered, Observations, whole_evaluations
from harness.run_folder.store import Store
from harness.session.evaluator import StopRules
from utilities.core import Evaluation, Item, ItemResult, Outcome, Reason, Response, Score, Scorer, Unscored
from utilities.errors import UserError
from utilities.judges.client import Answer, JudgeClient
from utilities.judges.panel import Panel
from utilities.judges.panel_scorer import JudgedScorer, PanelScorer
from utilities.lab import canary_answers, corruptions, padded_answer
from utilities.lab.labels import Labels
from utilities.prompts import load_prompt

__all__ = ["JUDGED_PROBES", "PROBES", "REPLICATES", "Probes"]

JUDGED_PROBES = 25
"""Default number of dev items for probes that judges score."""
PROBES = 200
"""Default number of dev items for probes without judges."""
REPLICATES = 2
"""Number of repeated scorings."""
REWORDED = "reworded"
"""Suffix of the name of a paraphrased prompt."""
QUESTIONS = {"a sentence before": "Here is what I would like to know. {}", "a sentence after": "{} Thank you."}
"""Paraphrases of questions, for scorers without their own prompt."""

Texts = Mapping[str, Mapping[str, Mapping[str, Response]]]
"""Kind of answer to item set to item id to the answer."""


@dataclass
class Probes:
    """The probes of one design."""

    observed: Observations
    store: Store
    panel: Panel | None
    """The judges; None without any."""
    probes: int | None = None
    """Number of dev items to use; by default `JUDGED_PROBES` or `PROBES`."""
    seed: int = 0
    """Seed of the corruptions of gold answers."""

    @property
    def scorers(self) -> dict[str, Scorer]:
        """The scorer of each item set."""
        return {name: s.scorer for name, s in self.observed.task.item_sets.items()}

    @property
    def items(self) -> dict[str, tuple[Item, ...]]:
        """The dev items used for probes, by item set: the first items, equally many of each set."""
        sets = self.observed.task.item_sets
        judged = any(isinstance(scorer, PanelScorer) for scorer in self.scorers.values())
        wanted = self.probes or (JUDGED_PROBES if judged else PROBES)
        return {name: s.dev[: max(1, wanted // len(sets))] for name, s in sets.items()}

    async def probe(self, progress: Callable[[str], None]) -> None:
        """Fills `canaries`, `ladder`, `padded`, `paraphrased` and `replicates` of the observations.

        Raises:
            UserError: The judges' budget is spent; finished scores are recorded.
        """
        o, label = self.observed, self.observed.design.label
        if o.compares_options:
            why = "It compares the log-probabilities of options, and a text alone has none."
            o.absent |= dict.fromkeys(("attacks", "ladder", "padding", "paraphrases", "retest"), why)
            return
        o.canaries = await self._made("canaries", canary_answers)
        progress(f"{label}: answers that nobody should want")
        if all((item.answer or "").strip() for items in self.items.values() for item in items):
            o.ladder = await self._made("ladder", lambda items: corruptions(items, self.seed))
            progress(f"{label}: gold answers and what damage makes of them")
        else:
            o.absent["ladder"] = "Not all items have a gold answer that could be damaged."
        if not o.dev:
            return
        answers = self._expert_answers()
        longer = {
            name: {s: {k: replace(r, text=padded_answer(r.text)) for k, r in of.items()} for s, of in sets.items()}
            for name, sets in answers.items()
        }
        o.padded = await self._scored("padded", longer, self.scorers)
        progress(f"{label}: answers made longer")
        o.paraphrased = await self._paraphrased(answers)
        progress(f"{label}: answers under other words for the same question")
        o.replicates = tuple(
            [await self._scored(f"replicate-{k}", answers, self._anew(k)) for k in range(1, REPLICATES + 1)]
        )
        progress(f"{label}: the same answers again")

    async def label(self, labels: Labels) -> None:
        """Scores labelled answers: texts, or answers of models by the model's name.

        An answer has no score if its item is not in the task or its model was not observed.
        """
        o, sets = self.observed, self.observed.task.item_sets
        items: dict[str, tuple[str, Item]] = {}
        for name, s in sets.items():
            for item in (*s.test, *s.dev):  # for duplicate ids, dev and the first set take precedence
                items[f"{name}/{item.id}"] = (name, item)
        items = {item.id: (name, item) for name, item in reversed(items.values())} | items
        by_model = {
            (model, part.partition(":")[0] or next(iter(sets)), r.item_id): r
            for answered in (o.test, o.dev)
            for model, evaluation in answered.items()
            for part, leaf in evaluation.leaves.items()
            for r in leaf.results
        }
        scored, texts = {}, []
        for answer in labels.answers:
            if answer[0] not in items:
                continue
            name, item = items[answer[0]]
            if (result := by_model.get((answer[1], name, item.id))) is not None:
                if isinstance(result.outcome, Score):
                    scored[answer] = result.outcome.value
            elif not o.compares_options:
                texts.append((answer, name, item))
        outcomes = await self.rules.gather(
            *(self.scorers[name].score([item], [Response(answer[1])]) for answer, name, item in texts)
        )
        scored |= {
            answer: found[0].value
            for (answer, _, _), found in zip(texts, outcomes, strict=True)
            if isinstance(found[0], Score)
        }
        o.labels, o.labelled = labels, scored
        o.sources = {item: found.source or f"{name}/{found.id}" for item, (name, found) in items.items()}

    # -- the same answers, scored in another way -----------------------------------------------------------------------

    def _expert_answers(self) -> dict[str, dict[str, dict[str, Response]]]:
        """The experts' answers to the dev items, without unanswered items."""
        first = next(iter(self.observed.task.item_sets))
        by_expert: dict[str, dict[str, dict[str, Response]]] = {}
        for expert, evaluation in self.observed.experts.items():
            by_expert[expert] = {name: {} for name in self.items}
            for part, leaf in evaluation.leaves.items():
                answers = by_expert[expert][part.partition(":")[0] or first]  # "set:group" if the set has groups
                for result in leaf.results:
                    if result.response.finish_reason != "unanswered":
                        answers[result.item_id] = result.response
        return by_expert

    async def _paraphrased(self, answers: Texts) -> dict[str, Answered]:
        """Scores with paraphrased judge prompts if these exist, else with paraphrased questions."""
        reworded = {name: _reworded(scorer) for name, scorer in self.scorers.items()}
        if all(reworded.values()):
            scorers = {name: cast(Scorer, scorer) for name, scorer in reworded.items()}
            return {REWORDED: await self._scored(REWORDED, answers, scorers)}
        scores = {}
        for k, (name, words) in enumerate(QUESTIONS.items()):
            items = {
                s: tuple(item.model_copy(update={"question": words.format(item.question)}) for item in of)
                for s, of in self.items.items()
            }
            scores[name] = await self._scored(f"paraphrase-{k}", answers, self.scorers, items)
        return scores

    def _anew(self, replicate: int) -> dict[str, Scorer]:
        """The scorers with judges that do not reuse cached replies of earlier repetitions."""
        if self.panel is None:
            return self.scorers
        by = replicate * self.panel.repeats
        panel = replace(self.panel, judges=tuple(cast(JudgeClient, _Anew(one, by)) for one in self.panel.judges))
        return {name: _with(scorer, judge=panel) for name, scorer in self.scorers.items()}

    # -- scores --------------------------------------------------------------------------------------------------------

    async def _made(self, record: str, make: Callable[[Sequence[Item]], Mapping[str, Sequence[str]]]) -> Answered:
        """Scores of texts created from the items, by kind."""
        texts: dict[str, dict[str, dict[str, Response]]] = {}
        for name, items in self.items.items():
            for kind, of_items in make(items).items():
                answers = {item.id: Response(text) for item, text in zip(items, of_items, strict=True)}
                texts.setdefault(kind, {})[name] = answers
        return await self._scored(record, texts, self.scorers)

    async def _scored(
        self,
        record: str,
        answers: Texts,
        scorers: Mapping[str, Scorer],
        items: Mapping[str, Sequence[Item]] | None = None,
    ) -> Answered:
        """Scores of answers to the items of the probes; read from the records if they exist."""
        stored = self.store.records(record)
        if stored is not None:
            return whole_evaluations(stored)
        items_by_set = items or self.items
        jobs = [
            (kind, name, [item for item in items_by_set[name] if item.id in of_set], of_set)
            for kind, by_set in answers.items()
            for name, of_set in by_set.items()
        ]
        scored = await self.rules.gather(
            *(scorers[name].score(of, [responses[item.id] for item in of]) for _, name, of, responses in jobs)
        )
        parts: dict[tuple[str, str], Sequence[ItemResult]] = {}
        for (kind, name, of, responses), outcomes in zip(jobs, scored, strict=True):
            results = _results(
                items_by_set[name], responses, dict(zip((item.id for item in of), outcomes, strict=True))
            )
            in_groups = self.observed.task.item_sets[name].parts(Evaluation.of(results), "dev")
            parts |= {(kind, part): one.results for part, one in in_groups.items()}
        evaluations = whole_evaluations(parts)
        self.store.save_records(record, list(evaluations.items()))
        return evaluations

    @property
    def rules(self) -> StopRules:
        """The rules that stop judge requests."""
        return StopRules(self.observed.task.name, self.panel, "retry with the same command")


def _results(
    items: Sequence[Item], responses: Mapping[str, Response], outcomes: Mapping[str, Outcome]
) -> list[ItemResult]:
    """One result per item; unanswered items are unscored."""
    return [
        ItemResult(
            item.id,
            item.source or item.id,
            "",
            responses.get(item.id, Response("", finish_reason="unanswered")),
            outcomes.get(item.id, Unscored(Reason.NOT_APPLICABLE, "the model did not answer")),
        )
        for item in items
    ]


def _reworded(scorer: Scorer) -> Scorer | None:
    """The scorer with its paraphrased judge prompt; None if there is no such prompt."""
    if not isinstance(scorer, JudgedScorer) or not scorer.template.name:
        return None
    try:
        return _with(scorer, template=load_prompt(f"{scorer.template.name}_{REWORDED}"))
    except UserError:
        return None


def _with(scorer: Scorer, **changes: Any) -> Scorer:
    """A copy of a scorer with changed attributes; attributes that it does not have are ignored."""
    other = copy(scorer)
    for name, value in changes.items():
        if hasattr(other, name):
            setattr(other, name, value)
    return other


class _Anew:
    """A judge that offsets the replicate number, so that cached replies of earlier repetitions are not reused."""

    def __init__(self, judge: JudgeClient, by: int) -> None:
        self._judge, self._by = judge, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    async def ask_for(self, *arguments: Any, replicate: int = 0, **options: Any) -> Answer[Any] | Unscored:
        return await self._judge.ask_for(*arguments, replicate=replicate + self._by, **options)

    async def turn(self, *arguments: Any, replicate: int = 0, **options: Any) -> Any:
        return await self._judge.turn(*arguments, replicate=replicate + self._by, **options)
