"""Episodes of several turns: batching, limits, illegal actions, failures, and replaying of transcripts."""

import asyncio

import pytest
from test_abstain import Scripted

from harness.testing import ScorerConformance
from utilities import Item, UserError, load_task
from utilities.core import ChoiceLogprobs, Reason, Response, Unscored, scorer_registry
from utilities.environments.base import Environment, IllegalAction, Observation
from utilities.scorers.conversation import Conversation

LOST = Unscored(Reason.TRUNCATED, "prompt too long")


class Number(Environment):
    """Guess a number from 0 to 9; the answer 13 breaks it."""

    def __init__(self, choose=False):
        self.choose = choose

    def start(self, item):
        return int(item.answer), None

    def observe(self, state):
        secret, guess = state
        hint = "" if guess is None else "Higher. " if guess < secret else "Lower. "
        return Observation(f"{hint}Guess:", ("3", "7") if self.choose else ())

    def act(self, state, action):
        if not action.isdigit():
            raise IllegalAction("write a number")
        if state[0] == 13:
            raise RuntimeError("unlucky")
        return state[0], int(action)

    def done(self, state):
        return state[0] == state[1]

    def score(self, state):
        return float(self.done(state))


def items(*answers):
    return [Item(id=str(k), question=f"Number {k}", answer=str(answer)) for k, answer in enumerate(answers)]


def play(asked, *rounds, **options):
    model, scorer = Scripted(*rounds), Conversation(Number(), **options)
    return asyncio.run(scorer(model, asked)), model, scorer


class TestConformance(ScorerConformance):
    @pytest.fixture
    def scorer(self):
        return Conversation("look_up", turns=3)

    @pytest.fixture
    def items(self):
        asked = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome"}
        return [Item(id=k, question=f"What is the capital of {k}?", answer=v) for k, v in asked.items()]

    @pytest.fixture
    def texts(self):
        return ["search: capital of France", "nonsense", "answer: Rome"]


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("conversation") is Conversation


def test_all_open_items_of_a_turn_are_one_call():
    evaluation, model, _ = play(items(5, 3, 4), ["5", "1", "9"], ["3", "4"])
    assert [prompts for prompts, _ in model.asked] == [["Guess:"] * 3, ["Higher. Guess:", "Lower. Guess:"]]
    assert evaluation.value == 1
    assert evaluation.usage.requests == 5
    first, second, _ = evaluation.results
    assert (first.response.text, first.response.more) == ("5", ())
    assert (second.response.text, second.response.more) == ("1", ("Higher. Guess:", "3"))
    assert first.outcome.measures == {"turns": 1, "tokens": 0, "illegal": 0}


def test_an_illegal_action_costs_a_turn_and_is_explained():
    evaluation, model, _ = play(items(5), ["five!"], ["5"])
    assert model.asked[1][0] == ["Not possible: write a number\nGuess:"]
    assert evaluation.value == 1
    assert evaluation.results[0].outcome.measures == {"turns": 2, "tokens": 0, "illegal": 1}
    evaluation, model, _ = play(items(5), ["five!"], ["5!"], turns=2)
    assert (evaluation.value, len(model.asked)) == (0, 2)


def test_the_limit_of_turns_ends_an_episode():
    evaluation, model, _ = play(items(5), ["1"], ["2"], ["5"], turns=2)
    assert (evaluation.value, len(model.asked)) == (0, 2)
    assert evaluation.results[0].response.finish_reason == "length"


def test_the_limit_of_tokens_ends_an_episode():
    rounds = [[Response("1", tokens=6)], [Response("2", tokens=6)], [Response("5", tokens=6)]]
    evaluation, model, _ = play(items(5), *rounds, token_limit=12)
    assert (evaluation.value, len(model.asked)) == (0, 2)
    assert evaluation.results[0].response.tokens == 12


def test_only_the_first_line_is_an_action():
    evaluation, _, _ = play(items(5), ["\n 5 \n6"])
    assert evaluation.results[0].response.text == "5"


def test_offered_actions_are_chosen_by_likelihood():
    answers = [ChoiceLogprobs((-3.0, -1.0), (1, 2)), ChoiceLogprobs((-1.0, -3.0), (1, 2))]
    model = Scripted(answers)
    model.choice_logprobs = lambda prompts, options: choose(model, prompts, options)
    scorer = Conversation(Number(choose=True), turns=1)
    evaluation = asyncio.run(scorer(model, items(7, 7)))
    assert model.asked == [(["Guess:"] * 2, [[" 3", " 7"]] * 2)]
    assert [result.outcome.value for result in evaluation.results] == [1, 0]
    assert [result.response.tokens for result in evaluation.results] == [2, 1]


async def choose(model, prompts, options):
    model.asked.append((list(prompts), options))
    return model.rounds.pop(0)


def test_a_turn_in_a_chat_is_a_message():
    _, model, _ = play(items(5), ["5"], chat=True, system_prompt="Be brief.")
    (prompt,) = model.asked[0][0]
    assert [message["content"] for message in prompt.messages] == ["Be brief.", "Guess:"]


def test_an_unanswered_turn_is_unscored_with_its_reason_and_the_others_continue():
    evaluation, model, _ = play(items(*[5] * 11), ["1"] * 11, ["5", LOST, *["5"] * 9])
    assert (evaluation.value, evaluation.n_unscored) == (1, 1)
    assert evaluation.results[1].outcome == LOST
    assert len(model.asked) == 2


def test_an_environment_that_raises_makes_its_item_unscored():
    evaluation, _, _ = play(items(13), ["5"])
    outcome = evaluation.results[0].outcome
    assert outcome == Unscored(Reason.MALFORMED, "the environment raised RuntimeError: unlucky")


def test_a_stored_transcript_is_replayed():
    evaluation, _, scorer = play(items(5, 6), [Response("one", tokens=2), "6"], [Response("5", tokens=1)])
    responses = [result.response for result in evaluation.results]
    assert asyncio.run(scorer.score(items(5, 6), responses)) == [result.outcome for result in evaluation.results]
    assert asyncio.run(scorer.score(items(5), [Response("5", more=("Guess:", "9"))]))[0].value == 1  # it was over


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"environment": "look_upp"}, "Did you mean 'look_up'"),
        ({"environment": "look_up", "turns": 0}, "turns is 0"),
        ({"environment": "look_up", "depth": 3}, "does not take its options"),
        ({"environment": "nowhere.py:Game"}, "does not exist"),
    ],
)
def test_wrong_options_are_refused(options, problem):
    with pytest.raises(UserError, match=problem):
        Conversation(**options)


def test_a_task_file_cannot_name_a_file_as_environment(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "{name: t, title: T, editions: {own: {item_sets: {a: {scorer: conversation,"
        " options: {environment: 'game.py:Game'}, items: {dev: [x], test: [y]}}}}}}"
    )
    with pytest.raises(UserError, match="--option environment=VALUE"):
        load_task(str(tmp_path / "t.yaml"))


@pytest.mark.parametrize("name", ["look_up", "calculator", "twenty_questions"])
def test_the_bundled_tasks_share_no_source_between_dev_and_test(name):
    (item_set,) = load_task(name, edition="mini").item_sets.values()
    assert len(item_set.dev) >= 100
    assert len(item_set.test) == 400
    assert not {item.source for item in item_set.dev} & {item.source for item in item_set.test}
    assert item_set.overlap == ()
