"""A search with `--mix tokens` on experts of two architectures: its winner on disk, resuming, comparing."""

import json

import pytest
from conftest import make_tokenizer
from tiny_models import make_lora, make_model, make_pairs_tokenizer

import harness
from harness.engines.token_mixture import load_token_mixture
from harness.run.adapt import adapt
from harness.run_folder.events import Bus, IterationDone
from harness.run_folder.store import Store
from harness.session.provenance import changed_inputs, provenance
from harness.session.session import open_session
from harness.session.settings import run_settings
from utilities import evaluate
from utilities.errors import UserError


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Settings of a small search over two Llama adapters and one Qwen2 adapter."""
    folder = tmp_path_factory.mktemp("models")
    llama, qwen = make_model(folder / "llama"), make_model(folder / "qwen", "qwen2", seed=3, vocab_size=264)
    experts = [make_lora(llama, folder / "ant"), make_lora(llama, folder / "bee", seed=2)]
    other = make_lora(qwen, folder / "cat", seed=4)
    return {
        "task": "medical", "edition": "mini", "limit": 8, "mix": "tokens", "base_model": str(llama),
        "experts": [*map(str, experts), f"{other}::{qwen}"], "particles": 5, "iterations": 3, "device": "cpu",
    }  # fmt: skip


def job(settings, folder, *subscribers):
    session = open_session(settings)
    begun = (folder / "settings.yaml").exists()
    document = {"settings": settings.model_dump(mode="json"), **provenance(session)}
    store = Store.open(folder) if begun else Store.create(folder, document)
    assert not changed_inputs(store.settings(), provenance(session))
    bus = Bus()
    for subscriber in (store.log, *subscribers):
        bus.subscribe(subscriber)
    try:
        return adapt(session, store, bus), session.task
    finally:
        store.close()


@pytest.fixture(scope="module")
def whole(flat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    result, task = job(run_settings(flat), folder)
    return result, task, folder


def test_the_winner_on_disk_has_the_values_of_the_result(whole):
    result, task, folder = whole
    assert (result.engine, result.experts) == ("token_mixture", ["ant", "bee", "cat"])
    coefficients = result.winner.coefficients
    assert sum(coefficients.values()) == pytest.approx(1.0)
    assert min(coefficients.values()) >= 0
    model = load_token_mixture(folder / "best", device="cpu")
    try:
        assert evaluate(task, model, "test").value == pytest.approx(result.winner.test, abs=1e-9)
    finally:
        model.close()
    card = (folder / "best" / "README.md").read_text()
    assert "harness.load_token_mixture(" in card
    store = Store(folder)
    assert store.is_intact("best")
    (folder / "best" / "mixture.json").write_text("{}")
    assert not store.is_intact("best")


@pytest.mark.slow
def test_an_interrupted_search_continues_to_the_same_result(flat, whole, tmp_path):
    def stop(event):
        if isinstance(event, IterationDone) and event.iteration == 1:
            raise RuntimeError("stopped")

    settings = run_settings(flat)
    with pytest.raises(RuntimeError, match="stopped"):
        job(settings, tmp_path / "run", stop)
    result, _ = job(settings, tmp_path / "run")
    assert result.winner.coefficients == whole[0].winner.coefficients
    assert [row.test for row in result.rows] == [row.test for row in whole[0].rows]


def test_the_published_search_moves_on_the_simplex(flat, tmp_path):
    result, _ = job(
        run_settings({**flat, "preset": "paper", "variant": "reference", "iterations": 2}), tmp_path / "run"
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("coefficients"):
            assert sum(line["coefficients"].values()) == pytest.approx(1.0)
            assert min(line["coefficients"].values()) >= 0
    assert result.optimiser == "pso"


@pytest.mark.slow
def test_a_comparison_leaves_out_methods_that_mix_weights(flat, tmp_path):
    names = "base,best_single,uniform_mixture,uniform_soup,scaled_soup,lorahub,paper,swarm"
    compared = harness.compare(**flat, methods=names, seeds=1, budget=8, out=tmp_path / "compared", display="none")
    found = {one.method: one for one in compared.outcomes}
    assert set(found) == {"base", "best_single", "uniform_mixture", "paper", "swarm"}
    assert set(found["uniform_mixture"].coefficients.values()) == {1 / 3}
    reasons = {one.method: one.reason for one in compared.absent}
    assert set(reasons) == {"uniform_soup", "scaled_soup", "lorahub"}
    assert all("token probabilities" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "vllm"}, "local is accepted"),
        ({"engine": "ray"}, "local is accepted"),
        ({"granularity": "layer"}, "only model is accepted"),
        ({"include_base": True}, "name the base model's folder"),
        ({"simplex": False}, "distribution over experts"),
    ],
)
def test_settings_that_do_not_apply_are_refused(flat, change, message):
    with pytest.raises(UserError, match=message):
        run_settings({**flat, **change})


def test_the_engine_needs_experts_of_its_kind(base, adapters):
    settings = {"task": "medical", "edition": "mini", "limit": 4, "base_model": str(base), "engine": "token_mixture"}
    session = open_session(run_settings({**settings, "experts": [str(one) for one in adapters]}))
    with pytest.raises(UserError, match="--mix tokens"):
        session.engine()


def test_generation_needs_one_vocabulary(flat):
    pair = {**flat, "task": "gsm8k", "experts": flat["experts"][:2]}
    open_session(run_settings(pair)).close()
    qwen = flat["experts"][2].partition("::")[2]
    make_pairs_tokenizer(qwen)
    try:
        with pytest.raises(UserError, match="different vocabularies"):
            open_session(run_settings({**flat, "task": "gsm8k"}))
    finally:
        make_tokenizer(qwen)


def test_a_search_generates_with_one_vocabulary(flat, tmp_path):
    pair = {**flat, "task": "gsm8k", "experts": flat["experts"][:2], "limit": 2, "iterations": 1, "particles": 2}
    result, _ = job(run_settings({**pair, "objective": "metric"}), tmp_path / "run")
    assert result.engine == "token_mixture"
    assert [row.unscored for row in result.rows] == [0] * 4
