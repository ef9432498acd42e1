"""Reads the items of a task, and their examples for `few_shot`, from files, the hub or the task file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from utilities.answer_keys import lettered
from utilities.core import Item, Scorer, Split
from utilities.data_files import Part, check_columns, checked_items, read_published
from utilities.errors import UserError
from utilities.hub import read_hub
from utilities.prompt_format import draw_examples
from utilities.scorers.base import PromptedScorer
from utilities.task_file import Edition, ItemSetFile

__all__ = ["read_item_set", "read_items", "with_examples"]


def read_items(
    edition: Edition, folder: Path, data: Path | None = None, scorers: Mapping[str, Scorer | None] | None = None
) -> dict[str, dict[Part, list[Item]]]:
    """The items of an edition by item set and part, without its scorers.

    Args:
        edition: An edition of a task file.
        folder: The task file's folder.
        data: Folder with the published data files.
        scorers: Scorers whose prompts' columns the items have, by item set.

    Raises:
        UserError: Data are missing or malformed.
    """
    return {
        name: read_item_set(name, s, folder / "data", data, (scorers or {}).get(name))[0]
        for name, s in edition.item_sets.items()
    }


def with_examples(
    scorer: Scorer, described: ItemSetFile, parts: Mapping[Part, list[Item]], origin: str
) -> tuple[dict[Split, list[Item]], str]:
    """Gives the scorer its examples for `few_shot`.

    Returns:
        The items that are asked, by split, and where the examples are from, in words.

    Raises:
        UserError: The scorer takes no examples, or there are not enough.
    """
    asked: dict[Split, list[Item]] = {"dev": parts["dev"], "test": parts["test"]}
    if not isinstance(scorer, PromptedScorer) or not scorer.prompt.few_shot:
        return asked, ""
    count, train = scorer.prompt.few_shot, parts.get("train")
    source = described.examples or ("train" if train is not None else "dev")
    answered = [item for item in (asked["dev"] if train is None else train) if scorer.gold_text(item).strip()]
    drawn = draw_examples(count, answered, [*asked["dev"], *asked["test"]])
    if drawn is None or (train is None and len(drawn) == len(asked["dev"])):
        raise UserError(
            f"{origin}: few_shot: {count}: {source} has {len(answered)} items with an answer, which are too few for"
            f" {count} examples of other questions and sources before every item; name a file with `examples`, add a"
            " list `train` to the data, or take fewer"
        )
    scorer.show_examples(drawn)
    if train is not None:
        return asked, f"{len(drawn)} items of {source}"
    shown = {item.id for item in drawn}
    asked["dev"] = [item for item in asked["dev"] if item.id not in shown]
    return asked, f"{len(drawn)} items of dev, which are not asked"


def read_item_set(
    name: str, described: ItemSetFile, beside: Path, data: Path | None, scorer: Scorer | None
) -> tuple[dict[Part, list[Item]], str]:
    """The items of both splits, examples in `train`, and their origin."""
    columns = scorer.columns if isinstance(scorer, PromptedScorer) else ()
    parts, origin = _read_parts(name, described, beside, data, columns)
    if described.examples is not None:
        path = _in_folders(described.examples, beside, data)
        if not path.is_file():
            raise UserError(f"item set {name!r}: the file of its examples {path} does not exist")
        examples = read_published(path, described.answers, columns=columns)
        return {**parts, "train": [item for own in examples.values() for item in own]}, origin
    return parts, origin


def _read_parts(
    name: str, described: ItemSetFile, beside: Path, data: Path | None, columns: Sequence[str]
) -> tuple[dict[Part, list[Item]], str]:
    path = _in_folders(described.file or "", beside, data)
    if described.items is not None:
        origin = f"{beside.parent}, item set {name!r}"
        return _inline(described, origin, columns), origin
    if path.is_file():
        return read_published(path, described.answers, described.group_by, columns), str(path)
    if data is not None:  # no fallback: other data would go unnoticed
        hub = f"; without --data the hub would be asked for {described.hub.path}" if described.hub else ""
        raise UserError(f"item set {name!r}: --data {data} holds no file {described.file}{hub}")
    if described.hub is not None:
        own = beside.parent / described.hub.path  # relative to the task file's folder
        source = described.hub.model_copy(update={"path": str(own)}) if own.is_dir() else described.hub
        return read_hub(source, described.group_by, columns), described.hub.path
    raise UserError(
        f"item set {name!r}: {path} does not exist and there is no public copy on the hub;"
        f" give the folder that holds {described.file} with --data DIR"
    )


def _in_folders(file: str, beside: Path, data: Path | None) -> Path:
    """Path of a data file in `--data`, or in the folder `data` beside the task file, or beside it."""
    path = (data or beside) / file
    return beside.parent / file if data is None and not path.is_file() and (beside.parent / file).is_file() else path


def _inline(described: ItemSetFile, where: str, columns: Sequence[str]) -> dict[Part, list[Item]]:
    """Items inside the task file; a plain text is an instruction."""
    lists = described.items or {}
    entries = [
        (split, k, {"question": entry} if isinstance(entry, str) else entry)
        for split, rows in lists.items()
        for k, entry in enumerate(rows)
    ]
    locations = [f"{where}, {split} item {k}" for split, k, _ in entries]
    items = lettered([entry for *_, entry in entries], locations.__getitem__, described.answers)
    check_columns(items, columns, where)
    splits: dict[Part, list[Item]] = {}
    for split in lists:
        indices = [k for k, (name, *_) in enumerate(entries) if name == split]
        own_locations = [locations[k] for k in indices]
        group_by = described.group_by if split != "train" else None
        splits[split] = checked_items([items[k] for k in indices], own_locations.__getitem__, group_by, columns)
    return splits
