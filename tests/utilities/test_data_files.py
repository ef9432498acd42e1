import json

import pytest

from utilities.contamination import find_overlap
from utilities.core import Item
from utilities.data_files import LONGEST, describe_columns, read_published
from utilities.errors import UserError
from utilities.task_file import read_task_file
from utilities.tasks import group_of


def entry(id, **fields):
    return {"id": id, "question": f"Which is {id}?", "choices": {"A": "yes", "B": "no"}, "answer": "A", **fields}


def good():
    return {"dev": [entry("d1"), entry("d2")], "test": [entry("t1"), entry("t2"), entry("t3")]}


def write(folder, document, **options):
    path = folder / "file.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document, **options), encoding="utf-8")
    return path


def refused(path):
    with pytest.raises(UserError) as caught:
        read_published(path)
    told = str(caught.value)
    assert told.startswith(str(path)) and "\n" not in told and len(told) < 800 + len(str(path))
    return told


def test_both_splits_are_read_in_order(tmp_path):
    splits = read_published(write(tmp_path, {"dataset": "x", **good()}))
    assert [item.id for item in splits["dev"]] == ["d1", "d2"]
    assert [item.id for item in splits["test"]] == ["t1", "t2", "t3"]
    assert splits["dev"][0] == Item(**entry("d1"))


def test_ids_default_to_positions(tmp_path):
    document = good()
    for item in [*document["dev"], *document["test"]]:
        del item["id"]
    splits = read_published(write(tmp_path, document))
    assert [item.id for item in splits["test"]] == ["0", "1", "2"]


def test_the_worked_example_of_a_file_stands_before_all_its_items(tmp_path):
    splits = read_published(write(tmp_path, {**good(), "icl_prompt": "Question: x"}))
    assert {item.preamble for items in splits.values() for item in items} == {"Question: x"}
    assert "icl_prompt is a text, not int" in refused(write(tmp_path, {**good(), "icl_prompt": 3}))


def test_a_prompt_is_a_question_without_an_answer(tmp_path):
    splits = read_published(write(tmp_path, {"dev": [{"prompt": "Go on", "id": 7}], "test": []}))
    assert splits["dev"] == [Item(id="7", question="Go on")]


# What cannot be read at all


def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(json.dumps(good(), indent=1).encode().replace(b"Which is d2?", "Où est-ce?".encode("latin-1")))
    line = path.read_bytes().split(b"\n").index(b'   "question": "O\xf9 est-ce?",') + 1
    told = refused(path)
    assert f"{path}, line {line}: not UTF-8 text" in told and "save it as UTF-8" in told


def test_broken_json_is_named_with_its_line_and_column(tmp_path):
    path = write(tmp_path, '{"dev": [],\n"test": [\n{"question": }]}')
    assert refused(path) == f"{path}, line 3, column 14: not JSON: Expecting value"


@pytest.mark.parametrize(
    "text", ["", "{'dev': []}", '{"dev": [' + "[" * 200_000, '{"a":' * 200_000, "1" * 5000, '{"dev": ["x']
)
def test_whatever_is_no_json_is_one_message(tmp_path, text):
    assert "JSON" in refused(write(tmp_path, text))


def test_a_folder_in_place_of_a_file_is_one_message(tmp_path):
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize(
    ("document", "split"),
    [
        ({"dev": [entry("1")]}, "test"),
        ({"test": [entry("1")]}, "dev"),
        ({"dev": {"1": entry("1")}, "test": []}, "dev"),
        ("null", "dev"),
        ("3", "dev"),
    ],
)
def test_a_split_that_is_missing_or_no_list_is_named(tmp_path, document, split):
    path = write(tmp_path, document)
    expected = (
        f'{path}: expected a list of items, or {{"dev": [items], "test": [items]}}, found no list \'{split}\' (found '
    )
    assert refused(path).startswith(expected)


# Items that are wrong


def without(field):
    return {name: value for name, value in entry("x").items() if name != field}


BAD_ITEMS = [
    ("a text", "an item is an object with question, choices and answer, not a text"),
    (None, "not null"),
    (17, "not a number"),
    (True, "not true or false"),
    (["question", "answer"], "not a list"),
    ([[[[{"question": "q"}]]]], "not a list"),
    ({}, "question: Field required"),
    (without("question"), "question: Field required"),
    (entry("x", question=""), "question: String should have at least 1 character"),
    (entry("x", question=" \n"), "the question is empty"),
    (entry("x", question=3), "question: Input should be a valid string (got 3)"),
    (entry("x", question=["Which", "is", "x?"]), "question: Input should be a valid string"),
    (entry("x", question={"text": "Which?"}), "question: Input should be a valid string"),
    (entry("x", question="\ud800"), "question: Input should be a valid string"),
    (without("answer"), "the item has options and no answer"),
    (entry("x", answer="C"), "the answer 'C' is none of the options ['A', 'B']"),
    (entry("x", answer="yes"), "the answer 'yes' is none of the options ['A', 'B']"),
    (entry("x", answer=0), "the answer 0 is none of the options ['A', 'B']"),
    (entry("x", answer=["A"]), "the answer ['A'] names no single option"),
    (entry("x", image="cat.png"), "the field 'image' holds an image"),
    (entry("x", choices={}), "0 options; 2 to 26 are accepted"),
    (entry("x", choices={"A": "yes"}), "1 options; 2 to 26 are accepted"),
    (entry("x", choices={str(k): "o" for k in range(27)}), "27 options; 2 to 26 are accepted"),
    (entry("x", choices="A: yes, B: no"), "choices: Input should be a valid dictionary"),
    (entry("x", choices={"A": "yes", "B": " "}), "an option is empty"),
    (entry("x", choices={"A": "yes", "B": None}), "choices.B: Input should be a valid string"),
    (entry("x", choices={"A": "yes", "B": {"C": {"D": []}}}), "choices.B: Input should be a valid string"),
    ({**entry("x"), "id": [1]}, "id: Input should be a valid string"),
    ({**entry("x"), "id": 1.5}, "id: Input should be a valid string"),
    (entry("t1"), "the id 't1' stands twice in this split"),
    (entry("x", answer="a" * 100_000), "the answer 'aaa"),
    (entry("x", question="q" * LONGEST), "10,000,006 characters, of which at most 10,000,000 are accepted"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ITEMS)
def test_a_bad_item_is_named_with_file_line_split_and_position(tmp_path, bad, message):
    document = good()
    document["test"].insert(2, bad)
    path = write(tmp_path, document, indent=1)
    text = path.read_text()
    # The item begins on the line after the one that closes the item before it ("t2").
    line = text.count("\n", 0, text.index("}", text.index("}", text.index('"t2"')) + 1)) + 2
    told = refused(path)
    assert told.startswith(f"{path}, line {line}, test item 2: ")
    assert message in told


def test_equal_options_are_accepted_as_published_items_have_them(tmp_path):
    twins = {"A": "Angiogram", "B": "Sialography", "C": "Angiogram", "D": "Tomography"}
    splits = read_published(write(tmp_path, {"dev": [entry("1", choices=twins, answer="B")], "test": []}))
    assert splits["dev"][0].choices == twins


def test_another_item_under_a_known_id_gets_its_position_added(tmp_path):
    same_ids = [entry("0"), entry("0", question="Else?"), entry("1"), entry("0", choices={"A": "1", "B": "2"})]
    splits = read_published(write(tmp_path, {"dev": same_ids, "test": [entry("0")]}))
    assert [item.id for item in splits["dev"]] == ["0", "0#1", "1", "0#3"]
    assert [item.id for item in splits["test"]] == ["0"]


@pytest.mark.parametrize("again", [entry("0"), entry("0", choices={"A": "no", "B": "yes"}, answer="B")])
def test_the_same_item_under_a_known_id_is_refused(tmp_path, again):
    path = write(tmp_path, {"dev": [entry("0"), entry("0", question="Else?"), again], "test": []})
    assert "dev item 2: the id '0' stands twice" in refused(path)


def test_the_same_id_in_dev_and_test_is_no_mistake(tmp_path):
    splits = read_published(write(tmp_path, {"dev": [entry("1")], "test": [entry("1")]}))
    assert splits["dev"][0].id == splits["test"][0].id == "1"


def test_a_repeated_split_counts_as_its_last_and_so_does_the_line(tmp_path):
    last = json.dumps([entry("1"), entry("2"), 7], indent=0)
    path = write(tmp_path, f'{{"dev": [],\n"dev": {last},\n"test": []}}')
    line = path.read_text().split("\n").index("7") + 1
    assert refused(path).startswith(f"{path}, line {line}, dev item 2: ")


def test_one_bad_item_in_a_large_single_line_file_is_named(tmp_path):
    document = {"dev": [entry(f"d{k}", note="x" * 400) for k in range(4500)], "test": [entry("t"), {"id": "bad"}]}
    path = write(tmp_path, document)
    assert path.stat().st_size > 2_000_000
    assert refused(path) == f"{path}, line 1, test item 1: question: Field required"


# The published files


@pytest.mark.parametrize(
    ("name", "dev", "test", "most"),
    [
        ("knowledge_crosswords", 200, 1000, 4),
        ("mmlu", 200, 1000, 4),
        ("hellaswag", 200, 1000, 4),
        ("mmlu_pro", 70, 1000, 10),
        ("gsm8k", 200, 1000, None),
        ("nlgraph", 200, 1000, None),
        ("rm", 200, 550, None),
        ("realtoxicityprompts", 200, 1000, None),
        ("human_policy", 25, 25, None),
    ],
)
def test_the_published_files_are_read_in_full(published, name, dev, test, most):
    splits = read_published(published / f"{name}.json")
    assert (len(splits["dev"]), len(splits["test"])) == (dev, test)
    items = [*splits["dev"], *splits["test"]]
    assert all(len({i.id for i in items}) == len(items) for items in splits.values())
    assert max((len(i.choices) for i in items if i.choices), default=None) == most


def test_the_published_crosswords_bring_their_worked_example(published):
    splits = read_published(published / "knowledge_crosswords.json")
    shown = {item.preamble for items in splits.values() for item in items}
    assert len(shown) == 1
    assert shown.pop().strip().endswith("The answer is D.")


# Files as people have them

ROWS = [
    {"question": f"What is {k}?", "choices": ["right", "b", "c", "d"], "answer": "A", "topic": f"t{k % 2}"}
    for k in range(6)
]


def rows(**fields):
    return [{**row, **fields} for row in ROWS]


def read(path, **options):
    splits = read_published(path, **options)
    assert len(splits["dev"]) == len(splits["test"]) == 3
    return [*splits["dev"], *splits["test"]]


def is_right(item):
    return (item.choices or {})[item.answer] == "right"


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.csv", "d.tsv", "d.parquet", "with-mark.json", "lines.json"])
def test_a_list_of_items_is_read_from_every_kind_of_file_and_split_in_two(tmp_path, name):
    path = tmp_path / name
    text = json.dumps(ROWS)
    flat = [
        {"Question": row["question"], **dict(zip("ABCD", row["choices"], strict=True)), "Answer": "A"} for row in ROWS
    ]
    if name.endswith(("csv", "tsv")):
        mark = "\t" if name.endswith("tsv") else ";"
        path.write_text("\n".join([mark.join(flat[0]), *(mark.join(row.values()) for row in flat)]), "utf-8-sig")
    elif name.endswith("parquet"):
        pytest.importorskip("pyarrow.parquet").write_table(__import__("pyarrow").Table.from_pylist(ROWS), path)
    elif name in {"d.jsonl", "lines.json"}:
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        path.write_text(text, "utf-8-sig" if "mark" in name else "utf-8")
    items = read(path)
    assert all(map(is_right, items))
    assert {tuple(item.choices) for item in items} == {("A", "B", "C", "D")}
    assert len({item.question for item in items}) == 6


@pytest.mark.parametrize(
    "fields",
    [
        {"choices": {"1": "right", "2": "b"}, "answer": "1"},
        {"choices": {"1": "right", "2": "b"}, "answer": 1},
        {"choices": {"a": "right", "b": "b"}, "answer": "a"},
        {"choices": {"a": "right", "b": "b"}, "answer": "A"},
        {"choices": {"B": "right", "A": "b"}, "answer": "B"},
        {"choices": {"text": ["b", "right"], "label": ["1", "2"]}, "answer": "2"},
        {"choices": ["right", "b"], "answer": 0},
        {"choices": ["right", "b"], "answer": "right"},
        {"choices": ["b", "right"], "answer": 2},
        {"choices": {"ب": "right", "أ": "b"}, "answer": "ب"},
    ],
)
def test_options_get_letters_whatever_their_keys_are(tmp_path, fields):
    assert all(map(is_right, read(write(tmp_path, rows(**fields)))))


def test_answers_that_fit_two_conventions_are_refused_until_one_is_declared(tmp_path):
    path = write(tmp_path, rows(choices=["b", "right", "c"], answer=1))
    assert "add `answers: index` or `answers: number`" in refused(path)
    assert all(map(is_right, read(path, answers="index")))
    mixed = write(tmp_path, [*rows(answer="A")[:3], *rows(answer="right")[3:]])
    assert "all answers of a data set must be" in refused(mixed)


def test_any_field_may_group_the_items(tmp_path):
    assert {item.group for item in read(write(tmp_path, ROWS), group_by="topic")} == {"t0", "t1"}


COLUMNS = [
    "country,question,answer,note",
    *(f"Land {k},Capital?,Town {k},{'' if k else '{{ question }}'}" for k in range(4)),
]


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.json"])
def test_columns_that_a_prompt_reads_are_kept_and_make_items_different(name, tmp_path):
    keys, *cells = [line.split(",") for line in COLUMNS]
    rows = [dict(zip(keys, own, strict=True)) for own in cells]
    text = {"d.csv": "\n".join(COLUMNS), "d.json": json.dumps(rows), "d.jsonl": "\n".join(map(json.dumps, rows))}[name]
    (tmp_path / name).write_text(text)
    splits = read_published(tmp_path / name, columns=["country", "note"])
    read = sorted((item for own in splits.values() for item in own), key=lambda item: item.row["country"])
    assert [item.row["country"] for item in read] == [f"Land {k}" for k in range(4)]
    assert [item.row["note"] for item in read] == ["{{ question }}", "", "", ""]
    assert find_overlap(splits["dev"], splits["test"]) == ()
    assert all(item.row is None for own in read_published(tmp_path / name).values() for item in own)
    with pytest.raises(UserError, match=r"the prompt reads row\.town; the data has the columns .*country"):
        read_published(tmp_path / name, columns=["town"])


def test_a_column_that_is_no_text_is_refused_where_a_prompt_reads_it(tmp_path):
    (tmp_path / "d.json").write_text(
        json.dumps([{"question": f"{k}?", "answer": "a", "tags": ["x"]} for k in range(2)])
    )
    with pytest.raises(UserError, match=r"item 1: the prompt reads row\.tags, which is a list"):
        read_published(tmp_path / "d.json", columns=["tags"])


def test_rows_of_one_source_stay_on_one_side_and_a_column_may_name_the_split(tmp_path):
    items = read_published(write(tmp_path, [{**row, "source": f"s{k // 2}"} for k, row in enumerate(ROWS)]))
    assert not {item.source for item in items["dev"]} & {item.source for item in items["test"]}
    named = [{**row, "split": "test" if k < 2 else "train"} for k, row in enumerate(ROWS)]
    assert [item.question for item in read_published(write(tmp_path, named))["test"]] == ["What is 0?", "What is 1?"]


def test_an_integer_is_a_free_answer(tmp_path):
    items = read(write(tmp_path, [{"question": f"{k}?", "answer": k} for k in range(6)]))
    assert sorted(item.answer for item in items) == list("012345")


# -- tables ------------------------------------------------------------------------------------------------------------


def table(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_columns_are_taken_for_the_same_in_every_row_and_named(tmp_path):
    rows = ["prompt,Label,option_a,option_b,x,y", *(f"Which is {k}?,B,red{k},blue,1,2" for k in range(4)), ",A,r,b,1,2"]
    path = table(tmp_path, "\n".join(rows[:-1]))
    splits = read_published(path)
    assert {item.choices["B"] for own in splits.values() for item in own} == {"blue"}
    expected = "question from prompt, answer from Label, choices from option_a option_b"
    assert describe_columns(path) == expected
    assert expected in read_task_file(str(path))[0].title


def test_a_blank_question_is_not_replaced_by_another_column(tmp_path):
    path = table(tmp_path, "question,input,answer\nWhy?,x,y\n,another,z\nHow?,x,y\n")
    with pytest.raises(UserError, match="question"):
        read_published(path)


def test_columns_x_and_y_are_no_options(tmp_path):
    splits = read_published(table(tmp_path, "question,answer,x,y\nWhy?,this,1,2\nHow?,that,1,2\n"))
    assert all(item.choices is None for own in splits.values() for item in own)


def test_a_list_of_json_has_the_columns_of_a_table(tmp_path):
    rows = [{"query": f"What is {k}?", "options": ["red", "blue"], "label": k % 2} for k in range(4)]
    for name, text in (("a.json", json.dumps(rows)), ("a.jsonl", "\n".join(map(json.dumps, rows)))):
        dev = read_published(table(tmp_path, text, name))["dev"]
        assert [item.answer for item in dev] == ["AB"[int(item.question[8]) % 2] for item in dev]


def test_a_column_split_says_what_is_dev_test_and_train(tmp_path):
    head = "question,answer,split\n"
    rows = [f"What is {k}?,{k},{name}\n" for k, name in enumerate(["train", "train", "Validation", "test"])]
    splits = read_published(table(tmp_path, head + "".join(rows)))
    assert {part: len(own) for part, own in splits.items()} == {"dev": 1, "test": 1, "train": 2}
    assert set(read_published(table(tmp_path, head + "".join(rows[:2] + rows[3:])))) == {"dev", "test"}
    with pytest.raises(UserError, match="the column `split` says none, test; accepted are test and dev"):
        read_published(table(tmp_path, head + rows[3] + "What?,1,none\n"))


def test_rows_of_a_single_source_are_divided_all_the_same(tmp_path):
    splits = read_published(table(tmp_path, "question,answer,source\n" + "".join(f"Q{k}?,{k},web\n" for k in range(8))))
    assert len(splits["dev"]) == len(splits["test"]) == 4


def test_any_column_groups_also_one_of_numbers_or_one_that_is_the_answer(tmp_path):
    rows = [{"question": f"What is {k}?", "label": str(k % 2), "domain": k % 2, "level": k % 2} for k in range(8)]
    path = table(tmp_path, json.dumps(rows), "a.json")
    for column in ("label", "domain", "level"):
        items = read_published(path, None, column)["dev"]
        assert {group_of(item, column) for item in items} <= {"0", "1"}


@pytest.mark.parametrize("question", ["What is in <image 1>?", "<image>\nWhat is this?", "data:image/png;base64,AAAA"])
def test_a_question_about_an_image_is_refused(question, tmp_path):
    rows = [{"question": question, "answer": "x"}, {"question": "Why?", "answer": "y"}]
    with pytest.raises(UserError, match="holds an image"):
        read_published(table(tmp_path, json.dumps(rows), "a.json"))
