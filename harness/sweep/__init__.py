"""Sweeps over search hyperparameters."""
