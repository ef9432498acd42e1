"""All checks together on bad input: each says in words what it lacks, and the others go on."""

import numpy as np
import pytest
from simulated import Collected, World, quality, scores
from tables import table

from utilities.lab import CHECKS, Label, Labels, Material, examine, overall
from utilities.scorers.function import FunctionScorer

WORLD = World()


def recall(item, text, rng):
    return quality(item, text)


def by_check(material):
    return {one.check: one for one in examine(material)}


def test_of_nothing_every_check_says_that_it_does_not_apply_and_why():
    found = examine(Material())
    assert [one.check for one in found] == list(CHECKS)
    assert {one.verdict for one in found} == {"not applicable"}
    assert all(one.advice for one in found)
    assert overall(found).fitness == "fit as report only"


def test_the_collectors_word_on_what_was_left_out():
    found = by_check(Material(dev=table(np.eye(3, 30)), absent={"attacks": "it scores no text", "failures": "never"}))
    assert found["attacks"].advice == "it scores no text"
    assert found["failures"].verdict == "pass"


def test_the_same_seed_gives_the_same_findings():
    material = Collected(recall, WORLD).material("dev", "rungs", "attacked")
    assert examine(material, 1) == examine(material, 1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([Label(f"other{k}", "r", "ann", k % 3) for k in range(50)], "none of the 50 labelled answers has a score"),
        ([Label(f"dev{k}", "expert0", "ann", 1.0) for k in range(50)], "all labels of scored answers are 1"),
        ([Label(f"dev{k}", "expert0", "ann", k % 3) for k in range(10)], "10 labelled items have a score"),
    ],
    ids=["match no item", "one class", "few"],
)
def test_labels_that_are_no_use_stop_nothing_else(labels, told):
    dev = Collected(recall, WORLD).dev()
    found = by_check(Material(dev=dev, labels=Labels(tuple(labels)), scored=dev.answers()))
    assert told in found["kappa"].advice
    assert found["kappa"].verdict == "not applicable"
    assert found["separation"].verdict == "pass"


def test_labels_may_name_the_model_that_answered():
    dev = Collected(recall, WORLD).dev()
    labels = [
        Label(item.id, f"expert{m}", "ann", float(round(4 * quality(item, WORLD.experts["dev"][f"expert{m}"][k]))))
        for m in (0, 9)
        for k, item in enumerate(WORLD.dev[:60])
    ]
    found = by_check(Material(dev=dev, labels=Labels(tuple(labels)), scored=dev.answers()))
    assert found["quadratic_kappa"].value > 0.8
    assert "a single rater" in found["human_human"].advice


def test_fewer_than_20_items():
    few = [one.take(range(15)) for one in (Collected(recall, WORLD).dev(), Collected(recall, WORLD).part("test"))]
    found = by_check(Material(dev=few[0], test=few[1], again=few[0], replicates=[few[0]]))
    needs_items = {"separation", "signal_to_noise", "items_needed", "dev_for_test", "retest", "saturation"}
    assert {found[check].verdict for check in needs_items} == {"not applicable"}
    assert all("15" in found[check].advice for check in needs_items)
    assert found["failures"].verdict == "pass"


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_utility_that_returns_nan(share):
    broken = {item.id for item in WORLD.dev[: round(share * len(WORLD.dev))]}
    scorer = FunctionScorer(lambda item, r: float("nan") if item.id in broken else quality(item, r.text))
    dev = scores(scorer, WORLD.dev, WORLD.experts["dev"])
    found = by_check(Material(dev=dev, test=Collected(recall, WORLD).part("test")))
    assert found["failures"].verdict == ("warn" if share < 0.1 else "fail")
    assert f"out_of_range {round(share * 2000)}" in found["failures"].advice
    if share < 1:
        assert found["separation"].verdict == found["dev_for_test"].verdict == "pass"
        assert np.isfinite(found["saturation"].value)
    else:
        assert "no answer was scored (out_of_range 2000 times)" in found["separation"].advice
        assert overall(list(found.values())).fitness == "not fit"
