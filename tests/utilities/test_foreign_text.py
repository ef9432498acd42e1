import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilities.errors import UserError, describe, first_line
from utilities.foreign_text import escape_markdown, printable, short


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 日本", "plain é 日本"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\x07\x9b2J\x7f", "a\\rb\\x07\\x9b2J\\x7f"),
        ("one\ntwo", "one\\ntwo"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066x\u2069\u200b\ufeff\u2028", "\\u2066x\\u2069\\u200b\\ufeff\\u2028"),
        ("\udce9", "\\udce9"),
        ("क\u200cष", "क\u200cष"),
        ("non\u00a0breaking", "non\u00a0breaking"),
    ],
)
def test_characters_that_act_are_made_visible(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_lines_keeps_line_feeds_and_tabs() -> None:
    assert printable("a\tb\nc\r", lines=True) == "a\tb\nc\\r"


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_can_be_encoded_and_holds_no_control_character(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in shown)
    assert printable(shown) == shown


def test_markdown_and_html_are_escaped() -> None:
    assert escape_markdown("look_up|<b>`x`[a](b)\n# t") == "look\\_up\\|&lt;b&gt;\\`x\\`\\[a\\](b)\\\\n\\# t"


def test_a_user_error_holds_no_escape_sequence() -> None:
    assert str(UserError("there is no task \x1b]0;owned\x07\nsecond line")) == (
        "there is no task \\x1b]0;owned\\x07\nsecond line"
    )


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_read_is_described_by_its_type() -> None:
    assert first_line(Wordless()) == describe(Wordless()) == "Wordless"
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert short(Unshowable()) == "a Unshowable"
    assert short(10**5000) == "an integer of 16,610 bits"
