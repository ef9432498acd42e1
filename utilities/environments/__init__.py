"""Environments: tasks of several turns, in which a model acts, observes, and acts again."""
