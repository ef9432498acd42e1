"""Conformance suites: pytest classes that check a scorer, an engine or an optimiser of your own.

Subclass one in a test file and override its fixtures; each class's docstring has a complete example. pytest must be
installed (`pip install pytest`).
"""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from harness.testing.engine import EngineConformance
    from harness.testing.optimiser import OptimiserConformance
    from harness.testing.scorer import ScorerConformance

__all__ = ["EngineConformance", "OptimiserConformance", "ScorerConformance"]

__getattr__ = lazy(__name__)
