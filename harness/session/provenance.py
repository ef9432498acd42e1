"""Provenance of a run folder (settings, versions, hashes of inputs), and the checks before it is resumed."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from harness.experts.files import folder_hash
from harness.experts.token_pool import pool_parts
from harness.run_folder.store import Store
from harness.session.session import Session
from harness.session.settings import RunSettings
from utilities.errors import UserError
from utilities.scorers.base import PromptedScorer
from utilities.task_file import read_task_file
from utilities.tasks import Task
from utilities.user_code import absolute_spec, file_of

__all__ = ["changed_inputs", "changed_settings", "changed_tasks", "open_folder", "provenance", "task_hash"]

MAY_CHANGE = {"budget_tokens", "budget_usd"}
"""Settings that may differ on resume: a run stopped by its budget needs a larger one."""


def open_folder(
    folder: Path, kind: str, document: Mapping[str, Any], differences: Callable[[Any, Any], Iterator[str]]
) -> Store:
    """Creates a folder, or opens the folder of an interrupted study.

    Args:
        folder: Folder of the study.
        kind: The verb, which is also the key of its settings in `settings.yaml`.
        document: Content of `settings.yaml`.
        differences: Returns the differences between the stored document and this one, as messages.

    Raises:
        UserError: The folder holds other files, was created with other settings, or is in use.
    """
    if not (folder / "settings.yaml").is_file():
        if folder.exists() and not Store.is_unbegun(folder):
            raise UserError(f"--out {folder} already exists and is not a folder of `{kind}`; choose another folder")
        return Store.create(folder, document)
    store = Store.open(folder)
    try:
        then, now = store.settings(), yaml.safe_load(yaml.safe_dump(dict(document), sort_keys=False))
        if kind not in then:
            raise UserError(f"--out {folder} already exists and is not a folder of `{kind}`; choose another folder")
        if changes := list(dict.fromkeys(differences(then, now))):
            raise UserError(
                f"cannot resume `{kind}` in {folder}: its settings differ: {'; '.join(changes)}. Re-run with the"
                " original settings or use another --out"
            )
    except BaseException:
        store.close()
        raise
    return store


def changed_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences between two settings documents as messages, except for `MAY_CHANGE`."""
    for name in {**then, **now}:
        before, after = then.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changed_settings(before, after)
        elif before != after and name not in MAY_CHANGE:
            yield f"{name} was {_shown(before)} and is now {_shown(after)}"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def provenance(session: Session) -> dict[str, Any]:
    """Content of `settings.yaml` besides the settings: versions, commit, and hashes of data and experts."""
    packages = {}
    for package in ("model-swarms", "torch", "transformers", "peft", "safetensors", "numpy", "scipy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "versions": {"python": platform.python_version(), **packages},
        "commit": _commit(),
        "task": task_hash(session.settings, session.task),
        "data": {name: _data_hash(s.dev + s.test) for name, s in session.task.item_sets.items()},
        "experts": {expert.name: folder_hash(expert.folder) for expert in session.pool.experts} | _own_bases(session),
        "base": folder_hash(session.base),
    }


def _own_bases(session: Session) -> dict[str, str]:
    """Hashes of the base models of adapters that have their own, by the first expert's name."""
    others = [part for part in pool_parts(session.pool) if part.base is not session.pool.base and part.kind == "lora"]
    return {f"base model of {part.names[0]}": folder_hash(part.base.folder) for part in others}


def changed_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of inputs (task, item sets, experts, base model) whose content changed since the run was created."""
    changed = [] if then.get("task") == now["task"] else ["the task file, a prompt or the utility"]
    for kind, group in (("item set", "data"), ("expert", "experts")):
        before, after = then.get(group, {}), now[group]
        changed += [f"{kind} {k!r}" for k in {**before, **after} if before.get(k) != after.get(k)]
    if then.get("base") != now["base"]:
        changed.append("the base model")
    return changed


def changed_tasks(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences between the tasks of two documents of a study, as messages.

    Args:
        then: Settings and provenance of each task, by its name, when the study was created.
        now: The same of this call.
    """
    if list(then) != list(now):
        yield f"the tasks were {', '.join(then)} and are now {', '.join(now)}"
        return
    for name, document in now.items():
        before = then[name]
        yield from (f"{name}: {one}" for one in changed_settings(before["settings"], document["settings"]))
        yield from (f"{name}: {what} changed since it began" for what in changed_inputs(before, document))


def _commit() -> str | None:
    """The commit of the checkout that contains the package; None if there is none."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def task_hash(settings: RunSettings, task: Task) -> str:
    """Hash of the task file's scorers and combination, and of the user's own scorer files.

    Titles and recommended settings are not part of it; prompt files and few-shot examples are.
    """
    task_file, path = read_task_file(settings.task, trust=settings.trust_task)
    edition = task_file.editions[task.edition]
    parts = [task.combination, *(f"{name} {s.model_dump_json()}" for name, s in edition.item_sets.items())]
    parts += [f"{name} weighs {weight}" for name, weight in sorted((task.weights or {}).items())]
    digest = sha256("\n".join(parts).encode())
    for item_set in task.item_sets.values():
        for prompt in item_set.scorer.prompts if isinstance(item_set.scorer, PromptedScorer) else ():
            if prompt.template.about is None or prompt.examples:
                digest.update(prompt.fingerprint.encode())
    utility = settings.utility
    for spec in [utility] if utility else [absolute_spec(s.scorer, path.parent) for s in edition.item_sets.values()]:
        if (own := file_of(spec)) is not None:
            digest.update(own.read_bytes())
    return digest.hexdigest()[:16]


def _data_hash(items: tuple[Any, ...]) -> str:
    digest = sha256()
    for item in items:
        digest.update(item.model_dump_json().encode())
    return digest.hexdigest()[:16]
