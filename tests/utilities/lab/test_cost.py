import numpy as np
import pytest
from tables import table

from utilities.core import Usage
from utilities.judges.budget import Spent
from utilities.lab.checks.cost import cost
from utilities.lab.material import SearchPlan

SCORES = table(np.ones((4, 50)), usage=Usage(requests=200, seconds=8.0), tokens=4000)
SPENT = Spent(requests=400, prompt_tokens=36_000, completion_tokens=4000, usd=0.2)


def test_one_evaluation_times_the_search():
    found = cost(SCORES, SearchPlan(evaluations=100, wall_seconds=20.0, judges=SPENT))
    assert found.value == 500
    assert found.numbers == {
        "evaluation_requests": 50,
        "evaluation_answer_tokens": 1000,
        "evaluation_judge_requests": 100,
        "evaluation_judge_tokens": 10_000,
        "evaluation_usd": pytest.approx(0.05),
        "evaluation_seconds": 5,
        "search_requests": 5000,
        "search_answer_tokens": 100_000,
        "search_judge_requests": 10_000,
        "search_judge_tokens": 1_000_000,
        "search_usd": pytest.approx(5),
        "search_seconds": 500,
        "evaluations": 100,
    }
    assert found.verdict == "pass"
    assert "no limit is set" in found.advice


def test_without_a_clock_the_seconds_of_scoring_count():
    assert cost(SCORES, SearchPlan(evaluations=10)).value == 20


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"usd_limit": 4}, "5 of 4 usd"),
        ({"tokens_limit": 900_000}, "1e+06 of 900,000 judge tokens"),
    ],
)
def test_past_a_limit(limits, told):
    found = cost(SCORES, SearchPlan(evaluations=100, judges=SPENT, **limits))
    assert found.verdict == "fail"
    assert told in found.advice


def test_within_the_limits():
    plan = SearchPlan(evaluations=100, judges=SPENT, usd_limit=6, tokens_limit=2_000_000)
    assert cost(SCORES, plan).verdict == "pass"


def test_an_unknown_price_is_not_nothing():
    found = cost(SCORES, SearchPlan(evaluations=100, judges=Spent(requests=1, usd=None), usd_limit=6))
    assert found.verdict == "warn"
    assert found.numbers["search_usd"] is None


def test_nothing_evaluated():
    assert cost(table(np.zeros((0, 5))), SearchPlan(evaluations=10)).verdict == "not applicable"
