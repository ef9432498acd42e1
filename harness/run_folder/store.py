"""The run folder: settings, checkpoint, events, records, result.

Every write is atomic; a killed process loses at most one iteration.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from harness.run_folder.events import AnyEvent, Bus, parse_event
from utilities.bounded_input import read_json, read_yaml
from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored
from utilities.errors import UserError, describe, first_line
from utilities.foreign_text import printable

if TYPE_CHECKING:
    from utilities.tasks import Task

__all__ = ["Store", "checked_name", "free_folder", "write_atomically"]

MOST_NAME = 200


def write_atomically(path: Path, text: str) -> None:
    """Writes a file atomically and durably: at any time it has either the complete old or the complete new content."""
    with _replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def _replacing_file(path: Path) -> Iterator[Path]:
    """A temporary file that atomically replaces `path` if the block succeeds, and is deleted otherwise."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checked_name(name: str) -> str:
    """Checks the name of a run folder inside `--out`.

    Raises:
        UserError: It is a path, too long, or contains unprintable characters.
    """
    if name in {"", ".", ".."} or "/" in name or printable(name) != name or len(name.encode()) > MOST_NAME:
        raise UserError(
            f"--name {name!r}: expected the name of one folder inside --out, at most {MOST_NAME} bytes, without /"
        )
    return name


class Store:
    """One run folder, locked by one process at a time.

    Layout: settings.yaml, checkpoint/state.json, events.jsonl, items/*.parquet, records/*.parquet, best/, result.json.
    """

    def __init__(self, folder: Path, bus: Bus | None = None) -> None:
        self.folder = folder
        self.bus = bus or Bus()
        """Subscribers of what is measured in the folder."""
        self._lock = FileLock(folder / ".lock")
        self.read_only = False
        """Whether the folder is not writable; it is then read without a lock."""

    @staticmethod
    def check_new(folder: Path) -> None:
        """Checks that a new run folder can be created here.

        Raises:
            UserError: The folder exists and is not empty.
        """
        if (folder / "settings.yaml").is_file():
            raise UserError(
                f"{folder} exists already; continue it with `python run.py resume {folder}`, or choose another --name"
            )
        if folder.exists() and not Store.is_unbegun(folder):
            raise UserError(f"{folder} exists already and is no run folder; choose another --name")

    @staticmethod
    def is_unbegun(folder: Path) -> bool:
        """Whether a folder is empty, or contains only files of a run that was killed before it wrote its settings."""
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        return folder.is_dir() and left <= {"records", "checkpoint", ".lock", ".settings.yaml.partial"}

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any]) -> Store:
        """Creates a run folder.

        Raises:
            UserError: The folder exists and is not empty, or cannot be written.
        """
        cls.check_new(folder)
        try:
            (folder / "records").mkdir(parents=True, exist_ok=True)
            (folder / "checkpoint").mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}") from error
        store = cls(folder)
        store._hold()
        cls.check_new(folder)  # another process may have created it first
        write_atomically(folder / "settings.yaml", yaml.safe_dump(dict(settings), sort_keys=False))
        return store

    @classmethod
    def clear_interrupted(cls, folder: Path, kind: str, result: str) -> None:
        """Removes what a command wrote that ended before it wrote its result, so that the same command works again.

        Args:
            folder: The run folder; nothing happens if it is none.
            kind: A key of its settings, which only this command writes.
            result: Pattern of the files of its result.

        Raises:
            UserError: As in `open`.
        """
        if not (folder / "settings.yaml").is_file():
            return
        store = cls.open(folder)
        try:
            if kind in store.settings() and not any(folder.glob(result)):
                for pattern in ("settings.yaml", "events.jsonl", "records/*", "items/*", ".*.partial"):
                    for path in folder.glob(pattern):
                        path.unlink()
                if (folder / "items").is_dir():
                    (folder / "items").rmdir()
        finally:
            store.close()

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Opens an existing run folder to continue it.

        Raises:
            UserError: Not a run folder, a corrupt one, or in use by another process.
        """
        if not (folder / "settings.yaml").is_file():
            raise UserError(f"{folder} is no run folder: it holds no settings.yaml")
        store = cls(folder)
        for name, is_right in (("events.jsonl", Path.is_file), ("records", Path.is_dir), ("checkpoint", Path.is_dir)):
            if (folder / name).exists() and not is_right(folder / name):
                raise UserError(f"{folder / name} is corrupt: it is no {'file' if '.' in name else 'folder'}")
        store._hold()
        if not store.read_only:
            store._end_last_event()
        return store

    def _hold(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by another process; wait for it or choose another --name"
            ) from None
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise
            self.read_only = True

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    @property
    def in_use(self) -> bool:
        """Whether another process holds the lock."""
        if not (self.folder / ".lock").exists():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # not writable
            return False
        self._lock.release()
        return False

    # -- settings and checkpoint -------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The content of `settings.yaml`.

        Raises:
            UserError: The file is corrupt.
        """
        try:
            data = read_yaml((self.folder / "settings.yaml").read_bytes())
            return dict(data)
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"{self.folder / 'settings.yaml'} is corrupt: {first_line(error)}") from error

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint; it contains the hashes of `settings.yaml` and of itself."""
        document = {**state, "settings_sha256": self._settings_hash()}
        own = _hash(json.dumps(document, allow_nan=False).encode())
        write_atomically(self.folder / "checkpoint" / "state.json", json.dumps({**document, "sha256": own}))

    def checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint; None before the first.

        Raises:
            UserError: It is corrupt, or `settings.yaml` was edited.
        """
        path = self.folder / "checkpoint" / "state.json"
        if not path.exists():
            return None
        try:
            document = dict(read_json(path.read_bytes(), finite=True))
            own = document.pop("sha256", None)  # None in version 0.1
            if own is not None and own != _hash(json.dumps(document).encode()):
                raise ValueError("it is not what the run wrote")
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is corrupt: {describe(error)}; start a new run") from error
        if own is not None and document.pop("settings_sha256", None) != self._settings_hash():
            raise UserError(
                f"{self.folder / 'settings.yaml'} was edited since the last checkpoint; restore it, or start a new run"
            )
        return document

    def _settings_hash(self) -> str:
        return _hash((self.folder / "settings.yaml").read_bytes())

    # -- events ------------------------------------------------------------------------------------------------------

    def log(self, event: AnyEvent) -> None:
        """Appends an event to `events.jsonl`."""
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def events(self) -> Iterator[AnyEvent]:
        """The logged events; incomplete lines (from a killed process) are skipped."""
        path = self.folder / "events.jsonl"
        # As bytes: a line may end within a character, and only a line feed ends a line of JSON.
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            try:
                yield parse_event(line)
            except ValueError:
                continue

    def _end_last_event(self) -> None:
        """Terminates an incomplete last line, so that the next event starts a new one."""
        path = self.folder / "events.jsonl"
        if path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"}:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    # -- records -----------------------------------------------------------------------------------------------------

    def save_records(self, name: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
        """Writes `records/<name>.parquet`: one row per (label, item) of the evaluations."""
        import pyarrow as pa
        from pyarrow import parquet

        rows = [
            {
                "label": label,
                "item_set": part,
                "item": result.item_id,
                "cluster": result.cluster,
                "prompt_hash": result.prompt_hash,
                "response": result.response.text,
                "tokens": result.response.tokens,
                "finish_reason": result.response.finish_reason,
                "more": list(result.response.more),
                "score": result.outcome.value if isinstance(result.outcome, Score) else None,
                "measures": list(result.outcome.measures.items()) if isinstance(result.outcome, Score) else [],
                "notes": result.outcome.notes if isinstance(result.outcome, Score) else None,
                "unscored": result.outcome.reason.value if isinstance(result.outcome, Unscored) else None,
                "detail": result.outcome.detail if isinstance(result.outcome, Unscored) else None,
                "choice_logprobs": result.response.choice_logprobs,
            }
            for label, evaluation in evaluations
            for part, leaf in evaluation.leaves.items()
            for result in leaf.results
        ]
        path = self.folder / "records" / f"{name}.parquet"
        with _replacing_file(path) as partial:
            parquet.write_table(pa.Table.from_pylist(rows, schema=_record_schema()), partial, compression="zstd")

    def save_items(self, task: Task, *held_out: Task | None) -> None:
        """Writes `items/<task>.parquet`, the items that records refer to by id, unless it exists.

        Args:
            task: The task of the records.
            held_out: Parts of it that a search does not see; None is skipped.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = self.folder / "items" / f"{task.name}.parquet"
        if self.read_only or path.exists():
            return
        rows = [
            {"item_set": name, "split": split, "item": item.id, "json": item.model_dump_json()}
            for part in (task, *held_out)
            if part is not None
            for name, s in part.item_sets.items()
            for split in ("dev", "test")
            for item in s.split(split)
        ]
        unique = {(row["item_set"], row["split"], row["item"]): row for row in rows}
        path.parent.mkdir(exist_ok=True)
        with _replacing_file(path) as partial:
            schema = pa.schema([(name, pa.string()) for name in ("item_set", "split", "item", "json")])
            parquet.write_table(pa.Table.from_pylist(list(unique.values()), schema=schema), partial, compression="zstd")

    def items(self, task: str = "*") -> dict[tuple[str, str, str], Item]:
        """The items of `save_items` by (item set, split, id), by default of all tasks; empty if there are none.

        Raises:
            UserError: A file is corrupt.
        """
        import pyarrow as pa
        from pyarrow import parquet

        items = {}
        for path in sorted((self.folder / "items").glob(f"{task}.parquet")):
            try:
                for row in parquet.read_table(path).to_pylist():
                    items[row["item_set"], row["split"], row["item"]] = Item.model_validate_json(row["json"])
            except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path} is corrupt; delete it: {describe(error)}") from error
        return items

    def evaluation(self, name: str, combine: Callable[..., Any]) -> Evaluation | None:
        """The evaluation of one model in `records/<name>.parquet`, its parts combined; None if there is no such file.

        Parts are item sets, or groups of them, as named in the records.

        Raises:
            UserError: The file is corrupt.
        """
        from utilities.combine import combine_evaluations

        stored = self.records(name)
        if stored is None:
            return None
        return combine_evaluations({part: Evaluation.of(results) for (_, part), results in stored.items()}, combine)

    def evaluations(self, name: str, combine: Callable[..., Any]) -> dict[str, Evaluation]:
        """The evaluations in `records/<name>.parquet` by label, in order; empty if there is no such file.

        Raises:
            UserError: The file is corrupt.
        """
        from utilities.combine import combine_evaluations

        by_label: dict[str, dict[str, Evaluation]] = {}
        for (label, part), results in (self.records(name) or {}).items():
            by_label.setdefault(label, {})[part] = Evaluation.of(results)
        return {label: combine_evaluations(parts, combine) for label, parts in by_label.items()}

    def records(self, name: str) -> dict[tuple[str, str], list[ItemResult]] | None:
        """The item results of `records/<name>.parquet` by (label, item set); None if there is no such file.

        Raises:
            UserError: The file is corrupt.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = self.folder / "records" / f"{name}.parquet"
        if not path.exists():
            return None
        try:
            rows = parquet.read_table(path).to_pylist()
            return _results(rows)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is corrupt; delete it, and its items are evaluated again: {describe(error)}"
            ) from error

    # -- results -----------------------------------------------------------------------------------------------------

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A temporary folder that replaces `<run folder>/<name>` if the block succeeds, and is deleted otherwise."""
        partial, final = self.folder / f".{name}.partial", self.folder / name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)

    def save_hash(self, name: str) -> None:
        """Stores the hash of the weights in `<run folder>/<name>`."""
        write_atomically(self._hash_file(name), _weights_hash(self.folder / name))

    def is_intact(self, name: str) -> bool:
        """Whether `<run folder>/<name>` holds a config and the weights that were written; False if it is missing."""
        folder = self.folder / name
        if not any((folder / config).is_file() for config in ("adapter_config.json", "config.json", "mixture.json")):
            return False
        try:
            stored = self._hash_file(name)
            if stored.exists():  # not in version 0.1
                return stored.read_text(encoding="utf-8") == _weights_hash(folder)
            return any(folder.rglob("*.safetensors"))
        except (OSError, ValueError):
            return False

    def _hash_file(self, name: str) -> Path:
        return self.folder / "checkpoint" / f"{name}.sha256"

    def save_result(self, text: str) -> None:
        """Writes `result.json`."""
        write_atomically(self.folder / "result.json", text)


def free_folder(out: Path, stem: str) -> Path:
    """A folder in `out` that does not exist yet: `stem`, or `stem-2`, ..."""
    taken = {path.name for path in out.iterdir()} if out.is_dir() else set()
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return out / name


def _weights_hash(folder: Path) -> str:
    mixture = folder.glob("mixture.json")  # of a mixture of token probabilities: the models are below it
    names = sorted(path.relative_to(folder).as_posix() for path in (*folder.rglob("*.safetensors"), *mixture))
    return _hash("".join(f"{name} {_hash((folder / name).read_bytes())}\n" for name in names).encode())


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def _results(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[ItemResult]]:
    """The item results of a table of records.

    Raises:
        KeyError: A column is missing.
        TypeError: A value has a wrong type.
        ValueError: A score is not a number, a reason is unknown, or an item occurs twice.
    """
    results: dict[tuple[str, str], list[ItemResult]] = {}
    seen: set[tuple[str, str, str]] = set()
    for row in rows:
        outcome = (
            Unscored(Reason(row["unscored"]), row["detail"] or "")
            if row["unscored"] is not None
            else Score(row["score"], dict(row["measures"]), row.get("notes") or "")
        )
        logprobs = None if row["choice_logprobs"] is None else tuple(row["choice_logprobs"])
        response = Response(row["response"], row["tokens"], row["finish_reason"], logprobs, tuple(row["more"]))
        texts = [row[name] for name in ("label", "item_set", "item", "cluster", "prompt_hash", "response")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(row["tokens"], int):
            raise TypeError(f"a row of {texts[:3]} has a value of another type")
        label, part, item, cluster, hashed, _ = texts
        if (label, part, item) in seen:
            raise ValueError(f"item {item!r} of {label!r} is there twice")
        seen.add((label, part, item))
        results.setdefault((label, part), []).append(ItemResult(item, cluster, hashed, response, outcome))
    return results


def _record_schema() -> Any:
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.float64())
    columns: dict[str, Any] = {
        **dict.fromkeys(("label", "item_set", "item", "cluster", "prompt_hash", "response"), text),
        **{"tokens": pa.int64(), "finish_reason": text, "more": pa.list_(text), "choice_logprobs": numbers},
        **{"score": pa.float64(), "measures": pa.map_(text, pa.float64()), "notes": text, "unscored": text},
        "detail": text,
    }
    return pa.schema(list(columns.items()))
