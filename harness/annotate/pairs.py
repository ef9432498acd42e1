"""Pairs of answers to compare: which answers, on which sides, and the key that maps sides to models.

The order of pairs and the sides are random by seed. Some pairs appear twice with swapped sides: do raters agree with
themselves? The key stays beside the run; pages contain texts only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.run_folder.read import Run, open_run
from harness.run_folder.store import Store, write_atomically
from utilities.core import ItemResult, Score
from utilities.errors import UserError, in_words

__all__ = ["Key", "Pair", "Side", "make_key", "read_key"]

Side = Literal["a", "b"]
REPEATED = 10
"""Every tenth pair is repeated by default."""
MODEL_NAMES = re.compile(
    r"\b(?:ChatGPT|GPT-?\d\w*|OpenAI|Claude|Anthropic|Gemini|Gemma|Llama|Mistral|Mixtral|Qwen|DeepSeek|Vicuna|Alpaca)\b",
    re.IGNORECASE,
)
"""Names by which language models present themselves."""


class Pair(BaseModel):
    """Two answers to one instruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str
    """`ITEM_SET/ID`."""
    instruction: str
    a: str
    b: str
    winner: Side
    """The side of the search's winner."""
    source: str
    """What the item shares with others; intervals are clustered by it."""
    score: float | None = None
    """The run's own score of the winner's answer; None if unscored."""
    other_score: float | None = None
    names_model: str | None = None
    """A model that one of the answers names."""
    repeats: int | None = None
    """Number of the pair that this one repeats with swapped sides."""

    def swapped(self, repeats: int) -> Pair:
        """The same answers on the other sides."""
        other: Side = "b" if self.winner == "a" else "a"
        return self.model_copy(update={"a": self.b, "b": self.a, "winner": other, "repeats": repeats})


class Key(BaseModel):
    """All pairs of an annotation, and which side is which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    other: str
    """The model that the winner is compared with."""
    seed: int
    identical: int
    """Instructions with identical answers, which are not shown."""
    pairs: tuple[Pair, ...]

    @property
    def id(self) -> str:
        """Hash of the content."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where the key and the verdicts of the local server are."""
        return Path(self.run) / "annotation"

    @property
    def verdicts(self) -> Path:
        """The file to which the local server appends verdicts."""
        return self.folder / f"{self.id}.jsonl"

    def save(self) -> Path:
        """Writes the key beside the run."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{self.id}.key.json"
        write_atomically(path, self.model_dump_json(indent=1))
        return path

    def shown(self, number: int) -> dict[str, Any]:
        """What a rater sees of a pair."""
        return {"pair": number, **self.pairs[number].model_dump(include={"item", "instruction", "a", "b"})}


def read_key(path: Path) -> Key:
    """A key that `Key.save` wrote.

    Raises:
        UserError: The file is corrupt.
    """
    try:
        return Key.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path} is corrupt: {in_words(error)}") from error


def make_key(folder: Path, against: str, items: int, repeats: int | None, seed: int) -> Key:
    """Pairs of test answers of a run's winner and of another model.

    Args:
        folder: The run.
        against: best-initial, base, or the folder of another run, whose winner is compared.
        items: Largest number of instructions.
        repeats: Pairs that appear twice; by default every tenth.
        seed: Decides which instructions, their order and the sides.

    Raises:
        UserError: No finished run, no text answers, other items in the other run, or too many repeats.
    """
    run = open_run(folder)
    _ = run.winner  # raises if the run is not finished
    ours, theirs = _answers(run, "winner"), _other_answers(run, against)
    if not ours.keys() & theirs.keys():
        raise UserError(f"{folder} and {against} have no test item in common")
    rng = random.Random(seed)
    pairs = list(_pairs(run, ours, theirs, rng))
    if not pairs:
        raise UserError(f"{folder}: the two models give identical answers to all {len(ours)} test items")
    identical = sum(theirs[key].text == one.text for key, one in ours.items() if key in theirs)
    rng.shuffle(pairs)
    pairs = pairs[:items]
    early, late = pairs[: max(1, len(pairs) // 3)], pairs[max(1, len(pairs) // 3) :]
    repeats = len(pairs) // REPEATED if repeats is None else repeats
    if repeats > len(early):
        raise UserError(f"--repeats {repeats}: at most a third of the {len(pairs)} pairs can be repeated")
    late += [early[k].swapped(k) for k in rng.sample(range(len(early)), repeats)]
    rng.shuffle(late)
    name = run.result.best_initial if run.result and against == "best-initial" else against
    return Key(run=str(folder.resolve()), other=name, seed=seed, identical=identical, pairs=(*early, *late))


class _Answer(NamedTuple):
    text: str
    score: float | None
    source: str
    instruction: str


def _other_answers(run: Run, against: str) -> Mapping[str, _Answer]:
    assert run.result is not None  # noqa: S101 - a run with a winner is finished
    if against == "base":
        return _answers(run, "base")
    if against == "best-initial":
        return _answers(run, f"expert_{run.result.best_initial}")
    other = Path(against).expanduser()
    if not (other / "settings.yaml").is_file():
        raise UserError(f"--against {against}: expected best-initial, base, or the folder of another run")
    return _answers(open_run(other), "winner")


def _answers(run: Run, label: str) -> dict[str, _Answer]:
    """The text answers of one model to the test items, by `ITEM_SET/ID`.

    Raises:
        UserError: There are none, or the task's data cannot be read.
    """
    stored = Store(run.folder).records(f"test_{label}")
    if stored is None:
        raise UserError(f"{run.folder} has no test answers of {label}")
    first, items = run.first_item_set, run.items
    found: dict[str, _Answer] = {}
    letters = 0
    for (_, part), results in stored.items():
        item_set = part.partition(":")[0] or first
        for one in results:
            item = items.get((item_set, "test", one.item_id))
            if item is None:
                raise UserError(f"{run.folder}: test item {item_set}/{one.item_id} is not in the task's data any more")
            if one.response.choice_logprobs is not None:
                letters += 1
            elif one.response.finish_reason != "unanswered":
                options = "".join(f"\n{letter}. {text}" for letter, text in (item.choices or {}).items())
                found[f"{item_set}/{one.item_id}"] = _answer(one, item_set, item.question + options)
    if letters and not found:
        raise UserError(f"{run.folder}: its answers are letters of options, and people compare texts")
    return found


def _answer(one: ItemResult, item_set: str, instruction: str) -> _Answer:
    source = one.cluster if one.cluster != one.item_id else f"{item_set}/{one.item_id}"
    score = one.outcome.value if isinstance(one.outcome, Score) else None
    return _Answer(one.response.text, score, source, instruction)


def _pairs(run: Run, ours: Mapping[str, _Answer], theirs: Mapping[str, _Answer], rng: random.Random) -> Iterator[Pair]:
    names = _own_names(run)
    for item in sorted(ours.keys() & theirs.keys()):
        winner, other = ours[item], theirs[item]
        if winner.instruction != other.instruction:
            raise UserError(f"the two runs have different instructions for test item {item}")
        if winner.text == other.text:
            continue
        side: Side = rng.choice(("a", "b"))
        named = next((found[0] for text in (winner.text, other.text) for found in names.finditer(text)), None)
        yield Pair(
            item=item,
            instruction=winner.instruction,
            a=winner.text if side == "a" else other.text,
            b=other.text if side == "a" else winner.text,
            winner=side,
            source=winner.source,
            score=winner.score,
            other_score=other.score,
            names_model=named,
        )


def _own_names(run: Run) -> re.Pattern[str]:
    """Names of models in general, and of this run's models if they are no plain words."""
    assert run.result is not None  # noqa: S101 - a run with a winner is finished
    own = [Path(run.result.model).name, *run.result.experts]
    own = [re.escape(name) for name in own if re.search(r"\d", name)]
    return re.compile("|".join([MODEL_NAMES.pattern, *(rf"\b{name}\b" for name in own)]), re.IGNORECASE)
