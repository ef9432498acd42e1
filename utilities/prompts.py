"""Prompt templates: every text sent to a model or judge comes from a template file in `prompts/`.

A file starts with front matter between two lines of `---`: purpose, version, variables, format of a reply, and source.
Untrusted text (an answer, a claim, a document) is data: templates insert it with the filter `data`, which fences it, or
`one_line`, which keeps it on one line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from utilities.errors import UserError, first_line, in_words
from utilities.registry import unknown_name

if TYPE_CHECKING:
    from jinja2 import nodes

__all__ = ["Columns", "FrontMatter", "Prompt", "bundled", "cut", "fenced", "load_prompt", "one_line", "prompt_hash"]

SPECIAL = re.compile(r"[<\uff1c\ufe64]")
"""Start of a tag or a control token (`</answer>`, `<|im_end|>`), and the two characters that Unicode folds into it."""

BRACKETED = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])")
"""Control tokens of chat templates (Mistral) that start without `<`; a local server may interpret them in any text."""

UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    r"|[\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Characters that only a tokenizer sees: control characters, directional marks, lone surrogates, tag letters. The
joiners U+200C and U+200D are allowed: Persian, Indic scripts and emoji need them."""

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,40}")
"""A word, for limits: one CJK character, or at most 40 other characters without a space."""


QUESTION_LABEL = re.compile(r"(?:\A|\n)[ \t]*([^\n{}]{1,40}[:\uff1a])[ \t]*\{\{-?[ ]*question\b")
"""The words before the question on its line, such as "Question:"."""


def bundled(name: str) -> Path:
    """A data folder of the project: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent / "bundled" / name
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def prompt_hash(text: str) -> str:
    """Short hash of a prompt's exact text, stored in every record."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cut(text: str, words: int) -> str:
    """Truncates a text to `words` words and appends the number of omitted words; a shorter text is unchanged."""
    matches = list(WORD.finditer(text))
    if len(matches) <= words:
        return text
    return f"{text[: matches[words - 1].end()]}\n[cut here: {len(matches) - words} more words are not shown]"


def fenced(text: str, label: str = "data") -> str:
    """Fences a text between two tags that it cannot contain; the template filter `data`.

    Every `<` inside becomes `&lt;`, so the text contains no tag and no control token of a judge's chat template. The
    tags end in a hash of the text, so that they cannot be imitated; a hash instead of a random number, so that equal
    prompts are equal in the cache.

    Args:
        text: Any text.
        label: Name of the tags, one word such as "answer".
    """
    tag = f"{label}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:10]}"
    return f"<{tag}>\n{_harmless(text)}\n</{tag}>"


def one_line(text: str) -> str:
    """A text on a single line, "(nothing)" if it is empty; the template filter of the same name.

    For prompts too short for fences: the text cannot add a line, such as a verdict.
    """
    return " ".join(_harmless(text).split()) or "(nothing)"


def _harmless(text: str) -> str:
    """The text without invisible characters and control tokens, with all line ends as newlines."""
    visible = UNSEEN.sub("", "\n".join(text.splitlines()))
    return BRACKETED.sub("[ ", SPECIAL.sub("&lt;", visible))


class FrontMatter(BaseModel):
    """What a prompt file says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: str
    """What is asked with it, and by whom."""
    version: int
    """Counted up with every change of the text or of how its variables are prepared."""
    variables: tuple[str, ...]
    """What the template reads."""
    output: str
    """What a reply looks like: a schema, or its form in words."""
    source: str
    """Paper or benchmark that the prompt follows."""


class Columns:
    """The columns of an item's data in a template: `row.country`, or `row["home country"]`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]


class Prompt:
    """A template. Questions and options are variables, never source: they cannot run template code.

    Args:
        source: The template.
        name: Its name in `prompts/`.
        about: Its front matter.
    """

    def __init__(self, source: str, name: str = "", about: FrontMatter | None = None) -> None:
        from jinja2 import StrictUndefined  # lazy import: needed only for rendering
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        environment.filters.update(data=fenced, one_line=one_line)
        self._template = environment.from_string(source)
        self.columns = _columns_read(environment.parse(source))
        """Columns of the data that the template reads as `row.NAME`."""
        self.name, self.about, self.source = name, about, source
        self.purpose, self.version = (about.purpose, about.version) if about else ("", 0)
        label = QUESTION_LABEL.search(source)
        self.stop = (f"\n{label[1]}",) if label else ()
        """What ends a reply by default, without a chat template: how the prompt itself begins a question."""
        self.hash = prompt_hash(source)
        """Hash of the template without its front matter."""

    def render(self, **variables: object) -> str:
        """The prompt with its variables filled in."""
        return self._template.render(**variables)


def load_prompt(name: str) -> Prompt:
    """A prompt by name, by file or by text.

    Args:
        name: A bundled prompt `prompts/<name>.jinja`; the path of a template (`qa.jinja`), whose front matter is
            optional; or a template itself, which contains `{{`. Files are read at each call, because their author
            changes them.

    Raises:
        UserError: The prompt does not exist, or its template or its front matter is invalid.
    """
    if "{{" in name:
        return _own(name, "inline")
    if name.endswith(".jinja"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"prompt {name}: not readable as text: {first_line(error)}") from error
        return _own(re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL), name)
    return _load_bundled(name)


@cache
def _load_bundled(name: str) -> Prompt:
    folder = bundled("prompts")
    path = folder / f"{name}.jinja"
    if not path.is_file():
        raise unknown_name("prompt", name, (p.stem for p in folder.glob("*.jinja")))
    about, source = _split_front_matter(path)
    return Prompt(source, name, about)


def _own(source: str, name: str) -> Prompt:
    from jinja2 import TemplateError

    try:
        prompt = Prompt(source, name)
        row = Columns(dict.fromkeys(prompt.columns, "this"))
        prompt.render(question="Which?", choices={"A": "this", "B": "that"}, preamble="", proposal="", row=row)
    except TemplateError as error:
        raise UserError(
            f"prompt {name!r:.80}: not a valid template: {first_line(error)};"
            " question, choices, preamble and columns of the data (row.NAME) are its variables"
        ) from error
    return prompt


def _columns_read(tree: nodes.Template) -> tuple[str, ...]:
    """Names of the columns that a template reads of `row`.

    Raises:
        TemplateError: It reads `row` in another way.
    """
    from jinja2 import TemplateError, nodes

    uses = [name for name in tree.find_all(nodes.Name) if name.name == "row"]
    if any(name.ctx != "load" for name in uses):  # a variable of the template's own
        return ()
    read: list[str] = [one.attr for one in tree.find_all(nodes.Getattr) if one.node in uses]
    keys = [one.arg for one in tree.find_all(nodes.Getitem) if one.node in uses]
    read += [key.value for key in keys if isinstance(key, nodes.Const) and isinstance(key.value, str)]
    if len(read) < len(uses):
        raise TemplateError('row is read without the name of a column; row.NAME and row["NAME"] are accepted')
    return tuple(dict.fromkeys(read))


def _split_front_matter(path: Path) -> tuple[FrontMatter, str]:
    """Splits a prompt file into front matter and template."""
    from utilities.bounded_input import read_yaml  # lazy import: needed only for bundled prompts

    parts = re.fullmatch(r"---\n(.*?)\n---\n(.*)", path.read_text(encoding="utf-8"), re.DOTALL)
    if parts is None:
        raise UserError(f"{path}: expected front matter between two lines of ---")
    try:
        return FrontMatter.model_validate(read_yaml(parts[1])), parts[2]
    except ValueError as error:
        message = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: front matter: {message}") from error
