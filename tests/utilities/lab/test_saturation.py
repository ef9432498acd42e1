import numpy as np
import pytest
from tables import table

from utilities.lab.checks.saturation import saturation


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.5, "pass"), (0.75, "pass"), (0.76, "warn"), (0.9, "warn"), (0.91, "fail"), (1.0, "fail")]
)
def test_verdicts_by_the_share_at_the_ceiling(share, verdict):
    values = np.arange(100) >= round(100 * (1 - share))
    found = saturation(table(values))
    assert found.value == pytest.approx(share)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("common", "where"),
    [(10, "at its ceiling: harder"), (1, "at its floor: easier"), (8, "at one value in the middle")],
)
def test_where_it_is_saturated(common, where):
    found = saturation(table([1, 10] + [common] * 98))
    assert where in found.advice
    assert found.numbers["commonest"] == common
    assert found.numbers["distinct"] == (2 if common in (1, 10) else 3)


def test_unscored_answers_are_no_floor():
    values = np.concatenate([np.full(50, np.nan), np.arange(50)])
    found = saturation(table(values))
    assert found.value == pytest.approx(1 / 50)
    assert found.numbers["floor_share"] == found.numbers["ceiling_share"] == pytest.approx(1 / 50)
    assert saturation(table(np.full(50, np.nan))).verdict == "not applicable"
