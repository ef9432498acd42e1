"""Weights & Biases: offline in the run folder, unless the environment variable WANDB_MODE is online."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256

from harness.trackers.base import ScalarTracker, trackers

__all__ = ["Wandb"]


@trackers.register("wandb")
class Wandb(ScalarTracker):
    """Writes a run of Weights & Biases to `RUN/wandb`; sent by `wandb sync`, or live with WANDB_MODE=online."""

    package = "wandb"

    def start(self) -> None:
        """Opens the run."""
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "model-swarms"),
            name=self.folder.name,
            id=sha256(str(self.folder.resolve()).encode()).hexdigest()[:12],  # a resumed run is the same one
            resume="allow" if mode == "online" else None,
            dir=str(self.folder),
            config=self.settings,
            mode=mode,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="step")  # each search of a comparison begins at step 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of an iteration."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
