"""Dataset scorers: generate, extract, score."""

from utilities.scorers.multiple_choice import MultipleChoice

__all__ = ["MultipleChoice"]
