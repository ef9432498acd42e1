"""Turns facts into questions, splits the facts, and writes the bundled task sets (`mini` edition).

    python -m harness.embedded.questions        # writes tasks/data/*.json

Every fact belongs to exactly one of `learn` (experts may be asked it in training), `dev` and `test`. The split is made
on facts, before any question exists, so no fact that is asked in dev or test can be asked in training in any format.
The base model reads *all* facts, but only as prose.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.embedded.corpus_reader import Fact, Relation, facts_of, read_corpus

SEED = 20241016
SHARES = {"learn": 0.5, "dev": 0.17, "test": 0.33}
SIZES = {"dev": 200, "test": 400}
SETS = {"questions": ("question", "completion"), "cases": ("case", "reverse")}
"""The two item sets of a domain and their formats: asked directly, and from a situation or the other way round.

True-or-false and odd-one-out questions are part of the training texts, but no model of this size was seen to learn them
for facts that it was not asked about (dev accuracy near chance), so they would only add noise to the item sets.
"""

Split = dict[str, list[Fact]]


@dataclass(frozen=True, slots=True)
class Question:
    """One question in one format: what is asked, the options, and the right one."""

    format: str
    fact: Fact
    text: str
    options: tuple[str, ...]
    answer: int


def split_facts(relations: Sequence[Relation], seed: int = SEED) -> dict[str, Split]:
    """Splits each relation's facts into learn, dev and test, `{relation: {split: facts}}`.

    Facts are dealt out in threes of one object where there are so many, because a negation ("which is not ...?") asks
    three subjects of one object, and all of them must be of the same split.
    """
    splits: dict[str, Split] = {}
    for relation in relations:
        rng = random.Random(f"{seed}/{relation.relation}")
        by_object: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts_of(relation):
            by_object[fact.object].append(fact)
        chunks: list[list[Fact]] = []
        for same in by_object.values():
            order = rng.sample(same, len(same))
            chunks += [order[at : at + 3] for at in range(0, len(order), 3)]
        split: Split = {name: [] for name in SHARES}
        dealt = 0
        for chunk in rng.sample(chunks, len(chunks)):  # the split that is furthest behind its share takes the next ones
            dealt += len(chunk)
            name = max(SHARES, key=lambda name: SHARES[name] * dealt - len(split[name]))
            split[name] += chunk
        splits[relation.relation] = split
    return splits


def ask(fact: Fact, format: str, peers: Sequence[Fact], rng: random.Random) -> Question | None:
    """One question about `fact`, or None where the format does not apply to it.

    Args:
        fact: What is asked.
        format: question | reverse | completion | case | truth | negation.
        peers: Facts of the same relation and the same split. A negation asks several facts at once, so its subjects
            come from here and nowhere else.
        rng: Chooses template, wrong options and their order.
    """
    relation = fact.relation
    if format == "truth":
        true = rng.random() < 0.5
        wrong = rng.choice(sorted(set(relation.facts.values()) - {fact.object}))
        told = fact if true else Fact(relation, fact.subject, wrong)
        text = f"True or false: {told.say(rng.choice(relation.prose))}"
        return Question(format, fact, text, ("true", "false"), 0 if true else 1)
    if format == "negation":
        same = [peer for peer in peers if peer.object == fact.object and peer.subject != fact.subject]
        if not relation.negation or len(same) < 2:
            return None
        others = [peer for peer in peers if peer.object != fact.object]
        if not others:
            return None
        wrong_ones = [fact.subject, *(peer.subject for peer in rng.sample(same, min(2, len(same))))]
        return _shuffled(
            format, fact, f"Odd one out: {fact.say(relation.negation[0])}", rng.choice(others).subject, wrong_ones, rng
        )
    if format == "reverse":
        right = fact.subject
        pool = [subject for subject, object_ in relation.facts.items() if object_ != fact.object]
        text = f"Look up: {fact.say(rng.choice(relation.reverse))}"
    else:
        right = fact.object
        pool = sorted(set(relation.facts.values()) - {fact.object})
        prefix = {"question": "Question", "completion": "Complete", "case": "Case"}[format]
        text = f"{prefix}: {fact.say(rng.choice(getattr(relation, format)))}"
    return _shuffled(format, fact, text, right, rng.sample(sorted(pool), min(3, len(pool))), rng)


def _shuffled(format: str, fact: Fact, text: str, right: str, wrong: Sequence[str], rng: random.Random) -> Question:
    options = [right, *wrong]
    rng.shuffle(options)
    return Question(format, fact, text, tuple(options), options.index(right))


def item_set(facts: Sequence[Fact], formats: Sequence[str], size: int, rng: random.Random) -> list[Question]:
    """`size` different questions about `facts`, the formats in turn, facts used as evenly as possible.

    Raises:
        ValueError: The facts do not yield so many questions.
    """
    peers: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        peers[fact.relation.relation].append(fact)
    queues = {format: iter(rng.sample(list(facts), len(facts))) for format in formats}
    chosen: list[Question] = []
    while len(chosen) < size and queues:
        for format in list(queues):
            question = next(_askable(queues[format], format, peers, rng), None)
            if question is None:
                del queues[format]
            elif len(chosen) < size:
                chosen.append(question)
    if len(chosen) < size:
        raise ValueError(f"{len(facts)} facts yield only {len(chosen)} questions of {list(formats)}, {size} wanted")
    return chosen


def _askable(
    queue: Iterator[Fact], format: str, peers: dict[str, list[Fact]], rng: random.Random
) -> Iterator[Question]:
    for fact in queue:
        if (question := ask(fact, format, peers[fact.relation.relation], rng)) is not None:
            yield question


def told_twice(relations: Sequence[Relation]) -> set[str]:
    """Ids of the facts whose two names stand in another relation too (newton measures force; force is in newtons).

    Relations are split one by one, so such a fact could be learned by one and tested by the other: it is never asked
    in dev or test.
    """
    by_names: dict[frozenset[str], list[str]] = defaultdict(list)
    for relation in relations:
        for fact in facts_of(relation):
            by_names[frozenset((fact.subject.lower(), fact.object.lower()))].append(fact.id)
    return {id for ids in by_names.values() if len(ids) > 1 for id in ids}


def published_format(question: Question, id: str) -> dict[str, object]:
    """The question as an item of the published JSON format, with the fact it asks as `source`."""
    choices = {chr(ord("A") + k): option for k, option in enumerate(question.options)}
    return {
        "id": id,
        "question": question.text,
        "choices": choices,
        "answer": chr(ord("A") + question.answer),
        "domain": question.format,
        "source": question.fact.id,
    }


def write_task_sets(folder: Path) -> list[Path]:
    """Writes `<domain>_<set>.json` for every domain and set; the same corpus and seed give the same bytes."""
    relations = read_corpus()
    splits, doubled = split_facts(relations), told_twice(relations)
    written = []
    for domain in sorted({relation.domain for relation in relations}):
        for name, formats in SETS.items():
            data: dict[str, object] = {"dataset": f"{domain}_{name}"}
            for split, size in SIZES.items():
                own = [f for r in relations if r.domain == domain for f in splits[r.relation][split]]
                facts = [fact for fact in own if fact.id not in doubled]
                rng = random.Random(f"{SEED}/{domain}/{name}/{split}")
                items = item_set(facts, formats, size, rng)
                data[split] = [published_format(item, f"{split}-{k}") for k, item in enumerate(items)]
            path = folder / f"{domain}_{name}.json"
            path.write_text(json.dumps(data, indent=0) + "\n")
            written.append(path)
    return written


if __name__ == "__main__":
    for written_path in write_task_sets(Path(__file__).parents[2] / "tasks" / "data"):
        print(written_path)
