"""Pack of LLMs: for every prompt, models count the more the less the prompt surprises them.

Mavromatis, Karypis and Karypis, arXiv 2404.11531: the weights of the variant `sim`, softmax(-log perplexity / tau) over
the models. It sees the prompt and nothing else. Simplified: whole options are mixed instead of next tokens (see
`ensemble.py`), and all models share one vocabulary, so that nothing has to be aligned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utilities.core import Model, Unscored

__all__ = ["TAU", "log_perplexities", "pack_weights"]

TAU = 0.1
"""Temperature of the weights. Adapters of one base model are surprised nearly alike: at 1 all would count the same."""


async def log_perplexities(model: Model, prompts: Sequence[str]) -> list[float]:
    """Log-perplexity of each prompt a token, given its first word; nan where the model cannot read it.

    A prompt of one word is surprising to nobody: 0.
    """
    parts = [re.match(r"(\s*\S+)(.*)", prompt, re.DOTALL) for prompt in prompts]
    split = [(part[1], part[2]) if part else (prompt, "") for part, prompt in zip(parts, prompts, strict=True)]
    long = [k for k, (_, rest) in enumerate(split) if rest.strip()]
    found = await model.choice_logprobs([split[k][0] for k in long], [[split[k][1]] for k in long])
    values = [0.0] * len(prompts)
    for k, answer in zip(long, found, strict=True):
        values[k] = float("nan") if isinstance(answer, Unscored) else -answer.logprobs[0] / max(1, answer.tokens[0])
    return values


def pack_weights(log_perplexity: NDArray[np.float64], tau: float = TAU) -> NDArray[np.float64]:
    """softmax(-log perplexity / tau) over the models.

    Args:
        log_perplexity: [models, prompts]; nan where a model could not read a prompt, which gives it no weight.
        tau: Temperature.

    Returns:
        Weights [models, prompts] that sum to 1 over the models; all the same where no model could read the prompt.
    """
    from scipy.special import softmax

    usable = np.isfinite(log_perplexity)
    scores = np.where(usable, -log_perplexity / tau, -np.inf)
    scores = np.where(usable.any(axis=0), scores, 0.0)
    return np.asarray(softmax(scores, axis=0))
