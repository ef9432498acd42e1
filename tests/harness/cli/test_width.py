"""Screens of 80 columns: no name of a model, run or item is lost or cut without dots, and no table is wider."""

import json
import re
import shutil

import pytest
import stub_server as stub
import yaml
from rich.cells import cell_len
from run_folders import choice_items, make_run

from harness.annotate.pairs import make_key
from harness.annotate.verdicts import Verdict
from utilities.core import Item

ANT = "an-adapter-whose-name-has-more-than-forty-characters-and-some-more"
TASK = "colours-of-things-that-have-a-long-name-as-tasks-of-users-may-have"
RUN = "a-run-folder-with-a-name-that-is-longer-than-any-column-of-a-table-can-be"
MODEL = "some-organisation-with-a-name/Some-Model-7B-Instruct-v0.3-and-a-suffix-too"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    shared = {"items": choice_items(4), "task": TASK, "experts": (ANT, "bee")}
    models = ("base", f"expert_{ANT}", "expert_bee")
    for name, winner in ((RUN, [1, 1, 1, 0]), (f"{RUN}-2", [0, 1, 1, 0])):
        scores = {**{model: [1, 0, 0, 0] for model in models}, "winner": winner}
        answers = {**dict.fromkeys(models, "ABBB"), "winner": "".join("BA"[s] for s in winner)}
        run = make_run(folder / name, **shared, answers=answers, scores=scores, coefficients={ANT: winner[0], "bee": 1})
        document = yaml.safe_load((run / "settings.yaml").read_text())
        document["settings"] |= {"base_model": MODEL + name.removeprefix(RUN), "task": TASK}
        (run / "settings.yaml").write_text(yaml.safe_dump(document))
    return folder


def check(text, *names):
    """Every name is there, folded or cut with dots; only sentences, which terminals wrap, may be longer than 80."""
    for line in text.splitlines():
        assert cell_len(line) <= 80 or not re.search(r"[│┃]|\S {2,}\S", line.strip()), line
    cells = re.sub(r"[\s│┃]", "", text)
    for name in names:
        short = f"{name[:12]}.*(…|\\.\\.\\.)"
        assert name in cells or re.search(short, text) or folded(name, text), f"{name} is lost in:\n{text}"


def folded(name, text):
    """Whether a name continues on the lines below its beginning, in the same column."""
    lines = text.splitlines()
    for k, line in enumerate(lines):
        size = next((size for size in range(len(name), 5, -1) if name[:size] in line), 0)
        at, rest = line.find(name[:size]), name[size:]
        for below in lines[k + 1 :] if size else ():
            part = below[at : at + size].strip()
            if not part or not rest.startswith(part):
                break
            rest = rest[len(part) :]
        if size and not rest:
            return True
    return False


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["runs", "."], [RUN, f"{RUN}-2", TASK, MODEL]),
        (["show", RUN, "--fixed"], [ANT, "winner", "base model"]),
        (["show", RUN, "--item", "q1", "--model", ANT], [ANT]),
        (["diff", RUN, f"{RUN}-2"], [ANT, MODEL]),
        (["list", "tasks"], ["medical"]),
        (["list", "engines"], ["local"]),
        (["list", "utilities"], ["multiple_choice_generated"]),
        (["doctor"], ["transformers"]),
    ],
)
def test_a_screen_holds_at_80_columns(command, names, runs, here, monkeypatch):
    monkeypatch.chdir(runs)
    done = here(*command, columns=80)
    assert done.returncode == 0 or command == ["doctor"], done.stderr
    check(done.stdout, *names)


def test_models_are_named_at_80_columns(here, base, adapters, tmp_path, monkeypatch):
    expert = shutil.copytree(adapters[0], tmp_path / ANT)
    monkeypatch.chdir(tmp_path)
    item = {"question": "Say a word.", "answer": "word"}
    items = {split: [{"id": f"{split}{k}", **item} for k in range(2)] for split in ("dev", "test")}
    item_sets = {"words": {"scorer": "exact_match", "options": {"max_tokens": 4}, "items": items}}
    task = {"name": "words", "title": "Words", "editions": {"own": {"item_sets": item_sets}}}
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(task))
    models = ["--task", "words.yaml", "--base-model", base, "--experts", expert, adapters[1], "--device", "cpu"]
    for verb, more in (("validate", []), ("evaluate", ["--out", "out"])):
        done = here(verb, *models, *more, columns=80)
        assert done.returncode == 0, done.stderr
        check(done.stdout, ANT, adapters[1].name)
    (tmp_path / "own.py").write_text("def score(item, response):\n    return float(len(response.text) > 3)\n")
    done = here("score", "out", "--utility", "own.py:score", columns=80)
    assert done.returncode == 0, done.stderr
    check(done.stdout, ANT, adapters[1].name)


@pytest.mark.parametrize("against", ["best-initial", "run"])
def test_results_of_an_annotation_name_what_was_compared_at_80_columns(against, here, tmp_path):
    items = [Item(id=f"q{k}", question=f"Advise on {k}.", answer="") for k in range(4)]
    for name in (RUN, f"{RUN}-2"):
        answers = {label: [f"{label} of {name} says {k}" for k in range(4)] for label in ("winner", f"expert_{ANT}")}
        scores = dict.fromkeys(answers, [1.0] * 4)
        make_run(tmp_path / name, items=items, answers=answers, scores=scores, experts=(ANT, "bee"))
    other = tmp_path / f"{RUN}-2"
    key = make_key(tmp_path / RUN, against if against != "run" else str(other), 4, 0, 0)
    key.save()
    verdicts = [Verdict(annotation=key.id, pair=k, rater="ann", verdict="a") for k in range(4)]
    (key.folder / "ann.jsonl").write_text("".join(json.dumps(one.line(key)) + "\n" for one in verdicts))
    done = here("annotate", "results", key.folder / "ann.jsonl", columns=80)
    assert done.returncode == 0, done.stderr
    check(done.stdout, str(tmp_path / RUN), ANT if against == "best-initial" else str(other))


def test_a_drafted_topic_names_its_writer_at_80_columns(here, judge_server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    person = "a-person-whose-name-has-no-space-and-is-longer-than-half-of-the-screen"
    personas = [
        {"name": person if k == 0 else f"person {k}", "interest": f"wants so much of {k} that it fills a line" * 2}
        for k in range(8)
    ]
    texts = [  # no two are alike; each is longer than a line
        "Which flowering plants near a chimney feed honey gatherers through the whole of a dry and hot city summer?",
        "How heavy may a hive become before wooden beams bend, and who signs the paper that says they carry it safely?",
        "Explain swarming to a neighbour who fears stings, without one technical term, in fewer than ninety syllables.",
        "What equipment must somebody buy first, what can wait until spring, and where does used furniture suffice?",
    ]

    def answer(asked):
        first = "Describe 8" in asked.body["messages"][0]["content"]
        return stub.says(json.dumps({"personas": personas} if first else {"instructions": texts}))

    judge_server.answer = answer
    judge = ["--judge", MODEL, "--judge-url", judge_server.url, "--dev", 2, "--test", 2]
    done = here("topic", "insects on a roof", *judge, "--out", "insects.yaml", columns=80)
    assert done.returncode == 0, done.stderr
    check(done.stdout, MODEL, person)
    shown = " ".join(done.stdout.split())
    assert all(text in shown.replace("dev ", "").replace("test ", "") for text in texts)
