"""Measures SmolLM2 and its ten experts, and writes `REPORT-smollm2.md`.

    python -m harness.embedded_training.smollm2_report --data PUBLISHED      # a folder with the published data files

Resumable: every measurement is stored in `runs/smollm2-report`. Everything is computed in bfloat16 by the local engine,
with few items, so that it fits a laptop: intervals are wide.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.embedded import smollm2
from harness.embedded.smollm2_lessons import EXPERTS
from harness.engines.base import Engine
from harness.engines.tokenizer import Tokens
from harness.run_folder.store import write_atomically
from harness.session.session import BASE, Session, open_session
from harness.session.settings import run_settings
from utilities.core import Chat, Item, Model, Split, Unscored
from utilities.judges.text_features import words
from utilities.tasks import Task, load_task

RUNS = Path("runs/smollm2-report")
REPORT = Path(__file__).parent / "REPORT-smollm2.md"
TEXT = Path(__file__).parents[2] / "README.md"
"""General English on which perplexity is measured."""
DOMAINS = ("medical", "legal", "science", "culture")
MINI = (*DOMAINS, "gsm8k")
"""Tasks on which every expert is measured."""
PUBLISHED = ("hellaswag", "mmlu", "culture", "medical")
"""Published tasks on which the base model is measured."""
INSTRUCTIONS, PARAGRAPHS = 3, 8

Cell = dict[str, Any]
"""What was measured of one model on one item set, such as value, se and n."""


def stored(name: str, measure: Callable[[], Any]) -> Any:
    """The stored measurement of this name; measures and stores it if there is none."""
    path = RUNS / f"{name}.json"
    if not path.exists():
        began = time.monotonic()
        value = measure()
        RUNS.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(value) + "\n")
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def cells(model: Model, task: Task, split: Split) -> dict[str, Cell]:
    """The values of a model by item set, and of the whole task under the task's name."""
    evaluation = asyncio.run(task(model, split))
    leaves = {name or next(iter(task.item_sets)): one for name, one in evaluation.leaves.items()}
    every = {**leaves, task.name: evaluation} if len(leaves) > 1 else {task.name: evaluation}
    return {name: {"value": one.value, "se": one.se, "n": one.n} for name, one in every.items()}


def formats(model: Model, limit: int) -> dict[str, dict[str, Cell]]:
    """The base model on dev of the four domains, with the plain prompt and in the chat format."""
    found = {}
    for name in DOMAINS:
        for prompt in ("plain", "chatml"):
            task = load_task(name, edition="mini", limit=limit, options={"prompt": prompt})
            found[f"{name}, {prompt}"] = stored(f"format-{name}-{prompt}", partial(cells, model, task, "dev"))
    return found


def guessing(items: Sequence[Item]) -> tuple[float, float]:
    """The value of guessing, and of the best answer that is always the same letter."""
    letters = Counter(item.answer for item in items)
    sizes = [len(item.choices or {}) for item in items]
    chance = float(np.mean([1 / size for size in sizes])) if all(sizes) else 0.0
    return chance, max(letters.values()) / len(items)


def published(model: Model, data: Path, limit: int) -> dict[str, Cell]:
    """The base model on test of the published item sets, beside guessing."""
    found: dict[str, Cell] = {}
    for name in PUBLISHED:
        task = load_task(name, edition="full", data=data, limit=limit)

        def measure(task: Task = task) -> dict[str, Cell]:
            measured = cells(model, task, "test")
            for set_name, one in task.item_sets.items():
                cell = measured.get(set_name) or measured[task.name]
                cell["chance"], cell["constant"] = guessing(one.test)
            return {key: cell for key, cell in measured.items() if "chance" in cell}

        found |= stored(f"published-{name}", measure)
    return found


def perplexity(model: Model, tokens: Tokens) -> float:
    """Perplexity on paragraphs of `TEXT`: of each paragraph after its first sixty characters."""
    paragraphs = [p.replace("\n", " ") for p in TEXT.read_text(encoding="utf-8").split("\n\n")]
    chosen = [p for p in paragraphs if len(p) > 200 and p[0].isalpha()][:PARAGRAPHS]
    begins, ends = [p[:60].rsplit(" ", 1)[0] for p in chosen], []
    ends = [p[len(begin) :] for p, begin in zip(chosen, begins, strict=True)]
    answers = asyncio.run(model.choice_logprobs(begins, [[end] for end in ends]))
    total = sum(answer.logprobs[0] for answer in answers if not isinstance(answer, Unscored))
    return math.exp(-total / sum(len(ids) for ids in tokens.ids(ends, add_special_tokens=False)))


def answers(model: Model) -> dict[str, Any]:
    """Length, cuts and repetition of answers to instructions about electric vehicles, and the answers."""
    task = load_task("electric_vehicles", edition="mini", limit=INSTRUCTIONS, utility="exact_match")
    questions = [item.question for one in task.item_sets.values() for item in one.dev]
    made = asyncio.run(model.generate([Chat.of([("user", question)]) for question in questions], max_tokens=100))
    said = [one for one in made if not isinstance(one, Unscored)]
    split = [words(one.text) for one in said]
    trigrams = [list(zip(w, w[1:], w[2:], strict=False)) for w in split]
    repeated = [1 - len(set(t)) / len(t) if t else 0.0 for t in trigrams]
    return {
        "words": float(np.mean([len(w) for w in split])),
        "cut": float(np.mean([one.finish_reason == "length" for one in said])),
        "repeated": float(np.mean(repeated)),
        "answers": [[question, one.text] for question, one in zip(questions, said, strict=False)],
    }


@dataclass(frozen=True)
class Strengths:
    """What was measured of one model."""

    tasks: Mapping[str, Cell]
    perplexity: float
    answers: Mapping[str, Any]


def _mini_cell(model: Model, task: str, limit: int) -> Cell:
    return cells(model, load_task(task, edition="mini", limit=limit), "dev")[task]


def strengths(session: Session, engine: Engine, name: str, limit: int) -> Strengths:
    """Every mini task on dev, perplexity, and answers of one model."""
    row = None if name == BASE else np.eye(len(session.pool.names))[session.pool.names.index(name)]
    model, key = engine.particle(row), name.replace(" ", "-")
    measured = {task: stored(f"{key}-{task}", partial(_mini_cell, model, task, limit)) for task in MINI}
    tokens = Tokens(session.base)
    return Strengths(
        measured,
        stored(f"{key}-perplexity", lambda: perplexity(model, tokens)),
        stored(f"{key}-answers", lambda: answers(model)),
    )


def shown(cell: Cell) -> str:
    """A value with its standard error."""
    return "-" if cell["value"] is None else f"{cell['value']:.2f} ± {cell['se']:.2f}"


def report(
    prompts: Mapping[str, Mapping[str, Cell]],
    tasks: Mapping[str, Cell],
    pool: Mapping[str, Strengths],
    limit: int,
    expert_limit: int,
) -> str:
    """The whole report as markdown."""
    lines = [
        "# SmolLM2-135M-Instruct and its ten experts",
        "",
        "Written by `python -m harness.embedded_training.smollm2_report`. ± is the standard error over items. At most",
        f"{limit} items of each item set ({expert_limit} in the table of experts); less than two standard errors say",
        "nothing.",
        "",
        "## Plain prompts or the chat format",
        "",
        "The base model on dev; each domain is the harmonic mean of two item sets.",
        "",
        "| domain | plain | chat format |",
        "|---|---|---|",
        *(
            f"| {name} | {shown(prompts[f'{name}, plain'][name])} | {shown(prompts[f'{name}, chatml'][name])} |"
            for name in DOMAINS
        ),
        "",
    ]
    if tasks:
        lines += [
            "## The published tasks",
            "",
            "The base model on test. Above chance: the value minus two standard errors is above guessing.",
            "",
            "| item set | items | value | guessing | best constant answer | above chance |",
            "|---|---|---|---|---|---|",
            *(
                f"| {name} | {cell['n']} | {shown(cell)} | {cell['chance']:.2f} | {cell['constant']:.2f} |"
                f" {'yes' if cell['value'] - 2 * cell['se'] > cell['chance'] else 'no'} |"
                for name, cell in tasks.items()
            ),
            "",
        ]
    if not pool:
        return "\n".join(lines)
    lines += [
        "## What each expert is for, and what it can do",
        "",
        "| model | trained on |",
        "|---|---|",
        *(f"| {name} | {expert.use} |" for name, expert in EXPERTS.items()),
        "",
        f"Values on dev of the mini tasks; perplexity on {TEXT.name}; {INSTRUCTIONS} instructions on electric vehicles",
        "answered in the chat format by at most 100 tokens: mean words, share of answers that were cut, and share of",
        "repeated word trigrams.",
        "",
        f"| model | {' | '.join(MINI)} | perplexity | words | cut | repeated |",
        "|---" * (len(MINI) + 5) + "|",
        *(
            f"| {name} | {' | '.join(shown(one.tasks[task]) for task in MINI)} | {one.perplexity:.1f} |"
            f" {one.answers['words']:.0f} | {one.answers['cut']:.2f} | {one.answers['repeated']:.2f} |"
            for name, one in pool.items()
        ),
        "",
        "## The first answers",
        "",
    ]
    for name, one in pool.items():
        question, answer = one.answers["answers"][0]
        lines += [f"**{name}**, to: {question}", "", f"> {' '.join(answer.split()) or '(empty)'}", ""]
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the published data files")
    parser.add_argument("--limit", type=int, default=30, help="items of each item set, for the base model")
    parser.add_argument("--expert-limit", type=int, default=15, help="items of each item set, for every expert")
    parser.add_argument("--experts", help="experts to measure, separated by commas; '' for none (default: all)")
    given = parser.parse_args()
    session = open_session(run_settings({"task": "medical", "family": smollm2.NAME}))
    engine = session.engine()
    try:
        base = engine.particle(None)
        prompts = formats(base, given.limit)
        tasks = published(base, given.data, given.limit) if given.data else {}
        chosen = session.pool.names if given.experts is None else [one for one in given.experts.split(",") if one]
        if missing := sorted(set(chosen) - set(session.pool.names)):
            parser.error(f"no expert is called {missing[0]}; there are {', '.join(session.pool.names)}")
        names = (BASE, *chosen) if chosen else ()
        pool = {name: strengths(session, engine, name, given.expert_limit) for name in names}
    finally:
        engine.close()
    REPORT.write_text(report(prompts, tasks, pool, given.limit, given.expert_limit), encoding="utf-8")


if __name__ == "__main__":
    main()
