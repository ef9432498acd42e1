"""The reward scorer; scripted rewards take the reward model's place where only arithmetic is tested."""

import asyncio
import json

import pytest

from utilities.core import Item, Reason, Response, Score, Unscored
from utilities.errors import UserError
from utilities.rewards.mixes import length_score
from utilities.rewards.reward import Reward

ITEMS = [Item(id=str(k), question=f"Question {k}?") for k in range(4)]
RESPONSES = [Response(text) for text in ("one", "one two", "one two three", "")]


class Scripted:
    """Rewards an answer with so many points a word."""

    def __init__(self, points):
        self.points = points

    def score(self, pairs):
        return [self.points * len(answer.split()) if answer else Unscored(Reason.TRUNCATED) for _, answer in pairs]

    async def score_async(self, pairs):
        return self.score(pairs)


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps([0.0, 2.0, 4.0]))
    return str(path)


def scored(monkeypatch, **options):
    points = {"mine": 1.0, "other": -1.0}
    monkeypatch.setattr(Reward, "_load", lambda self, name: Scripted(points[name]))
    return asyncio.run(Reward(model="mine", words=4, **options).score(ITEMS, RESPONSES))


def test_the_raw_reward_is_kept_beside_the_normalised_one(monkeypatch, reference):
    found = scored(monkeypatch, normalize="zscore", reference=reference)
    assert [o.value for o in found[:3]] == pytest.approx([-0.5, 0.0, 0.5])  # mean 2, standard deviation 2
    assert [o.measures["raw_reward"] for o in found[:3]] == [1.0, 2.0, 3.0]
    assert isinstance(found[3], Unscored) and found[3].reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("mix", "values"),
    [
        ("general", [0.25, 0.5, 0.75]),
        ("reverse", [-0.25, -0.5, -0.75]),
        ("verbose", [0.25, 0.5, 0.75]),  # reward and length are equal here: words / 4
        ("concise", [0.5, 0.5, 0.5]),
        ("conflict", [0.5, 0.5, 0.5]),
    ],
)
def test_every_mix_is_the_weighted_sum_of_its_parts(monkeypatch, reference, mix, values):
    found = scored(monkeypatch, normalize="range", reference=reference, mix=mix)
    assert [o.value for o in found[:3]] == pytest.approx(values)


def test_a_conflict_of_two_rewards_keeps_both(monkeypatch, reference):
    options = {"normalize": "none", "mix": "conflict", "against": "other", "weight": 0.75}
    found = scored(monkeypatch, **options)
    assert [o.value for o in found[:3]] == pytest.approx([0.5, 1.0, 1.5])
    assert found[1].measures == {"raw_reward": 2.0, "reward": 2.0, "raw_second": -2.0, "second": -2.0}
    assert Reward(model="mine", mix="conflict", against="other").objectives == ("reward", "second")


def test_without_reference_rewards_the_bundled_answers_are_the_scale(monkeypatch):
    found = scored(monkeypatch, normalize="zscore")
    assert all(isinstance(o, Score) for o in found[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "no reward model given"),
        ({"model": "m", "mix": "genral"}, "Did you mean 'general'"),
        ({"model": "m", "normalize": "zscores"}, "Did you mean 'zscore'"),
        ({"model": "m", "mix": "conflict", "weight": 2.0}, "0 to 1"),
    ],
)
def test_what_cannot_be_is_said_before_any_model_is_loaded(options, message):
    with pytest.raises(UserError, match=message):
        Reward(**options)


def test_a_damaged_reference_is_named(monkeypatch, tmp_path):
    path = tmp_path / "reference.json"
    path.write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"reference\.json"):
        scored(monkeypatch, normalize="zscore", reference=str(path))


def test_the_length_score_is_that_of_the_words():
    assert length_score("one two", 4) == 0.5


def test_thoughts_are_not_rewarded_and_an_answer_that_is_only_a_thought_has_no_score(monkeypatch):
    monkeypatch.setattr(Reward, "_load", lambda self, name: Scripted(1.0))
    texts = ["<think>one two three</think>one two", "<think>one two", "one two"]
    scorer = Reward(model="mine", mix="verbose", normalize="none", words=4)
    thought, unended, plain = asyncio.run(scorer.score(ITEMS[:3], [Response(text) for text in texts]))
    assert thought == plain and thought.value == (2.0 + 0.5) / 2
    assert unended == Unscored(Reason.TRUNCATED, "the answer ends inside its thoughts; raise max_tokens")
