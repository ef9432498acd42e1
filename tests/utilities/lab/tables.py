"""Scores made of plain arrays."""

import numpy as np

from utilities.lab.scores import Scores


def table(values, per_cluster=1, prefix="i", models=None, **more):
    """Scores of an array [models, items]; clusters are neighbours."""
    values = np.atleast_2d(np.array(values, dtype=float))
    return Scores(
        tuple(models or (f"m{k}" for k in range(len(values)))),
        tuple(f"{prefix}{k}" for k in range(values.shape[1])),
        values,
        tuple(f"c{k // per_cluster}" for k in range(values.shape[1])),
        **more,
    )
