import asyncio
import gc
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel
from pydantic import BaseModel, ConfigDict, SecretStr
from stub_server import Answer as Sent
from stub_server import JudgeServer, cut, error, says

from utilities.core import Reason, Unscored
from utilities.errors import UserError
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.client import Answer, JudgeClient, JudgeStopped
from utilities.judges.ledger import Ledger
from utilities.judges.parsing import Message, Reply, as_object, as_rating, expected_rating
from utilities.judges.providers import named_judge, openai_judge
from utilities.judges.request import Question

KEY = "sk-test-0123456789abcdef"
ROOT = Path(__file__).parents[3]


class Waits(list):
    """Remembers how long it was asked to wait, and does not."""

    async def __call__(self, seconds):
        self.append(seconds)
        await asyncio.sleep(0)


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rating: int


def judge(server, *, cache=None, budget=None, **options):
    options = {"wait": Waits(), "timeout": 20.0, "price": Price(1.0, 2.0), "api_key": SecretStr(KEY), **options}
    cache, budget = cache or JudgementCache(), budget or Budget()
    return openai_judge("judge-1", base_url=getattr(server, "url", server), cache=cache, budget=budget, **options)


def question(text="Rate this."):
    return [Message("system", "You are a judge."), Message("user", text)]


def ask(client, text="Rate this.", **options):
    return asyncio.run(client.ask(question(text), **options))


def ask_in_turn(client, *questions):
    """The replies to several questions, one after the other; a question is its text or its options."""

    async def main():
        return [
            await (client.ask(question(one)) if isinstance(one, str) else client.ask(question(), **one))
            for one in questions
        ]

    return asyncio.run(main())


def rate(client, text="Rate this.", **options):
    return asyncio.run(client.ask_for(question(text), as_rating, **options))


def verdict(client, **options):
    schema = Verdict.model_json_schema()
    return asyncio.run(client.ask_for(question(), lambda reply: as_object(reply, Verdict), schema=schema, **options))


# A server that behaves


def test_a_reply_comes_back_with_what_it_cost(judge_server):
    client = judge(judge_server)
    assert ask(client, max_tokens=16) == Reply("Rating: 7/10", "stub-1", 20, 5)
    spent = client.budget.spent
    assert (spent.requests, spent.failed, spent.cached) == (1, 0, 0)
    assert (spent.prompt_tokens, spent.completion_tokens) == (20, 5)
    assert spent.usd == pytest.approx((20 * 1.0 + 5 * 2.0) / 1e6)


def test_the_request_holds_what_was_asked_for_and_nothing_else(judge_server):
    ask(judge(judge_server, temperature=0.5), max_tokens=16)
    (asked,) = judge_server.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body.pop("stream", False) is False
    assert asked.body == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": "Rate this."}],
        "temperature": 0.5,
        "max_completion_tokens": 16,
        "max_tokens": 16,
    }


def test_a_schema_is_asked_for_and_the_object_read(judge_server):
    judge_server.script.append(says('{"rating": 8}'))
    answer = verdict(judge(judge_server))
    assert answer == Answer(Verdict(rating=8), Reply('{"rating": 8}', "stub-1", 20, 5), 1, "judge-1")
    form = judge_server.requests[0].body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == Verdict.model_json_schema()


def test_log_probabilities_are_asked_for_and_returned(judge_server):
    tokens = [("Rating: ", {"Rating: ": 0.0}), ("7", {"7": -0.5, "8": -1.0, "hello": -3.0})]
    judge_server.script.append(says("Rating: 7", logprobs=tokens))
    reply = ask(judge(judge_server), logprobs=True)
    assert [(choice.token, dict(choice.top)) for choice in reply.tokens] == tokens
    assert 7.0 < expected_rating(reply) < 8.0
    assert judge_server.requests[0].body["logprobs"] is True
    assert judge_server.requests[0].body["top_logprobs"] == 20


def test_log_probabilities_that_nobody_can_read_cost_only_themselves(judge_server):
    body = json.loads(says("Rating: 7").body)
    body["choices"][0]["logprobs"] = {"content": [{"token": "7"}]}
    judge_server.script.append(Sent(json.dumps(body).encode()))
    reply = ask(judge(judge_server), logprobs=True)
    assert (reply.text, reply.tokens, judge_server.count) == ("Rating: 7", None, 1)


def test_usage_that_is_not_reported_is_estimated(judge_server):
    judge_server.script.append(says("Rating: 7/10", usage=None))
    client = judge(judge_server)
    reply = ask(client, "word " * 100)
    assert 100 <= reply.prompt_tokens <= 200
    assert 1 <= reply.completion_tokens <= 12
    assert client.budget.spent.tokens == reply.prompt_tokens + reply.completion_tokens


def test_no_more_are_in_flight_than_allowed(judge_server):
    judge_server.answer = lambda asked: says("Rating: 7", delay=0.1)

    async def main(client):
        await asyncio.gather(*(client.ask(question(str(k))) for k in range(30)))

    asyncio.run(main(judge(judge_server, max_in_flight=6)))
    assert judge_server.count == 30
    assert judge_server.most_in_flight == 6


# Paid once


def test_what_is_cached_costs_no_request_also_for_another_client(judge_server, tmp_path):
    path = tmp_path / "judgements.sqlite"
    first = judge(judge_server, cache=JudgementCache(path))
    said = ask(first)
    again = ask(first)
    other = judge(judge_server, cache=JudgementCache(path))
    assert again == ask(other) == Reply(said.text, said.model, 20, 5, cached=True)
    assert not said.cached
    assert judge_server.count == 1
    assert (other.budget.spent.requests, other.budget.spent.cached) == (0, 1)
    first.cache.close()
    other.cache.close()


def test_everything_that_decides_a_reply_is_part_of_its_key(judge_server):
    client = judge(judge_server)
    options = [{}, {"replicate": 1}, {"max_tokens": 7}, {"schema": {"type": "object"}}, {"logprobs": True}]
    ask_in_turn(client, *options, *options)
    assert judge_server.count == len(options)


def test_equal_questions_at_the_same_time_share_one_request(judge_server):
    judge_server.answer = lambda asked: says("Rating: 7", delay=0.02)
    client = judge(judge_server)

    async def main():
        return await asyncio.gather(*(client.ask(question(), replicate=k % 2) for k in range(10)))

    assert {reply.text for reply in asyncio.run(main())} == {"Rating: 7"}
    assert judge_server.count == 2  # one a replicate
    assert (client.budget.spent.requests, client.budget.spent.cached) == (2, 8)


def test_who_is_cancelled_takes_nobody_along_and_loses_no_reply(judge_server):
    judge_server.answer = lambda asked: says("Rating: 7", delay=0.05)
    client = judge(judge_server)

    async def main():
        first = asyncio.create_task(client.ask(question()))
        while not judge_server.count:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(client.ask(question()))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(main()).text == "Rating: 7"
    assert ask(client).cached
    assert judge_server.count == 1


# Again, where that helps


def test_the_wait_that_a_server_asks_for_is_kept(judge_server):
    judge_server.script += [error(429, retry_after="7")]
    client = judge(judge_server, wait=(waits := Waits()))
    assert ask(client).text == "Rating: 7/10"
    assert 7.0 <= waits[0] <= 8.0
    assert (len(waits), judge_server.count) == (1, 2)
    assert (client.budget.spent.requests, client.budget.spent.failed) == (1, 1)


def test_the_wait_may_be_a_date(judge_server):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    judge_server.script += [error(429, retry_after=date)]
    client = judge(judge_server, wait=(waits := Waits()))
    assert ask(client).text == "Rating: 7/10"
    assert 30.0 < waits[0] <= 61.0


def test_nobody_asks_while_a_server_wants_to_be_left_alone(judge_server):
    judge_server.script += [error(429, retry_after="7")]
    resting, rested = asyncio.Event(), asyncio.Event()

    async def wait(seconds):
        resting.set()
        await rested.wait()

    async def main():
        client = judge(judge_server, wait=wait)
        first = asyncio.create_task(client.ask(question("first")))
        await resting.wait()
        second = asyncio.create_task(client.ask(question("second")))
        await asyncio.sleep(0.02)
        count = judge_server.count
        rested.set()
        await asyncio.gather(first, second)
        return count

    assert asyncio.run(main()) == 1
    assert judge_server.count == 3


def test_waits_grow_and_are_random(judge_server):
    judge_server.script += [error(500)] * 4
    client = judge(judge_server, wait=(waits := Waits()))
    assert ask(client).text == "Rating: 7/10"
    assert len(set(waits)) == 4
    assert all(0.0 <= seconds <= most for seconds, most in zip(waits, (1.0, 2.0, 4.0, 8.0), strict=True))


@pytest.mark.parametrize(
    "bad",
    [
        error(429),
        error(500),
        error(503),
        error(408),
        error(409),
        cut(),
        says("Rating: 1/10", delay=30.0),
        Sent(b"<html>Bad gateway</html>"),
        Sent(b'{"choices": []}'),
        Sent(b'{"error": {"message": "overloaded"}}'),
    ],
    ids=["429", "500", "503", "408", "409", "cut", "slow", "HTML", "no choice", "an error with status 200"],
)
def test_what_can_pass_is_tried_again(judge_server, bad):
    judge_server.script.append(bad)
    client = judge(judge_server, timeout=1.5 if bad.delay else 20.0)
    assert ask(client).text == "Rating: 7/10"
    assert judge_server.count == 1 + client.budget.spent.failed
    assert client.budget.spent.failed == 1 or bad.delay  # a busy machine may need more than the timeout


def test_what_does_not_pass_is_unscored_and_not_cached(judge_server):
    judge_server.script += [error(503, "try later")] * 5
    client = judge(judge_server)
    assert ask(client) == Unscored(Reason.TRANSPORT, "5 attempts; the last one: HTTP 503, try later", 5)
    assert judge_server.count == 5
    assert client.budget.spent.requests == 0
    assert client.budget.spent.failed == 5
    assert ask(client) == Reply("Rating: 7/10", "stub-1", 20, 5)


@pytest.mark.parametrize("busy", [error(429), error(429, retry_after="2"), error(503, retry_after="2")])
def test_a_server_that_is_busy_is_given_more_time(judge_server, busy):
    judge_server.script += [busy] * 19
    client = judge(judge_server, wait=(waits := Waits()))
    assert ask(client).text == "Rating: 7/10"
    asked_for = float(busy.headers.get("retry-after", 0))
    assert all(asked_for <= seconds <= (asked_for + 1 if asked_for else 30) for seconds in waits)
    judge_server.script += [busy] * 20
    found = ask(client, "another")
    assert (found.reason, found.attempts, judge_server.count) == (Reason.TRANSPORT, 20, 40)


def test_attempts_at_a_busy_server_take_none_from_those_at_a_broken_one(judge_server):
    judge_server.script += [error(429)] * 6 + [error(500)] * 4
    assert ask(judge(judge_server)).text == "Rating: 7/10"
    judge_server.script += [error(429)] * 6 + [error(500)] * 5
    assert ask(judge(judge_server)).attempts == 11


def test_a_limit_on_the_rate_loses_nothing(judge_server):
    """Of 60 questions at once, ten a tenth of a second are answered; where nobody waits, everybody has to try again."""
    taken = []

    def answer(asked):
        now = time.monotonic()
        taken[:] = [one for one in taken if one > now - 0.1]
        return error(429) if len(taken) >= 10 else (taken.append(now) or says("Rating: 7/10"))

    judge_server.answer = answer

    async def main(client):
        return await asyncio.gather(*(client.ask(question(str(k))) for k in range(60)))

    found = asyncio.run(main(judge(judge_server, wait=lambda seconds: asyncio.sleep(seconds / 10))))
    assert all(isinstance(one, Reply) for one in found)


def test_what_a_server_may_have_worked_on_is_counted_as_spent(judge_server):
    judge_server.script.append(cut())
    client = judge(judge_server)
    ask(client, max_tokens=100)
    assert client.budget.spent.completion_tokens == 100 + 5


def test_a_server_that_goes_away_leaves_items_unscored():
    with JudgeServer() as server:
        client = judge(server)
        assert isinstance(ask(client, "first"), Reply)
    found = ask(client, "second")
    assert (found.reason, found.attempts) == (Reason.TRANSPORT, 5)


def test_what_a_server_has_against_one_question_concerns_only_that(judge_server):
    judge_server.script += [
        says("Rating: 6/10"),
        error(400, "no", "context_length_exceeded"),
        error(400, "no", "content_filter"),
        error(422, "something is odd"),
    ]
    first, *found, last = ask_in_turn(judge(judge_server), "first", "long", "bad", "odd", "last")
    assert [(one.reason, one.attempts) for one in found] == [
        (Reason.TRUNCATED, 1),
        (Reason.REFUSED, 1),
        (Reason.REFUSED, 1),
    ]
    assert (first.text, last.text) == ("Rating: 6/10", "Rating: 7/10")
    assert judge_server.count == 5


# What a server does not know


def test_a_server_without_schemas_is_asked_again_without_and_that_is_remembered(judge_server):
    def answer(asked):
        known = "response_format" not in asked.body
        return says('{"rating": 8}') if known else error(400, "response_format is not supported")

    judge_server.answer = answer
    client = judge(judge_server)
    for k in range(3):
        assert verdict(client, replicate=k).value.rating == 8
    assert judge_server.count == 4
    assert "max_tokens" in judge_server.requests[-1].body  # what was not named is still asked for
    assert client.budget.spent.requests == 3


def test_a_server_that_does_not_say_what_it_does_not_take_is_asked_harmless_questions(judge_server):
    def answer(asked):
        extra = {"response_format", "logprobs"} & asked.body.keys()
        return error(422, "extra inputs are not permitted") if extra else says('{"rating": 8}')

    judge_server.answer = answer
    client = judge(judge_server)
    assert verdict(client, logprobs=True).value.rating == 8
    count = judge_server.count
    assert verdict(client, replicate=1).value.rating == 8
    assert judge_server.count == count + 1
    assert "max_tokens" in judge_server.requests[-1].body  # what the server takes is still sent
    (note,) = client.notes
    assert "does not take logprobs, response_format" in note


def test_a_first_text_that_is_refused_says_nothing_of_the_others(judge_server):
    judge_server.answer = lambda asked: error(400, "not this text") if "bad" in asked.last else says("Rating: 7/10")
    client = judge(judge_server)
    found = ask_in_turn(client, "bad", "good", "bad too")
    assert [getattr(one, "reason", None) for one in found] == [Reason.REFUSED, None, Reason.REFUSED]
    assert (judge_server.count, client.notes) == (4, [])  # one harmless question beside the three


def test_one_refusal_that_names_a_parameter_changes_nothing_for_the_others(judge_server):
    def answer(asked):
        odd = "two" in asked.last and "response_format" in asked.body
        return error(400, "response_format: this text does not fit") if odd else says('{"rating": 8}')

    judge_server.answer = answer
    client = judge(judge_server)
    found = [
        asyncio.run(client.ask(question(text), schema={"type": "object"}, logprobs=True))
        for text in ("one", "two", "three")
    ]
    assert [getattr(one, "reason", None) for one in found] == [None, Reason.REFUSED, None]
    assert all({"response_format", "logprobs", "max_tokens"} <= asked.body.keys() for asked in judge_server.requests)


def test_a_server_that_no_longer_takes_a_parameter_stops_the_judge(judge_server):
    token = [("7", {"7": -0.5, "8": -1.0})]
    judge_server.answer = lambda asked: says("7", logprobs=token)
    client = judge(judge_server)
    assert ask(client, "first", logprobs=True).tokens
    judge_server.answer = lambda asked: error(400, "logprobs: no") if "logprobs" in asked.body else says("7")
    with pytest.raises(JudgeStopped, match=r"no longer takes logprobs.*another scale"):
        ask(client, "second", logprobs=True)


@pytest.mark.parametrize("first", [True, False])
def test_log_probabilities_are_in_all_replies_or_in_none(judge_server, first):
    token = [("7", {"7": -0.5, "8": -1.0})]
    judge_server.script += [says("7", logprobs=token if first == one else None) for one in (True, False, True)]
    client = judge(judge_server)
    one, two, three = ask_in_turn(client, *({"logprobs": True, "replicate": k} for k in range(3)))
    if first:
        assert one.tokens and three.tokens and two.reason is Reason.MALFORMED
    else:
        assert (one.tokens, two.tokens, three.tokens) == (None, None, None)
        assert "as written" in client.notes[0]
    again = judge(judge_server, cache=client.cache)  # also those of the cache
    judge_server.answer = lambda asked: says("7", logprobs=token)
    found = ask_in_turn(again, *({"logprobs": True, "replicate": k} for k in range(3)))
    assert len({one.tokens is None for one in found}) == 1


@pytest.mark.parametrize(
    ("status", "message", "kept"),
    [
        (403, "logprobs are not offered for this model", {"max_tokens", "max_completion_tokens", "temperature"}),
        (422, "[{'loc': ['body', 'max_completion_tokens']}]", {"max_tokens", "logprobs", "temperature"}),
        (
            400,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            {"max_completion_tokens", "logprobs", "temperature"},
        ),
    ],
)
def test_a_parameter_that_a_server_names_is_left_out(judge_server, status, message, kept):
    names = {"max_tokens", "max_completion_tokens", "logprobs", "temperature"}
    (refused,) = names - kept
    judge_server.answer = lambda asked: error(status, message) if refused in asked.body else says("Rating: 7/10")
    client = judge(judge_server)
    assert [one.text for one in ask_in_turn(client, {"logprobs": True}, {"logprobs": True, "replicate": 1})]
    assert judge_server.count == 3
    assert names & judge_server.requests[-1].body.keys() == kept
    assert message[:20] in client.notes[0]


@pytest.mark.parametrize("message", ["temperature must be 1 for this model", "unsupported value"])
def test_a_temperature_that_is_refused_names_the_flag(judge_server, message):
    judge_server.answer = lambda asked: says("7") if asked.body.get("temperature", 1) == 1 else error(400, message)
    with pytest.raises(JudgeStopped, match="--judge-temperature"):
        ask(judge(judge_server))
    assert ask(judge(judge_server, temperature=1.0)).text == "7"


def test_no_limit_on_replies_that_the_server_takes_names_the_flag(judge_server):
    limits = {"max_tokens", "max_completion_tokens"}
    judge_server.answer = lambda asked: error(400, "too high") if limits & asked.body.keys() else says("7")
    with pytest.raises(JudgeStopped, match="--judge-max-tokens"):
        ask(judge(judge_server))


def test_what_was_found_out_about_a_server_holds_for_the_resumed_run(judge_server, tmp_path):
    token = [("7", {"7": -0.5, "8": -1.0})]
    answers = [says("7", logprobs=token), says("7")]
    for answer in answers:
        with closing(JudgementCache(tmp_path / "cache")) as cache:
            judge_server.answer = lambda asked, answer=answer: answer
            budget = Budget()
            budget.record_in(Ledger(cache, tmp_path / "ledger"))
            found = ask(judge(judge_server, cache=cache, budget=budget), str(answers.index(answer)), logprobs=True)
    assert found.reason is Reason.MALFORMED and "earlier replies of this run" in found.detail


# Thinking judges


def thinks_for(tokens):
    """A server whose model reasons for so many tokens before it answers."""

    def answer(asked):
        cut = asked.body["max_tokens"] <= tokens
        body = json.loads(says(None if cut else "Rating: 7/10", finish_reason="length" if cut else "stop").body)
        body["choices"][0]["message"]["reasoning_content"] = "hm, " * 50
        return Sent(json.dumps(body).encode())

    return answer


def test_a_judge_that_reasons_gets_more_room(judge_server):
    judge_server.answer = thinks_for(3000)
    client = judge(judge_server)
    assert rate(client).value == rate(client, "another").value == 7.0
    assert [asked.body["max_tokens"] for asked in judge_server.requests] == [512, 4096, 4096]
    assert len(judge_server.requests[1].body["messages"]) == 2  # the same question, without a correction


def test_a_limit_of_the_user_holds_and_is_named(judge_server):
    judge_server.answer = thinks_for(3000)
    found = rate(judge(judge_server, max_tokens=1000))
    assert found.reason is Reason.TRUNCATED and "--judge-max-tokens" in found.detail
    assert [asked.body["max_tokens"] for asked in judge_server.requests] == [1000, 1000]
    assert rate(judge(judge_server, max_tokens=5000)).value == 7.0


# HTTP 200 that is no answer

BODIES = {
    "text": b'{"error": "there is no such place here"}',
    "no choices": b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}',
    "null": b"null",
    "list": b"[1]",
    "no message": b'{"choices": [{"index": 0}]}',
    "web page": b"<!doctype html><html>Please sign in</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_reply_that_is_no_completion_costs_nothing_and_is_quoted(judge_server, body):
    judge_server.answer = lambda asked: Sent(body)
    client = judge(judge_server)
    with pytest.raises(JudgeStopped, match=r"the reply .* Check --judge-url"):
        ask(client)
    assert (client.budget.spent.tokens, client.budget.spent.requests, judge_server.count) == (0, 0, 5)


@pytest.mark.parametrize(
    "inside",
    [
        '{"error": {"message": "the key is not known", "code": 401}}',
        '{"error": {"message": "the key is not known", "code": "invalid_api_key"}, "choices": null}',
        '{"choices": [{"error": {"code": 401, "message": "the key is not known"}, "message": {"content": ""}}]}',
        '{"status": 401, "message": "the key is not known"}',
    ],
)
def test_a_wrong_key_inside_a_200_stops_after_one_request(judge_server, inside):
    judge_server.answer = lambda asked: Sent(inside.encode())
    client = judge(judge_server)
    with pytest.raises(JudgeStopped, match=r"the key is not known\. Check the key"):
        ask(client)
    assert (client.budget.spent.tokens, judge_server.count) == (0, 1)


def test_a_busy_server_inside_a_200_is_waited_for(judge_server):
    busy = Sent(b'{"choices": null, "error": {"message": "the provider is busy", "code": 429}}')
    judge_server.script += [busy] * 10
    client = judge(judge_server)
    assert ask(client).text == "Rating: 7/10"
    assert (client.budget.spent.requests, client.budget.spent.failed) == (1, 10)


# Usage that cannot be


@pytest.mark.parametrize("usage", [(-1000, -1000), (10**12, 5), (20, 10**12), (20, -3)])
def test_usage_that_cannot_be_is_estimated_and_reported_once(judge_server, usage):
    judge_server.answer = lambda asked: says("Rating: 7/10", usage=usage)
    client = judge(judge_server)
    ask_in_turn(client, "word " * 400, "another " * 400)
    assert 800 <= client.budget.spent.prompt_tokens <= 2000
    assert 2 <= client.budget.spent.completion_tokens <= 20
    (note,) = client.notes
    assert "cannot be right" in note


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "many"}, {"prompt_tokens": 1.5, "completion_tokens": True}, [], "x"]
)
def test_usage_that_is_no_number_is_estimated(judge_server, usage):
    body = json.loads(says("Rating: 7/10").body) | {"usage": usage}
    judge_server.answer = lambda asked: Sent(json.dumps(body).encode())
    client = judge(judge_server)
    assert ask(client).text == "Rating: 7/10"
    assert client.budget.spent.tokens > 0


# The cache keeps what could be read


def test_what_could_not_be_read_is_asked_again_of_a_mended_server(judge_server):
    judge_server.answer = lambda asked: says(None)
    client = judge(judge_server)
    assert rate(client).reason is Reason.MALFORMED
    judge_server.answer = lambda asked: says("Rating: 7/10")
    mended = judge(judge_server, cache=client.cache)
    assert rate(mended).value == 7.0
    assert judge_server.requests[-1].body["messages"][-1]["content"] == "Rate this."  # the question itself


def test_an_unreadable_reply_of_an_older_cache_is_asked_again(judge_server):
    client = judge(judge_server)
    client.cache.put(client._key(Question(tuple(question()), 512, None, False)), Reply("").to_json())
    assert rate(client).value == 7.0


def test_a_refusal_is_kept(judge_server):
    judge_server.answer = lambda asked: says("", finish_reason="content_filter")
    client = judge(judge_server)
    assert rate(client).reason is rate(client).reason is Reason.REFUSED
    assert judge_server.count == 1


ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/utilities/judges"]
from test_client import JudgementCache, ask, judge
cache = JudgementCache(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(ask(judge(sys.argv[1], cache=cache, wait=asyncio.sleep)).text)
cache.close()
"""


def test_processes_that_share_a_cache_pay_once_for_a_question_in_flight(judge_server, tmp_path):
    judge_server.answer = lambda asked: says("Rating: 7/10", delay=1.5)
    command = [sys.executable, "-c", ANOTHER_PROCESS, judge_server.url, str(tmp_path / "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(2)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate()[0] for child in children] == ["Rating: 7/10\n"] * 2
    assert judge_server.count == 1


def test_a_claim_ends_with_its_process(judge_server, tmp_path):
    code = "import sys; from pathlib import Path; from utilities.judges.cache import JudgementCache\n"
    code += "cache = JudgementCache(Path(sys.argv[1])); print(cache.claim('k'), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    with closing(JudgementCache(tmp_path / "cache")) as mine:
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "True\n"
            assert not mine.claim("k") and mine.claim("another")
            child.kill()
        assert mine.claim("k")


# Asked once more, where the reply cannot be read

BAD_RATINGS = {
    "prose": (says("I quite like it."), Reason.MALFORMED),
    "empty": (says(""), Reason.MALFORMED),
    "nothing": (says(None), Reason.MALFORMED),
    "70": (says("Rating: 70/10"), Reason.OUT_OF_RANGE),
    "cut off": (says("The answer is good becau", finish_reason="length"), Reason.TRUNCATED),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_RATINGS.values(), ids=BAD_RATINGS)
def test_a_judge_is_corrected_once(judge_server, bad, reason):
    judge_server.script.append(bad)
    client = judge(judge_server)
    answer = rate(client)
    assert (answer.value, answer.attempts, answer.judge) == (7.0, 2, "judge-1")
    assert judge_server.count == 2
    said, told = judge_server.requests[1].body["messages"][2:]
    assert said["role"] == "assistant"
    assert said["content"]
    assert "could not be used" in told["content"]
    assert rate(client).value == 7.0  # both replies were kept
    assert judge_server.count == 2


@pytest.mark.parametrize(("bad", "reason"), BAD_RATINGS.values(), ids=BAD_RATINGS)
def test_a_judge_that_does_not_learn_leaves_the_item_unscored_after_two_requests(judge_server, bad, reason):
    judge_server.answer = lambda asked: bad
    found = rate(judge(judge_server))
    assert isinstance(found, Unscored)
    assert (found.reason, found.attempts) == (reason, 2)
    assert judge_server.count == 2


def test_a_reply_that_was_cut_off_gets_twice_the_room(judge_server):
    judge_server.script.append(says('{"rating": 1', finish_reason="length"))  # of 10
    judge_server.answer = lambda asked: says('{"rating": 10}')
    answer = verdict(judge(judge_server), max_tokens=100)
    assert (answer.value.rating, answer.attempts) == (10, 2)
    assert [asked.body["max_completion_tokens"] for asked in judge_server.requests] == [100, 200]
    assert '"rating"' in judge_server.requests[1].last  # the schema in words, for servers that do not hold to it


def test_fenced_json_needs_no_correction(judge_server):
    judge_server.script.append(says('Here it is:\n```json\n{"rating": 8}\n```'))
    answer = verdict(judge(judge_server))
    assert (answer.value.rating, answer.attempts, judge_server.count) == (8, 1, 1)


@pytest.mark.parametrize(
    "refusal",
    [
        says(None, refusal="No."),
        says("I'm sorry, but I can't help with rating this."),
        says("", finish_reason="content_filter"),
    ],
    ids=["its own field", "in words", "withheld by the server"],
)
def test_a_refusal_is_an_answer_and_asked_once(judge_server, refusal):
    judge_server.answer = lambda asked: refusal
    found = rate(judge(judge_server))
    assert isinstance(found, Unscored)
    assert (found.reason, judge_server.count) == (Reason.REFUSED, 1)


def test_a_correction_that_does_not_arrive_is_unscored_for_that(judge_server):
    judge_server.script += [says("prose"), *[error(500)] * 5]
    found = rate(judge(judge_server))
    assert (found.reason, found.attempts, found.raw) == (Reason.TRANSPORT, 6, "prose")


# Stopped, where nothing can succeed


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), r"HTTP 401, Incorrect API key provided: \*\*\*\. Check the"),
        (error(404, "The model `judge-1` does not exist"), r"HTTP 404, The model `judge-1` does not exist\. Check the"),
        (error(429, "You exceeded your quota", "insufficient_quota"), r"HTTP 429, .* no credit left"),
        (error(402, "Payment required"), r"HTTP 402, .* no credit left"),
    ],
    ids=["wrong key", "wrong model", "quota", "payment"],
)
def test_what_cannot_pass_stops_the_judge_with_one_message(judge_server, bad, told):
    judge_server.script.append(bad)
    client = judge(judge_server)
    with pytest.raises(JudgeStopped, match=f"judge judge-1 at {judge_server.url}: {told}") as first:
        ask(client)
    with pytest.raises(JudgeStopped) as later:
        ask(client, "something else")
    assert str(first.value) == str(later.value)
    assert KEY not in str(first.value)
    assert judge_server.count == 1


def test_a_server_that_forbids_even_a_harmless_question_stops_the_judge(judge_server):
    judge_server.answer = lambda asked: error(403, "No access")
    with pytest.raises(JudgeStopped, match=r"HTTP 403, No access\. Check the key"):
        ask(judge(judge_server))


def test_a_wrong_key_in_the_middle_stops_everyone_at_once(judge_server):
    # The sixth request is refused; what was in flight beside it still ends, and nothing else is asked.
    numbers = itertools.count(1)
    judge_server.answer = lambda asked: error(401, "revoked") if next(numbers) == 6 else says("Rating: 7", delay=0.02)
    client = judge(judge_server, max_in_flight=4)

    async def main():
        asks = (client.ask(question(str(k))) for k in range(40))
        return await asyncio.gather(*asks, return_exceptions=True)

    found = asyncio.run(main())
    replies = [one for one in found if isinstance(one, Reply)]
    stopped = [one for one in found if isinstance(one, JudgeStopped)]
    assert len(replies) + len(stopped) == 40
    assert len({str(one) for one in stopped}) == 1
    assert judge_server.count == len(replies) + 1 <= 9
    assert client.budget.spent.requests == len(replies)


def test_a_wrong_key_costs_one_request_however_many_questions_wait(judge_server):
    judge_server.answer = lambda asked: error(401, "wrong key")
    client = judge(judge_server, max_in_flight=8)

    async def main():
        return await asyncio.gather(*(client.ask(question(str(k))) for k in range(20)), return_exceptions=True)

    assert all(isinstance(one, JudgeStopped) for one in asyncio.run(main()))
    assert judge_server.count == 1


def test_who_rests_is_woken_when_the_judge_is_stopped(judge_server):
    judge_server.script += [error(500), error(401)]
    resting = asyncio.Event()

    async def wait(seconds):
        resting.set()
        await asyncio.sleep(3600)

    async def main():
        client = judge(judge_server, wait=wait)
        first = asyncio.create_task(client.ask(question("first")))
        await resting.wait()
        return await asyncio.gather(first, client.ask(question("second")), return_exceptions=True)

    assert all(isinstance(one, JudgeStopped) for one in asyncio.run(main()))
    assert judge_server.count == 2


def test_no_server_at_the_first_question_stops_the_judge():
    with socket.socket() as bound, pytest.raises(JudgeStopped, match="No server was reached: is it running"):
        bound.bind(("127.0.0.1", 0))  # nobody listens, and no other process can
        ask(judge(f"http://127.0.0.1:{bound.getsockname()[1]}/v1"))


def test_a_server_that_answers_nobody_for_minutes_stops_the_judge(judge_server, monkeypatch):
    client = judge(judge_server)
    assert isinstance(ask(client, "first"), Reply)
    judge_server.answer = lambda asked: error(500, "down")
    found = ask_in_turn(client, "second", "third")
    assert [one.reason for one in found] == [Reason.TRANSPORT] * 2  # that took no time at all
    monkeypatch.setattr("utilities.judges.client.SILENCE", 0.0)
    with pytest.raises(JudgeStopped, match=r"HTTP 500, down\. For 0 minutes no question was answered"):
        ask(client, "fourth")
    assert judge_server.count == 12


def test_one_question_that_is_never_answered_stops_nobody(judge_server, monkeypatch):
    monkeypatch.setattr("utilities.judges.client.SILENCE", 0.0)
    judge_server.answer = lambda asked: error(500) if "bad" in asked.last else says("Rating: 7/10")
    found = ask_in_turn(judge(judge_server), "first", "bad", "second", "bad again", "third")
    assert [isinstance(one, Reply) for one in found] == [True, False, True, False, True]


def test_a_server_that_has_never_taken_a_question_stops_the_judge(judge_server):
    judge_server.answer = lambda asked: error(400, "temperature: only 1 is supported")
    with pytest.raises(JudgeStopped, match="temperature: only 1 is supported"):
        ask(judge(judge_server))


# The budget


def test_a_budget_is_never_passed_whatever_is_in_flight(judge_server):
    judge_server.answer = lambda asked: says("Rating: 7", usage=(40, 10))
    client = judge(judge_server, budget=Budget(tokens=2500))

    async def main():
        return await asyncio.gather(*(client.ask(question(str(k)), max_tokens=10) for k in range(60)))

    found = asyncio.run(main())
    counts = Counter(type(one) for one in found)
    assert all(one.reason is Reason.BUDGET for one in found if isinstance(one, Unscored))
    assert counts[Reply] == judge_server.count
    assert 30 <= judge_server.count <= 50
    assert client.budget.spent.tokens == 50 * judge_server.count <= 2500
    assert client.budget.exhausted
    assert isinstance(ask(client, "0", max_tokens=10), Reply)  # what was paid for is still there


def test_an_attempt_that_failed_gives_its_share_back(judge_server):
    judge_server.script += [error(500)] * 3
    client = judge(judge_server, budget=Budget(tokens=1200))
    assert isinstance(ask(client, max_tokens=100), Reply)
    assert client.budget.spent.tokens == 25


def test_an_unknown_price_stays_unknown(judge_server):
    client = judge(judge_server, price=None)
    ask(client)
    assert client.budget.spent.usd is None


# Connections and keys


def test_one_client_serves_one_event_loop_after_another_and_leaves_nothing_open(judge_server):
    client = judge(judge_server)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for k in range(3):
            assert ask(client, str(k)).text == "Rating: 7/10"
        del client
        gc.collect()
    assert judge_server.connections == 3
    assert [str(one.message) for one in warned if issubclass(one.category, ResourceWarning)] == []


def test_connections_are_kept_within_a_loop_and_closed_with_the_client(judge_server):
    async def main():
        async with judge(judge_server) as client:
            for k in range(5):
                await client.ask(question(str(k)))
            connections = judge_server.connections
        assert judge_server.open_connections <= connections
        while judge_server.open_connections:
            await asyncio.sleep(0.001)
        return connections, await client.ask(question("after"))  # a closed client opens again

    connections, reply = asyncio.run(main())
    assert connections == 1
    assert reply.text == "Rating: 7/10"


def test_to_finish_sends_nothing_more_and_keeps_what_comes(judge_server):
    judge_server.script += [error(500)]
    release = threading.Event()
    judge_server.answer = lambda asked: says("Rating: 7", until=release)
    resting = asyncio.Event()

    async def wait(seconds):
        resting.set()
        await asyncio.sleep(3600)

    client = judge(judge_server, max_in_flight=3, wait=wait)

    async def main():
        first = asyncio.create_task(client.ask(question("first")))
        await resting.wait()
        others = [asyncio.create_task(client.ask(question(str(k)))) for k in range(8)]
        while judge_server.in_flight < 1:
            await asyncio.sleep(0.001)
        others[0].cancel()  # as at an end with Ctrl-C
        finished = asyncio.create_task(client.finish())
        await asyncio.sleep(0)
        release.set()
        await finished
        return await asyncio.gather(first, *others, return_exceptions=True)

    found = asyncio.run(main())
    assert isinstance(found[0], JudgeStopped) and isinstance(found[-1], JudgeStopped)
    sent = judge_server.count - 1
    assert 1 <= sent <= 3
    other = judge(judge_server, cache=client.cache)
    assert ask_in_turn(other, *map(str, range(sent)))[0].cached
    assert judge_server.count == sent + 1


def test_closing_ends_what_is_in_flight(judge_server):
    judge_server.answer = lambda asked: says("Rating: 7", delay=30.0)
    client = judge(judge_server)

    async def main():
        asking = asyncio.create_task(client.ask(question()))
        while not judge_server.count:
            await asyncio.sleep(0.001)
        await client.close()
        return await asyncio.gather(asking, return_exceptions=True)

    assert isinstance(asyncio.run(main())[0], asyncio.CancelledError)


def test_a_key_of_the_environment_goes_to_no_other_server(judge_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(judge(judge_server, api_key=None))
    assert KEY not in str(judge_server.requests[0].headers)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(judge_server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(judge(judge_server)).text == "Rating: 7/10"


def test_no_key_in_what_is_seen_or_kept(judge_server, tmp_path, caplog):
    caplog.set_level("DEBUG")
    judge_server.script += [says("Rating: 7"), *[error(500, f"your key {KEY} is fine, we are not")] * 5]
    cache = JudgementCache(tmp_path / "judgements.sqlite")
    client = judge(judge_server, cache=cache)
    ask(client, "first")
    found = ask(client, "second")
    assert "your key *** is fine" in found.detail
    cache.close()
    seen = repr(client) + repr(vars(client)) + repr(found) + caplog.text
    assert KEY not in seen
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


# Any langchain chat model


def test_any_chat_model_of_langchain_can_be_a_judge():
    client = JudgeClient(
        lambda: FakeListChatModel(responses=["Rating: 3/10"]),
        name="fake",
        endpoint="nowhere",
        price=Price(0.0, 0.0),
        cache=JudgementCache(),
        budget=Budget(),
    )
    answer = rate(client, schema={"type": "object"}, logprobs=True)
    assert (answer.value, answer.judge) == (3.0, "fake")
    assert client.budget.spent.tokens > 0  # estimated


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("gpt-4o-mini", "expected PROVIDER:MODEL"),
        ("openai:", "expected PROVIDER:MODEL"),
        ("nobody:model", "nobody"),
        ("openai:gpt-4o-mini", "set the environment variable OPENAI_API_KEY"),
    ],
)
def test_a_judge_by_name_that_cannot_be_is_told_before_anything_is_asked(spec, told, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=told):
        named_judge(spec, price=None, cache=JudgementCache(), budget=Budget())


def test_openai_by_name_is_asked_at_openai_with_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    client = named_judge("openai:gpt-4o-mini", price=None, cache=JudgementCache(), budget=Budget())
    assert (client.name, client.endpoint) == ("gpt-4o-mini", "https://api.openai.com/v1")


def test_importing_the_client_brings_no_chat_library():
    code = "import sys, utilities.judges.client; print({'langchain_core', 'openai', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# The numbers of a whole run


def test_a_bad_server_gives_the_same_numbers_as_a_good_one_and_is_paid_once_a_reply():
    """Every item's first request goes wrong in one of ten ways, each of which a retry can save."""
    bad = [
        error(429, retry_after="1"),
        error(429),
        error(500),
        cut(),
        says('{"rating": 1', finish_reason="length"),
        says("I would rather talk about something else."),
        says("Rating: 70/10"),
        says(""),
        Sent(b"<html>"),
        error(408),
    ]
    unpaid = sum(1 for one in bad if one.status != 200 or one.body == b"<html>")
    items = [f"item {k}" for k in range(30)]

    def good(asked):
        item = next(m["content"] for m in asked.body["messages"] if m["role"] == "user")
        return says(f"Rating: {1 + items.index(item) * 7 % 10}/10")

    async def values(client):
        asks = (client.ask_for(question(item), as_rating, logprobs=True) for item in items)
        return [answer.value for answer in await asyncio.gather(*asks)]

    with JudgeServer() as server:
        server.answer = good
        expected = asyncio.run(values(judge(server)))
        assert server.count == len(items)

    met = Counter()

    def answer(asked):
        item = next(m["content"] for m in asked.body["messages"] if m["role"] == "user")
        met[item] += 1
        return bad[items.index(item) % len(bad)] if met[item] == 1 else good(asked)

    with JudgeServer() as server:
        server.answer = answer
        client = judge(server)
        assert asyncio.run(values(client)) == expected
        assert server.count == 2 * len(items)
        rounds = len(items) // len(bad)
        assert client.budget.spent.requests == server.count - rounds * unpaid
        assert asyncio.run(values(client)) == expected
        assert server.count == 2 * len(items)


def test_a_turn_with_tools_is_kept_and_counted_like_any_other_question(judge_server):
    from langchain_core.messages import HumanMessage

    call = {"id": "call-1", "type": "function", "function": {"name": "search", "arguments": '{"query": "ants"}'}}
    body = json.loads(says("I look it up.", finish_reason="tool_calls").body)
    body["choices"][0]["message"]["tool_calls"] = [call]
    judge_server.answer = lambda asked: Sent(json.dumps(body).encode())
    parameters = {"type": "object", "properties": {"query": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "search", "description": "Finds.", "parameters": parameters}}]
    client, asked = judge(judge_server), [HumanMessage("Do ants eat leaves?")]
    first, second = (asyncio.run(client.turn(asked, tools)) for _ in range(2))
    assert judge_server.count == 1 and judge_server.requests[0].body["tools"] == tools
    assert first.content == second.content == "I look it up."
    assert first.tool_calls == second.tool_calls
    assert [(one["name"], one["args"], one["id"]) for one in first.tool_calls] == [
        ("search", {"query": "ants"}, "call-1")
    ]
    assert (client.budget.spent.requests, client.budget.spent.cached) == (1, 1)
    other = [{**tools[0], "function": {**tools[0]["function"], "description": "Searches."}}]
    asyncio.run(client.turn(asked, other))
    asyncio.run(client.turn(asked, tools, replicate=1))
    asyncio.run(client.turn([*asked, first], tools))
    assert judge_server.count == 4
