"""Everything a run depends on, as one frozen model: validated as a whole before any model is loaded.

Precedence: defaults < preset < variant < task file < `--config` file < flags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.embedded import BASE, EXPERTS, QWEN2, smollm2
from harness.engines.settings import EngineSettings
from harness.experts.grouping import Granularity
from harness.run_folder.version_0_1 import current_names
from harness.swarm.settings import PRESETS, VARIANTS, SwarmSettings
from utilities.bounded_input import read_yaml
from utilities.errors import UserError, in_words
from utilities.judges.settings import JudgeSettings, check_encrypted
from utilities.registry import unknown_name
from utilities.user_code import absolute_spec

__all__ = [
    "EMBEDDED",
    "FAMILIES",
    "RunSettings",
    "flat_settings",
    "read_config",
    "recommended_settings",
    "run_settings",
    "stored_settings",
]

EMBEDDED = "embedded"
"""Name of the bundled model family."""
FAMILIES: dict[str, dict[str, Any]] = {
    EMBEDDED: {"base_model": EMBEDDED},
    smollm2.NAME: {
        "base_model": smollm2.NAME,
        "dtype": "bfloat16",
        "limit": 50,
        "particles": 10,
        "iterations": 4,
    },
}
"""Settings of each family: a search on SmolLM2 takes minutes with these, and would take hours with the defaults."""


class RunSettings(BaseModel):
    """All that decides what a run does and finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    task: str
    """Name of a bundled task, or path of a task file (.yaml) or of data (.csv, .json, .jsonl, .parquet)."""
    edition: str | None = None
    """Edition of the task; by default mini for the embedded model, full otherwise."""
    data: Path | None = None
    """Folder with the published data files, for editions other than mini."""
    limit: int | None = Field(None, ge=1)
    """At most so many items of each split of each item set."""
    drop_overlap: bool = False
    """Take items that stand in dev too out of test."""
    trace: bool = False
    """Let langchain send traces of judge requests where the environment says so; else nothing is sent."""
    trust_task: bool = False
    """Run the Python files outside its own folder that a task file names."""
    utility: str | None = None
    """Scores the task's items in place of its own scorers: a scorer's name, or FILE.py:NAME."""
    option: tuple[str, ...] = ()
    """Option of the task's scorers, as NAME=VALUE; may be repeated."""
    combine: str | None = None
    """Makes one number of the item sets, or of their groups, in place of the task's own way: a combination's name."""
    base_model: str = EMBEDDED
    """Base model: 'embedded', 'smollm2' (SmolLM2-135M-Instruct), a folder, or a hub id."""
    experts: tuple[str, ...] = ()
    """Expert adapters: folders, folders of adapter folders, or hub ids; by default those of the base model's family."""
    family: Literal["embedded", "smollm2"] | None = None
    """Base model and experts of a family, with settings that fit its size; smollm2: a real model on a laptop."""
    mix: Literal["weights", "tokens"] = Field("weights", exclude_if=lambda value: value == "weights")
    """weights: the experts' weights are mixed; tokens: their next-token probabilities, so experts may have different
    architectures: full models, or adapters with a base model of their own, as ADAPTERS::BASE."""
    include_base: bool = False
    """Adds the base model to the pool, so that coefficients of the experts need not add up to 1."""
    granularity: Granularity = "model"
    """What has coefficients of its own: the whole model, each of its layers, or each kind of module (q_proj, ...)."""
    engine: str = "auto"
    """Engine that answers the prompts."""
    cache: bool = Field(True, exclude_if=bool)
    """Reuse answers of the base model and the experts that earlier runs stored, with --engine local."""
    seed: int = Field(0, ge=0)
    """Seed of every random number of the search."""
    preset: Literal["default", "paper"] = "default"
    """paper: the published search; default: what was found to do better on test than it."""
    variant: Literal["paper", "reference"] = "paper"
    """Of the published search (so it implies --preset paper). paper: Algorithm 1; reference: its authors' code."""
    objective: Literal["auto", "metric", "smooth", "mix"] = "auto"
    """What the search maximises. metric: the task's own value, which is what is reported; smooth: a smooth score of
    the same items, the probability of the gold answer; mix: the mean of both; auto: smooth if that needs no further
    requests to the model."""
    validation_share: float = Field(0.0, ge=0, le=0.5)
    """Share of dev that the search never sees: the winner is selected on it, and its value there is unbiased."""
    swarm: SwarmSettings = SwarmSettings()
    engine_settings: EngineSettings = EngineSettings()
    judging: JudgeSettings = JudgeSettings()

    @field_validator("option")
    @classmethod
    def _named(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for one in options:
            name, separator, value = one.partition("=")
            if not separator or not name.strip().isidentifier():
                raise ValueError(f"{one!r} is not of the form NAME=VALUE")
            try:
                read_yaml(value)
            except ValueError as error:
                raise ValueError(f"the value of {one!r} is not readable as YAML; quote it: {name}='...'") from error
        return options

    @property
    def scorer_options(self) -> dict[str, Any]:
        """The options of `option`; values are parsed as YAML, so 3 is a number and true a boolean."""
        return {one.partition("=")[0].strip(): read_yaml(one.partition("=")[2]) for one in self.option}

    @model_validator(mode="after")
    def _names_exist(self) -> RunSettings:
        from harness.engines.base import engines  # imported here so that --help does not load numpy
        from harness.swarm.optimisers import optimisers
        from utilities.combine import combinations

        if self.engine != "auto":
            engines.check(self.engine)
        optimisers.check(self.swarm.optimiser)
        if self.combine is not None:
            combinations.check(self.combine)
        return self

    @model_validator(mode="after")
    def _experts_belong(self) -> RunSettings:
        if self.base_model not in FAMILIES and not self.experts:
            raise ValueError("experts: --base-model is given, so --experts must name its adapters")
        return self

    @model_validator(mode="after")
    def _tokens_are_distributions(self) -> RunSettings:
        if self.mix == "weights":
            return self
        if self.engine not in ("auto", "local", "token_mixture"):
            raise ValueError(
                f"engine: --mix tokens runs its experts on the local engine; got {self.engine}, local is accepted"
            )
        if self.granularity != "model":
            raise ValueError("granularity: --mix tokens mixes whole models; only model is accepted")
        if self.include_base:
            raise ValueError("include_base: with --mix tokens, name the base model's folder as one of --experts")
        if not self.swarm.simplex:
            raise ValueError("simplex: with --mix tokens a row is a distribution over experts; true is accepted")
        return self

    @model_validator(mode="after")
    def _server_key_is_encrypted(self) -> RunSettings:
        engine = self.engine_settings
        if engine.base_url is not None and os.environ.get(engine.server_key_env):
            try:
                check_encrypted(engine.base_url, "--base-url", allow=self.judging.allow_plain_http)
            except UserError as error:
                raise ValueError(str(error)) from None
        return self

    def anywhere(self) -> RunSettings:
        """The same settings with absolute paths: a run can then be resumed from any working directory."""

        def absolute(spec: str) -> str:
            parts = [(part, Path(part).expanduser()) for part in spec.split("::")]  # an adapter and its own base model
            return "::".join(str(path.resolve()) if path.exists() else part for part, path in parts)

        files = {name: getattr(self.judging, name) for name in ("judge_key_file", "judge_cache", "evidence")}
        paths = {name: path.expanduser().resolve() for name, path in files.items() if path is not None}
        return self.model_copy(
            update={
                "task": absolute(self.task) if self.task.endswith((".yaml", ".yml")) else self.task,
                "utility": self.utility and absolute_spec(self.utility, Path()),
                "combine": self.combine and absolute_spec(self.combine, Path()),
                "engine": absolute_spec(self.engine, Path()),
                "swarm": self.swarm.model_copy(update={"optimiser": absolute_spec(self.swarm.optimiser, Path())}),
                "judging": self.judging.model_copy(update=paths),
                "data": self.data and self.data.expanduser().resolve(),
                "base_model": self.base_model if self.base_model in FAMILIES else absolute(self.base_model),
                "experts": tuple(absolute(spec) for spec in self.experts),
            }
        )

    @property
    def base_spec(self) -> str:
        """Folder or hub id of the base model; that of SmolLM2 is converted if it was not yet.

        Raises:
            UserError: SmolLM2 is not installed.
        """
        if self.base_model == smollm2.NAME:
            return str(smollm2.base_folder())
        return str(BASE) if self.base_model == EMBEDDED else self.base_model

    @property
    def expert_specs(self) -> tuple[str, ...]:
        """Folders or hub ids of the experts."""
        if self.experts:
            return self.experts
        if self.base_model == smollm2.NAME:
            return (str(smollm2.EXPERTS),)
        other = (f"{QWEN2 / 'experts'}::{QWEN2 / 'base'}",) if self.mix == "tokens" else ()
        return (str(EXPERTS), *other)

    @property
    def preferred_edition(self) -> str:
        """The edition to use if the task has several and none is set."""
        return "mini" if self.base_model == EMBEDDED or (self.chat_family and self.data is None) else "full"

    @property
    def chat_family(self) -> bool:
        """Whether the base model is a bundled one that follows instructions in a chat format."""
        return self.base_model == smollm2.NAME


def stored_settings(stored: Mapping[str, Any], **changes: Any) -> RunSettings:
    """The settings stored in a run folder, including folders of version 0.1.

    Args:
        stored: The `settings` of `settings.yaml`.
        changes: Settings that replace stored ones.

    Raises:
        ValidationError: A value is invalid.
        UserError: The run used a setting that no longer exists.
    """
    return RunSettings(**{**current_names(stored), **changes})


NESTED: dict[str, type[BaseModel]] = {
    "swarm": SwarmSettings,
    "engine_settings": EngineSettings,
    "judging": JudgeSettings,
}
"""Groups of settings whose fields are flat in config files, task files and flags."""


def flat_settings(settings: RunSettings) -> dict[str, Any]:
    """The values of the settings by flat name."""
    flat = {name: getattr(settings, name) for name in RunSettings.model_fields if name not in NESTED}
    for group in NESTED:
        flat |= dict(getattr(settings, group))
    return flat


def known_settings() -> dict[str, Any]:
    """Pydantic field of every setting by flat name."""
    flat = {name: field for name, field in RunSettings.model_fields.items() if name not in NESTED}
    for model in NESTED.values():
        flat |= model.model_fields
    return flat


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a `--config` file: a YAML mapping with the flat names of the settings.

    Raises:
        UserError: Missing file, invalid YAML, or an unknown setting.
    """
    try:
        data = read_yaml(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"--config {path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"--config {path}: expected a mapping of settings, such as 'particles: 10'")
    _refuse_unknown(data, str(path))
    return data


def _refuse_unknown(data: Mapping[str, Any], where: str) -> None:
    for name in data:
        if name not in known_settings():
            raise UserError(f"{where}: {unknown_name('setting', str(name), known_settings())}")


def run_settings(*layers: Mapping[str, Any]) -> RunSettings:
    """The settings that result from layers of flat values, later layers override earlier ones; None means unset.

    Raises:
        UserError: A value is invalid; the message names the field, the value and the accepted values.
    """
    flat: dict[str, Any] = {}
    for layer in layers:
        _refuse_unknown(layer, "settings")
        flat |= {name: value for name, value in layer.items() if value is not None}
    preset = flat.setdefault("preset", "paper") if "variant" in flat else flat.get("preset", "default")
    flat = {
        **FAMILIES.get(str(flat.get("family")), {}),
        **PRESETS.get(str(preset), {}),
        **VARIANTS.get(str(flat.get("variant", "paper")), {}),
        **({"simplex": True} if flat.get("mix") == "tokens" else {}),
        **flat,
    }
    nested = {
        group: {name: flat.pop(name) for name in list(flat) if name in model.model_fields}
        for group, model in NESTED.items()
    }
    try:
        return RunSettings.model_validate({**flat, **nested})
    except ValidationError as error:
        message = in_words(error)
        for group in NESTED:  # users only know flat names
            message = message.replace(f"{group}.", "").replace(f"{group}: ", "")
        raise UserError(f"settings: {message}") from error


def recommended_settings(*layers: Mapping[str, Any]) -> RunSettings:
    """Like `run_settings`, with the task file's recommended settings as defaults.

    Raises:
        UserError: No task, an unknown task or edition, or an invalid value.
    """
    from utilities.task_file import list_tasks, read_task_file

    if not any(layer.get("task") for layer in layers):
        raise UserError(f"no task given: add --task NAME, one of {', '.join(list_tasks())}, or the path of a task file")
    merged = run_settings(*layers)
    task_file, path = read_task_file(merged.task, trust=merged.trust_task)
    edition = task_file.choose(merged.edition, merged.preferred_edition)
    try:
        family = FAMILIES.get(str(merged.family), {})
        return run_settings(task_file.editions[edition].settings, family, *layers)
    except UserError as error:
        raise UserError(f"{error} (recommended settings are in {path})") from error
