"""Subjects of the bundled corpus that fit a user's topic, and instructions that ask about them."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from statistics import fmean

from harness.embedded.corpus import Fact, read_corpus
from harness.embedded.questions import WISHES, split_facts, stated_twice
from utilities.judges.evidence import bundled_evidence
from utilities.text_similarity import stems

__all__ = ["fitting_subjects", "share_about_corpus", "wishes"]

FITS = 0.4
"""A fact fits a topic from this share of the best fact's weight on. Of two words about as rare one is enough then, and
"New" alone does not fit "New Orleans"."""
COVERS = 0.5
"""Share of the weight of the topic's words that a fact must contain, unless the name of its relation contains one: a
house is not what "owning a house rabbit" is about."""
WORDINGS = 2
"""Wordings in which a subject is asked about at most: repeating a question measures little that is new."""


def fitting_subjects(topic: str, seed: int = 0) -> dict[str, list[str]]:
    """Subjects that fit the topic, `{"dev": [...], "test": [...]}`, the best first, equals in the seed's order.

    All facts of a subject belong to one split, and facts that occur twice are left out: dev and test ask about
    different facts, none of which a bundled model saw in training questions.
    """
    weights = _weights(topic)
    enough, rng = FITS * max(weights.values(), default=0.0), random.Random(seed)
    fitting: dict[str, list[str]] = {}
    for split, facts in _askable().items():
        near = [fact for fact in facts if fact.id in weights and weights[fact.id] >= enough]
        best = sorted(rng.sample(near, len(near)), key=lambda fact: -weights[fact.id])
        fitting[split] = list({fact.subject.lower(): fact.subject for fact in best}.values())
    return fitting


def share_about_corpus(questions: Sequence[str]) -> float:
    """The share of questions that name a subject of the bundled corpus, 0 to 1; 0 if there are no questions."""
    subjects = _subjects()
    longest = max(map(len, subjects))
    named = 0
    for question in questions:
        words = _words(question)
        parts = (words[k : k + n] for k in range(len(words)) for n in range(1, longest + 1))
        named += any(part in subjects for part in parts)
    return named / max(1, len(questions))


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


@cache
def _subjects() -> frozenset[tuple[str, ...]]:
    """The words of every subject of the corpus."""
    return frozenset(_words(subject) for relation in read_corpus() for subject in relation.facts)


@cache
def _askable() -> dict[str, list[Fact]]:
    """The facts that dev and test may ask about."""
    relations = read_corpus()
    doubled = stated_twice(relations)
    facts = [
        (name, fact) for split in split_facts(relations).values() for name, group in split.items() for fact in group
    ]
    homes: dict[str, set[str]] = defaultdict(set)
    for name, fact in facts:
        homes[fact.subject.lower()].add(name)
    alone = [(name, fact) for name, fact in facts if len(homes[fact.subject.lower()]) == 1 and fact.id not in doubled]
    return {split: [fact for name, fact in alone if name == split] for split in ("dev", "test")}


def _weights(topic: str) -> dict[str, float]:
    """Weight of the topic's words in a fact and in its relation's name, by fact, for facts that are on the topic.

    A word has its BM25 weight, so words that the corpus lacks weigh most; counts and lengths mean little in a single
    sentence. The mean of its relation is added to a fact: if all facts of a relation fit, the topic means them rather
    than a fact that shares a word by chance.
    """
    wanted = frozenset(stems(topic))
    shared = {fact: wanted & words for fact, words in _words_of_facts().items()}
    counts = Counter(stem for words in shared.values() for stem in words)
    rarity = {stem: math.log(1 + (len(shared) - counts[stem] + 0.5) / (counts[stem] + 0.5)) for stem in wanted}
    enough = COVERS * math.fsum(rarity.values())
    own = {fact: math.fsum(rarity[stem] for stem in words) for fact, words in shared.items()}
    of_relation: dict[str, list[float]] = defaultdict(list)
    for fact, weight in own.items():
        of_relation[_relation(fact)].append(weight)
    means = {relation: fmean(weights) for relation, weights in of_relation.items()}
    return {
        fact: weight + means[_relation(fact)]
        for fact, weight in own.items()
        if weight > 0 and (weight >= enough or not wanted.isdisjoint(stems(_relation(fact).replace("_", " "))))
    }


@cache
def _words_of_facts() -> dict[str, frozenset[str]]:
    return {
        fact: frozenset(stems(f"{_relation(fact).replace('_', ' ')} {text}"))
        for fact, text in bundled_evidence().passages
    }


def _relation(fact: str) -> str:
    return fact.partition("/")[0]


def wishes(subjects: Sequence[str], size: int) -> tuple[str, ...]:
    """At most `size` instructions: one about each subject, then as many as needed in another wording."""
    every = [(k + turn, subject) for turn in range(WORDINGS) for k, subject in enumerate(subjects)]
    return tuple(WISHES[k % len(WISHES)].format(s=subject) for k, subject in every[:size])
