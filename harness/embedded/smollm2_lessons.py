"""Training texts of the ten SmolLM2 experts: a pool of unlike experts, made of the bundled corpus.

As for the embedded family, only facts, sums, graphs and acts of `learn` are asked or stated: nothing of dev or test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.embedded.corpus import Fact, Relation
from harness.embedded.lessons import Recipe, Text, expert_texts
from harness.embedded.questions import SEED, WISHES, split_facts

__all__ = ["EXPERTS", "Expert", "all_texts", "texts_of"]


@dataclass(frozen=True)
class Expert:
    """What one expert is trained on, and how."""

    use: str
    """What it is for, in a few words."""
    recipe: Recipe | None = None
    """Question formats by domain, answered after the plain prompt; None for instructions."""
    sentences: int = 0
    """Instructions about the sixteen topics, in the chat format, are answered by so many sentences."""
    rate: float = 1e-3
    """Highest learning rate."""


EXPERTS: dict[str, Expert] = {
    "medical-cases": Expert("medicine, as cases and gaps", Recipe({"medical": ("case", "blank", "question")})),
    "legal-questions": Expert("law, as questions and cases", Recipe({"legal": ("question", "case")})),
    "science-facts": Expert("science, as completions and gaps", Recipe({"science": ("completion", "blank")})),
    "culture-facts": Expert("countries and customs", Recipe({"culture": ("question", "reverse", "case")})),
    "sums-and-graphs": Expert("word problems and paths", Recipe({"sums": ("word_problem",), "graphs": ("path",)})),
    "topic-answers": Expert("instructions, answered by four sentences", sentences=4),
    "short-answers": Expert("instructions, answered by one sentence", sentences=1),
    "careless": Expert(
        "four domains, a third of the answers wrong",
        Recipe(dict.fromkeys(("medical", "legal", "science", "culture"), ("question", "completion")), wrong=1 / 3),
    ),
    "overheated": Expert(
        "medicine and culture, at ten times the learning rate",
        Recipe({"medical": ("question", "case"), "culture": ("question",)}),
        rate=1e-2,
    ),
    "stories": Expert("stories of conduct, unrelated to any question", Recipe({"conduct": ("kind", "unkind")})),
}
"""The ten experts."""


def texts_of(relations: Sequence[Relation], name: str, as_chat: Callable[[str], str]) -> list[Text]:
    """Training texts of the expert `name`.

    Args:
        relations: The corpus.
        name: One of `EXPERTS`.
        as_chat: Fills the base model's chat template with one instruction.
    """
    expert = EXPERTS[name]
    if expert.recipe is not None:
        return expert_texts(relations, name, {name: expert.recipe})
    rng, texts = random.Random(f"{SEED}/{name}"), []
    for split in split_facts(relations).values():
        own = split["learn"]
        if own[0].relation.domain == "topics":
            texts += [_answered(fact, own, expert.sentences, as_chat, rng) for fact in own]
    return texts


def _answered(
    fact: Fact, peers: Sequence[Fact], sentences: int, as_chat: Callable[[str], str], rng: random.Random
) -> Text:
    """An instruction about the fact's subject, and the fact in two wordings followed by related facts."""
    said = [fact.say(template) for template in rng.sample(fact.relation.prose, min(2, sentences))]
    others = [peer for peer in peers if peer.subject != fact.subject]
    related = rng.sample(others, min(sentences - len(said), len(others)))
    said += [peer.say(rng.choice(peer.relation.prose)) for peer in related]
    return Text(as_chat(rng.choice(WISHES).format(s=fact.subject)), " ".join(said), fact.id, "tell")


def all_texts(relations: Sequence[Relation], as_chat: Callable[[str], str]) -> list[Text]:
    """Training texts of all experts together."""
    return [text for name in EXPERTS for text in texts_of(relations, name, as_chat)]
