"""The conformance suite of optimisers on every registered one, and what holds of some of them only."""

import numpy as np
import pytest

from harness.swarm.optimisers import make_optimiser, make_strategy, optimisers
from harness.swarm.settings import SwarmSettings
from harness.testing import OptimiserConformance
from harness.testing.optimiser import OPTIMUM


class TestOptimiser(OptimiserConformance):
    @pytest.fixture(params=sorted(optimisers))
    def name(self, request):
        return request.param

    @pytest.mark.parametrize("name", ["cma-positive", "pso-standard", "random"])
    def test_these_have_no_negative_coefficients(self, name):
        search = self.make(name, iterations=30)
        rows = np.concatenate(self.run(search, lambda row: -float(row.sum())))
        assert (rows >= 0).all()

    @pytest.mark.parametrize("name", ["cma-positive", "cma", "pso-standard"])
    def test_these_leave_the_plane_of_coefficients_that_sum_to_one(self, name):
        search = self.make(name, iterations=40)
        self.run(search)
        np.testing.assert_allclose(search.best[0], OPTIMUM, atol=0.15)
        assert search.best[1] > 0.97


SETTINGS = SwarmSettings(optimiser="cma-positive", particles=8)


def test_the_base_model_in_the_pool_is_no_initial_expert():
    search = make_optimiser(5, 4, SETTINGS, 0)
    np.testing.assert_array_equal(search.ask(), np.eye(5)[:4])
    search.tell([0.0] * 4)
    assert search.ask().shape == (8, 5)


def test_a_stepwise_search_does_not_begin_at_the_experts():
    rows = make_strategy(4, SETTINGS, 0).ask()
    assert rows.shape == (8, 4)
    assert not np.array_equal(rows[:4], np.eye(4))
