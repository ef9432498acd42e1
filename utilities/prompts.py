"""Every text that is sent to a model or judge comes from a template file of `prompts/`, one prompt a file."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from utilities.registry import unknown_name

__all__ = ["Prompt", "bundled", "load_prompt", "prompt_hash"]


def bundled(name: str) -> Path:
    """A data folder of the project: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent / "bundled" / name
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def prompt_hash(text: str) -> str:
    """Short name of a prompt's exact text, kept in every record."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Prompt:
    """A template. Questions and options are its variables, never its source: they cannot run template code."""

    def __init__(self, source: str) -> None:
        from jinja2 import StrictUndefined  # not at import: only who asks questions needs it
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        self._template = environment.from_string(source)

    def render(self, **variables: object) -> str:
        """The prompt with its variables filled in."""
        return self._template.render(**variables)


@cache
def load_prompt(name: str) -> Prompt:
    """The bundled prompt `prompts/<name>.jinja`.

    Raises:
        UserError: There is no such prompt.
    """
    folder = bundled("prompts")
    path = folder / f"{name}.jinja"
    if not path.is_file():
        raise unknown_name("prompt", name, (p.stem for p in folder.glob("*.jinja")))
    return Prompt(path.read_text(encoding="utf-8"))
