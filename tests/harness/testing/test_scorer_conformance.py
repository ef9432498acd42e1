"""The conformance suite of scorers on every registered one that needs neither a judge nor a model of its own."""

import pytest

from harness.testing import ScorerConformance
from utilities.core import Item, scorer_registry
from utilities.rewards.reward import Reward
from utilities.scorers import ExactMatch, utility

CHOICES = [
    Item(id=str(k), question=f"Which is {name}?", choices={"A": name, "B": "grey", "C": "none"}, answer="AB"[k % 2])
    for k, name in enumerate(["red", "blue", "green", "black"])
]
SUMS = [Item(id=str(k), question=f"What is {k} + 1?", answer=str(k + 1)) for k in range(4)]
YES_NO = [Item(id=str(k), question=f"Is {k} even?", answer="no" if k % 2 else "yes") for k in range(4)]
NUMBERS, LETTERS = ["1", "It is 2.", "7"], ["A", "The answer is B.", "none of them"]
CASES = {
    "abstain": (CHOICES, LETTERS, {}),
    "conversation": (SUMS, ["calculate: 1 + 1", "answer: 1", "well"], {"environment": "calculator", "turns": 2}),
    "exact_match": (SUMS, NUMBERS, {}),
    "gold_logprob": (CHOICES, LETTERS, {}),
    "legacy_letter": (CHOICES, LETTERS, {}),
    "legacy_number": (SUMS, NUMBERS, {}),
    "multiple_choice": (CHOICES, LETTERS, {}),
    "multiple_choice_generated": (CHOICES, LETTERS, {}),
    "numeric": (SUMS, NUMBERS, {}),
    "regex": (SUMS, NUMBERS, {"pattern": r"\d+"}),
    "reward": (SUMS, ["It is 1, as 0 and 1 make 1.", "2", "I do not know."], {"model": "embedded"}),
    "token_f1": (SUMS, NUMBERS, {}),
    "yes_no": (YES_NO, ["yes", "No, it is not.", "maybe"], {}),
}
OTHERS = {"factuality", "pairwise", "topic_interest", "toxicity"}  # need a judge or a classifier


@pytest.mark.parametrize("name", CASES)
class TestScorer(ScorerConformance):
    @pytest.fixture
    def scorer(self, name):
        return scorer_registry.get(name)(**CASES[name][2])

    @pytest.fixture
    def items(self, name):
        return CASES[name][0]

    @pytest.fixture
    def texts(self, name):
        return CASES[name][1]


class TestExactMatch(ScorerConformance):
    """The example of the suite's docstring."""

    @pytest.fixture
    def scorer(self):
        return ExactMatch()

    @pytest.fixture
    def items(self):
        return [Item(id=str(k), question=f"What is {k} + 1?", answer=str(k + 1)) for k in range(4)]

    @pytest.fixture
    def texts(self):
        return ["1", "It is 2.", "7"]


@utility(max_tokens=20)
def short(item, response):
    return 1.0 - min(1.0, len(response.text) / 100)


class TestFunction(TestExactMatch):
    @pytest.fixture
    def scorer(self):
        return short.scorer()


def test_every_registered_scorer_has_a_case():
    assert set(CASES) | OTHERS == set(scorer_registry)
    assert scorer_registry.get("reward") is Reward


def test_a_scorer_that_breaks_the_contract_fails_the_suite():
    class Careless(ExactMatch):
        async def score(self, items, responses):
            return (await super().score(items, responses))[::-1]

    suite = ScorerConformance()
    with pytest.raises(AssertionError):
        suite.test_stored_responses_score_as_they_did_first(Careless(), SUMS[:3], NUMBERS)
