"""A task of several turns of your own: who is wrong may try again, for half of the score.

    python examples/own_environment.py

The limits make it take half a minute; leave out `limit`, `particles` and `iterations` for a real search.
"""

import harness
from utilities.environments.base import Environment, Observation, environment_registry


@environment_registry.register("two_tries")
class TwoTries(Environment):
    def start(self, item):
        return item, ()

    def observe(self, state):
        item, tried = state
        left = [option for option in item.choices.values() if option not in tried]
        return Observation(f"{item.question}\nAnswer:", tuple(left))  # chosen by likelihood

    def act(self, state, action):
        return state[0], (*state[1], action)

    def done(self, state):
        return len(state[1]) == 2 or self.score(state) > 0

    def score(self, state):
        item, tried = state
        return 1 / len(tried) if tried and tried[-1] == item.choices[item.answer] else 0.0


if __name__ == "__main__":
    settings = {"task": "medical", "utility": "conversation", "option": ["environment=two_tries"], "limit": 10}
    run = harness.search(**settings, particles=3, iterations=1, display="plain")
    print(run.table())
