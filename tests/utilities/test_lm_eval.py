"""The same model and the same items through lm-evaluation-harness: the same choices, item by item.

Needs the extra `compat` (lm-eval); everything else of the project works without it.
"""

import asyncio
import json

import pytest

from harness.embedded import BASE
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from utilities.data_files import read_published
from utilities.prompts import bundled
from utilities.scorers.multiple_choice import MultipleChoice

lm_eval = pytest.importorskip("lm_eval", reason="the extra `compat` is not installed")
pytestmark = pytest.mark.slow

SETS = ("medical_questions", "legal_cases")  # 400 and 400 test items


@pytest.fixture(scope="module")
def items():
    return [item for name in SETS for item in read_published(bundled("tasks") / "data" / f"{name}.json")["test"]]


@pytest.fixture(scope="module")
def theirs(items, tmp_path_factory):
    """lm-eval's record of each item, in the order of the items."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    path = tmp_path_factory.mktemp("lm_eval") / "items.jsonl"
    rows = [
        {"text": item.question, "options": list(item.choices.values()), "gold": list(item.choices).index(item.answer)}
        for item in items
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    task = ConfigurableTask(
        config={
            "task": "bundled",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}\nAnswer:",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    )
    model = HFLM(pretrained=str(BASE), device="cpu", dtype="float32", batch_size=32, add_bos_token=True)
    found = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=True)
    return sorted(found["samples"]["bundled"], key=lambda sample: sample["doc_id"])


@pytest.fixture(scope="module")
def engine():
    made = LocalEngine(BASE, None, EngineSettings(dtype="float32"))
    yield made
    made.close()


@pytest.mark.parametrize(("normalize", "metric"), [("none", "acc"), ("length", "acc_norm")])
def test_every_item_is_answered_as_lm_eval_answers_it(engine, items, theirs, normalize, metric):
    scorer = MultipleChoice(prompt="plain", answer_by="text", normalize=normalize)
    ours = asyncio.run(scorer(engine.particle(None), items)).results
    assert len(ours) == len(theirs) == 800
    different = [
        (item.question, result.response.choice_logprobs, sample["filtered_resps"])
        for item, result, sample in zip(items, ours, theirs, strict=True)
        if result.outcome.value != sample[metric]
    ]
    assert different == []


def test_every_log_probability_is_the_one_that_lm_eval_finds(engine, items, theirs):
    scorer = MultipleChoice(prompt="plain", answer_by="text")
    ours = asyncio.run(scorer(engine.particle(None), items)).results
    for result, sample in zip(ours, theirs, strict=True):
        logprobs = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert result.response.choice_logprobs == pytest.approx(logprobs, abs=1e-3)
