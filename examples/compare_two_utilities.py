"""Which of two utilities separates the experts better, before a search is spent on one?

    python examples/compare_two_utilities.py

The limits make it take a minute; leave out `limit` for a real answer.
"""

import harness
from utilities import utility


@utility(prompt="plain", max_tokens=4)
def says_it(item, response):
    """The response contains the answer."""
    return item.answer in response.text


@utility(prompt="plain", max_tokens=4)
def short(item, response):
    """The shorter the better: a bad objective, which knows nothing of the question."""
    return -len(response.text)


def main():
    examination = harness.lab(says_it, short, task="gsm8k", limit=20, cloud=0, display="none")
    for examined in examination.designs:
        print(f"\n{examined.utility}: {examined.conclusion.fitness}")
        for reason in examined.conclusion.reasons:
            print(" -", reason)


if __name__ == "__main__":
    main()
