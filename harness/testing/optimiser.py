"""What every optimiser must do, as pytest tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from harness.swarm.loop import Optimiser
from harness.swarm.optimisers import make_optimiser
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row, Rows

__all__ = ["OptimiserConformance"]

OPTIMUM = np.array([0.9, 0.0, 0.3, 0.1])


class OptimiserConformance:
    """Checks an optimiser on a smooth function of four coefficients.

    A search is deterministic, starts at the initial experts, improves on them, continues from a saved state, treats a
    missing value as missing, and ends.

    Example:
        `my_search.py` registers an optimiser, and `test_my_search.py` checks it:

        >>> from harness.swarm.optimisers import optimisers
        >>> from harness.swarm.random_search import RandomSearch
        >>> @optimisers.register("half-random")
        ... def half_random(columns, settings, seed, groups):
        ...     return RandomSearch(columns * groups, seed, settings.particles // 2)

        >>> import pytest
        >>> from harness.testing import OptimiserConformance
        >>> class TestHalfRandom(OptimiserConformance):
        ...     @pytest.fixture
        ...     def name(self):
        ...         return "half-random"  # or "my_search.py:half_random"
    """

    @pytest.fixture
    def name(self) -> str:
        """The registered name, or `FILE.py:NAME`; override it."""
        raise NotImplementedError("override the fixture `name`")

    @staticmethod
    def value(row: Row) -> float:
        """A smooth function whose maximum is 1."""
        return 1.0 - float(np.square(row - OPTIMUM).sum())

    def make(self, name: str, seed: int = 0, state: Any = None, columns: int = 4, **changes: Any) -> Optimiser:
        """A search over `columns` experts; `changes` are settings of the search."""
        settings = SwarmSettings(**{"optimiser": name, "particles": 8, "iterations": 12, "patience": 50, **changes})
        return make_optimiser(columns, columns, settings, seed, state)

    def run(
        self, search: Optimiser, value: Callable[[Row], float | None] | None = None, stop: int | None = None
    ) -> list[Rows]:
        """Runs a search to its end or for `stop` iterations; returns the requested rows, one array an iteration."""
        value = value or self.value
        requested: list[Rows] = []
        while search.finished is None and len(requested) != stop:
            requested.append(search.ask())
            search.tell([value(row) for row in requested[-1]])
        return requested

    def test_it_improves_on_every_expert(self, name: str) -> None:
        """The best row is the requested row with the highest value, and better than any expert."""
        search = self.make(name)
        requested = self.run(search)
        assert search.finished
        assert len(requested) <= 13
        best, value = search.best
        assert value == max(self.value(row) for rows in requested for row in rows) == self.value(best)
        assert value > max(self.value(row) for row in np.eye(4))

    def test_the_initial_experts_are_evaluated_first(self, name: str) -> None:
        """The first rows are the experts themselves."""
        np.testing.assert_array_equal(self.make(name).ask()[:4], np.eye(4))

    def test_a_seed_determines_the_search(self, name: str) -> None:
        """The same seed gives the same rows, another seed other rows."""
        one, same, other = (np.concatenate(self.run(self.make(name, seed))) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one, same)
        assert one.shape != other.shape or not np.array_equal(one, other)

    @pytest.mark.parametrize("stop", [0, 1, 5])
    def test_a_saved_search_continues_as_if_uninterrupted(self, name: str, stop: int) -> None:
        """The state is JSON, and a search made from it requests the same rows as the uninterrupted one."""
        uninterrupted = self.run(self.make(name))
        interrupted = self.make(name)
        self.run(interrupted, stop=stop)
        resumed = self.make(name, state=json.loads(json.dumps(interrupted.state.to_dict())))
        assert resumed.snapshot.iteration == interrupted.snapshot.iteration == stop - 1
        np.testing.assert_array_equal(np.concatenate(self.run(resumed)), np.concatenate(uninterrupted[stop:]))
        assert resumed.best[1] == max(self.value(row) for rows in uninterrupted for row in rows)

    def test_ask_without_tell_changes_nothing(self, name: str) -> None:
        """Asking twice returns the same rows."""
        search = self.make(name)
        for _ in range(3):
            np.testing.assert_array_equal(search.ask(), search.ask())
            assert len(search.asked) == len(search.ask())
            search.tell([self.value(row) for row in search.ask()])

    def test_a_missing_value_is_not_a_low_value(self, name: str) -> None:
        """None is accepted; without any value there is no best row."""
        search, rng = self.make(name), np.random.default_rng(0)
        self.run(search, lambda row: None if rng.uniform() < 0.3 else self.value(row) - 100)
        assert search.best[1] is not None
        search = self.make(name, iterations=3)
        self.run(search, lambda row: None)
        assert search.best[1] is None
        assert np.isnan(search.best[0]).all()

    def test_equal_values_end_the_search(self, name: str) -> None:
        """Without any improvement the search ends by `patience`; of equal rows the first is the best."""
        search = self.make(name, iterations=50, patience=3)
        assert len(self.run(search, lambda row: 0.5)) < 50
        assert search.finished
        np.testing.assert_array_equal(search.best[0], np.eye(4)[0])

    @pytest.mark.parametrize("particles", [1, 5])
    def test_one_expert_is_enough(self, name: str, particles: int) -> None:
        """A row of one coefficient can be searched."""
        search = self.make(name, columns=1, particles=particles)
        self.run(search, lambda row: 1.0 - abs(float(row[0]) - 1.3))
        assert search.finished
        assert search.best[1] is not None
        assert search.best[1] >= 0.7 - 1e-12, "at least the value of the expert itself"

    @pytest.mark.parametrize("values", [[1.0], [1.0] * 1000])
    def test_a_wrong_number_of_values_is_refused(self, name: str, values: Sequence[float]) -> None:
        """`tell` raises ValueError before `ask`, and for another number of values than rows."""
        search = self.make(name)
        with pytest.raises(ValueError):
            search.tell(values)
        search.ask()
        with pytest.raises(ValueError):
            search.tell(values)
