"""Every text that is sent to a model or judge comes from a template file of `prompts/`, one prompt a file.

A file begins with front matter between two lines of `---`: what the prompt is for, its version, its variables, what a
reply looks like, and where it comes from. What others wrote (an answer, a claim, a document) is data: it enters a
template through the filter `data`, which fences it, or `one_line`, which leaves it no line of its own to write.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from utilities.errors import UserError, first_line, in_words
from utilities.registry import unknown_name

__all__ = ["FrontMatter", "Prompt", "bundled", "cut", "fenced", "load_prompt", "one_line", "prompt_hash"]

SPECIAL = re.compile(r"[<\uff1c\ufe64]")
"""What opens a tag or a control token (`</answer>`, `<|im_end|>`), and the two signs that Unicode folds into it."""

BRACKETED = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])")
"""Control tokens of chat templates (Mistral's) that begin without `<`; a local server may read them in any text."""

UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    r"|[\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""What no reader sees but a tokenizer does: control characters, marks of direction, halves of surrogate pairs, tag
letters. The joiners U+200C and U+200D stay: Persian, the scripts of India and emoji are spelled with them."""

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,40}")
"""A word, for limits: a CJK character counts as one, and so does every 40 characters without a space."""


def bundled(name: str) -> Path:
    """A data folder of the project: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent / "bundled" / name
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def prompt_hash(text: str) -> str:
    """Short name of a prompt's exact text, kept in every record."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cut(text: str, words: int) -> str:
    """The first `words` words of a text, with a mark that says how many are missing; a shorter text as it is."""
    found = list(WORD.finditer(text))
    if len(found) <= words:
        return text
    return f"{text[: found[words - 1].end()]}\n[cut here: {len(found) - words} more words are not shown]"


def fenced(text: str, label: str = "data") -> str:
    """A text between two tags that it cannot write itself; the template filter `data`.

    Inside, every `<` has become `&lt;`: no tag, and no control token of a judge's chat template, can stand there. The
    tags end in a code made from the text, so that a judge can tell them from an imitation; from the text and not by
    chance, so that equal questions stay equal and are paid once.

    Args:
        text: Anything at all.
        label: What it is, in one word ("answer"); the name of the tags.
    """
    tag = f"{label}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:10]}"
    return f"<{tag}>\n{_harmless(text)}\n</{tag}>"


def one_line(text: str) -> str:
    """A text on a single line, "(nothing)" where it is empty; the template filter of the same name.

    For prompts too short for fences: what stays on its line cannot add another one, such as a verdict.
    """
    return " ".join(_harmless(text).split()) or "(nothing)"


def _harmless(text: str) -> str:
    """The text without what is invisible and without control tokens; its line ends, of whatever kind, are newlines."""
    seen = UNSEEN.sub("", "\n".join(text.splitlines()))
    return BRACKETED.sub("[ ", SPECIAL.sub("&lt;", seen))


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
    stop: tuple[str, ...] = ()
    """What ends a reply by default, without a chat template: how the prompt itself begins a question."""


class Prompt:
    """A template. Questions and options are its variables, never its source: they cannot run template code.

    Args:
        source: The template.
        name: Its name in `prompts/`.
        about: Its front matter.
    """

    def __init__(self, source: str, name: str = "", about: FrontMatter | None = None) -> None:
        from jinja2 import StrictUndefined  # not at import: only who asks questions needs it
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        environment.filters.update(data=fenced, one_line=one_line)
        self._template = environment.from_string(source)
        self.name, self.about, self.source = name, about, source
        self.purpose, self.version = (about.purpose, about.version) if about else ("", 0)
        self.stop = about.stop if about else ()
        self.hash = prompt_hash(source)
        """Names the template without its front matter: what a judge reads, and nothing else."""

    def render(self, **variables: object) -> str:
        """The prompt with its variables filled in."""
        return self._template.render(**variables)


@cache
def load_prompt(name: str) -> Prompt:
    """A prompt by name, by file or by text.

    Args:
        name: A bundled prompt `prompts/<name>.jinja`; the path of a template (`qa.jinja`), whose front matter may be
            left out; or a template itself, which contains `{{`.

    Raises:
        UserError: No such prompt, a template that is not valid, or front matter that is not as `FrontMatter` describes.
    """
    if "{{" in name:
        return _own(name, "inline")
    if name.endswith(".jinja"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"prompt {name}: not readable as text: {first_line(error)}") from error
        return _own(re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL), name)
    folder = bundled("prompts")
    path = folder / f"{name}.jinja"
    if not path.is_file():
        raise unknown_name("prompt", name, (p.stem for p in folder.glob("*.jinja")))
    about, source = _parted(path)
    return Prompt(source, name, about)


def _own(source: str, name: str) -> Prompt:
    from jinja2 import TemplateError

    try:
        prompt = Prompt(source, name)
        prompt.render(question="Which?", choices={"A": "this", "B": "that"}, preamble="", proposal="")
    except TemplateError as error:
        raise UserError(
            f"prompt {name!r:.80}: not a valid template: {first_line(error)};"
            " question, choices and preamble are its variables"
        ) from error
    return prompt


def _parted(path: Path) -> tuple[FrontMatter, str]:
    """The front matter of a prompt file, and its template."""
    from utilities.bounded_input import read_yaml  # not at import: only who asks questions needs it

    parts = re.fullmatch(r"---\n(.*?)\n---\n(.*)", path.read_text(encoding="utf-8"), re.DOTALL)
    if parts is None:
        raise UserError(f"{path}: expected front matter between two lines of ---")
    try:
        return FrontMatter.model_validate(read_yaml(parts[1])), parts[2]
    except ValueError as error:
        told = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: front matter: {told}") from error
