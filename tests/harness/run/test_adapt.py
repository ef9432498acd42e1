"""The main job on tiny real models: what it finds is true, counted once, and the same however often it is stopped."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import make_base
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.cli.evaluate import run_evaluate
from harness.cli.resume import run_resume
from harness.cli.search import run_search
from harness.engines import local
from harness.run.adapt import adapt
from harness.run_folder.events import Bus, Evaluated, Finished, IterationDone, Started
from harness.run_folder.result import Result
from harness.run_folder.store import Store
from harness.session.provenance import changed_inputs, provenance
from harness.session.session import BASE, open_session
from harness.session.settings import run_settings
from utilities.core import Reason, Unscored
from utilities.errors import UserError

CONTRACT = {
    *("task", "edition", "seed", "engine", "model", "iterations", "evaluations", "seconds", "time_share", "experts"),
    *("winner", "rows", "difference", "overlap", "run"),
}


@pytest.fixture(scope="session")
def given(base, adapters):
    """Settings of a small job; a test adds its own."""

    def make(**changes):
        flat = {"task": "medical", "edition": "mini", "limit": 8, "base_model": str(base), "particles": 5}
        flat |= {"iterations": 3, "experts": [str(folder) for folder in adapters], "device": "cpu", "preset": "paper"}
        return run_settings({**flat, **changes})

    return make


def job(settings, folder, *subscribers, kind=Store):
    """Begins the job, or continues it where the folder has been begun."""
    session = open_session(settings)
    begun = (folder / "settings.yaml").exists()
    store = kind.open(folder) if begun else kind.create(folder, {"settings": settings.model_dump(mode="json")})
    bus = Bus()
    for subscriber in (store.log, *subscribers):
        bus.subscribe(subscriber)
    try:
        return adapt(session, store, bus)
    finally:
        store.close()


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """An undisturbed run: its result, folder and events."""
    folder, seen = tmp_path_factory.mktemp("whole") / "run", []
    return job(given(), folder, seen.append), folder, seen


def lasting(folder):
    """All of a run that must not depend on when, where, or in how many parts it ran."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "time_share", "run", "cached_answers"):
        del result[name]
    del result["winner"]["adapter"]
    checkpoint = json.loads((folder / "checkpoint" / "state.json").read_text())
    for name in ("seconds", "times", "settings_sha256", "sha256", "cached_answers"):
        del checkpoint[name]
    best = {p.name: p.read_bytes() for p in (folder / "best").iterdir() if p.name != "README.md"}
    return result, checkpoint, best


# -- what it says is true ----------------------------------------------------------------------------------------------


def accuracy(model, tokenizer, items):
    """Plain transformers: the share of items whose gold option has the highest summed log-probability."""
    right = 0
    for item in items:
        prompt = tokenizer(f"{item.question}\nAnswer:")["input_ids"]
        values = []
        for text in item.choices.values():
            option = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + option])).logits[0]
            steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            values.append(float(steps[range(len(option)), option].sum()))
        right += list(item.choices)[int(np.argmax(values))] == item.answer
    return right / len(items)


def plain_value(model, base, settings, split):
    tokenizer = AutoTokenizer.from_pretrained(base)
    parts = [accuracy(model.eval(), tokenizer, s.split(split)) for s in open_session(settings).task.item_sets.values()]
    return 0.0 if min(parts) == 0 else len(parts) / sum(1 / part for part in parts)


@pytest.mark.parametrize("include_base", [False, True])
def test_the_winner_on_disk_scores_with_plain_peft_what_the_result_says(include_base, given, base, whole, tmp_path):
    settings = given(include_base=include_base)
    result = whole[0] if not include_base else job(settings, tmp_path / "run")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), result.winner.adapter)
    assert result.winner.dev == pytest.approx(plain_value(model, base, settings, "dev"), abs=1e-12)
    assert result.winner.test == pytest.approx(plain_value(model, base, settings, "test"), abs=1e-12)
    names = [*result.experts, BASE] if include_base else result.experts
    assert list(result.winner.coefficients) == names
    assert sum(result.winner.coefficients.values()) == pytest.approx(1.0)


def test_base_and_experts_score_what_the_result_says(given, base, adapters, whole):
    result = whole[0]
    rows = {row.name: row for row in result.rows}
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert rows[BASE].test == pytest.approx(plain_value(plain, base, given(), "test"), abs=1e-12)
    bee = PeftModel.from_pretrained(plain, adapters[1])
    assert rows["bee"].test == pytest.approx(plain_value(bee, base, given(), "test"), abs=1e-12)


def test_full_models_are_experts_too(given, base, tmp_path):
    models = [make_base(tmp_path / name, seed) for seed, name in enumerate(("one", "two"), 21)]
    settings = given(experts=[str(folder) for folder in models])
    result = job(settings, tmp_path / "run")
    winner = AutoModelForCausalLM.from_pretrained(result.winner.adapter)
    assert result.winner.dev == pytest.approx(plain_value(winner, base, settings, "dev"), abs=1e-12)
    assert result.winner.test == pytest.approx(plain_value(winner, base, settings, "test"), abs=1e-12)
    assert AutoTokenizer.from_pretrained(result.winner.adapter)("a")["input_ids"]
    assert "library_name: transformers" in (tmp_path / "run" / "best" / "README.md").read_text()


def test_the_result_keeps_its_contract(whole):
    result, folder, seen = whole
    text = (folder / "result.json").read_text()
    document = json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert Result.model_validate(document) == result
    assert set(document) >= CONTRACT
    assert [(row["name"], row["kind"]) for row in document["rows"]] == [
        (BASE, "base"),
        *((name, "expert") for name in ("ant", "bee", "cat")),
        ("winner", "winner"),
    ]
    assert all(row["n"] == 16 and row["unscored"] == 0 and row["problem"] is None for row in document["rows"])
    winner = document["rows"][-1]
    assert [winner[key] for key in ("dev", "test", "test_se")] == [
        document["winner"][key] for key in ("dev", "test", "test_se")
    ]
    assert winner["dev"] == max(done.global_best for done in seen if isinstance(done, IterationDone))
    initial = {row["name"]: row["dev"] for row in document["rows"] if row["kind"] == "expert"}
    assert initial[document["best_initial"]] == max(initial.values())
    gain = document["difference"]["winner_minus_best_initial"]
    best = next(row for row in document["rows"] if row["name"] == document["best_initial"])
    assert gain["value"] == pytest.approx(winner["test"] - best["test"], abs=1e-12)
    assert gain["low"] <= gain["value"] <= gain["high"]


def test_the_shares_of_time_are_whole(whole):
    share = whole[0].time_share
    parts = [share.forward, share.mixing, share.scoring, share.other]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(1.0)
    assert share.forward > 0 and share.mixing > 0


def test_the_model_card_names_every_part_of_the_winner(whole):
    result, folder, _ = whole
    card = (folder / "best" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft"
    for name, weight in result.winner.coefficients.items():
        assert f"| {name} | {weight:+.4f} |" in card
    assert f"{result.winner.test:.4f}" in card
    assert result.winner.adapter in card


def test_nothing_in_the_winners_config_depends_on_the_process(whole):
    config = json.loads((whole[1] / "best" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])  # peft keeps a set, ordered by random hashes


def test_events_and_records_tell_the_same_story(whole):
    result, folder, seen = whole
    assert isinstance(seen[0], Started) and isinstance(seen[-1], Finished)
    done = [event for event in seen if isinstance(event, IterationDone)]
    assert [event.iteration for event in done] == [0, 1, 2, 3]
    for event in done:
        told = {e.particle: e.value for e in seen if isinstance(e, Evaluated) and e.iteration == event.iteration}
        assert [told[k] for k in range(5)] == event.scores
    assert list(Store(folder).events()) == seen
    assert result.evaluations == done[-1].evaluations


# -- counted once ------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Rows that the engine was asked to answer as, in order; None is the base model."""
    rows, submit = [], local.LocalEngine.submit

    async def noted(self, row, work):
        rows.append(None if row is None else tuple(row))
        return await submit(self, row, work)

    monkeypatch.setattr(local.LocalEngine, "submit", noted)
    return rows


def test_equal_rows_are_evaluated_once(given, adapters, asked, tmp_path):
    seen = []
    result = job(given(experts=[str(adapters[0])], particles=4), tmp_path / "run", seen.append)
    assert result.evaluations == 1
    # Two item sets: the one row, which is expert and winner, on dev and on test. For the noise floor the winner is
    # evaluated again, beside the best expert.
    assert asked.count((1.0,)) == 2 * 2 + 2 * 2
    assert asked.count(None) == 2 * 2
    told = [event for event in seen if isinstance(event, Evaluated)]
    assert len(told) == 4 * 4
    assert sum(event.items for event in told) == 16
    assert len({event.value for event in told}) == 1


def test_no_row_of_the_search_is_asked_twice(given, asked, tmp_path):
    done = []

    def until_the_test(event):
        if event.kind == "testing":
            raise Stopped
        done.extend([event] if isinstance(event, IterationDone) else [])

    with pytest.raises(Stopped):
        job(given(iterations=6, restart_patience=1), tmp_path / "run", until_the_test)
    assert any(any(event.restarted) for event in done)
    assert len(asked) == 2 * done[-1].evaluations  # two item sets
    assert all(asked.count(row) == 2 for row in asked)


# -- stopped and continued ---------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


class StopsAfterEveryStep(Store):
    """Stops the job after each checkpoint and after each row of the final table."""

    def save_checkpoint(self, state):
        super().save_checkpoint(state)
        raise Stopped

    def save_records(self, name, evaluations):
        super().save_records(name, evaluations)
        if not name.startswith("iter_"):
            raise Stopped


@pytest.mark.slow
def test_stopped_after_every_single_step_it_ends_the_same(given, whole, tmp_path):
    stops = 0
    while True:
        try:
            job(given(), tmp_path / "run", kind=StopsAfterEveryStep)
            break
        except Stopped:
            stops += 1
    assert stops == 1 + 4 + 6  # the beginning, four iterations, five rows on test and the base model on dev
    assert lasting(tmp_path / "run") == lasting(whole[1])


@pytest.mark.parametrize(
    ("kind", "count"), [("started", 1), ("evaluated", 7), ("iteration", 3), ("testing", 2), ("finished", 1)]
)
def test_stopped_at_any_event_it_ends_the_same(kind, count, given, whole, tmp_path):
    left = [count]

    def stop(event):
        left[0] -= event.kind == kind
        if left[0] == 0:
            raise Stopped

    with pytest.raises(Stopped):
        job(given(), tmp_path / "run", stop)
    assert (tmp_path / "run" / "result.json").exists() == (kind == "finished")
    seen = []
    job(given(), tmp_path / "run", seen.append)
    assert lasting(tmp_path / "run") == lasting(whole[1])
    assert seen[0].resumed_from == {"started": None, "evaluated": 0, "iteration": 1}.get(kind, 3)


def test_a_checkpoint_is_small(whole):
    assert (whole[1] / "checkpoint" / "state.json").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "content", ["{}", '{"swarm": {}}', '{"swarm": []}', '{"swarm": {"iteration": 0}, "evaluated": 3}']
)
def test_a_checkpoint_without_its_parts_is_a_users_error(content, given, tmp_path):
    Store.create(tmp_path / "run", {}).close()
    (tmp_path / "run" / "checkpoint" / "state.json").write_text(content)
    with pytest.raises(UserError, match=r"checkpoint .* is corrupt"):
        job(given(), tmp_path / "run")


# -- what is skipped or missing ----------------------------------------------------------------------------------------


def test_skipped_particles_keep_their_scores_and_others_their_numbers(given, tmp_path):
    seen = []
    job(given(drop_particle=0.5, particles=6, iterations=4), tmp_path / "run", seen.append)
    done = [event for event in seen if isinstance(event, IterationDone)]
    assert any(any(event.skipped) and not all(event.skipped) for event in done)
    store, before = Store(tmp_path / "run"), [None] * 6
    for event in done:
        told = {e.particle: e for e in seen if isinstance(e, Evaluated) and e.iteration == event.iteration}
        assert sorted(told) == [k for k in range(6) if not event.skipped[k]]
        assert event.scores == [told[k].value if k in told else before[k] for k in range(6)]
        before = event.scores
        records = store.records(f"iter_{event.iteration:04d}")
        assert {int(label) for label, _ in records} == {k for k, e in told.items() if e.items}
        for k, e in told.items():
            if e.items:
                parts = [np.mean([r.outcome.value for r in records[str(k), part]]) for part in ("questions", "cases")]
                harmonic = 0.0 if min(parts) == 0 else 2 / (1 / parts[0] + 1 / parts[1])
                assert e.value == pytest.approx(harmonic, abs=1e-12)


def test_skipped_iterations_move_without_evaluations(given, tmp_path):
    seen = []
    result = job(given(drop_iteration=0.6, iterations=5), tmp_path / "run", seen.append)
    done = [event for event in seen if isinstance(event, IterationDone)]
    skipped = [event for event in done if all(event.skipped)]
    assert skipped and not any(done[0].skipped)
    for event in skipped:
        assert not [e for e in seen if isinstance(e, Evaluated) and e.iteration == event.iteration]
    assert result.iterations == 5
    assert result.evaluations <= 5 * (6 - len(skipped))


def refusing(monkeypatch, refuse):
    """The engine leaves answers out: `refuse(row, position)` says which."""
    ask = local._Particle.choice_logprobs

    async def answer(self, prompts, options):
        found = await ask(self, prompts, options)
        lost = Unscored(Reason.TRANSPORT, "the line is cut")
        return [lost if refuse(self._row, k) else one for k, one in enumerate(found)]

    monkeypatch.setattr(local._Particle, "choice_logprobs", answer)


def test_a_run_in_which_nothing_can_be_scored_ends_at_once_and_says_why(given, monkeypatch, tmp_path):
    refusing(monkeypatch, lambda row, k: True)
    seen = []
    with pytest.raises(UserError, match=r"no model could be scored on medical: .*transport: the line is cut"):
        job(given(iterations=50), tmp_path / "run", seen.append)
    assert not [event for event in seen if isinstance(event, IterationDone)]
    assert not (tmp_path / "run" / "result.json").exists()
    # When the line is mended the run goes on from its beginning.
    monkeypatch.undo()
    assert job(given(iterations=1), tmp_path / "run").winner.dev is not None


def test_a_few_unscored_items_are_counted_and_left_out(given, monkeypatch, tmp_path):
    refusing(monkeypatch, lambda row, k: k == 3)
    result = job(given(limit=20, iterations=1), tmp_path / "run")
    assert all((row.n, row.unscored) == (38, 2) for row in result.rows)
    assert all(row.dev is not None and row.test is not None for row in result.rows)


def test_a_particle_with_too_many_unscored_items_is_missing_and_not_low(given, monkeypatch, tmp_path):
    bee = np.array([0.0, 1.0, 0.0])
    refusing(monkeypatch, lambda row, k: row is not None and np.array_equal(row, bee) and k < 2)
    seen = []
    result = job(given(), tmp_path / "run", seen.append)
    (first, *_) = (event for event in seen if isinstance(event, IterationDone))
    assert first.scores[1] is None and None not in (first.scores[0], first.scores[2])
    state = json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())["swarm"]
    assert state["global_worst"] != list(bee)
    row = next(row for row in result.rows if row.name == "bee")
    assert (row.dev, row.test, row.n, row.unscored) == (None, None, 12, 4)
    assert "2 of 8 items are unscored" in row.problem
    assert result.best_initial != "bee"
    json.loads((tmp_path / "run" / "result.json").read_text(), parse_constant=pytest.fail)


def test_one_item_a_set_gives_no_nan(given, tmp_path):
    result = job(given(limit=1, iterations=1), tmp_path / "run")
    for row in result.rows:
        values = (row.dev, row.dev_se, row.test, row.test_se)
        assert all(value is None or math.isfinite(value) for value in values)
        assert None not in values or row.problem


def test_an_expert_cannot_have_the_name_of_a_row_of_the_table(given, adapters, tmp_path):
    shutil.copytree(adapters[0], tmp_path / "winner")
    with pytest.raises(UserError, match="cannot be called 'winner'"):
        job(given(experts=[str(tmp_path / "winner"), str(adapters[1])]), tmp_path / "run")


# -- what changed since it began ---------------------------------------------------------------------------------------


@pytest.fixture
def custom(tmp_path, given, adapters):
    """Settings of a task and experts of one's own, which a test may change."""
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    items = [
        {"question": f"What is {k}?", "choices": {"A": f"{k}", "B": f"{k + 1}"}, "answer": "AB"[k % 2]}
        for k in range(6)
    ]
    (folder / "data" / "sums.json").write_text(json.dumps({"dev": items[:3], "test": items[3:]}))
    (folder / "qa.jinja").write_text("Q: {{ question }}\nA:")
    options = {"prompt": "qa.jinja", "answer_by": "text"}
    item_sets = {"sums": {"scorer": "multiple_choice", "options": options, "file": "sums.json"}}
    task = {"name": "mine", "title": "Sums", "editions": {"own": {"item_sets": item_sets}}}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    for adapter in adapters:
        shutil.copytree(adapter, folder / "experts" / adapter.name)
    return given(
        task=str(folder / "task.yaml"), edition="own", experts=[str(folder / "experts")], iterations=1, limit=None
    )


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CHANGES = {
    "item set 'sums'": lambda mine: replace(mine / "data" / "sums.json", "What is 1?", "What is one?"),
    "the task file, a prompt or the utility": lambda mine: replace(mine / "qa.jinja", "Q:", "Question:"),
    "expert 'bee'": lambda mine: replace(
        mine / "experts" / "bee" / "adapter_config.json", '"lora_alpha": 8', '"lora_alpha": 9'
    ),
    "expert 'cat'": lambda mine: shutil.rmtree(mine / "experts" / "cat"),
    "expert 'dog'": lambda mine: shutil.copytree(mine / "experts" / "cat", mine / "experts" / "dog"),
}


def test_a_changed_option_or_second_prompt_is_a_change_of_the_task(custom, tmp_path):
    mine = tmp_path / "mine"
    then = provenance(open_session(custom))
    replace(mine / "task.yaml", "answer_by: text", "answer_by: letter")
    assert changed_inputs(then, provenance(open_session(custom))) == ["the task file, a prompt or the utility"]
    (mine / "check.jinja").write_text("{{ question }} {{ proposal }}?")
    replace(mine / "task.yaml", "scorer: multiple_choice", "scorer: abstain")
    replace(mine / "task.yaml", "prompt: qa.jinja", "check_prompt: check.jinja")
    then = provenance(open_session(custom))
    (mine / "check.jinja").write_text("{{ question }} {{ proposal }}!")
    assert changed_inputs(then, provenance(open_session(custom))) == ["the task file, a prompt or the utility"]


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_since_the_run_began_is_named_and_refused(what, custom, tmp_path, capsys):
    run_search(custom, tmp_path, "run", "none", False)
    (tmp_path / "run" / "result.json").unlink()
    CHANGES[what](tmp_path / "mine")
    with pytest.raises(UserError, match=f"cannot resume .*: {what} changed"):
        run_resume(tmp_path / "run", "none", False)


def test_one_item_set_and_one_title_more_may_be_resumed(custom, tmp_path, capsys):
    run_search(custom, tmp_path, "run", "none", False)
    before = lasting(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    replace(tmp_path / "mine" / "task.yaml", "title: Sums", "title: Small sums")
    run_resume(tmp_path / "run", "none", False)
    assert lasting(tmp_path / "run") == before


def test_a_changed_base_model_is_named(given, base, tmp_path):
    shutil.copytree(base, tmp_path / "tiny")
    then = provenance(open_session(given(base_model=str(tmp_path / "tiny"))))
    assert changed_inputs(then, provenance(open_session(given()))) == []
    make_base(tmp_path / "tiny", seed=5)
    now = provenance(open_session(given(base_model=str(tmp_path / "tiny"))))
    assert changed_inputs(then, now) == ["the base model"]


def test_the_records_of_evaluate_are_no_search(given, tmp_path, capsys):
    run_evaluate(given(limit=2), "dev", tmp_path / "e", True)
    with pytest.raises(UserError, match="not a search"):
        run_resume(tmp_path / "e", "none", False)
    Store.open(tmp_path / "e").close()  # the refusal let go of it
