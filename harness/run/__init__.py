"""One search to its end: adapt, winner selection, final test, over-optimisation monitor, model card."""
