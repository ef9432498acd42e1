"""The jury as settings describe it, asked over real HTTP; and where its keys do not go."""

import asyncio
import sqlite3
import traceback

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from stub_server import error, says

from utilities.core import Reason
from utilities.errors import UserError
from utilities.judges import providers as connect
from utilities.judges.budget import Price, Spent
from utilities.judges.panel import Bundled, Panel, open_panel
from utilities.judges.parsing import Message, as_rating
from utilities.judges.settings import JudgeSettings

KEY = "sk-test-7d1f3c2b9a"
QUESTION = [Message("user", "Rate this answer.")]
ELSEWHERE = "https://judge.example.com/v1"


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """No key, and a cache of the test's own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def opened(embedded=None, spent=None, **given):
    bundled = {"embedded": Bundled(embedded, "v1")} if embedded else {}
    return open_panel(JudgeSettings(**given), bundled=bundled, spent=spent)


def refused(**given):
    with pytest.raises(UserError) as caught:
        opened(**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def unused(temperature):
    raise AssertionError("the embedded judge's chat model is made at its first request")


def prices(**given):
    return [judge.price for judge in opened(**given).judges]


async def ratings(panel, question=QUESTION):
    try:
        rounds = [(judge, k) for judge in panel.judges for k in range(panel.repeats)]
        return [await judge.ask_for(question, as_rating, replicate=k, max_tokens=100) for judge, k in rounds]
    finally:
        await panel.close()


# Who judges


def test_a_panel_without_a_judge_is_refused():
    assert "--judge embedded" in refused()


def test_the_embedded_judge_needs_its_chat_model():
    assert "no chat model was given for it" in refused(judge="embedded")


def test_the_embedded_judge_is_the_given_chat_model_and_costs_nothing():
    temperatures = []

    def embedded(temperature):
        temperatures.append(temperature)
        return GenericFakeChatModel(messages=iter([AIMessage("Rating: 7/10")]))

    panel = opened(embedded, judge="embedded", judge_temperature=0.5, budget_usd=0.01)
    assert temperatures == []
    (answer,) = asyncio.run(ratings(panel))
    assert (answer.value, answer.judge, temperatures) == (7, "embedded", [0.5])
    assert (panel.spent.requests, panel.spent.usd) == (1, 0.0)
    (again,) = asyncio.run(ratings(opened(embedded, judge="embedded", judge_temperature=0.5)))
    assert again.reply.cached and temperatures == [0.5]


def test_judges_are_where_their_names_say(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    names = ("embedded", "gemma:2b", "openai:gpt-4o-mini", "plain")
    panel = opened(
        judge=names,
        judge_url="http://localhost:1/v1",
        embedded=unused,
        judge_price="1,2",
        judge_repeats=3,
    )
    found = [(judge.name, judge.endpoint) for judge in panel.judges]
    assert found == [
        ("embedded", "embedded:v1"),
        ("gemma:2b", "http://localhost:1/v1"),
        ("gpt-4o-mini", connect.OPENAI),
        ("plain", "http://localhost:1/v1"),
    ]
    assert panel.embedded and panel.repeats == 3
    assert [judge.price for judge in panel.judges] == [Price(0, 0), Price(1, 2), Price(1, 2), Price(1, 2)]


def test_a_name_without_a_server_is_a_model_of_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")  # would change what is paid, and what is cached
    panel = opened(judge="gpt-4o-mini", judge_price="1,2")
    assert [judge.endpoint for judge in panel.judges] == [connect.OPENAI]
    assert not panel.embedded


def test_a_provider_that_there_is_not_is_told_in_words():
    assert "nobody:model" in refused(judge="nobody:model", allow_unknown_price=True)


def test_two_judges_of_one_name_are_refused_because_results_could_not_tell_them_apart(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    told = refused(judge=("gpt-4o", "openai:gpt-4o"), judge_price="1,2")
    assert "gpt-4o, openai:gpt-4o are the same model" in told


def test_settings_reach_the_judges(judge_server):
    panel = opened(judge="stub", judge_url=judge_server.url, judge_temperature=0.5, judge_repeats=2)
    assert [answer.value for answer in asyncio.run(ratings(panel))] == [7, 7]
    assert [asked.body["temperature"] for asked in judge_server.requests] == [0.5, 0.5]
    assert [asked.body["model"] for asked in judge_server.requests] == ["stub", "stub"]


def test_a_key_is_sent_over_plain_http_to_this_machine_only(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    given = {"judge": "m", "judge_key_env": "MY_KEY", "judge_price": "1,2"}
    told = refused(**given, judge_url="http://judge.example.com/v1")
    assert "plain HTTP" in told and "--allow-plain-http" in told and KEY not in told
    for more in (
        {"judge_url": "http://judge.example.com/v1", "allow_plain_http": True},
        {"judge_url": ELSEWHERE},
        {"judge_url": "http://127.0.0.1:1/v1"},
    ):
        assert opened(**given, **more).judges[0].name == "m"


def test_a_jury_shares_one_budget(judge_server):
    panel = opened(judge=("a", "b", "c"), judge_url=judge_server.url, budget_tokens=1000)
    judge_server.answer = lambda asked: says("Rating: 7/10", usage=(100, 50))
    first, second, third = asyncio.run(ratings(panel))
    # The third may need 780 tokens or so, and 700 are left.
    assert first.value == second.value == 7 and third.reason is Reason.BUDGET
    assert judge_server.count == 2
    assert panel.spent.tokens == 300 and panel.budget.exhausted


def test_judgements_are_kept_from_one_panel_to_the_next_and_spending_goes_on(judge_server):
    first = opened(judge="stub", judge_url=judge_server.url)
    asyncio.run(ratings(first))
    second = opened(judge="stub", judge_url=judge_server.url, spent=Spent.from_dict(first.spent.to_dict()))
    (answer,) = asyncio.run(ratings(second))
    assert answer.value == 7 and answer.reply.cached
    assert judge_server.count == 1
    assert (second.spent.requests, second.spent.cached, second.spent.tokens) == (1, 1, 25)


def test_a_closed_panel_has_closed_its_cache():
    panel = opened(judge="stub", judge_url="http://localhost:1/v1")
    asyncio.run(panel.close())
    with pytest.raises(sqlite3.ProgrammingError):
        panel.cache.get("a")


def test_a_panel_may_be_made_without_a_cache_of_its_own():
    panel = Panel((), opened(judge="stub", judge_url="http://localhost:1/v1").budget)
    asyncio.run(panel.close())
    assert panel.spent == Spent()


# Prices


def test_an_unknown_price_is_refused_unless_the_user_says_that_it_may_be(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    elsewhere = {"judge": "m", "judge_url": ELSEWHERE}
    told = refused(**elsewhere)
    assert "'m'" in told and "--judge-price" in told and "--allow-unknown-price" in told
    assert prices(**elsewhere, judge_price="0.15,0.6") == [Price(0.15, 0.6)]
    assert prices(**elsewhere, allow_unknown_price=True) == [None]


def test_a_limit_in_dollars_needs_a_price_whatever_is_allowed(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    elsewhere = {"judge": "m", "judge_url": ELSEWHERE, "budget_usd": 1.0}
    assert "--budget-usd needs its price" in refused(**elsewhere)
    assert "--budget-usd needs its price" in refused(**elsewhere, allow_unknown_price=True)
    assert opened(**elsewhere, judge_price="1,2").budget.usd == 1.0


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"])
def test_judges_on_this_machine_cost_nothing_unless_a_price_is_given(url):
    assert prices(judge="m", judge_url=url, budget_usd=1.0) == [Price(0, 0)]
    assert prices(judge="m", judge_url=url, judge_price="1,2") == [Price(1, 2)]  # a proxy may forward to a paid one


def test_money_that_was_spent_at_an_unknown_price_cannot_be_limited_afterwards():
    with pytest.raises(UserError, match="unknown price"):
        opened(judge="m", judge_url="http://localhost:1/v1", budget_usd=1.0, spent=Spent(usd=None))


# Keys


def test_a_judge_elsewhere_needs_a_key(tmp_path, monkeypatch):
    elsewhere = {"judge": "m", "judge_url": ELSEWHERE, "judge_price": "1,2"}
    told = refused(**elsewhere, judge_key_env="MY_KEY")
    assert "'m'" in told and "MY_KEY" in told and "--judge-key-file" in told
    assert "cannot be read" in refused(**elsewhere, judge_key_file=tmp_path / "key")
    monkeypatch.setenv("MY_KEY", KEY)
    assert opened(**elsewhere, judge_key_env="MY_KEY").judges


def test_a_mistake_leaves_the_cache_closed(monkeypatch):
    made = []
    monkeypatch.setattr("utilities.judges.panel.JudgementCache", lambda path: made.append(Closing()) or made[-1])
    refused(judge="m", judge_url=ELSEWHERE, judge_price="1,2")
    assert [cache.closed for cache in made] == [True]


class Closing:
    closed = False

    def close(self):
        self.closed = True


def test_a_server_here_gets_the_key_where_there_is_one_and_something_else_where_not(judge_server, monkeypatch):
    asyncio.run(ratings(opened(judge="a", judge_url=judge_server.url)))
    monkeypatch.setenv("MY_KEY", KEY)
    asyncio.run(ratings(opened(judge="b", judge_url=judge_server.url, judge_key_env="MY_KEY")))
    sent = [asked.headers["authorization"] for asked in judge_server.requests]
    assert sent == ["Bearer none", f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("judges", "given", "shown"),
    [
        (("anthropic:m",), {}, None),
        (("anthropic:m",), {"judge_key_env": "MY_KEY"}, KEY),
        (("anthropic:m", "embedded"), {"judge_key_env": "MY_KEY"}, KEY),
        (("anthropic:m", "gpt"), {"judge_key_env": "MY_KEY"}, None),
    ],
)
def test_a_key_is_shown_to_the_provider_that_it_was_named_for_and_to_no_other(monkeypatch, judges, given, shown):
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
    monkeypatch.setenv("MY_KEY", KEY)
    keys = []

    def spy(spec, *, api_key, **options):
        keys.append(api_key and api_key.get_secret_value())
        return connect.openai_judge(spec, **options)

    monkeypatch.setattr(connect, "named_judge", spy)
    opened(unused, judge=judges, allow_unknown_price=True, **given)
    assert keys == [shown]


@pytest.mark.parametrize("source", ["environment", "file"])
def test_no_key_is_in_any_object_file_or_message(judge_server, tmp_path, monkeypatch, source):
    given = {"judge": "stub", "judge_url": judge_server.url, "judge_cache": tmp_path / "cache" / "c.sqlite"}
    if source == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    else:
        (tmp_path / "key").write_text(KEY)
        given["judge_key_file"] = tmp_path / "key"
    panel = opened(**given)
    (answer,) = asyncio.run(ratings(panel))
    assert answer.value == 7
    assert judge_server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    stopped = opened(**given)
    judge_server.answer = lambda asked: error(401, f"Incorrect API key provided: {KEY}", "invalid_api_key")
    with pytest.raises(UserError) as caught:
        asyncio.run(ratings(stopped, [Message("user", "Another one.")]))
    assert "401" in str(caught.value)
    shown = [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    for one in (panel, stopped):
        for thing in (one, one.budget, one.spent, one.cache, one.judges, *one.judges):
            shown += [repr(thing), str(thing), *map(repr, getattr(thing, "__dict__", {}).values())]
    assert KEY not in "".join(shown)
    files = list((tmp_path / "cache").iterdir())
    assert files and not [path for path in files if KEY.encode() in path.read_bytes()]


def test_no_key_is_in_the_write_ahead_log_of_a_panel_that_is_still_open(judge_server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    panel = opened(judge="stub", judge_url=judge_server.url, judge_cache=tmp_path / "c.sqlite")

    async def ask():
        reply = await panel.judges[0].ask(QUESTION)
        files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        await panel.close()
        return reply, files

    reply, files = asyncio.run(ask())
    assert reply.text == "Rating: 7/10"
    assert b"Rating: 7/10" in files["c.sqlite-wal"]
    assert not [name for name, content in files.items() if KEY.encode() in content]
