"""Methods at equal budget: `result.py` says what was found, `statistics.py` what may be concluded from it."""
