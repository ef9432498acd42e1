"""Judges: utilities that use a language model as the judge, with budget, cache, panels and canaries."""
