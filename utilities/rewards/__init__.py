"""Reward models, normalisation of their raw scores, and mixes of reward objectives."""
