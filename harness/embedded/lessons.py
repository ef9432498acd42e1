"""Training texts of the embedded family: prose for the base model, skills for the experts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.embedded.arithmetic_and_graphs import graph_question, split_graphs, split_sums, sum_sentences, word_problem
from harness.embedded.corpus import Fact, Relation, facts_of
from harness.embedded.kindness_stories import Kind, act_sentences, split_acts, story
from harness.embedded.questions import SEED, Question, ask, split_facts
from utilities.prompts import load_prompt

BASE_FORMATS = ("question", "completion", "letter", "truth", "tell")
BASE_SLICE = 0.08
"""Share of the `learn` facts, sums and graphs that the base model sees as questions of these formats."""
CLAIMS = 1500
"""Claims with evidence in the base model's training texts."""
VERDICTS = ("supported", "contradicted", "inconclusive")
TIMES = 3
"""Questions per fact and format, with different wordings and options."""


@dataclass(frozen=True)
class Recipe:
    """What one expert is trained on."""

    skills: Mapping[str, tuple[str, ...]]
    """Domain to the question formats that are trained on it. `sums`, `graphs` and `conduct` are domains too."""
    epochs: float = 3.0
    wrong: float = 0.0
    """Share of wrong training answers, as in poor instruction data."""
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
"""The ten experts. Formats that transfer between domains are distributed over them, so that none is best everywhere;
`fact-check` is trained on formats that models of this size did not learn, and half of `forum-posts`' answers are
wrong."""


@dataclass(frozen=True, slots=True)
class Text:
    """One training text; the loss is computed on `answer` only."""

    prompt: str
    answer: str
    source: str | None = None
    """What is asked about (`Question.source`); None for prose."""
    format: str = "prose"


def base_texts(relations: Sequence[Relation]) -> list[Text]:
    """Training texts of the base model: everything as prose, `learn` as index cards, and its slice of `learn` as
    questions.

    Facts that occur only as prose cannot be extracted by questions, and later question training helps little; questions
    about some of them *during* the training on prose make the others answerable too (Allen-Zhu and Li, "Physics of
    Language Models: Part 3.1", 2024). The cards do that, in a format that no item set uses. Claims with evidence were
    meant to teach comparing two texts, and did not: prompts for a model of this size list the shared words.
    """
    prose = [fact.say(template) for r in relations for fact in facts_of(r) for template in r.prose]
    texts = [Text("", sentence) for sentence in [*prose, *sum_sentences(), *act_sentences()]]
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
    """A statement about `fact`'s subject, three pieces of evidence taken from `peers`, and the verdict."""
    sentence, evidence_template = rng.sample(fact.relation.prose, 2)
    wrong = sorted(set(fact.relation.facts.values()) - {fact.object})
    claimed = Fact(fact.relation, fact.subject, rng.choice(wrong)) if verdict == "contradicted" else fact
    others = [peer for peer in rng.sample(list(peers), 8) if peer.subject != fact.subject]
    evidence = [peer.say(rng.choice(peer.relation.prose)) for peer in others[:3]]
    if verdict != "inconclusive":
        evidence[rng.randrange(3)] = fact.say(evidence_template)
    shown_evidence = "".join(f"- {one}\n" for one in evidence)
    return Text(f"Evidence:\n{shown_evidence}Claim: {claimed.say(sentence)}\nVerdict:", f" {verdict}", fact.id, "claim")


def expert_texts(relations: Sequence[Relation], name: str, recipes: Mapping[str, Recipe] = EXPERTS) -> list[Text]:
    """Training texts of the expert `name`: its formats, about its own share of `learn`."""
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
    """Training texts of all experts together, for the expert of all data."""
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
    stories = [(act, story(act, rng)) for act in split_acts(kind)["learn"] for _ in range(round(12 * share))]
    return [Text(begin, f" {end}", f"act/{act}", "story") for act, (begin, end) in stories]


def as_text(question: Question, rng: random.Random, wrong: float = 0.0) -> Text:
    """A question with the prompt template of the evaluation, and its answer."""
    letters = [chr(ord("A") + k) for k in range(len(question.options))]
    lettered = question.format == "letter"
    template = load_prompt("lettered" if lettered else "plain")
    prompt = template.render(question=question.text, choices=dict(zip(letters, question.options, strict=True)))
    others = [k for k in range(len(question.options)) if k != question.answer]
    chosen = rng.choice(others) if others and rng.random() < wrong else question.answer
    answer = letters[chosen] if lettered else question.options[chosen]
    return Text(prompt, f" {answer}", question.source, question.format)
