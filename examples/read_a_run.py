"""Reads a run folder: settings, how the search went, and what was answered wrong.

python examples/read_a_run.py runs/medical-seed0
"""

import sys

from harness import open_run


def main(folder):
    run = open_run(folder)
    print(run.settings["optimiser"], "on", run.settings["task"])
    print(run.table().round(4))
    print(run.history[["iteration", "evaluations", "best_metric"]])

    test = run.answers[run.answers["split"] == "test"]
    print(test.groupby(["label", "item_set"])["score"].mean())  # each model's accuracy on each item set
    wrong = test[(test["label"] == "winner") & (test["score"] == 0)]
    for row in wrong.head(3).itertuples():
        print(f"\n{row.question}\n  options: {row.options}\n  gold: {row.gold}, winner: {row.response}")


if __name__ == "__main__":
    main(sys.argv[1])
