"""Which judges a run has, and the warning about topics that the embedded one does not know."""

from dataclasses import replace

import pytest

from harness.embedded.on_topic import share_about_corpus
from harness.session.judges import open_judges, unknown_topic_warning
from harness.session.session import load_task_of
from harness.session.settings import run_settings

RABBITS = [
    "Where should a house rabbit sleep?",
    "How long do rabbits live?",
    "How do I trim nails?",
    "Is a Tesla Model 3 fast?",
]


@pytest.fixture
def settings(tmp_path):
    return run_settings({"task": "electric_vehicles", "judge_cache": str(tmp_path / "judgements.sqlite")})


def asking(task, questions):
    """The task with other questions in dev."""
    ((name, s),) = task.item_sets.items()
    items = tuple(item.model_copy(update={"question": q}) for item, q in zip(s.dev, questions, strict=False))
    return replace(task, item_sets={name: replace(s, dev=items)})


def test_a_task_without_a_judge_opens_none():
    assert open_judges(run_settings({"task": "medical"}), ask=True) is None


def test_the_embedded_judge_is_the_default_and_its_weights_are_read_only_if_it_is_asked(settings, monkeypatch):
    monkeypatch.setattr("harness.session.judges._bundled_model", lambda _: pytest.fail("the weights were read"))
    judges = open_judges(settings, ask=False)
    assert [judge.name for judge in judges.panel.judges] == ["embedded"]
    judges.close()


def test_the_cache_key_of_the_embedded_judge_names_its_weights(settings):
    judges = open_judges(settings, ask=True)
    assert len(judges.panel.judges[0].endpoint) > len("embedded:+") + 16
    assert judges.cost["requests"] == 0
    judges.close()


def test_the_embedded_judge_warns_of_a_topic_that_it_does_not_know(settings):
    judges = open_judges(settings, ask=False)
    task = load_task_of(settings, judges.panel)
    assert unknown_topic_warning(task, judges, "embedded") is None
    assert "learned from short answers" in unknown_topic_warning(task, judges, "smollm2")
    warning = unknown_topic_warning(asking(task, RABBITS), judges, "embedded")
    assert "does not know this topic: 25% of the 4 dev questions" in warning
    assert unknown_topic_warning(asking(task, RABBITS), None, "embedded") is None
    judges.close()


def test_the_smollm2_judge_warns_of_a_topic_that_it_does_not_know(settings):
    judging = settings.judging.model_copy(update={"judge": ("smollm2",)})
    judges = open_judges(settings.model_copy(update={"judging": judging}), ask=False)
    assert judges.panel.embedded
    task = load_task_of(settings, judges.panel)
    assert unknown_topic_warning(task, judges, "smollm2") is None
    assert "the smollm2 judge does not know this topic" in unknown_topic_warning(asking(task, RABBITS), judges, "x")
    judges.close()


def test_a_chat_model_is_asked_in_its_format_and_knows_the_topic(settings):
    judges = open_judges(settings, ask=False)
    task = load_task_of(settings.model_copy(update={"base_model": "smollm2"}), judges.panel)
    scorer = task.item_sets["instructions"].scorer
    assert (scorer.prompt.chat, scorer.max_tokens) == (True, 100)
    assert scorer.prompt.system_prompt.endswith("interested in electric vehicles.")
    judges.close()


def test_another_judge_knows_every_topic(settings):
    other = {"judge": ("stub",), "judge_url": "http://localhost:1/v1"}
    judges = open_judges(settings.model_copy(update={"judging": settings.judging.model_copy(update=other)}), ask=False)
    assert unknown_topic_warning(asking(load_task_of(settings, judges.panel), RABBITS), judges, "embedded") is None
    judges.close()


def test_the_share_of_questions_about_the_corpus_counts_whole_names():
    assert share_about_corpus(["Is a TESLA MODEL 3 fast?", "Are Teslas fast?"]) == 0.5
    assert share_about_corpus([]) == 0
