"""Methods that answer in place of merging: votes, Pack of LLMs, c-BTM, and how their answers are scored again."""

import asyncio

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier

from harness.baselines.cbtm import cluster_weights
from harness.baselines.combined_answers import evaluate_combined
from harness.baselines.ensemble import can_mix, heaviest_answer, mixed_answer
from harness.baselines.pack_of_llms import log_perplexities, pack_weights
from harness.baselines.training_texts import Pair, embedded_training_texts, read_training_texts
from harness.baselines.vote import ballot, vote, why_no_vote
from utilities.core import ChoiceLogprobs, Item, Reason, Response, Unscored
from utilities.errors import UserError
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import load_task

LETTERS = "ABCD"
ITEM = Item(
    id="1", question="Which?", choices=dict(zip(LETTERS, ["one", "two", "three", "four"], strict=True)), answer="B"
)


def free(answer):
    return Item(id="1", question="What?", answer=answer)


# -- votes -------------------------------------------------------------------------------------------------------------


def test_votes_are_those_of_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    votes = rng.integers(4, size=(7, 300))  # [experts, items]
    won = [vote(ITEM, [Response(LETTERS[v]) for v in column]).text for column in votes.T]
    counts = np.stack([(votes == k).sum(axis=0) for k in range(4)])
    unique = (counts == counts.max(axis=0)).sum(axis=0) == 1  # where they are not, each has its own rule for ties
    assert 100 < unique.sum() < 300
    modes = stats.mode(votes, axis=0).mode
    assert [won[k] for k in np.flatnonzero(unique)] == [LETTERS[v] for v in modes[unique]]
    for k in np.flatnonzero(unique)[:10]:
        experts = [(str(j), DummyClassifier(strategy="constant", constant=int(v))) for j, v in enumerate(votes[:, k])]
        voting = VotingClassifier(experts, voting="hard").fit(np.zeros((4, 1)), range(4))
        assert LETTERS[voting.predict([[0.0]])[0]] == won[k]


def test_a_tie_goes_to_the_first_expert_among_the_tied():
    assert vote(ITEM, [Response(x) for x in "CABBA"]).text == "A"
    assert vote(ITEM, [Response(x) for x in "CBAAB"]).text == "B"


def test_who_cannot_be_read_or_did_not_answer_has_no_vote():
    unreadable = Response("I am not sure.")
    assert vote(ITEM, [unreadable, unreadable, None, Response("D")]).text == "D"
    assert vote(ITEM, [None, unreadable]) is unreadable
    assert vote(ITEM, [None, None]) is None


@pytest.mark.parametrize(
    ("item", "text", "expected"),
    [
        (ITEM, "The answer is (C).", "C"),
        (free("12"), "So it is 1,200.", 1200),
        (free("yes"), "No, never.", "no"),
        (free("the Nile"), "The river Nile.\nIt is long.", "river nile"),
        (free("Paris"), "", None),
    ],
)
def test_a_ballot_is_what_scorers_would_read(item, text, expected):
    assert ballot(item, Response(text)) == expected


def test_free_texts_cannot_be_counted():
    assert why_no_vote([ITEM, free("42"), free("the city of Paris")]) is None
    assert "neither options nor a right answer" in why_no_vote([ITEM, free(None)])
    assert "longer than 5 words" in why_no_vote([free("because the river flows down to the open sea")])


# -- mixtures of option probabilities ----------------------------------------------------------------------------------


def told(*logprobs):
    return Response("A", choice_logprobs=tuple(logprobs))


def test_a_mixture_adds_weighted_probabilities():
    p, q = np.array([0.1, 0.2, 0.05, 0.01]), np.array([0.3, 0.01, 0.02, 0.4])
    mixed = mixed_answer(ITEM, [told(*np.log(p)), told(*np.log(q)), None], np.array([3.0, 1.0, 9.0]))
    assert np.allclose(np.exp(mixed.choice_logprobs), 0.75 * p + 0.25 * q)
    assert mixed.text == "B"
    alone = mixed_answer(ITEM, [told(*np.log(p)), told(*np.log(q))], np.array([0.0, 1.0]))
    assert np.allclose(alone.choice_logprobs, np.log(q))
    assert mixed_answer(ITEM, [None, told(*np.log(q))], np.array([1.0, 0.0])) is None


def test_generated_answers_are_not_mixed():
    assert can_mix([ITEM], [[told(-1, -2, -3, -4), None]])
    assert not can_mix([ITEM], [[Response("A")]])
    assert not can_mix([free("x")], [[told(-1.0)]])
    assert heaviest_answer(ITEM, [Response("A"), Response("B"), None], np.array([0.1, 0.2, 0.7])).text == "B"
    assert heaviest_answer(ITEM, [None], np.array([1.0])) is None


class Surprised:
    """A model that knows how long each text is."""

    def __init__(self):
        self.asked = []

    async def choice_logprobs(self, prompts, options):
        self.asked += list(zip(prompts, options, strict=True))
        return [
            Unscored(Reason.TRUNCATED)
            if "long" in one
            else ChoiceLogprobs((-3.0 * len(one.split()),), (len(one.split()),))
            for (one,) in options
        ]


def test_perplexity_is_of_all_words_but_the_first():
    model = Surprised()
    found = asyncio.run(log_perplexities(model, ["What is\nthis?", "One", "too long a text"]))
    assert model.asked == [("What", [" is\nthis?"]), ("too", [" long a text"])]
    assert found[:2] == [3.0, 0.0]
    assert np.isnan(found[2])


def test_what_surprises_less_counts_more():
    weights = pack_weights(np.array([[1.0, np.nan, np.nan], [1.5, 2.0, np.nan]]), tau=0.5)
    assert np.allclose(weights[:, 0], np.exp([-2, -3]) / np.exp([-2, -3]).sum())
    assert np.allclose(weights[:, 1:], [[0, 0.5], [1, 0.5]])


def test_a_question_goes_to_the_expert_that_was_trained_on_texts_like_it():
    texts = [["liver heart lung", "heart and blood"], ["judge court law", "the court decides"], ["planet star", "star"]]
    weights = cluster_weights(texts, ["what does the court say", "of heart and blood", "zebra"])
    assert np.allclose(weights.sum(axis=0), 1.0)
    assert weights.argmax(axis=0)[:2].tolist() == [1, 0]
    assert weights[1, 0] > 0.9
    assert np.allclose(weights[:, 2], 1 / 3)


# -- training texts ----------------------------------------------------------------------------------------------------


def test_the_embedded_experts_texts_are_those_of_their_lessons():
    texts = embedded_training_texts(["pharmacy-quiz", "travel-guide"])
    assert min(map(len, texts.values())) > 100
    assert all(pair.prompt and pair.answer.strip() for own in texts.values() for pair in own)


def test_training_files_are_read_by_name_and_mistakes_are_told_by_line(tmp_path):
    (tmp_path / "ant.jsonl").write_text('{"prompt": "a", "answer": "b"}\n\n{"prompt": "", "answer": "c", "more": 1}\n')
    assert read_training_texts(tmp_path, ["ant"]) == {"ant": [Pair("a", "b"), Pair("", "c")]}
    (tmp_path / "bee.jsonl").write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n')
    for names, message in ((["ant", "cat"], "cat.jsonl does not exist"), (["bee"], "bee.jsonl, line 2: expected")):
        with pytest.raises(UserError, match=message):
            read_training_texts(tmp_path, names)
    with pytest.raises(UserError, match="the folder does not exist"):
        read_training_texts(tmp_path / "nowhere", ["ant"])


# -- scored again ------------------------------------------------------------------------------------------------------


class Guessing:
    """A model whose log-probabilities depend on the seed and the text alone."""

    def __init__(self, seed, silent=()):
        self.seed, self.silent = seed, silent

    async def choice_logprobs(self, prompts, options):
        found = []
        for k, own in enumerate(options):
            rng = np.random.default_rng([self.seed, k])
            values = ChoiceLogprobs(tuple(rng.normal(size=len(own))), (1,) * len(own))
            found.append(Unscored(Reason.TRUNCATED, "too long") if k in self.silent else values)
        return found


@pytest.mark.parametrize("grouped", [False, True])
def test_answers_are_scored_as_the_models_own_would_be(grouped):
    from dataclasses import replace

    task = load_task("medical", edition="mini", limit=30)
    if grouped:
        sets = {name: replace(s, group_by="source") for name, s in task.item_sets.items()}
        task = replace(task, item_sets=sets, combination="mean")
    one, other = Guessing(1, silent={3}), Guessing(2, silent={3, 4})
    evaluations = [asyncio.run(task(model, "dev")) for model in (one, other)]
    first = asyncio.run(
        evaluate_combined(task, "dev", evaluations, lambda s, items, answers: [own[0] for own in answers])
    )
    assert first == replace(evaluations[0], usage=first.usage, parts=first.parts)
    assert {k: p.results for k, p in first.parts.items()} == {k: p.results for k, p in evaluations[0].parts.items()}
    assert isinstance(next(iter(task.item_sets.values())).scorer, MultipleChoice)
