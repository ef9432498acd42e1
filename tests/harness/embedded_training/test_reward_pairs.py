"""The reward model's pairs: the better answer is right, the worse one is worse in the way that its kind says."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from transformers import PreTrainedTokenizerFast
from whole_corpus import facts, relations, wished

from harness.embedded.questions import split_facts
from harness.embedded_training.reward import CHAT_TEMPLATE, WORSE, pairs

pytestmark = pytest.mark.timeout(900)  # whichever test comes first reads the whole corpus

EACH = 300


@cache
def made(split="learn"):
    return pairs(relations(), split, EACH)


@cache
def told():
    """Ids of the facts that an answer of two sentences tells."""
    answers = {}
    for fact in facts().values():
        for answer in two_sentences(fact):
            answers.setdefault(answer, set()).add(fact.id)
    return answers


def two_sentences(fact):
    said = [fact.say(template) for template in fact.relation.prose]
    return {f"{one} {other}" for one in said for other in said if one != other}


def about(pair):
    """The fact that a pair's better answer tells."""
    (id,) = told()[pair.better]
    return facts()[id]


def of_kind(kind):
    return [pair for pair in made() if pair.kind == kind]


def test_there_are_as_many_pairs_of_every_kind_as_asked_for():
    assert Counter(pair.kind for pair in made()) == dict.fromkeys(WORSE, EACH)
    assert set(WORSE) == {"wrong", "off_topic", "cut_off", "repeated", "empty"}


def test_more_pairs_than_facts_can_be_made():
    some = relations()[:2]
    facts_of_learn = sum(len(split["learn"]) for split in split_facts(some).values())
    many = pairs(some, "learn", 3 * facts_of_learn + 1)
    assert Counter(pair.kind for pair in many) == dict.fromkeys(WORSE, 3 * facts_of_learn + 1)
    subjects = {wished(pair.prompt) for pair in many}
    assert len(subjects) == len({wished(pair.prompt) for pair in many if pair.kind == "wrong"})


def test_pairs_are_the_same_each_time():
    some = relations()[:3]
    assert pairs(some, "learn", 20) == pairs(some, "learn", 20)
    assert pairs(some, "learn", 20) != pairs(some, "test", 20)


@pytest.mark.parametrize("split", ["learn", "test"])
def test_the_better_answer_tells_the_truth_about_what_is_asked_and_the_facts_are_of_the_split(split):
    own = {fact.id for dealt in split_facts(relations()).values() for fact in dealt[split]}
    for pair in made(split):
        fact = about(pair)
        assert wished(pair.prompt) == fact.subject and fact.id in own
        assert pair.worse != pair.better


def test_a_wrong_answer_says_of_the_same_subject_what_is_true_of_another():
    for pair in of_kind("wrong"):
        fact = about(pair)
        others = set(fact.relation.facts.values()) - {fact.object}
        claimed = [object_ for object_ in others if pair.worse in two_sentences(replace(fact, object=object_))]
        assert len(claimed) == 1 and pair.worse not in told(), pair


def test_an_answer_off_the_topic_is_true_of_something_else_in_the_same_split():
    learn = {fact.id for dealt in split_facts(relations()).values() for fact in dealt["learn"]}
    for pair in of_kind("off_topic"):
        ids = told()[pair.worse]
        assert ids <= learn
        assert about(pair).relation.relation not in {id.split("/")[0] for id in ids}


def test_an_answer_that_is_cut_off_is_at_most_the_first_third_of_the_better_one():
    for pair in of_kind("cut_off"):
        words, kept = pair.better.split(), pair.worse.split()
        assert kept and words[: len(kept)] == kept and len(kept) <= len(words) / 3


def test_an_answer_that_repeats_itself_is_the_beginning_of_the_better_one_again_and_again():
    for pair in of_kind("repeated"):
        words, repeated = pair.better.split(), pair.worse.split()
        assert len(repeated) == 12
        assert any(words[:k] * (12 // k) == repeated for k in (1, 2, 3, 4))


def test_an_empty_answer_says_nothing():
    for pair in of_kind("empty"):
        assert pair.worse in ("", ".", "I do not know.", about(pair).subject)
    assert len({pair.worse for pair in of_kind("empty")}) > 3


def test_no_kind_of_worse_answer_is_told_by_its_length_alone():
    """Wrong answers and answers off the topic are as long as right ones: the reward model has to read them."""
    for kind in ("wrong", "off_topic"):
        longer = sum(len(pair.better) > len(pair.worse) for pair in of_kind(kind)) / EACH
        assert 0.35 < longer < 0.65, (kind, longer)


def test_a_pair_is_read_in_the_words_that_the_base_model_was_asked_with(base):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    tokenizer.chat_template = CHAT_TEMPLATE
    messages = [{"role": "user", "content": "Tell me about the ant."}, {"role": "assistant", "content": "It is small."}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<s>Tell me about the ant.\nAnswer: It is small."
    )
