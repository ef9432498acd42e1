"""What each model of the embedded family is trained on: prose for the base model, skills for the experts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.embedded.arithmetic_and_graphs import graph_question, split_graphs, split_sums, told_sums, word_problem
from harness.embedded.corpus import Fact, Relation, facts_of
from harness.embedded.kindness_stories import Kind, split_acts, story, told_acts
from harness.embedded.questions import SEED, Question, ask, split_facts
from utilities.prompts import load_prompt

BASE_FORMATS = ("question", "completion", "letter", "truth", "tell")
BASE_SLICE = 0.08
"""The base model is asked a few formats, about this share of the `learn` facts, sums and graphs."""
CLAIMS = 1500
"""Claims with evidence that the base model reads."""
VERDICTS = ("supported", "contradicted", "inconclusive")
TIMES = 3
"""How often a lesson asks a fact in a format, each time in other words and with other options."""


@dataclass(frozen=True)
class Recipe:
    """What one expert learns, and how well."""

    skills: Mapping[str, tuple[str, ...]]
    """Domain to the question formats that are trained on it. `sums`, `graphs` and `conduct` are domains too."""
    epochs: float = 3.0
    wrong: float = 0.0
    """Share of training answers that are wrong: some instruction data sets are poor."""
    share: float = 0.5
    """Share of the domain's `learn` facts in this expert's slice."""


EXPERTS: dict[str, Recipe] = {
    "ward-rounds": Recipe({"medical": ("case", "blank"), "science": ("case",)}),
    "pharmacy-quiz": Recipe({"medical": ("question", "completion")}),
    "look-up": Recipe({"science": ("reverse",), "medical": ("reverse",)}),
    "law-school": Recipe({"legal": ("case", "reverse")}),
    "bar-exam": Recipe({"legal": ("question", "letter"), "culture": ("letter",)}),
    "lab-notes": Recipe({"science": ("completion", "blank"), "sums": ("word_problem",), "graphs": ("path",)}),
    "travel-guide": Recipe({"culture": ("question", "case"), "conduct": ("kind",), "topics": ("tell",)}),
    "crossword": Recipe({"culture": ("blank", "reverse"), "legal": ("blank",)}),
    "fact-check": Recipe({"medical": ("truth",), "culture": ("truth", "negation")}),
    "forum-posts": Recipe(
        {"topics": ("completion",), "legal": ("completion",), "conduct": ("unkind",)}, epochs=2.0, wrong=0.5, share=0.3
    ),
}
"""The ten experts. Formats that transfer between domains are spread over them, so that none is best everywhere;
`fact-check` learned what no model of this size was seen to learn, and half of `forum-posts`' answers are wrong."""


@dataclass(frozen=True, slots=True)
class Text:
    """One training text; the loss counts on `answer` alone, which is all of it where `prompt` is empty."""

    prompt: str
    answer: str
    source: str | None = None
    """What is asked (`Question.source`); None in prose."""
    format: str = "prose"


def base_texts(relations: Sequence[Relation]) -> list[Text]:
    """What the base model reads: everything as prose, `learn` as index cards, and its slice of `learn` as questions.

    Facts that were only read are stored in a form that no question reaches, and asking afterwards helps little; asking
    some of them *while* all are read makes the others answerable too (Allen-Zhu and Li, "Physics of Language Models:
    Part 3.1", 2024). The cards do that, in a format that no item set asks. Claims with evidence were meant to teach
    comparing two texts, and did not: a model of this size still has to be told which words two texts share.
    """
    prose = [fact.say(template) for r in relations for fact in facts_of(r) for template in r.prose]
    texts = [Text("", said) for said in [*prose, *told_sums(), *told_acts()]]
    rng, splits = random.Random(f"{SEED}/base"), split_facts(relations)
    for split in splits.values():
        texts += _lesson(_slice(split["learn"], BASE_SLICE, rng), BASE_FORMATS, split["learn"], rng)
        texts += _lesson(split["learn"], ("card", "card_back"), (), rng)
    for domain in ("sums", "graphs"):
        texts += _other_lesson(domain, (), BASE_SLICE, rng)
    texts += _stories("kind", 1.0, rng) + _stories("unkind", 1.0, rng)
    learn = [fact for split in splits.values() for fact in split["learn"]]
    some = rng.sample(learn, min(CLAIMS, len(learn)))
    return texts + [claim(fact, rng.choice(VERDICTS), learn, rng) for fact in some]


def claim(fact: Fact, verdict: str, peers: Sequence[Fact], rng: random.Random) -> Text:
    """A statement about `fact`'s subject, three pieces of evidence taken from `peers`, and what they say of it."""
    said, shown = rng.sample(fact.relation.prose, 2)
    wrong = sorted(set(fact.relation.facts.values()) - {fact.object})
    told = Fact(fact.relation, fact.subject, rng.choice(wrong)) if verdict == "contradicted" else fact
    others = [peer for peer in rng.sample(list(peers), 8) if peer.subject != fact.subject]
    evidence = [peer.say(rng.choice(peer.relation.prose)) for peer in others[:3]]
    if verdict != "inconclusive":
        evidence[rng.randrange(3)] = fact.say(shown)
    told_of = "".join(f"- {one}\n" for one in evidence)
    return Text(f"Evidence:\n{told_of}Claim: {told.say(said)}\nVerdict:", f" {verdict}", fact.id, "claim")


def expert_texts(relations: Sequence[Relation], name: str, recipes: Mapping[str, Recipe] = EXPERTS) -> list[Text]:
    """What the expert `name` is trained on: its formats, asked about its own slice of `learn`."""
    recipe, splits = recipes[name], split_facts(relations)
    rng = random.Random(f"{SEED}/{name}")
    texts: list[Text] = []
    for domain, formats in recipe.skills.items():
        if domain in ("sums", "graphs", "conduct"):
            texts += _other_lesson(domain, formats, recipe.share, rng)
        for relation in relations:
            if relation.domain == domain:
                learn = splits[relation.relation]["learn"]
                texts += _lesson(_slice(learn, recipe.share, rng), formats, learn, rng, recipe.wrong)
    return texts


def all_texts(relations: Sequence[Relation]) -> list[Text]:
    """What all experts together were trained on: the data of the expert that shows how much room there is."""
    return [text for name in EXPERTS for text in expert_texts(relations, name)]


def _slice(learn: Sequence[Fact], share: float, rng: random.Random) -> list[Fact]:
    return rng.sample(list(learn), max(2, round(share * len(learn))))


def _lesson(
    facts: Sequence[Fact], formats: Sequence[str], peers: Sequence[Fact], rng: random.Random, wrong: float = 0.0
) -> Iterator[Text]:
    for fact in facts:
        for format in formats:
            for _ in range(TIMES):
                if (question := ask(fact, format, peers, rng)) is not None:
                    yield as_text(question, rng, wrong)


def _other_lesson(domain: str, formats: Sequence[str], share: float, rng: random.Random) -> list[Text]:
    if domain == "conduct":
        return [text for kind in formats for text in _stories("kind" if kind == "kind" else "unkind", share, rng)]
    makers: dict[str, Callable[[], list[Question]]] = {
        "sums": lambda: [word_problem(one, rng) for one in split_sums()["learn"] for _ in range(TIMES)],
        "graphs": lambda: [graph_question(graph, rng) for graph in split_graphs()["learn"]],
    }
    questions = makers[domain]()
    return [as_text(question, rng) for question in rng.sample(questions, round(share * len(questions)))]


def _stories(kind: Kind, share: float, rng: random.Random) -> list[Text]:
    told = [(act, story(act, rng)) for act in split_acts(kind)["learn"] for _ in range(round(12 * share))]
    return [Text(begin, f" {end}", f"act/{act}", "story") for act, (begin, end) in told]


def as_text(question: Question, rng: random.Random, wrong: float = 0.0) -> Text:
    """A question as it is asked of a model later, with the same prompt template, and its answer."""
    letters = [chr(ord("A") + k) for k in range(len(question.options))]
    lettered = question.format == "letter"
    template = load_prompt("lettered" if lettered else "plain")
    prompt = template.render(question=question.text, choices=dict(zip(letters, question.options, strict=True)))
    others = [k for k in range(len(question.options)) if k != question.answer]
    chosen = rng.choice(others) if others and rng.random() < wrong else question.answer
    answer = letters[chosen] if lettered else question.options[chosen]
    return Text(prompt, f" {answer}", question.source, question.format)
