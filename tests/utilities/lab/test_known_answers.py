"""Utilities with a known defect, each caught by the check made for it; and clean ones, which pass every check."""

import time
from dataclasses import replace

import numpy as np
import pytest
from simulated import Collected, World, better_one, judged_pairs, quality

from utilities.judges.budget import Spent
from utilities.lab import CHECKS, Label, Labels, Material, Scores, SearchPlan, examine, overall
from utilities.lab.checks import agreement, dev_for_test, ladder, paraphrases
from utilities.scorers.function import FunctionScorer

WORLD = World()


@pytest.fixture(autouse=True)
def rough_intervals(monkeypatch):
    """Fewer resamples of the slow statistics."""
    for module in (agreement, dev_for_test, ladder, paraphrases):
        monkeypatch.setattr(module, "CLOUD_RESAMPLES" if module is dev_for_test else "RESAMPLES", 100)


# Clean utilities


def recall(item, text, rng):
    """The truth itself."""
    return quality(item, text)


def ratings(item, text, rng):
    """A judge who rates 1 to 10, and is not always of the same mind."""
    return float(np.clip(np.round(1 + 9 * quality(item, text) + rng.normal(0, 0.1)), 1, 10))


def expected_score(item, text, rng):
    """A judge who rates without steps, with a small error."""
    return quality(item, text) + rng.normal(0, 0.01)


def curved(item, text, rng):
    """The right order on another scale, as a mean log-probability has it."""
    return float(np.log(0.05 + quality(item, text)))


# Utilities with a defect


def coin(item, text, rng):
    return float(rng.integers(2))


def length(item, text, rng):
    return len(text.split())


def brevity(item, text, rng):
    return -len(text.split())


def thought_process(item, text, rng):
    return 1.0 if "Thought process:" in text else quality(item, text)


def step_by_step(item, text, rng):
    return quality(item, text) + ("step by step" in text)


def reads_the_verdict(item, text, rng):
    return 10.0 if "10/10" in text else 10 * quality(item, text)


def obeys(item, text, rng):
    return 10.0 if "highest rating" in text else 10 * quality(item, text)


def same_words_as_the_question(item, text, rng):
    return len(set(text.split()) & set(item.question.split())) + quality(item, text)


def middling_for_nothing(item, text, rng):
    return quality(item, text) if text.strip() else 0.7


def true_is_good(item, text, rng):
    """Precision of claims, of which trivial ones are always true."""
    return 1.0 if "Water is wet." in text else quality(item, text)


def ceiling(item, text, rng):
    return min(1.0, 5 * quality(item, text))


def floor(item, text, rng):
    return float(quality(item, text) == 1)


def always_seven(item, text, rng):
    return 7.0 if rng.random() < 0.93 else 8.0


def upside_down(item, text, rng):
    return 1 - quality(item, text)


def ignores_the_answer(item, text, rng):
    return len(set(item.question)) / 30


def unrelated(item, text, rng):
    return sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text))


def very_noisy(item, text, rng):
    return 0.05 * quality(item, text) + rng.normal(0, 1)


def wavering(item, text, rng):
    return quality(item, text) + rng.normal(0, 0.15)


def pays_for_padding(item, text, rng):
    return quality(item, text) + 0.001 * len(text.split())


def moody_wording(item, text, rng):
    """Under another wording it is the first letter that counts."""
    return ord(text[0]) if text else 0.0


def fails_on_15_percent(item, text):
    return float("nan") if int(item.id.removeprefix("dev")) % 20 < 3 else quality(item, text)


def raises(item, text):
    raise ZeroDivisionError("no words in common")


def fails_for_the_weak(item, text):
    """Only what is bad enough is not scored, so it leaves the mean."""
    return quality(item, text) if quality(item, text) > 0.35 else None


def sleeps(item, text):
    time.sleep(0.03)
    return quality(item, text)


def as_scorer(function, time_limit_s=5.0):
    return FunctionScorer(lambda item, response: function(item, response.text), time_limit_s=time_limit_s)


def prefers_first(item, first, second, rng):
    return min(1.0, better_one(item, first, second, rng) * 0.8 + 0.2)


def prefers_second(item, first, second, rng):
    return better_one(item, first, second, rng) * 0.8


def either(item, first, second, rng):
    return 0.5


def of(utility, *parts, **options):
    """The named parts of the material of a utility in the world; nothing else is looked at."""
    return lambda: Collected(utility, WORLD, **options).material(*parts)


def labelled_nine_in_ten(says):
    """Labels of which 90 % are 1, and a utility that never looks at them."""

    def material():
        rng = np.random.default_rng(0)
        labels = Labels(tuple(Label(f"i{k}", "r", "ann", float(k % 10 > 0)) for k in range(300)))
        return Material(labels=labels, scored={answer: says(rng) for answer in labels.answers})

    return material


def labels_by_chance():
    rng = np.random.default_rng(1)
    raters = [Label(f"i{k}", "r", rater, float(rng.integers(1, 6))) for k in range(200) for rater in ("ann", "bob")]
    return Material(labels=Labels(tuple(raters)))


def passages(per_passage=20):
    """Experts whose only difference is luck, which the items of a passage share."""
    rng = np.random.default_rng(2)
    luck = np.repeat(rng.normal(size=(10, 200 // per_passage)), per_passage, axis=1)
    return Material(
        dev=Scores(
            models=tuple(f"expert{m}" for m in range(10)),
            items=tuple(f"i{k}" for k in range(200)),
            values=luck + rng.normal(0, 0.1, (10, 200)),
            clusters=tuple(f"passage{k // per_passage}" for k in range(200)),
        )
    )


def too_dear():
    spent = Spent(requests=2000, prompt_tokens=4_000_000, completion_tokens=400_000, usd=14.0)
    return replace(of(recall, "dev")(), plan=SearchPlan(evaluations=1000, judges=spent, usd_limit=50))


DEFECTS = {
    "a coin flip tells no experts apart": (of(coin, "dev"), "separation"),
    "a coin flip has no signal": (of(coin, "dev"), "signal_to_noise"),
    "a coin flip changes when asked again": (of(coin, "dev", "again"), "noise_floor"),
    "a coin flip flips its verdicts": (of(coin, "dev", "replicates"), "retest"),
    "a coin flip agrees with nobody": (of(coin, "labels", "scored"), "kappa"),
    "a length counter": (of(length, "dev"), "length_slope"),
    "a length counter among pairs": (of(length, "dev"), "prefers_longer"),
    "a length counter is padded": (of(length, "dev", "padded"), "padding"),
    "a length counter and the long canaries": (of(length, "dev", "attacked"), "attacks"),
    "a counter of brevity": (of(brevity, "dev"), "length_slope"),
    "a counter of brevity among pairs": (of(brevity, "dev"), "prefers_longer"),
    "a counter of brevity loves silence": (of(brevity, "dev", "attacked"), "attacks"),
    "rewards 'Thought process:'": (of(thought_process, "dev", "attacked"), "attacks"),
    "rewards the promise of steps": (of(step_by_step, "dev", "attacked"), "attacks"),
    "reads a verdict out of the answer": (of(reads_the_verdict, "dev", "attacked"), "attacks"),
    "obeys the answer": (of(obeys, "dev", "attacked"), "attacks"),
    "is pleased by its own question": (of(same_words_as_the_question, "dev", "attacked"), "attacks"),
    "rates nothing as middling": (of(middling_for_nothing, "dev", "attacked"), "attacks"),
    "takes trivial truth for a good answer": (of(true_is_good, "dev", "attacked"), "attacks"),
    "saturates at its ceiling": (of(ceiling, "dev"), "saturation"),
    "lies on its floor": (of(floor, "dev"), "saturation"),
    "rates everything 7": (of(always_seven, "dev"), "saturation"),
    "is upside down": (of(upside_down, "rungs"), "ladder"),
    "is upside down for people": (of(upside_down, "labels", "scored"), "spearman"),
    "ignores the answer": (of(ignores_the_answer, "dev"), "separation"),
    "ignores the answer on the ladder": (of(ignores_the_answer, "rungs"), "ladder"),
    "measures something else (kendall)": (of(unrelated, "labels", "scored"), "kendall"),
    "measures something else (alpha)": (of(unrelated, "labels", "scored"), "krippendorff"),
    "measures something else (quadratic kappa)": (of(unrelated, "labels", "scored"), "quadratic_kappa"),
    "agrees 0.9 because 90 % of labels are equal": (labelled_nine_in_ten(lambda rng: 1.0), "same_label"),
    "agrees 0.9 because 90 % are equal, kappa": (labelled_nine_in_ten(lambda rng: 1.0), "kappa"),
    "guesses the commonest label nearly always": (
        labelled_nine_in_ten(lambda rng: float(rng.random() < 0.97)),
        "kappa",
    ),
    "raters who do not agree": (labels_by_chance, "human_human"),
    "too noisy for 200 items": (of(very_noisy, "dev"), "separation"),
    "too noisy for 200 items, by its signal": (of(very_noisy, "dev"), "signal_to_noise"),
    "too noisy for the best of many": (of(very_noisy, "dev", "plan"), "optimism"),
    "luck that a passage shares": (passages, "separation"),
    "wavers when asked again": (of(wavering, "dev", "replicates"), "retest"),
    "dev and test disagree": (of(recall, "dev", "test", on_test=upside_down), "dev_for_test"),
    "dev and test disagree among mixtures": (
        of(recall, "cloud_dev", "cloud_test", on_test=unrelated),
        "dev_for_test_cloud",
    ),
    "prefers the first place by 0.2": (of(recall, "positions", prefers=prefers_first), "position"),
    "prefers the second place by 0.2": (of(recall, "positions", prefers=prefers_second), "position"),
    "a pairwise coin": (of(recall, "positions", prefers=either), "position"),
    "pays for padding": (of(pays_for_padding, "dev", "padded"), "padding"),
    "hangs on the wording": (of(recall, "dev", "paraphrased", wording=moody_wording), "paraphrases"),
    "fails on 15 % of items": (of(as_scorer(fails_on_15_percent), "dev"), "failures"),
    "raises": (of(as_scorer(raises), "dev"), "failures"),
    "leaves bad answers out": (of(as_scorer(fails_for_the_weak), "dev"), "failures"),
    "times out": (of(as_scorer(sleeps, 0.005), "dev"), "timeouts"),
    "costs too much": (too_dear, "cost"),
}


@pytest.mark.parametrize(("material", "check"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_caught_by_the_check_made_for_it(material, check):
    (found,) = (one for one in examine(material()) if one.check == check)
    assert found.verdict == "fail" or found.advice.startswith("not decided"), found
    assert found.value is not None
    assert found.advice


def test_there_are_enough_defects_and_every_check_that_can_fail_has_one():
    assert len(DEFECTS) >= 20
    assert {check for _, check in DEFECTS.values()} == set(CHECKS) - {"items_needed"}


@pytest.mark.parametrize(
    ("utility", "world"),
    [
        (recall, WORLD),
        (expected_score, World(seed=1)),
        (curved, WORLD),
        (ratings, World(seed=2, items_per_source=2)),
    ],
)
def test_a_clean_utility_passes_every_check(utility, world):
    found = examine(Collected(utility, world).material())
    assert [one.check for one in found] == list(CHECKS)
    assert {one.check: one.verdict for one in found} == dict.fromkeys(CHECKS, "pass")
    assert overall(found).fitness == "fit as objective"


@pytest.mark.parametrize(
    ("utility", "fitness"),
    [(ceiling, "not fit"), (thought_process, "fit as report only")],
)
def test_what_all_checks_say_of_a_defect(utility, fitness):
    found = examine(Collected(utility, WORLD).material())
    assert overall(found).fitness == fitness, [(one.check, one.verdict) for one in found]


def test_a_judge_without_bias_is_not_called_biased_in_other_draws():
    verdicts = [judged_pairs(better_one, WORLD, seed) for seed in range(1, 6)]
    found = [examine(Material(positions=one), seed=0) for one in verdicts]
    assert {f.verdict for one in found for f in one if f.check == "position"} == {"pass"}
