"""Drafts the task of a topic."""
