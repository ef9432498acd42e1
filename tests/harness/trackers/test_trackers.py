import json
import time

import pytest
from conftest import refused
from text_run import make_text_run

from harness.run_folder.events import Finished, IterationDone, Judged, Numbers, Started, Watched
from harness.run_folder.store import Store
from harness.trackers import base
from harness.trackers.base import ScalarTracker, Trackers, scalars, trackers

ROW = {"dev": 0.5, "dev_se": None, "test": 0.75, "test_se": None, "n": 1, "unscored": 0}
COST = {"requests": 3, "cached": 0, "failed": 0, "prompt_tokens": 5, "completion_tokens": 2, "usd": None}


@pytest.fixture
def run(tmp_path):
    folder = make_text_run(tmp_path / "runs" / "one")
    result = json.loads((folder / "result.json").read_text())
    rows = [{"name": "winner", "kind": "winner", **ROW}, {"name": "ant (a)", "kind": "expert", **ROW, "test": None}]
    (folder / "result.json").write_text(json.dumps({**result, "rows": rows}))
    return folder


def events(first=0, last=2):
    sizes = {"particles": 2, "iterations": 2, "dev_items": 1, "test_items": 1}
    yield Started(task="t", edition="mini", engine="local", device="cpu", experts=["ant (a)"], **sizes)
    for k in range(first, last + 1):
        yield IterationDone(
            iteration=k, step_length=None, scores=[0.25, None], best=[], restarted=[], skipped=[], global_best=0.25,
            best_metric=k / 4, objective=None, coefficients={"ant (a)": 1.0}, evaluations=k + 1,
        )  # fmt: skip
    yield Judged(**COST)
    yield Finished(reason="done", seconds=1.0)


def track(name, run, chosen=None):
    notes = []
    store = Store(run)
    with Trackers([name], store, notes.append):
        for event in chosen or events():
            store.bus(event)
    assert notes == []


def test_the_numbers_of_events_without_missing_ones(run):
    found = [scalars(event, run) for event in events(last=0)]
    search = {"search/best_metric": 0.0, "search/mean_metric": 0.25, "search/evaluations": 1, "coefficient/ant (a)": 1}
    judged = {"judge/requests": 3, "judge/tokens": 7}
    assert found == [{}, search, judged, {"dev/winner": 0.5, "test/winner": 0.75, "dev/ant (a)": 0.5}]


def test_the_numbers_of_the_monitor(run):
    values = {"text_features": {"words": 4.0}, "canaries": {"x": 1.0}}
    watched = Watched(iteration=1, objective=0.5, hold_out=None, initial_hold_out=None, **values)
    assert scalars(watched, run) == {"monitor/objective": 0.5, "monitor/words": 4.0, "canary/x": 1.0}


@pytest.mark.parametrize(
    "document",
    [
        {"compare": {"budget": 4}, "tasks": {"one": {"settings": {"task": "one", "swarm": {"particles": 3}}}}},
        {"sweep": {"budget": 4}, "task": {"settings": {"task": "one", "swarm": {"particles": 3}}}},
        {"lab": {"budget": 4}, "settings": {"task": "one", "swarm": {"particles": 3}}, "task": "0123"},
    ],
)
def test_a_tracker_logs_the_steps_and_settings_of_every_study(document, tmp_path):
    logged = []

    class Recorder(ScalarTracker):
        def start(self):
            logged.append(self.settings)

        def log(self, values, step):
            logged.append((step, values))

        def close(self):
            pass

    tracker = Recorder(Store.create(tmp_path / "run", document).folder)
    tracker(Numbers(step=3, values={"test/base": 0.5, "test/other": None}))
    tracker(Judged(**COST))
    settings = {"task": "one", "particles": 3, "budget": 4}
    assert logged == [settings, (3, {"test/base": 0.5}), (3, {"judge/requests": 3, "judge/tokens": 7})]


def test_tensorboard_reads_what_was_logged_also_after_a_resumption(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track("tensorboard", run, list(events())[:2])  # interrupted
    track("tensorboard", run, list(events(1)))
    found = accumulator.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("search/best_metric")] == [(0, 0), (1, 0.25), (2, 0.5)]
    assert [(one.step, one.value) for one in found.Scalars("test/winner")] == [(2, 0.75)]


def test_wandb_writes_offline_and_sends_nothing(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # whatever is sent would fail
    track("wandb", run)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    end = time.monotonic() + 200  # another process writes it
    while b"test/winner" not in file.read_bytes() and time.monotonic() < end:
        time.sleep(0.05)
    assert b"search/best_metric" in file.read_bytes() and b"test/winner" in file.read_bytes()


def test_mlflow_writes_beside_the_runs_and_a_resumed_search_is_one_run(run, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track("mlflow", run, list(events())[:2])
    track("mlflow", run, list(events(1)))
    client = mlflow.MlflowClient((run.parent / "mlruns").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("model-swarms").experiment_id])
    assert found.info.run_name == "one" and found.data.params["base_model"] == "tiny"
    values = client.get_metric_history(found.info.run_id, "search/best_metric")
    assert [(one.step, one.value) for one in values] == [(0, 0), (1, 0.25), (2, 0.5)]
    assert found.data.metrics["dev/ant _a_"] == 0.5 and found.info.status == "FINISHED"


@pytest.mark.parametrize("verb", ["compare", "sweep", "lab", "analyse"])
def test_mlflow_reads_the_values_of_a_study_also_after_a_resumption(verb, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    task = {"settings": {"task": "one", "swarm": {"particles": 3}}}
    folder = Store.create(tmp_path / verb, {verb: {"budget": 4}, "tasks": {"one": task}}).folder
    track("mlflow", folder, [Numbers(step=1, values={"dev/swarm": 0.5, "test/a (b)": None})])
    track("mlflow", folder, [Numbers(step=2, values={"dev/swarm": 0.75, "test/a (b)": 0.25}), Judged(**COST)])
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("model-swarms").experiment_id])
    assert found.info.run_name == verb and found.info.status == "FINISHED"
    assert found.data.params == {"task": "one", "particles": "3", "budget": "4"}
    assert found.data.metrics == {"dev/swarm": 0.75, "test/a _b_": 0.25, "judge/requests": 3, "judge/tokens": 7}
    values = client.get_metric_history(found.info.run_id, "dev/swarm")
    assert [(one.step, one.value) for one in values] == [(1, 0.5), (2, 0.75)]


def test_functions_and_classes_of_a_users_file_see_every_event_and_their_errors_end_nothing(run, tmp_path):
    (tmp_path / "own.py").write_text(
        "seen, closed = [], []\n"
        "def tell(event): seen.append(event.kind)\n"
        "def fail(event): 1 / (event.kind != 'iteration')\n"
        "class Own:\n"
        "    def __init__(self, folder): self.folder = folder\n"
        "    def __call__(self, event): seen.append((self.folder.name, event.kind))\n"
        "    def close(self): closed.append(self.folder)\n"
    )
    names = [f"{tmp_path / 'own.py'}:{name}" for name in ("fail", "tell", "Own")]
    notes = []
    store = Store(run)
    with Trackers(names, store, notes.append):
        for event in events(last=1):
            store.bus(event)
    module = trackers.get(names[1]).__globals__
    kinds = ["started", "iteration", "iteration", "judged", "finished"]
    assert module["seen"] == [one for kind in kinds for one in (kind, ("one", kind))] and module["closed"] == [run]
    assert notes == [f"--track {names[0]} failed and is left out: ZeroDivisionError: division by zero"]


def test_what_cannot_track_is_refused_before_the_search(here, tmp_path, monkeypatch):
    command = ("--task", "medical", "--out", tmp_path / "runs", "--track")
    refused(here(*command, "tensorbord"), "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?")
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    refused(here(*command, "mlflow"), "mlflow is not installed; pip install -e '.[mlflow]'")
    (tmp_path / "own.py").write_text("number = 3\n")
    refused(here(*command, f"{tmp_path / 'own.py'}:number"), "expected a class or a function, and it is a int")
    assert not (tmp_path / "runs").exists()
