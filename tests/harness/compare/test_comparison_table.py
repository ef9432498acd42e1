import csv
import json
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.compare.result import ALL_TASKS, Absent, Compared, Measured, Outcome, Ranking, Versus
from harness.compare.table import COLUMNS, comparison_tables, live_view, task_table, write_csv
from harness.session.evaluator import measured
from utilities.core import Evaluation, ItemResult, Reason, Score, Unscored


def outcome(method, value, dev=None, task="medical", seed=None, **fields):
    given = {
        "dev": Measured(value=value if dev is None else dev, se=0.023, n=200, unscored=0),
        "test": Measured(value=value, se=0.0214, n=400, unscored=0),
        "evaluations": 0,
        "items": 0,
        "tokens": 0,
        "seconds": 2.04,
        "coefficients": None,
        "adapter": None,
        "records": f"records/{method}.parquet",
        "note": None,
    }
    return Outcome(method=method, task=task, seed=seed, **{**given, **fields})


def against(method, reference, difference, verdict, task="medical"):
    low, high = difference - 0.03, difference + 0.04
    return Versus(
        method=method,
        reference=reference,
        task=task,
        difference=difference,
        low=low,
        high=high,
        p=0.01,
        p_holm=0.02 if verdict != "tie" else 0.2,
        verdict=verdict,
    )


def compared(**changes):
    given = {
        "tasks": ["medical"],
        "methods": ["base", "best_single", "prediction_merge", "cma", "swarm", "data_merge"],
        "seeds": [0, 1, 2],
        "budget": 500,
        "engine": "local",
        "model": "embedded",
        "outcomes": [
            outcome("base", 0.607),
            outcome("best_single", 0.659, 0.661, evaluations=10, seconds=32.0),
            outcome("prediction_merge", 0.702),
            *(
                outcome("cma", 0.76 + 0.01 * k, 0.81 + 0.01 * k, seed=k, evaluations=500, seconds=1500)
                for k in range(3)
            ),
            *(outcome("swarm", 0.75 + 0.01 * k, 0.83, seed=k, evaluations=500, seconds=7000) for k in range(3)),
        ],
        "absent": [Absent(method="data_merge", task="medical", reason="the training data of [5] experts is not known")],
        "noise_floor": {"medical": 0.004},
        "versus": [
            against("base", "best_single", -0.052, "worse"),
            against("prediction_merge", "best_single", 0.043, "tie"),
            against("cma", "best_single", 0.111, "better"),
            against("swarm", "best_single", 0.101, "better"),
            against("swarm", "cma", -0.01, "tie"),
            against("prediction_merge", "cma", -0.068, "worse"),
        ],
        "ranking": None,
        "seconds": 3661.0,
    }
    return Compared(**{**given, **changes})


def shown(renderable, width=80, **options):
    console = Console(file=StringIO(), width=width, **options)
    console.print(renderable)
    return console.file.getvalue()


def line(text, start):
    (found,) = [one for one in text.splitlines() if one.startswith(start)]
    return found


def test_everything_of_a_method_stands_in_its_line():
    text = shown(comparison_tables(compared()))
    assert line(text, "cma").split() == (
        ["cma", ".820", ".770", "±", ".022", "+.111", "[+.081,", "+.151]", "▲", "+.050", "500", "25m"]
    )
    assert line(text, "base").split() == (
        ["base", ".607", ".607", "±", ".021", "-.052", "[-.082,", "-.012]", "▼", "+.000", "0", "2.0s"]
    )
    assert line(text, "prediction_merge").split()[8] == "="
    assert "reference" in line(text, "best_single")
    assert line(text, "swarm").endswith("1.9h")


def test_methods_stand_in_the_order_of_their_test_values():
    text = shown(task_table(compared(), "medical"))
    names = ["cma", "swarm", "prediction_merge", "best_single", "base"]
    assert [one.split()[0] for one in text.splitlines()[2:7]] == names


def test_the_best_cells_are_bold_and_ties_with_the_best_are_marked_and_explained():
    text = shown(task_table(compared(), "medical"))
    assert "≈" in line(text, "swarm")
    assert not any("≈" in line(text, name) for name in ("cma", "prediction_merge", "base"))
    assert line(text, "≈ not significantly different")
    coloured = shown(task_table(compared(), "medical"), force_terminal=True, color_system="standard")
    assert "\x1b[1;32m.770 ± .022\x1b[0m" in coloured
    assert "\x1b[1m.830\x1b[0m" in coloured  # on dev the swarm is the best


def test_below_the_table_stand_its_marks_the_noise_floor_and_who_is_absent_and_why():
    text = shown(task_table(compared(), "medical"))
    whole = " ".join(text.split())
    assert "Holm's correction for 4 methods" in whole and "up to .004 apart is a tie" in whole
    assert "absent: data_merge: the training data of [5] experts is not known" in whole
    assert "gap = dev - test" in whole


def test_values_that_are_missing_and_notes_are_told():
    problem = "60 of 100 items are unscored (limit 10%)"
    lost = Measured(value=None, se=None, n=40, unscored=60, problem=problem)
    outcomes = [
        outcome("best_single", 0.6),
        outcome("swarm", 0.7, seed=0, note="the search ended early"),
        outcome("swarm", None, 0.8, seed=1, test=lost),
        outcome("cma", None, 0.8, test=lost),
    ]
    text = " ".join(shown(comparison_tables(compared(outcomes=outcomes, versus=[]))).split())
    assert f"swarm: no test value: seed 1: {problem}" in text
    assert f"cma: no test value: {problem}" in text
    assert "swarm: the search ended early" in text
    assert "cma .800 - - 0" in text


def test_a_tie_for_the_best_is_bold_twice():
    outcomes = [outcome("best_single", 0.6), outcome("greedy_soup", 0.6), outcome("base", 0.5)]
    coloured = shown(
        task_table(compared(outcomes=outcomes, versus=[]), "medical"), force_terminal=True, color_system="standard"
    )
    assert coloured.count("\x1b[1;32m.600 ± .021\x1b[0m") == 2


def many(scale):
    tasks = ["medical", "a-task-with-a-very-long-name-that-nobody-would-want-to-type-twice-in-a-single-day"]
    outcomes, versus = [], []
    for task in tasks:
        for method in ("base", "best_single", "prediction_merge", "task_arithmetic"):
            se = Measured(value=-0.612 * scale, se=0.0214 * scale, n=400, unscored=0)
            outcomes.append(outcome(method, 0.0, task=task, test=se, evaluations=10000, seconds=360_000))
            if method != "best_single":
                versus.append(against(method, "best_single", -0.071 * scale, "worse", task))
    versus += [v.model_copy(update={"task": ALL_TASKS}) for v in versus[:3]]
    ranks = Ranking(
        mean_rank={"prediction_merge": 1.0, "task_arithmetic": 2.0, "base": 3.5, "best_single": 3.5},
        critical_difference=2.1,
        cliques=[["prediction_merge", "task_arithmetic"], ["task_arithmetic", "base", "best_single"]],
        friedman_p=0.012,
        note="not measured on every task: data_merge",
    )
    return compared(tasks=tasks, outcomes=outcomes, versus=versus, ranking=ranks)


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_tables_fit_80_columns_with_nothing_cut(scale):
    text = shown(comparison_tables(many(scale)))
    assert max(cell_len(one) for one in text.splitlines()) <= 80
    assert "…" not in text
    assert text.count("prediction_merge") == text.count("task_arithmetic") == 3


def test_values_above_1_have_two_decimals():
    assert "-5.51 ± 0.19" in shown(comparison_tables(many(9.0)))


def test_over_tasks_the_ranks_the_groups_and_the_tasks_won_are_shown():
    text = shown(comparison_tables(many(1.0))).split("over 2 tasks")[1]
    assert line(text, "prediction_merge").split()[:4] == ["prediction_merge", "1.00", "a", "0/0/2"]
    assert line(text, "task_arithmetic").split()[:3] == ["task_arithmetic", "2.00", "ab"]
    assert line(text, "base").split()[4:] == ["-.071", "[-.101,", "-.031]", "▼"]
    whole = " ".join(text.split())
    assert "critical difference 2.10; Friedman p = 0.012" in whole and "not measured on every task" in whole


def test_while_it_runs_what_is_missing_is_shown_as_missing():
    full = compared()
    empty = shown(live_view(compared(outcomes=[], absent=[], versus=[])))
    assert "0 of 6 methods" in empty and line(empty, "swarm").split() == ["swarm", ".."]
    part = shown(live_view(compared(outcomes=full.outcomes[:5], versus=[])))
    assert "5 of 6 methods measured or absent, 1:01:01" in part
    assert line(part, "cma 2/3") and line(part, "swarm").split() == ["swarm", ".."]
    assert "vs best_single" not in part


def test_the_live_view_shows_the_task_that_was_worked_on_last():
    outcomes = [outcome("base", 0.5, task="medical"), outcome("base", 0.6, task="legal")]
    text = shown(live_view(compared(tasks=["medical", "legal"], outcomes=outcomes, versus=[])))
    assert "legal" in text and "medical" not in text


def test_the_csv_has_a_line_an_outcome_and_gives_every_number_back(tmp_path):
    what = compared(
        outcomes=[outcome("swarm", 1 / 3, seed=2, coefficients={"a, b": 0.5}), outcome("base", 0.5, note='"so"')]
    )
    write_csv(what, tmp_path / "compare.csv")
    with (tmp_path / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS) and len(lines) == 2
    assert float(lines[0]["test"]) == 1 / 3 and lines[0]["seed"] == "2"
    assert json.loads(lines[0]["coefficients"]) == {"a, b": 0.5}
    assert lines[1]["seed"] == lines[1]["coefficients"] == "" and lines[1]["note"] == '"so"'
    assert [path.name for path in tmp_path.iterdir()] == ["compare.csv"]


def test_the_csv_has_a_column_for_every_field_of_an_outcome():
    fields = [name for name in Outcome.model_fields if name not in {"dev", "test"}]
    sides = [
        split if name == "value" else f"{split}_{name}" for split in ("dev", "test") for name in Measured.model_fields
    ]
    assert set(COLUMNS) == {*fields, *sides}


def test_a_comparison_comes_back_from_its_json_as_it_was():
    what = many(1.0)
    assert Compared.model_validate_json(what.model_dump_json()) == what


def test_an_evaluation_in_short_keeps_its_value_and_why_there_is_none():
    results = [ItemResult(f"i{k}", f"i{k}", "", "", Score(float(k))) for k in range(4)]
    assert measured(Evaluation.of(results)).value == 1.5
    lost = measured(Evaluation.of([ItemResult("i", "i", "", "", Unscored(Reason.TIME))]))
    assert (lost.value, lost.n, lost.unscored, lost.problem) == (None, 0, 1, "no item could be scored")
