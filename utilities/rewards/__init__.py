"""Reward models, normalisation of their raw scores, and mixes of reward objectives."""

from utilities.rewards.mixes import WORD_LIMIT, Mix, conflict, length_score, mixes, pareto_front
from utilities.rewards.normalization import NoNormalization, Normalization, Range, ZScore, normalizations
from utilities.rewards.reward_model import RewardModel

__all__ = [
    "Mix",
    "NoNormalization",
    "Normalization",
    "Range",
    "RewardModel",
    "WORD_LIMIT",
    "ZScore",
    "conflict",
    "length_score",
    "mixes",
    "normalizations",
    "pareto_front",
]
