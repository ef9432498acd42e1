from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from harness.engines.adapter_check import AdapterCheck, base_tolerance, check_finite_logprobs, check_like_local
from harness.engines.local_reference import first_expert_logprobs
from harness.engines.settings import EngineSettings
from harness.engines.tokenizer import Tokens
from harness.experts.pool import open_pool
from utilities.errors import UserError


def test_an_adapter_is_applied_if_log_probabilities_differ_by_more_than_rounding(base, adapters):
    pool = open_pool([str(folder) for folder in adapters], base)
    check = AdapterCheck(Tokens(base))
    plain = np.linspace(-3.0, -1.0, len(check.ids) - 1)
    check.record_base([plain, plain + 1e-6, plain - 1e-6, plain])
    row = np.array([1.0, 0.0, 0.0])
    assert not check.is_applied(plain + 5e-7, pool, row)
    assert check.is_applied(plain + 0.1, pool, row)
    assert check.is_applied(plain, pool, np.zeros(3))  # a mixture that changes nothing
    assert check.is_base(plain + 5e-6) and not check.is_base(plain + 0.1)


def test_log_probabilities_that_are_no_numbers_are_named_by_token(base):
    long = AdapterCheck(Tokens(base)).long
    assert len(long) > 300
    values = np.full(len(long) - 1, -1.0)
    check_finite_logprobs(values, "vllm")
    values[128] = np.nan
    with pytest.raises(UserError, match=rf"token 129 of a prompt of {len(long)} tokens is not a finite number"):
        check_finite_logprobs(values, "vllm")


def test_log_probabilities_of_an_expert_are_compared_with_the_local_engines(base, adapters):
    pool = open_pool([str(folder) for folder in adapters], base)
    ids = AdapterCheck(Tokens(base)).long
    plain, expected = first_expert_logprobs(pool, ids, EngineSettings(), torch.float32)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapters[0]).eval()
    with torch.inference_mode():
        values = model(torch.tensor([ids])).logits[0, :-1].log_softmax(dim=-1)
    ours = values.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
    check_like_local(ours, expected, 0.01, "vllm", "a")
    ours[128:] -= 3.0
    with pytest.raises(UserError, match=r"with expert 'a', .* differ from the local engine's by .* from token 129 on"):
        check_like_local(ours, expected, 0.01, "vllm", "a")
    assert base_tolerance(plain, plain) == 0.01 and base_tolerance(expected, plain) is None
    assert base_tolerance(np.array(plain) + 0.01, plain) == pytest.approx(0.05)
    assert base_tolerance(np.full(len(plain), np.nan), plain) is None
    with pytest.raises(UserError, match="quantised"):
        first_expert_logprobs(pool, ids, EngineSettings(quantization="fp8"), torch.float32)
