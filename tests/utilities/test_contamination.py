import json

import pytest

from utilities.contamination import find_overlap
from utilities.core import Item
from utilities.data_files import read_published


def item(id, question="Which?", options=("one", "two", "three"), answer="A"):
    return Item(id=id, question=question, choices=dict(zip("ABC", options, strict=False)), answer=answer)


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        (item("t"), True),
        (item("t", options=("three", "one", "two"), answer="B"), True),
        (item("t", question=" Which? \n", options=("one", "two ", "three")), True),
        (Item(id="t", question="Which?", choices={"X": "two", "Y": "three", "Z": "one"}, answer="X"), True),
        (item("t", answer="C"), True),
        (item("t", options=("four", "five", " one"), answer="C"), True),
        (item("t", options=("one", "two", "four"), answer="C"), False),
        (item("t", options=("one", "two"), answer="B"), False),
        (item("t", question="Which one?"), False),
        (Item(id="t", question="Which?"), False),
        (Item(id="t", question="Which?", answer="one"), False),
    ],
)
def test_the_same_question_overlaps_with_the_same_options_in_any_order_or_the_same_right_answer(other, overlaps):
    assert find_overlap([item("d"), item("e", question="Else?")], [other]) == (("t",) if overlaps else ())


def test_items_without_options_overlap_by_their_question():
    dev = [Item(id="1", question="Why?"), Item(id="2", question="How many?", answer="3")]
    test = [Item(id="3", question="Why?"), Item(id="4", question="How  many?", answer="4"), Item(id="5", question="?")]
    assert find_overlap(dev, test) == ("3", "4")


PUBLISHED = {"knowledge_crosswords": 149, "hearsay": 94, "citation_prediction_classification": 108}


def test_the_overlap_of_the_published_files_is_as_known(published):
    found = {path.stem: find_overlap(**read_published(path)) for path in sorted(published.glob("*.json"))}
    assert {name: len(ids) for name, ids in found.items() if ids} == PUBLISHED


def test_the_published_crosswords_repeat_dev_questions_with_other_wrong_options(published):
    document = json.loads((published / "knowledge_crosswords.json").read_text(encoding="utf-8"))
    right = {entry["question"]: entry["choices"][entry["answer"]] for entry in document["dev"]}
    options = {entry["question"]: set(entry["choices"].values()) for entry in document["dev"]}
    again = [entry for entry in document["test"] if entry["question"] in right]
    assert len(again) == PUBLISHED["knowledge_crosswords"]
    assert all(entry["choices"][entry["answer"]] == right[entry["question"]] for entry in again)
    assert not any(set(entry["choices"].values()) == options[entry["question"]] for entry in again)
