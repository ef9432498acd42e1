# ruff: noqa: RUF001  (punctuation of other scripts is meant)
"""Simulated searches whose truth is known: the watch must be silent over honest ones and warn of the others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness.run.overoptimisation import Gain, Observation, ObservationLog
from harness.session.hold_out import split_hold_out
from utilities import statistics
from utilities.combine import combine_evaluations, mean, minimum
from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored
from utilities.judges.text_features import TextFeatures, text_features, topic_vocabulary

SUBJECTS = [
    "battery",
    "charger",
    "motor",
    "tyre",
    "brake",
    "mirror",
    "window",
    "seat",
    "cable",
    "plug",
    "heater",
    "lamp",
]
DOINGS = ["repair", "buy", "clean", "compare", "insure", "borrow", "test", "recycle", "paint", "rent"]


def instructions(count):
    return [Item(id=str(k), question=f"How do I {DOINGS[k // 12 % 10]} the {SUBJECTS[k % 12]}?") for k in range(count)]


def evaluation(values, ids=None, clusters=None):
    ids = ids or [f"i{k}" for k in range(len(values))]
    outcomes = [Unscored(Reason.TRANSPORT, "cut") if v is None else Score(float(v), {"raw": 1.0}, "{}") for v in values]
    results = [
        ItemResult(i, c, "hash", Response("said"), o) for i, c, o in zip(ids, clusters or ids, outcomes, strict=True)
    ]
    return Evaluation.of(results)


def seen(objective, hold_out=None, text_features=None):
    return Observation(evaluation(objective), None if hold_out is None else evaluation(hold_out), text_features)


# -- the split ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [(25, 0.2, 5), (40, 0.2, 8), (100, 0.5, 50), (25, 0.0, 0), (6, 0.2, 2), (5, 0.2, 0), (1, 0.2, 0), (10, 0.9, 6)],
)
def test_as_many_are_held_out_as_asked_for_at_least_two_and_four_stay(count, share, held):
    items = instructions(count)
    kept, out = split_hold_out(items, share, 0)
    assert len(out) == held
    assert sorted([*kept, *out], key=items.index) == items
    assert list(kept) == [item for item in items if item in kept]
    assert list(out) == [item for item in items if item in out]


def test_the_seed_decides_who_is_held_out():
    items = instructions(40)
    assert split_hold_out(items, 0.2, 3) == split_hold_out(items, 0.2, 3)
    held = [frozenset(item.id for item in split_hold_out(items, 0.2, seed)[1]) for seed in range(30)]
    assert len(set(held)) == 30
    assert len(frozenset().union(*held)) == 40


@pytest.mark.parametrize(
    ("question", "twin", "alike"),
    [
        ("What are the best electric cars for families?", "What are the best electric cars for a family?", True),
        ("How long does a battery last?", "How long does a  BATTERY last", True),
        ("What is 3 + 4?", "What is 4 + 3?", True),
        ("What is 3 + 4?", "What is 5 + 4?", False),
        ("Tell me about the Leaf.", "What should I know about the Leaf?", True),
        ("Tell me about the Leaf.", "Tell me about the Zoe.", False),
        ("电动汽车的电池能用多久？", "电动汽车的电池能用多久", True),
        ("电动汽车的电池能用多久？", "怎样申请博士学位？", False),
        ("كم تدوم بطارية السيارة الكهربائية؟", "كم تدوم بطارية السيارة الكهربائية", True),
        ("?", "!", False),
    ],
)
def test_near_duplicates_are_on_the_same_side_and_others_need_not_be(question, twin, alike):
    items = [Item(id="a", question=question), *instructions(10), Item(id="b", question=twin)]
    sides = [{item.id for item in split_hold_out(items, 0.25, seed)[1]} & {"a", "b"} for seed in range(40)]
    assert {"a", "b"} in sides or not alike
    assert any(len(side) == 1 for side in sides) != alike


def test_the_options_belong_to_what_an_item_says():
    def choice(id, *options):
        return Item(id=id, question="Which?", choices=dict(zip("ABC", options, strict=True)), answer="A")

    items = [choice("a", "motor", "plug", "seat"), *instructions(10), choice("b", "tyre", "cable", "brake")]
    assert any(len({i.id for i in split_hold_out(items, 0.25, s)[1]} & {"a", "b"}) == 1 for s in range(40))


def test_items_of_one_source_are_on_the_same_side():
    items = [item.model_copy(update={"source": f"s{k // 3}"}) for k, item in enumerate(instructions(30))]
    for seed in range(10):
        kept, held = split_hold_out(items, 0.2, seed)
        assert len(held) == 6
        assert not {item.source for item in kept} & {item.source for item in held}


def test_groups_too_large_for_the_share_are_held_out_whole_where_enough_stays():
    items = [item.model_copy(update={"source": f"s{k // 3}"}) for k, item in enumerate(instructions(9))]
    kept, held = split_hold_out(items, 0.2, 0)
    assert (len(kept), len(held)) == (6, 3)
    assert len({item.source for item in held}) == 1


def test_items_that_are_all_alike_leave_no_hold_out():
    items = [Item(id=str(k), question="How do I charge it?") for k in range(20)]
    assert split_hold_out(items, 0.2, 0) == (tuple(items), ())


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_no_share_is_refused(share):
    with pytest.raises(ValueError, match="cannot be held out"):
        split_hold_out(instructions(10), share, 0)


# -- simulated searches ------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(monkeypatch):
    """A hill climb on the kept items: the watch, and its warning at every new best.

    Each step tries six variants of the best. What an expert gets for an item is the item's ease, the expert's quality
    and noise of that expert and item. `honest` variants differ in quality, by 0.35 and as much at random; `by_heart`
    ones only on the kept items; `longer` ones in the length of their answers, for which the judge pays everywhere.
    """
    monkeypatch.setattr(statistics, "RESAMPLES", 200)  # enough for a warning, and twenty searches take a second or two

    def search(kind, seed, dev=40, share=0.2, noise=0.5, steps=4):
        rng = np.random.default_rng(seed)
        items = instructions(dev)
        kept, held = split_hold_out(items, share, seed)
        ease = {item.id: rng.normal(0, 1) for item in items}
        vocabulary = topic_vocabulary(item.question for item in items)

        def tried(quality, heart, length):
            def on(side, level):
                paid = 0.03 * (length - 20)
                ids = [item.id for item in side]
                return evaluation([ease[i] + level + paid + rng.normal(0, noise) for i in ids], ids)

            return Observation(on(kept, quality + heart), on(held, quality)), (quality, heart, length)

        def highest(experts):
            expert, place = max(experts, key=lambda pair: pair[0].objective.value)
            said = [Response(" ".join(rng.choice(SUBJECTS, int(place[2]) + k % 3))) for k in range(8)]
            return replace(expert, text_features=text_features(kept[:8], said, vocabulary)), place

        initial = [tried(rng.normal(0, 0.3), 0.0, 20.0) for _ in range(6)]
        best, (quality, heart, length) = highest(initial)
        watch = ObservationLog.begin(best, [expert.objective for expert, _ in initial])
        warnings = []
        for step in range(1, steps + 1):
            better = rng.normal(0.35, 0.35, 6)
            variants = [
                tried(
                    quality + b * (kind == "honest"),
                    heart + b * (kind == "by_heart"),
                    length * (1 + b * (kind == "longer")),
                )
                for b in better
            ]
            found, place = highest(variants)
            if found.objective.value > best.objective.value:
                best, (quality, heart, length) = found, place
                watch.note(step, best, mean)
                warnings.append(watch.diverged())
        return watch, warnings

    return search


def test_an_honest_search_is_not_warned_of(searched):
    at_any = 0
    for settings in ({}, {"dev": 25}, {"noise": 1.5}):
        found = [searched("honest", seed, **settings) for seed in range(20)]
        risen = [watch.looks[-1].gain.objective.low > 0 for watch, _ in found]
        assert sum(risen) >= 15, "there was something that could have been warned of"
        assert sum(bool(warnings[-1]) for _, warnings in found) <= 1
        at_any += sum(any(warnings) for _, warnings in found)
    assert at_any <= 3  # of 60 searches, each looked at up to four times


def test_a_search_that_learns_its_items_by_heart_is_warned_of(searched):
    ends = [searched("by_heart", seed)[1][-1] for seed in range(20)]
    warned = [end for end in ends if end]
    assert len(warned) >= 19
    assert all("hold-out" in warning and "words" not in warning for warning in warned)
    assert all("only 8 independent hold-out items: gains that part by less than" in warning for warning in warned)


def test_a_search_that_is_paid_for_length_is_warned_of(searched):
    ends = [searched("longer", seed)[1][-1] for seed in range(20)]
    warned = [end for end in ends if end]
    assert len(warned) >= 19
    assert all("the objective may pay for length" in warning for warning in warned)
    assert all("hold-out" not in warning for warning in warned)  # the judge pays for it there as well


# -- the hold-out's difference -----------------------------------------------------------------------------------------

RNG = np.random.default_rng(5)
EASE, HELD_EASE = RNG.normal(0, 1, 30), RNG.normal(0, 1, 10)
NOISE, HELD_NOISE = RNG.normal(0, 0.3, 30), RNG.normal(0, 0.3, 10)


def gained(objective, hold_out, few=10):
    """A watch over one step that gained so much on the kept and on the hold-out items."""
    initial = seen(EASE, HELD_EASE[:few])
    watch = ObservationLog.begin(initial, [initial.objective])
    watch.note(3, seen(EASE + objective + NOISE, (HELD_EASE + hold_out + HELD_NOISE)[:few]), mean)
    return watch


@pytest.mark.parametrize(
    ("objective", "hold_out", "says"),
    [
        (1.0, 1.0, None),
        (1.0, 0.4, None),  # less than the objective says, but a rise
        (1.0, 0.0, "hold-out did not rise with it"),
        (1.0, -1.0, "hold-out fell with it"),
        (0.0, -1.0, None),  # the objective did not rise either
        (-1.0, -2.0, None),
    ],
)
def test_it_is_warned_of_a_rise_that_the_hold_out_does_not_share(objective, hold_out, says):
    warning = gained(objective, hold_out).diverged()
    assert (says is None) == (warning is None)
    assert warning is None or (says in warning and warning.startswith("iteration 3: the objective rose by +1.0"))


def test_fewer_hold_out_items_take_more_to_warn_of_and_it_is_said():
    widths = []
    for few in (10, 5, 3, 2):
        watch = gained(1.0, 0.0, few)
        gain = watch.looks[0].gain
        widths.append(gain.hold_out.high - gain.hold_out.low)
        assert (watch.caution() is None) == (few == 10)
        assert few == 10 or f"only {few} independent hold-out items" in watch.caution()
    assert widths == sorted(widths)
    assert gained(0.4, 0.0, 10).diverged() and gained(0.4, 0.0, 2).diverged() is None
    assert gained(9.0, 0.0, 2).diverged()


def test_hold_out_items_that_happen_to_be_equal_are_not_known_exactly():
    # One item in four became right, and none of five hold-out items: that is no rare thing (0.75 ** 5 = 0.24).
    before, after = [0, 1] * 10, [1, 1, 0, 1] * 5
    initial, best = seen(before, [0, 1, 0, 1, 0]), seen(after, [0, 1, 0, 1, 0])
    watch = ObservationLog.begin(initial, [initial.objective])
    gain = watch.note(1, best, mean).gain
    assert gain.objective.low > 0
    assert gain.hold_out.value == 0 and gain.hold_out.low < 0 < 0.25 < gain.hold_out.high
    assert watch.diverged() is None


def test_items_of_one_source_count_once():
    many = Gain.of(seen(EASE + NOISE, HELD_EASE + HELD_NOISE), seen(EASE, HELD_EASE), mean)
    clusters = ["s1"] * 5 + ["s2"] * 5
    best = Observation(evaluation(EASE + NOISE), evaluation(HELD_EASE + HELD_NOISE, clusters=clusters))
    initial = Observation(evaluation(EASE), evaluation(HELD_EASE, clusters=clusters))
    two = Gain.of(best, initial, mean)
    assert two.hold_out.value == pytest.approx(many.hold_out.value)
    assert two.hold_out.high - two.hold_out.low > 2 * (many.hold_out.high - many.hold_out.low)
    assert "only 2 independent" in ObservationLog.begin(initial, [initial.objective]).caution()


def test_a_fall_from_the_peak_is_warned_of_while_the_hold_out_is_still_above_the_beginning():
    initial = seen(EASE, HELD_EASE)
    watch = ObservationLog.begin(initial, [initial.objective])
    for step, objective, hold_out in ((1, 1.0, 1.0), (2, 2.0, 2.0), (3, 3.0, 2.0)):
        watch.note(step, seen(EASE + objective + NOISE, HELD_EASE + hold_out + HELD_NOISE), mean)
        assert watch.diverged() is None
    # The intervals of differences to the peak are without width here, where both sides carry the same noise.
    watch.note(4, seen(EASE + 4.0 + NOISE, HELD_EASE + 1.0 + HELD_NOISE), mean)
    assert watch.looks[-1].gain.hold_out.low > 0
    assert "since the hold-out was at its highest, and the hold-out fell: -1 [-1, -1]" in watch.diverged()
    watch.note(5, seen(EASE + 5.0 + NOISE, HELD_EASE + 2.5 + HELD_NOISE), mean)
    assert watch.diverged() is None  # it is the present best that counts


@pytest.mark.parametrize("hold_out", [None, [1.0] + [None] * 9, [None] * 10])
def test_without_a_comparable_hold_out_nothing_is_said_of_it(hold_out):
    initial = seen(EASE, None if hold_out is None else HELD_EASE)
    watch = ObservationLog.begin(initial, [initial.objective])
    look = watch.note(1, seen(EASE + 1 + NOISE, hold_out), mean)
    assert (look.hold_out, look.gain.hold_out, look.gain.noise) == (None, None, None)
    assert look.gain.objective.low > 0
    assert watch.diverged() is None
    assert ("give more dev instructions" in (watch.caution() or "")) == (hold_out is None)


def test_items_that_are_not_scored_leave_the_difference():
    watch = gained(1.0, 1.0)
    one_lost = seen([None, *(EASE + 1 + NOISE)[1:]], [None, *(HELD_EASE + 1 + HELD_NOISE)[1:]])
    look = watch.note(4, one_lost, mean)
    expected = 1 + HELD_NOISE[1:].mean()
    assert look.gain.hold_out.value == pytest.approx(expected)
    assert watch.caution() is None


def test_the_combination_of_several_item_sets_is_the_tasks():
    def whole(first, second):
        return combine_evaluations({"a": evaluation(first), "b": evaluation(second)}, minimum)

    initial = Observation(whole(EASE, EASE + 5), whole(HELD_EASE, HELD_EASE + 5))
    watch = ObservationLog.begin(initial, [initial.objective])
    # The better of two sets rises on the objective's items only: the minimum is unmoved, and with it the objective.
    look = watch.note(1, Observation(whole(EASE, EASE + 9), whole(HELD_EASE, HELD_EASE + 5)), minimum)
    assert look.gain.objective.value == pytest.approx(0)
    best = Observation(whole(EASE + 1 + NOISE, EASE + 9), whole(HELD_EASE + HELD_NOISE, HELD_EASE + 5))
    assert watch.note(2, best, minimum).gain.objective.value == pytest.approx(1 + NOISE.mean())
    assert "did not rise with it" in watch.diverged()


# -- companions and canaries -------------------------------------------------------------------------------------------

INITIAL = TextFeatures(words=20.0, repetition=0.02, on_topic=0.5, distinct=1.0)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({}, None),
        ({"words": 40.0}, None),
        ({"words": 41.0}, "answers grew from 20 to 41 words"),
        ({"repetition": 0.2}, None),
        ({"repetition": 0.3}, "30% of their word trigrams"),
        ({"distinct": 0.5}, None),
        ({"distinct": 0.2}, "only 20% of the answers differ"),
        ({"on_topic": 0.05, "words": 1.0}, None),
        ({"on_topic": 0.0}, "0% of the answers' words belong to the topic (at the best initial expert 50%)"),
    ],
)
def test_companions_that_moved_far_are_warned_of(now, says):
    watch = ObservationLog.begin(seen(EASE, None, INITIAL), [])
    watch.note(2, seen(EASE + NOISE, None, replace(INITIAL, **now)), mean)
    warning = watch.diverged()
    assert (warning is None) == (says is None)
    assert says is None or says in warning


def test_a_word_that_becomes_a_sentence_is_not_suspicious():
    watch = ObservationLog.begin(seen(EASE, None, replace(INITIAL, words=3.0)), [])
    watch.note(2, seen(EASE + NOISE, None, replace(INITIAL, words=8.0)), mean)
    assert watch.diverged() is None


def test_all_reasons_are_in_the_one_sentence():
    watch = ObservationLog.begin(seen(EASE, HELD_EASE, INITIAL), [])
    far = TextFeatures(words=100.0, repetition=0.9, on_topic=0.0, distinct=0.1)
    watch.note(7, seen(EASE + 1 + NOISE, HELD_EASE + HELD_NOISE, far), mean)
    assert watch.diverged().count(";") == 4
    assert "\n" not in watch.diverged()


def test_nothing_noted_is_nothing_to_warn_of():
    watch = ObservationLog.begin(seen(EASE, HELD_EASE), [])
    assert (watch.diverged(), watch.fooled()) == (None, [])


def test_canaries_that_beat_the_median_honest_answer_have_fooled_the_judge():
    experts = [evaluation([2, 8, None, 6]), evaluation([4, 6, 10, 1])]
    watch = ObservationLog.begin(seen(EASE), experts)
    assert watch.honest == 6
    watch.note_canaries(0, {"empty": 1.0, "padding": 6.0, "verdict": 7.0})
    assert watch.fooled() == ["verdict"]
    watch.note_canaries(2, {"padding": 9.0, "verdict": 6.0})
    assert watch.fooled() == ["padding", "verdict"]  # on average 7.5 and 6.5
    watch.note_canaries(4, {"verdict": 1.0, "json": 10.0})
    assert watch.fooled() == ["json", "padding"]


def test_where_no_answer_has_a_score_no_canary_beats_one():
    watch = ObservationLog.begin(seen(EASE), [evaluation([None, None])])
    watch.note_canaries(0, {"empty": 10.0})
    assert watch.fooled() == []


# -- kept in a checkpoint ----------------------------------------------------------------------------------------------


def test_a_watch_from_a_checkpoint_goes_on_as_if_it_had_never_stopped():
    watch = gained(1.0, 0.0)
    watch.note(4, seen([None, *EASE[1:] + 1], HELD_EASE + 2, INITIAL), mean)
    watch.note_canaries(4, {"empty": 1.0})
    saved = json.dumps(watch.to_dict(), allow_nan=False)
    again = ObservationLog.from_dict(json.loads(saved))
    assert again == watch
    for one in (watch, again):
        one.note(5, seen(EASE + 3 + NOISE, HELD_EASE + 1 + HELD_NOISE), mean)
        one.note_canaries(6, {"empty": 10.0})
    assert again == watch
    assert (again.diverged(), again.fooled(), again.caution()) == (watch.diverged(), watch.fooled(), watch.caution())
    assert again.to_dict() == watch.to_dict()


def test_a_checkpoint_holds_no_answers_and_grows_only_by_numbers():
    watch = gained(1.0, 0.0)
    before = len(json.dumps(watch.to_dict()))
    assert not any(word in json.dumps(watch.to_dict()) for word in ('"said"', '"hash"', '"raw": 1.0'))
    for step in range(4, 14):
        watch.note(step, seen(EASE + 1, HELD_EASE, INITIAL), mean)
    assert len(json.dumps(watch.to_dict())) < before + 10 * 600


@pytest.mark.parametrize("broken", [{}, {"initial": 3, "honest": None, "peak": {}}, {"looks": "none"}])
def test_a_damaged_checkpoint_is_a_value_error(broken):
    with pytest.raises(ValueError):
        ObservationLog.from_dict(broken)
