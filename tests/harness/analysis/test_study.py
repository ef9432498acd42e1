"""`analyse --task`: every analysis in one small study of tiny models, resumed without a repeated evaluation."""

import json

import numpy as np
import pytest
from conftest import refused

from harness.analysis.contrasts import Cell, contrast, study_claims
from harness.analysis.page import PARTS
from harness.analysis.study import ANALYSES
from harness.analysis.variants import FULL, SEARCHES, Found, Reversed, started, variants
from harness.report.page import section_of
from harness.run_folder.read import open_run
from harness.swarm.drivers import Budgeted
from harness.swarm.settings import SwarmSettings
from harness.trackers.base import trackers
from utilities import statistics
from utilities.core import Evaluation, ItemResult, Response, Score
from utilities.tasks import Task

SWARM = SwarmSettings(optimiser="pso", particles=6, iterations=4)


def searched(variant, found=None, experts=4, seed=1, value=lambda row: float(row @ [1.0, 2.0, 3.0, 4.0][: len(row)])):
    """The best row and all rows of a variant on a known utility."""
    swarm = SWARM.model_copy(update=dict(variant.changes))
    start = variant.start and variant.start(found or {}, np.random.default_rng(0))
    inner = started(experts, swarm, seed, start)
    driver = Budgeted(Reversed(inner) if variant.reverse else inner, swarm.particles * (swarm.iterations + 1))
    rows = []
    while driver.finished is None:
        rows += list(driver.ask())
        driver.tell([value(row) for row in driver.ask()])
    return inner, np.array(rows)


def listed(*only, ranked=(3, 2, 1, 0)):
    return {variant.name: variant for variant in variants(only, ranked, SWARM)}


def test_the_full_search_without_a_population_of_its_own_is_the_published_one():
    inner = started(4, SWARM, 3, None)
    again = started(4, SWARM, 3, inner.state.positions)
    assert again.ask().tolist() == inner.ask().tolist()


def test_experts_that_are_left_out_have_no_share_in_any_row():
    _, rows = searched(listed("weak-to-strong")["without the best expert"])
    assert np.abs(rows[:, 3]).max() == 0 and np.abs(rows[:, :3]).min(axis=0).max() >= 0 and len(rows) > 6
    _, rows = searched(listed("weak-to-strong")["without the better half"])
    assert np.abs(rows[:, 2:]).max() == 0
    assert rows.sum(1) == pytest.approx(1)


def test_copies_of_one_expert_cannot_move_and_cost_one_evaluation():
    one = listed("diversity")["1 distinct, 4 of each, draw 0"]
    inner, rows = searched(one)
    assert len(rows) == 1 and sorted(inner.best[0]) == [0, 0, 0, 1]
    counts = [int(name.split()[0]) for name in listed("diversity")]
    assert counts == [1, 1, 1, 1, 2, 2, 4]


def test_the_reversed_search_ends_at_the_lowest_value():
    inner, rows = searched(listed("dual-use")["reversed utility"])
    values = rows @ [1.0, 2.0, 3.0, 4.0]
    assert inner.best[0] @ [1.0, 2.0, 3.0, 4.0] == values.min() < 1.0


def test_the_warm_start_continues_and_has_the_added_expert():
    known = listed("modularity")
    assert list(known) == ["without the best expert", "warm start with the best expert"]
    finished = np.full((6, 4), [0.5, 0.5, 0.0, 0.0])
    found = {"without the best expert": Found(finished[0], finished, 9)}
    _, rows = searched(known["warm start with the best expert"], found)
    first = rows[:2]
    assert sorted(first.tolist()) == sorted([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def test_without_randomness_two_seeds_move_alike():
    one, other = (searched(listed("ablation")["no randomness"], seed=seed)[0] for seed in (1, 1))
    assert one.state.positions.tolist() == other.state.positions.tolist()
    swarm = started(2, SWARM.model_copy(update={"random_factors": False, "particles": 2}), 0, None)
    x, v = swarm.state.positions.copy(), swarm.state.velocities.copy()
    swarm.ask()
    swarm.tell([1.0, 0.0])
    s, best, worst = SWARM, x[0], x[1]
    pull = s.inertia * v - s.repel * (worst - x) + s.social * (best - x)  # both stand on their personal best
    expected = x + s.step_length * pull / (s.inertia + s.cognitive + s.social + s.repel)
    assert swarm.ask() == pytest.approx(expected)


def test_without_crossover_the_population_is_of_experts():
    swarm = SWARM.model_copy(update=dict(listed("ablation")["no crossover"].changes))
    assert np.sort(started(4, swarm, 0, None).ask(), axis=1)[:, -1] == pytest.approx(1.0, abs=1e-6)


def evaluation(scores):
    return Evaluation.of([ItemResult(f"q{k}", f"q{k}", "", Response("A"), Score(s)) for k, s in enumerate(scores)])


def test_a_contrast_is_the_mean_over_tasks_of_differences_with_a_verdict(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    low, high = evaluation([0.0, 1.0] * 10), evaluation([1.0] * 20)
    cells = [Cell(task, lambda parts: parts[""], {FULL: high, "no randomness": low}) for task in ("a", "a", "b", "b")]
    line = contrast(cells, "no randomness", FULL)
    assert (line.value, line.control, line.n) == (-0.5, 1.0, 4)
    assert line.low < -0.5 < line.high < 0
    (claim,) = study_claims(cells, ["ablation"])
    assert claim.verdict == "holds" and "-50.0 %" in claim.here
    assert study_claims(cells[:3], ["ablation"])[0].verdict == "not decided"  # one seed of b
    (missing,) = study_claims(cells, ["dual-use"])
    assert missing.verdict == "not measured"


@pytest.fixture(scope="module")
def arguments(base, adapters):
    experts = [word for folder in adapters for word in ("--experts", folder)]
    model = ["--base-model", base, *experts, "--device", "cpu", "--edition", "mini", "--limit", "3"]
    return ["analyse", *model, "--particles", "4", "--iterations", "2", "--patience", "9"]


@pytest.mark.slow
def test_a_study_does_every_analysis_and_repeats_nothing(arguments, here, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 50)
    monkeypatch.setattr("harness.analysis.emergence.RESAMPLES", 50)
    calls, ask = [], Task.__call__

    async def counted(task, model, split):
        calls.append(split)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return await ask(task, model, split)

    monkeypatch.setattr(Task, "__call__", counted)
    (tmp_path / "own.py").write_text("seen = {}\ndef tell(event): seen.update(getattr(event, 'values', {}))\n")
    follower = f"{tmp_path / 'own.py'}:tell"
    command = [*arguments, "--task", "medical,legal", "--all", "--out", tmp_path / "study", "--json"]
    command += ["--track", follower]
    assert here(*command).returncode == 130
    done = here(*command)
    assert done.returncode == 0, done.stderr
    analysed = json.loads(done.stdout)
    assert {claim["analysis"] for claim in analysed["claims"]} == set(ANALYSES) - {"trajectory"}
    assert analysed["runs"] == ["medical seed 0", "legal seed 0"]
    assert len(analysed["figures"]) == 4
    followed = trackers.get(follower).__globals__["seen"]
    names = [FULL, "reversed utility", "winner of legal-seed0"]
    assert {f"test/medical-seed0-{name}" for name in names} < set(followed)
    page = (tmp_path / "study" / "paper.md").read_text()
    for claim in analysed["claims"]:
        assert f"| {claim['claim']} | {claim['paper']} | {claim['here']} | {claim['verdict']} |" in page
    section = section_of(open_run(tmp_path / "study"))
    assert section.conclusions[0] == f"{analysed['claims'][0]['claim']}: {analysed['claims'][0]['verdict']}."
    runs = [section_of(open_run(tmp_path / "study" / "runs" / name)) for name in ("medical-seed0", "legal-seed0")]
    assert all("The path of the search" in {figure.heading for figure in run.figures} for run in runs)
    refused(here("resume", tmp_path / "study"), "study folder")
    before = len(calls)
    again = here(*command)
    assert json.loads(again.stdout) == analysed
    assert len(calls) == before
    refused(here(*command, "--inertia", "0.9"), "inertia")


def test_what_is_given_twice_or_unknown_is_refused(arguments, here, tmp_path):
    refused(here(*arguments, "--task", "medical", "--only", "emergense"), "emergense", "emergence")
    refused(here(*arguments, "--task", "medical", "--only", "drop", "--all"), "--only", "--all")
    refused(here("analyse", tmp_path, "--task", "medical"), "--task")
    refused(here("analyse", tmp_path, "--all"), "--all")
    refused(here("analyse", tmp_path, "--track", "tensorboard"), "--track")
    refused(here("analyse"), "no task given")
    refused(here("analyse", "--task", "electric_vehicles", "--limit", "2", "--out", tmp_path / "judged"), "judge")


def test_the_map_of_the_paper_names_every_analysis():
    named = " ".join(command for _, command in PARTS)
    assert all(f"--only {name}" in named for name in ANALYSES)
    assert set(SEARCHES) < set(ANALYSES)
