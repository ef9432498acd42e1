"""The report of the searches on a family: its tables from stored evaluations, without the model."""

from harness.compare.result import Compared, Measured, Outcome, Versus
from harness.embedded_training.searches import LABELS, PLANS, TASKS, report


def outcome(method, task, seed, dev, test):
    values = [Measured(value=v, se=0.02, n=80, unscored=0, problem=None) for v in (dev, test)]
    return Outcome(
        **{"method": method, "task": task, "seed": seed, "dev": values[0], "test": values[1], "evaluations": 32},
        **{"items": 0, "tokens": 0, "seconds": 0.0, "coefficients": None, "adapter": None, "records": "", "note": None},
    )


def test_the_report_has_means_over_seeds_and_the_search_minus_every_method():
    outcomes = [outcome(m, t, s, 0.3 + 0.1 * s, 0.4 + 0.2 * s) for m in LABELS for t in TASKS for s in (0, 1)]
    contrast = {"difference": -0.012, "low": -0.03, "high": 0.01, "p": 0.4, "p_holm": 1.0, "verdict": "tie"}
    compared = Compared(
        **{"tasks": list(TASKS), "methods": list(LABELS), "seeds": [0, 1], "budget": 32, "engine": "local"},
        **{"model": "smollm2", "outcomes": outcomes, "absent": [], "noise_floor": {}},
        versus=[
            Versus(method=method, reference="swarm", task=task, detectable=0.034, **contrast)
            for method in LABELS
            if method != "swarm"
            for task in (*TASKS, "all")
        ],
        **{"ranking": None, "seconds": 1.0},
    )
    text = report(PLANS["smollm2"], compared)
    row = next(line for line in text.splitlines() if line.startswith("| **default search** |"))
    assert row == "| **default search** |" + " 0.350 ± 0.020 | 0.500 ± 0.020 |" * 4
    against = [line for line in text.splitlines() if "(-1.0 to +3.0)" in line]
    assert len(against) == len(LABELS) - 1
    assert against[1].startswith("| best single expert on dev | +1.2 (-1.0 to +3.0) |")
    assert against[1].endswith(" 3.4 |")
