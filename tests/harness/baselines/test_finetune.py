"""One LoRA trained on pairs: it learns them, is an adapter like the experts, and is the same under the same seed."""

import pytest
import torch
from peft import LoraConfig

from harness.baselines.finetune import finetune, held_out_pairs, pairs_of, why_no_pairs
from harness.baselines.training_texts import Pair
from harness.experts.adapter import read_adapter
from harness.experts.pool import open_pool
from utilities.core import Item
from utilities.errors import UserError
from utilities.scorers.exact_match import ExactMatch
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import load_task

pytestmark = pytest.mark.slow

PAIRS = [Pair(f"Question {k}: what?\nAnswer:", " B" if k % 2 else " A") for k in range(10)]


def test_it_learns_and_fits_the_pool_of_the_experts(base, adapters, tmp_path):
    found = finetune(base, adapters[0], PAIRS, tmp_path / "one", epochs=3, seed=1, device="cpu")
    assert found.epochs >= 1  # so the held-back loss fell
    made = read_adapter(tmp_path / "one")
    assert any(made.delta(module).abs().max() > 0 for module in made.factors)
    assert LoraConfig.from_pretrained(tmp_path / "one").base_model_name_or_path == "tiny"
    assert open_pool([*map(str, adapters), str(tmp_path / "one")], base).names == ["ant", "bee", "cat", "one"]
    state = torch.get_rng_state()
    again = finetune(base, adapters[0], PAIRS, tmp_path / "two", epochs=3, seed=1, device="cpu")
    assert again == found
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers change
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_about_a_share_of_the_pairs_is_held_out_by_whole_sources():
    assert len(held_out_pairs([None] * 10, 0.2, seed=0)) == 2
    assert len(held_out_pairs(["a", None], 0.01, seed=0)) == 1
    items = load_task("medical", edition="mini").item_sets
    sources = [item.source for s in items.values() for item in s.dev]
    for seed in range(3):
        held = held_out_pairs(sources, 0.2, seed)
        assert 0.2 <= len(held) / len(sources) < 0.23
        assert not {sources[k] for k in held} & {one for k, one in enumerate(sources) if k not in held}
    with pytest.raises(UserError, match="two or more sources"):
        held_out_pairs(["a"] * 5, 0.2, seed=0)


def test_pairs_that_do_not_fit_are_left_out_and_nothing_left_is_told(base, adapters, tmp_path):
    with pytest.raises(UserError, match="1 training pairs fit"):
        finetune(base, adapters[0], [PAIRS[0], Pair("x" * 600, " y")], tmp_path / "one", epochs=1)


def test_the_gold_answer_follows_the_scorers_own_prompt():
    item = Item(id="1", question="Which?", choices={"A": "red", "B": "blue"}, answer="B")
    (by_text,) = pairs_of(MultipleChoice(prompt="plain", answer_by="text"), [item])
    (by_letter,) = pairs_of(MultipleChoice(), [item])
    (free,) = pairs_of(ExactMatch(), [Item(id="2", question="How many?", answer="12")])
    assert by_text.answer == " blue"
    assert by_letter.answer == " B"
    assert "Which?" in by_text.prompt
    assert free.answer == " 12"
    assert "no right answer" in why_no_pairs(ExactMatch(), [Item(id="3", question="Tell me.")])
    assert why_no_pairs(ExactMatch(), [Item(id="2", question="How many?", answer="12")]) is None
    assert "no prompt of its own" in why_no_pairs(object(), [item])
