"""`python run.py lab`: what the checks of `utilities.lab` need is measured, judged, shown and kept."""
