"""The projection onto the simplex, and searches whose rows are projected."""

import numpy as np
import pytest

from harness.swarm.drivers import row_key
from harness.swarm.optimisers import make_optimiser
from harness.swarm.settings import SwarmSettings
from harness.swarm.simplex import simplex


def test_the_projection_is_the_nearest_distribution():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 4))
    projected = simplex(rows)
    assert (projected >= 0).all()
    assert projected.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-12)
    others = rng.dirichlet(np.ones(4), size=2000)
    for row, nearest in zip(rows, projected, strict=True):
        assert ((row - nearest) ** 2).sum() <= ((others - row) ** 2).sum(axis=1).min() + 1e-12


@pytest.mark.parametrize(
    ("row", "expected"), [([2.0, 0.0], [1.0, 0.0]), ([0.8, 0.4], [0.7, 0.3]), ([0.0, 0.0], [0.5, 0.5])]
)
def test_known_projections(row, expected):
    assert simplex(np.array(row)) == pytest.approx(expected)


def test_a_projected_row_is_unchanged_by_another_projection():
    rows = simplex(np.random.default_rng(1).normal(size=(50, 9)))
    assert [row_key(one) for one in simplex(rows)] == [row_key(one) for one in rows]


def test_groups_are_projected_by_themselves():
    row = np.array([2.0, 0.0, 0.8, 0.4])
    assert simplex(row, groups=2) == pytest.approx([1.0, 0.0, 0.7, 0.3])


@pytest.mark.parametrize("optimiser", ["pso", "pso-standard", "random", "cma", "cma-positive"])
def test_all_rows_of_a_search_are_distributions_and_it_can_be_continued(optimiser):
    settings = SwarmSettings(optimiser=optimiser, particles=6, iterations=5, simplex=True, crossover_max=2.0)
    goal = np.array([0.5, 0.5, 0.0])

    def steps(search, count):
        asked = []
        for _ in range(count):
            rows = search.ask()
            asked.append(rows)
            search.tell([-float(((row - goal) ** 2).sum()) for row in rows])
        return np.concatenate(asked)

    whole = make_optimiser(3, 3, settings, 0)
    rows = steps(whole, 5)
    assert (rows >= 0).all()
    assert rows.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-12)
    half = make_optimiser(3, 3, settings, 0)
    first = steps(half, 2)
    second = steps(make_optimiser(3, 3, settings, 0, half.state.to_dict()), 3)
    assert np.array_equal(np.concatenate([first, second]), rows)
