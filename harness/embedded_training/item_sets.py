"""Writes the item sets of every task's `mini` edition from the corpus.

python -m harness.embedded_training.item_sets        # writes tasks/data/*.json; the same corpus gives the same bytes

It also writes the instructions of the topics, and `evidence.jsonl`: every fact as a sentence, the evidence for claims.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.embedded.arithmetic_and_graphs import (
    graph_question,
    long_problem,
    split_graphs,
    split_sums,
    word_problem,
)
from harness.embedded.corpus import Fact, Relation, facts_of, read_corpus
from harness.embedded.kindness_stories import continuation, split_acts
from harness.embedded.questions import (
    SEED,
    WISHES,
    Question,
    ask,
    more_options,
    split_facts,
    stated_once,
    stated_twice,
    tell,
)

SIZES = {"dev": 200, "test": 400}
DOMAINS = ("medical", "legal", "science", "culture", "topics")
ASKED_DIRECTLY, FROM_A_SITUATION = ("question", "completion", "blank"), ("case", "reverse")
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{f"{domain}_questions": ((domain,), ASKED_DIRECTLY) for domain in DOMAINS},
    **{f"{domain}_cases": ((domain,), FROM_A_SITUATION) for domain in DOMAINS},
    "mmlu": (DOMAINS, ("question", "completion", "case", "reverse", "truth", "negation")),
    "mmlu_letters": (DOMAINS, ("letter",)),
    "mmlu_pro": (DOMAINS, ("question",)),
    "hellaswag": (DOMAINS, ("completion",)),
    "truthfulqa": (DOMAINS, ("statement",)),
    "knowledge_crosswords": (DOMAINS, ("crossword",)),
    "abstain_mmlu": (DOMAINS, ("question",)),
    "reward_prompts": (DOMAINS, ("tell",)),
    "look_up": (DOMAINS, ("question",)),
}
"""Item sets about facts: their domains and their alternating formats."""
MMLU_PRO_OPTIONS = 10
TOPICS = (
    "asian_food", "cartoons", "drone_ai", "electric_vehicles", "finance", "legal_ai", "luxury_car", "music_instrument",
    "olympics", "phd_application", "plastic", "policy", "sandbox_games", "social_network", "south_america",
    "us_tourism",
)  # fmt: skip
"""The sixteen human interests of the paper; the name of a relation starts with that of its topic."""
HIDDEN_AMONG, PROPERTIES = 8, 3
"""Subjects and different properties of an item of twenty questions."""
INSTRUCTIONS = 25
"""Instructions per topic and split, as in the published files."""


def item_set(facts: Sequence[Fact], formats: Sequence[str], size: int, rng: random.Random) -> list[Question]:
    """`size` different questions about `facts`, the formats in turn, facts used as evenly as possible.

    Raises:
        ValueError: The facts yield too few questions.
    """
    queues = {format: _askable(rng.sample(list(facts), len(facts)), format, facts, rng) for format in formats}
    chosen: list[Question] = []
    while len(chosen) < size and queues:
        for format in list(queues):
            question = next(queues[format], None)
            if question is None:
                del queues[format]
            elif len(chosen) < size:
                chosen.append(question)
    if len(chosen) < size:
        raise ValueError(f"{len(facts)} facts yield only {len(chosen)} questions of {list(formats)}, {size} wanted")
    return chosen


def _askable(order: Sequence[Fact], format: str, peers: Sequence[Fact], rng: random.Random) -> Iterator[Question]:
    for fact in order:
        if (question := ask(fact, format, peers, rng)) is not None:
            yield question


def fact_items(relations: Sequence[Relation], name: str, split: str) -> list[Question]:
    """The questions of one of `SETS` on one split."""
    domains, formats = SETS[name]
    splits, doubled, once = split_facts(relations), stated_twice(relations), stated_once(relations)
    facts = [f for r in relations if r.domain in domains for f in splits[r.relation][split] if f.id not in doubled]
    rng = random.Random(f"{SEED}/{name}/{split}")
    if name == "reward_prompts":
        facts = [fact for fact in facts if fact.id in once]
    if name != "mmlu_pro":
        made = item_set(facts, formats, SIZES[split], rng)
        return [replace(q, options=(q.right,), answer=0) for q in made] if name == "look_up" else made
    by_id = {fact.id: fact for fact in facts}
    wide = [fact for fact in facts if len(set(fact.relation.facts.values())) >= MMLU_PRO_OPTIONS]
    made = item_set(wide, formats, SIZES[split], rng)
    return [more for q in made if (more := more_options(q, by_id[q.source], MMLU_PRO_OPTIONS, rng)) is not None]


def problem_items(name: str, split: str) -> list[Question]:
    """The questions of an item set that is not about facts: gsm8k, nlgraph, calculator or realtoxicityprompts."""
    rng = random.Random(f"{SEED}/{name}/{split}")
    if name == "gsm8k":
        sums = split_sums()[split]
        return _distinct(lambda: word_problem(rng.choice(sums), rng), SIZES[split])
    if name == "nlgraph":
        return [graph_question(graph, rng) for graph in split_graphs()[split][: SIZES[split]]]
    if name == "calculator":
        return _distinct(lambda: long_problem(split, rng), SIZES[split])
    acts = split_acts("kind")[split]
    return _distinct(lambda: continuation(split, rng.choice(acts), rng), SIZES[split])


def instructions(relations: Sequence[Relation], topic: str, split: str) -> list[Question]:
    """Requests for information about subjects of the topic, with alternating wordings."""
    splits, once = split_facts(relations), stated_once(relations)
    own = [r for r in relations if r.domain == "topics" and r.relation.startswith(f"{topic}_")]
    facts = [fact for r in own for fact in splits[r.relation][split] if fact.id in once]
    rng = random.Random(f"{SEED}/topic/{topic}/{split}")
    order = rng.sample(facts, len(facts))
    turns = (divmod(k, len(order)) for k in itertools.count())  # a repeated subject gets another wording
    questions = (tell(order[k], WISHES[(k + again) % len(WISHES)], rng) for again, k in turns)
    return list(itertools.islice(questions, INSTRUCTIONS))


def hidden_subjects(relations: Sequence[Relation], split: str) -> list[dict[str, Any]]:
    """The items of twenty questions: a subject hidden among others of its relation, with their properties."""
    splits, doubled = split_facts(relations), stated_twice(relations)
    rng = random.Random(f"{SEED}/twenty_questions/{split}")
    groups = []
    for r in relations:
        facts = [fact for fact in splits[r.relation][split] if fact.id not in doubled]
        groups += [(fact, facts) for fact in facts if len(facts) >= HIDDEN_AMONG]
    items: list[dict[str, Any]] = []
    for fact, peers in rng.sample(groups, len(groups)):
        objects = sorted({peer.object for peer in peers} - {fact.object})
        if len(objects) < PROPERTIES - 1:
            continue
        chosen = {fact.object, *rng.sample(objects, PROPERTIES - 1)}
        others = [peer for peer in peers if peer.object in chosen and peer.subject != fact.subject]
        shown = [fact, *rng.sample(others, min(HIDDEN_AMONG - 1, len(others)))]
        if len(shown) < HIDDEN_AMONG or len({peer.object for peer in shown}) < PROPERTIES:
            continue
        rng.shuffle(shown)
        items.append(
            {
                "id": f"{split}-{len(items)}",
                "question": f"Question: Which of these is it: {', '.join(peer.subject for peer in shown)}?",
                "answer": fact.subject,
                "domain": "hidden_subject",
                "source": fact.id,
                "facts": "\n".join(f"{peer.subject}: {peer.object}" for peer in shown),
                "clue": f"Look up: {fact.relation.reverse[0]}",
            }
        )
    return items[: SIZES[split]]


def _distinct(make: Callable[[], Question], size: int) -> list[Question]:
    made: dict[str, Question] = {}
    while len(made) < size:
        question = make()
        made.setdefault(question.text, question)
    return list(made.values())


def published_format(question: Question, id: str) -> dict[str, Any]:
    """The question as an item of the published JSON format, with its fact as `source`."""
    item: dict[str, Any] = {"id": id, "question": question.text}
    if len(question.options) > 1:
        item["choices"] = {chr(ord("A") + k): option for k, option in enumerate(question.options)}
        item["answer"] = chr(ord("A") + question.answer)
    else:
        item["answer"] = question.right
    return {**item, "domain": question.format, "source": question.source}


def write_item_sets(folder: Path) -> list[Path]:
    """Writes `<name>.json` for every item set."""
    relations, written = read_corpus(), []
    for name in (*SETS, "gsm8k", "nlgraph", "calculator", "realtoxicityprompts"):
        data: dict[str, Any] = {"dataset": name}
        for split in SIZES:
            items = fact_items(relations, name, split) if name in SETS else problem_items(name, split)
            data[split] = [published_format(item, f"{split}-{k}") for k, item in enumerate(items)]
        written.append(_write(folder / f"{name}.json", data))
    hidden = {split: hidden_subjects(relations, split) for split in SIZES}
    written.append(_write(folder / "twenty_questions.json", {"dataset": "twenty_questions", **hidden}))
    for topic in TOPICS:
        data = {"dataset": topic}
        for split in SIZES:
            questions = instructions(relations, topic, split)
            data[split] = [published_format(item, f"{split}-{k}") for k, item in enumerate(questions)]
        written.append(_write(folder / f"topic_{topic}.json", data))
    passages = [json.dumps({"source": f.id, "text": f.say(r.prose[0])}) for r in relations for f in facts_of(r)]
    evidence = folder / "evidence.jsonl"
    evidence.write_text("\n".join(passages) + "\n")
    return [*written, evidence]


def _write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(json.dumps(data, indent=0) + "\n")
    return path


if __name__ == "__main__":
    for written_path in write_item_sets(Path(__file__).parents[2] / "tasks" / "data"):
        print(written_path)
