"""The shorter way sends what langchain's own sends, and makes of a reply what langchain makes of it."""

import asyncio
import json

import openai
import pytest
from langchain_openai import ChatOpenAI
from stub_server import Answer, error, says

from utilities.judges.openai_chat import OpenAIChat

PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "search", "description": "Finds.", "parameters": PARAMETERS}}
CALL = {"id": "call-1", "type": "function", "function": {"name": "search", "arguments": '{"query": "ants"}'}}


def calls_a_tool():
    body = json.loads(says(None, finish_reason="tool_calls").body)
    body["choices"][0]["message"]["tool_calls"] = [CALL]
    return Answer(json.dumps(body).encode())


def ask(kind, server, **arguments):
    async def main():
        # An HTTP client of its own: langchain's belongs to the first event loop that used it.
        http = openai.DefaultAsyncHttpxClient()
        chat = kind(model="judge-1", base_url=server.url, api_key="none", max_retries=0, http_async_client=http)
        try:
            return await chat.ainvoke([("system", "You judge."), ("user", "Rate this.")], **arguments)
        finally:
            await http.aclose()

    return asyncio.run(main())


def without_nothing(data):
    """Without fields that say nothing: a typed reply has all that there are, and None or nothing in them."""
    if not isinstance(data, dict):
        return data
    return {name: without_nothing(value) for name, value in data.items() if value not in (None, "")}


@pytest.mark.parametrize(
    ("answer", "arguments"),
    [
        (says("Rating: 7/10"), {"max_tokens": 16}),
        (says('{"rating": 7}'), {"extra_body": {"response_format": {"type": "json_object"}, "max_tokens": 16}}),
        (says("7", logprobs=[("7", {"7": -0.5, "8": -1.0})]), {"logprobs": True, "top_logprobs": 20}),
        (says("The rating", finish_reason="length", usage=None), {}),
        (says(None, refusal="I decline."), {}),
        (says(""), {}),
        (calls_a_tool(), {"tools": [TOOL]}),
    ],
    ids=["plain", "extra body", "log-probabilities", "cut off", "refusal", "empty", "tool"],
)
def test_request_and_message_are_the_same(judge_server, answer, arguments):
    judge_server.answer = lambda asked: answer
    theirs, ours = (ask(kind, judge_server, **arguments) for kind in (ChatOpenAI, OpenAIChat))
    sent = [asked.body for asked in judge_server.requests]
    assert sent[0].pop("stream", False) == sent[1].pop("stream", False)
    assert sent[0] == sent[1]
    for message in (theirs, ours):
        message.id = None  # made by chance
        message.additional_kwargs = without_nothing(message.additional_kwargs)
        message.response_metadata = without_nothing(message.response_metadata)
    assert ours == theirs


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_an_error_has_the_same_status_and_words(judge_server, status):
    judge_server.answer = lambda asked: error(status, "it is so", retry_after="3")
    found = []
    for kind in (ChatOpenAI, OpenAIChat):
        with pytest.raises(openai.APIStatusError) as raised:
            ask(kind, judge_server)
        found.append((raised.value.status_code, raised.value.body, raised.value.response.headers["retry-after"]))
    assert found[0] == found[1]
    assert judge_server.count == 2
