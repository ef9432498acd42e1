"""TensorBoard: event files in the run folder. `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping

from harness.trackers.base import ScalarTracker, trackers

__all__ = ["TensorBoard"]


@trackers.register("tensorboard")
class TensorBoard(ScalarTracker):
    """Writes event files of TensorBoard to `RUN/tensorboard`; nothing is sent."""

    package = "tensorboard"

    def start(self) -> None:
        """Opens the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        text = "\n".join(f"    {name}: {value}" for name, value in self.settings.items())
        self._writer.add_text("settings", text)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Writes numbers of an iteration."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.close()
