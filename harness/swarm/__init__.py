"""The search: Algorithm 1 of Model Swarms on rows of mixing coefficients `[particles, experts]`.

Read `update.py` for the formulas, `particle_swarm.py` for their order, `loop.py` for the loop.
"""
