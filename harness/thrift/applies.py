"""Which way of saving items suits which search, and which objective."""

from __future__ import annotations

from typing import Literal

from harness.swarm.settings import SwarmSettings
from harness.thrift.bounds import why_unbounded
from utilities.objective import ObjectiveKind
from utilities.tasks import Task

__all__ = ["Way", "why_not"]

Way = Literal["exact", "race"]
"""Exact pruning, with the results of asking all items; racing, with the chance of an error."""


def why_not(way: Way, swarm: SwarmSettings, task: Task, objective: ObjectiveKind) -> str | None:
    """Why a way of saving does not apply, in words; None where it does."""
    if way == "race":
        if swarm.optimiser == "pso":
            return "the published search compares a particle with its own past, not with the others: exact is accepted"
        if task.judged:
            return "a judge is watched on whole evaluations"
        return None
    if swarm.optimiser not in ("pso", "random"):
        return f"{swarm.optimiser} learns from every value of a generation: race is accepted"
    if swarm.optimiser == "pso" and swarm.winner == "centre":
        return "the mean of the best rows needs more values than the published search: --winner best is accepted"
    return why_unbounded(task, objective)
