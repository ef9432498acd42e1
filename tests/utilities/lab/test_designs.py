import numpy as np
import pytest
from scipy import stats
from tables import table

from utilities.core import Usage
from utilities.lab.designs import Designs, compare_designs
from utilities.lab.material import SearchPlan

RNG = np.random.default_rng(0)
TRUE = np.linspace(0, 1, 8)[:, None]


def test_utilities_side_by_side():
    coarse = table((RNG.random((8, 150)) < 0.2 + 0.6 * TRUE).astype(float), usage=Usage(1200, 4.0))
    smooth = table(TRUE + RNG.normal(0, 0.1, (8, 150)))
    noise = table(RNG.random((8, 150)))
    found = compare_designs({"accuracy": coarse, "smooth": smooth, "noise": noise}, {"accuracy": SearchPlan(100)})
    accuracy, finer, coin = found.designs
    assert finer.best == "m7"
    assert finer.separation > accuracy.separation > coin.separation
    assert finer.signal_to_noise > accuracy.signal_to_noise > coin.signal_to_noise
    assert finer.items_needed < accuracy.items_needed
    assert accuracy.values["m3"] == pytest.approx(coarse.means[3])
    assert accuracy.cost["search_seconds"] == pytest.approx(50)
    assert finer.cost == {}
    assert [(one.first, one.second) for one in found.agreements] == [
        ("accuracy", "smooth"),
        ("accuracy", "noise"),
        ("smooth", "noise"),
    ]
    near, far, _ = found.agreements
    assert near.tau == pytest.approx(stats.kendalltau(coarse.means, smooth.means).statistic)
    assert near.low < near.tau <= near.high <= 1
    assert near.low > far.tau
    assert Designs.model_validate_json(found.model_dump_json()) == found


def test_models_and_items_are_matched_by_name():
    scores = table(TRUE + RNG.normal(0, 0.1, (8, 150)))
    turned = table(scores.values[::-1], models=scores.models[::-1]).take(np.arange(149, 49, -1))
    assert compare_designs({"a": scores, "b": turned}).agreements[0].tau == pytest.approx(
        stats.kendalltau(scores.take(np.arange(50, 150)).means, turned.means[::-1]).statistic
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (table(np.ones((8, 150))), "the same value"),
        (table(np.ones((8, 150)), prefix="other"), "different items"),
        (table(np.ones((2, 150))), "2 experts were scored by both"),
    ],
)
def test_why_there_is_no_agreement_is_said(other, told):
    found = compare_designs({"a": table(TRUE + RNG.normal(0, 0.1, (8, 150))), "b": other})
    assert found.agreements[0].tau is None
    assert told in found.agreements[0].note


def test_a_utility_that_scored_nothing_has_no_best():
    (found,) = compare_designs({"a": table(np.full((3, 30), np.nan))}).designs
    assert (found.best, found.values["m0"], found.separation) == (None, None, None)
