"""Baselines of `compare`: merges, ensembles, votes and fine-tuning, in place of a swarm."""
