"""The answer of several models together: their probabilities of each option, weighted and added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utilities.core import Item, Response

__all__ = ["can_mix", "heaviest_answer", "mixed_answer"]


def can_mix(items: Sequence[Item], answers: Sequence[Sequence[Response | None]]) -> bool:
    """Whether the probabilities of options are known of all answers [items][models], so that they can be mixed.

    Generated answers would have to be mixed token by token, by models that run together.
    """
    told = (response for own in answers for response in own if response is not None)
    return all(item.choices for item in items) and all(response.choice_logprobs is not None for response in told)


def heaviest_answer(item: Item, responses: Sequence[Response | None], weights: NDArray[np.float64]) -> Response | None:
    """The answer of the model with the highest weight among those that answered; None where none did."""
    answered = [k for k, response in enumerate(responses) if response is not None]
    return responses[max(answered, key=lambda k: weights[k])] if answered else None


def mixed_answer(item: Item, responses: Sequence[Response | None], weights: NDArray[np.float64]) -> Response | None:
    """The answer of the mixture sum_k w_k P_k(option), from stored log-probabilities.

    The weights are those of whole options and not, as where models generate together, of single tokens; the mixture is
    a distribution over texts all the same, and what is stored of it may be divided by lengths as of any model.

    Args:
        item: What was asked; it has options.
        responses: One a model, with `choice_logprobs`; None where a model did not answer.
        weights: w [models], not negative; those of models that answered are brought to the sum 1.

    Returns:
        The mixture's response; None where nobody with a weight answered.
    """
    from scipy.special import logsumexp

    told = [(response, w) for response, w in zip(responses, weights, strict=True) if response is not None and w > 0]
    if not told:
        return None
    logprobs = np.array([response.choice_logprobs for response, _ in told], dtype=np.float64)
    w = np.array([weight for _, weight in told])
    mixed = logsumexp(logprobs, axis=0, b=(w / w.sum())[:, None])
    letter = list(item.choices or {})[int(np.argmax(mixed))]
    return replace(told[0][0], text=letter, choice_logprobs=tuple(float(value) for value in mixed), more=())
