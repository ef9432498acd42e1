"""The constants of the paper and of its reference code, and what is refused."""

import pytest
from pydantic import ValidationError

from harness.swarm.settings import VARIANTS, SwarmSettings

SHARED = {"particles": 20, "patience": 10, "restart_patience": 5, "step_decay": 0.95}
PAPER = {
    **SHARED,
    "iterations": 50,
    "inertia": 0.2,
    "cognitive": 0.3,
    "social": 0.4,
    "repel": 0.05,
    "step_length": 0.5,
    "step_floor": 0.0,
    "crossover_max": 1.0,
    "restart_reset": True,
}
REFERENCE = {
    **SHARED,
    "iterations": 200,
    "inertia": 0.4,
    "cognitive": 0.3,
    "social": 0.3,
    "repel": 0.3,
    "step_length": 1.0,
    "step_floor": 0.1,
    "crossover_max": 2.0,
    "restart_reset": False,
}
OFF = {"drop_iteration": 0.0, "drop_particle": 0.0, "initial_velocity": "random", "random_factors": True}
OURS = {"optimiser", "winner", "top_k", "shrinkage"}


@pytest.mark.parametrize(("variant", "expected"), [("paper", PAPER), ("reference", REFERENCE)])
def test_a_variant_has_the_published_constants(variant, expected):
    assert SwarmSettings(**VARIANTS[variant]).model_dump(exclude=OURS) == {**expected, **OFF}


@pytest.mark.parametrize("name", ["inertia", "cognitive", "social", "repel", "step_floor"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_weights_are_finite_and_not_negative(name, value):
    with pytest.raises(ValidationError, match=name):
        SwarmSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("particles", 0),
        ("iterations", -1),
        ("patience", 0),
        ("restart_patience", 0),
        ("step_length", 0.0),
        ("step_length", float("inf")),
        ("step_decay", 0.0),
        ("step_decay", 1.1),
        ("crossover_max", 0.0),
        ("crossover_max", float("inf")),
        ("drop_iteration", -0.1),
        ("drop_iteration", 1.0),
        ("drop_particle", 1.0),
        ("initial_velocity", "fast"),
        ("particels", 20),
    ],
)
def test_what_makes_no_search_is_refused_by_name(name, value):
    with pytest.raises(ValidationError, match=name):
        SwarmSettings(**{name: value})


def test_every_hyperparameter_explains_itself():
    assert all(field.description for field in SwarmSettings.model_fields.values())


def test_settings_cannot_change_during_a_run():
    with pytest.raises(ValidationError):
        SwarmSettings().particles = 3
