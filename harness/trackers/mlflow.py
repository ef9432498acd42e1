"""MLflow: a folder `mlruns` beside the run folders, unless the environment variable MLFLOW_TRACKING_URI is set."""

from __future__ import annotations

import os
from collections.abc import Mapping

from harness.trackers.base import ScalarTracker, trackers

__all__ = ["Mlflow"]

FOLDER = "model_swarms.folder"
"""Tag by which a resumed run is found."""


@trackers.register("mlflow")
class Mlflow(ScalarTracker):
    """Writes a run of MLflow to `mlruns` beside the run folder, or to the server of MLFLOW_TRACKING_URI."""

    package = "mlflow"

    def start(self) -> None:
        """Creates the run, or opens that of a resumed search."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        place = str(self.folder.resolve())
        local = (self.folder.resolve().parent / "mlruns").as_uri()
        self._client = client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "model-swarms")
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        earlier = [run for run in client.search_runs([number]) if run.data.tags.get(FOLDER) == place]
        if earlier:
            self._id = earlier[0].info.run_id
            return
        self._id = client.create_run(number, run_name=self.folder.name, tags={FOLDER: place}).info.run_id
        for setting, value in self.settings.items():
            client.log_param(self._id, setting, str(value)[:500])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of an iteration."""
        for name, value in values.items():
            allowed = "".join(one if one.isalnum() or one in "_-. /" else "_" for one in name)
            self._client.log_metric(self._id, allowed, value, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id)
