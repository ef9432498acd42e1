import asyncio
import json
from functools import partial

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from utilities.combine import combinations, combine_evaluations, harmonic_mean, mean, minimum, weighted_mean
from utilities.core import ChoiceLogprobs, Evaluation, ItemResult, Reason, Score, Unscored, Usage
from utilities.errors import UserError
from utilities.statistics import paired_difference
from utilities.tasks import load_task

three_to_one = partial(weighted_mean, weights={"a": 3.0, "b": 1.0})


def evaluation(values, prefix="", seconds=1.0):
    outcomes = [Unscored(Reason.REFUSED) if v is None else Score(float(v)) for v in values]
    results = [ItemResult(f"{prefix}{k}", f"{prefix}{k}", "", "", o) for k, o in enumerate(outcomes)]
    return Evaluation.of(results, Usage(len(values), seconds))


@pytest.mark.parametrize("values", [(0.5, 0.25), (1.0, 1.0), (0.9, 0.1, 0.4), (1e-9, 1.0), (0.3,)])
def test_the_harmonic_mean_is_scipys(values):
    ours = harmonic_mean({str(k): np.float64(v) for k, v in enumerate(values)})
    assert float(ours) == pytest.approx(stats.hmean(values), rel=1e-12)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.0), (0.0, np.nan)])
def test_a_zero_in_any_part_makes_the_harmonic_mean_zero(values):
    assert float(harmonic_mean({str(k): np.float64(v) for k, v in enumerate(values)})) == 0.0


@pytest.mark.parametrize("values", [(-0.5, 1.0), (-0.5, 0.0), (-0.5, -0.5), (-0.5, np.nan)])
def test_there_is_no_harmonic_mean_below_zero(values):
    assert np.isnan(harmonic_mean({str(k): np.float64(v) for k, v in enumerate(values)}))


@pytest.mark.parametrize(
    ("a", "b", "harmonic", "plain", "weighted", "lowest"),
    [
        (0.2, 0.5, 2 / 7, 0.35, 0.275, 0.2),
        (0.0, 0.5, 0.0, 0.25, 0.125, 0.0),
        (-0.5, 1.0, np.nan, 0.25, -0.125, -0.5),
        (-0.5, 0.0, np.nan, -0.25, -0.375, -0.5),
        (np.nan, 0.5, np.nan, np.nan, np.nan, np.nan),
    ],
)
def test_the_combinations_of_two_values_are_as_computed_by_hand(a, b, harmonic, plain, weighted, lowest):
    values = {"a": np.float64(a), "b": np.float64(b)}
    found = [float(how(values)) for how in (harmonic_mean, mean, three_to_one, minimum)]
    assert found == pytest.approx([harmonic, plain, weighted, lowest], nan_ok=True, rel=1e-12)


positive = st.floats(1e-6, 1e6)


@settings(deadline=None)
@given(st.lists(positive, min_size=1, max_size=8))
def test_the_minimum_is_at_most_the_harmonic_mean_which_is_at_most_the_mean(values):
    parts = {str(k): np.float64(v) for k, v in enumerate(values)}
    lowest, harmonic, plain = (float(how(parts)) for how in (minimum, harmonic_mean, mean))
    assert lowest <= harmonic * (1 + 1e-12)
    assert harmonic <= plain * (1 + 1e-12)


@settings(deadline=None)
@given(positive, st.lists(positive, min_size=1, max_size=8))
def test_equal_values_combine_to_that_value(value, weights):
    parts = {str(k): np.float64(value) for k in range(len(weights))}
    weighted = partial(weighted_mean, weights={str(k): weight for k, weight in enumerate(weights)})
    for how in (harmonic_mean, mean, weighted, minimum):
        assert float(how(parts)) == pytest.approx(value, rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(positive, st.floats(-1e6, 1e6)), min_size=1, max_size=8), positive)
def test_only_the_ratios_of_weights_matter(pairs, factor):
    parts = {str(k): np.float64(value) for k, (_, value) in enumerate(pairs)}
    weights = {str(k): weight for k, (weight, _) in enumerate(pairs)}
    scaled = {name: weight * factor for name, weight in weights.items()}
    assert float(weighted_mean(parts, scaled)) == pytest.approx(
        float(weighted_mean(parts, weights)), rel=1e-9, abs=1e-6
    )


@pytest.mark.parametrize("weights", [None, {}, {"a": 1.0}])
def test_a_part_without_a_weight_is_named(weights):
    with pytest.raises(UserError, match="no weight is given for 'b'"):
        weighted_mean({"b": np.float64(0.5)}, weights)


@pytest.mark.parametrize("how", [harmonic_mean, mean, three_to_one, minimum])
def test_every_combination_of_arrays_is_that_of_their_elements(how):
    a, b = np.random.default_rng(1).uniform(-0.2, 1, (2, 3, 5))
    a[0, 0], b[1, 1] = np.nan, 0.0
    singly = [[float(how({"a": a[i, j], "b": b[i, j]})) for j in range(5)] for i in range(3)]
    np.testing.assert_allclose(how({"a": a, "b": b}), singly, rtol=1e-12)


def test_the_worst_of_ten_equal_groups_seems_one_and_a_half_standard_errors_worse():
    groups = np.random.default_rng(2).normal(0.0, 1.0, (10, 20_000))
    assert minimum({str(k): group for k, group in enumerate(groups)}).mean() == pytest.approx(-1.54, abs=0.03)


def test_a_part_without_a_value_leaves_the_whole_without_one():
    assert np.isnan(harmonic_mean({"a": np.float64(np.nan), "b": np.float64(0.5)}))


def test_the_harmonic_mean_works_elementwise_on_arrays():
    a, b = np.random.default_rng(0).uniform(0.01, 1, (2, 3, 5))
    np.testing.assert_allclose(harmonic_mean({"a": a, "b": b}), stats.hmean(np.stack([a, b]), axis=0), rtol=1e-12)
    np.testing.assert_array_equal(harmonic_mean({"a": np.array([0.0, 0.5]), "b": np.array([1.0, 0.5])}), [0.0, 0.5])


def test_two_evaluations_become_one_with_counts_usage_and_parts():
    parts = {"one": evaluation([1, 1, 0, 0] * 10, "a"), "two": evaluation([1, 0, 0, 0] * 10, "b")}
    whole = combine_evaluations(parts, combinations.get("harmonic_mean"))
    assert whole.value == pytest.approx(stats.hmean([0.5, 0.25]))
    assert (whole.n, whole.n_unscored, whole.usage, whole.problem) == (80, 0, Usage(80, 2.0), None)
    assert whole.leaves == parts


def test_the_standard_error_of_a_combination_agrees_with_the_delta_method():
    rng = np.random.default_rng(3)
    parts = {"one": evaluation(rng.random(400) < 0.6, "a"), "two": evaluation(rng.random(400) < 0.4, "b")}
    whole = combine_evaluations(parts, harmonic_mean)
    x, y = parts["one"], parts["two"]
    slope_x, slope_y = 2 * y.value**2 / (x.value + y.value) ** 2, 2 * x.value**2 / (x.value + y.value) ** 2
    assert whole.se == pytest.approx(np.hypot(slope_x * x.se, slope_y * y.se), rel=0.1)


@pytest.mark.parametrize(("how", "a", "b"), [(mean, 0.5, 0.5), (three_to_one, 0.75, 0.25)])
def test_the_standard_error_of_a_mean_is_the_analytic_one(how, a, b):
    rng = np.random.default_rng(4)
    parts = {"a": evaluation(rng.normal(-1, 2, 400), "a"), "b": evaluation(rng.normal(1, 1, 200), "b")}
    whole = combine_evaluations(parts, how)
    assert whole.value == pytest.approx(a * parts["a"].value + b * parts["b"].value)
    assert whole.se == pytest.approx(np.hypot(a * parts["a"].se, b * parts["b"].se), rel=0.1)


def test_a_harmonic_mean_of_a_negative_part_is_not_comparable_and_says_what_is_meant_for_it():
    parts = {"good": evaluation([1, 0], "a"), "bad": evaluation([-1, 0.5], "b"), "worse": evaluation([-2, -3], "c")}
    whole = combine_evaluations(parts, harmonic_mean)
    assert (whole.value, whole.se, whole.n, whole.n_unscored) == (None, None, 6, 0)
    assert whole.problem.startswith("bad is -0.25, worse is -2.5: ")
    assert whole.problem.endswith("--combine mean is meant for scores below zero")
    assert whole.leaves == parts
    assert combine_evaluations(parts, mean).value == pytest.approx((0.5 - 0.25 - 2.5) / 3)
    assert combine_evaluations(parts, minimum).value == -2.5


def test_resamples_below_zero_do_not_spoil_a_standard_error():
    parts = {"near": evaluation([1] * 52 + [-1] * 48, "a"), "far": evaluation([1, 0] * 50, "b")}
    whole = combine_evaluations(parts, harmonic_mean)
    assert whole.value == pytest.approx(stats.hmean([0.04, 0.5]))
    assert np.isfinite(whole.se) and whole.se > 0


def test_a_difference_has_no_value_where_a_part_is_below_zero_on_the_items_that_both_scored():
    easy = evaluation([1, 0] * 10, "e")
    a = combine_evaluations({"x": evaluation([1, 1, *([0, 0] * 8), 0, -1], "x"), "e": easy}, harmonic_mean)
    b = combine_evaluations({"x": evaluation([None, None, *([0.5] * 18)], "x"), "e": easy}, harmonic_mean)
    assert a.value > 0 and b.value > 0
    assert paired_difference(a, b, harmonic_mean) is None
    assert np.isfinite(paired_difference(a, b, mean)).all()


def test_a_combination_of_ones_own_that_has_no_value_is_not_comparable():
    parts = {"one": evaluation([1, 0], "a"), "two": evaluation([1, 1], "b")}
    whole = combine_evaluations(parts, lambda values: values["one"] * np.nan)
    assert (whole.value, whole.problem) == (None, "the combination of {'one': 0.5, 'two': 1.0} is nan")


def test_a_part_of_a_single_item_leaves_the_whole_without_a_standard_error():
    # Every resample that holds the item at all holds the same value: what looks like certainty is ignorance.
    sides = [
        combine_evaluations({"one": evaluation([lone], "a"), "two": evaluation([1, 0] * 50, "b")}, minimum)
        for lone in (0.25, 0.5)
    ]
    assert [(side.value, side.se) for side in sides] == [(0.25, None), (0.5, None)]
    assert paired_difference(*sides, minimum) is None


def test_many_parts_of_few_items_have_no_standard_error_rather_than_one_of_other_data():
    # Hardly any resample of two items in each of thirty parts leaves an item in all of them.
    parts = {str(k): evaluation([1, 0], f"{k}.") for k in range(30)}
    assert combine_evaluations(parts, mean).se is None
    assert combine_evaluations({name: parts[name] for name in ("0", "1")}, mean).se > 0


def test_the_same_evaluations_give_the_same_standard_error():
    parts = {"one": evaluation([1, 0, 1] * 9, "a"), "two": evaluation([1, 1, 0, 0] * 5, "b")}
    assert combine_evaluations(parts, harmonic_mean).se == combine_evaluations(parts, harmonic_mean).se


def test_few_items_still_have_a_finite_standard_error():
    # Many resamples of so few items leave one of the sets empty; those must not turn the result into NaN.
    whole = combine_evaluations({"one": evaluation([1, 0], "a"), "two": evaluation([1, 1], "b")}, harmonic_mean)
    assert whole.se is not None and np.isfinite(whole.se) and whole.se > 0


def test_items_of_two_sets_are_not_tied_by_having_the_same_id():
    # Published files number their items; "1" of one file has nothing to do with "1" of the other.
    rng = np.random.default_rng(5)
    right = rng.random(300) < 0.5
    same_ids = {"one": evaluation(right), "two": evaluation(right)}
    other_ids = {"one": evaluation(right, "a"), "two": evaluation(right, "b")}
    a, b = (combine_evaluations(parts, harmonic_mean).se for parts in (same_ids, other_ids))
    assert a == pytest.approx(b, rel=0.1)  # tied items would widen it by the square root of two


def test_a_part_that_is_not_comparable_makes_the_whole_so_and_is_named():
    parts = {"good": evaluation([1, 0], "a"), "bad": evaluation([1, None], "b")}
    whole = combine_evaluations(parts, harmonic_mean)
    assert (whole.value, whole.se, whole.n, whole.n_unscored) == (None, None, 3, 1)
    assert whole.problem == "bad: 1 of 2 items are unscored (limit 10%)"
    assert whole.leaves == parts


def test_a_single_part_passes_through():
    only = evaluation([1, 0])
    assert combine_evaluations({"only": only}, harmonic_mean) is only


def test_an_unknown_combination_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown combination 'harmonic'. Did you mean 'harmonic_mean'"):
        combinations.get("harmonic")


# Weights and groups in a task file


def entry(id, **fields):
    return {"id": id, "question": f"Which is {id}?", "choices": {"A": "yes", "B": "no"}, "answer": "A", **fields}


def grouped(n, domains):
    """`n` items whose domains take turns."""
    return [entry(f"{k}", domain=domains[k % len(domains)], source=f"fact {k // 2}") for k in range(n)]


def write_task(folder, one, two, items=None, **fields):
    """A task of two item sets over the same items, with what is said of each."""
    described = {"scorer": "multiple_choice", "file": "own.json"}
    sets = {"one": {**described, **one}, "two": {**described, **two}}
    (folder / "data").mkdir(exist_ok=True)
    items = items or grouped(12, ["sea", "land", "air"])
    (folder / "data" / "own.json").write_text(json.dumps({"dev": items, "test": items[:9]}))
    path = folder / "own.yaml"
    path.write_text(
        yaml.safe_dump({"name": "own", "title": "Own", "editions": {"small": {"item_sets": sets}}, **fields})
    )
    return str(path)


class Gold:
    """Chooses the first of two options, which is right, but not for the items in `wrong`; counts its questions."""

    def __init__(self, *wrong, lost=()):
        self.wrong, self.lost, self.asked = wrong, lost, 0

    async def choice_logprobs(self, prompts, options):
        self.asked += 1
        answers = [
            ChoiceLogprobs((-9.0, -1.0) if k in self.wrong else (-1.0, -9.0), (1, 1)) for k in range(len(prompts))
        ]
        return [Unscored(Reason.TRANSPORT) if k in self.lost else answer for k, answer in enumerate(answers)]


def test_weights_of_the_task_file_weigh_the_item_sets(tmp_path):
    path = write_task(tmp_path, {}, {}, combine="weighted_mean", weights={"one": 3, "two": 1})
    task = load_task(path)
    assert task.weights == {"one": 3.0, "two": 1.0}
    parts = {"one": evaluation([1, 0, 0, 0], "a"), "two": evaluation([1, 1], "b")}
    assert combine_evaluations(parts, task.combine).value == pytest.approx((3 * 0.25 + 1) / 4)


def test_another_combination_asked_for_leaves_the_weights_alone(tmp_path):
    path = write_task(tmp_path, {}, {}, combine="weighted_mean", weights={"one": 3, "two": 1})
    task = load_task(path, combine="minimum")
    assert (task.combination, task.weights) == ("minimum", None)
    assert task.combine is minimum


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"one": 1, "two": 1}}, "weights: only combine: weighted_mean reads them"),
        ({"combine": "mean", "weights": {"one": 1}}, "this task combines by mean"),
        ({"weights": {"one": 1, "tow": 1}}, "unknown item set 'tow'. Did you mean 'two'?"),
        ({"weights": {"one": 1}}, "needs a weight for item set 'two': add weights: {two: 1}"),
        ({"weights": {}}, "needs a weight for item set 'one'"),
        ({}, "needs a weight for item set 'one'"),
        ({"weights": {"one": 1, "two": 0}}, "weights.two: Input should be greater than 0"),
        ({"weights": {"one": 1, "two": -1}}, "weights.two: Input should be greater than 0"),
        ({"weights": {"one": 1, "two": float("inf")}}, "weights.two: Input should be a finite number"),
        ({"weights": [1, 2]}, "weights: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_use_of_weights_is_told(tmp_path, fields, message):
    if "weights: only" not in message:
        fields = {"combine": "weighted_mean", **fields}
    path = write_task(tmp_path, {}, {}, **fields)
    with pytest.raises(UserError) as told:
        load_task(path)
    assert message in str(told.value) and str(told.value).startswith(path)


def test_weights_may_name_the_item_sets_of_several_editions(tmp_path):
    item_set = {"scorer": "multiple_choice", "file": "own.json"}
    editions = {"mini": {"item_sets": {"a": item_set}}, "full": {"item_sets": {"b": item_set}}}
    path = write_task(tmp_path, {}, {}, editions=editions, combine="weighted_mean", weights={"a": 1, "b": 2})
    assert [list(load_task(path, edition=edition).item_sets) for edition in ("mini", "full")] == [["a"], ["b"]]


def test_weights_that_are_asked_for_but_not_there_are_a_users_error(tmp_path):
    with pytest.raises(UserError, match="weighted_mean needs a weight for item set 'one'"):
        load_task(write_task(tmp_path, {}, {}), combine="weighted_mean")


def test_weights_do_not_go_with_groups(tmp_path):
    path = write_task(tmp_path, {}, {"group_by": "domain"}, combine="weighted_mean", weights={"one": 1, "two": 1})
    with pytest.raises(UserError, match="'two' is in groups: remove group_by"):
        load_task(path)


@pytest.mark.parametrize(("name", "near"), [("minimun", "minimum"), ("meen", "mean"), ("", None)])
def test_an_unknown_combination_asked_for_is_told(tmp_path, name, near):
    with pytest.raises(UserError, match=f"unknown combination '{name}'.*Known: .*minimum") as told:
        load_task(write_task(tmp_path, {}, {}), combine=name)
    assert near is None or f"Did you mean '{near}'?" in str(told.value)


def test_every_group_is_a_part_and_the_model_is_asked_once(tmp_path):
    task = load_task(write_task(tmp_path, {"group_by": "domain"}, {}, combine="minimum"))
    model = Gold(0, 1, 4)  # items take turns: sea, land, air, sea, land, ...
    found = asyncio.run(task(model, "dev"))
    assert model.asked == 2
    values = {name: (part.value, part.n) for name, part in found.parts.items()}
    assert values == {"one:sea": (0.75, 4), "one:land": (0.5, 4), "one:air": (1.0, 4), "two": (0.75, 12)}
    assert (found.value, found.n, found.usage.requests) == (0.5, 24, 24)
    assert [r.item_id for r in found.parts["one:land"].results] == ["1", "4", "7", "10"]


@pytest.mark.parametrize(
    ("combine", "value"),
    [("minimum", 0.5), ("mean", (0.75 + 0.5 + 1 + 0.75) / 4), ("harmonic_mean", 4 / (4 / 3 + 2 + 1 + 4 / 3))],
)
def test_groups_combine_as_asked(tmp_path, combine, value):
    task = load_task(write_task(tmp_path, {"group_by": "domain"}, {}), combine=combine)
    assert asyncio.run(task(Gold(0, 1, 4), "dev")).value == pytest.approx(value)


def test_a_single_grouped_set_is_its_groups(tmp_path):
    item_sets = {"only": {"scorer": "multiple_choice", "file": "own.json", "group_by": "domain"}}
    path = write_task(tmp_path, {}, {}, editions={"small": {"item_sets": item_sets}}, combine="minimum")
    task = load_task(path)
    sides = [asyncio.run(task(model, "test")) for model in (Gold(), Gold(0, 3))]
    assert [side.value for side in sides] == [1.0, pytest.approx(1 / 3)]
    assert list(sides[0].parts) == ["only:sea", "only:land", "only:air"]
    assert paired_difference(*sides, task.combine).value == pytest.approx(2 / 3)


def test_a_set_of_a_single_group_is_its_evaluation(tmp_path):
    item_sets = {"only": {"scorer": "multiple_choice", "file": "own.json", "group_by": "domain"}}
    path = write_task(tmp_path, {}, {}, grouped(12, ["sea"]), editions={"small": {"item_sets": item_sets}})
    task = load_task(path, combine="minimum")
    sides = [asyncio.run(task(model, "dev")) for model in (Gold(), Gold(0, 1, 2))]
    assert [(side.value, side.parts, side.usage.requests) for side in sides] == [(1.0, {}, 12), (0.75, {}, 12)]
    assert paired_difference(*sides, task.combine).value == pytest.approx(0.25)


def test_the_items_of_a_source_that_is_a_group_vary_one_by_one(tmp_path):
    items = [entry(f"{k}", source=f"fact {k % 2}") for k in range(40)]
    task = load_task(write_task(tmp_path, {"group_by": "source"}, {}, items), combine="mean")
    found = asyncio.run(task(Gold(*range(10)), "dev"))
    first = found.parts["one:fact 0"]
    assert first.value == 0.75
    assert first.se == pytest.approx(np.std([0] * 5 + [1] * 15, ddof=1) / np.sqrt(20))
    assert found.parts["two"].se is not None and found.se is not None
    assert {r.cluster for r in found.parts["two"].results} == {"fact 0", "fact 1"}


def test_a_group_with_an_unscored_item_too_many_is_named(tmp_path):
    task = load_task(write_task(tmp_path, {"group_by": "domain"}, {}, combine="minimum"))
    found = asyncio.run(task(Gold(lost=[1]), "dev"))
    assert (found.value, found.problem) == (None, "one:land: 1 of 4 items are unscored (limit 10%)")
    assert (found.n, found.n_unscored) == (22, 2)


def test_groups_are_those_of_the_split(tmp_path):
    items = [*grouped(9, ["sea", "land", "air"]), entry("9", domain="space"), entry("10", domain="space")]
    task = load_task(write_task(tmp_path, {"group_by": "domain"}, {}, items), combine="mean")
    dev, test = (asyncio.run(task(Gold(), split)) for split in ("dev", "test"))
    assert set(dev.parts) - set(test.parts) == {"one:space"}


@pytest.mark.parametrize("field", ["domain", "source"])
@pytest.mark.parametrize("missing", [None, ""])
def test_an_item_without_the_field_it_is_grouped_by_is_named(tmp_path, field, missing):
    items = grouped(12, ["sea", "land"])
    items[10][field] = missing
    path = write_task(tmp_path, {}, {"group_by": field}, items)
    with pytest.raises(UserError, match=f"own.json, dev item '10': the item has no {field}, by which item set 'two'"):
        load_task(path)


def test_an_unknown_field_to_group_by_is_told(tmp_path):
    with pytest.raises(UserError, match=r"the item has no colour, by which item set 'one' is grouped"):
        load_task(write_task(tmp_path, {"group_by": "colour"}, {}))


def test_a_name_that_could_be_a_groups_is_refused(tmp_path):
    editions = {"small": {"item_sets": {"one:sea": {"scorer": "multiple_choice", "file": "own.json"}}}}
    with pytest.raises(UserError, match="the name 'one:sea' holds a colon"):
        load_task(write_task(tmp_path, {}, {}, editions=editions))
