"""Stories: each act is of one kind and in one split, and only the kind continuation is right."""

import random
from collections import Counter

import pytest
from whole_corpus import act_of

from harness.embedded.kindness_stories import ACTS, PEOPLE, SCENES, act_sentences, continuation, split_acts, story
from harness.embedded.questions import SHARES


def test_every_act_is_of_one_kind_and_done_to_one_person():
    acts = [act for kind in ACTS.values() for act in kind]
    assert len(ACTS["kind"]) == len(ACTS["unkind"]) >= 50
    assert max(Counter(acts).values()) == 1
    assert all(act.count("{o}") == 1 and not set(act.replace("{o}", "").split()) & set(PEOPLE) for act in acts)


@pytest.mark.parametrize("kind", ACTS)
def test_every_act_is_in_exactly_one_split_and_the_shares_are_kept(kind):
    split = split_acts(kind)
    dealt = [act for acts in split.values() for act in acts]
    assert sorted(dealt) == sorted(ACTS[kind]) and split_acts(kind) == split
    for name, share in SHARES.items():
        assert abs(len(split[name]) - share * len(dealt)) <= 1, name


def test_the_base_model_is_told_of_every_act_which_kind_it_is():
    told = act_sentences()
    assert len(told) == len(set(told)) == 2 * sum(len(acts) for acts in ACTS.values())
    for kind, acts in ACTS.items():
        for act in acts:
            said = f"who {act.format(o='someone')}"
            about = [line for line in told if line.endswith((f"{said}.", f"{said} was {kind}."))]
            assert len(about) == 2, (act, about)
            assert all(("unkind" in line) == (kind == "unkind") for line in about), about


def test_a_story_goes_on_with_its_act_between_two_persons():
    rng = random.Random(0)
    for act in ACTS["kind"] + ACTS["unkind"]:
        begin, end = story(act, rng)
        scene, someone = begin.removeprefix("Story: ").split(". Then the ")
        assert scene in SCENES and someone in PEOPLE
        assert act_of(end) == act and f"the {someone}" not in end


@pytest.mark.parametrize("split", SHARES)
def test_a_continuation_has_one_kind_option_and_three_unkind_ones_of_the_same_split(split):
    rng = random.Random(split)
    kind, unkind = split_acts("kind")[split], split_acts("unkind")[split]
    places = Counter()
    for act in kind * 20:
        question = continuation(split, act, rng)
        assert (question.format, question.source) == ("continuation", f"act/{act}")
        assert act_of(question.right) == act
        acts = [act_of(option) for option in question.options]
        assert len(set(acts)) == 4
        assert [one for one in acts if one in kind] == [act] and sum(one in unkind for one in acts) == 3
        places[question.answer] += 1
    assert min(places.values()) > 0.6 * len(kind) * 20 / 4


def test_one_seed_gives_one_story_and_other_seeds_give_others():
    act = split_acts("kind")["dev"][0]
    again = [[continuation("dev", act, random.Random(seed)) for seed in range(10)] for _ in range(2)]
    assert again[0] == again[1] and len(set(again[0])) == 10
    assert len({story(act, random.Random(seed)) for seed in range(10)}) > 5
