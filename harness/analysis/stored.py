"""What the stored answers and the checkpoint of a search say about its particles; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.run_folder.read import Run
from harness.run_folder.store import Store
from harness.swarm.update import Rows
from utilities.core import Evaluation, Score, Split
from utilities.errors import UserError

__all__ = ["Correctness", "Particles", "correctness", "final_population", "initial_experts", "particles_of"]


@dataclass(frozen=True)
class Correctness:
    """Which models answer which questions correctly, for questions that all models have a score on."""

    options: NDArray[np.int64]
    """[items]: number of options; 0 for a question that is answered freely."""
    clusters: tuple[str, ...]
    """[items]: what several items share."""
    right: Mapping[str, NDArray[np.bool_]]
    """Group of models to [models, items]."""


def correctness(run: Run, split: Split, groups: Mapping[str, Sequence[Evaluation]]) -> Correctness:
    """Correct answers of groups of models to the same items.

    Raises:
        UserError: Scores are not 0 or 1, or no item was scored for all models.
    """
    items = {(s, i): item for (s, of, i), item in run.items.items() if of == split}
    rows: list[dict[tuple[str, str], tuple[str, float]]] = []
    for evaluation in (one for group in groups.values() for one in group):
        row = {}
        for part, leaf in evaluation.leaves.items():
            name = part.partition(":")[0] or run.first_item_set
            for result in leaf.results:
                if isinstance(result.outcome, Score):
                    own = f"{name}/" if result.cluster == result.item_id else ""
                    row[name, result.item_id] = (own + result.cluster, result.outcome.value)
        rows.append(row)
    shared = [key for key in rows[0] if all(key in row for row in rows)] if rows else []
    if not shared:
        raise UserError(f"{run.folder}: no question on {split} was scored for every model")
    values = np.array([[row[key][1] for key in shared] for row in rows])
    if not np.isin(values, (0.0, 1.0)).all():
        raise UserError(f"{run.folder}: correctness needs answers that are right or wrong; these scores are in between")
    options = [len(item.choices or ()) if (item := items.get(key)) is not None else 0 for key in shared]
    ends = np.cumsum([len(group) for group in groups.values()])[:-1]
    parts = zip(groups, np.split(values == 1.0, ends), strict=True)
    return Correctness(np.array(options), tuple(rows[0][key][0] for key in shared), dict(parts))


def initial_experts(run: Run, split: Split) -> list[Evaluation]:
    """The experts' evaluations, in the order of the pool.

    Raises:
        UserError: Some are not stored.
    """
    names = run.result.experts if run.result else []
    if split == "dev":  # the first rows of every search are the experts
        first = run.evaluations("iter_0000")
        found = {name: first[str(k)] for k, name in enumerate(names) if str(k) in first}
    else:
        found = run.models(split)
    if not names or any(name not in found for name in names):
        raise UserError(f"{run.folder} is not finished, or lacks stored answers of its experts on {split}")
    return [found[name] for name in names]


def final_population(run: Run) -> dict[str, Evaluation]:
    """The last stored dev evaluation of each particle, by its number.

    A particle that was not evaluated in the last iteration has that of an earlier one, as its score is.
    """
    final: dict[str, Evaluation] = {}
    size = len(run.iterations[-1].scores) if run.iterations else 0
    for done in reversed(run.iterations):
        final = {**run.evaluations(f"iter_{done.iteration:04d}"), **final}
        if len(final) >= size:
            break
    return {label: final[label] for label in sorted(final, key=int) if int(label) < size}


@dataclass(frozen=True)
class Particles:
    """All evaluated rows of a search, in the order of their evaluation."""

    rows: Rows
    """[evaluations, columns]"""
    values: NDArray[np.float64]
    """[evaluations]: the metric on dev."""
    iterations: NDArray[np.int64]
    particles: NDArray[np.int64]

    @property
    def final(self) -> Rows:
        """The last evaluated row of each particle."""
        last = {int(particle): k for k, particle in enumerate(self.particles)}
        return self.rows[[last[particle] for particle in sorted(last)]]


def particles_of(run: Run) -> Particles:
    """The rows of a search: those of its checkpoint, matched with the particles that the records name.

    Raises:
        UserError: The folder has no checkpoint, or its records belong to other rows.
    """
    stored = list(((Store(run.folder).checkpoint() or {}).get("evaluated") or {}).values())
    labels = []
    for done in run.iterations:
        of = run.evaluations(f"iter_{done.iteration:04d}")
        labels += [(done.iteration, int(label), e.value) for label, e in of.items() if e.value is not None]
    values = np.array([one[0] for one in stored], dtype=np.float64)
    if len(stored) != len(labels) or not stored or not np.allclose(values, [value for _, _, value in labels]):
        raise UserError(f"{run.folder}: the rows of the checkpoint do not match the stored answers")
    iterations, particles = np.array([label[:2] for label in labels]).T
    return Particles(np.array([one[5] for one in stored]), values, iterations, particles)
