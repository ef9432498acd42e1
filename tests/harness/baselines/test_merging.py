"""What holds of the static merges together: how they are called, refused, and what they have in common."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import SHAPES, assert_same_change, random_adapter, random_adapters

from harness.baselines.merging.apply import apply, exact_rank, refactored, refactored_product
from harness.baselines.merging.registry import merges
from harness.experts.adapter import Adapter
from utilities.errors import UserError

NAMES = [
    "breadcrumbs",
    "dare_linear",
    "dare_ties",
    "model_stock",
    "slerp",
    "task_arithmetic",
    "ties",
    "uniform_soup",
]
SPACES = ["factors", "delta"]
SUMS = ["task_arithmetic", "dare_linear", "breadcrumbs"]


def test_the_registry_knows_the_eight_methods_and_each_docstring_says_its_paper_and_its_data():
    assert list(merges) == NAMES
    for name in NAMES:
        merge = merges.get(name)
        assert merge.name == name
        assert merge.random == name.startswith("dare")
        docstring = merge.rule.__doc__
        assert "Data used: none" in docstring
        assert "arXiv" in docstring or "Shoemake" in docstring


def test_a_wrong_name_is_answered_with_the_nearest_right_one():
    with pytest.raises(UserError, match=r"unknown merge 'tise'. Did you mean 'ties'\?"):
        merges.get("tise")


def test_listing_the_methods_loads_no_torch():
    code = (
        "import sys; from harness.baselines.merging.registry import merges;"
        " list(merges); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what every method keeps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform_soup", {}),
        ("slerp", {}),
        ("model_stock", {}),
        ("ties", {"density": 1.0}),
        ("dare_ties", {"density": 1.0}),
        ("task_arithmetic", {}),
        ("dare_linear", {"density": 1.0}),
        ("breadcrumbs", {"density": 1.0, "outliers": 0.0}),
    ],
)
@pytest.mark.filterwarnings("ignore:The density 1.0")
def test_equal_adapters_merge_to_that_adapter(name, options, space):
    """Sums need weights that add up to one; in "factors" A and B take the roots, so they must be the squares."""
    one = random_adapter(5)
    if name in SUMS:
        options = {**options, "weights": [1 / 9 if space == "factors" else 1 / 3] * 3}
    assert_same_change(apply(merges.get(name), [one] * 3, space=space, **options), one)


@pytest.mark.parametrize("space", SPACES)
def test_the_soup_of_one_is_itself(space):
    one = random_adapter(1)
    assert_same_change(apply(merges.get("uniform_soup"), [one], space=space), one)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "slerp" and not name.startswith("dare")])
def test_the_order_of_the_adapters_does_not_matter(name, space):
    adapters = random_adapters(3)
    first, *others = [apply(merges.get(name), order, space=space) for order in permutations(adapters)]
    for other in others:
        assert_same_change(other, first)


def test_the_order_matters_for_slerp_of_more_than_two():
    a, b, c = random_adapters(3)
    slerp = partial(apply, merges.get("slerp"), space="delta")
    assert_same_change(slerp([a, b]), slerp([b, a]))
    one, other = slerp([a, b, c], rank=12), slerp([c, b, a], rank=12)
    assert (one.delta("second.q") - other.delta("second.q")).abs().max() > 0.05


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_the_global_generator_are_left_as_they_were(name, space):
    adapters = random_adapters(3)
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    merged = apply(merges.get(name), adapters, space=space, seed=1)
    torch.testing.assert_close(torch.rand(3), expected, atol=0, rtol=0)
    for adapter, untouched in zip(adapters, random_adapters(3), strict=True):
        assert_same_change(adapter, untouched, 0)
    assert isinstance(merged, Adapter) and merged.name == name
    assert list(merged.factors) == list(SHAPES)
    assert {tensor.dtype for factors in merged.factors.values() for tensor in factors} == {torch.float32}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_only_dare_depends_on_the_seed_and_the_same_seed_repeats_it(name, space):
    merge, adapters = merges.get(name), random_adapters(2)
    one, again, other = (apply(merge, adapters, space=space, seed=seed).delta("first.up") for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (not merge.random)


# -- spaces and ranks --------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    weights=st.lists(st.floats(-2, 2, allow_nan=False), min_size=4, max_size=4),
)
def test_a_weighted_sum_in_delta_is_exact_where_the_rank_suffices(ranks, weights):
    adapters = [random_adapter(seed, rank) for seed, rank in enumerate(ranks)]
    weights = weights[: len(ranks)]
    found = apply(merges.get("task_arithmetic"), adapters, space="delta", rank=sum(ranks), weights=weights)
    for module in SHAPES:
        expected = sum(w * adapter.delta(module) for w, adapter in zip(weights, adapters, strict=True))
        torch.testing.assert_close(found.delta(module), expected, atol=2e-5, rtol=1e-5)


def test_a_lower_rank_is_the_nearest_matrix_of_that_rank():
    adapters = random_adapters(3)
    found = apply(merges.get("uniform_soup"), adapters, space="delta", rank=2)
    for module in SHAPES:
        mean = sum(adapter.delta(module).double() for adapter in adapters) / 3
        rest = torch.linalg.svdvals(mean)[2:].norm()
        assert torch.linalg.matrix_rank(found.delta(module)) == 2
        torch.testing.assert_close((found.delta(module) - mean).norm(), rest, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 12, 30])
def test_both_ways_to_refactor_agree_and_have_the_rank_that_was_asked_for(rank):
    A, B = random_adapter(0, rank=6).factors["first.up"]
    for found_A, found_B in (refactored(B @ A, rank), refactored_product((A, B), rank)):
        assert (found_A.shape, found_B.shape) == ((rank, 12), (20, rank))
        U, S, Vh = torch.linalg.svd((B @ A).double(), full_matrices=False)
        nearest = (U[:, :rank] * S[:rank]) @ Vh[:rank]
        torch.testing.assert_close((found_B @ found_A).double(), nearest, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_different_ranks_are_merged_in_delta_to_the_largest_and_refused_in_factors(name):
    adapters = [random_adapter(seed, rank) for seed, rank in enumerate((2, 5, 3))]
    merged = apply(merges.get(name), adapters, space="delta")
    assert {len(A) for A, _ in merged.factors.values()} == {5}
    with pytest.raises(UserError, match=r"'random1' has rank 5 for first\.down, 'random0' has 2: .* 'delta'"):
        apply(merges.get(name), adapters, space="factors")


def test_padded_adapters_of_different_ranks_are_merged_in_factors():
    small, large = random_adapter(0, rank=2), random_adapter(1, rank=5)
    merged = apply(merges.get("uniform_soup"), [small.padded(5), large], space="factors")
    assert merged.rank == 5


def test_an_adapter_that_changes_nothing_breaks_no_method():
    one = random_adapter(0)
    zero = Adapter("zero", {module: (A, torch.zeros_like(B)) for module, (A, B) in one.factors.items()}, one.config)
    for name in NAMES:
        for space in SPACES:
            for adapters in ([one, zero], [zero, zero]):
                merged = apply(merges.get(name), adapters, space=space)
                assert all(torch.isfinite(merged.delta(module)).all() for module in SHAPES)


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("alike", [False, True])
def test_sums_have_the_norm_of_one_expert_by_default_however_alike_the_experts_are(name, alike):
    adapters = random_adapters(4)
    if alike:  # the same A, as experts of one initialisation
        first = adapters[0].factors
        factors = [{m: (first[m][0], B) for m, (_, B) in one.factors.items()} for one in adapters]
        adapters = [replace(one, factors=own) for one, own in zip(adapters, factors, strict=True)]
    merged = apply(merges.get(name), adapters, space="factors")
    for module, pair in merged.factors.items():
        for k, tensor in enumerate(pair):
            squares = [float(one.factors[module][k].norm()) ** 2 for one in adapters]
            assert float(tensor.norm()) == pytest.approx((sum(squares) / 4) ** 0.5, rel=1e-4)
    merged = apply(merges.get(name), adapters, space="delta", rank=exact_rank(adapters))
    assert merged.norm == pytest.approx((sum(one.norm**2 for one in adapters) / 4) ** 0.5, rel=1e-3)


def test_a_negative_weight_subtracts_in_both_spaces():
    one = random_adapter(0)
    for space in SPACES:
        merged = apply(merges.get("task_arithmetic"), [one], space=space, weights=[-2.0])
        assert_same_change(merged, {module: -2 * one.delta(module) for module in SHAPES})


# -- dare --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_the_mean_of_dare_over_seeds_is_task_arithmetic_of_the_same_weights(space):
    shapes = {"only.q": (6, 5)}
    adapters = random_adapters(2, rank=3, shapes=shapes)
    rank = 5 if space == "delta" else None  # full, or cutting the rank would bias the mean
    weights = [0.5, 0.75]
    expected = apply(merges.get("task_arithmetic"), adapters, space=space, rank=rank, weights=weights).delta("only.q")
    draws = torch.stack(
        [
            apply(
                merges.get("dare_linear"),
                adapters,
                space=space,
                rank=rank,
                seed=seed,
                density=0.5,
                weights=weights,
            ).delta("only.q")
            for seed in range(600)
        ]
    )
    deviations = (draws.mean(0) - expected) / (draws.std(0) / len(draws) ** 0.5)
    assert deviations.abs().max() < 4.5
    assert draws.std(0).min() > 0.05


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_one_adapter_is_refused_in_words_where_two_are_needed():
    for name in ("slerp", "model_stock"):
        with pytest.raises(UserError, match=f"{name} needs at least two adapters, got 1"):
            apply(merges.get(name), random_adapters(1))
    for name in NAMES:
        with pytest.raises(UserError, match=f"{name} needs at least (one adapter|two adapters), got 0"):
            apply(merges.get(name), [])


def test_adapters_of_other_modules_or_another_base_are_refused():
    ant, bee = random_adapter(0), random_adapter(1, shapes={**SHAPES, "third.v": (4, 4)})
    with pytest.raises(UserError, match=r"'random1' does not adapt the same modules as 'random0'.*third\.v"):
        apply(merges.get("ties"), [ant, bee])
    bee = random_adapter(1, shapes={**SHAPES, "second.q": (8, 16)})
    for space in SPACES:
        with pytest.raises(UserError, match=r"second\.q as a weight of shape \[16, 8\].*\[16, 16\]"):
            apply(merges.get("ties"), [ant, bee], space=space)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ties", {"space": "factor"}, "Did you mean 'factors'"),
        ("ties", {"densty": 0.5}, "unknown option of ties 'densty'. Did you mean 'density'"),
        ("slerp", {"weights": [1, 1]}, "unknown option of slerp 'weights'"),
        ("ties", {"weights": [1.0]}, "ties: 1 weights for 2 adapters"),
        ("dare_ties", {"density": 0.0}, "dare_ties: density must be above 0 and at most 1, got 0.0"),
        ("breadcrumbs", {"density": 0.5, "outliers": 0.6}, "outliers must be at least 0"),
        ("ties", {"rank": 3}, "in 'factors' it stays the adapters' own"),
        ("ties", {"rank": 0, "space": "delta"}, "any rank from 1"),
    ],
)
def test_options_that_cannot_be_are_refused_in_words(name, options, words):
    with pytest.raises(UserError) as refused:
        apply(merges.get(name), random_adapters(2), **options)
    assert words in str(refused.value)
