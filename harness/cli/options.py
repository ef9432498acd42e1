"""Options of the command line, made from the fields of the settings models: a setting is described in one place.

The sets below name the settings that verbs read; a verb's file combines them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from harness.engines.settings import EngineSettings
from harness.session.settings import NESTED, RunSettings, known_settings, read_config, recommended_settings
from harness.swarm.settings import SwarmSettings
from utilities.errors import UserError
from utilities.judges.settings import JudgeSettings

__all__ = [
    "CACHE",
    "COMMON",
    "ENGINE",
    "JUDGES",
    "MODELS",
    "MONITOR",
    "PANELS",
    "PARTICLE_SWARM",
    "SEARCH",
    "TASK",
    "check_hyperparameters",
    "layered_settings",
    "option_parameters",
]

TASK = frozenset({"task", "trust_task", "edition", "data", "limit", "drop_overlap", "utility", "option", "combine"})
"""What is evaluated on, and by which utility."""
MODELS = frozenset({"base_model", "experts", "family", "mix"})
ENGINE = frozenset({"engine", *EngineSettings.model_fields})
CACHE = frozenset({"cache"})
"""Read by verbs that do not measure the time of evaluations."""
MONITOR = frozenset({"monitor_share", "canary_every"})
"""Judge settings that monitor a search."""
JUDGES = frozenset({*JudgeSettings.model_fields, "trace"}) - MONITOR
PARTICLE_SWARM = frozenset(
    {
        "inertia", "cognitive", "social", "repel", "step_length", "step_decay", "step_floor", "restart_patience",
        "restart_reset", "random_factors", "initial_velocity", "crossover_max", "drop_iteration", "drop_particle",
    }
)  # fmt: skip
"""Hyperparameters of Algorithm 1 that no other optimiser has."""
SEARCH = (
    frozenset({*RunSettings.model_fields, *SwarmSettings.model_fields, *MONITOR})
    - TASK
    - MODELS
    - ENGINE
    - CACHE
    - {*NESTED, "trace"}
)
"""What a search does: optimiser and hyperparameters, objective, selection, monitoring."""

COMMON = frozenset(
    {
        "task", "limit", "utility", "base_model", "experts", "family", "engine", "seed", "preset", "optimiser",
        "particles", "iterations", "judge", "judge_url",
    }
)  # fmt: skip
"""Settings that the short help shows."""
PANELS = {
    "Task": TASK,
    "Models": MODELS,
    "Search": SEARCH - PARTICLE_SWARM - MONITOR,
    "Published particle swarm (--preset paper)": PARTICLE_SWARM,
    "Judges": JUDGES | MONITOR,
    "Engine": ENGINE | CACHE,
}
"""Groups of the help page, in its order."""
OTHER_OPTIMISERS = ("cma", "cma-positive", "pso-standard", "random")
"""Optimisers of this project without the hyperparameters of Algorithm 1; a user's own may read them."""
SHORT = {"task": "-t", "limit": "-n"}


def option_parameters(names: Set[str]) -> list[inspect.Parameter]:
    """One keyword parameter a setting, annotated with its option, in the order of the help page."""
    known = known_settings()
    if unknown := names - known.keys():
        raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
    return [
        _parameter(name, known[name], panel)
        for panel, group in PANELS.items()
        for name in known
        if name in group and name in names
    ]


def _parameter(name: str, field: Any, panel: str) -> inspect.Parameter:
    kind = _option_type(field.annotation)
    flag = "--" + name.replace("_", "-")
    flags = [flag + f"/--no-{flag[2:]}"] if kind is bool else [flag, *([SHORT[name]] if name in SHORT else [])]
    default = "" if field.is_required() or field.default in (None, ()) else f" [default: {field.default}]"
    option = typer.Option(
        *flags,
        help=(field.description or "") + default,
        metavar=_metavar(field.annotation),
        autocompletion=_completion(name, field.annotation),
        show_default=False,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _option_type(annotation: Any) -> Any:
    """How an option is parsed: flags and lists by typer, every other value by pydantic, so that a wrong value gives
    the same message whether it came from a flag or from a file."""
    if annotation is bool:
        return bool
    return list[str] if get_origin(annotation) is tuple else str


def _metavar(annotation: Any) -> str | None:
    """The form of an option's value in the help."""
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    if choices:
        return f"<{'|'.join(choices)}>"
    kinds = {int: "<int>", float: "<float>", Path: "<path>"}
    inner = [a for a in get_args(annotation) if a is not type(None)] or [annotation]
    return None if annotation is bool else kinds.get(inner[0], "<str>")


def _completion(name: str, annotation: Any) -> Any:
    """Values that the shell offers for a setting; None if its values are open."""
    if get_origin(annotation) is Literal:
        return lambda incomplete: [one for one in get_args(annotation) if one.startswith(incomplete)]
    if name == "task":
        return _task_names
    return None


def _task_names(incomplete: str) -> list[str]:
    from utilities.task_file import list_tasks

    return [name for name in list_tasks() if name.startswith(incomplete)]


def layered_settings(config: Path | None, given: dict[str, Any]) -> RunSettings:
    """Defaults < task file < --config file < flags.

    Raises:
        UserError: No task, an unknown task or edition, or a value that is not accepted.
    """
    return recommended_settings(read_config(config) if config else {}, given)


def check_hyperparameters(settings: RunSettings, given: Mapping[str, Any]) -> None:
    """Checks that hyperparameters of the published particle swarm are given only for an optimiser that reads them.

    Raises:
        UserError: The search is one of the other optimisers of this project.
    """
    optimiser = settings.swarm.optimiser
    flags = [f"--{name.replace('_', '-')}" for name in given if name in PARTICLE_SWARM and given[name] is not None]
    if flags and optimiser in OTHER_OPTIMISERS:
        raise UserError(
            f"--optimiser {optimiser} does not read {', '.join(flags)}: add --optimiser pso, or --preset paper for the"
            " published search"
        )
