"""Tables and sentences on results: complete at every width, and nothing in a name is read as markup."""

from io import StringIO

import pytest
from rich.cells import cell_len

from harness.display.console import open_console
from harness.display.tables import difference_line, evaluation_table, mixture, result_table, unscored_reason
from harness.run_folder.result import Difference, Measured, Row
from utilities.core import Evaluation, ItemResult, Reason, Response, Score, Unscored

NAMES = ["base model", "an-expert-with-a-rather-long-name-v2", "x[/]", "c"]


def printed(table, width=100):
    console = open_console(file=StringIO(), record=True, width=width)
    console.print(table)
    return console.export_text().splitlines()


def evaluation(outcomes, measures=None):
    scored = [one if isinstance(one, Unscored) else Score(one, measures or {}) for one in outcomes]
    return Evaluation.of([ItemResult(str(k), str(k), "", Response("x"), one) for k, one in enumerate(scored)])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": 1.0, "b": 0.0}, "1.00 a"),
        ({"a": -0.5, "b": 0.25}, "- 0.50 a + 0.25 b"),
        ({"a": 0.001}, ""),
        (dict.fromkeys("abcdef", 0.2), "0.20 a + 0.20 b + 0.20 c + 0.20 d (+ 2 more)"),
    ],
)
def test_mixture_in_words(weights, words):
    assert mixture(weights) == words


def test_the_result_table_shows_values_errors_and_gaps():
    rows = [
        Row(
            name="base model", kind="base", dev=0.5, dev_se=0.01, test=None, test_se=None, n=3, unscored=7, problem="x"
        ),
        Row(name="[b]", kind="expert", dev=0.6, dev_se=None, test=0.61, test_se=0.02, n=10, unscored=0),
    ]
    lines = printed(result_table(rows, "t", best_initial="[b]"))
    base, expert = (next(line for line in lines if name in line) for name in ("base model", "best initial"))
    assert [cell.strip() for cell in base.split("│")[1:-1]] == ["base model", "0.5000 ± 0.0100", "-", "3", "7"]
    assert [cell.strip() for cell in expert.split("│")[1:-1]][1:] == ["0.6000", "0.6100 ± 0.0200", "10", "0"]


@pytest.mark.parametrize("width", [72, 80, 120])
def test_names_values_and_counts_are_readable_at_every_width(width):
    measures = {f"measure {k}": float(k) for k in range(9)}
    parts = {name: evaluation([0.25, 0.75]) for name in ("cities", "rivers", "value", "n")}
    each = [evaluation([0.5 + k / 10, 0.5], measures) for k in range(4)]
    combined = [Evaluation(e.value, e.se, e.n, e.n_unscored, parts=parts | {"m": e}) for e in each]
    lines = printed(evaluation_table(dict(zip(NAMES, combined, strict=True)), "facts"), width)
    assert max(map(cell_len, lines)) <= width
    assert not any("…" in line for line in lines)
    first = lines[: next((k for k, line in enumerate(lines) if "continued" in line), len(lines))]
    for k, name in enumerate(NAMES):
        (line,) = [line for line in first if line.startswith(f"│ {name[:28]}")]
        assert [cell.strip() for cell in line.split("│")[2:5]] == [
            f"{combined[k].value:.4f} ± {combined[k].se:.4f}", "2", "0",
        ]  # fmt: skip
    text = "\n".join(lines)
    assert all(f" {heading} " in text for heading in (*parts, *measures))
    assert text.count("│ x[/]") == sum(line.startswith("┏") for line in lines)


def test_a_result_with_report_only_scores_fits_80_columns():
    scores = {f"report {k}": Measured(value=7.25, se=0.5, n=10, unscored=0) for k in range(4)}
    both = {"dev": 0.5, "dev_se": 0.01, "test": 0.5, "test_se": 0.01}
    rows = [Row(name=name, kind="expert", n=10, unscored=0, report_only=scores, **both) for name in NAMES]
    lines = printed(result_table(rows, "t"), 80)
    assert max(map(cell_len, lines)) <= 80 and not any("…" in line for line in lines)
    assert sum("x[/]" in line for line in lines) == sum(line.startswith("┏") for line in lines) > 1


def test_the_most_frequent_reason_of_unscored_items_is_below_the_table():
    silent = Unscored(Reason.MALFORMED, "no rating in the reply")
    some = evaluation([0.5, silent, silent, Unscored(Reason.REFUSED)])
    assert unscored_reason(some) == "malformed: no rating in the reply"
    assert unscored_reason(evaluation([0.5])) is None
    lines = printed(evaluation_table({"a": some, "b": evaluation([0.5] * 4)}, "t"))
    assert lines[-1] == "3 of 8 answers are unscored; most frequent reason: malformed: no rating in the reply"


def test_a_difference_that_is_not_available_has_its_reason():
    line = difference_line("winner - base", Difference(value=None, low=None, high=None, problem="too few items"))
    assert line == "winner - base: not available (too few items)"
