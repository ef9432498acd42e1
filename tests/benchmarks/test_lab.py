"""How long all checks of the lab take on stored scores: ten experts, two hundred items."""

import time

import pytest
from simulated import EXPERTS, ITEMS, Collected, World, quality

from utilities.lab import CHECKS, examine

pytestmark = pytest.mark.benchmark


def test_all_checks_on_ten_experts_and_two_hundred_items():
    material = Collected(lambda item, text, rng: quality(item, text) + rng.normal(0, 0.01), World()).material()
    start = time.perf_counter()
    found = examine(material)
    print(
        f"\n{len(found)} checks of {EXPERTS} experts x {ITEMS} items: {time.perf_counter() - start:.1f} s (limit 30 s)"
    )
    assert len(found) == len(CHECKS)
    assert {one.verdict for one in found} == {"pass"}
