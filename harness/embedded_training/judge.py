"""Trains the bundled judge: LoRA on the embedded base, for ratings of answers and for checking claims.

    python -m harness.embedded_training.judge  # quality of the shipped judge on facts outside its training data

It gets the project's brief prompts through the same client as any hosted model. It recognises the form of an answer (on
the subject, complete, fluent, more than a word) and whether retrieved evidence states what a claim states. It does not
know what is true, and knows nothing beyond the bundled corpus.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from harness.embedded import BASE, JUDGE
from harness.embedded.corpus import Fact, Relation, read_corpus
from harness.embedded.lessons import VERDICTS, Text
from harness.embedded.questions import SEED, WISHES, split_facts, stated_twice, tell
from harness.embedded_training.training import train_adapter
from utilities.core import Item
from utilities.judges.canary import canaries
from utilities.judges.evidence import bundled_evidence
from utilities.judges.word_overlap import nearest, shared_words
from utilities.lab.checks.ladder import auroc
from utilities.prompts import load_prompt

PASSAGES = 3
"""Pieces of evidence that a claim is checked against, as in the factuality scorer."""
RANK, EPOCHS = 32, 2.0


@dataclass(frozen=True, slots=True)
class Graded:
    """An answer to an instruction, with its rating."""

    kind: str
    source: str
    """The fact that the instruction asks about."""
    instruction: str
    answer: str
    rating: int


def _gold(answer: str, other: str, rng: random.Random) -> str:
    del other, rng
    return answer


def _short(answer: str, other: str, rng: random.Random) -> str:
    del other
    return rng.choice([f"{part.rstrip('.')}." for part in answer.split(". ")])


def _damaged(answer: str, other: str, rng: random.Random) -> str:
    """A few words missing, swapped, or the end cut off."""
    del other
    words = answer.split()
    if rng.random() < 0.4:
        return " ".join(words[: max(4, round(len(words) * rng.uniform(0.55, 0.8)))]).rstrip(".")
    for _ in range(max(2, len(words) // 5)):
        at = rng.randrange(len(words) - 1)
        if rng.random() < 0.5 and len(words) > 5:
            del words[at]
        else:
            words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _broken(answer: str, other: str, rng: random.Random) -> str:
    """All words in random order, or a few of them repeated."""
    del other
    words = answer.split()
    if rng.random() < 0.5:
        return " ".join(rng.sample(words, len(words)))
    start = rng.randrange(max(1, len(words) - 4))
    few = words[start : start + rng.randint(1, 4)]
    return " ".join(few * (rng.randint(10, 30) // len(few)))


def _off_topic(answer: str, other: str, rng: random.Random) -> str:
    del answer, rng
    return other


def _nothing(answer: str, other: str, rng: random.Random) -> str:
    del answer, other
    return rng.choice(("", "", ".", "I do not know.", "...", "?", "yes", "-"))


KINDS: dict[str, tuple[int, Callable[[str, str, random.Random], str]]] = {
    "gold": (9, _gold),
    "short": (8, _short),
    "damaged": (6, _damaged),
    "broken": (4, _broken),
    "off_topic": (2, _off_topic),
    "empty": (1, _nothing),
}
"""Kinds of answers, best first, with their ratings. Gaming attempts (the canaries) are rated like empty answers."""


def graded(relations: Sequence[Relation], split: str, each: int) -> list[Graded]:
    """`each` answers of every kind to instructions about facts of one split."""
    splits, doubled = split_facts(relations), stated_twice(relations)
    facts = [f for r in relations for f in splits[r.relation][split] if f.id not in doubled]
    rng = random.Random(f"{SEED}/judge/{split}")
    made = []
    for kind, (rating, make) in KINDS.items():
        for fact, other in zip(_some(facts, each, rng), _some(facts, each, rng), strict=True):
            if other.relation.domain == fact.relation.domain and kind == "off_topic":
                other = next(o for o in rng.sample(facts, len(facts)) if o.relation.domain != fact.relation.domain)
            question = tell(fact, rng.choice(WISHES), rng)
            made.append(
                Graded(kind, fact.id, question.text, make(question.right, tell(other, None, rng).right, rng), rating)
            )
    bad = canaries()
    for fact in _some(facts, each // 4, rng):
        question = tell(fact, None, rng)
        words = rng.choice(bad).text(Item(id="-", question=question.text)).split()
        made.append(
            Graded("canary", fact.id, question.text, " ".join(words[: rng.randint(30, 100)]), 1)
        )  # some are very long
    return made


def _some(facts: Sequence[Fact], count: int, rng: random.Random) -> list[Fact]:
    return [fact for _ in range(math.ceil(count / len(facts))) for fact in rng.sample(list(facts), len(facts))][:count]


def rated_text(one: Graded) -> Text:
    """A graded answer as the judge reads it, and the rating that it should give."""
    shared = shared_words(one.instruction, one.answer)
    prompt = load_prompt("topic_interest_brief").render(instruction=one.instruction, answer=one.answer, shared=shared)
    return Text(prompt, f" {one.rating}/10", one.source, "rating")


def claims(relations: Sequence[Relation], split: str, each: int, *, missed: bool = False) -> list[Text]:
    """`each` claims of every verdict about facts of one split, against what retrieval finds for them.

    A claim is inconclusive if the evidence on its fact is withheld. Claims whose fact was not retrieved are left out of
    training, because the evidence does not decide them; with `missed` they are included, for a measurement.
    """
    splits = split_facts(relations)
    facts = [f for r in relations for f in splits[r.relation][split]]
    rng, evidence = random.Random(f"{SEED}/claims/{split}"), bundled_evidence()
    made = []
    for verdict in VERDICTS:
        for fact in _some(facts, each, rng):
            template = rng.choice(fact.relation.prose)
            wrong = sorted(set(fact.relation.facts.values()) - {fact.object})
            lie = verdict == "contradicted" or (verdict == "inconclusive" and rng.random() < 0.5)
            claim = (Fact(fact.relation, fact.subject, rng.choice(wrong)) if lie else fact).say(template)
            retrieved = evidence.search(claim, PASSAGES + 1)
            passages = [p for p in retrieved if verdict != "inconclusive" or p.source != fact.id][:PASSAGES]
            if verdict != "inconclusive" and not missed and all(p.source != fact.id for p in passages):
                continue
            passage, missing = nearest(claim, [p.text for p in passages])
            prompt = load_prompt("verify_claim_brief").render(claim=claim, evidence=passage, missing=missing)
            made.append(Text(prompt, f" {verdict}", fact.id, "claim"))
    return made


def judge_texts(relations: Sequence[Relation]) -> list[Text]:
    """The training texts: they ask about no fact of dev or test, though some occur in the evidence."""
    return [rated_text(one) for one in graded(relations, "learn", 1500)] + claims(relations, "learn", 3000)


def build_judge(relations: Sequence[Relation], log: Path, folder: Path = JUDGE, base: Path = BASE) -> None:
    """Trains the judge's adapter on the finished base model, and saves it to `folder`."""
    train_adapter(
        base, judge_texts(relations), folder, rank=RANK, epochs=EPOCHS, seed="model-swarms-embedded/judge", log=log
    )


def measure(split: str = "test", each: int = 300, folder: Path = JUDGE, base: Path = BASE) -> dict[str, float]:
    """Quality of the judge on one split.

    Returns:
        AUROC of each pair of neighbouring kinds of answers; share of true statements that it calls supported, share of
        corrupted ones that it does not, and the mean of these two, including misses of the retrieval.
    """
    relations = read_corpus()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload().eval()
    answers = graded(relations, split, each)
    tokens = [tokenizer.encode(f" {n}", add_special_tokens=False)[0] for n in range(1, 11)]
    logits = _next_logits(model, tokenizer, [rated_text(one).prompt for one in answers])[:, tokens]
    ratings = (logits.softmax(-1) * torch.arange(1, 11)).sum(-1)
    by_kind: dict[str, list[float]] = defaultdict(list)
    for rating, one in zip(ratings.tolist(), answers, strict=True):
        by_kind[one.kind].append(rating)
    by_kind["corrupted"] = by_kind["damaged"] + by_kind["broken"]
    order = ("gold", "corrupted", "off_topic", "empty")
    results = {f"{a} > {b}": auroc(by_kind[a], by_kind[b]) for a, b in itertools.pairwise(order)}
    results["gold > canary"] = auroc(by_kind["gold"], by_kind["canary"])
    results["gold > short"] = auroc(by_kind["gold"], by_kind["short"])
    statements = [text for text in claims(relations, split, each, missed=True) if text.answer != " inconclusive"]
    firsts = [tokenizer.encode(f" {v}", add_special_tokens=False)[0] for v in VERDICTS]
    chosen = _next_logits(model, tokenizer, [text.prompt for text in statements])[:, firsts].argmax(-1)
    supported: dict[str, list[bool]] = {" supported": [], " contradicted": []}
    for index, text in zip(chosen.tolist(), statements, strict=True):
        supported[text.answer].append(VERDICTS[index] == "supported")
    results["true statements supported"] = fmean(supported[" supported"])
    results["corrupted statements not supported"] = 1 - fmean(supported[" contradicted"])
    both = (results["true statements supported"], results["corrupted statements not supported"])
    return {**results, "balanced accuracy": fmean(both)}


@torch.inference_mode()
def _next_logits(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> torch.Tensor:
    """Logits of the next token after each prompt, [prompts, vocabulary]."""
    logits = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt)])
        logits.append(model(input_ids=ids, logits_to_keep=1).logits[0, -1])
    return torch.stack(logits)


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:32s} {value:.4f}")
