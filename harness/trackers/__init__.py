"""Subscribers of a run's events that pass its numbers to a tracking tool."""
