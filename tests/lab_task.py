"""A task of two dozen items and utilities of a user, for labs on tiny real models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.session.settings import RunSettings, run_settings

__all__ = ["make_task", "settings"]

UTILITIES = """
import random

from utilities import utility


@utility(max_tokens=6)
def vowels(item, response):
    return sum(letter in "aeiou" for letter in response.text.lower()) / (1 + len(response.text))


@utility(max_tokens=6)
def length(item, response):
    return len(response.text)


@utility(max_tokens=6)
def coin(item, response):
    return random.random()


@utility(max_tokens=6)
def nothing(item, response):
    return float("nan")
"""


def make_task(folder: Path) -> Path:
    """Writes `sums.yaml`, scored by `numeric`, `parity.yaml` of options, and `mine.py`."""
    (folder / "data").mkdir()
    items = [{"id": f"i{k}", "question": f"What is {k} and {k}?", "answer": str(2 * k)} for k in range(24)]
    asked = [{**item, "choices": {"A": "odd", "B": "even"}, "answer": "AB"[k % 2]} for k, item in enumerate(items)]
    for name, content in (("sums", items), ("parity", asked)):
        (folder / "data" / f"{name}.json").write_text(json.dumps({"dev": content, "test": content[:22]}))
    scorers: dict[str, dict[str, Any]] = {
        "sums": {"scorer": "numeric", "options": {"prompt": "plain", "max_tokens": 3}},
        "parity": {"scorer": "multiple_choice", "options": {"prompt": "plain", "answer_by": "text"}},
    }
    for name, scorer in scorers.items():
        sets = {name: {**scorer, "file": f"{name}.json"}}
        task = {"name": name, "title": name, "editions": {"own": {"item_sets": sets}}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    (folder / "mine.py").write_text(UTILITIES)
    return folder


def settings(base: Path, adapters: Sequence[Path], **changes: Any) -> RunSettings:
    """Of a lab on the three tiny experts."""
    flat: dict[str, Any] = {"task": "sums.yaml", "base_model": str(base), "device": "cpu", "seed": 3, "particles": 4}
    return run_settings({**flat, "experts": tuple(map(str, adapters)), **changes})
