"""A regular expression of the user's: with a group the capture is compared, without one a match is enough."""

import asyncio
import re

import pytest

from utilities.core import Item, Reason, Response, Score, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.scorer_by_name import make_scorer
from utilities.scorers.regex import Regex


class Scripted:
    def __init__(self, *texts):
        self.answers, self.asked = [Response(text) for text in texts], []

    async def generate(self, prompts, *, max_tokens, stop=()):
        self.asked.append((prompts, max_tokens, stop))
        return self.answers


def item(answer="B", id="1"):
    return Item(id=id, question="What?", answer=answer)


def test_it_is_registered_under_its_name():
    assert scorer_registry.get("regex") is Regex


@pytest.mark.parametrize(
    ("pattern", "text", "gold", "score"),
    [
        (r"answer: (\w+)", "The answer: B", "B", 1.0),
        (r"answer: (\w+)", "Answer: b", "B", 1.0),
        (r"answer: (\w+)", "answer: A", "B", 0.0),
        (r"answer: (\w+)", "B", "B", 0.0),
        (r"answer: (\w+)", "answer: A, no, answer: B", "B", 1.0),  # the last match
        (r"answer: (\w+)", "answer: B, no, answer: A", "B", 0.0),
        (r"answer: (\w+)", "<think>answer: A</think>answer: B", "B", 1.0),
        (r"answer: (\w+)", "answer: B\n\nQuestion: And then?\nanswer: A", "B", 1.0),
        (r"rabbit", "<think>A rabbit?</think>No.", "B", 0.0),
        (r"<a>(.*?)</a>", "<a>The  Eiffel Tower.</a>", "eiffel tower", 1.0),
        (r"answer:( \w+)?", "answer:", "B", 0.0),  # a group that took no part
        (r"^(?:yes|no)\b", "Yes, it is", None, 1.0),
        (r"^(?:yes|no)\b", "Perhaps yes", None, 0.0),
        (r"^$", "", None, 1.0),
    ],
)
def test_a_reply_is_right_where_the_pattern_finds_what_it_should(pattern, text, gold, score):
    assert Regex(pattern).score_one(item(gold), Response(text)) == Score(score)


def test_case_may_count():
    assert Regex("YES", ignore_case=False).score_one(item(None), Response("yes")) == Score(0.0)
    assert Regex("YES", ignore_case=False).score_one(item(None), Response("YES")) == Score(1.0)


def test_the_value_is_the_share_of_right_replies():
    model, items = Scripted("= 1", "= 3", "two"), [item("1", "a"), item("2", "b"), item("3", "c")]
    scorer = Regex(r"= (\d)", prompt="plain", max_tokens=5, stop=["\n"])
    evaluation = asyncio.run(scorer(model, items))
    assert (evaluation.value, evaluation.n, evaluation.n_unscored) == (1 / 3, 3, 0)
    assert model.asked == [(["What?\nAnswer:"] * 3, 5, ("\n",))]
    again = asyncio.run(scorer.score(items, [r.response for r in evaluation.results]))
    assert again == [r.outcome for r in evaluation.results]


def test_an_answer_is_needed_only_where_something_is_captured():
    assert Regex("yes").check(item(None)) is None
    assert Regex("(yes)").check(item(None)) == "the item has no answer"
    assert Regex("(?:yes)").check(item(None)) is None


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"the pattern '\(yes' is no regular expression: missing \)"):
        Regex("(yes")


@pytest.mark.parametrize("options", [{}, {"pattern": ["A", "D"]}, {"pattern": 5}, {"patern": "x"}])
def test_options_that_it_does_not_take_are_a_users_error(options):
    with pytest.raises(UserError, match="scorer 'regex' does not take its options"):
        make_scorer("regex", options)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "^(\\d+)*x", "([a-z]+ ?)+!", "(x+x+)+y"])
def test_a_pattern_that_backtracks_without_end_is_refused_in_one_sentence(pattern):
    with pytest.raises(UserError, match="write it without a repetition inside a repetition"):
        Regex(pattern)


def test_a_response_that_takes_too_long_is_unscored():
    scorer = Regex("(xy)?z")
    scorer.pattern = re.compile("((xy)+)+z")
    outcome = scorer.score_one(Item(id="1", question="?", answer="z"), Response("xy" * 60))
    assert outcome == Unscored(Reason.TIME, "the pattern took over 1 s")
