import numpy as np
import pytest
from tables import table

from utilities.lab.checks.failures import failures, timeouts

NAN = np.nan


def missing(*counts, **reasons):
    """Models that have no score on so many of 100 items."""
    return table([[NAN] * count + [1.0] * (100 - count) for count in counts], reasons=reasons)


@pytest.mark.parametrize(
    ("counts", "verdict"), [((0, 0), "pass"), ((2, 0), "pass"), ((3, 0), "warn"), ((10, 10), "warn"), ((0, 11), "fail")]
)
def test_the_worst_model_decides(counts, verdict):
    found = failures(missing(*counts))
    assert found.verdict == verdict
    assert found.value == pytest.approx(sum(counts) / 200)
    assert found.numbers["worst_model"] == max(counts) / 100


def test_the_reasons_are_told_the_commonest_first():
    found = failures(missing(0, 15, malformed=4, out_of_range=11))
    assert "m1 has no score on 15% of its answers (out_of_range 11, malformed 4)" in found.advice
    assert (found.numbers["out_of_range"], found.numbers["malformed"]) == (11, 4)


def test_time_is_looked_at_apart():
    assert timeouts(missing(50, malformed=50)).verdict == "pass"
    few, many = timeouts(missing(50, time=3, malformed=47)), timeouts(missing(50, time=11, malformed=39))
    assert (few.verdict, few.value, few.numbers) == ("warn", 0.03, {"answers": 3})
    assert many.verdict == "fail"


def test_no_answers_at_all():
    nothing = table(np.zeros((0, 0)))
    assert failures(nothing).verdict == timeouts(nothing).verdict == "not applicable"
