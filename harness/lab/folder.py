"""The folder of a lab: a new one, or one that is continued because it was begun with the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.compare.compare import changed_settings
from harness.run_folder.store import Store, write_atomically
from harness.session.session import changed_inputs
from utilities.errors import UserError

__all__ = ["open_folder"]

OF_SEARCHES = {"search", "budget", "seeds", "swarm", "preset", "variant", "objective", "validation_share"}
"""What nothing that was measured hangs on, until a lab searches: then its searches do."""


def open_folder(out: Path | None, name: str, document: Mapping[str, Any]) -> Store:
    """The folder where a lab is kept.

    Args:
        out: As the user named it. None: a folder of `runs` called `name`, with a number where another lab is there,
            because a utility was changed since.
        name: What the lab is about.
        document: All that decides what it finds.

    Raises:
        UserError: `out` holds something else, or is in use.
    """
    now = yaml.safe_load(yaml.safe_dump(dict(document), sort_keys=False))
    if out is None:
        number = 1
        while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists() and _differing(
            folder, now
        ):
            number += 1
    else:
        folder = out
        if folder.exists() and (differing := _differing(folder, now)):
            raise UserError(
                f"--out {folder} holds something else: {'; '.join(differing)}. Choose another, or give the command that"
                " it began with"
            )
    if not (folder / "settings.yaml").is_file():
        return Store.create(folder, now)
    store = Store.open(folder)
    if not store.settings()["lab"]["search"]:  # what its searches are to be is open until there are some
        write_atomically(folder / "settings.yaml", yaml.safe_dump(now, sort_keys=False))
    return store


def _differing(folder: Path, now: Mapping[str, Any]) -> list[str]:
    """What differs between the lab of a folder and another one, in words."""
    if not (folder / "settings.yaml").is_file():
        return ["it is no lab"] if not folder.is_dir() or any(folder.iterdir()) else []
    then = Store(folder).settings()
    if "lab" not in then:
        return ["it is no lab"]
    return list(dict.fromkeys(_differences(then, now)))


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    free = {"labels"} if then["lab"]["search"] else {"labels", *OF_SEARCHES}
    for part in ("lab", "settings"):
        before, after = ({k: v for k, v in side[part].items() if k not in free} for side in (then, now))
        yield from changed_settings(before, after)
    yield from (f"{name} was changed" for name, known in now["designs"].items() if then["designs"].get(name) != known)
    if "data" in now:
        yield from (f"{what} changed since it began" for what in changed_inputs(then, now))
