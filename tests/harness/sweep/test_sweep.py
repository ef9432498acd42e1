"""Sweeps on tiny real models: what picks never sees what confirms, and a stopped sweep ends as any other."""

import asyncio
import json
import sys
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from conftest import refused

from harness.cli.sweep import run_sweep
from harness.report.page import section_of
from harness.run_folder.read import open_run
from harness.run_folder.store import Store
from harness.session.session import BASE, open_session
from harness.session.settings import run_settings
from harness.sweep import sweep as sweep_module
from harness.sweep.result import Fold, Swept, SweptTrial
from harness.sweep.sweep import LISTS, Plan, default_budget, folds, importance, propose, sweep
from harness.sweep.table import sweep_tables
from utilities import statistics
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.tasks import Task, load_task

pytestmark = pytest.mark.slow

DEFAULTS = {"inertia": 0.2, "cognitive": 0.3, "social": 0.4, "repel": 0.05, "step_length": 0.5}
PLAN = Plan(trials=5, budget=9)


@pytest.fixture(scope="module", autouse=True)
def rough():
    """Few resamples: digits that nobody reads here. Proposals that learn early: few trials have to show it."""
    from optuna.samplers import TPESampler

    class Early(TPESampler):
        def __init__(self, seed=None):
            super().__init__(seed=seed, n_startup_trials=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 50)
        patch.setattr("optuna.samplers.TPESampler", Early)
        yield


@pytest.fixture(scope="module")
def given(base, adapters):
    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 6, "base_model": str(base), "particles": 4}
        flat |= {"experts": [str(folder) for folder in adapters], "device": "cpu", "seed": 3}
        flat |= {"utility": "gold_logprob", "combine": "mean"}  # no two mixtures have the same
        return run_settings({**flat, **changes})

    return make


class Spy:
    """Sees what the task is asked: engine's row, split, and items by item set."""

    def __init__(self, patch, before=lambda: None):
        self.asked, ask = [], Task.__call__

        async def call(task, model, split):
            before()
            items = tuple((name, item.id) for name, s in task.item_sets.items() for item in s.split(split))
            self.asked.append((model._row.tobytes(), split, items))
            return await ask(task, model, split)

        patch.setattr(Task, "__call__", call)


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """An undisturbed sweep: what it found, its folder, what was asked while it tried, and what after that."""
    folder, during = tmp_path_factory.mktemp("whole") / "sweep", 0

    def watch(trials):
        nonlocal during
        during = len(spy.asked)

    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        found = sweep(given(), PLAN, folder, watch)
    return found, folder, spy.asked[:during], spy.asked[during:]


def lasting(folder):
    """All of a sweep that must not depend on when, or in how many parts, it ran."""
    told = json.loads((folder / "sweep.json").read_text())
    del told["seconds"]
    for trial in told["trials"]:
        del trial["seconds"]
    files = [p for kind in ("records", "best") for p in sorted((folder / kind).rglob("*"))]
    return told, {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_the_report_of_a_sweep_has_its_trials_and_answers(whole):
    found, folder, *_ = whole
    section = section_of(open_run(folder))
    assert len(section.tables[1].rows) == len(found.trials)
    ((_, answers),) = section.answers
    assert answers.models == [found.best_initial.expert, "defaults", "picked"]
    assert all(item.question for item in answers.items)


# -- the folds ---------------------------------------------------------------------------------------------------------


def identities(task, split="dev"):
    return {(name, item.id) for name, s in task.item_sets.items() for item in s.split(split)}


def test_folds_part_dev_and_share_no_source_in_any_item_set():
    task = load_task("medical", edition="mini", limit=60)
    shared = {item.source for item in task.item_sets["cases"].dev} & {
        item.source for item in task.item_sets["questions"].dev
    }
    assert len(shared - {None}) > 5
    picking, confirming = folds(task)
    assert identities(picking) | identities(confirming) == identities(task)
    assert not identities(picking) & identities(confirming)
    sources = [{item.source for s in fold.item_sets.values() for item in s.dev} for fold in (picking, confirming)]
    assert not (sources[0] & sources[1]) - {None}
    assert confirming.size("dev") == 30
    assert picking.item_sets["cases"].test == task.item_sets["cases"].test
    assert folds(task) == (picking, confirming)


def test_a_dev_that_is_too_small_is_refused(given, tmp_path):
    with pytest.raises(UserError, match=r"dev has 7 independent items.* 8 or more are needed"):
        sweep(given(limit=4), PLAN, tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_items_that_belong_together_cannot_be_parted():
    task = load_task("gsm8k", edition="mini", limit=30)
    (name, s), = task.item_sets.items()  # fmt: skip
    same = tuple(item.model_copy(update={"question": "How many?"}) for item in s.dev)
    with pytest.raises(UserError, match="no parting leaves some of problems on both sides"):
        folds(type(task)(**{**vars(task), "item_sets": {name: type(s)(**{**vars(s), "dev": same})}}))


# -- what it finds -----------------------------------------------------------------------------------------------------


def test_the_confirming_fold_is_never_asked_while_trials_run(whole, given):
    found, _, during, after = whole
    picking, confirming = map(identities, folds(open_session(given()).task))
    assert {split for _, split, _ in during} == {"dev"}
    assert {items for _, _, items in during} == {tuple(sorted(picking, key=list(during[0][2]).index))}
    assert len(during) > PLAN.budget
    dev = [set(items) for _, split, items in after if split == "dev"]
    assert dev
    assert all(items == confirming for items in dev)
    assert (found.picking, found.confirming) == (Fold(items=9, clusters=8), Fold(items=3, clusters=3))


def test_rows_are_asked_once_for_all_trials_and_test_once(whole):
    found, _, during, after = whole
    assert len({row for row, _, _ in during}) == len(during)
    assert sum(trial.evaluations for trial in found.trials) == PLAN.trials * PLAN.budget > len(during)
    test = [row for row, split, _ in after if split == "test"]
    assert len(set(test)) == len(test) <= 3


def test_trial_0_is_the_defaults_and_others_come_from_the_lists(whole):
    found, _, _, _ = whole
    assert [trial.number for trial in found.trials] == list(range(PLAN.trials))
    assert found.trials[0].parameters == DEFAULTS
    assert found.defaults.trial == 0
    assert len({tuple(trial.parameters.values()) for trial in found.trials}) > 2
    assert all(value in LISTS[name] for trial in found.trials for name, value in trial.parameters.items())
    assert found.lists == {name: list(values) for name, values in LISTS.items()}


def test_a_setting_of_ones_own_is_swept_with_the_lists(given, tmp_path):
    found = sweep(given(repel=0.3, include_base=True), Plan(2, 5, "random"), tmp_path / "one")
    assert found.trials[0].parameters == {**DEFAULTS, "repel": 0.3}
    assert found.lists["repel"] == [0.01, 0.05, 0.1, 0.3]
    assert list(found.picked.coefficients)[-1] == BASE
    assert found.sampler == "random"


def test_groups_of_modules_are_swept_too_and_the_picked_mixture_is_on_disk(given, tmp_path):
    found = sweep(given(granularity="layer"), Plan(2, 9, "random"), tmp_path / "one")
    assert list(found.picked.coefficients) == [f"layer {k}: {name}" for k in (0, 1) for name in ("ant", "bee", "cat")]
    assert list(found.best_initial.coefficients) == ["ant", "bee", "cat"]
    again = open_session(given(experts=[str(tmp_path / "one" / found.adapter)]))
    engine = again.engine()
    test = asyncio.run(again.task(engine.particle(np.ones(1)), "test"))
    engine.close()
    assert test.value == pytest.approx(found.picked.test.value, abs=1e-5)


def test_the_first_of_the_highest_trials_is_picked(whole):
    found, _, _, _ = whole
    values = [trial.value for trial in found.trials]
    assert found.picked.trial == int(np.argmax(values))
    assert found.picked.coefficients == found.trials[found.picked.trial].coefficients
    assert found.picked.picking == max(values) >= found.best_initial.picking


def test_shrinkage_and_test_are_of_the_models_on_disk(whole, given):
    """The picked mixture again, from its own folder, on the folds that are said to be measured."""
    found, folder, _, _ = whole
    again = open_session(given(experts=[str(folder / found.adapter)]))
    picking, confirming = folds(again.task)
    engine = again.engine()

    async def values():
        model = engine.particle(np.ones(1))
        return [
            (await task(model, split)).value
            for task, split in ((picking, "dev"), (confirming, "dev"), (again.task, "test"))
        ]

    picked, confirmed, test = asyncio.run(values())
    engine.close()
    assert found.picked.picking == pytest.approx(picked)
    assert found.picked.confirming.value == pytest.approx(confirmed)
    assert found.picked.shrinkage == pytest.approx(picked - confirmed)
    assert found.picked.test.value == pytest.approx(test)
    for final in (found.defaults, found.best_initial):
        assert final.shrinkage == final.picking - final.confirming.value
    gain = found.difference["picked_minus_best_initial"]
    assert gain.value == pytest.approx(found.picked.test.value - found.best_initial.test.value)
    store = Store(folder)
    for final in (found.picked, found.defaults, found.best_initial):
        results = store.records(final.records.removeprefix("records/").removesuffix(".parquet"))
        assert sum(Evaluation.of(part).n for part in results.values()) == final.test.n == 12


def test_tables_fit_80_columns_and_say_what_was_picked(whole):
    from rich.console import Console

    found, _, _, _ = whole
    console = Console(width=80)
    with console.capture() as shown:
        console.print(sweep_tables(found))
    text = shown.get()
    assert "…" not in text
    assert f"{found.picked.trial} " in text
    assert f"{found.picked.shrinkage:+.4f}" in text
    assert "9 items (8 independent)" in text
    assert "it needs 10 trials" in text


# -- interrupted -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_a_killed_sweep_ends_as_one_that_was_never_interrupted(whole, given, tmp_path, monkeypatch):
    """Killed among the experts, in the middle of searches, and when all trials are done."""
    folder, left = tmp_path / "sweep", [0]
    keep = sweep_module._keep

    def step():
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def kept(*arguments):
        step()
        keep(*arguments)

    spy = Spy(monkeypatch, step)
    monkeypatch.setattr(sweep_module, "_keep", kept)
    seen = []
    for steps in (2, 7, 12, 22, 10**9):
        left[0] = steps
        with suppress(Killed):
            sweep(given(), PLAN, folder, lambda trials: seen.append(len(trials)))
    assert seen == sorted(seen)
    assert set(seen) == set(range(PLAN.trials + 1))
    assert seen.count(0) > 1 < seen.count(PLAN.trials)
    assert lasting(folder) == lasting(whole[1])
    # what a search was told before it was killed is not asked again
    assert len(spy.asked) < 1.5 * len(whole[2] + whole[3])


def test_a_trial_that_was_killed_before_it_was_kept_is_not_searched_again(given, tmp_path, monkeypatch):
    plan = Plan(2, 7)

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "_keep", killed)
        with pytest.raises(Killed):
            sweep(given(), plan, tmp_path / "one")
    told = []
    spy = Spy(monkeypatch)
    found = sweep(given(), plan, tmp_path / "one", lambda trials: told.append((len(trials), len(spy.asked))))
    assert told[:2] == [(0, 0), (1, 0)]
    assert [trial.number for trial in found.trials] == [0, 1]


def test_a_finished_sweep_needs_no_engine(whole, given, monkeypatch):
    monkeypatch.setattr(sweep_module.Sweep, "_evaluators", None)
    assert sweep(given(), PLAN, whole[1]) == whole[0]


def test_an_interruption_says_how_to_continue(given, tmp_path, monkeypatch, capsys):
    async def interrupted(self, model, split):
        raise KeyboardInterrupt

    monkeypatch.setattr(Task, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(
            given(), trials=2, sampler="tpe", budget=3, out=tmp_path / "one", display="plain", json=False
        )  # fmt: skip
    assert "Run the same command again" in capsys.readouterr().out


# -- proposals ---------------------------------------------------------------------------------------------------------


def trial(number, value):
    return SweptTrial(
        number=number, parameters={}, value=value, evaluations=1, items=1, tokens=0, seconds=0.1, coefficients={},
        ended="",
    )  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_proposal_depends_on_nothing_but_seed_and_finished_trials(sampler, tmp_path):
    proposed = []
    for again in (False, True):  # with the study left open, and opened again for every trial
        found, path = [], tmp_path / f"{again}.db"
        with ExitStack() as stack:
            for number in range(4):
                if again or number == 0:
                    stack.close()
                    study = stack.enter_context(sweep_module._finished_trials(path))
                places = propose(study, LISTS, sampler, seed=5)
                assert propose(study, LISTS, sampler, seed=6) != places
                sweep_module._keep(study, LISTS, places, trial(number, sum(places.values()) / 7))
                found.append(places)
        proposed.append(found)
    assert proposed[0] == proposed[1]
    assert len({tuple(places.values()) for places in proposed[0]}) > 2
    assert all(0 <= place < len(LISTS[name]) for places in proposed[0] for name, place in places.items())


def test_kept_trials_are_read_with_every_bit(tmp_path):
    with sweep_module._finished_trials(tmp_path / "trials.db") as study:
        one = trial(0, 0.1 + 0.2).model_copy(update={"coefficients": {"b": 1 / 3, "a": 2 / 3}})
        sweep_module._keep(study, LISTS, dict.fromkeys(LISTS, 0), one)
    with sweep_module._finished_trials(tmp_path / "trials.db") as study:
        (read,) = sweep_module._kept(study)
    assert read == one
    assert list(read.coefficients) == ["b", "a"]


def test_importance_finds_what_decides_and_is_left_out_of_little(tmp_path):
    rng = np.random.default_rng(0)
    with sweep_module._finished_trials(tmp_path / "trials.db") as study:
        for number in range(30):
            if number == 9:
                assert importance(study) == (None, "left out: it needs 10 trials, and there are 9")
            places = {name: int(rng.integers(len(values))) for name, values in LISTS.items()}
            sweep_module._keep(study, LISTS, places, trial(number, float(places["social"] == 4)))
        shares, problem = importance(study)
    assert problem is None
    assert next(iter(shares)) == "social"
    assert sum(shares.values()) == pytest.approx(1)
    with sweep_module._finished_trials(tmp_path / "same.db") as study:
        for number in range(10):
            sweep_module._keep(study, LISTS, dict.fromkeys(LISTS, 0), trial(number, 0.5))
        assert importance(study) == (None, "left out: all trials have the same value")


def test_the_budget_is_what_the_settings_take_or_the_usual():
    def budget(**told):
        return default_budget(run_settings({"task": "medical", **told}).anywhere().swarm)

    assert budget() == 120
    assert budget(iterations=5) == 120
    assert budget(iterations=2, particles=6) == 18


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "plan", "words"),
    [
        ({}, Plan(6, 9), "trials was 5 and is now 6"),
        ({}, Plan(5, 8), "budget was 9 and is now 8"),
        ({}, Plan(5, 9, "random"), "sampler was tpe and is now random"),
        ({"seed": 4}, PLAN, "seed was 3 and is now 4"),
        ({"patience": 3}, PLAN, "patience was 10 and is now 3"),
    ],
)
def test_another_sweep_is_not_continued(whole, given, changes, plan, words):
    with pytest.raises(UserError, match="cannot resume `sweep`") as told:
        sweep(given(**changes), plan, whole[1])
    assert words in str(told.value)


def test_folders_of_something_else_are_left_alone(given, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not a folder of `sweep`"):
        sweep(given(), PLAN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    for told, kind in (({"compare": {}}, "a comparison"), ({"settings": {}}, "a run")):
        Store.create(tmp_path / kind, told).close()
        with pytest.raises(UserError, match="is not a folder of `sweep`"):
            sweep(given(), PLAN, tmp_path / kind)
    with pytest.raises(UserError, match="holds none of"):
        sweep(given(), PLAN, tmp_path / "why?")


def test_damaged_files_are_named(given, tmp_path):
    store = Store.create(tmp_path / "one", sweep_module._document(open_session(given().anywhere()), PLAN))
    store.close()
    (tmp_path / "one" / "trials.db").write_text("no database " * 100)
    with pytest.raises(UserError, match=r"trials\.db is damaged"):
        sweep(given(), PLAN, tmp_path / "one")
    (tmp_path / "one" / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        sweep(given(), PLAN, tmp_path / "one")


def test_the_verb_refuses_in_words(here, base, adapters, tmp_path, monkeypatch):
    arguments = ["sweep", "--task", "medical", "--edition", "mini", "--base-model", base, "--out", tmp_path / "one"]
    arguments += ["--experts", adapters[0]]
    refused(here(*arguments, "--trials", 1), "--trials", "greater than or equal to 2")
    refused(here(*arguments, "--sampler", "grid"), "--sampler", "grid", "tpe")
    refused(here(*arguments), "a sweep needs a search", "--include-base")
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused(here(*arguments), ".[sweep]")
    assert not (tmp_path / "one").exists()


def test_the_verb_prints_what_it_found_and_continues(here, base, adapters, tmp_path):
    arguments = ["sweep", "--task", "medical", "--edition", "mini", "--limit", 5, "--base-model", base]
    arguments += [part for folder in adapters for part in ("--experts", folder)]
    arguments += ["--trials", 2, "--particles", 3, "--iterations", 1, "--device", "cpu", "--out", tmp_path / "one"]
    done = here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = Swept.model_validate_json(done.stdout)
    assert found == Swept.model_validate_json((tmp_path / "one" / "sweep.json").read_bytes())
    assert (found.budget, [trial.number for trial in found.trials]) == (6, [0, 1])
    assert "trial 1: " in done.stderr
    assert "picked - best initial on test" in done.stderr
    again = here(*arguments)
    assert "what is left of it" in again.stdout
    refused(here("resume", tmp_path / "one"))
