"""How utilities are named on the command line of the lab."""

import pytest

from harness.lab.design import Design, own_design, read_designs
from harness.session.settings import run_settings
from utilities.errors import UserError
from utilities.task_file import read_task_file


def edition(task, name="mini"):
    return read_task_file(task)[0].editions[name]


def test_options_follow_the_name():
    (one, two) = read_designs(["topic_interest,variant=paper,expected=false", "my,folder/mine.py:f,time_limit_s=2"])
    assert one == Design(
        "topic_interest,variant=paper,expected=false", "topic_interest", ("variant=paper", "expected=false")
    )
    assert (two.utility, two.options) == ("my,folder/mine.py:f", ("time_limit_s=2",))


def test_the_tasks_own_scorer_keeps_the_options_of_its_task():
    settings = run_settings({"task": "gsm8k", "option": ("max_tokens=5",)})
    own = Design("numeric", "numeric", ("stop=.",)).settings(settings, edition("gsm8k"))
    other = Design("exact_match", "exact_match").settings(settings, edition("gsm8k"))
    assert (own.utility, own.option) == (None, ("max_tokens=5", "stop=."))
    assert (other.utility, other.option) == ("exact_match", ("max_tokens=5",))
    assert own.judging.monitor_share == 0


def test_without_a_design_the_task_is_asked_for_its_own():
    assert own_design(edition("medical")).utility == "multiple_choice"
    with pytest.raises(UserError, match="several scorers; name one of them: abstain, multiple_choice"):
        sets = {**edition("abstain_mmlu").item_sets, "more": edition("medical").item_sets["cases"]}
        own_design(edition("medical").model_copy(update={"item_sets": sets}))


@pytest.mark.parametrize(
    ("designs", "words"),
    [
        ([""], "expected NAME, FILE.py:NAME"),
        ([",a=1"], "expected NAME"),
        (["numeric", "numeric"], "named twice"),
        (["numeric,a={"], "not readable as YAML"),
    ],
)
def test_a_mistake_is_named(designs, words):
    with pytest.raises(UserError, match=words):
        read_designs(designs)
