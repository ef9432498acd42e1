"""The winner of a finished run, and its card without paths of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.embedded import smollm2
from harness.run.model_card import model_card
from harness.run_folder.read import open_run
from harness.run_folder.result import Result
from harness.run_folder.store import Store
from harness.session.settings import RunSettings, stored_settings
from utilities.errors import UserError, first_line

__all__ = ["Winner"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Winner:
    """The winner of a finished run."""

    folder: Path
    kind: Literal["lora", "model"]
    result: Result
    settings: RunSettings

    @classmethod
    def of_run(cls, run: Path) -> Winner:
        """The winner of a run folder.

        Raises:
            UserError: No finished run, a corrupt one, or one without its winner.
        """
        winner = open_run(run).winner
        result = open_run(run).result
        if result is not None and (winner.folder / "mixture.json").is_file():
            raise UserError(
                f"{winner.folder} mixes the token probabilities of several models, so it is no single model; load it"
                " with harness.load_token_mixture"
            )
        if result is None or (not (winner.folder / "model.safetensors").is_file() and not _is_adapter(winner.folder)):
            raise UserError(f"{winner.folder} has no weights; `resume {run}` writes the winner again")
        try:
            settings = stored_settings(Store(run).settings()["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{run / 'settings.yaml'} is corrupt: {first_line(error)}") from error
        return cls(winner.folder, "lora" if _is_adapter(winner.folder) else "model", result, settings)

    @property
    def hub_base(self) -> str | None:
        """The hub id of the base model; None if it is a folder or the embedded model."""
        name = smollm2.HUB_ID if self.settings.base_model == smollm2.NAME else self.settings.base_model
        return name if HUB_ID.fullmatch(name) and not Path(name).expanduser().exists() else None

    def card(self, library: Literal["peft", "transformers"], name: str) -> str:
        """The model card.

        Args:
            library: Which library loads the files.
            name: Folder or hub id in the example.
        """
        base = self.hub_base or Path(self.settings.base_model).name
        return model_card(self.result, base, library, name, with_base=self.hub_base is not None)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_model.safetensors").is_file() and (folder / "adapter_config.json").is_file()
