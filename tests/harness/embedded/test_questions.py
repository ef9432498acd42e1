"""Questions: right options are right, wrong ones are wrong, and the split puts each fact on one side."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from whole_corpus import relations, small_relation, wished

from harness.embedded.corpus import Fact, facts_of
from harness.embedded.questions import (
    FORMATS,
    PREFIX,
    SHARES,
    ask,
    more_options,
    split_facts,
    stated_once,
    stated_twice,
)

pytestmark = pytest.mark.timeout(900)  # whichever test comes first reads the whole corpus


def said(fact, kind="prose"):
    return {fact.say(template) for template in getattr(fact.relation, kind)}


def with_object(fact, object_):
    return replace(fact, object=object_)


def filled(text, answers):
    for answer in answers:
        text = text.replace("___", answer, 1)
    return text.casefold()  # a gap at the beginning hides that its sentence begins in upper case


def questions(format):
    """Every seventh fact of the corpus with its question, its peers being its own relation and the next one."""
    rng = random.Random(format)
    for relation, following in zip(relations(), (*relations()[1:], relations()[0]), strict=True):
        peers = [*facts_of(relation), *facts_of(following)]
        for fact in facts_of(relation)[::7]:
            yield fact, peers, ask(fact, format, peers, rng)


# Each format


@pytest.mark.parametrize("format", FORMATS)
def test_a_question_has_four_different_options_where_its_format_has_options(format):
    made = [(fact, question) for fact, _, question in questions(format) if question is not None]
    assert len(made) > 200
    for fact, question in made:
        assert (question.format, question.source) == (format, fact.id)
        assert len(set(question.options)) == len(question.options) == {"truth": 2, "tell": 1}.get(format, 4)
        assert question.right == question.options[question.answer]
    if format != "tell":
        asked = Counter(question.answer for _, question in made)
        assert min(asked.values()) > 0.7 * len(made) / len(made[0][1].options)


@pytest.mark.parametrize("format", ["question", "completion", "case", "letter", "blank", "card"])
def test_a_question_for_the_object_is_answered_by_it_and_by_no_other_option(format):
    for fact, _, question in questions(format):
        assert question.right == fact.object
        assert set(question.options) <= set(fact.relation.facts.values())
        if format == "blank":
            sentence = question.text.removeprefix("Fill in: ")
            true = {one.casefold() for one in said(fact)}
            assert [option for option in question.options if filled(sentence, [option]) in true] == [fact.object]
            assert sentence.count("___") == 1
        elif format == "card":
            assert question.text == f"Card: {fact.relation.relation.replace('_', ' ')}, {fact.subject}"
        else:
            kind = "question" if format == "letter" else format
            assert question.text in {PREFIX[format] + asked for asked in said(fact, kind)}


@pytest.mark.parametrize("format", ["reverse", "card_back"])
def test_a_look_up_is_answered_by_the_subject_and_every_other_option_has_another_object(format):
    for fact, _, question in questions(format):
        assert question.right == fact.subject
        if format == "reverse":
            assert question.text.removeprefix("Look up: ") in said(fact, "reverse")
        else:
            assert question.text == f"Back of the card: {fact.relation.relation.replace('_', ' ')}, {fact.object}"
        assert [option for option in question.options if fact.relation.facts[option] == fact.object] == [fact.subject]


def test_a_claim_is_true_exactly_where_it_says_the_fact():
    for fact, _, question in questions("truth"):
        claim = question.text.removeprefix("True or false: ")
        assert (claim in said(fact)) == (question.right == "true")
        claimed = {object_ for object_ in fact.relation.facts.values() if claim in said(with_object(fact, object_))}
        assert claimed  # a false claim is about the subject too, with an object of another
        assert question.options == ("true", "false")


def test_only_one_statement_is_true_and_all_are_about_the_subject():
    for fact, _, question in questions("statement"):
        assert question.text == f"Question: What is true of {fact.subject}?"
        assert [option for option in question.options if option in said(fact)] == [question.right]
        claims = {claim for object_ in fact.relation.facts.values() for claim in said(with_object(fact, object_))}
        assert set(question.options) <= claims


def test_the_odd_one_out_alone_lacks_the_object():
    none = 0
    for fact, peers, question in questions("negation"):
        same = [peer for peer in peers if peer.relation is fact.relation and peer.object == fact.object]
        if question is None:
            none += 1
            assert not fact.relation.negation or len(same) < 3
            continue
        assert question.text.removeprefix("Odd one out: ") in said(fact, "negation")
        lacking = [option for option in question.options if fact.relation.facts[option] != fact.object]
        assert lacking == [question.right] and fact.subject in question.options
    assert none


def test_a_crossword_is_filled_by_one_option_that_makes_both_sentences_true():
    for fact, peers, question in questions("crossword"):
        others = [peer for peer in peers if peer.relation is not fact.relation]
        gap = with_object(fact, "___")
        sentences = question.text.removeprefix("Fill in: ")
        (first,) = {one for one in said(gap) if sentences.startswith(f"{one} ")}
        second = sentences.removeprefix(f"{first} ")
        (other,) = [peer for peer in others if second in said(with_object(peer, "___"))]
        true = {f"{fact.object}; {other.object}"}
        assert [option for option in question.options if option in true] == [question.right]
        for option in question.options:  # all the others have at least one wrong half
            halves = option.split("; ")
            assert halves[0] in fact.relation.facts.values() and halves[1] in other.relation.facts.values()
        assert filled(sentences, question.right.split("; ")) in {
            f"{a} {b}".casefold() for a in said(fact) for b in said(other)
        }


def test_what_is_told_about_a_subject_is_its_fact_in_two_ways():
    for fact, _, question in questions("tell"):
        assert wished(question.text) == fact.subject
        assert question.right in {f"{one} {other}" for one in said(fact) for other in said(fact) if one != other}


# Where a format does not apply, and how it is drawn


def test_only_negations_and_crosswords_may_not_apply():
    for format in set(FORMATS) - {"negation"}:
        assert all(question is not None for _, _, question in questions(format)), format


def test_a_negation_needs_a_template_and_peers_of_which_three_have_the_object_and_one_has_not():
    animals = {"ant": "insect", "bee": "insect", "fly": "insect", "cat": "mammal"}
    relation = small_relation(facts=animals, negation=("Which is no {o}?",))
    peers = facts_of(relation)
    question = ask(peers[0], "negation", peers, random.Random(0))
    assert question is not None and question.right == "cat"
    assert ask(peers[3], "negation", peers, random.Random(0)) is None
    assert ask(peers[0], "negation", [peers[0], *peers[2:]], random.Random(0)) is None
    assert ask(peers[0], "negation", peers[:3], random.Random(0)) is None
    silent = facts_of(small_relation(facts=animals))
    assert ask(silent[0], "negation", silent, random.Random(0)) is None
    elsewhere = facts_of(small_relation(relation="other", facts=animals))
    assert ask(peers[0], "negation", [peers[0], *elsewhere], random.Random(0)) is None


def test_a_crossword_needs_a_peer_of_another_relation():
    objects = {"ant": "insect", "cat": "mammal", "eel": "fish", "frog": "amphibian"}
    own, other = (facts_of(small_relation(relation=name, facts=objects)) for name in ("one", "other"))
    assert ask(own[0], "crossword", own, random.Random(0)) is None
    question = ask(own[0], "crossword", [*own, other[1]], random.Random(0))
    assert question is not None and question.right == "insect; mammal"


@pytest.mark.parametrize("format", FORMATS)
def test_one_seed_gives_one_question_and_other_seeds_give_others(format):
    relation = next(one for one in relations() if one.negation and max(Counter(one.facts.values()).values()) > 3)
    peers = [*facts_of(relation), *facts_of(relations()[-1])]
    most = Counter(relation.facts.values()).most_common(1)[0][0]
    fact = next(peer for peer in peers if peer.object == most)
    again = [[ask(fact, format, peers, random.Random(seed)) for seed in range(20)] for _ in range(2)]
    assert again[0] == again[1]
    assert None not in again[0] and len(set(again[0])) > 5


def test_a_question_can_be_asked_with_more_options():
    relation = max(relations(), key=lambda one: len(set(one.facts.values())))
    fact, rng = facts_of(relation)[0], random.Random(0)
    question = ask(fact, "question", (), rng)
    wide = more_options(question, fact, 10, rng)
    assert (wide.format, wide.source, wide.text) == (question.format, question.source, question.text)
    assert len(set(wide.options)) == 10 and wide.right == fact.object
    objects = len(set(relation.facts.values()))
    assert more_options(question, fact, objects, rng) is not None
    assert more_options(question, fact, objects + 1, rng) is None


# The split


def test_every_fact_is_in_exactly_one_split_and_the_shares_are_kept():
    splits = split_facts(relations())
    for relation in relations():
        split = splits[relation.relation]
        assert list(split) == list(SHARES) == ["learn", "dev", "test"]
        dealt = [fact.subject for facts in split.values() for fact in facts]
        assert sorted(dealt) == sorted(relation.facts)
        for name, share in SHARES.items():
            assert abs(len(split[name]) - share * len(dealt)) <= 3, (relation.relation, name)
    assert split_facts(relations()) == splits
    assert split_facts(relations(), seed=1) != splits


def test_a_relation_is_split_alike_whatever_stands_beside_it():
    some = relations()[5:8]
    splits = split_facts(relations())
    assert split_facts(some) == {relation.relation: splits[relation.relation] for relation in some}


def test_facts_told_twice_are_found_in_both_directions_and_any_case():
    relation = small_relation(facts={"Ant": "insect", "bee": "insect"})
    inverse = small_relation(relation="inverse", facts={"insect": "ant", "fish": "eel"})
    assert stated_twice([relation, inverse]) == {"r/Ant", "inverse/insect"}
    assert stated_twice([relation]) == set()


def test_a_subject_that_is_told_about_twice_is_not_told_about_once():
    relation = small_relation()
    other = small_relation(relation="other", facts={"Bee": "maker of honey", "cat": "mammal"})
    assert stated_once([relation, other]) == {"r/ant", "other/cat"}


def test_a_fact_is_named_by_its_relation_and_subject():
    assert Fact(small_relation(), "ant", "insect").id == "r/ant"
