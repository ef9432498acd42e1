"""A run folder as settings, result and tables; also one that version 0.1 wrote."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from pyarrow import parquet

from harness.run_folder.read import open_run
from harness.run_folder.store import _record_schema
from utilities.core import Item
from utilities.errors import UserError
from utilities.scorers import MultipleChoice

TASK = """
name: colours
title: Colours
editions:
  mini:
    item_sets:
      names:
        scorer: multiple_choice
        items:
          dev: [{id: d1, question: "Which is red?", choices: {A: red, B: blue}, answer: A}]
          test: [{id: t1, question: "Which is blue?", choices: {A: red, B: blue}, answer: B}]
"""
SETTINGS = {
    "base_model": "embedded",
    "anchor": "base",
    "confirm": 0.0,
    "swarm": {"optimiser": "cma-positive", "winner": "centre", "elite": 10, "saving": "none", "best_margin": 0.0},
    "judging": {"hold_out": 0.2},
}
ROW = {"dev": 1.0, "dev_se": None, "test": 1.0, "test_se": None, "n": 1, "unscored": 0, "problem": None, "beside": {}}
RESULT = {
    **{"task": "colours", "edition": "mini", "seed": 0, "engine": "local", "model": "embedded", "iterations": 1},
    **{"stopped": "1 iterations done", "optimiser": "cma-positive", "objective": "metric", "evaluations": 3},
    **{"items_saved": 0.0, "seconds": 2.0, "experts": ["ant", "bee"], "best_initial": "ant", "overlap": {"names": 0}},
    "time_share": {"forward": 1.0, "mixing": 0.0, "scoring": 0.0, "other": 0.0},
    "winner": {
        **{"finalist": "centre", "coefficients": {"ant": 0.75, "bee": 0.25}, "groups": {}, "dev": 1.0},
        **{"optimism": 0.0, "confirmed": None, "test": 1.0, "test_se": None, "adapter": "/gone/best"},
    },
    "rows": [{"name": "base model", "kind": "base", **ROW}, {"name": "winner", "kind": "winner", **ROW}],
    "difference": {},
}


def iteration(number, scores, coefficients):
    return {
        **{"at": 100.0 + number, "kind": "iteration", "iteration": number, "step_length": None, "scores": scores},
        **{"best": [], "restarted": [], "skipped": [], "global_best": scores[0], "objective": 0.5},
        **{"coefficients": coefficients, "evaluations": 2 + number},
    }


def record(label, item, response, score, prompt_hash="0", **more):
    return {
        **{"label": label, "item_set": "", "item": item, "cluster": item, "prompt_hash": prompt_hash},
        **{"response": response, "tokens": 0, "finish_reason": "stop", "more": [], "choice_logprobs": [-1.0, -2.0]},
        **{"score": score, "measures": [("length", 3.0)], "notes": "", "unscored": None, "detail": None, **more},
    }


@pytest.fixture
def old_run(tmp_path):
    """A finished run folder as version 0.1 wrote it: small, but with every file and every old name."""
    import pyarrow as pa

    (tmp_path / "colours.yaml").write_text(TASK)
    folder = tmp_path / "run"
    for name in ("records", "best", "checkpoint"):
        (folder / name).mkdir(parents=True)
    settings = {"task": str(tmp_path / "colours.yaml"), **SETTINGS}
    (folder / "settings.yaml").write_text(yaml.safe_dump({"settings": settings, "versions": {"model-swarms": "0.1.0"}}))
    (folder / "result.json").write_text(json.dumps({**RESULT, "run": str(folder)}))
    (folder / "best" / "adapter_config.json").write_text("{}")
    events = [
        iteration(0, [0.0, 1.0], {"ant": 1.0, "bee": 0.0}),
        iteration(1, [0.5, None], {"ant": 0.75, "bee": 0.25}),
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"kind": "it')
    unscored = {"score": None, "measures": [], "unscored": "truncated", "detail": "prompt too long"}
    prompt = MultipleChoice().prompt.render(
        Item(id="1", question="Which is blue?", choices={"A": "red", "B": "blue"}, answer="B")
    )
    from utilities.prompts import prompt_hash

    for name, rows in {
        "iter_0000": [record("0", "d1", "B", 0.0), record("1", "d1", "A", 1.0)],
        "iter_0001": [record("0", "d1", "A", **unscored)],
        "test_winner": [record("winner", "t1", "B", 1.0, prompt_hash(prompt))],
        "beside_length_of_it_winner": [record("winner", "t1", "B", 0.5)],
    }.items():
        path = folder / "records" / f"{name}.parquet"
        parquet.write_table(pa.Table.from_pylist(rows, schema=_record_schema()), path)
    return folder


def test_settings_have_the_names_of_this_version(old_run):
    settings = open_run(str(old_run)).settings
    assert settings["winner"] == "top-k-mean"
    assert (settings["top_k"], settings["validation_share"], settings["monitor_share"]) == (10, 0.0, 0.2)
    assert settings["include_base"] is True
    assert not {"anchor", "elite", "saving", "best_margin", "swarm", "judging"} & set(settings)


def test_result_table_and_winner(old_run, tmp_path):
    run = open_run(old_run)
    assert "finished" in repr(run)
    assert run.result.winner.finalist == "top-k-mean"
    assert list(run.table()["name"]) == ["base model", "winner"]
    assert run.winner.coefficients == {"ant": 0.75, "bee": 0.25}
    saved = run.winner.save(tmp_path / "copy")
    assert (saved / "adapter_config.json").read_text() == "{}"
    with pytest.raises(UserError, match="already exists"):
        run.winner.save(saved)


def test_history_has_a_row_for_each_iteration(old_run):
    history = open_run(old_run).history
    expected = pd.DataFrame(
        {
            "iteration": [0, 1],
            "evaluations": [2, 3],
            "seconds": [0.0, 1.0],
            "mean_metric": [0.5, 0.5],
            "best_metric": [1.0, 1.0],  # it never falls
            "objective": [0.5, 0.5],
            "coefficient ant": [1.0, 0.75],
            "coefficient bee": [0.0, 0.25],
        }
    )
    pd.testing.assert_frame_equal(history, expected)


def test_answers_have_the_question_beside_the_response(old_run):
    answers = open_run(old_run).answers
    beside = answers[answers["report_only"].notna()]
    assert list(beside["report_only"]) == ["length_of_it"]
    assert list(beside["split"]) == ["test"]
    answers = answers[answers["report_only"].isna()].reset_index()
    assert list(answers["label"]) == ["0", "1", "0", "winner"]
    assert list(answers["split"]) == ["dev", "dev", "dev", "test"]
    assert list(answers["iteration"][:3]) == [0, 0, 1]
    assert answers["iteration"].isna().tolist() == [False, False, False, True]
    last = answers.iloc[-1]
    assert (last["item_set"], last["question"], last["gold"]) == ("names", "Which is blue?", "B")
    assert last["options"] == {"A": "red", "B": "blue"}
    assert "Which is blue?" in last["prompt"]
    assert last["measures"] == {"length": 3.0}
    assert (last["response"], last["score"]) == ("B", 1.0)
    third = answers.iloc[2]
    assert (third["unscored"], third["detail"]) == ("truncated", "prompt too long")
    assert np.isnan(third["score"])
    assert third["prompt"] is None, "a prompt whose hash differs is not the one that was used"


def test_answers_without_their_task_are_still_read(old_run):
    (old_run.parent / "colours.yaml").unlink()
    answers = open_run(old_run).answers
    assert answers["question"].isna().all()
    assert sorted(answers["response"]) == ["A", "A", "B", "B", "B"]


def test_an_unfinished_run_has_no_winner_yet(old_run):
    (old_run / "result.json").unlink()
    shutil.rmtree(old_run / "records")
    run = open_run(old_run)
    assert run.result is None
    assert run.answers.empty
    assert len(run.history) == 2
    for missing in (lambda: run.winner, run.table):
        with pytest.raises(UserError, match="not finished; run `resume"):
            missing()


def test_other_folders_and_corrupt_files_are_refused(old_run, tmp_path):
    with pytest.raises(UserError, match=r"is not a run folder: it has no settings\.yaml"):
        open_run(tmp_path)
    (old_run / "result.json").write_text('{"task": 3}')
    with pytest.raises(UserError, match=r"result\.json is corrupt"):
        open_run(old_run).result  # noqa: B018 - reading it is the test
    (old_run / "records" / "iter_0000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"iter_0000\.parquet is corrupt"):
        open_run(old_run).answers  # noqa: B018 - reading it is the test


def test_a_setting_that_is_gone_is_named(old_run):
    document = yaml.safe_load((old_run / "settings.yaml").read_text())
    document["settings"]["swarm"]["saving"] = "race"
    (old_run / "settings.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match="started with --saving"):
        open_run(old_run).settings  # noqa: B018 - reading it is the test
