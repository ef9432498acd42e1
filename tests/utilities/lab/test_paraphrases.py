import numpy as np
import pytest
from scipy import stats
from tables import table

from utilities.lab.checks.paraphrases import paraphrases, rank_agreement

RNG = np.random.default_rng(0)
BASE = np.linspace(0, 1, 8)[:, None] + RNG.normal(0, 0.3, (8, 100))


def test_the_mean_of_all_pairs_of_wordings():
    variants = {name: table(BASE + RNG.normal(0, 0.5, BASE.shape)) for name in "abc"}
    found = paraphrases(variants)
    a, b, c = (one.means for one in variants.values())
    taus = [stats.kendalltau(*pair).statistic for pair in ((a, b), (a, c), (b, c))]
    assert found.value == pytest.approx(np.mean(taus))
    assert found.low < found.value <= found.high <= 1
    assert found.numbers["wordings"] == 3


def test_a_shift_that_is_the_same_for_all_changes_no_rank_and_is_told():
    found = paraphrases({"a": table(BASE), "b": table(BASE + 0.4)})
    assert (found.value, found.verdict, found.numbers["flips"]) == (pytest.approx(1), "pass", 0)
    assert found.numbers["largest_shift"] == pytest.approx(0.4)


def test_ranks_turned_round():
    found = paraphrases({"a": table(BASE), "b": table(-BASE)})
    assert (found.value, found.verdict) == (pytest.approx(-1), "fail")


def test_a_model_without_scores_is_left_out():
    broken = BASE.copy()
    broken[0] = np.nan
    found = rank_agreement([BASE, broken], tuple(map(str, range(100))), 0)
    assert found.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"a": table(BASE)}, "only one wording"),
        ({"a": table(BASE), "b": table(BASE[:4])}, "other models"),
        ({"a": table(BASE[:2]), "b": table(BASE[:2])}, "at least 3 are needed"),
        ({"a": table(BASE), "b": table(np.ones_like(BASE))}, "no ranks"),
    ],
)
def test_what_cannot_be_compared_is_said(variants, told):
    found = paraphrases(variants)
    assert found.verdict == "not applicable"
    assert told in found.advice
