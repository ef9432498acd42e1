"""`analyse RUN...` on a real search of tiny models: what it reads is what the search evaluated."""

import json
import shutil

import numpy as np
import pytest
from conftest import refused
from run_folders import choice_items, make_run

from harness.analysis.diamond import initial_rank
from harness.analysis.stored import final_population, particles_of
from harness.analysis.trajectory import principal_plane, two_entries
from harness.cli.search import run_search
from harness.experts.pool import open_pool
from harness.run_folder.read import open_run
from harness.session.settings import run_settings
from utilities import statistics


@pytest.fixture(scope="module")
def settings(base, adapters):
    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 6, "base_model": str(base), "particles": 5}
        flat |= {"experts": [str(folder) for folder in adapters], "device": "cpu", "iterations": 3}
        return run_settings({**flat, **changes})

    return make


@pytest.fixture(scope="module")
def swarm(settings, tmp_path_factory):
    """The folder of a search with the published swarm, of which particles are skipped."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 50)
        run_search(settings(preset="paper", drop_particle=0.4, combine="mean"), folder, "swarm", "none", False)
    return folder / "swarm"


def test_every_row_has_the_particle_and_the_value_of_the_search(swarm):
    run = open_run(swarm)
    data = particles_of(run)
    assert data.rows[:3].tolist() == np.eye(3).tolist()
    assert data.rows.sum(1) == pytest.approx(1)
    for done in run.iterations:
        of = data.iterations == done.iteration
        expected = [done.scores[particle] for particle in data.particles[of]]
        assert data.values[of].tolist() == expected
        assert [k for k, skipped in enumerate(done.skipped) if not skipped] == data.particles[of].tolist()
    assert any(any(done.skipped) for done in run.iterations)


def test_the_final_population_has_the_last_score_of_each_particle(swarm):
    run = open_run(swarm)
    final = final_population(run)
    assert {int(label): e.value for label, e in final.items()} == dict(enumerate(run.iterations[-1].scores))


def test_the_initial_rank_is_that_of_the_best_particle(swarm):
    run = open_run(swarm)
    best = int(np.argmax(run.iterations[-1].best))
    first = np.array(run.iterations[0].scores)
    shares = initial_rank(run)
    assert shares.sum() == pytest.approx(1)
    assert shares[(first > first[best]).sum()] > 0


def test_the_plane_is_that_of_the_covariance():
    rows = np.random.default_rng(0).normal(size=(30, 4)) * [3, 1, 2, 0.5]
    plane = principal_plane(rows)
    values = np.linalg.eigvalsh(np.cov(rows.T))
    assert np.var(plane.points, axis=0, ddof=1) == pytest.approx(values[::-1][:2])
    assert plane.share == pytest.approx(values[-2:].sum() / values.sum())
    assert principal_plane(np.ones((3, 1))).points.shape == (3, 2)


def test_the_entries_are_those_of_the_mixed_adapters(swarm, base, adapters):
    run = open_run(swarm)
    rows = particles_of(run).rows
    name, points = two_entries(run, rows)
    import torch

    pool = open_pool([str(folder) for folder in adapters], base)
    mixed = dict(pool.mix(torch.from_numpy(rows)))[name]
    assert points == pytest.approx(mixed.reshape(len(rows), -1)[:, :2].numpy())


def test_the_command_writes_what_it_prints(swarm, here, tmp_path):
    done = here("analyse", swarm, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    analysed = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "analyse.json").read_text()) == analysed
    claims = {(one["analysis"], "test" in one["claim"]): one for one in analysed["claims"]}
    assert analysed["figures"] == ["trajectory.png", "trajectory.svg"]
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in analysed["figures"])
    for claim in claims.values():
        assert claim["sentence"] in done.stderr
    answers = open_run(swarm).answers
    dev = answers[answers["iteration"] == 0].pivot_table(index=["item_set", "item"], columns="label", values="score")
    unsolved = int((dev[["0", "1", "2"]].sum(axis=1) == 0).sum())
    emerged = next(line for line in claims["emergence", False]["lines"] if line["label"] == "emerged")
    assert emerged["n"] == unsolved


def test_other_folders_are_refused_in_one_sentence(swarm, here, tmp_path):
    refused(here("analyse", tmp_path), "not a run folder")
    unfinished = shutil.copytree(swarm, tmp_path / "unfinished")
    (unfinished / "result.json").unlink()
    refused(here("analyse", unfinished), "not a finished search")


def test_what_a_folder_does_not_hold_is_not_measured_and_says_why(here, tmp_path):
    answers = {name: ["A", "B"] for name in ("base", "expert_ant", "expert_bee", "winner")}
    scores = {"base": [0, 0], "expert_ant": [0, 0], "expert_bee": [0, 1], "winner": [1, 1]}
    folder = make_run(tmp_path / "run", items=choice_items(2), answers=answers, scores=scores)
    done = here("analyse", folder, "--json")
    assert done.returncode == 0, done.stderr
    dev, test, diamond = json.loads(done.stdout)["claims"]
    assert dev["verdict"] == diamond["verdict"] == "not measured"
    assert "lacks stored answers" in dev["sentence"] and "--preset paper" in diamond["sentence"]
    assert test["lines"][0]["value"] == 1.0 and test["lines"][0]["n"] == 1
    assert "do not match the stored answers" in done.stderr
