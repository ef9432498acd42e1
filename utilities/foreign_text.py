"""Text from outside (names, answers, server messages) on its way to a terminal, a table, a card or a log.

A terminal obeys escape sequences, a Markdown viewer obeys Markdown and HTML. `printable` makes characters that act
visible; `escape_markdown` also takes the meaning from markup. (rich's markup is not read at all: see
`harness.display.console`.)

Example:
    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    >>> escape_markdown("a|b")
    'a\\\\|b'
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["escape_markdown", "printable", "short"]

JOINERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and emoji need; they join or separate letters and do nothing else."""
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|#~&$!{}]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with every character that is not shown as itself written as an escape such as ``\x1b``.

    These are control characters, format characters (bidirectional controls, invisible characters), line and paragraph
    separators, and halves of surrogate pairs, which no encoding can write.

    Args:
        text: Any text.
        lines: Whether line feeds and tabs stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(one if _is_shown(one, lines) else _escape(one) for one in text)


def _is_shown(one: str, lines: bool) -> bool:
    if one in "\n\t":
        return lines
    return one.isprintable() or one in JOINERS or unicodedata.category(one) in {"Zs", "Co", "Cn"}


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def escape_markdown(text: str) -> str:
    """The text for one line or table cell of a Markdown document: no character of it is Markdown or HTML."""
    return _MARKDOWN.sub(lambda found: HTML.get(found[0], "\\" + found[0]), printable(text))


HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def short(value: object, most: int = 60) -> str:
    """The start of the `repr` of any value, also of one whose `repr` fails or is very long."""
    try:
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 2000:
            return f"an integer of {value.bit_length():,} bits"
        text = repr(value)
    except Exception:  # a foreign class may do anything
        return f"a {type(value).__name__}"
    return printable(text if len(text) <= most else text[:most] + "...")
