"""What can be set about judges: mistakes are found before anything is asked, and no key is ever part of it."""

import traceback

import pytest
from pydantic import SecretStr, ValidationError

from utilities.errors import UserError, in_words
from utilities.judges.budget import Price
from utilities.judges.settings import JudgeSettings, is_loopback

KEY = "sk-test-7d1f3c2b9a"


def refused(**given):
    """What the user is told; nothing in the whole error may hold what was given as a key."""
    with pytest.raises(ValidationError) as caught:
        JudgeSettings(**given)
    assert KEY not in str(caught.value) + repr(caught.value)
    return in_words(caught.value)


def test_without_anything_there_is_no_judge_and_every_limit_is_open():
    settings = JudgeSettings()
    assert settings.judge == () and settings.price is None
    assert settings.budget_tokens is None and settings.budget_usd is None


def test_every_setting_has_words_for_its_help():
    assert all(field.description for field in JudgeSettings.model_fields.values())


def test_one_judge_may_be_given_as_a_text():
    assert JudgeSettings(judge="embedded") == JudgeSettings(judge=("embedded",))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"judge": ("a", "a")}, "named twice"),
        ({"judge": ("a", " ")}, "a judge's name is empty"),
        ({"judge_url": "http://localhost:8000/v1"}, "no model: name one with judge"),
        ({"judge": "embedded", "judge_url": "http://localhost:8000/v1"}, "no model: name one with judge"),
        ({"judge": "m", "judge_url": "localhost:8000"}, "not a URL such as"),
        ({"judge": "m", "judge_url": "ftp://localhost"}, "not a URL such as"),
        ({"judge": "m", "judge_url": "http://"}, "not a URL such as"),
        ({"judge": "m", "judge_url": "http://host:port/v1"}, "not a URL such as"),
        ({"judge": "m", "judge_url": "http://[::1/v1"}, "not a URL such as"),
        ({"judge": "m", "judge_url": " http://localhost/v1"}, "not a URL such as"),
        ({"judge": "m", "judge_url": f"https://me:{KEY}@host/v1"}, "credentials"),
        ({"judge": "m", "judge_url": f"https://host/v1?key={KEY}"}, "credentials or a query"),
        ({"judge_key_env": KEY}, "name of an environment variable"),
        ({"judge_key_env": ""}, "name of an environment variable"),
        ({"judge_price": "1"}, "expected IN,OUT"),
        ({"judge_price": "1,2,3"}, "expected IN,OUT"),
        ({"judge_price": "cheap,free"}, "expected IN,OUT"),
        ({"judge_price": "-1,2"}, "expected IN,OUT"),
        ({"judge_price": "nan,2"}, "expected IN,OUT"),
        ({"judge_price": "1,inf"}, "expected IN,OUT"),
        ({"judge_price": "1,2", "allow_unknown_price": True}, "exclude each other"),
        ({"judge_temperature": 2.1}, "judge_temperature"),
        ({"judge_repeats": 0}, "judge_repeats"),
        ({"judge_in_flight": 0}, "judge_in_flight"),
        ({"judge_timeout": 0}, "judge_timeout"),
        ({"judge_timeout": float("inf")}, "judge_timeout"),
        ({"budget_tokens": 0}, "budget_tokens"),
        ({"budget_usd": 0}, "budget_usd"),
        ({"budget_usd": float("nan")}, "budget_usd"),
        ({"factuality": "some"}, "factuality"),
        ({"monitor_share": 1.0}, "monitor_share"),
        ({"canary_every": -1}, "canary_every"),
        ({"judge_key": KEY[:3]}, "judge_key"),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_its_setting(given, told):
    assert told in refused(**given)


def test_a_price_is_read_from_two_numbers():
    assert JudgeSettings(judge_price="0.15, 0.6").price == Price(0.15, 0.6)
    assert JudgeSettings(judge_price="0,0").price == Price(0, 0)


def test_a_url_loses_its_last_slash_so_that_one_server_has_one_name():
    assert JudgeSettings(judge="m", judge_url="http://localhost:8000/v1/").judge_url == "http://localhost:8000/v1"


def test_settings_survive_being_stored():
    settings = JudgeSettings(judge=("a", "b:c"), judge_url="https://host/v1", judge_price="1,2", budget_usd=3.0)
    assert JudgeSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:8000/v1", True),
        ("http://LOCALHOST/v1", True),
        ("http://judge.localhost/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://127.5.5.5/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost.example.com/v1", False),
        ("http://notlocalhost/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://0.0.0.0/v1", False),
        ("http://192.168.0.2/v1", False),
        ("https://api.openai.com/v1", False),
        ("http://localhost@example.com/v1", False),
    ],
)
def test_only_this_machine_is_this_machine(url, here):
    assert is_loopback(url) is here


# The cache's place


def test_the_cache_stands_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert JudgeSettings().cache_path == tmp_path / "model-swarms" / "judgements.sqlite"
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert JudgeSettings().cache_path == tmp_path / ".cache" / "model-swarms" / "judgements.sqlite"
    assert JudgeSettings(judge_cache="~/mine").cache_path == tmp_path / "mine"
    assert JudgeSettings(judge_cache=tmp_path / "mine").cache_path == tmp_path / "mine"


# Keys


def test_a_key_comes_from_the_file_and_then_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert JudgeSettings().key() is None
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert JudgeSettings().key() == SecretStr("from-the-environment")
    assert JudgeSettings(judge_key_env="MY_KEY").key() == SecretStr(KEY)
    (tmp_path / "key").write_text("from-the-file\n")
    assert JudgeSettings(judge_key_file=tmp_path / "key").key() == SecretStr("from-the-file")


def test_an_empty_variable_is_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert JudgeSettings().key() is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe\x00", "not a text file"),
        (f"{KEY}\n{KEY}".encode(), "one word of ASCII characters"),
        (f"OPENAI_API_KEY = {KEY}".encode(), "one word of ASCII characters"),
        (f"{KEY}é".encode(), "one word of ASCII characters"),
    ],
)
def test_a_file_that_holds_no_key_is_named_and_never_quoted(tmp_path, content, told):
    path = tmp_path / "key.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        JudgeSettings(judge_key_file=path).key()
    assert told in str(caught.value) and "key.txt" in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_variable_that_holds_no_key_is_named_and_never_quoted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY} {KEY}")
    with pytest.raises(UserError, match="the environment variable OPENAI_API_KEY holds no API key") as caught:
        JudgeSettings().key()
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_no_key_is_in_what_settings_show_or_store(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "key").write_text(KEY)
    for settings in (JudgeSettings(judge="m"), JudgeSettings(judge="m", judge_key_file=tmp_path / "key")):
        assert settings.key().get_secret_value() == KEY
        shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
        assert not [one for one in [*shown, repr(settings.key()), str(settings.key())] if KEY in one]
