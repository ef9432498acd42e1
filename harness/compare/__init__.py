"""Compares methods at equal budget: `result.py` holds the results, `statistics.py` the significance tests."""
