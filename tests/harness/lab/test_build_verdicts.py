"""What the lab said of the built-in utilities, where a user would pick one."""

from pathlib import Path
from typing import get_args

import pytest

from harness.lab.build_verdicts import CASES, UNTRIED, part_of_task
from harness.lab.design import read_designs
from utilities.core import scorer_registry
from utilities.lab import CHECKS, Fitness
from utilities.lab.verdicts import VERDICTS, read_verdicts, verdicts_table, verdicts_text
from utilities.tasks import load_task

ROOT = Path(__file__).parents[3]


def test_every_built_in_utility_has_a_verdict_or_a_reason_why_not():
    tried = {design.utility for case in CASES for design in read_designs(case.designs)}
    assert sorted([*tried, *UNTRIED]) == sorted(scorer_registry)
    verdicts = read_verdicts()
    assert sorted(verdicts) == sorted(scorer_registry)
    titles = {weight.title for weight in CHECKS.values()}
    for name, one in verdicts.items():
        if name in UNTRIED:
            assert (one.fitness, one.because) == ("no verdict", (UNTRIED[name],))
        else:
            assert one.fitness in get_args(Fitness)
            assert set(one.because) | set(one.warned) <= titles
            assert one.dev_items >= 20
            assert bool(one.because) == (one.fitness != "fit as objective")


def test_the_file_is_as_the_lab_writes_it():
    assert VERDICTS.read_text(encoding="utf-8") == verdicts_text(read_verdicts())


def test_the_docs_show_the_verdicts():
    assert verdicts_table(read_verdicts()) in (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")


def test_the_list_of_utilities_shows_the_verdicts(here):
    done = here("list", "utilities")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for name, one in read_verdicts().items():
        (at,) = [k for k, line in enumerate(lines) if line.startswith(f"{name} ")]
        assert f"lab: {one.fitness}" in lines[at + 1]


@pytest.mark.parametrize("case", [case for case in CASES if case.item_set or case.domain], ids=lambda case: case.task)
def test_a_part_of_a_task_is_a_task(tmp_path, case):
    task = load_task(part_of_task(case, tmp_path), edition="mini")
    (items,) = task.item_sets.values()
    assert len(items.dev) >= 50
    assert {item.domain for item in items.dev} == {case.domain or "letter"}
