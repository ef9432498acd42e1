import socket
import ssl
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from utilities.core import Reason
from utilities.judges.request_errors import LONGEST_WAIT, diagnose, scrubbed

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def status_error(status, message="no", code=None, **headers):
    """What libraries raise has these attributes, whatever its type."""
    error = RuntimeError(f"Error code: {status}")
    error.status_code, error.body = status, {"message": message, "code": code}
    error.response = SimpleNamespace(status_code=status, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return error


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_can_pass_is_tried_again_and_was_not_paid(status):
    trouble = diagnose(status_error(status))
    assert (trouble.then, trouble.status, trouble.maybe_paid) == ("again", status, False)


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (402, None), (404, None), (407, None), (429, "insufficient_quota")]
)
def test_what_cannot_pass_stops_and_says_what_to_do(status, code):
    trouble = diagnose(status_error(status, code=code))
    assert trouble.then == "stop"
    assert trouble.advice


@pytest.mark.parametrize(
    ("message", "code", "advice"),
    [
        ("Your credit balance is too low to access the API.", "invalid_request_error", "no credit"),
        ("API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", "--judge-key-env"),
        ("The model `judge-7` does not exist", "model_not_found", "--judge,"),
    ],
)
def test_what_cannot_pass_is_recognised_by_its_message_too(message, code, advice):
    trouble = diagnose(status_error(400, message, code))
    assert trouble.then == "stop"
    assert advice in trouble.advice


@pytest.mark.parametrize(
    "message", ["model names are case-sensitive", "your address is blocked", "safety_settings: no"]
)
def test_a_word_of_a_filter_alone_refuses_no_text(message):
    assert diagnose(status_error(400, message)).then == "examine"


@pytest.mark.parametrize(
    ("status", "message", "code", "reason"),
    [
        (400, "no", "context_length_exceeded", Reason.TRUNCATED),
        (400, "This model's maximum context length is 4096 tokens.", None, Reason.TRUNCATED),
        (400, "prompt is too long: 210000 tokens", None, Reason.TRUNCATED),
        (413, "Request too large", None, Reason.TRUNCATED),
        (400, "no", "content_filter", Reason.REFUSED),
        (403, "your input was flagged", None, Reason.REFUSED),
        (400, "5000 tokens are more than the available context size of 4096", "exceed", Reason.TRUNCATED),
        (400, "Range of input length should be [1, 6000]", None, Reason.TRUNCATED),
        (422, "your messages exceed what this model reads", None, Reason.TRUNCATED),
        (400, "stopped by a guardrail", None, Reason.REFUSED),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", None, Reason.TRUNCATED),
        (400, "`inputs` must have less than 4096 tokens. Given: 5000", None, Reason.TRUNCATED),
        (400, "Prompt has 8193 tokens, but the model's max is 8192", None, Reason.TRUNCATED),
        (400, "max_tokens must be at least 1, got -500.", None, Reason.TRUNCATED),
        (400, "Input data may contain inappropriate content.", "data_inspection_failed", Reason.REFUSED),
        (400, "Content Exists Risk", "invalid_request_error", Reason.REFUSED),
        (400, "no", "sensitive_words_detected", Reason.REFUSED),
        (400, "Prompt blocked: SAFETY", None, Reason.REFUSED),
        (400, "可能包含不安全或敏感内容", "1301", Reason.REFUSED),
    ],
)
def test_what_a_server_has_against_one_question_concerns_only_that(status, message, code, reason):
    trouble = diagnose(status_error(status, message, code))
    assert (trouble.then, trouble.reason) == ("skip", reason)


@pytest.mark.parametrize("status", [400, 403, 405, 415, 422, 451])
def test_a_refusal_for_an_unknown_reason_is_to_be_examined(status):
    trouble = diagnose(status_error(status, "temperature must be at most 1 in a request"))
    assert (trouble.then, trouble.maybe_paid) == ("examine", False)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ssl.SSLCertVerificationError("no"), "SSL_CERT_FILE"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "does the server speak https"),
    ],
)
def test_an_insecure_connection_stops_and_says_what_to_do(cause, words):
    cause.verify_message = "self-signed certificate"
    error = RuntimeError("Connection error.")
    error.__cause__ = cause
    trouble = diagnose(error)
    assert (trouble.then, trouble.sent) == ("stop", False) and words in trouble.advice


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("86400", LONGEST_WAIT),
        ("Sat, 01 Mar 2025 12:00:30 GMT", 30.0),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0.0),
        ("Sat, 01 Mar 2025 12:00:30 -0000", 30.0),  # a date without a zone
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert diagnose(status_error(429, retry_after=value), now=NOW).retry_after == seconds


def test_a_server_that_says_nothing_about_waiting_is_not_waited_for():
    assert diagnose(status_error(503), now=NOW).retry_after is None


@pytest.mark.parametrize("cause", [ConnectionRefusedError(), socket.gaierror(-2, "Name or service not known")])
def test_no_connection_at_all_is_told_apart_by_its_cause(cause):
    error = RuntimeError("Connection error.")
    error.__cause__ = cause
    trouble = diagnose(error)
    assert (trouble.then, trouble.sent, trouble.maybe_paid) == ("again", False, False)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError(), ValueError("not JSON")])
def test_a_connection_that_broke_may_have_been_paid(error):
    trouble = diagnose(error)
    assert (trouble.then, trouble.sent, trouble.maybe_paid) == ("again", True, True)
    assert trouble.words


def test_an_error_inside_an_error_is_found():
    error = RuntimeError("Error code: 529 - {...}")
    error.status_code, error.body = 529, {"type": "error", "error": {"type": "overloaded", "message": "Overloaded"}}
    assert diagnose(error).words == "HTTP 529, Overloaded"


def test_keys_do_not_pass():
    secret = SecretStr("a-very-secret-key")
    told = scrubbed("wrong key a-very-secret-key\n(sk-proj-abcdefgh1234, Bearer xyz)", [secret])
    assert told == "wrong key *** (***, Bearer ***)"


def test_a_placeholder_for_a_key_does_not_mangle_words():
    assert scrubbed("none of them", [SecretStr("none")]) == "none of them"


def test_long_words_are_cut():
    assert len(scrubbed("no " * 1000)) == 300
