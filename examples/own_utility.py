"""A utility of your own: a function from an item and a response to a number.

    python examples/own_utility.py

The limits make it take half a minute; leave out `limit`, `particles` and `iterations` for a real search.
"""

import harness
from utilities import utility


@utility(prompt="plain", max_tokens=4)
def right_and_short(item, response):
    """1 for the right number, less a hundredth for every character beside it."""
    text = response.text.strip()
    right = item.answer in text.split()
    return float(right) - 0.01 * (len(text) - len(item.answer) * right)


def main():
    run = harness.search(
        task="gsm8k",  # its questions; the utility replaces its scorer
        utility=right_and_short,
        combine="mean",  # scores may be negative
        limit=8,
        particles=4,
        iterations=1,
        display="plain",
    )
    print(run.table())
    print(run.winner.coefficients)


if __name__ == "__main__":
    main()
