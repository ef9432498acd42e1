"""The environments that ship: what a model sees, which actions are possible, and what ends an episode."""

import pytest

from utilities.core import Item
from utilities.environments.base import IllegalAction, Observation, environment_registry
from utilities.environments.calculator import Calculator
from utilities.environments.look_up import LookUp
from utilities.environments.twenty_questions import TwentyQuestions
from utilities.errors import UserError

CAPITAL = Item(id="1", question="Question: What is the capital of France?", answer="Paris")
SUM = Item(id="1", question="Problem: Ana has 80 pens and buys 12 more. Ana gives 30 away. How many?", answer="62")
FACTS = "iron: metal\ngold: metal\nneon: gas\nargon: gas\nbromine: liquid"
ELEMENT = Item(
    id="1", question="Question: Which is it?", answer="neon", row={"facts": FACTS, "clue": "Look up: What is a {o}?"}
)


def play(game, item, *actions):
    state = game.start(item)
    for action in actions:
        state = game.act(state, action)
    return state


def test_three_environments_are_registered():
    assert list(environment_registry) == ["calculator", "look_up", "twenty_questions"]


# look_up


def test_look_up_scores_a_right_answer_that_was_found():
    game = LookUp(top=1)
    state = play(game, CAPITAL, "search: capital of France")
    assert "The capital of France is Paris." in game.observe(state).text
    assert "Searches left: 2" in game.observe(state).text
    assert not game.done(state)
    right = game.act(state, "Answer: the Paris.")
    assert game.done(right)
    assert game.score(right) == 1
    assert game.score(game.act(state, "answer: Lyon")) == 0
    assert game.score(state) == 0


def test_look_up_does_not_score_what_is_known_and_not_found():
    game = LookUp()
    assert game.score(play(game, CAPITAL, "answer: Paris")) == 0
    assert game.score(play(game, CAPITAL, "search: zzzz", "answer: Paris")) == 0


@pytest.mark.parametrize("action", ["Paris", "", "search:", "find: Paris", "answer: ``"])
def test_look_up_refuses_what_is_no_action(action):
    with pytest.raises(IllegalAction):
        play(LookUp(), CAPITAL, action)


def test_look_up_has_a_limit_of_searches():
    game = LookUp(searches=1)
    with pytest.raises(IllegalAction, match="no searches are left"):
        play(game, CAPITAL, "search: France", "search: Paris")


def test_guided_look_up_searches_and_then_answers():
    game = LookUp(guided=True, searches=1, top=1)
    state = game.start(CAPITAL)
    assert game.observe(state) == Observation(f"{CAPITAL.question}\nSearch:")
    state = game.act(state, "France capital")
    assert game.observe(state) == Observation(f"The capital of France is Paris.\n{CAPITAL.question}\nAnswer:")
    assert game.score(game.act(state, "Paris")) == 1


def test_look_up_reads_a_folder_of_documents(tmp_path):
    (tmp_path / "towns.md").write_text("The capital of Freedonia is Fredville.")
    game = LookUp(evidence=str(tmp_path))
    item = Item(id="1", question="What is the capital of Freedonia?", answer="Fredville")
    assert game.score(play(game, item, "search: Freedonia", "answer: Fredville")) == 1


@pytest.mark.parametrize("options", [{"top": 0}, {"searches": True}, {"evidence": "/nowhere"}])
def test_look_up_refuses_options_out_of_range(options):
    with pytest.raises(UserError):
        LookUp(**options)


# calculator


def test_the_calculator_calculates_and_takes_an_answer():
    game = Calculator()
    state = play(game, SUM, "calculate: 80 + 12 - 30")
    assert "80 + 12 - 30 = 62\nAction:" in game.observe(state).text
    assert game.score(game.act(state, "answer: 62")) == 1
    assert game.score(game.act(state, "answer: 61.5")) == 0
    assert game.score(state) == 0


@pytest.mark.parametrize("action", ["62", "calculate: rm -rf", "calculate: 1/0", "answer: many", "guess: 62"])
def test_the_calculator_refuses_what_is_no_action(action):
    with pytest.raises(IllegalAction):
        play(Calculator(), SUM, action)


def test_the_guided_calculator_offers_the_operations_with_the_next_number():
    game = Calculator(guided=True)
    state = game.start(SUM)
    assert game.observe(state).actions == ("80 plus 12", "80 minus 12", "80 times 12")
    state = game.act(state, "80 plus 12")
    text, actions = game.observe(state)
    assert text == f"80 plus 12 is 92.\n{SUM.question}\nAnswer:"
    assert actions == ("92 plus 30", "92 minus 30", "92 times 30")
    assert [game.score(game.act(state, action)) for action in actions] == [0, 1, 0]
    assert game.done(game.act(state, actions[0]))


def test_the_calculator_needs_numbers():
    assert Calculator().check(SUM) is None
    assert "no number" in str(Calculator().check(CAPITAL))
    assert "two numbers" in str(Calculator(guided=True).check(Item(id="1", question="How many?", answer="3")))


# twenty_questions


def test_twenty_questions_answers_from_the_facts():
    game = TwentyQuestions()
    state = play(game, ELEMENT, "ask: metal", "ask: gas", "guess: argon")
    assert game.observe(state).text.endswith("\nmetal: no\ngas: yes\nargon: no\nAction:")
    assert not game.done(state)
    assert game.score(state) == 0
    found = game.act(state, "Guess: Neon.")
    assert game.done(found)
    assert game.score(found) == 1


@pytest.mark.parametrize("action", ["gas", "ask: noble", "guess: gas", "ask: neon", ""])
def test_twenty_questions_refuses_what_is_no_action(action):
    with pytest.raises(IllegalAction):
        play(TwentyQuestions(), ELEMENT, action)


def test_guided_twenty_questions_asks_until_a_property_is_known_and_then_guesses():
    game = TwentyQuestions(guided=True)
    state = game.start(ELEMENT)
    assert game.observe(state) == Observation(f"{ELEMENT.question}\nAnswer:", ("metal", "gas", "liquid"))
    everything = ("iron", "gold", "neon", "argon", "bromine")
    asked = game.act(state, "gas")
    assert game.observe(asked) == Observation("Look up: What is a gas?\nAnswer:", everything)
    excluded = game.act(game.act(state, "metal"), "liquid")  # leaves one property
    assert game.observe(excluded).text == "Look up: What is a gas?\nAnswer:"
    assert game.observe(game.act(asked, "gold")).actions == ("iron", "neon", "argon", "bromine")
    assert game.score(game.act(asked, "neon")) == 1


def test_twenty_questions_needs_facts_about_the_hidden_subject():
    assert TwentyQuestions().check(ELEMENT) is None
    assert "none of the subjects" in str(TwentyQuestions().check(CAPITAL))
