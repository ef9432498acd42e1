import asyncio
import json
from pathlib import Path

import datasets
import pytest
import yaml
from scipy import stats

from harness.embedded_training.item_sets import TOPICS
from utilities.core import ChoiceLogprobs
from utilities.errors import UserError
from utilities.task_file import list_tasks, read_task_file
from utilities.tasks import load_task

DOMAINS = ["culture", "legal", "medical", "science"]
REWARDS = ["reward_concise", "reward_conflict", "reward_general", "reward_reverse", "reward_verbose"]
QUESTIONS = ["abstain_mmlu", "gsm8k", "hellaswag", "knowledge_crosswords", "mmlu", "mmlu_pro", "nlgraph", "topics"]
UNPUBLISHED = ["cartoons", "olympics", "plastic", "south_america"]
ENVIRONMENTS = ["calculator", "look_up", "twenty_questions"]
TASKS = sorted([*DOMAINS, *REWARDS, *QUESTIONS, *TOPICS, *ENVIRONMENTS, "realtoxicityprompts", "truthfulqa"])


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


# Overlap


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
    assert f"Known: {', '.join(TASKS)}." in told


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
        ("1: 2\nname: own", "Keys should be strings"),
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


# The hub, by way of a local folder that the same library reads


def write_hub(folder, rows):
    (folder / "hub").mkdir()
    for split in ("train", "test"):
        (folder / "hub" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "ctx", "options": "endings", "answer": "label"}
    splits = {"dev": "train", "test": "test"}
    return {"path": str(folder / "hub"), "splits": splits, "sizes": {"dev": 2, "test": 3}, **columns}


def test_an_item_set_without_a_file_is_read_from_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    described = write_hub(tmp_path, [{"ctx": f"{k}?", "endings": ["x", "y"], "label": "1"} for k in range(3)])
    only = load_task(str(write_task(tmp_path, {"file": "gone.json", "hub": described}))).item_sets["only"]
    assert (len(only.dev), len(only.test), only.origin) == (2, 3, str(tmp_path / "hub"))
    assert {item.answer for item in only.test} == {"B"}
    assert len(only.overlap) == 2, "both splits are the same table"


def test_a_bad_row_of_the_hub_stops_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    described = write_hub(tmp_path, [{"ctx": f"{k}?", "endings": ["x", "y"], "label": ""} for k in range(3)])
    told = refused(load_task, str(write_task(tmp_path, {"file": "gone.json", "hub": described})))
    assert "split 'train', row " in told and "column 'label': '' is none of the letters A, B" in told


# The published data

SIZES = {
    "abstain_mmlu": {"mmlu": (200, 1000)},
    "culture": {"normad_country": (500, 2000), "normad_value": (500, 2000)},
    "gsm8k": {"gsm8k": (200, 1000)},
    "hellaswag": {"hellaswag": (200, 1000)},
    "knowledge_crosswords": {"knowledge_crosswords": (200, 1000)},
    "legal": {"hearsay": (94, 94), "citation_prediction_classification": (108, 108)},
    "medical": {"medqa": (200, 1000), "medmcqa": (200, 1000)},
    "mmlu": {"mmlu": (200, 1000)},
    "mmlu_pro": {"mmlu_pro": (70, 1000)},
    "nlgraph": {"nlgraph": (200, 1000)},
    "realtoxicityprompts": {"realtoxicityprompts": (200, 1000)},
    "science": {"scifact": (200, 532), "stem": (30, 473)},
    **{name: {"prompts": (200, 550)} for name in REWARDS},
    **{name: {"instructions": (25, 25)} for name in TOPICS if name not in UNPUBLISHED},
}
OVERLAP = {"knowledge_crosswords": 149, "hearsay": 94, "citation_prediction_classification": 108}


def load_published(name, folder, **options):
    """A full edition; where its scorer needs a model of the user's own, with a scorer that needs none."""
    if name in {*REWARDS, "realtoxicityprompts"}:
        options = {"utility": "regex", "options": {"pattern": "."}, **options}
    return load_task(name, edition="full", data=folder, **options)


@pytest.mark.parametrize("name", SIZES)
def test_the_full_editions_load_in_full_from_the_published_files(published, name):
    task = load_published(name, published)
    assert {set_: (len(s.dev), len(s.test)) for set_, s in task.item_sets.items()} == SIZES[name]
    found = {set_: len(s.overlap) for set_, s in task.item_sets.items() if s.overlap}
    assert found == {set_: n for set_, n in OVERLAP.items() if set_ in task.item_sets}


def test_every_published_file_belongs_to_a_task(published):
    read = {Path(s.origin).name for name in SIZES for s in load_published(name, published).item_sets.values()}
    assert read == {path.name for path in published.glob("*.json")}


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_a_topic_whose_instructions_were_not_published_says_so(published, name):
    assert f"holds no file human_{name}.json" in refused(load_task, name, edition="full", data=published)


def test_the_published_legal_sets_overlap_completely(published):
    assert "leaves nothing to test on" in refused(load_published("legal", published).without_overlap)


def test_dropping_the_overlap_of_the_published_crosswords_leaves_the_rest(published):
    task = load_published("knowledge_crosswords", published).without_overlap()
    assert (task.size("dev"), task.size("test")) == (200, 851)


def test_a_limit_keeps_the_front_of_the_published_files(published):
    task = load_task("medical", edition="full", data=published, limit=20)
    front = json.loads((published / "medqa.json").read_text(encoding="utf-8"))["dev"][:20]
    assert [i.id for i in task.item_sets["medqa"].dev] == [str(e["id"]) for e in front]
    assert task.size("test") == 40


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
    for item_set in task.item_sets.values():
        dev, test = (25, 25) if name in TOPICS else (125 if name == "twenty_questions" else 200, 400)
        assert (len(item_set.dev), len(item_set.test), item_set.overlap) == (dev, test, ())
        items = [*item_set.dev, *item_set.test]
        assert all(len(set(i.choices.values())) == len(i.choices) for i in items if i.choices)
        assert len({i.id for i in items}) == dev + test
        assert {i.source for i in item_set.dev if i.source}.isdisjoint({i.source for i in item_set.test})


@pytest.mark.parametrize("name", DOMAINS)
def test_the_mini_editions_of_the_domains_ask_directly_and_by_cases(name):
    sets = load_task(name, edition="mini").item_sets
    assert list(sets) == ["questions", "cases"]
    assert all(i.source and i.domain for s in sets.values() for i in (*s.dev, *s.test))


@pytest.mark.parametrize("name", [*DOMAINS, "topics"])
def test_no_fact_is_in_dev_of_one_mini_set_and_in_test_of_the_other(name):
    sets = load_task(name, edition="mini").item_sets.values()
    dev, test = ({i.source for s in sets for i in s.split(split)} for split in ("dev", "test"))
    assert dev.isdisjoint(test)
    assert min(len(dev), len(test)) > 100


def settings_of(tmp_path, settings):
    path = write_task(tmp_path, {})
    document = yaml.safe_load(path.read_text())
    next(iter(document["editions"].values()))["settings"] = settings
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trust_remote_code", True),
        ("trust_task", True),
        ("judge_url", "http://192.0.2.1/v1"),
        ("judge_key_env", "HOME"),
        ("judge_key_file", "/etc/passwd"),
        ("judge_price", "0,0"),
        ("allow_unknown_price", True),
        ("budget_usd", 1e9),
        ("judge", ["gpt-x"]),
        ("base_url", "http://192.0.2.1/v1"),
        ("server_key_env", "HOME"),
        ("ray_address", "192.0.2.1:1"),
        ("data", "/var"),
        ("experts", ["/var/x"]),
        ("base_model", "someone/model"),
        ("evidence", "/etc"),
        ("utility", "x.py:f"),
        ("judge_cache", "/var/x"),
        ("adapter_folder", "/var"),
        ("optimiser", "x.py:Mine"),
        ("objective", "x.py:mine"),
    ],
)
def test_what_decides_about_safety_and_money_cannot_come_from_a_task_file(tmp_path, name, value):
    told = refused(read_task_file, settings_of(tmp_path, {"iterations": 2, name: value}))
    assert f"a task file cannot set {'' if 'py' in str(value) and name != 'utility' else repr(name)}" in told
    assert "--" + name.replace("_", "-") in told


def test_a_misspelled_setting_of_a_task_file_is_named_with_the_right_one(tmp_path):
    assert "did you mean 'particles'?" in refused(read_task_file, settings_of(tmp_path, {"particels": 2}))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "../../etc/passwd"}, "leads out of the task file's folder"),
        ({"file": "/etc/passwd"}, "leads out of the task file's folder"),
        ({"file": "~/x.json"}, "leads out of the task file's folder"),
        ({"options": {"trust_remote_code": True}}, "--option trust_remote_code=VALUE"),
        ({"options": {"own_scoring": True}}, "--option own_scoring=VALUE"),
        ({"options": {"evidence": "search.py:find"}}, "--option evidence=VALUE"),
        ({"options": {"reference": "/etc/passwd"}}, "option reference '/etc/passwd' leads out"),
        ({"options": {"model": "../model"}}, "option model '../model' leads out"),
    ],
)
def test_paths_and_code_in_a_task_file_stay_in_its_folder(tmp_path, entry, message):
    assert message in refused(read_task_file, str(write_task(tmp_path, entry)))


def test_a_regular_expression_is_no_path(tmp_path):
    read_task_file(str(write_task(tmp_path, {"options": {"pattern": "/../|~x", "prompt": "bare"}})))


def test_code_outside_the_folder_of_the_task_needs_trust(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "outside.py").write_text("def f(item, response): return 1.0")
    (tmp_path / "task" / "inside.py").write_text("def f(item, response): return 1.0")
    (tmp_path / "task" / "link.py").symlink_to(tmp_path / "outside.py")
    for spec, trusted in (("inside.py:f", True), ("../outside.py:f", False), ("link.py:f", False)):
        path = str(write_task(tmp_path / "task", {"scorer": spec}))
        assert read_task_file(path, trust=True)
        if trusted:
            assert read_task_file(path)
        else:
            assert "add --trust-task to run it" in refused(read_task_file, path)


@pytest.mark.parametrize(
    ("header", "row", "scorer"),
    [
        ("Question,A,B,Answer", "{},x,y,A", "multiple_choice"),
        ("question,answer", "{},{}", "numeric"),
        ("prompt,label", "{},Yes", "yes_no"),
        ("question,answer", "{},Oslo", "exact_match"),
    ],
)
def test_a_table_is_a_task_without_a_task_file(tmp_path, header, row, scorer):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *(row.format(k, k) for k in range(4))]))
    task = load_task(str(path))
    assert f"scored by {scorer}; 2 dev, 2 test items" in task.title
    assert len(task.item_sets["items"].dev) == 2


def test_a_table_whose_rows_are_of_several_kinds_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("question,A,B,answer\n1?,x,y,A\n2?,,,Oslo\n")
    with pytest.raises(UserError, match="needs a column `answer`"):
        load_task(str(path))


def test_a_local_folder_of_a_hub_entry_is_found_from_the_task_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data_set").mkdir()
    rows = [{"question": f"{k}?", "options": ["x", "y"], "answer": k % 2} for k in range(6)]
    (tmp_path / "data_set" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hub = {"path": "./data_set", "splits": {"dev": "train", "test": "train"}, "sizes": {"dev": 3, "test": 3}}
    columns = {"question": "question", "options": "options", "answer": "answer"}
    item_set = {"scorer": "multiple_choice", "file": "none.json", "hub": {**hub, **columns}}
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps({"name": "t", "title": "t", "editions": {"own": {"item_sets": {"s": item_set}}}}))
    assert len(load_task(str(path)).item_sets["s"].dev) == 3


def test_a_prompt_file_is_found_from_the_task_files_folder(tmp_path):
    (tmp_path / "qa.jinja").write_text("Q: {{ question }}\nA:")
    items = {split: [{"question": f"{split}?", "answer": "yes"}] for split in ("dev", "test")}
    for prompt in ("./qa.jinja", "Q: {{ question }}\nA:"):
        item_set = {"scorer": "exact_match", "options": {"prompt": prompt}, "items": items}
        path = tmp_path / "t.yaml"
        path.write_text(json.dumps({"name": "t", "title": "t", "editions": {"own": {"item_sets": {"s": item_set}}}}))
        scorer = load_task(str(path)).item_sets["s"].scorer
        assert scorer.prompt.template.render(question="Why?") == "Q: Why?\nA:"
