import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from utilities.bounded_input import read_json, read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases written out"),
        ("a: " + "[" * 4000 + "]" * 4000, "nesting"),
        ("{a: " * 150 + "1" + "}" * 150, "nesting"),
        ("a: " + "1" * 5000, "a number of 5,000 characters"),
        ("a: 0x" + "f" * 200_000, "a number of 200,002 characters"),
        ("a: " + "1:" * 300 + "1", "a number of 601 characters"),
        ("a: &a [*a]", "refers to no earlier value"),
        ("a: 1\na: 2", "line 2: the key 'a' is repeated"),
        ("a: [", "expected"),
        ("? [1, 2]\n: 3\n? {a: b}\n: c", "unhashable"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \x00", "special characters are not allowed|control characters are not allowed"),
        ("- a\n" * 3_000_000, "characters of YAML"),
        ("- a\n" * 1_000_000, "more than 200,000 values"),
        (b"a: \xff", "utf-8"),
        ("a: 2024-13-45", "month must be"),
    ],
)
def test_a_yaml_bomb_is_refused_at_once_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_yaml(text)
    assert "\n" not in str(raised.value)


def test_ordinary_yaml_is_read_as_before():
    text = "a: &x {b: [1, 2.5, null, yes]}\nc: *x\nd: {<<: *x, e: 2024-01-01}\nf: 'é'"
    assert read_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 200_000, "nested too deeply"), ("1" * 5000, "digits"), ("{", "Expecting"), (b"\xff", "utf-8")],
)
def test_a_json_bomb_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message):
        read_json(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -1e999}'])
def test_only_finite_numbers_where_asked(text):
    read_json(text)
    with pytest.raises(ValueError, match=r"finite number|too large"):
        read_json(text, finite=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**50), 10**50) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read(value):
    assert read_yaml(yaml.safe_dump(value)) == value
    assert read_json(json.dumps(value)) == value


@given(st.text(max_size=60) | st.text(alphabet="[]{}:,-&*!|>'\"#? \n\tab01.<", max_size=60))
def test_any_text_is_a_value_or_a_value_error(text):
    for read in (read_yaml, read_json):
        try:
            read(text)
        except ValueError as error:
            assert str(error)
