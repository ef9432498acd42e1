import numpy as np
import pytest
from tables import table

from utilities.lab.checks.power import items_for, items_needed, separation, signal_to_noise


def pool(rng, signal, noise, models=10, items=200, shared=1.0):
    """Experts whose true values have the standard deviation `signal`, on items that are harder for all by `shared`."""
    true = rng.normal(0, signal, (models, 1))
    return true + rng.normal(0, shared, items) + rng.normal(0, noise, (models, items))


@pytest.mark.parametrize(("points", "per_cluster"), [(0.05, 1), (0.1, 1), (0.1, 4)])
def test_so_many_items_show_the_difference_in_four_of_five_simulations(points, per_cluster):
    # Accuracies of two experts that agree on most items, in clusters that succeed and fail together.
    rng = np.random.default_rng(0)

    def two(items, gap):
        groups = items // per_cluster
        easy = np.repeat(rng.random(groups), per_cluster)
        own = np.repeat(rng.random((2, groups)) < 0.3, per_cluster, axis=1)
        draw = np.where(own, np.repeat(rng.random((2, groups)), per_cluster, axis=1), easy)
        return (draw < np.array([[0.5 + gap], [0.5]])).astype(float)

    needed = items_needed(table(two(40_000, points), per_cluster), points)
    items = int(needed.value) // per_cluster * per_cluster
    seen = 0
    for _ in range(400):
        apart = np.subtract(*two(items, points)).reshape(-1, per_cluster).mean(1)
        seen += apart.mean() / (apart.std(ddof=1) / np.sqrt(apart.size)) > 1.96
    assert 0.74 <= seen / 400 <= 0.86
    assert needed.numbers["points"] == points


def test_clusters_make_more_items_necessary():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=(4, 100)), 5, axis=1)
    alone, together = items_needed(table(values), 0.1), items_needed(table(values, 5), 0.1)
    assert together.value == pytest.approx(5 * alone.value, rel=0.05)


def test_items_needed_against_those_at_hand():
    rng = np.random.default_rng(2)
    values = pool(rng, 0.3, 0.5)
    much, little = items_needed(table(values), 1.0), items_needed(table(values), 0.01)
    assert (much.verdict, little.verdict) == ("pass", "warn")
    assert much.value == items_for(1.0, much.numbers["paired_sd"])
    # what the items at hand can show needs as many items as are at hand
    assert items_for(little.numbers["visible"] * 1.0001, little.numbers["paired_sd"]) == 200
    assert items_needed(table(values)).numbers["points"] == pytest.approx(0.05 * np.ptp(values))
    with pytest.raises(ValueError, match="above 0"):
        items_needed(table(values), 0.0)


def test_four_times_the_items_for_half_the_difference():
    assert items_for(0.05, 0.5) == pytest.approx(4 * items_for(0.1, 0.5), rel=0.01)
    assert items_for(0.1, 0.5) == 197  # (1.96 + 0.8416)² x 25 = 196.2


def test_equal_experts_are_told_apart_one_time_in_twenty():
    rng = np.random.default_rng(3)
    shares = [separation(table(pool(rng, 0, 1, models=4))).value for _ in range(150)]
    assert 0.03 < np.mean(shares) < 0.08


def test_what_items_share_does_not_hide_a_difference():
    rng = np.random.default_rng(4)
    found = separation(table(pool(rng, 0.3, 0.3, shared=5.0)))
    assert found.verdict == "pass"
    assert found.value > 0.8
    assert found.numbers["non_overlapping"] == 0  # each model's own interval is as wide as the items differ


def test_an_expert_without_a_score_hides_nobody_else():
    rng = np.random.default_rng(5)
    values = pool(rng, 1, 0.5)
    values[3] = np.nan
    assert separation(table(values)).numbers["pairs"] == 36
    assert signal_to_noise(table(values)).verdict == "pass"


def test_signal_to_noise_finds_the_true_ratio_and_its_interval_holds_it():
    rng, truth, held, found = np.random.default_rng(6), 2.0, 0, []
    noise = 1.0
    for _ in range(100):
        one = signal_to_noise(table(pool(rng, truth * noise / np.sqrt(200), noise)))
        found.append(one.value)
        held += one.low <= truth <= one.high
    assert np.median(found) == pytest.approx(truth, rel=0.1)
    assert 90 <= held <= 99


def test_signal_to_noise_of_noise_is_not_decided_or_a_failure_and_never_passes():
    rng = np.random.default_rng(7)
    verdicts = [signal_to_noise(table(pool(rng, 0, 1))).verdict for _ in range(60)]
    assert "pass" not in verdicts and verdicts.count("fail") < 6  # more items or other experts may show a difference


@pytest.mark.parametrize("check", [separation, signal_to_noise, items_needed])
@pytest.mark.parametrize(
    ("values", "per_cluster", "told"),
    [
        (np.ones((1, 50)), 1, "at least 2 are needed"),
        (np.ones((3, 19)), 1, "19 items"),
        (np.full((3, 50), np.nan), 1, "no answer was scored"),
        (np.eye(3, 50), 50, "one cluster"),
    ],
)
def test_what_cannot_be_known_is_said(check, values, per_cluster, told):
    found = check(table(values, per_cluster))
    assert found.verdict == "not applicable"
    assert told in found.advice


def test_without_any_noise_there_is_no_ratio():
    found = signal_to_noise(table(np.arange(3.0)[:, None] + np.arange(40.0)))
    assert (found.verdict, found.value) == ("not applicable", None)
    assert "by the same on every item" in found.advice
    assert items_needed(table(np.ones((3, 40)))).verdict == "not applicable"
