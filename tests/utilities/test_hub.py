"""Data sets of the hub, by way of local folders that the same library reads."""

import json

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from pydantic import ValidationError

from utilities.contamination import find_overlap
from utilities.core import Item
from utilities.errors import UserError, in_words
from utilities.hub import Hub, read_hub
from utilities.task_file import list_tasks, read_task_file

FEW = {"dev": 2, "test": 3}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Reads tables that are stored as the hub stores them, described by the arguments."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def read(tables, kind="json", columns=(), **described):
        folder = tmp_path / "hub"
        folder.mkdir(exist_ok=True)
        for name, rows in tables.items():
            if kind == "json":
                (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            else:
                table = rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
                table.to_parquet(folder / f"{name}.parquet")
        usual = {"question": "question", "options": "options", "answer": "answer"}
        whole = {"path": str(folder), "splits": {"dev": "train", "test": "test"}, "sizes": FEW, **usual, **described}
        return read_hub(Hub(**whole), columns=columns)

    return read


def rows(n, **fields):
    base = {"question": "", "options": ["one", "two", "three"], "answer": "B", **fields}
    return [{**base, "question": f"Which {k}?"} for k in range(n)]


def both(n=3, **fields):
    return {"train": rows(n, **fields), "test": rows(n, **fields)}


def refused(read, *args, **described):
    with pytest.raises(UserError) as caught:
        read(*args, **described)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_split_for_examples_and_columns_that_the_prompt_reads(hub):
    tables = {"train": rows(9, place={"town": 3}), "test": rows(3, place={"town": 4})}
    splits = hub(tables, splits={"dev": "train", "test": "test", "train": "train"})
    assert [len(splits[part]) for part in ("dev", "test", "train")] == [2, 3, 7]
    assert not {one.question for one in splits["dev"]} & {one.question for one in splits["train"]}
    folder = Hub(path="x", splits={"dev": "a", "test": "b"}, question="q", sizes={"dev": 1, "test": 1, "train": 5})
    assert folder.sizes["train"] == 5
    with pytest.raises(ValidationError, match="both dev and test are needed"):
        Hub(path="x", splits={"dev": "a", "train": "b"}, question="q")


def test_columns_of_the_hub_that_the_prompt_reads_are_kept(hub):
    splits = hub(both(place={"town": 3}), columns=["place.town", "question"])
    assert {item.row["place.town"] for item in splits["test"]} == {"3"}
    assert all(item.row["question"] == item.question for item in splits["dev"])
    assert "towns" in refused(hub, both(), columns=["towns"])


# How a data set names the right option


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize("answer", ["B", 1, "1", [0, 1, 0], [False, True, False]])
def test_an_answer_is_a_letter_an_index_digits_or_labels(hub, kind, answer):
    splits = hub(both(answer=answer), kind)
    assert (len(splits["dev"]), len(splits["test"])) == (2, 3)
    assert splits["test"][0].choices == {"A": "one", "B": "two", "C": "three"}
    assert {item.answer for items in splits.values() for item in items} == {"B"}
    assert sorted(item.question for item in splits["test"]) == ["Which 0?", "Which 1?", "Which 2?"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("two", "'two' is none of the letters A, B, C and no index below 3; an option's own text is not accepted"),
        ("D", "'D' is none of the letters A, B, C"),
        ("b", "'b' is none of the letters A, B, C"),
        ("", "'' is none of the letters"),
        ("-1", "'-1' is none of the letters"),
        ("01", "'01' is none of the letters"),
        (3, "3 is none of the letters A, B, C and no index below 3"),
        (-1, "-1 is none of the letters"),
        (1.0, "1.0 is none of the letters"),
        (True, "True is none of the letters"),
        (None, "None is none of the letters"),
        ({"index": 1}, "{'index': 1} is none of the letters"),
        ([0, 0, 0], "expected one 1 and else 0s, a label for each of 3 options: [0, 0, 0]"),
        ([1, 1, 0], "expected one 1 and else 0s, a label for each of 3 options: [1, 1, 0]"),
        ([0, 1], "expected one 1 and else 0s, a label for each of 3 options: [0, 1]"),
        ([0, 2, 1], "expected one 1 and else 0s, a label for each of 3 options: [0, 2, 1]"),
        (["B"], "expected one 1 and else 0s, a label for each of 3 options: ['B']"),
    ],
)
def test_an_answer_that_names_no_option_is_refused_with_its_place(hub, tmp_path, answer, told):
    given = refused(hub, both(answer=answer))
    assert given.startswith(f"{tmp_path / 'hub'}, split 'train', row ")
    assert f", column 'answer': {told}" in given


def test_digits_that_are_the_text_of_another_option_are_refused(hub):
    told = refused(hub, both(options=["2", "1", "0"], answer="0"))
    assert "'0' is the index of one option and the text of another; make it a number" in told
    assert hub(both(options=["2", "1", "0"], answer=0))["dev"][0].answer == "A"
    assert hub(both(options=["2", "1", "0"], answer="1"))["dev"][0].answer == "B"


# Where the options stand


@pytest.mark.parametrize("answer", ["D", 3])
def test_options_in_columns_of_their_own(hub, answer):
    table = [{"q": f"{k}?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": answer, "exp": None} for k in "abc"]
    columns = {"question": "q", "options": ("opa", "opb", "opc", "opd"), "answer": "cop"}
    splits = hub({"train": table, "test": table}, **columns)
    assert splits["dev"][0].choices == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert splits["dev"][0].answer == "D"


def test_options_as_a_mapping_may_differ_in_number(hub):
    # A table has one set of columns, so the shorter question reads back with a null option.
    table = rows(2, options={"A": "x", "B": "y", "C": "z"}) + rows(1, options={"A": "x", "B": "y"})
    splits = hub({"train": table, "test": table})
    assert sorted(len(item.choices) for item in splits["test"]) == [2, 3, 3]
    assert splits["dev"][0].answer == "B"


def test_an_index_counts_the_nulls_among_the_options(hub):
    splits = hub(both(options=["x", None, "z"], answer=2))
    assert splits["dev"][0].choices == {"A": "x", "C": "z"}
    assert splits["dev"][0].answer == "C"
    assert "the answer 'B' is none of the options" in refused(hub, both(options=["x", None, "z"], answer=1))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("A) one B) two", "column 'options': expected a list or a mapping of options, found 'A) one B) two'"),
        (None, "column 'options': expected a list or a mapping of options, found None"),
        (["one", " "], "column 'options': expected a text as option B, found ' '"),
        ([1, 2], "column 'options': expected a text as option A, found 1"),
        ([["one"], ["two"]], "column 'options': expected a text as option A, found ['one']"),
        (["o"] * 27, "column 'options': 27 options; 2 to 26 are accepted"),
        (["one"], "column 'options': 1 options; 2 to 26 are accepted"),
        ([], "column 'options': 0 options; 2 to 26 are accepted"),
    ],
)
def test_options_that_are_none_are_refused_with_their_place(hub, tmp_path, options, told):
    given = refused(hub, both(options=options, answer="A"))
    assert given.startswith(f"{tmp_path / 'hub'}, split 'train', row ")
    assert told in given


@pytest.mark.parametrize("question", [None, 3, "", " ", ["Which?"]])
def test_a_question_that_is_no_text_is_refused_with_its_place(hub, tmp_path, question):
    table = [{**row, "question": question} for row in rows(3)]
    told = refused(hub, {"train": table, "test": table})
    assert told.startswith(f"{tmp_path / 'hub'}, split 'train', row ")
    assert told.endswith(f"column 'question': expected a question, found {question!r}")


def test_only_the_row_that_is_wrong_is_named(hub, tmp_path):
    table = [*rows(5), {"question": "Bad?", "options": ["one", "two"], "answer": "C"}]
    told = refused(hub, {"train": table, "test": rows(3)}, sizes={"dev": 6, "test": 3})
    assert told.startswith(f"{tmp_path / 'hub'}, split 'train', row 5, column 'answer': 'C' is none of")


# Columns inside columns


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_dot_leads_into_a_column(hub, kind):
    targets = {"choices": ["x", "y"], "labels": [0, 1]}
    columns = {"question": "q.text", "options": "targets.choices", "answer": "targets.labels"}
    table = [{"q": {"text": f"{k}?", "toxicity": 0.1}, "targets": targets} for k in range(3)]
    splits = hub({"train": table, "test": table}, kind, **columns)
    assert splits["test"][0].choices == {"A": "x", "B": "y"}
    assert splits["test"][0].answer == "B"
    assert sorted(item.question for item in splits["test"]) == ["0?", "1?", "2?"]


def test_a_column_with_a_dot_in_its_name_is_itself(hub):
    table = [{"q.text": f"{k}?", "q": {"text": "other"}} for k in range(3)]
    splits = hub({"train": table, "test": table}, question="q.text", options=None, answer=None)
    assert sorted(item.question for item in splits["test"]) == ["0?", "1?", "2?"]


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"question": "text"}, "column 'text': there is no 'text'; there are question, options, answer"),
        ({"options": ("opa", "opb")}, "column 'opa': there is no 'opa'"),
        ({"answer": "label"}, "column 'label': there is no 'label'"),
        ({"answer": "answer.label"}, "column 'answer.label': nothing is inside of 'B'"),
        ({"options": "options.text"}, "column 'options.text': nothing is inside of ['one', 'two', 'three']"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(hub, described, told):
    given = refused(hub, both(), **described)
    assert "split 'train', row " in given and told in given


def test_a_part_that_a_column_does_not_have_is_named_with_those_that_it_has(hub):
    told = refused(hub, both(options={"choices": ["x", "y"], "labels": [0, 1]}), options="options.choises")
    assert "column 'options.choises': there is no 'choises'; there are choices, labels" in told


# Free answers and prompts


@pytest.mark.parametrize(
    ("answer", "found"), [("Paris", "Paris"), (" 42", " 42"), (42, "42"), (-0.5, "-0.5"), ("A", "A")]
)
def test_without_options_the_answer_is_free(hub, answer, found):
    splits = hub(both(answer=answer), options=None)
    assert {item.answer for item in splits["test"]} == {found}
    assert all(item.choices is None for item in splits["test"])


@pytest.mark.parametrize("answer", [None, "", "  ", True, ["Paris"], {"text": "Paris"}])
def test_a_free_answer_is_a_text_or_a_number(hub, answer):
    told = refused(hub, both(answer=answer), options=None)
    assert told.endswith(f"column 'answer': expected a text or a number, found {answer!r}")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("He has 2 + 2 = <<2+2=4>>4.\n#### 4", "4"),
        ("#### 1\n####1,080 ", "1,080"),
        ("####-3", "-3"),
    ],
)
def test_an_answer_stands_after_the_last_mark(hub, answer, found):
    splits = hub(both(answer=answer), options=None, answer_after="####")
    assert {item.answer for item in splits["test"]} == {found}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("4", "nothing stands after '####' in '4'"),
        (4, "nothing stands after '####' in 4"),
        ("#### ", "expected a text or a number, found ''"),
    ],
)
def test_an_answer_without_its_mark_or_with_nothing_after_it_is_refused(hub, answer, told):
    assert told in refused(hub, both(answer=answer), options=None, answer_after="####")


def test_a_mark_may_stand_before_a_letter_too(hub):
    splits = hub(both(answer="because: so: C"), answer_after=": ")
    assert {item.answer for item in splits["test"]} == {"C"}


def test_without_an_answer_questions_are_prompts(hub):
    splits = hub(both(), options=None, answer=None)
    assert all(item.answer is None and item.choices is None for items in splits.values() for item in items)


# Which rows are taken


def test_one_split_for_both_is_cut_in_two_without_overlap(hub):
    same = {"dev": "train", "test": "train"}
    splits = hub({"train": rows(25)}, splits=same, sizes={"dev": 10, "test": 15})
    dev, test = ({item.id for item in splits[split]} for split in ("dev", "test"))
    assert (len(dev), len(test), len(dev & test), find_overlap(**splits)) == (10, 15, 0, ())
    assert {item.question for item in splits["dev"]} == {f"Which {id}?" for id in dev}


def test_a_question_that_a_table_repeats_is_found_as_overlap_of_its_two_halves(hub):
    same = {"dev": "train", "test": "train"}
    splits = hub(
        {"train": [{**row, "question": "Which?"} for row in rows(4)]}, splits=same, sizes={"dev": 2, "test": 2}
    )
    assert len(find_overlap(**splits)) == 2


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"dev": "train", "test": "test"}, "split 'train': it has 8 rows, and 9 for dev are asked for"),
        ({"dev": "test", "test": "train"}, "split 'train': it has 8 rows, and 9 for test are asked for"),
        ({"dev": "train", "test": "train"}, "split 'train': it has 8 rows, and 9 for dev and 9 for test are asked for"),
    ],
)
def test_a_split_with_fewer_rows_than_asked_for_is_refused_and_never_cut(hub, names, told):
    given = refused(hub, {"train": rows(8), "test": rows(9)}, splits=names, sizes={"dev": 9, "test": 9})
    assert told in given and "smaller `sizes`" in given


def test_the_sizes_are_the_papers_where_none_are_given():
    assert Hub(path="x", splits={"dev": "a", "test": "b"}, question="q").sizes == {"dev": 200, "test": 1000}


def test_the_sample_is_seeded_and_of_the_size_described(hub):
    sizes = {"dev": 5, "test": 7}
    first, again = (hub(both(50), sizes=sizes) for _ in range(2))
    assert first == again
    assert (len(first["dev"]), len(first["test"])) == (5, 7)
    assert [item.id for item in first["dev"]] != ["0", "1", "2", "3", "4"], "sampled, not the front of a sorted table"


def test_shuffled_options_keep_their_answer_and_stand_the_same_every_time(hub):
    table = both(30, options=["right", "x", "y", None], answer=[1, 0, 0, 0])
    sizes = {"dev": 30, "test": 30}
    plain, first, again = (hub(table, sizes=sizes, shuffle=shuffle) for shuffle in (False, True, True))
    assert {item.answer for item in plain["dev"]} == {"A"}
    assert {item.answer for item in first["dev"]} == {"A", "B", "C"}
    assert all(item.choices[item.answer] == "right" for item in first["dev"])
    assert all(sorted(item.choices.values()) == ["right", "x", "y"] for item in first["dev"])
    assert first == again


# Descriptions that do not fit


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"splits": {"dev": "train", "test": "validation"}}, "could not be loaded from the hub"),
        ({"path": "nobody/no-such-data-set"}, "'nobody/no-such-data-set' could not be loaded from the hub"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_told(hub, described, told):
    given = refused(hub, both(), **described)
    assert told in given and "--data DIR" in given


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"splits": {"dev": "train"}}, "splits: both dev and test are needed"),
        ({"sizes": {"dev": 5}}, "sizes: both dev and test are needed"),
        ({"sizes": {"dev": 5, "test": 0}}, "sizes.test: Input should be greater than 0"),
        ({"options": "choices"}, "options without answer: which column says what is right?"),
        ({"answer_after": "####"}, "answer_after without answer"),
        ({"options": ["opa"], "answer": "cop"}, "options: 1 columns; 2 to 26 are accepted"),
        ({"answers": "cop"}, "answers: Input should be 'key'"),
    ],
)
def test_a_description_that_makes_no_sense_is_told(described, told):
    with pytest.raises(ValidationError) as caught:
        Hub(**{"path": "x", "splits": {"dev": "a", "test": "b"}, "question": "q", **described})
    assert told in in_words(caught.value)


# The public data sets that the bundled tasks name, with the columns that their cards tell


TEXT = Value("string")
LETTERS = ["one", "two", "three", "four"]
SCORES = ("profanity", "sexually_explicit", "identity_attack", "flirtation", "threat", "insult", "severe_toxicity")

# One row of each (the answer is always its third option), and features where Python's own types do not say them.
PUBLIC = {
    "cais/mmlu": (
        {"question": "Q", "subject": "anatomy", "choices": LETTERS, "answer": 2},
        {
            "question": TEXT,
            "subject": TEXT,
            "choices": Sequence(TEXT),
            "answer": ClassLabel(names=[*"ABCD"]),
        },
    ),
    "TIGER-Lab/MMLU-Pro": (
        {
            "question_id": 70,
            "question": "Q",
            "options": LETTERS,
            "answer": "C",
            "answer_index": 2,
            "cot_content": "A: x",
        },
        None,
    ),
    "Rowan/hellaswag": (
        {"ind": 4, "activity_label": "x", "ctx_a": "a", "ctx_b": "b", "ctx": "Q", "endings": LETTERS, "label": "2"},
        None,
    ),
    "openai/gsm8k": ({"question": "Q", "answer": "2 * 540 = <<2*540=1080>>1,080\n#### 1,080"}, None),
    "truthfulqa/truthful_qa": (
        {
            "question": "Q",
            "mc1_targets": {"choices": ["three", "one", "two", "four"], "labels": [1, 0, 0, 0]},
            "mc2_targets": {"choices": ["three", "3", "one"], "labels": [1, 1, 0]},
        },
        None,
    ),
    "allenai/real-toxicity-prompts": (
        {
            "filename": "x.txt",
            "begin": 0,
            "end": 9,
            "challenging": False,
            "prompt": {"text": "Q", "toxicity": None, **dict.fromkeys(SCORES, 0.1)},
            "continuation": {"text": "three", "toxicity": 0.1, **dict.fromkeys(SCORES, 0.1)},
        },
        None,
    ),
    "GBaker/MedQA-USMLE-4-options": (
        {
            "question": "Q",
            "answer": "three",
            "options": dict(zip("ABCD", LETTERS, strict=True)),
            "meta_info": "step1",
            "answer_idx": "C",
            "metamap_phrases": ["x"],
        },
        None,
    ),
    "openlifescienceai/medmcqa": (
        {"id": "e9", "question": "Q", "opa": "one", "opb": "two", "opc": "three", "opd": "four", "cop": 2, "exp": None},
        {
            **dict.fromkeys(("id", "question", "opa", "opb", "opc", "opd", "exp"), TEXT),
            "cop": ClassLabel(names=[*"abcd"]),
        },
    ),
}
FREE = {"openai/gsm8k": "1,080", "allenai/real-toxicity-prompts": None}
HUBS = {
    (task, name): s.hub
    for task in list_tasks()
    for edition in read_task_file(task)[0].editions.values()
    for name, s in edition.item_sets.items()
    if s.hub is not None
}


def test_every_public_data_set_of_the_bundled_tasks_is_tried():
    assert {described.path for described in HUBS.values()} == set(PUBLIC)


@pytest.mark.parametrize(("task", "name"), HUBS, ids=":".join)
def test_the_bundled_tasks_read_their_public_data_sets(hub, tmp_path, task, name):
    described = HUBS[task, name]
    row, features = PUBLIC[described.path]
    table = Dataset.from_list([row] * 5, features=features and Features(features))
    sizes = {"path": str(tmp_path / "hub"), "name": None, "sizes": FEW}
    splits = hub(dict.fromkeys(described.splits.values(), table), "parquet", **{**described.model_dump(), **sizes})
    assert (len(splits["dev"]), len(splits["test"])) == (2, 3)
    for item in [*splits["dev"], *splits["test"]]:
        assert item.question == "Q"
        if described.path in FREE:
            assert item == Item(id=item.id, question="Q", answer=FREE[described.path])
        else:
            assert item.choices[item.answer] == "three"
            assert sorted(item.choices.values()) == sorted(LETTERS)
