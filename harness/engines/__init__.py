"""Who answers prompts on behalf of a particle: one protocol (`base.py`), several rooms."""
