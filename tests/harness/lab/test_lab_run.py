"""Labs on tiny real models: complete, the same however often they are stopped, and never asked twice."""

import json
import shutil
from functools import partial

import pytest
from lab_task import make_task, settings

from harness.lab import lab as run_module
from harness.lab.lab import LabOptions, examine_designs, examine_stored
from harness.lab.result import Examination
from harness.report.page import section_of
from harness.run_folder.read import open_run
from harness.run_folder.store import Store
from harness.session.session import BASE
from utilities.errors import UserError
from utilities.lab import CHECKS
from utilities.tasks import Task

NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def sums(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_task(tmp_path)


@pytest.fixture
def given(base, adapters):
    return partial(settings, base, adapters)


def lab(given, *designs, out=None, **wanted):
    found, _ = examine_designs(given, LabOptions(designs, **{"cloud": 3, **wanted}), out)
    return found


def by_check(examined):
    return {finding.check: finding for finding in examined.findings}


def lasting(folder):
    """All of a lab that must not depend on when, or in how many parts, it ran."""
    told = json.loads((folder / "lab.json").read_text())
    del told["seconds"]
    for finding in [one for design in told["designs"] for one in design["findings"] if one["check"] == "cost"]:
        finding.clear()
    records = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}
    return told, records


def test_a_lab_says_something_of_every_check_and_writes_what_it_says(sums, given):
    found = lab(given(), "mine.py:vowels", out=sums / "lab")
    assert Examination.model_validate_json((sums / "lab" / "lab.json").read_text()) == found
    assert (sums / "lab" / "lab.png").read_bytes().startswith(b"\x89PNG")
    (one,) = found.designs
    section = section_of(open_run(sums / "lab"))
    assert section.conclusions[0].startswith(f"mine.py:vowels is {one.conclusion.fitness}")
    assert len(section.tables[0].rows) == sum(finding.verdict != "not applicable" for finding in one.findings)
    assert [finding.check for finding in one.findings] == list(CHECKS)
    assert [model.name for model in one.models] == [BASE, *NAMES]
    assert len(one.mixtures) == 3
    assert found.experts == NAMES
    assert found.engine == "local"
    made = {name for name, finding in by_check(one).items() if finding.verdict != "not applicable"}
    expected = {"failures", "ladder", "noise_floor", "retest", "separation", "padding", "attacks", "saturation"}
    assert expected <= made
    assert by_check(one)["noise_floor"].value == pytest.approx(0, abs=1e-6)
    assert by_check(one)["retest"].value == 0


def test_a_stopped_lab_goes_on_and_ends_as_if_it_had_not_been_stopped(sums, given, monkeypatch):
    lab(given(), "mine.py:vowels", out=sums / "whole")
    asked, ask = [], Task.__call__

    async def counted(self, model, split):
        asked.append(split)
        return await ask(self, model, split)

    def stop(text):
        if text.startswith("5 of 14"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Task, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        examine_designs(given(), LabOptions(("mine.py:vowels",), cloud=3), sums / "parts", stop)
    finished = len(list((sums / "parts" / "designs").rglob("*.parquet")))
    assert 5 <= finished < 14
    asked.clear()
    lab(given(), "mine.py:vowels", out=sums / "parts")
    assert len(asked) == 14 - finished + len(NAMES)  # and each expert on dev once more
    assert lasting(sums / "parts") == lasting(sums / "whole")
    before = len(asked)
    lab(given(), "mine.py:vowels", out=sums / "parts")
    assert len(asked) == before


def test_designs_that_ask_the_same_share_the_answers(sums, given, monkeypatch):
    from harness.engines.local import _Particle

    prompts, generate = [], _Particle.generate

    async def counted(self, asked, **options):
        prompts.extend(asked)
        return await generate(self, asked, **options)

    monkeypatch.setattr(_Particle, "generate", counted)
    found = lab(given(), "mine.py:vowels", "mine.py:length", cloud=0)
    models, dev, test = len(NAMES) + 1, 24, 22
    # test holds the same questions as dev, so a model is asked 24 different ones; each design asks the experts again
    assert len(prompts) == models * dev + 2 * len(NAMES) * dev
    assert found.compared is not None
    assert [one.name for one in found.compared.designs] == ["mine.py:vowels", "mine.py:length"]
    assert len(found.compared.agreements) == 1
    assert found.test_items == test
    ((heading, answers),) = section_of(open_run(next((sums / "runs").iterdir()))).answers
    assert heading == "mine.py:vowels" and answers.models[0] == BASE and len(answers.items) == test
    each = [answer for item in answers.items for answer in item.answers]
    assert all(answer.others == {"mine.py:length": float(len(answer.text))} for answer in each)


def test_what_a_utility_cannot_do_is_said_and_the_other_checks_go_on(sums, given):
    found = lab(given(), "mine.py:nothing", "mine.py:coin", cloud=0)
    nothing, coin = found.designs
    assert by_check(nothing)["failures"].verdict == "fail"
    assert nothing.conclusion.fitness == "not fit"
    assert all(model.dev.value is None and model.dev.problem for model in nothing.models)
    assert by_check(coin)["retest"].verdict == "fail"
    assert coin.conclusion.fitness != "fit as objective"
    assert by_check(coin)["dev_for_test_cloud"].advice.startswith("fewer than 3 mixtures")


def test_options_are_no_texts_so_checks_of_texts_do_not_apply(sums, given):
    (one,) = lab(given(task="parity.yaml")).designs
    assert one.design == "multiple_choice"
    for check in ("attacks", "ladder", "padding", "paraphrases", "retest"):
        assert by_check(one)[check].verdict == "not applicable"
        assert "log-probabilities of options" in by_check(one)[check].advice
    assert by_check(one)["separation"].verdict != "not applicable"


@pytest.mark.parametrize("kind", ["text", "model"])
def test_labels_are_of_texts_or_of_models(sums, given, kind):
    answers = [(f"i{k}", name if kind == "model" else "aei"[: k % 4] + "xyz") for k in range(22) for name in NAMES]
    lines = [
        json.dumps({"item": item, "response": response, "rater": rater, "label": k % 3})
        for k, (item, response) in enumerate(dict.fromkeys(answers))
        for rater in ("ann", "bob")
    ]
    (sums / "labels.jsonl").write_text("\n".join(lines))
    found = lab(given(), "mine.py:vowels", cloud=0, labels=sums / "labels.jsonl")
    checks = by_check(found.designs[0])
    assert checks["spearman"].verdict != "not applicable"
    assert checks["human_human"].value == pytest.approx(1)
    assert found.labels == str(sums / "labels.jsonl")


def test_labels_of_other_items_are_said_to_be_so_and_the_other_checks_go_on(sums, given):
    (sums / "labels.csv").write_text("item,response,label\n" + "".join(f"x{k},a,{k % 2}\n" for k in range(30)))
    checks = by_check(lab(given(), "mine.py:vowels", cloud=0, labels=sums / "labels.csv").designs[0])
    assert checks["spearman"].verdict == "not applicable"
    assert checks["human_human"].verdict == "not applicable"
    assert checks["attacks"].verdict != "not applicable"


@pytest.mark.slow
def test_searching_tells_which_design_is_the_better_objective(sums, given):
    found = lab(given(), "mine.py:vowels", "numeric", out=sums / "lab", search=True, budget=6, seeds=2)
    assert {one.design for one in found.searched} == {"mine.py:vowels", "numeric"}
    for one in found.searched:
        assert [trial.seed for trial in one.trials] == [3, 4]
        assert all(trial.evaluations <= 6 for trial in one.trials)
        assert one.test == pytest.approx(sum(trial.test.value for trial in one.trials) / 2)
        assert list(one.trials[0].coefficients) == NAMES
    values = [one.test for one in found.searched]
    assert values == sorted(values, reverse=True)
    assert found.searched[0].behind == 0
    before = lasting(sums / "lab")
    lab(given(), "mine.py:vowels", "numeric", out=sums / "lab", search=True, budget=6, seeds=2)
    assert lasting(sums / "lab") == before


@pytest.mark.slow
def test_stored_answers_are_enough(sums, given, here, monkeypatch):
    from harness.cli.evaluate import run_evaluate
    from harness.cli.search import run_search

    run_evaluate(given(utility="mine.py:vowels"), "dev", sums / "dev", False)
    run_evaluate(given(utility="mine.py:vowels"), "test", sums / "test", False)
    run_search(given(utility="mine.py:vowels", iterations=0), sums, "run", "none", False)
    lab(given(), "mine.py:vowels", out=sums / "lab")
    monkeypatch.setattr("harness.session.engine_start.make_engine", lambda *_: pytest.fail("a model was loaded"))
    whole = json.loads((sums / "lab" / "lab.json").read_text())["designs"][0]["models"]
    for folders in (["dev", "test"], ["run"], ["lab"]):
        wanted = LabOptions(("mine.py:length", "mine.py:vowels"))
        found, _ = examine_stored([sums / name for name in folders], {}, wanted, sums / f"of-{folders[0]}")
        assert found.engine is None
        assert sorted(found.experts) == NAMES
        known = {model.name: model for model in found.designs[1].models}
        for model in whole:
            assert known[model["name"]].dev.value == pytest.approx(model["dev"]["value"])
            assert known[model["name"]].test.value == pytest.approx(model["test"]["value"])
        checks = by_check(found.designs[0])
        assert checks["attacks"].verdict != "not applicable"
        assert "Stored answers" in checks["noise_floor"].advice


def test_stored_answers_of_one_split_and_of_several_tasks(sums, given):
    from harness.cli.evaluate import run_evaluate

    run_evaluate(given(utility="mine.py:vowels"), "dev", sums / "dev", False)
    run_evaluate(given(task="parity.yaml"), "dev", sums / "other", False)
    found, _ = examine_stored([sums / "dev"], {}, LabOptions(("mine.py:vowels",)), None)
    assert by_check(found.designs[0])["dev_for_test"].advice == "no expert was evaluated on test"
    assert all(model.test is None for model in found.designs[0].models)
    with pytest.raises(UserError, match="different tasks"):
        examine_stored([sums / "dev", sums / "other"], {}, LabOptions(("mine.py:vowels",)), None)
    with pytest.raises(UserError, match="--search needs models"):
        examine_stored([sums / "dev"], {}, LabOptions(("mine.py:vowels",), search=True), None)
    shutil.rmtree(sums / "dev" / "records")
    with pytest.raises(UserError, match="no stored answers"):
        examine_stored([sums / "dev"], {}, LabOptions(("mine.py:vowels",)), None)


@pytest.mark.slow
def test_a_utility_that_was_changed_gets_a_folder_of_its_own(sums, given):
    def folder():
        return examine_designs(given(), LabOptions(("mine.py:vowels",), cloud=0), None)[1]

    first = folder()
    assert folder() == first
    (sums / "mine.py").write_text((sums / "mine.py").read_text().replace("aeiou", "aeiouy"))
    assert folder().name == f"{first.name}-2"
    with pytest.raises(UserError, match=r"mine.py:vowels was changed"):
        examine_designs(given(), LabOptions(("mine.py:vowels",), cloud=0), first)
    (sums / "full").mkdir()
    (sums / "full" / "mine").touch()
    with pytest.raises(UserError, match="is not a folder of `lab`"):
        examine_designs(given(), LabOptions(("mine.py:vowels",), cloud=0), sums / "full")


@pytest.mark.slow
def test_labels_and_a_search_may_come_later_and_nothing_is_measured_again(sums, given, monkeypatch):
    lab(given(), "mine.py:vowels", out=sums / "lab", cloud=0)
    answered = sorted(p.stem for p in (sums / "lab").rglob("*.parquet"))
    (sums / "labels.csv").write_text("item,response,label\n" + "".join(f"i{k},a{k},{k % 2}\n" for k in range(22)))
    lab(given(iterations=3), "mine.py:vowels", out=sums / "lab", cloud=0, labels=sums / "labels.csv")
    assert sorted(p.stem for p in (sums / "lab").rglob("*.parquet")) == answered
    found = lab(given(iterations=3), "mine.py:vowels", out=sums / "lab", cloud=0, search=True, budget=4)
    assert len(found.searched) == 1
    with pytest.raises(UserError, match="particles was 4 and is now 5"):
        lab(given(particles=5), "mine.py:vowels", out=sums / "lab", cloud=0, search=True, budget=4)


def test_the_engine_is_closed_and_the_folder_let_go_whatever_happens(sums, given, monkeypatch):
    monkeypatch.setattr(run_module, "measure", None)
    with pytest.raises(TypeError):
        lab(given(), "mine.py:vowels", out=sums / "lab")
    Store.open(sums / "lab").close()
