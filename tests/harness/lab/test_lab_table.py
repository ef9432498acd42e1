"""The lab on a screen of 80 columns, and its figure."""

import io

import pytest
from rich.console import Console

from harness.lab.result import Examination, Examined, Found, Searched
from harness.lab.table import examination_tables, figure_of
from harness.run_folder.result import Measured
from utilities.lab import CHECKS, Conclusion, Finding, inapplicable
from utilities.lab.designs import Agreement, Design, Designs


def a_finding(check, verdict, **told):
    title = CHECKS[check].title
    advice = f"{check} says what is to be done, in a sentence that does not fit a line of eighty columns"
    return Finding(check=check, title=title, verdict=verdict, advice=advice, **told)


@pytest.fixture
def examination():
    findings = [inapplicable(check, "there are no labels") for check in CHECKS]
    findings[0] = a_finding("failures", "pass", value=0.0, yardstick="at most 10% of any model's answers " * 4)
    findings[1] = a_finding("timeouts", "warn", value=-123456.0, low=-1234567.0, high=0.00001234)
    findings[2] = a_finding("same_label", "fail", value=0.5, low=0.25, high=0.75)
    reasons = ("same label as the raters: do this", "separable pairs of experts: not shown, and nothing else")
    conclusion = Conclusion(fitness="fit as report only", reasons=reasons)
    names = ("a_rather_long_file_name.py:and_a_function", "numeric")
    designs = [
        Examined(
            design=name, utility=name, options=[], findings=findings, conclusion=conclusion, models=[], mixtures=[]
        )
        for name in names
    ]
    rows = tuple(
        Design(name=n, best="pharmacy-quiz", values={}, separation=0.5, signal_to_noise=2.5, items_needed=1234.0)
        for n in names
    )
    measured = Measured(value=0.5, se=0.1, n=20, unscored=0)
    trial = Found(seed=0, objective=1.0, test=measured, coefficients={}, evaluations=60, seconds=12.0)
    searched = [
        Searched(design=names[1], trials=[trial], test=0.5, behind=0.0, low=None, high=None),
        Searched(design=names[0], trials=[trial], test=0.25, behind=0.25, low=0.1, high=0.4),
    ]
    return Examination(
        task="sums",
        edition="mini",
        dev_items=20,
        test_items=20,
        model="embedded",
        engine=None,
        experts=["ant"],
        judges=[],
        labels=None,
        seed=0,
        version="0",
        made="2026-01-31",
        designs=designs,
        compared=Designs(
            designs=rows, agreements=(Agreement(first=names[0], second=names[1], tau=0.5, low=0.1, high=0.9),)
        ),
        searched=searched,
        cost=None,
        seconds=1.0,
    )


def test_everything_is_said_in_eighty_columns(examination):
    console = Console(file=io.StringIO(), width=80)
    console.print(examination_tables(examination))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    told = " ".join(text.split())
    for finding in examination.designs[0].findings[:3]:
        assert (finding.advice in told) == (finding.verdict != "pass")
        assert finding.title in told
    lines = text.splitlines()
    assert lines[0] == "a_rather_long_file_name.py:and_a_function: fit as report only"
    marks = [line.split()[0] for line in lines if line.startswith(("pass", "warn", "fail"))]
    assert marks[:3] == ["fail", "warn", "pass"]
    assert told.count("there are no labels") == 2  # once a design
    assert "reasons: same label as the raters; separable pairs of experts (not shown)" in told
    assert "0.50 [0.25, 0.75]" in told
    assert "0.25 [0.10, 0.40]" in told
    assert "significantly worse than the best: a_rather_long_file_name.py:and_a_function" in told
    assert text.count("fit as report only") == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0.0, "0.00"),
        (-0.001, "-1e-3"),
        (0.0004321, "4e-4"),
        (0.126, "0.13"),
        (-12.34, "-12.3"),
        (1234.5, "1,234"),
        (-123456.0, "-1e5"),
    ],
)
def test_numbers_are_short(value, told):
    assert figure_of(value) == told
