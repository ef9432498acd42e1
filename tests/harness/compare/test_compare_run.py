"""Comparisons on tiny real models: complete, at equal cost, and the same however often they are stopped."""

import asyncio
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import refused
from peft import PeftModel
from transformers import AutoModelForCausalLM

from harness.baselines.merging.registry import merges
from harness.cli.compare import run_compare
from harness.compare import adapters as making
from harness.compare import compare as run_module
from harness.compare import figure
from harness.compare.compare import CompareOptions, compare
from harness.compare.figure import write_figure
from harness.compare.line_search import SCALES, TOTALS
from harness.compare.method import methods, reason_not_applicable, selected_methods
from harness.compare.methods import smooth_task
from harness.compare.requirements import TaskInputs
from harness.compare.result import Compared
from harness.report.page import section_of
from harness.run_folder.read import open_run
from harness.run_folder.store import Store
from harness.session.session import BASE, open_session
from harness.session.settings import run_settings
from utilities import statistics
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.scorers.gold_logprob import GoldLogprob
from utilities.tasks import Task, load_task

pytestmark = pytest.mark.slow

NAMES = ["ant", "bee", "cat"]
BUDGET = 9  # enough for the default search to average two rows


@pytest.fixture(scope="module", autouse=True)
def rough():
    """Few resamples and little training: digits that nobody reads here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 50)
        patch.setattr(making, "DEV_EPOCHS", 1)
        patch.setattr(making, "DATA_EPOCHS", 1)
        patch.setattr(figure, "write_figure", lambda compared, path: path.write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def given(base, adapters):
    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 6, "base_model": str(base), "particles": 4}
        flat |= {"experts": [str(folder) for folder in adapters], "device": "cpu", "seed": 3}
        return run_settings({**flat, **changes})

    return make


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    for name in NAMES:
        lines = [json.dumps({"prompt": f"What is {name} {k}?", "answer": f" {name}"}) for k in range(4)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def wanted(training, methods="all", **changes):
    return CompareOptions(
        **{
            "methods": tuple(selected_methods(methods)),
            "seeds": 2,
            "budget": BUDGET,
            "training_data": training,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def whole(given, training, tmp_path_factory):
    """An undisturbed comparison of all methods: what it found, its folder, and all that the task was asked to do."""
    folder, asked, ask = tmp_path_factory.mktemp("whole") / "compare", [], Task.__call__

    async def counted(self, model, split):
        row = None if model._row is None else model._row.tobytes()
        asked.append((row, split, tuple(item.id for s in self.item_sets.values() for item in s.split(split))))
        return await ask(self, model, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", counted)
        found = compare([given()], wanted(training), folder)
    return found, folder, asked


def lasting(folder):
    """All of a comparison that must not depend on when, or in how many parts, it ran."""
    told = json.loads((folder / "compare.json").read_text())
    del told["seconds"]
    for outcome in told["outcomes"]:
        del outcome["seconds"]
    files = [p for kind in ("records", "adapters") for p in sorted((folder / kind).rglob("*")) if p.is_file()]
    return told, {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name not in {"made.json", ".lock"}}


# -- what it finds -----------------------------------------------------------------------------------------------------


def test_every_method_has_an_outcome_a_seed_and_nothing_is_absent(whole):
    found, folder, _ = whole
    assert found.absent == []
    outcomes = [(o.method, o.seed) for o in found.outcomes]
    assert outcomes == [
        (m, seed) for m in selected_methods("all") for seed in ([3, 4] if methods.get(m).seeded else [None])
    ]
    assert Compared.model_validate_json((folder / "compare.json").read_text()) == found
    assert (folder / "compare.csv").read_text().count("\n") == len(outcomes) + 1
    assert (folder / "compare.png").exists()
    assert not (folder / "pool").exists()


def test_the_report_of_a_comparison_has_its_methods_and_their_answers(whole):
    found, folder, _ = whole
    section = section_of(open_run(folder))
    assert section.conclusions[0].startswith("medical: ")
    assert {row[0].text for row in section.tables[0].rows} == {outcome.method for outcome in found.outcomes}
    ((_, answers),) = section.answers
    assert answers.models[:2] == ["base", "best_single"]
    assert all(item.question for item in answers.items)


def test_searches_have_equal_budgets_and_costs_are_counted(whole):
    found, _, _ = whole
    cost = {(o.method, o.seed): (o.evaluations, o.items) for o in found.outcomes}
    for method in ("random", "cma", "evol_merge", "lorahub", "committee", "swarm"):
        assert {cost[method, seed][0] for seed in (3, 4)} <= {BUDGET, BUDGET - 1}  # the mean may be the best row
        assert {cost[method, seed][1] for seed in (3, 4)} <= {12 * BUDGET, 12 * BUDGET - 12}
    assert cost["best_single", None] == (3, 36)
    assert cost["base", None] == cost["slerp", None] == (0, 0)
    assert cost["ties", None] == cost["task_arithmetic", None] == (len(SCALES), 12 * len(SCALES))
    assert cost["scaled_soup", None] == (len(TOTALS), 12 * len(TOTALS))
    assert 3 <= cost["greedy_soup", None][0] <= 5


def test_rows_are_evaluated_once_whoever_asks(whole):
    _, _, asked = whole
    counts = Counter(asked)
    # But for the best rows of the default search: they are asked again beside the mean of the best, item by item.
    again = [(split, times) for (_, split, _), times in counts.items() if times > 1]
    assert set(again) <= {("dev", 2)}
    assert len(again) <= 2 * 2  # swarm and swarm_third, two seeds
    experts = [
        row for row, split, _ in asked if row is not None and np.frombuffer(row)[:3].tolist() in np.eye(3).tolist()
    ]
    assert Counter(experts).most_common()[0][1] == 3  # dev, test, and of the best one dev in the items' other order
    assert sorted(Counter(experts).values()) == [2, 2, 3]


def test_values_are_those_of_the_adapters_on_disk(whole, given, base):
    found, folder, _ = whole
    shown = {"swarm", "dev_finetune", "task_arithmetic", "scaled_soup"}
    adapters = [o for o in found.outcomes if o.method in shown and o.seed in {None, 3}]
    assert len(adapters) == 4
    for outcome in adapters:
        again = open_session(given(experts=[str(folder / outcome.adapter)]))
        engine = again.engine()
        test = asyncio.run(again.task(engine.particle(np.ones(1)), "test"))
        engine.close()
        assert test.value == pytest.approx(outcome.test.value)
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / outcome.adapter)


def test_coefficients_say_what_the_result_is(whole):
    found, folder, _ = whole
    by_method = {o.method: o for o in found.outcomes if o.seed in {None, 3}}
    assert sum(by_method["scaled_soup"].coefficients.values()) == pytest.approx(
        float(by_method["scaled_soup"].note.split(",")[0].removeprefix("total "))
    )
    assert "times the norm of an expert, chosen on dev" in by_method["ties"].note
    assert sum(by_method["paper"].coefficients.values()) == pytest.approx(1.0)  # the published search stays there
    best = by_method["best_single"]
    assert best.coefficients == {name: float(name == best.note) for name in NAMES}
    assert (folder / best.adapter / "adapter_config.json").is_file()
    for method in ("base", "prediction_merge", "pack_of_llms", "cbtm"):
        assert (by_method[method].coefficients, by_method[method].adapter) == (None, None)
    store = Store(folder)
    for outcome in found.outcomes:
        results = store.records(outcome.records.removeprefix("records/").removesuffix(".parquet"))
        assert sum(Evaluation.of(part).n for part in results.values()) == outcome.test.n == 12


def test_an_anchor_gives_the_swarm_its_column(given, training, tmp_path):
    found = compare([given(include_base=True, limit=3)], wanted(training, "swarm", seeds=1, budget=5), tmp_path / "one")
    assert list(found.outcomes[0].coefficients) == [*NAMES, BASE]


def test_with_groups_of_modules_the_swarm_has_coefficients_for_each_and_is_what_is_on_disk(given, training, tmp_path):
    settings = given(granularity="layer", shrinkage=0.2, include_base=True)
    methods = wanted(training, "random,swarm,paper,dev_finetune", seeds=1, budget=9)
    found = compare([settings], methods, tmp_path / "one")
    assert found.absent == []
    outcomes = {outcome.method: outcome for outcome in found.outcomes}
    told = outcomes["swarm"].coefficients
    assert list(told) == [f"layer {k}: {name}" for k in (0, 1) for name in (*NAMES, BASE)]
    assert list(outcomes["random"].coefficients) == list(told)  # the treatment of the default search
    assert list(outcomes["paper"].coefficients) == [*NAMES, BASE]  # as published: one row for the model
    for method in ("swarm", "paper", "random"):
        again = open_session(given(experts=[str(tmp_path / "one" / outcomes[method].adapter)]))
        engine = again.engine()
        test = asyncio.run(again.task(engine.particle(np.ones(1)), "test"))
        engine.close()
        assert test.value == pytest.approx(outcomes[method].test.value)


def test_two_tasks_are_ranked_and_make_static_adapters_once(given, training, tmp_path, monkeypatch):
    made = []
    make = run_module.make
    monkeypatch.setattr(run_module, "make", lambda method, name, *rest: made.append(name) or make(method, name, *rest))
    settings = [given(limit=3), given(task="legal", limit=3)]
    found = compare(settings, wanted(training, "base,uniform_soup,dev_finetune", seeds=1), tmp_path / "two")
    assert made == ["uniform_soup", "medical-dev_finetune-seed3", "legal-dev_finetune-seed3"]
    assert set(found.ranking.mean_rank) == {"base", "uniform_soup", "dev_finetune"}
    assert set(found.noise_floor) == {"medical", "legal"}


# -- interrupted -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_comparison_ends_as_one_that_was_never_interrupted(whole, given, training, tmp_path, monkeypatch):
    """Killed in the middle of making adapters, of searches and between methods, again and again."""
    folder, left = tmp_path / "compare", [0]
    ask, make = Task.__call__, run_module.make

    def step():
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    async def call(self, model, split):
        step()
        return await ask(self, model, split)

    def made(*arguments):
        step()
        return make(*arguments)

    monkeypatch.setattr(Task, "__call__", call)
    monkeypatch.setattr(run_module, "make", made)
    monkeypatch.setattr(figure, "write_figure", write_figure)
    kills = 0
    for steps in (5, 30, 45, 10**9):
        left[0] = steps
        try:
            compare([given()], wanted(training), folder)
        except Killed:
            kills += 1
    assert kills == 3
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert lasting(folder) == lasting(whole[1])


def test_a_finished_comparison_needs_no_engine(whole, given, training, monkeypatch):
    monkeypatch.setattr(run_module.Comparison, "_evaluator", None)
    found = compare([given()], wanted(training), whole[1])
    assert found.outcomes == whole[0].outcomes
    assert found.versus == whole[0].versus


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budget": 8}, ["budget was 9 and is now 8"]),
        ({"methods": "base,cma"}, ["methods was base, best_single", "and is now base, cma"]),
        ({"seeds": 1}, ["seeds was 2 and is now 1"]),
    ],
)
def test_another_comparison_is_not_continued(whole, given, training, changes, words):
    with pytest.raises(UserError) as told:
        compare([given()], wanted(training, **changes), whole[1])
    assert all(word in str(told.value) for word in words)
    assert "cannot resume `compare`" in str(told.value)


def test_other_settings_and_tasks_are_not_continued(whole, given, training):
    with pytest.raises(UserError, match="medical: limit was 6 and is now 5"):
        compare([given(limit=5)], wanted(training), whole[1])
    with pytest.raises(UserError, match="the tasks were medical and are now medical, legal"):
        compare([given(), given(task="legal")], wanted(training), whole[1])


def test_a_folder_of_something_else_is_left_alone(given, training, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not a folder of `compare`"):
        compare([given()], wanted(training), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


# -- absent ------------------------------------------------------------------------------------------------------------


def test_a_method_that_fails_is_absent_and_tried_again(given, training, tmp_path, monkeypatch):
    whole = wanted(training, "best_single,ties,cma,random", seeds=1, budget=4)

    async def broken(trial):
        raise ZeroDivisionError("by nought")

    def refusing(order, folder):
        raise UserError("these adapters will not do")

    with monkeypatch.context() as patch:
        patch.setitem(methods._entries, "cma", replace(methods.get("cma"), run=broken))
        patch.setitem(methods._entries, "ties", replace(methods.get("ties"), make=refusing))
        found = compare([given(limit=3)], whole, tmp_path / "one")
    assert {(a.method, a.reason) for a in found.absent} == {
        ("ties", "these adapters will not do"),
        ("cma", "seed 3: failed: ZeroDivisionError: by nought"),
    }
    assert [o.method for o in found.outcomes] == ["best_single", "random"]
    found = compare([given(limit=3)], whole, tmp_path / "one")
    assert found.absent == []
    assert [o.method for o in found.outcomes] == ["best_single", "ties", "random", "cma"]


def reasons(session, training=None, merged=False):
    case = TaskInputs(session, training, merged)
    return {method: reason for method in methods if (reason := reason_not_applicable(method, case))}


def test_what_does_not_apply_is_said(given, adapters):
    found = reasons(open_session(given()))
    assert set(found) == {"cbtm", "data_merge", "uniform_mixture"}
    assert "--training-data" in found["cbtm"]
    found = reasons(open_session(given(experts=[str(adapters[0])])))
    assert set(methods) - set(found) == {"base", "best_single", "dev_finetune"}
    assert "one expert only" in found["slerp"]
    assert "--include-base" in found["swarm"]
    assert "swarm" not in reasons(open_session(given(experts=[str(adapters[0])], include_base=True)))
    found = reasons(open_session(given(experts=[str(folder) for folder in adapters[:2]])))
    assert found["top_k_vote"] == "there are 2 experts, and 3 have to vote"
    # generated answers: votes can be counted, probabilities not be mixed
    found = reasons(open_session(given(task="gsm8k")))
    assert "generated" in found["pack_of_llms"]
    assert "prediction_merge" not in found


def test_free_text_is_not_voted_on_nor_mixed(given):
    found = reasons(open_session(given(task="reward_general")))
    assert "answers are hardly ever the same" in found["prediction_merge"]
    assert "answers are hardly ever the same" in found["top_k_vote"]
    assert "its answers are generated" in found["pack_of_llms"]


def test_every_method_is_made_or_found_one_way_and_seeds_are_for_those_that_draw():
    kinds = {name: (methods.get(name).run is not None, methods.get(name).make is not None) for name in methods}
    assert kinds.pop("base") == (False, False)
    assert set(kinds.values()) == {(True, False), (False, True)}
    assert {name for name in merges if merges.get(name).random} == {m for m in merges if methods.get(m).seeded}


def test_a_method_of_a_users_file_is_compared_by_its_name(given, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_entries", dict(methods._entries))
    path = tmp_path / "mine.py"
    path.write_text(
        "from harness.compare.method import MethodResult, method\n"
        "from harness.compare.requirements import two_experts\n\n"
        "@method('first_two', needs=(two_experts,))\n"
        "async def first_two(context):\n"
        "    one, two = (context.evaluator.expert_row(name) for name in context.evaluator.experts[:2])\n"
        "    return MethodResult(row=(one + two) / 2, note='the first two')\n\n"
        "two = 2\n"
    )
    selected = selected_methods(f"base,{path}:first_two")
    assert selected == ["base", "first_two"]
    assert "first_two" in selected_methods("dynamic")
    found = compare([given(limit=3)], wanted(None, ",".join(selected)), tmp_path / "one")
    assert [(o.method, o.note) for o in found.outcomes] == [("base", None), ("first_two", "the first two")]
    assert found.outcomes[1].coefficients == {"ant": 0.5, "bee": 0.5, "cat": 0.0}
    with pytest.raises(UserError, match="expected an object that @method"):
        selected_methods(f"{path}:two")


def test_methods_are_chosen_by_group_or_name():
    assert selected_methods("all") == [name for name in methods if name not in {"oracle", "uniform_mixture"}]
    assert "oracle" in selected_methods("static,oracle")
    assert {"base", "best_single", "swarm", "slerp"} <= set(selected_methods("static"))
    assert not {"cma", "ties"} & set(selected_methods("static"))  # both choose on dev
    assert selected_methods(" swarm,base ") == ["base", "swarm"]
    with pytest.raises(UserError, match="Did you mean 'slerp'"):
        selected_methods("slurp")
    with pytest.raises(UserError, match="names no method"):
        selected_methods(" , ")


def test_lorahub_sees_a_smooth_score_on_all_of_dev():
    task = load_task("medical", edition="mini")
    smooth = smooth_task(task)
    assert all(isinstance(s.scorer, GoldLogprob) for s in smooth.item_sets.values())
    for name, s in smooth.item_sets.items():
        assert s.dev == task.item_sets[name].dev
        assert s.scorer.answer_by == task.item_sets[name].scorer.answer_by
        assert s.scorer.prompt is task.item_sets[name].scorer.prompt


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_the_verb_prints_compared_and_continues(here, base, adapters, tmp_path):
    arguments = ["compare", "--task", "medical,legal", "--edition", "mini", "--limit", 3, "--base-model", base]
    arguments += [part for folder in adapters for part in ("--experts", folder)]
    arguments += ["--methods", "base,random,swarm", "--seeds", 1, "--budget", 5, "--particles", 3, "--device", "cpu"]
    arguments += ["--out", tmp_path / "one", "--json"]
    done = here(*arguments)
    assert done.returncode == 0, done.stderr
    found = Compared.model_validate_json(done.stdout)
    assert found.tasks == ["medical", "legal"]
    assert {(o.method, o.evaluations) for o in found.outcomes} == {("base", 0), ("random", 5), ("swarm", 5)}
    again = here(*arguments)
    assert Compared.model_validate_json(again.stdout).outcomes == found.outcomes
    refused(here(*arguments, "--budget", 6), "budget was 5 and is now 6")


def test_wrong_methods_tasks_and_data_are_refused(here, tmp_path):
    out = ["--out", tmp_path / "one"]
    refused(here("compare", "--task", "medical", "--methods", "slurp", *out), "unknown method", "slerp")
    refused(here("compare", "--task", "medical,medikal", *out), "unknown task", "medikal")
    refused(here("compare", "--task", "medical,medical", *out), "'medical' is named twice")
    refused(here("compare", "--task", "medical", "--training-data", tmp_path / "no", *out), "the folder does not exist")
    assert not (tmp_path / "one").exists()


def test_an_interruption_says_how_to_continue(given, training, tmp_path, monkeypatch, capsys):
    async def interrupted(self, model, split):
        raise KeyboardInterrupt

    monkeypatch.setattr(Task, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_compare(
            [given()], "base", seeds=1, budget=3, space="factors", training_data=None, out=tmp_path / "one",
            display="plain", json=False,
        )  # fmt: skip
    assert "Run the same command again" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "one")  # nothing holds it any more


# -- experts of different ranks ----------------------------------------------------------------------------------------


def test_experts_of_different_ranks_are_compared_in_the_space_of_their_products_alone(
    given, training, adapters, new_adapter, tmp_path
):
    mixed = given(experts=[str(adapters[0]), str(new_adapter("wide", r=8))])
    names = "base,best_single,uniform_soup,random"
    with pytest.raises(UserError, match="ranks must be equal"):
        compare([mixed], wanted(None, names, seeds=1), tmp_path / "factors")
    found = compare([mixed], wanted(None, names, seeds=1, space="delta"), tmp_path / "delta")
    assert {o.method for o in found.outcomes} == set(names.split(",")) and not found.absent
    again = compare([mixed], wanted(None, names, seeds=1, space="delta"), tmp_path / "delta")
    assert again.outcomes == found.outcomes


def test_the_oracle_searches_on_test_and_shares_nothing_with_the_other_searches(given, tmp_path):
    alone = compare([given()], wanted(None, "swarm", seeds=1), tmp_path / "alone")
    beside = compare([given()], wanted(None, "swarm,oracle", seeds=1), tmp_path / "beside")
    swarm, oracle = (next(o for o in beside.outcomes if o.method == name) for name in ("swarm", "oracle"))
    assert swarm.dev == alone.outcomes[0].dev and swarm.test == alone.outcomes[0].test
    assert oracle.coefficients != swarm.coefficients and "chosen on test" in oracle.note
