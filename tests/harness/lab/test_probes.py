"""Answers that no model gave, scored for a design, with the experts' answers under the same names of items."""

import asyncio
from types import SimpleNamespace

import pytest
from scripted_panel import ScriptedJudge, ScriptedPanel

from harness.lab.design import Design
from harness.lab.findings import findings
from harness.lab.observations import Observations
from harness.lab.probes import JUDGED_PROBES, Probes
from harness.run_folder.store import Store
from harness.session.settings import run_settings
from utilities.core import Item, Response
from utilities.judges.topic_interest import WAYS, TopicInterest
from utilities.lab import Label, Labels
from utilities.prompts import load_prompt
from utilities.scorers.exact_match import ExactMatch
from utilities.tasks import ItemSet, Task


class Says:
    """A model that is right as often as it says."""

    def __init__(self, every):
        self.every = every

    async def generate(self, prompts, *, max_tokens, stop=()):
        return [Response(f"w{k}" if k % self.every else f"right answer {k}") for k, _ in enumerate(prompts)]


def a_task(scorer, sets=("one",), group_by=None, items=24):
    made = {
        name: ItemSet(
            name,
            scorer,
            *(
                tuple(
                    Item(id=f"{k}", question=f"{name} {k}?", answer=f"right answer {k}", domain="xy"[k % 2])
                    for k in range(items)
                )
                for _ in range(2)
            ),
            origin="here",
            group_by=group_by,
        )
        for name in sets
    }
    return Task("made", "Made", "own", "mean", made, {})


@pytest.fixture
def probe(tmp_path):
    def run(task, judge=None, probes=None):
        (tmp_path / "records").mkdir(exist_ok=True)
        observed = Observations(Design("d", "d"), task)
        models = {f"m{every}": Says(every) for every in (1, 2, 3)}
        observed.dev = {name: asyncio.run(task(model, "dev")) for name, model in models.items()}
        probing = Probes(observed, Store(tmp_path), judge, probes)
        asyncio.run(probing.probe(lambda text: None))
        return observed, probing

    return run


@pytest.mark.parametrize("options", [{}, {"group_by": "domain"}, {"sets": ("one", "two")}])
def test_probes_have_the_names_of_the_items_whatever_sets_and_groups_there_are(probe, options):
    observed, probing = probe(a_task(ExactMatch(), **options))
    found = {one.check: one for one in findings(observed, run_settings({"task": "made"}))}
    for check in ("ladder", "padding", "paraphrases", "attacks", "retest"):
        assert found[check].verdict != "not applicable", found[check].advice
    assert found["ladder"].value >= 0.5
    assert found["padding"].numbers["gains"] == 0
    asked = sum(len(items) for items in probing.items.values())
    assert observed.canaries["empty"].n == asked


def test_few_probes_are_spread_over_the_item_sets(probe):
    _, probing = probe(a_task(ExactMatch(), sets=("one", "two")), probes=10)
    assert {name: len(items) for name, items in probing.items.items()} == {"one": 5, "two": 5}


def test_judges_see_a_part_and_are_asked_anew_by_number(probe):
    judge = ScriptedJudge(lambda asked: f"Rating: {1 + len(asked.text) % 10}/10")
    panel = ScriptedPanel([judge])
    panel.budget = SimpleNamespace(exhausted=False)
    scorer = TopicInterest("made", variant="paper", expected=False, judge=panel)
    observed, probing = probe(a_task(scorer, items=30), judge=panel)
    assert len(probing.items["one"]) == JUDGED_PROBES
    assert {asked.options["replicate"] for asked in judge.asked} == {0, 1, 2}
    assert list(observed.paraphrased) == ["reworded"]


def test_labels_name_items_by_id_or_with_their_set(probe):
    observed, probing = probe(a_task(ExactMatch(), sets=("one", "two")))
    labels = [Label("two/3", "right answer 3", "ann", 1), Label("4", "m1", "ann", 1), Label("none", "x", "ann", 0)]
    asyncio.run(probing.label(Labels(tuple(labels))))
    assert observed.labelled == {("two/3", "right answer 3"): 1.0, ("4", "m1"): 1.0}


@pytest.mark.parametrize("name", [*(f"topic_interest_{variant}" for variant in WAYS), "pairwise"])
def test_a_reworded_prompt_reads_the_same_and_is_another_text(name):
    own, reworded = load_prompt(name), load_prompt(f"{name}_reworded")
    assert sorted(own.about.variables) == sorted(reworded.about.variables)
    assert own.about.output == reworded.about.output
    assert own.hash != reworded.hash
