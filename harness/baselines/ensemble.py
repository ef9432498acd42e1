"""Ensembles: the weighted mean of several models' probabilities of each option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utilities.core import Item, Response

__all__ = ["can_mix", "heaviest_answer", "mixed_answer"]


def can_mix(items: Sequence[Item], answers: Sequence[Sequence[Response | None]]) -> bool:
    """Whether all responses [items][models] have probabilities of options, so that they can be mixed.

    Generated answers would have to be mixed token by token, with all models running.
    """
    responses = (response for own in answers for response in own if response is not None)
    return all(item.choices for item in items) and all(response.choice_logprobs is not None for response in responses)


def heaviest_answer(item: Item, responses: Sequence[Response | None], weights: NDArray[np.float64]) -> Response | None:
    """The response of the model with the highest weight among those that answered; None if none did."""
    answered = [k for k, response in enumerate(responses) if response is not None]
    return responses[max(answered, key=lambda k: weights[k])] if answered else None


def mixed_answer(item: Item, responses: Sequence[Response | None], weights: NDArray[np.float64]) -> Response | None:
    """The answer of the mixture sum_k w_k P_k(option), from stored log-probabilities.

    Whole options are weighted, not single tokens; the mixture is a distribution over texts in both cases, and its
    log-probabilities may be normalised by length as those of any model.

    Args:
        item: It has options.
        responses: One a model, with `choice_logprobs`; None if a model did not answer.
        weights: w [models], not negative; those of models that answered are normalised to the sum 1.

    Returns:
        The response of the mixture; None if no model with a positive weight answered.
    """
    from scipy.special import logsumexp

    weighted = [(response, w) for response, w in zip(responses, weights, strict=True) if response is not None and w > 0]
    if not weighted:
        return None
    logprobs = np.array([response.choice_logprobs for response, _ in weighted], dtype=np.float64)
    w = np.array([weight for _, weight in weighted])
    mixed = logsumexp(logprobs, axis=0, b=(w / w.sum())[:, None])
    letter = list(item.choices or {})[int(np.argmax(mixed))]
    return replace(weighted[0][0], text=letter, choice_logprobs=tuple(float(value) for value in mixed), more=())
