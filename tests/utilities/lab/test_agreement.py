import krippendorff
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from utilities.lab.checks import agreement as module
from utilities.lab.checks.agreement import AGREEMENT, agreement, as_labels, human_human
from utilities.lab.labels import Label, Labels


@pytest.fixture(autouse=True)
def rough_intervals(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 100)


def labels_of(table, names=("ann", "bob", "cem")):
    """Of raters [raters, answers] with nan where one is missing; every answer is one to an item of its own."""
    rows = [
        Label(f"i{k}", "r", names[r], float(value))
        for r, row in enumerate(np.atleast_2d(table))
        for k, value in enumerate(row)
        if not np.isnan(value)
    ]
    return Labels(tuple(rows), "mine.csv")


def scored_of(values):
    return {(f"i{k}", "r"): float(value) for k, value in enumerate(values)}


def by_check(found):
    return {one.check: one for one in found}


def test_the_statistics_are_those_of_the_packages():
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 6, 150)
    label = np.clip(truth + rng.integers(-1, 2, 150), 1, 5).astype(float)
    score = np.clip(truth + rng.integers(-1, 2, 150), 1, 5).astype(float)
    found = by_check(agreement(labels_of(label), scored_of(score)))
    alpha = krippendorff.alpha(np.stack([score, label]), level_of_measurement="ordinal")
    assert found["kappa"].value == pytest.approx(cohen_kappa_score(score, label))
    assert found["quadratic_kappa"].value == pytest.approx(cohen_kappa_score(score, label, weights="quadratic"))
    assert found["spearman"].value == pytest.approx(stats.spearmanr(score, label).statistic)
    assert found["kendall"].value == pytest.approx(stats.kendalltau(score, label).statistic)
    assert found["krippendorff"].value == pytest.approx(alpha)
    assert found["same_label"].value == pytest.approx(np.mean(score == label))
    assert all(found[check].low < found[check].value < found[check].high for check in AGREEMENT)


def test_several_raters_with_missing_labels_count_pair_by_pair():
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 6, 120).astype(float)
    table = np.clip(truth + rng.integers(-1, 2, (3, 120)), 1, 5)
    table[rng.random((3, 120)) < 0.3] = np.nan
    found = by_check(agreement(labels_of(table), scored_of(truth)))
    known = ~np.isnan(table)
    paired = np.broadcast_to(truth, table.shape)[known], table[known]
    assert found["spearman"].value == pytest.approx(stats.spearmanr(*paired).statistic)
    assert found["human_human"].value == pytest.approx(
        krippendorff.alpha(table[:, known.any(0)], level_of_measurement="ordinal")
    )
    assert found["spearman"].numbers["pairs"] == known.sum()
    assert found["kappa"].value > found["kappa"].numbers["human_human"] > 0  # the truth beats another rater
    assert "one rater for another" in found["kappa"].yardstick
    assert found["kappa"].verdict == "pass"


def test_a_clustered_interval_is_wider():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 200).astype(float)
    hit = np.repeat(rng.random(20) < 0.75, 10)  # right or wrong on all answers of a passage
    score = np.where(hit, label, 1 - label)
    passages = {f"i{k}": f"p{k // 10}" for k in range(200)}
    apart = by_check(agreement(labels_of(label), scored_of(score)))["kappa"]
    shared = by_check(agreement(labels_of(label), scored_of(score), passages))["kappa"]
    assert shared.value == apart.value
    assert shared.high - shared.low > 2 * (apart.high - apart.low)


def test_a_score_on_another_scale_becomes_labels_by_its_ranks():
    labels = np.array([1.0, 1, 1, 2, 2, 3, 3, 3, 3, 3])
    scores = np.array([-9.0, -8, -7, -2, -1, 0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_array_equal(as_labels(scores, labels), labels)
    np.testing.assert_array_equal(as_labels(np.full(10, 0.3), labels), np.full(10, 2.0))  # one score, one label
    known = np.array([3.0, 3, 3, 1, 1, 2, 2, 2, 2, 2])
    assert as_labels(known, labels) is known


def test_what_raters_cannot_do_is_not_asked_of_a_utility():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=400)
    said = [np.digitize(truth + rng.normal(0, 1.3, 400), [-1, 0, 1]) for _ in range(3)]
    found = by_check(agreement(labels_of(np.array(said, dtype=float)), scored_of(truth)))
    assert found["kappa"].value < AGREEMENT["kappa"].good
    assert found["kappa"].verdict == "pass"
    alone = by_check(agreement(labels_of(np.array(said[0], dtype=float)), scored_of(truth)))
    assert alone["kappa"].verdict == "warn"


def test_many_different_labels_are_no_classes():
    label = np.arange(60.0)
    found = by_check(agreement(labels_of(label), scored_of(label)))
    assert {check: one.verdict for check, one in found.items()} == {
        **dict.fromkeys(["same_label", "kappa", "quadratic_kappa", "krippendorff", "human_human"], "not applicable"),
        "spearman": "pass",
        "kendall": "pass",
    }
    assert found["kappa"].advice == "the labels have 60 different values and are not classes"


def test_two_classes_have_no_quadratic_kappa():
    label = np.tile([0.0, 1.0], 30)
    found = by_check(agreement(labels_of(label), scored_of(label)))
    assert found["quadratic_kappa"].verdict == "not applicable"
    assert found["kappa"].value == 1


# Bad input


def test_labels_that_match_no_item():
    found = agreement(labels_of(np.arange(30.0) % 3), {("other", "r"): 1.0})
    told = "none of the 30 labelled answers has a score; mine.csv names items such as 'i0'"
    assert {one.advice for one in found if one.check in AGREEMENT} == {told}
    assert {one.verdict for one in found} == {"not applicable"}


def test_a_single_rater_is_said_and_the_rest_goes_on():
    label = np.arange(60.0) % 3
    found = by_check(agreement(labels_of(label), scored_of(label)))
    assert found["human_human"].verdict == "not applicable"
    assert "a single rater" in found["human_human"].advice
    assert found["kappa"].verdict == "pass"
    assert found["kappa"].numbers["human_human"] is None


def test_one_class_only():
    found = agreement(labels_of(np.ones((2, 40))), scored_of(np.arange(40)))
    assert {one.verdict for one in found} == {"not applicable"}
    assert "all labels of scored answers are 1" in found[0].advice
    assert "all labels are the same" in found[-1].advice


def test_fewer_than_20_items():
    found = agreement(labels_of(np.arange(38.0).reshape(2, 19) % 3), scored_of(np.arange(19)))
    assert {one.verdict for one in found} == {"not applicable"}
    assert "19 labelled items have a score" in found[0].advice
    assert "19 answers have labels by several raters" in found[-1].advice


def test_unscored_answers_are_left_out_and_counted():
    label = np.arange(60.0) % 3
    score = label.copy()
    score[:25] = np.nan
    found = by_check(agreement(labels_of(label), scored_of(score)))
    assert found["kappa"].value == 1
    assert (found["kappa"].numbers["answers"], found["kappa"].numbers["labelled"]) == (35, 60)


def test_a_utility_that_says_the_same_of_every_answer_is_a_constant():
    label = np.arange(60.0) % 3
    found = by_check(agreement(labels_of(label), scored_of(np.full(60, 0.7))))
    assert {found[check].verdict for check in AGREEMENT} == {"fail"}
    assert found["spearman"].value == 0


def test_raters_of_a_crowd_who_never_met_have_no_agreement():
    labels = Labels(tuple(Label(f"i{k}", "r", f"rater{k}", float(k % 3)) for k in range(60)))
    found = human_human(labels)
    assert found.verdict == "not applicable"
    assert "0 answers have labels by several raters" in found.advice
