"""The report of the comparison on SmolLM2: its tables from stored evaluations, without the model."""

from harness.compare.result import Compared, Measured, Outcome, Versus
from harness.embedded_training.smollm2_evidence import CONTRASTS, LABELS, TASKS, report


def outcome(method, task, seed, dev, test):
    values = [Measured(value=v, se=0.02, n=80, unscored=0, problem=None) for v in (dev, test)]
    return Outcome(
        **{"method": method, "task": task, "seed": seed, "dev": values[0], "test": values[1], "evaluations": 32},
        **{"items": 0, "tokens": 0, "seconds": 0.0, "coefficients": None, "adapter": None, "records": "", "note": None},
    )


def test_the_report_has_means_over_seeds_and_every_planned_contrast():
    outcomes = [outcome(m, t, s, 0.3 + 0.1 * s, 0.4 + 0.2 * s) for m in LABELS for t in TASKS for s in (0, 1)]
    contrast = {"difference": 0.012, "low": -0.01, "high": 0.03, "p": 0.4, "p_holm": 1.0, "verdict": "tie"}
    compared = Compared(
        **{"tasks": list(TASKS), "methods": list(LABELS), "seeds": [0, 1], "budget": 32, "engine": "local"},
        **{"model": "smollm2", "outcomes": outcomes, "absent": [], "noise_floor": {}, "versus": []},
        contrasts=[
            Versus(method=m, reference=r, task=task, detectable=0.034, **contrast)
            for m, r in CONTRASTS
            for task in (*TASKS, "all")
        ],
        **{"ranking": None, "seconds": 1.0},
    )
    text = report(compared)
    row = next(line for line in text.splitlines() if line.startswith("| **default search** |"))
    assert row == "| **default search** |" + " 0.350 ± 0.020 | 0.500 ± 0.020 |" * 4
    against = [line for line in text.splitlines() if "(-1.0 to +3.0)" in line]
    assert len(against) == len(CONTRASTS)
    assert against[0].startswith("| best single expert on dev | +1.2 (-1.0 to +3.0) |") and against[0].endswith(
        " 3.4 |"
    )
