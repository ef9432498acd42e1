"""A search by a judge: answers to instructions on a topic, rated by a language model, with a limit of its cost.

    python examples/judge.py                                    # the bundled judge
    python examples/judge.py my-model http://localhost:8000/v1  # any OpenAI-compatible server

The limits make it take a minute; leave out `limit`, `particles` and `iterations` for a real search.
"""

import sys

import harness


def main(judge="embedded", url=None):
    run = harness.search(
        task="electric_vehicles",
        judge=judge,
        judge_url=url,
        budget_tokens=2_000_000,
        limit=6,
        particles=3,
        iterations=1,
        display="plain",
    )
    print(run.table())
    print("judge:", run.result.judging)
    answers = run.answers.query("label == 'winner' and split == 'test' and report_only.isna()")
    print(answers[["question", "response", "score"]].head(3))


if __name__ == "__main__":
    main(*sys.argv[1:])
