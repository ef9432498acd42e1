"""Turns facts into questions of many formats, and splits the facts into learn, dev and test.

Every fact belongs to exactly one of `learn` (training questions), `dev` and `test`. The split is made on facts, before
any question exists, so no fact of dev or test occurs in a training question of any format. The base model reads *all*
facts as prose, and sees questions about facts of `learn` only.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.embedded.corpus import Fact, Relation, facts_of

SEED = 20241016
SHARES = {"learn": 0.5, "dev": 0.17, "test": 0.33}
FORMATS = (
    "question", "completion", "blank", "case", "reverse", "negation", "truth", "statement", "letter", "crossword",
    "tell", "card", "card_back",
)  # fmt: skip
"""Every question format; `ask` describes them."""

Split = dict[str, list[Fact]]


@dataclass(frozen=True, slots=True)
class Question:
    """One question in one format: text, options, and the correct option."""

    format: str
    source: str
    """What is asked about (a fact, a sum, a graph): questions with one source are in one split."""
    text: str
    options: tuple[str, ...]
    """Only the correct answer if the question is answered freely."""
    answer: int = 0
    """Index of the correct option."""

    @property
    def right(self) -> str:
        """The correct answer."""
        return self.options[self.answer]


def split_facts(relations: Sequence[Relation], seed: int = SEED) -> dict[str, Split]:
    """Splits each relation's facts into learn, dev and test, `{relation: {split: facts}}`.

    Facts are split in groups of up to three with the same object, because a negation ("which is not ...?") uses three
    subjects of one object, and all of them must be in the same split.
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
        for chunk in rng.sample(chunks, len(chunks)):  # the split that is furthest below its share takes the next group
            dealt += len(chunk)
            name = max(SHARES, key=lambda name: SHARES[name] * dealt - len(split[name]))
            split[name] += chunk
        splits[relation.relation] = split
    return splits


def stated_twice(relations: Sequence[Relation]) -> set[str]:
    """Ids of the facts that another relation states too: the same two names (newton measures force; force is in
    newtons), or one subject and objects that share a word (morphine: opioids; mu opioid receptors).

    Relations are split one by one, so such a fact could be learned from one and tested by the other; it is never used
    in dev or test.
    """
    by_names: dict[frozenset[str], list[str]] = defaultdict(list)
    by_word: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for relation in relations:
        for fact in facts_of(relation):
            by_names[frozenset((fact.subject.lower(), fact.object.lower()))].append(fact.id)
            for word in re.findall(r"[a-z]{5,}", fact.object.lower()):
                by_word[fact.subject.lower(), word[:6]].add((relation.relation, fact.id))
    doubled = {id for ids in by_names.values() if len(ids) > 1 for id in ids}
    return doubled | {id for facts in by_word.values() if len({r for r, _ in facts}) > 1 for _, id in facts}


def stated_once(relations: Sequence[Relation]) -> set[str]:
    """Ids of the facts whose subject has no other fact: "tell me about it" then asks this fact and no other."""
    subjects = Counter(subject.lower() for relation in relations for subject in relation.facts)
    return {f.id for relation in relations for f in facts_of(relation) if subjects[f.subject.lower()] == 1}


def ask(fact: Fact, format: str, peers: Sequence[Fact], rng: random.Random) -> Question | None:
    """One question about `fact`, or None if the format does not apply to it.

    Args:
        fact: The fact.
        format: question, completion, case (a small scenario), blank (a sentence with a gap), reverse (asks for
            the subject), letter (answered by the letter of an option), truth (true or false), statement (which sentence
            is true), negation (which does *not* have the object), crossword (two gaps of two facts), tell (free
            answer), card and card_back (the relation's name and one side of an index card; no item set uses these).
        peers: Facts of the same split, from which negations and crosswords take their other facts.
        rng: Chooses templates, wrong options and their order.
    """
    return _ASK[format](fact, peers, rng)


PREFIX = {"question": "Question: ", "completion": "Complete: ", "case": "Case: ", "letter": ""}
"""Prefix that identifies the format. The template of lettered questions has its own."""


def _asking_object(format: str) -> Callable[[Fact, Sequence[Fact], random.Random], Question]:
    def asked(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
        del peers
        templates = getattr(fact.relation, "question" if format == "letter" else format)
        text = PREFIX[format] + fact.say(rng.choice(templates))
        return _shuffled(format, fact.id, text, fact.object, _other_objects(fact, rng), rng)

    return asked


def _blank(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    return _shuffled("blank", fact.id, f"Fill in: {_gap(fact, rng)}", fact.object, _other_objects(fact, rng), rng)


def _reverse(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    others = sorted(subject for subject, object_ in fact.relation.facts.items() if object_ != fact.object)
    text = f"Look up: {fact.say(rng.choice(fact.relation.reverse))}"
    return _shuffled("reverse", fact.id, text, fact.subject, rng.sample(others, 3), rng)


def _truth(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    true = rng.random() < 0.5
    claimed = fact if true else Fact(fact.relation, fact.subject, _other_objects(fact, rng)[0])
    text = f"True or false: {claimed.say(rng.choice(fact.relation.prose))}"
    return Question("truth", fact.id, text, ("true", "false"), 0 if true else 1)


def _statement(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    template = rng.choice(fact.relation.prose)
    wrong = [Fact(fact.relation, fact.subject, other).say(template) for other in _other_objects(fact, rng)]
    text = f"Question: What is true of {fact.subject}?"
    return _shuffled("statement", fact.id, text, fact.say(template), wrong, rng)


def _negation(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question | None:
    relation = fact.relation
    own = [peer for peer in peers if peer.relation.relation == relation.relation]
    same = [peer for peer in own if peer.object == fact.object and peer.subject != fact.subject]
    others = [peer for peer in own if peer.object != fact.object]
    if not relation.negation or len(same) < 2 or not others:
        return None
    wrong = [fact.subject, *(peer.subject for peer in rng.sample(same, 2))]
    text = f"Odd one out: {fact.say(relation.negation[0])}"
    return _shuffled("negation", fact.id, text, rng.choice(others).subject, wrong, rng)


def _crossword(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question | None:
    others = [peer for peer in peers if peer.relation.relation != fact.relation.relation]
    if not others:
        return None
    other = rng.choice(others)
    text = f"Fill in: {_gap(fact, rng)} {_gap(other, rng)}"
    first, second = _other_objects(fact, rng), _other_objects(other, rng)
    wrong = [f"{fact.object}; {second[0]}", f"{first[0]}; {other.object}", f"{first[1]}; {second[1]}"]
    return _shuffled("crossword", fact.id, text, f"{fact.object}; {other.object}", wrong, rng)


WISHES = (
    "Tell me about {s}.",
    "What should I know about {s}?",
    "Explain {s} to somebody who is new to it.",
    "I keep hearing of {s}. What is worth knowing about it?",
)
"""Wordings of a request for information, also used for the instructions of the topics."""


def tell(fact: Fact, wish: str | None, rng: random.Random) -> Question:
    """A request about the fact's subject (`wish`, None for a random one), answered by two sentences that state the
    fact."""
    first, second = rng.sample(fact.relation.prose, 2)
    text = (wish or rng.choice(WISHES)).format(s=fact.subject)
    return Question("tell", fact.id, text, (f"{fact.say(first)} {fact.say(second)}",))


def _tell(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    return tell(fact, None, rng)


def _card(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    text = f"Card: {fact.relation.relation.replace('_', ' ')}, {fact.subject}"
    return _shuffled("card", fact.id, text, fact.object, _other_objects(fact, rng), rng)


def _card_back(fact: Fact, peers: Sequence[Fact], rng: random.Random) -> Question:
    del peers
    others = sorted(subject for subject, object_ in fact.relation.facts.items() if object_ != fact.object)
    text = f"Back of the card: {fact.relation.relation.replace('_', ' ')}, {fact.object}"
    return _shuffled("card_back", fact.id, text, fact.subject, rng.sample(others, 3), rng)


_ASK: dict[str, Callable[[Fact, Sequence[Fact], random.Random], Question | None]] = {
    **{format: _asking_object(format) for format in PREFIX},
    "blank": _blank,
    "reverse": _reverse,
    "truth": _truth,
    "statement": _statement,
    "negation": _negation,
    "crossword": _crossword,
    "tell": _tell,
    "card": _card,
    "card_back": _card_back,
}


def more_options(question: Question, fact: Fact, count: int, rng: random.Random) -> Question | None:
    """The question with `count` options, or None if the relation has too few different objects."""
    others = sorted(set(fact.relation.facts.values()) - {fact.object})
    if len(others) < count - 1:
        return None
    wrong = rng.sample(others, count - 1)
    return _shuffled(question.format, question.source, question.text, fact.object, wrong, rng)


def _gap(fact: Fact, rng: random.Random) -> str:
    return Fact(fact.relation, fact.subject, "___").say(rng.choice(fact.relation.prose))


def _other_objects(fact: Fact, rng: random.Random) -> list[str]:
    return rng.sample(sorted(set(fact.relation.facts.values()) - {fact.object}), 3)


def _shuffled(format: str, source: str, text: str, right: str, wrong: Sequence[str], rng: random.Random) -> Question:
    options = [right, *wrong]
    rng.shuffle(options)
    return Question(format, source, text, tuple(options), options.index(right))
