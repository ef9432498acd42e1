"""`python run.py lab`: measures the inputs of the checks of `utilities.lab`, runs, shows and stores them."""
