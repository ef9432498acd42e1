"""What the bundled judge is trained on, and that its grades and verdicts mean what they say."""

import functools

import pytest

from harness.embedded.corpus import read_corpus
from harness.embedded.questions import split_facts, stated_twice
from harness.embedded_training.judge import KINDS, claims, graded, rated_text
from utilities.judges.text_features import content_words


@functools.cache
def relations():
    return read_corpus()


@functools.cache
def answers(split):
    return graded(relations(), split, 40)


def test_every_kind_is_graded_and_the_kinds_are_in_the_order_of_their_ratings():
    assert {one.kind for one in answers("test")} == {*KINDS, "canary"}
    ratings = [rating for rating, _ in KINDS.values()]
    assert ratings == sorted(ratings, reverse=True) and len(set(ratings)) == len(ratings)


def test_instructions_of_learn_are_about_other_subjects_than_those_of_test():
    learn, test = ({one.instruction for one in answers(split)} for split in ("learn", "test"))
    assert learn.isdisjoint(test)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_worth_what_its_kind_is(kind):
    gold = {one.instruction for one in answers("dev") if one.kind == "gold"}
    assert gold
    for one in answers("dev"):
        if one.kind == kind:
            assert rated_text(one).answer == f" {KINDS[kind][0]}/10"


def test_damaged_answers_are_not_gold_ones_and_empty_ones_say_nothing():
    for one in answers("dev"):
        if one.kind in {"damaged", "broken"}:
            assert len(one.answer.split()) > 1
        if one.kind == "empty":
            assert len(one.answer.split()) <= 4


def test_claims_are_true_where_supported_and_false_where_contradicted():
    splits = split_facts(relations())
    facts = {fact.id: fact for split in splits.values() for fact in split["dev"]}
    for text in claims(relations(), "dev", 60):
        fact = facts[text.source]
        evidence, claim, missing, _ = (line.partition(": ")[2] for line in text.prompt.splitlines())
        true = any(claim == fact.say(template) for template in fact.relation.prose)
        if text.answer == " inconclusive":
            assert evidence != fact.say(fact.relation.prose[0])
        else:
            assert true == (text.answer == " supported")
        assert missing == "(nothing)" or set(missing.split(", ")) <= set(content_words(claim))


def test_no_claim_or_instruction_of_training_asks_a_fact_of_dev_or_test():
    splits = split_facts(relations())
    learn = {fact.id for split in splits.values() for fact in split["learn"]}
    assert {text.source for text in claims(relations(), "learn", 60)} <= learn
    doubled = stated_twice(relations())
    subjects = {fact.subject for split in splits.values() for fact in split["learn"] if fact.id not in doubled}
    for one in answers("learn"):
        assert any(subject in one.instruction for subject in subjects)
