import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tables import table

from utilities.lab.checks.ladder import auroc, ladder

RUNGS = ("gold", "light", "heavy", "empty")


def rungs(values):
    return table(values, models=RUNGS[: len(values)])


def test_auroc_is_that_of_scikit_learn_and_leaves_nan_out():
    rng = np.random.default_rng(0)
    better, worse = rng.integers(0, 5, 80).astype(float), rng.integers(0, 4, 70).astype(float)
    expected = roc_auc_score([1] * 80 + [0] * 70, np.concatenate([better, worse]))
    assert auroc(better, worse) == pytest.approx(expected)
    assert auroc(np.append(better, np.nan), np.append(worse, np.nan)) == pytest.approx(expected)
    assert np.isnan(auroc(better, np.array([np.nan])))


def test_the_lowest_step_is_the_value():
    rng = np.random.default_rng(1)
    levels = np.array([[3.0], [2.0], [1.8], [0.0]]) + rng.normal(0, 0.3, (4, 100))
    found = ladder(rungs(levels))
    assert found.value == found.numbers["light > heavy"] == pytest.approx(auroc(levels[1], levels[2]))
    assert found.low < found.value < found.high
    assert found.verdict == "pass"
    assert "light > heavy" in found.yardstick


def test_how_easy_an_item_is_hides_in_auroc_and_not_in_the_same_item():
    rng = np.random.default_rng(2)
    easy = rng.normal(0, 10, 200)
    found = ladder(rungs([easy + 1, easy]))
    assert found.value < 0.6
    assert found.numbers["gold > light, same item"] == 1


def test_a_reversed_step_fails_and_is_named():
    rng = np.random.default_rng(3)
    levels = np.array([[3.0], [1.0], [2.0], [0.0]]) + rng.normal(0, 0.3, (4, 100))
    found = ladder(rungs(levels))
    assert found.verdict == "fail"
    assert "reversed (light > heavy)" in found.advice


def test_right_and_wrong_without_degrees_is_a_warning():
    found = ladder(rungs([[1.0] * 50, [0.0] * 50, [0.0] * 50, [0.0] * 50]))
    assert found.verdict == "warn"
    assert "light > heavy, heavy > empty" in found.advice


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.ones((1, 50)), "no gold answers"),
        (np.ones((3, 10)), "10 items"),
        (np.stack([np.ones(50), np.full(50, np.nan)]), "one model with a score"),
        (np.stack([np.ones(50), np.ones(50), np.full(50, np.nan)]), "0 items with a score of every model"),
    ],
)
def test_a_ladder_without_rungs_is_said(values, told):
    found = ladder(rungs(values))
    assert found.verdict == "not applicable"
    assert told in found.advice
