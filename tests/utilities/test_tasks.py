import asyncio
import json

import datasets
import pytest
import yaml
from scipy import stats

from utilities.core import ChoiceLogprobs, Item
from utilities.errors import UserError
from utilities.tasks import find_overlap, list_tasks, load_task, read_published

TASKS = ["culture", "legal", "medical", "science"]


def entry(id, **fields):
    return {"id": id, "question": f"Which is {id}?", "choices": {"A": "yes", "B": "no"}, "answer": "A", **fields}


def good():
    return {"dev": [entry("d1"), entry("d2")], "test": [entry("t1"), entry("t2"), entry("t3")]}


def write(folder, document, name="file.json", **options):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document, **options), encoding="utf-8")
    return path


def write_task(folder, item_set=None, **fields):
    """A user's own task file with its data beside it."""
    described = {"scorer": "multiple_choice", "file": "own.json", **(item_set or {})}
    task = {"name": "own", "title": "My own", "editions": {"small": {"item_sets": {"only": described}}}, **fields}
    (folder / "data").mkdir(exist_ok=True)
    write(folder / "data", good(), "own.json")
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False))
    return path


def refused(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The published format


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


def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(json.dumps(good(), indent=1).encode().replace(b"Which is d2?", "Où est-ce?".encode("latin-1")))
    line = path.read_bytes().split(b"\n").index(b'   "question": "O\xf9 est-ce?",') + 1
    assert f"{path}, line {line}: not UTF-8 text" in refused(read_published, path)


def test_broken_json_is_named_with_its_line(tmp_path):
    path = write(tmp_path, '{"dev": [],\n"test": [\n{"question": }]}')
    assert refused(read_published, path) == f"{path}, line 3: not JSON: Expecting value"


@pytest.mark.parametrize("text", ["", "\ufeff{}", "{'dev': []}", '{"dev": [' + "[" * 200_000, "1" * 5000])
def test_whatever_is_no_json_is_one_message(tmp_path, text):
    path = write(tmp_path, text)
    assert refused(read_published, path).startswith(str(path))


@pytest.mark.parametrize(
    ("document", "split"),
    [
        ({"dev": [entry("1")]}, "test"),
        ({"test": [entry("1")]}, "dev"),
        ({"dev": {"1": entry("1")}, "test": []}, "dev"),
        ([entry("1")], "dev"),
        ("null", "dev"),
        ("3", "dev"),
    ],
)
def test_a_split_that_is_missing_or_no_list_is_named(tmp_path, document, split):
    path = write(tmp_path, document)
    told = refused(read_published, path)
    assert told == f'{path}: expected {{"dev": [items], "test": [items]}}, found no list \'{split}\''


BAD_ITEMS = [
    ("a text", "an item is an object with question, choices and answer"),
    (None, "an item is an object with"),
    (["question", "answer"], "an item is an object with"),
    ({"id": "x", "choices": {"A": "1", "B": "2"}, "answer": "A"}, "question: Field required"),
    ({**entry("x"), "question": " "}, "the question is empty"),
    ({k: v for k, v in entry("x").items() if k != "answer"}, "the answer None is none of the options"),
    (entry("x", choices={"A": "yes"}), "1 options; 2 to 26 are accepted"),
    (entry("x", choices=["yes", "no"]), "choices: Input should be a valid dictionary"),
    (entry("x", question="\ud800"), "question: Input should be a valid string"),
    (entry("t1"), "the id 't1' stands twice in this split"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ITEMS)
def test_a_bad_item_is_named_with_file_line_split_and_position(tmp_path, bad, message):
    document = good()
    document["test"].insert(2, bad)
    path = write(tmp_path, document, indent=1)
    text = path.read_text()
    # The item begins on the line after the one that closes the item before it ("t2").
    line = text.count("\n", 0, text.index("}", text.index("}", text.index('"t2"')) + 1)) + 2
    told = refused(read_published, path)
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
    assert "dev item 2: the id '0' stands twice" in refused(read_published, path)


def test_the_same_id_in_dev_and_test_is_no_mistake(tmp_path):
    splits = read_published(write(tmp_path, {"dev": [entry("1")], "test": [entry("1")]}))
    assert splits["dev"][0].id == splits["test"][0].id == "1"


def test_a_repeated_split_counts_as_its_last_and_so_does_the_line(tmp_path):
    last = json.dumps([entry("1"), entry("2"), 7], indent=0)
    path = write(tmp_path, f'{{"dev": [],\n"dev": {last},\n"test": []}}')
    line = path.read_text().split("\n").index("7") + 1
    assert refused(read_published, path).startswith(f"{path}, line {line}, dev item 2: ")


def test_one_bad_item_in_a_large_single_line_file_is_named(tmp_path):
    document = {"dev": [entry(f"d{k}", note="x" * 400) for k in range(4500)], "test": [entry("t"), {"id": "bad"}]}
    path = write(tmp_path, document)
    assert path.stat().st_size > 2_000_000
    told = refused(read_published, path)
    assert told == f"{path}, line 1, test item 1: question: Field required"


# Overlap


def item(id, question="Which?", options=("one", "two", "three"), answer="A"):
    return Item(id=id, question=question, choices=dict(zip("ABC", options, strict=False)), answer=answer)


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        (item("t"), True),
        (item("t", options=("three", "one", "two"), answer="B"), True),
        (item("t", question=" Which? \n", options=("one", "two ", "three")), True),
        (item("t", options=("one", "two", "four")), False),
        (item("t", options=("one", "two")), False),
        (item("t", question="Which one?"), False),
        (Item(id="t", question="Which?", choices={"X": "two", "Y": "three", "Z": "one"}, answer="X"), True),
        (Item(id="t", question="Which?"), False),
    ],
)
def test_an_item_overlaps_when_question_and_options_are_the_same_in_any_order(other, overlaps):
    assert find_overlap([item("d"), item("e", question="Else?")], [other]) == (("t",) if overlaps else ())


def test_items_without_options_overlap_by_their_question():
    assert find_overlap([Item(id="1", question="Why?")], [Item(id="2", question="Why?")]) == ("2",)


def test_the_overlap_is_found_and_dropped_from_test(tmp_path):
    path = write_task(tmp_path)
    document = good()
    document["test"][1] = {**document["dev"][0], "id": "t2", "choices": {"A": "no", "B": "yes"}, "answer": "B"}
    write(tmp_path / "data", document, "own.json")
    task = load_task(str(path))
    assert task.item_sets["only"].overlap == ("t2",)
    dropped = task.without_overlap().item_sets["only"]
    assert [i.id for i in dropped.test] == ["t1", "t3"]
    assert dropped.overlap == ()
    assert dropped.dev == task.item_sets["only"].dev


def test_dropping_everything_is_refused(tmp_path):
    path = write_task(tmp_path)
    write(tmp_path / "data", {"dev": good()["dev"], "test": good()["dev"]}, "own.json")
    told = refused(load_task(str(path)).without_overlap)
    assert "all 2 test items of 'only' stand in dev too" in told and "Run without --drop-overlap" in told


# Task files


def test_the_bundled_tasks_are_listed():
    assert list(list_tasks()) == TASKS
    assert all(path.is_file() for path in list_tasks().values())


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("medcal", "Did you mean 'medical'?"), ("Legal", "'legal'"), ("zzz", "unknown task 'zzz'. Known:")],
)
def test_an_unknown_task_is_answered_with_the_nearest(asked, hint):
    told = refused(load_task, asked)
    assert hint in told
    assert "Known: culture, legal, medical, science." in told


def test_a_users_own_task_is_read_by_its_path_with_its_data_beside_it(tmp_path):
    task = load_task(str(write_task(tmp_path, {"options": {"prompt": "plain", "answer_by": "text"}})))
    only = task.item_sets["only"]
    assert (task.name, task.edition, task.size("dev"), task.size("test")) == ("own", "small", 2, 3)
    assert only.origin == str(tmp_path / "data" / "own.json")
    assert (only.split("dev"), only.split("test")) == (only.dev, only.test)


def test_data_given_wins_over_data_beside_the_task(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", {"dev": [entry("1")], "test": [entry("2")]}, "own.json")
    task = load_task(str(write_task(tmp_path)), data=tmp_path / "elsewhere")
    assert (task.size("dev"), task.size("test")) == (1, 1)


@pytest.mark.parametrize(("limit", "dev", "test"), [(1, ["d1"], ["t1"]), (2, ["d1", "d2"], ["t1", "t2"]), (9, 2, 3)])
def test_a_limit_takes_items_from_the_front_of_each_split(tmp_path, limit, dev, test):
    only = load_task(str(write_task(tmp_path)), limit=limit).item_sets["only"]
    found = ([i.id for i in only.dev], [i.id for i in only.test]) if limit < 9 else (len(only.dev), len(only.test))
    assert found == (dev, test)


def test_the_overlap_is_that_of_the_items_within_the_limit(tmp_path):
    path = write_task(tmp_path)
    document = good()
    document["test"][2] = {**document["dev"][0], "id": "t3"}
    write(tmp_path / "data", document, "own.json")
    assert load_task(str(path)).item_sets["only"].overlap == ("t3",)
    assert load_task(str(path), limit=2).item_sets["only"].overlap == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [own\ntitle: x", "not readable as YAML: .*line 2"),
        ("name: own\n\ttitle: x", "not readable as YAML"),
        ("- a\n- b", "a task file is a mapping with name, title and editions"),
        ("", "a task file is a mapping"),
        ("name: own\ntitle: x", "editions: Field required"),
        ("name: own\ntitle: x\neditions: {}", "editions: .*at least 1 item"),
        ("name: own\ntitle: x\neditions: {a: {item_sets: {}}}", "editions.a.item_sets: .*at least 1 item"),
        ("name: own\ntitle: x\neditions: {a: {item_sets: {s: {file: f}}}}", "editions.a.item_sets.s.scorer: Field req"),
        ("name: own\ntitle: x\nedition: {}\neditions: {}", "edition: Extra inputs are not permitted"),
        ("1: 2\nname: own", "keywords must be strings"),
    ],
)
def test_a_malformed_task_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    told = refused(load_task, str(path))
    assert told.startswith(f"{path}: ")
    with pytest.raises(UserError, match=message):
        load_task(str(path))


def test_a_task_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    assert refused(load_task, str(path)).startswith(f"{path}: not readable as YAML")


def test_a_task_file_that_does_not_exist_is_named(tmp_path):
    assert refused(load_task, str(tmp_path / "no.yaml")) == f"there is no task file {tmp_path / 'no.yaml'}"


@pytest.mark.parametrize(
    ("item_set", "message"),
    [
        ({"scorer": "multiple_choise"}, "unknown scorer 'multiple_choise'. Did you mean 'multiple_choice'?"),
        ({"options": {"promt": "plain"}}, "item set 'only': scorer 'multiple_choice' does not take its options"),
        ({"options": {"prompt": "plian"}}, "unknown prompt 'plian'. Did you mean 'plain'?"),
        ({"options": {"answer_by": "word"}}, "unknown answer_by 'word'"),
        ({"options": {"normalize": "lenght"}}, "unknown normalize 'lenght'. Did you mean 'length'?"),
        ({"colour": "red"}, "editions.small.item_sets.only.colour: Extra inputs are not permitted"),
        ({"file": "gone.json"}, "gone.json with --data DIR"),
    ],
)
def test_a_mistake_in_an_item_set_is_told(tmp_path, item_set, message):
    assert message in refused(load_task, str(write_task(tmp_path, item_set)))


def test_an_unknown_combination_is_refused_before_any_data_is_read(tmp_path):
    told = refused(load_task, str(write_task(tmp_path, {"file": "gone.json"}, combine="harmonic_men")))
    assert "unknown combination 'harmonic_men'. Did you mean 'harmonic_mean'?" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edition": "ful"}, "unknown edition of task medical 'ful'. Did you mean 'full'?"),
        ({"edition": "mini", "data": "."}, "edition 'mini' is bundled: add --edition full"),
        ({"edition": "full", "data": "no-such-folder"}, "--data no-such-folder: there is no such folder"),
    ],
)
def test_editions_and_data_folders_are_checked(tmp_path, options, message):
    if "data" in options:
        options = {**options, "data": type(tmp_path)(options["data"])}
    assert message in refused(load_task, "medical", **options)


@pytest.mark.parametrize(
    ("edition", "prefer", "chosen"),
    [(None, "full", "full"), (None, "mini", "mini"), ("mini", "full", "mini"), (None, "huge", "first")],
)
def test_the_edition_asked_for_wins_over_the_preferred_over_the_first(tmp_path, edition, prefer, chosen):
    only = {"item_sets": {"only": {"scorer": "multiple_choice", "file": "own.json"}}}
    path = write_task(tmp_path, editions={"first": only, "mini": only, "full": only})
    assert load_task(str(path), edition=edition, prefer=prefer).edition == chosen


def test_an_empty_split_is_named(tmp_path):
    path = write_task(tmp_path)
    write(tmp_path / "data", {"dev": [entry("1")], "test": []}, "own.json")
    assert refused(load_task, str(path)) == f"{tmp_path / 'data' / 'own.json'}: split 'test' is empty"


def test_an_item_that_its_scorer_cannot_score_is_named(tmp_path):
    path = write_task(tmp_path)
    document = good()
    document["test"].append({"id": "free", "question": "Why?", "answer": "because"})
    write(tmp_path / "data", document, "own.json")
    told = refused(load_task, str(path))
    assert told == f"{tmp_path / 'data' / 'own.json'}, test item 'free': the item has no choices"


class Gold:
    """Chooses the first of two options, which is right, but not for the first `wrong` items."""

    def __init__(self, wrong):
        self.wrong = wrong

    async def choice_logprobs(self, prompts, options):
        answers = [(-9.0, -1.0) if k < self.wrong else (-1.0, -9.0) for k in range(len(prompts))]
        return [ChoiceLogprobs(a, (1, 1)) for a in answers]


def test_a_task_is_awaited_with_a_model_and_a_split(tmp_path):
    described = {"scorer": "multiple_choice", "file": "own.json"}
    small = {"item_sets": {"one": described, "two": {**described, "file": "two.json"}}}
    path = write_task(tmp_path, editions={"small": small})
    write(tmp_path / "data", {"dev": good()["test"], "test": [entry(str(k)) for k in range(4)]}, "two.json")
    task = load_task(str(path))
    found = asyncio.run(task(Gold(1), "test"))
    assert found.value == pytest.approx(stats.hmean([2 / 3, 3 / 4]))
    assert {name: part.n for name, part in found.parts.items()} == {"one": 3, "two": 4}
    assert asyncio.run(task(Gold(0), "dev")).value == 1.0


def test_a_task_of_one_item_set_is_that_sets_evaluation(tmp_path):
    found = asyncio.run(load_task(str(write_task(tmp_path)))(Gold(1), "test"))
    assert (found.value, found.parts) == (pytest.approx(2 / 3), {})


# The hub, by way of local folders that the same library reads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Loads a task whose item set is the given rows, stored as the hub stores them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def load(rows, kind="json", **described):
        folder = tmp_path / "hub"
        folder.mkdir()
        for split, entries in rows.items():
            if kind == "json":
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in entries))
            else:
                datasets.Dataset.from_list(entries).to_parquet(folder / f"{split}.parquet")
        described = {
            "path": str(folder),
            "splits": {"dev": "train", "test": "test"},
            "question": "question",
            "options": "options",
            "answer": "answer",
            **described,
        }
        task = load_task(str(write_task(tmp_path, {"file": "not-there.json", "hub": described})))
        return task.item_sets["only"]

    return load


def rows(n, **fields):
    base = {"question": "Which {k}?", "options": ["one", "two", "three"], "answer": "B", **fields}
    return [{**base, "question": f"Which {k}?"} for k in range(n)]


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize("answer", ["B", 1])
def test_a_hub_data_set_answers_by_letter_or_by_index(hub, kind, answer):
    only = hub({"train": rows(4, answer=answer), "test": rows(3, answer=answer)}, kind)
    assert (len(only.dev), len(only.test)) == (4, 3)
    assert only.test[0].choices == {"A": "one", "B": "two", "C": "three"}
    assert {i.answer for i in (*only.dev, *only.test)} == {"B"}
    assert sorted(i.question for i in only.test) == ["Which 0?", "Which 1?", "Which 2?"]


@pytest.mark.parametrize("answer", ["D", 3])
def test_options_in_columns_of_their_own(hub, answer):
    table = [
        {"q": f"Which {k}?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": answer, "exp": None}
        for k in range(3)
    ]
    columns = {"question": "q", "options": ["opa", "opb", "opc", "opd"], "answer": "cop"}
    only = hub({"train": table, "test": table}, **columns)
    assert only.dev[0].choices == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert only.dev[0].answer == "D"
    assert len(only.overlap) == 3


def test_options_as_a_mapping_may_differ_in_number(hub):
    # A table has one set of columns, so the shorter question reads back with a null option.
    table = rows(2, options={"A": "x", "B": "y", "C": "z"}) + rows(1, options={"A": "x", "B": "y"})
    only = hub({"train": table, "test": table})
    assert sorted(len(i.choices) for i in only.dev) == [2, 3, 3]
    assert only.dev[0].answer == "B"


def test_one_split_for_both_is_cut_in_two_without_overlap(hub):
    splits, sizes = {"dev": "train", "test": "train"}, {"dev": 10, "test": 15}
    only = hub({"train": rows(30)}, splits=splits, sizes=sizes)
    dev, test = {i.id for i in only.dev}, {i.id for i in only.test}
    assert (len(dev), len(test), len(dev & test), only.overlap) == (10, 15, 0, ())
    assert {i.question for i in only.dev} == {f"Which {id}?" for id in dev}


def test_the_sample_is_seeded_and_of_the_size_described(hub, tmp_path):
    only = hub({"train": rows(50), "test": rows(50)}, sizes={"dev": 5, "test": 7})
    again = load_task(str(tmp_path / "own.yaml")).item_sets["only"]
    assert [i.id for i in only.dev] == [i.id for i in again.dev]
    assert (len(only.dev), len(only.test)) == (5, 7)
    assert [i.id for i in only.dev] != ["0", "1", "2", "3", "4"], "sampled, not the front of a sorted table"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"question": "text"}, "has no column 'text'; it has question, options, answer"),
        ({"options": ["opa", "opb"]}, "has no column 'opa'"),
        ({"answer": "label"}, "has no column 'label'"),
        ({"splits": {"dev": "train", "test": "validation"}}, "could not be loaded from the hub"),
        ({"path": "nobody/no-such-data-set"}, "'nobody/no-such-data-set' could not be loaded from the hub"),
        ({"splits": {"dev": "train"}}, "both dev and test are needed"),
        ({"sizes": {"dev": 5}}, "both dev and test are needed"),
        ({"sizes": {"dev": 5, "test": 0}}, "sizes.test: Input should be greater than 0"),
    ],
)
def test_a_hub_description_that_does_not_fit_is_told(hub, described, message):
    assert message in refused(hub, {"train": rows(3), "test": rows(3)}, **described)


def test_a_bad_row_is_named_with_its_number(hub):
    table = [*rows(5), {"question": "Bad?", "options": ["one", "two"], "answer": "C"}]
    told = refused(hub, {"train": table, "test": rows(3)})
    assert "dev, row 5: the answer 'C' is none of the options ['A', 'B']" in told


def test_a_row_without_a_label_is_not_taken_for_the_last_option(hub):
    assert "row 0: answer" in refused(hub, {"train": rows(1, answer=-1), "test": rows(1, answer=-1)})


# The published data

SIZES = {
    "medical": {"medqa": (200, 1000), "medmcqa": (200, 1000)},
    "legal": {"hearsay": (94, 94), "citation_prediction_classification": (108, 108)},
    "science": {"scifact": (200, 532), "stem": (30, 473)},
    "culture": {"normad_country": (500, 2000), "normad_value": (500, 2000)},
}


@pytest.mark.parametrize("name", TASKS)
def test_the_full_editions_load_from_the_published_files(published, name):
    task = load_task(name, data=published)
    assert task.edition == "full"
    assert {set_: (len(s.dev), len(s.test)) for set_, s in task.item_sets.items()} == SIZES[name]


def test_the_published_legal_sets_overlap_completely(published):
    task = load_task("legal", edition="full", data=published)
    assert {name: len(s.overlap) for name, s in task.item_sets.items()} == {
        "hearsay": 94,
        "citation_prediction_classification": 108,
    }
    assert "leaves nothing to test on" in refused(task.without_overlap)


def test_a_limit_keeps_the_front_of_the_published_files(published):
    task = load_task("medical", edition="full", data=published, limit=20)
    front = json.loads((published / "medqa.json").read_text(encoding="utf-8"))["dev"][:20]
    assert [i.id for i in task.item_sets["medqa"].dev] == [str(e["id"]) for e in front]
    assert task.size("test") == 40


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
def test_the_other_published_files_are_read_too(published, name, dev, test, most):
    splits = read_published(published / f"{name}.json")
    assert (len(splits["dev"]), len(splits["test"])) == (dev, test)
    items = [*splits["dev"], *splits["test"]]
    assert all(len({i.id for i in items}) == len(items) for items in splits.values())
    assert max((len(i.choices) for i in items if i.choices), default=None) == most


def test_a_full_edition_says_what_to_do_without_data():
    told = refused(load_task, "legal", edition="full")
    assert "hearsay.json does not exist" in told and "--data DIR" in told


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            "medical",
            "item set 'medqa': --data {} holds no file medqa.json;"
            " without --data the hub would be asked for GBaker/MedQA-USMLE-4-options",
        ),
        ("legal", "item set 'hearsay': --data {} holds no file hearsay.json"),
    ],
)
def test_a_file_missing_in_the_folder_that_was_named_is_no_reason_to_ask_the_hub(tmp_path, monkeypatch, task, message):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    assert refused(load_task, task, edition="full", data=tmp_path) == message.format(tmp_path)


def test_a_file_missing_in_the_folder_that_was_named_is_not_looked_for_beside_the_task(tmp_path):
    (tmp_path / "empty").mkdir()
    told = refused(load_task, str(write_task(tmp_path)), data=tmp_path / "empty")
    assert told == f"item set 'only': --data {tmp_path / 'empty'} holds no file own.json"


# The bundled mini editions


@pytest.mark.parametrize("name", TASKS)
def test_the_mini_editions_are_complete_and_sound(name):
    task = load_task(name, edition="mini")
    assert list(task.item_sets) == ["questions", "cases"]
    for item_set in task.item_sets.values():
        assert (len(item_set.dev), len(item_set.test), item_set.overlap) == (200, 400, ())
        items = [*item_set.dev, *item_set.test]
        assert {len(i.choices) for i in items} <= {2, 4}
        assert all(len(set(i.choices.values())) == len(i.choices) for i in items)
        assert len({i.id for i in items}) == 600
        assert all(i.source and i.domain for i in items)
        assert {i.source for i in item_set.dev}.isdisjoint({i.source for i in item_set.test})


@pytest.mark.parametrize("name", TASKS)
def test_no_fact_is_in_dev_of_one_mini_set_and_in_test_of_the_other(name):
    sets = load_task(name, edition="mini").item_sets.values()
    dev, test = ({i.source for s in sets for i in s.split(split)} for split in ("dev", "test"))
    assert dev.isdisjoint(test)
    assert min(len(dev), len(test)) > 100
