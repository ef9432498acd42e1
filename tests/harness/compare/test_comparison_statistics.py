"""Known answers: simulated evaluations whose truth is known, and published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.result import ALL_TASKS, Outcome
from harness.compare.statistics import critical_difference, detectable, holm, planned, ranking, summary, versus
from harness.run_folder.result import Measured
from utilities.combine import combine_evaluations, harmonic_mean, mean
from utilities.core import Evaluation, ItemResult, Reason, Score, Unscored


def evaluation(values):
    outcomes = [Unscored(Reason.MALFORMED) if v is None else Score(float(v)) for v in values]
    return Evaluation.of([ItemResult(f"i{k}", f"i{k}", "", "", o) for k, o in enumerate(outcomes)])


class World:
    """A task whose items differ in difficulty; methods differ in skill, their seeds by `spread`, all by noise."""

    def __init__(self, seed, n=120):
        self.rng = np.random.default_rng(seed)
        self.difficulty = self.rng.normal(0, 1.2, n)

    def values(self, skill=0.0, spread=0.0):
        noise = self.rng.normal(0, 0.4, self.difficulty.size)
        return (0.4 + self.difficulty + skill + self.rng.normal(0, spread) + noise > 0).astype(float)

    def runs(self, seeds=1, skill=0.0, spread=0.05):
        return [evaluation(self.values(skill, spread if seeds > 1 else 0)) for _ in range(seeds)]


def only(found, **fields):
    (one,) = [v for v in found if all(getattr(v, name) == value for name, value in fields.items())]
    return one


def test_of_methods_that_do_not_differ_19_intervals_in_20_hold_zero_and_families_seldom_find_anything():
    inside, wrong, simulations = [], 0, 20
    for k in range(simulations):
        world = World(k, n=80)
        runs = {(f"m{j}", "t"): world.runs(3 if j > 2 else 1) for j in range(6)}
        found = [v for v in versus(runs, {"t": mean}, {}, ["m0"], seed=k) if v.reference == "m0"]
        assert len(found) == 5
        inside += [v.low <= 0 <= v.high for v in found]
        wrong += any(v.verdict != "tie" for v in found)
    assert 0.91 <= np.mean(inside) <= 0.99
    assert wrong <= 0.1 * simulations


@pytest.mark.parametrize(("skill", "verdict"), [(0.8, "better"), (-0.8, "worse")])
@pytest.mark.parametrize(("seeds", "of_reference"), [(3, 1), (1, 3), (1, 1), (3, 2)])
def test_a_difference_that_is_there_is_found_with_its_sign_and_size(skill, verdict, seeds, of_reference):
    world = World(1, n=300)
    runs = {("swarm", "t"): world.runs(seeds, skill), ("base", "t"): world.runs(of_reference)}
    found = only(versus(runs, {"t": mean}, {}, ["base"]), reference="base")
    truth = np.mean([e.value for e in runs["swarm", "t"]]) - np.mean([e.value for e in runs["base", "t"]])
    assert (found.method, found.task, found.verdict) == ("swarm", "t", verdict)
    assert found.difference == pytest.approx(truth)
    assert found.low < found.difference < found.high and abs(truth) > 0.1
    assert found.p < 0.01


def test_every_method_meets_every_reference_and_the_best_of_the_task_once():
    world = World(2)
    skills = {"base": 0, "best_single": 0.2, "ties": 1.5, "swarm": 0.5}
    runs = {(name, "t"): world.runs(2, skill) for name, skill in skills.items()}
    found = versus(runs, {"t": mean}, {})
    assert len({(v.method, v.reference) for v in found}) == len(found)
    by_reference = {r: {v.method for v in found if v.reference == r} for r in ("best_single", "base", "swarm", "ties")}
    assert by_reference == {r: set(skills) - {r} for r in by_reference}
    assert {v.reference for v in found} == set(by_reference)  # uniform_soup was not measured


def test_the_two_directions_of_a_pair_agree():
    world = World(3)
    runs = {("base", "t"): world.runs(1), ("swarm", "t"): world.runs(3, 0.6)}
    found = versus(runs, {"t": mean}, {}, ["base", "swarm"])
    there, back = only(found, reference="base"), only(found, reference="swarm")
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.02)


def test_a_difference_within_the_noise_floor_is_a_tie_however_sure_it_is():
    world = World(4)
    values = world.rng.random(100)
    runs = {("base", "t"): [evaluation(values)], ("soup", "t"): [evaluation(values + 0.01)]}
    sure = only(versus(runs, {"t": mean}, {"t": 0.005}, ["base"]), reference="base")
    tie = only(versus(runs, {"t": mean}, {"t": 0.02}, ["base"]), reference="base")
    assert (sure.verdict, tie.verdict) == ("better", "tie")
    assert tie.low > 0


def test_many_comparisons_make_a_tie_of_what_one_alone_would_find():
    world = World(5)
    base, some = world.rng.random(100), world.rng.normal(0, 0.2, 100)
    some += 0.2 * 2.3 / 10 - some.mean()  # 2.3 standard errors: p is 0.02
    pair = {("base", "t"): [evaluation(base)], ("one", "t"): [evaluation(base + some)]}
    crowd = {(f"m{k}", "t"): [evaluation(base + world.rng.normal(0, 0.2, 100))] for k in range(8)}
    alone = only(versus(pair, {"t": mean}, {}, ["base"]), method="one", reference="base")
    among = only(versus(pair | crowd, {"t": mean}, {}, ["base"]), method="one", reference="base")
    assert alone.verdict == "better" and among.verdict == "tie"
    assert among.low > 0 and among.p == alone.p < 0.05 <= among.p_holm


def test_items_that_a_method_could_not_score_leave_the_pair_and_not_the_method():
    world = World(6)
    base, better = world.rng.random(100), world.rng.random(100)
    shown = [None if k < 5 else float(v) for k, v in enumerate(better)]
    runs = {("base", "t"): [evaluation(base)], ("vote", "t"): [evaluation(shown)]}
    found = only(versus(runs, {"t": mean}, {}, ["base"]), reference="base")
    assert found.difference == pytest.approx(np.mean(better[5:] - base[5:]))


def test_a_seed_that_is_not_comparable_is_left_out_and_a_method_without_any_has_no_comparison():
    world = World(7)
    broken = evaluation([None] * 60 + [1.0] * 60)
    assert broken.problem
    good, base = world.runs(2), world.runs()
    runs = {("base", "t"): base, ("swarm", "t"): [*good, broken], ("vote", "t"): [broken]}
    found = versus(runs, {"t": mean}, {}, ["base"])
    assert {v.method for v in found if v.reference == "base"} == {"swarm"}
    expected = np.mean([e.value for e in good]) - base[0].value
    assert only(found, method="swarm", reference="base").difference == pytest.approx(expected)


def test_evaluations_of_other_items_are_refused():
    runs = {("base", "t"): World(8, n=50).runs(), ("swarm", "t"): World(8, n=60).runs()}
    with pytest.raises(ValueError, match="cannot be paired"):
        versus(runs, {"t": mean}, {})


def test_tasks_may_have_other_combinations_and_other_numbers_of_items():
    sides = {}
    worlds = {name: World(9 + k, n) for k, (name, n) in enumerate({"x": 150, "y": 90, "single": 200}.items())}
    for method, skill in {"base": 0.0, "swarm": 0.9}.items():
        parts = [{name: worlds[name].runs(1, skill)[0] for name in "xy"} for _ in range(3 if method == "swarm" else 1)]
        sides[method, "domain"] = [combine_evaluations(part, harmonic_mean) for part in parts]
        sides[method, "plain"] = worlds["single"].runs(1, skill)
    found = versus(sides, {"domain": harmonic_mean, "plain": mean}, {}, ["base"])
    by_task = {v.task: v for v in found if v.reference == "base"}
    assert {v.verdict for v in by_task.values()} == {"better"}
    for task in ("domain", "plain"):
        expected = np.mean([e.value for e in sides["swarm", task]]) - sides["base", task][0].value
        assert by_task[task].difference == pytest.approx(expected)
    whole = by_task[ALL_TASKS]
    assert whole.difference == pytest.approx((by_task["domain"].difference + by_task["plain"].difference) / 2)


def test_over_all_tasks_only_methods_measured_on_every_task_are_compared():
    world = World(12, n=60)
    runs = {(m, t): world.runs() for m in ("base", "swarm", "vote") for t in "ab" if (m, t) != ("vote", "b")}
    found = versus(runs, {"a": mean, "b": mean}, {}, ["base"])
    assert {v.method for v in found if v.task == "a" and v.reference == "base"} == {"swarm", "vote"}
    assert {v.method for v in found if v.task == ALL_TASKS and v.reference == "base"} == {"swarm"}


def test_the_noise_floor_over_all_tasks_is_the_mean_of_theirs():
    values = np.random.default_rng(13).random(50)
    runs = {("base", t): [evaluation(values)] for t in "ab"} | {("soup", t): [evaluation(values + 0.03)] for t in "ab"}
    for floors, verdict in (({"a": 0.05, "b": 0.0}, "better"), ({"a": 0.05, "b": 0.02}, "tie")):
        found = versus(runs, {"a": mean, "b": mean}, floors, ["base"])
        assert only(found, task=ALL_TASKS, reference="base").verdict == verdict


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    adjusted = holm(p)
    assert all(before <= after <= 1 for before, after in zip(p, adjusted, strict=True))
    for level in (0.01, 0.05, 0.3):
        # the procedure as Holm wrote it: smallest first, stop at the first that fails
        rejected = set()
        for step, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[k] * (len(p) - step) > level:
                break
            rejected.add(k)
        assert {k for k, value in enumerate(adjusted) if value <= level} == rejected


def test_holm_of_a_known_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_published_table(methods, q):
    # Demsar 2006, table 5 (a), alpha 0.05
    assert critical_difference(methods, 14) == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=5e-4)


def constant(table):
    """Runs of which every method has this value on every task."""
    return {(m, f"t{k}"): [evaluation([v, v])] for m, values in table.items() for k, v in enumerate(values)}


def tasks(n):
    return [f"t{k}" for k in range(n)]


def test_demsars_worked_example_of_four_methods_on_14_data_sets():
    # Demsar 2006, table 6: AUC of C4.5 and its three variants; mean ranks 3.143, 2.000, 2.893, 1.964; chi square 9.28
    rows = """.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657  .882 .888 .886 .898
        .936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875  1.0 1.0 1.0 1.0
        .940 .962 .965 .962  .619 .666 .614 .669  .972 .981 .9751 .975  .957 .978 .946 .970"""
    values = np.array([float(x) for x in rows.split()]).reshape(14, 4)
    names = ["plain", "m", "cf", "m_cf"]
    found = ranking(constant({name: values[:, k] for k, name in enumerate(names)}), tasks(14))
    assert [found.mean_rank[name] for name in names] == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=2e-3)
    assert list(found.mean_rank) == ["m_cf", "m", "cf", "plain"]
    # his chi square leaves ties uncorrected, scipy's does not; both reject
    assert found.friedman_p < 0.05
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(20 / (6 * 14)), abs=1e-3)
    assert found.cliques == [["m_cf", "m", "cf", "plain"]] and found.note is None


def test_cliques_are_the_largest_groups_within_the_critical_difference():
    order = "abcdef"
    table = {name: [1 - 0.1 * k] * 12 for k, name in enumerate(order)}  # the same order on 12 tasks: ranks 1 to 6
    found = ranking(constant(table), tasks(12))
    assert 2 < found.critical_difference < 3
    assert found.cliques == [list("abc"), list("bcd"), list("cde"), list("def")]


def test_where_friedman_sees_nothing_all_methods_are_one_clique():
    table = {"a": [0.1, 0.2, 0.3], "b": [0.2, 0.3, 0.1], "c": [0.3, 0.1, 0.2]}
    found = ranking(constant(table), tasks(3))
    assert found.friedman_p > 0.9 and "Friedman" in found.note
    assert [set(clique) for clique in found.cliques] == [set("abc")]
    same = ranking(constant({name: [0.5] * 3 for name in "abc"}), tasks(3))
    assert same.friedman_p == 1 and set(same.mean_rank.values()) == {2.0}


def test_too_few_tasks_or_methods_have_ranks_and_no_critical_difference():
    found = ranking(constant({"a": [0.5, 0.6], "b": [0.4, 0.5], "c": [0.3, 0.7]}), tasks(2))
    assert found.mean_rank == {"a": 1.5, "c": 2.0, "b": 2.5}
    assert found.critical_difference is None and found.friedman_p is None and found.cliques == []
    assert "2 tasks" in found.note
    pair = ranking(constant({"a": [0.5] * 5, "b": [0.4] * 5}), tasks(5))
    assert pair.critical_difference is None and "2 methods" in pair.note


def test_a_method_missing_on_a_task_is_named_and_not_ranked():
    runs = constant({"a": [0.5] * 4, "b": [0.4] * 4, "c": [0.3] * 4, "vote": [0.9] * 4})
    runs["vote", "t1"] = [evaluation([None, None])]
    found = ranking(runs, tasks(4))
    assert list(found.mean_rank) == ["a", "b", "c"] and "vote" in found.note
    assert ranking({}, tasks(4)).mean_rank == {}


def outcome(dev, test, seed=0, se=0.02, seconds=10.0, problem=None):
    return Outcome(
        method="m",
        task="t",
        seed=seed,
        dev=Measured(value=dev, se=0.02, n=100, unscored=0),
        test=Measured(value=test, se=se, n=100, unscored=0, problem=problem),
        evaluations=100,
        items=1000,
        tokens=5000,
        seconds=seconds,
        coefficients=None,
        adapter=None,
        records="r.parquet",
        note=None,
    )


def test_a_summary_is_the_mean_over_seeds_with_what_one_run_costs():
    found = summary([outcome(0.8, 0.7, 0), outcome(0.9, 0.74, 1, seconds=20.0)])
    assert (found.dev, found.test, found.seconds, found.evaluations) == pytest.approx((0.85, 0.72, 15, 100))
    assert found.optimism == pytest.approx(0.13)
    assert found.se == pytest.approx(np.sqrt(0.02**2 + 0.0008 / 2))
    assert summary([outcome(0.8, 0.7)]).se == pytest.approx(0.02)


def test_the_standard_error_over_seeds_is_about_the_spread_of_their_mean_over_items_and_seeds():
    means, told = [], []
    for k in range(80):
        world = World(k, n=100)
        runs = world.runs(4, spread=0.1)
        means.append(np.mean([e.value for e in runs]))
        told.append(summary([outcome(0.5, e.value, j, se=e.se) for j, e in enumerate(runs)]).se)
    assert np.std(means) < np.mean(told) < 1.3 * np.std(means)


def test_a_seed_without_a_value_is_left_out_of_the_summary_and_named():
    found = summary([outcome(0.8, 0.7, 0), outcome(0.9, None, 1, se=None, problem="12 of 100 items are unscored")])
    assert found.test == 0.7 and found.optimism == pytest.approx(0.1)
    assert found.problems == ("seed 1: 12 of 100 items are unscored",)
    lost = summary([outcome(0.9, None, None, se=None, problem="no item could be scored")])
    assert lost.test is None and lost.se is None and lost.optimism is None
    assert lost.problems == ("no item could be scored",)


# -- planned contrasts -------------------------------------------------------------------------------------------------


def test_planned_contrasts_have_a_family_of_their_own_and_one_seed_of_a_random_method_decides_nothing():
    world = World(21)
    runs = {("swarm", "t"): world.runs(1, skill=1.0), ("base", "t"): world.runs(1), ("random", "t"): world.runs(1)}
    pairs = [("swarm", "base"), ("swarm", "random"), ("swarm", "absent")]
    found = planned(runs, {"t": mean}, {}, pairs)
    assert [(v.method, v.reference, v.verdict) for v in found] == [
        ("swarm", "base", "better"),
        ("swarm", "random", "better"),
    ]
    assert all(0 < v.detectable < 0.3 for v in found)
    assert detectable(1.0, 1) == pytest.approx(2.80, abs=0.01) and detectable(1.0, 22) > 3.8
    found = planned(runs, {"t": mean}, {}, pairs, seeded={"random"})
    assert [v.verdict for v in found] == ["better", "tie"]
    found = versus(runs, {"t": mean}, {}, ["base"], seeded={"swarm"})
    assert {v.method: v.verdict for v in found if v.reference == "base"}["swarm"] == "tie"
