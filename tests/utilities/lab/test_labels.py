import json

import numpy as np
import pytest

from utilities.errors import UserError
from utilities.lab.labels import Label, Labels, read_labels

ROWS = [
    {"item": "1", "response": "so, it is", "rater": "ann", "label": 4},
    {"item": "1", "response": "so, it is", "rater": "bob", "label": None},
    {"item": 2, "response": "no\nnever", "rater": "bob", "label": "yes"},
    {"item": 2, "response": "no\nnever", "rater": "ann", "label": False},
]


def test_json_lines_and_csv_say_the_same(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    (tmp_path / "a.csv").write_text(
        '\ufeffitem,response,rater,label\n1,"so, it is",ann,4\n1,"so, it is",bob,NA\n'
        '2,"no\nnever",bob,Yes\n2,"no\nnever",ann,false\n'
    )
    expected = (
        Label("1", "so, it is", "ann", 4.0),
        Label("2", "no\nnever", "bob", 1.0),
        Label("2", "no\nnever", "ann", 0.0),
    )
    for name in ("a.jsonl", "a.csv"):
        found = read_labels(tmp_path / name)
        assert found.labels == expected
        assert found.answers == (("1", "so, it is"), ("2", "no\nnever"))
        assert found.raters == ("ann", "bob")
        np.testing.assert_equal(found.table, [[4, 0], [np.nan, 1]])
        assert found.where == str(tmp_path / name)


def test_without_raters_there_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("item,response,label\n1,x,0.5\n")
    assert read_labels(tmp_path / "a.csv") == Labels((Label("1", "x", "rater", 0.5),), str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "", "labels are read from .jsonl or .csv"),
        ("a.jsonl", "{", "line 1: not JSON"),
        ("a.jsonl", "[1]", "line 1: a label is an object"),
        ("a.jsonl", '{"item": 1, "response": "x"}', "line 1: no label"),
        ("a.csv", "item,rater\n1,ann\n", "line 2: no response and no label"),
        ("a.csv", "item,response,label\n1,x\n", "line 2: fewer columns than the first line"),
        ("a.csv", "item,response,label\n1,x,1,2\n", "line 2: more columns than the first line"),
        ("a.csv", 'item,response,label\n1,"x,1\n', "not CSV"),
        ("a.csv", "item,response,label\n1,x,good\n", "the label is 'good'; a number, true, false"),
        ("a.csv", "item,response,label\n1,x,inf\n", "the label is 'inf'"),
        ("a.jsonl", '{"item": 1, "response": "x", "label": [1]}', "the label is [1]"),
        ("a.csv", "item,response,label\n1,x,1\n1,x,2\n", "line 3: rater labels this answer to item '1' a second time"),
        ("a.csv", "item,response,label\n1,x,\n", "no label in it"),
        ("a.csv", "", "no label in it"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path / name)
    assert told in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("item,response,label\n1,caf\xe9,1\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_labels(tmp_path / "latin.csv")
