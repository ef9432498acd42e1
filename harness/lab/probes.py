"""What a scorer says of answers that no model gave: bad ones, damaged gold ones, longer ones, and the same ones again.

No model is asked, so a run's stored answers are enough. Judges are asked about a part of the items only, and whatever
they said is recorded.
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
"""Dev items whose answers judges are asked about once more, by default."""
PROBES = 200
"""The same where no judge has to be paid."""
REPLICATES = 2
"""Times that answers are scored anew."""
REWORDED = "reworded"
"""Ends the name of a prompt that asks the same as another one in other words."""
QUESTIONS = {"a sentence before": "Here is what I would like to know. {}", "a sentence after": "{} Thank you."}
"""Other words for a question, for scorers that have no prompt of their own."""

Texts = Mapping[str, Mapping[str, Mapping[str, Response]]]
"""Kind of answer to item set to item id to the answer."""


@dataclass
class Probes:
    """One design, and the answers that are made up for it."""

    observed: Observations
    store: Store
    panel: Panel | None
    """The judges, where it asks some."""
    probes: int | None = None
    """Dev items that are made use of; by default `JUDGED_PROBES` or `PROBES`."""
    seed: int = 0
    """Of the damage to gold answers."""

    @property
    def scorers(self) -> dict[str, Scorer]:
        """The scorer of each item set."""
        return {name: s.scorer for name, s in self.observed.task.item_sets.items()}

    @property
    def items(self) -> dict[str, tuple[Item, ...]]:
        """The dev items that are made use of, by item set: the first ones, as many of each set."""
        sets = self.observed.task.item_sets
        judged = any(isinstance(scorer, PanelScorer) for scorer in self.scorers.values())
        wanted = self.probes or (JUDGED_PROBES if judged else PROBES)
        return {name: s.dev[: max(1, wanted // len(sets))] for name, s in sets.items()}

    async def probe(self, progress: Callable[[str], None]) -> None:
        """Fills `canaries`, `ladder`, `padded`, `paraphrased` and `replicates` of what was observed.

        Raises:
            UserError: The judges' budget is spent; what was finished is recorded.
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
        given = self._given()
        longer = {
            name: {s: {k: replace(r, text=padded_answer(r.text)) for k, r in of.items()} for s, of in sets.items()}
            for name, sets in given.items()
        }
        o.padded = await self._scored("padded", longer, self.scorers)
        progress(f"{label}: answers made longer")
        o.paraphrased = await self._paraphrased(given)
        progress(f"{label}: answers under other words for the same question")
        o.replicates = tuple(
            [await self._scored(f"replicate-{k}", given, self._anew(k)) for k in range(1, REPLICATES + 1)]
        )
        progress(f"{label}: the same answers again")

    async def label(self, labels: Labels) -> None:
        """Scores the answers that people labelled: texts, or the answers of models, by the model's name.

        An answer whose item is not in the task, or whose model is not among the observed ones, has no score.
        """
        o, sets = self.observed, self.observed.task.item_sets
        known: dict[str, tuple[str, Item]] = {}
        for name, s in sets.items():
            for item in (*s.test, *s.dev):  # an id that both have is dev's, of sets that share one the first one's
                known[f"{name}/{item.id}"] = (name, item)
        known = {item.id: (name, item) for name, item in reversed(known.values())} | known
        by_model = {
            (model, part.partition(":")[0] or next(iter(sets)), r.item_id): r
            for answered in (o.test, o.dev)
            for model, evaluation in answered.items()
            for part, leaf in evaluation.leaves.items()
            for r in leaf.results
        }
        scored, texts = {}, []
        for answer in labels.answers:
            if answer[0] not in known:
                continue
            name, item = known[answer[0]]
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
        o.sources = {item: found.source or f"{name}/{found.id}" for item, (name, found) in known.items()}

    # -- the same answers, asked about in another way ------------------------------------------------------------------

    def _given(self) -> dict[str, dict[str, dict[str, Response]]]:
        """The experts' answers to the items that are made use of; answers that never came are left out."""
        first = next(iter(self.observed.task.item_sets))
        found: dict[str, dict[str, dict[str, Response]]] = {}
        for expert, evaluation in self.observed.experts.items():
            found[expert] = {name: {} for name in self.items}
            for part, leaf in evaluation.leaves.items():
                answers = found[expert][part.partition(":")[0] or first]  # "set:group" where a set has groups
                for result in leaf.results:
                    if result.response.finish_reason != "unanswered":
                        answers[result.item_id] = result.response
        return found

    async def _paraphrased(self, given: Texts) -> dict[str, Answered]:
        """The judges' prompts in other words where there are such; else other words for the questions."""
        reworded = {name: _reworded(scorer) for name, scorer in self.scorers.items()}
        if all(reworded.values()):
            scorers = {name: cast(Scorer, scorer) for name, scorer in reworded.items()}
            return {REWORDED: await self._scored(REWORDED, given, scorers)}
        found = {}
        for k, (name, words) in enumerate(QUESTIONS.items()):
            items = {
                s: tuple(item.model_copy(update={"question": words.format(item.question)}) for item in of)
                for s, of in self.items.items()
            }
            found[name] = await self._scored(f"paraphrase-{k}", given, self.scorers, items)
        return found

    def _anew(self, replicate: int) -> dict[str, Scorer]:
        """The scorers with judges that do not remember what they said before."""
        if self.panel is None:
            return self.scorers
        by = replicate * self.panel.repeats
        panel = replace(self.panel, judges=tuple(cast(JudgeClient, _Anew(one, by)) for one in self.panel.judges))
        return {name: _with(scorer, judge=panel) for name, scorer in self.scorers.items()}

    # -- scores --------------------------------------------------------------------------------------------------------

    async def _made(self, record: str, make: Callable[[Sequence[Item]], Mapping[str, Sequence[str]]]) -> Answered:
        """Scores of texts that are made of the items, by the name of their kind."""
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
        """Scores of answers to the items that are made use of, from the records where they are."""
        kept = self.store.records(record)
        if kept is not None:
            return whole_evaluations(kept)
        asked = items or self.items
        jobs = [
            (kind, name, [item for item in asked[name] if item.id in of_set], of_set)
            for kind, by_set in answers.items()
            for name, of_set in by_set.items()
        ]
        found = await self.rules.gather(
            *(scorers[name].score(of, [given[item.id] for item in of]) for _, name, of, given in jobs)
        )
        parts: dict[tuple[str, str], Sequence[ItemResult]] = {}
        for (kind, name, of, given), outcomes in zip(jobs, found, strict=True):
            results = _results(asked[name], given, dict(zip((item.id for item in of), outcomes, strict=True)))
            in_groups = self.observed.task.item_sets[name].parts(Evaluation.of(results), "dev")
            parts |= {(kind, part): one.results for part, one in in_groups.items()}
        evaluations = whole_evaluations(parts)
        self.store.save_records(record, list(evaluations.items()))
        return evaluations

    @property
    def rules(self) -> StopRules:
        """When judges are not asked any more."""
        return StopRules(self.observed.task.name, self.panel, "retry with the same command")


def _results(items: Sequence[Item], given: Mapping[str, Response], outcomes: Mapping[str, Outcome]) -> list[ItemResult]:
    """One result an item; what was not answered has none to score."""
    return [
        ItemResult(
            item.id,
            item.source or item.id,
            "",
            given.get(item.id, Response("", finish_reason="unanswered")),
            outcomes.get(item.id, Unscored(Reason.NOT_APPLICABLE, "the model did not answer")),
        )
        for item in items
    ]


def _reworded(scorer: Scorer) -> Scorer | None:
    """The scorer with its prompt for judges in other words; None where there is no such prompt."""
    if not isinstance(scorer, JudgedScorer) or not scorer.template.name:
        return None
    try:
        return _with(scorer, template=load_prompt(f"{scorer.template.name}_{REWORDED}"))
    except UserError:
        return None


def _with(scorer: Scorer, **changes: Any) -> Scorer:
    """A scorer with other attributes."""
    other = copy(scorer)
    for name, value in changes.items():
        if hasattr(other, name):
            setattr(other, name, value)
    return other


class _Anew:
    """A judge who is asked as if for a later repetition, so that no answer of an earlier one is taken for it."""

    def __init__(self, judge: JudgeClient, by: int) -> None:
        self._judge, self._by = judge, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    async def ask_for(self, *asked: Any, replicate: int = 0, **options: Any) -> Answer[Any] | Unscored:
        return await self._judge.ask_for(*asked, replicate=replicate + self._by, **options)

    async def turn(self, *asked: Any, replicate: int = 0, **options: Any) -> Any:
        return await self._judge.turn(*asked, replicate=replicate + self._by, **options)
