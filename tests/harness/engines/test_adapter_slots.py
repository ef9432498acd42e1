from types import SimpleNamespace

import pytest

from harness.engines.adapter_slots import RANKS, lora_rank, slots_that_fit
from utilities.errors import UserError


@pytest.mark.parametrize(
    ("rank", "slot"), [(1, 1), (2, 8), (8, 8), (9, 16), (64, 64), (65, 128), (257, 320), (512, 512)]
)
def test_a_slot_has_the_smallest_rank_that_holds_the_adapters(rank, slot):
    assert lora_rank(rank) == slot


def test_a_rank_that_no_slot_holds_is_refused_with_the_largest():
    with pytest.raises(UserError, match=f"rank 600.*{RANKS[-1]}"):
        lora_rank(600)


def test_slots_are_what_is_left_beside_the_base_model():
    pool = SimpleNamespace(parameters=40_000_000, rank=16)  # 80 MB in bfloat16
    gigabyte = 10**9
    assert slots_that_fit(20, pool, 80 * gigabyte, 14 * gigabyte) == 20
    assert slots_that_fit(20, pool, 16 * gigabyte, 14 * gigabyte) == 5
    assert slots_that_fit(20, pool, 14 * gigabyte, 14 * gigabyte) == 1  # vLLM says what is missing
    pool.rank = 20  # in slots of rank 32
    assert slots_that_fit(20, pool, 16 * gigabyte, 14 * gigabyte) == 3
