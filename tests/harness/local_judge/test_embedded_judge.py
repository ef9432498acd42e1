"""The embedded judge, used through the judges' client, on facts that were not in its training data."""

import asyncio
import functools

import pytest

from harness.embedded.corpus import Fact, read_corpus
from harness.embedded.questions import split_facts
from harness.embedded_training.judge import graded
from harness.session.judges import open_judges
from harness.session.settings import run_settings
from utilities.core import Item, Response, Score
from utilities.judges.factuality import Factuality
from utilities.judges.topic_interest import TopicInterest
from utilities.lab.checks.ladder import auroc

pytestmark = pytest.mark.slow
EACH = 60


@functools.cache
def relations():
    return read_corpus()


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache") / "judgements.sqlite"
    judges = open_judges(run_settings({"task": "electric_vehicles", "judge_cache": str(cache)}), ask=True)
    yield judges.panel
    judges.close()


def test_gold_is_rated_above_corrupted_above_off_topic_above_empty(panel):
    answers = graded(relations(), "test", EACH)
    scorer = TopicInterest("whatever is asked", judge=panel)
    items = [Item(id=str(k), question=one.instruction) for k, one in enumerate(answers)]
    outcomes = asyncio.run(scorer.score(items, [Response(one.answer) for one in answers]))
    assert all(isinstance(outcome, Score) for outcome in outcomes)

    def ratings(*kinds):
        return [outcome.value for outcome, one in zip(outcomes, answers, strict=True) if one.kind in kinds]

    assert auroc(ratings("gold"), ratings("damaged", "broken")) >= 0.8
    assert auroc(ratings("damaged", "broken"), ratings("off_topic")) >= 0.8
    assert auroc(ratings("off_topic"), ratings("empty")) >= 0.8
    assert auroc(ratings("gold"), ratings("canary")) >= 0.8


def test_true_statements_are_supported_and_corrupted_ones_are_not(panel):
    facts = [fact for split in split_facts(relations()).values() for fact in split["test"]][:: 2182 // EACH]
    statements = []
    for fact in facts:
        template = fact.relation.prose[-1]
        wrong = sorted(set(fact.relation.facts.values()) - {fact.object})[0]
        statements += [fact.say(template), Fact(fact.relation, fact.subject, wrong).say(template)]
    items = [Item(id=str(k), question="What is true?") for k in range(len(statements))]
    outcomes = asyncio.run(Factuality(k=1, judge=panel).score(items, [Response(text) for text in statements]))
    true, corrupted = ([outcome.measures["supported"] for outcome in outcomes[at::2]] for at in (0, 1))
    supported, caught = sum(true) / len(true), 1 - sum(corrupted) / len(corrupted)
    assert (supported + caught) / 2 >= 0.8


def test_log_probabilities_make_ratings_finer_than_whole_numbers(panel):
    answers = [one for one in graded(relations(), "dev", 20) if one.kind in {"gold", "damaged"}]
    items = [Item(id=str(k), question=one.instruction) for k, one in enumerate(answers)]
    outcomes = asyncio.run(TopicInterest("anything", judge=panel).score(items, [Response(o.answer) for o in answers]))
    assert any(outcome.value != round(outcome.value) for outcome in outcomes)
    before = panel.spent.requests
    again = asyncio.run(TopicInterest("anything", judge=panel).score(items, [Response(o.answer) for o in answers]))
    assert [one.value for one in again] == [one.value for one in outcomes]
    assert panel.spent.requests == before
