"""Cheaper evaluations: a particle is asked as few items as the search's next decision needs.

A task's items are cut into stages (`stages.py`), and a particle goes through them one by one (`partial.py`). Two things
may end it early. Exact pruning (`bounds.py`, `pruning.py`): no answer to the items that are left could change anything
that the search does. Racing (`paired.py`, `racing.py`): on the items that both were asked it is behind the leader by
more than chance. Which items are asked first is learned from what the first particles answered (`informative.py`).
What is saved is counted in items (`cost.py`). `evaluator.py` is the one door for a search.
"""
