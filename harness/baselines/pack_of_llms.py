"""Pack of LLMs: models weighted by their perplexity of the prompt.

Mavromatis, Karypis and Karypis, arXiv 2404.11531: the weights of the variant `sim`, softmax(-log perplexity / tau) over
the models. Data used: the prompt. Simplified: whole options are mixed instead of next tokens (see `ensemble.py`), and
all models share one vocabulary, so no vocabularies are aligned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utilities.core import Model, Unscored

__all__ = ["TAU", "log_perplexities", "pack_weights"]

TAU = 0.1
"""Temperature of the weights. Adapters of one base model have similar perplexities: at 1 all weights would be equal."""


async def log_perplexities(model: Model, prompts: Sequence[str]) -> list[float]:
    """Log-perplexity of each prompt in nats a token, given its first word; nan if the model cannot read it.

    A prompt of one word has 0.
    """
    parts = [re.match(r"(\s*\S+)(.*)", prompt, re.DOTALL) for prompt in prompts]
    split = [(part[1], part[2]) if part else (prompt, "") for part, prompt in zip(parts, prompts, strict=True)]
    long = [k for k, (_, rest) in enumerate(split) if rest.strip()]
    answers = await model.choice_logprobs([split[k][0] for k in long], [[split[k][1]] for k in long])
    values = [0.0] * len(prompts)
    for k, answer in zip(long, answers, strict=True):
        values[k] = float("nan") if isinstance(answer, Unscored) else -answer.logprobs[0] / max(1, answer.tokens[0])
    return values


def pack_weights(log_perplexity: NDArray[np.float64], tau: float = TAU) -> NDArray[np.float64]:
    """softmax(-log perplexity / tau) over the models.

    Args:
        log_perplexity: [models, prompts]; nan if a model could not read a prompt; its weight is 0.
        tau: Temperature.

    Returns:
        Weights [models, prompts] that sum to 1 over the models; all equal if no model could read the prompt.
    """
    from scipy.special import softmax

    usable = np.isfinite(log_perplexity)
    scores = np.where(usable, -log_perplexity / tau, -np.inf)
    scores = np.where(usable.any(axis=0), scores, 0.0)
    return np.asarray(softmax(scores, axis=0))
