"""How fast answers are scored, and questions answered, beside lm-evaluation-harness in the same process."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from harness.embedded import BASE
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from utilities.core import Item, Response
from utilities.data_files import read_published
from utilities.prompts import bundled
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.scorers.multiple_choice_generated import MultipleChoiceGenerated

pytestmark = pytest.mark.benchmark
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "model_swarms"


def test_scoring_a_hundred_thousand_choices_without_a_model():
    choices = {"A": "Paris", "B": "London", "C": "Rome", "D": "Vienna"}
    items = [Item(id=str(k), question="Which city?", choices=choices, answer="ABCD"[k % 4]) for k in range(1000)]
    replies = ("B", "Answer: C", "The answer is (A).", "I think it is Vienna", "none of them", "A or B", " D. Vienna")
    responses = [Response(replies[k % 7], choice_logprobs=(-1.0, -2.0, -3.0, -4.0)) for k in range(1000)]
    for name, scorer in (("log-likelihoods", MultipleChoice()), ("generated words", MultipleChoiceGenerated())):
        start = time.perf_counter()
        for _ in range(100):
            outcomes = asyncio.run(scorer.score(items, responses))
        print(f"\n100,000 multiple-choice responses by {name}: {time.perf_counter() - start:.2f} s")
        assert 0 < sum(outcome.value for outcome in outcomes) < len(items)


def test_loading_the_published_folder():
    if not PUBLISHED.is_dir():
        pytest.skip("the published data is not here")
    start, count = time.perf_counter(), 0
    for path in sorted(PUBLISHED.glob("*.json")):
        count += sum(len(items) for items in read_published(path).values())
    print(f"\nthe published folder, {count} items: {time.perf_counter() - start:.2f} s")
    assert count > 15_000


def test_questions_a_second_beside_lm_eval(tmp_path):
    lm_eval = pytest.importorskip("lm_eval", reason="the extra `compat` is not installed")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    data = bundled("tasks") / "data"
    items = [i for n in ("medical_cases", "legal_cases") for i in read_published(data / f"{n}.json")["test"]][:500]
    rows = [{"text": i.question, "options": [*i.choices.values()], "gold": [*i.choices].index(i.answer)} for i in items]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = ConfigurableTask(
        config={
            "task": "bundled",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "items.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}\nAnswer:",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": "acc"}],
        }
    )
    model = HFLM(pretrained=str(BASE), device="cpu", dtype="float32", batch_size=64, add_bos_token=True)
    engine = LocalEngine(BASE, None, EngineSettings(dtype="float32"))
    scorer, ours, theirs = MultipleChoice(prompt="plain", answer_by="text"), [], []
    try:
        for _ in range(2):  # in turn, so that a busy machine is busy for both
            start = time.perf_counter()
            value = asyncio.run(scorer(engine.particle(None), list(items))).value
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            found = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=False)
            theirs.append(time.perf_counter() - start)
    finally:
        engine.close()
    print(f"\n500 four-option questions: {500 / min(ours):.0f} a second, lm-eval {500 / min(theirs):.0f};", end=" ")
    print(f"ratio {min(theirs) / min(ours):.1f}")
    assert found["results"]["bundled"]["acc,none"] == pytest.approx(value)
