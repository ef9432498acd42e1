"""Subjects of the bundled corpus that fit a topic of one's own, and how a person asks about them."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from statistics import fmean

from harness.embedded.corpus import Fact, read_corpus
from harness.embedded.questions import WISHES, split_facts, told_twice
from utilities.judges.evidence import bundled_evidence
from utilities.text_similarity import stems

__all__ = ["fitting_subjects", "share_about_corpus", "wishes"]

FITS = 0.4
"""Share of the best fact's weight from which on a fact fits a topic. Of two words about as rare one is enough then, and
"New" alone does not fit "New Orleans"."""
WORDINGS = 2
"""In how many wordings a subject is asked about at most: the same question again measures little that is new."""


def fitting_subjects(topic: str, seed: int = 0) -> dict[str, list[str]]:
    """Subjects that fit the topic, `{"dev": [...], "test": [...]}`, the best first, equals in the seed's order.

    All facts of a subject belong to its split, and none is told twice: so dev and test ask about different facts, and
    no model of the family was asked in training what they ask.
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
    doubled = told_twice(relations)
    facts = [
        (name, fact) for split in split_facts(relations).values() for name, group in split.items() for fact in group
    ]
    homes: dict[str, set[str]] = defaultdict(set)
    for name, fact in facts:
        homes[fact.subject.lower()].add(name)
    alone = [(name, fact) for name, fact in facts if len(homes[fact.subject.lower()]) == 1 and fact.id not in doubled]
    return {split: [fact for name, fact in alone if name == split] for split in ("dev", "test")}


def _weights(topic: str) -> dict[str, float]:
    """What the topic's words in a fact and in its relation's name weigh, for the facts that hold any, by their ids.

    Each word weighs what its rarity does in BM25; of a single sentence the counts and lengths of BM25 would say nothing
    more. The mean of its relation is added to a fact: where all of a kind fit, they are what is meant, more than a fact
    that shares a word by chance.
    """
    wanted = frozenset(stems(topic))
    held = {fact: wanted & words for fact, words in _words_of_facts().items()}
    counts = Counter(stem for found in held.values() for stem in found)
    rarity = {stem: math.log(1 + (len(held) - n + 0.5) / (n + 0.5)) for stem, n in counts.items()}
    own = {fact: math.fsum(rarity[stem] for stem in found) for fact, found in held.items()}
    of_relation: dict[str, list[float]] = defaultdict(list)
    for fact, weight in own.items():
        of_relation[_relation(fact)].append(weight)
    means = {relation: fmean(weights) for relation, weights in of_relation.items()}
    return {fact: weight + means[_relation(fact)] for fact, weight in own.items() if weight > 0}


@cache
def _words_of_facts() -> dict[str, frozenset[str]]:
    return {
        fact: frozenset(stems(f"{_relation(fact).replace('_', ' ')} {text}"))
        for fact, text in bundled_evidence().passages
    }


def _relation(fact: str) -> str:
    return fact.partition("/")[0]


def wishes(subjects: Sequence[str], size: int) -> tuple[str, ...]:
    """At most `size` instructions: one about each subject, then one in other words, as long as more are wanted."""
    every = [(k + turn, subject) for turn in range(WORDINGS) for k, subject in enumerate(subjects)]
    return tuple(WISHES[k % len(WISHES)].format(s=subject) for k, subject in every[:size])
