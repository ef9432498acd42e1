"""A small world with a known truth: questions, experts that know a share of each answer, raters, and what they say.

An expert's answer holds each word of the gold answer with the probability of its ability, other words in place of the
rest, and a few more of no use; so its quality is the share of gold words, and its length tells nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from utilities.core import Evaluation, Item, ItemResult, Response, Score
from utilities.judges.budget import Spent
from utilities.lab import (
    Label,
    Labels,
    Material,
    Positions,
    Scores,
    SearchPlan,
    canary_answers,
    corruptions,
    padded_answer,
)
from utilities.scorers.function import FunctionScorer

ITEMS, EXPERTS, GOLD_WORDS = 200, 10, 12
VOCABULARY = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprstvz"])


def quality(item, text):
    """The truth: the share of the gold words that an answer holds."""
    said = set(text.split())
    gold = item.answer.split()
    return sum(word in said for word in gold) / len(gold)


@dataclass(frozen=True)
class World:
    seed: int = 0
    items_per_source: int = 1

    def items(self, split):
        rng = np.random.default_rng([self.seed, split == "test"])
        made = []
        for k in range(ITEMS):
            words = rng.choice(VOCABULARY, GOLD_WORDS + 3, replace=False)
            source = None if self.items_per_source == 1 else f"{split}-{k // self.items_per_source}"
            asked = f"What is known of {' '.join(words[:3])}?"
            made.append(Item(id=f"{split}{k}", question=asked, answer=" ".join(words[3:]), source=source))
        return made

    @cached_property
    def dev(self):
        return self.items("dev")

    @cached_property
    def test(self):
        return self.items("test")

    def answers(self, items, abilities, name):
        """Model to its answers to the items."""
        rng = np.random.default_rng([self.seed, len(name), len(abilities), items[0].id == "dev0"])
        return {
            f"{name}{m}": [self.answer(item, ability, rng) for item in items] for m, ability in enumerate(abilities)
        }

    def answer(self, item, ability, rng):
        gold = np.array(item.answer.split())
        other = rng.choice(VOCABULARY, len(gold))
        said = np.where(rng.random(len(gold)) < ability, gold, other)
        return " ".join([*said, *rng.choice(VOCABULARY, rng.integers(0, 7))])

    @cached_property
    def abilities(self):
        return np.linspace(0.4, 0.85, EXPERTS)

    @cached_property
    def experts(self):
        return {s: self.answers(i, self.abilities, "expert") for s, i in (("dev", self.dev), ("test", self.test))}

    @cached_property
    def cloud(self):
        weights = np.random.default_rng([self.seed, 5]).dirichlet(np.full(EXPERTS, 0.3), 24)
        mixed = weights @ self.abilities
        return {s: self.answers(i, mixed, "particle") for s, i in (("dev", self.dev), ("test", self.test))}

    @cached_property
    def labels(self):
        """Three raters, who each miss a few answers and see the quality with an error of their own."""
        rng = np.random.default_rng([self.seed, 7])
        labels = []
        for k, item in enumerate(self.dev[:100]):
            for text in (self.experts["dev"][f"expert{m}"][k] for m in (0, 4, 9)):
                for rater in ("ann", "bob", "cem"):
                    if rng.random() < 0.9:
                        rated = np.clip(np.round(1 + 4 * quality(item, text) + rng.normal(0, 0.35)), 1, 5)
                        labels.append(Label(item.id, text, rater, float(rated)))
        return Labels(tuple(labels))


def scores(utility, items, texts, seed=0):
    """What a utility makes of texts, model to one text an item.

    The utility is a function of item, text and a generator of noise, or a `FunctionScorer`.
    """
    rng = np.random.default_rng(seed)
    evaluations = {}
    for model, said in texts.items():
        responses = [Response(text) for text in said]
        if isinstance(utility, FunctionScorer):
            outcomes = asyncio.run(utility.score(items, responses))
        else:
            outcomes = [Score(float(utility(item, text, rng))) for item, text in zip(items, said, strict=True)]
        evaluations[model] = Evaluation.of(
            [
                ItemResult(item.id, item.source or item.id, "", response, outcome)
                for item, response, outcome in zip(items, responses, outcomes, strict=True)
            ]
        )
    return Scores.of(evaluations)


def judged_pairs(prefers, world, seed=0):
    """Verdicts on the answers of two experts that are about as good, each pair in both orders.

    `prefers(item, first, second, rng)` is the probability that the first is preferred.
    """
    rng = np.random.default_rng(seed)
    ahead, behind = [], []
    for item, a, b in zip(world.dev, world.experts["dev"]["expert2"], world.experts["dev"]["expert7"], strict=True):
        ahead.append(float(rng.random() < prefers(item, a, b, rng)))
        behind.append(1 - float(rng.random() < prefers(item, b, a, rng)))
    return Positions(np.array(ahead), np.array(behind), tuple(item.id for item in world.dev))


def better_one(item, first, second, rng):
    """A judge who sees the better answer nearly always."""
    apart = quality(item, first) - quality(item, second)
    return 1 / (1 + np.exp(-40 * apart))


class Collected:
    """The material of one utility in one world, each part made when it is asked for."""

    def __init__(self, utility, world, wording=None, prefers=better_one, on_test=None):
        self.utility, self.world = utility, world
        self.wording = wording or utility
        self.prefers = prefers
        self.on_test = on_test or utility

    def dev(self, seed=0):
        return scores(self.utility, self.world.dev, self.world.experts["dev"], seed)

    def part(self, name):
        world, utility = self.world, self.utility
        match name:
            case "dev":
                return self.dev()
            case "test":
                return scores(self.on_test, world.test, world.experts["test"], 1)
            case "again":
                return self.dev(2)
            case "replicates":
                return [self.dev(3), self.dev(4)]
            case "cloud_dev":
                return scores(utility, world.dev, world.cloud["dev"], 5)
            case "cloud_test":
                return scores(self.on_test, world.test, world.cloud["test"], 6)
            case "rungs":
                return scores(utility, world.dev, corruptions(world.dev), 7)
            case "attacked":
                return scores(utility, world.dev, canary_answers(world.dev), 8)
            case "padded":
                texts = {m: [padded_answer(t) for t in said] for m, said in world.experts["dev"].items()}
                return scores(utility, world.dev, texts, 9)
            case "positions":
                return judged_pairs(self.prefers, world)
            case "paraphrased":
                return {"other": scores(self.wording, world.dev, world.experts["dev"], 10)}
            case "scored":
                return self.scored()
            case "labels":
                return world.labels
            case "plan":
                spent = Spent(requests=2000, prompt_tokens=400_000, completion_tokens=40_000, usd=0.4)
                return SearchPlan(evaluations=100, wall_seconds=60.0, judges=spent, usd_limit=5.0)
        raise KeyError(name)

    def scored(self):
        items = {item.id: item for item in self.world.dev}
        rng = np.random.default_rng(11)
        return {(item, text): float(self.utility(items[item], text, rng)) for item, text in self.world.labels.answers}

    PARTS = (
        "dev",
        "test",
        "again",
        "replicates",
        "cloud_dev",
        "cloud_test",
        "rungs",
        "attacked",
        "padded",
        "positions",
        "paraphrased",
        "scored",
        "labels",
        "plan",
    )

    def material(self, *parts):
        """Those parts alone, or all."""
        return Material(**{name: self.part(name) for name in parts or self.PARTS})


def without(material, *parts):
    empty = {"replicates": (), "paraphrased": {}, "scored": {}}
    return replace(material, **{name: empty.get(name) for name in parts})
