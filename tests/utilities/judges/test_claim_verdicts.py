"""Verdicts: how a reply is read, and what several judges say together."""

import pytest

from utilities.core import Reason, Unscored
from utilities.judges.claim_verdicts import FAILED, VERDICTS, JudgedClaim, Vote, as_verdict, as_word, majority
from utilities.judges.parsing import Reply

LETTERS = {"s": "supported", "c": "contradicted", "i": "inconclusive"}


def votes(letters):
    failed = Unscored(Reason.MALFORMED, "prose")
    return [
        Vote("j", failed if letter == "f" else JudgedClaim(reasoning="so", verdict=LETTERS[letter]))
        for letter in letters
    ]


@pytest.mark.parametrize(
    ("letters", "verdict"),
    [
        ("s", "supported"),
        ("c", "contradicted"),
        ("ssc", "supported"),
        ("ssci", "supported"),
        ("sc", "inconclusive"),
        ("si", "inconclusive"),
        ("ssccc", "contradicted"),
        ("ssccf", "inconclusive"),
        ("sf", "supported"),
        ("ffc", "contradicted"),
        ("f", FAILED),
        ("ff", FAILED),
    ],
)
def test_the_most_frequent_verdict_wins_and_a_tie_is_inconclusive(letters, verdict):
    assert majority(votes(letters)) == verdict
    assert majority(votes(letters[::-1])) == verdict


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("form", ["{}", " {}\n", "{}.", "**{}**", '"{}"'])
def test_a_word_is_read_in_any_case_and_dress(verdict, form):
    for word in (verdict, verdict.title(), verdict.upper()):
        assert as_word(Reply(form.format(word))) == JudgedClaim(verdict=verdict)


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("supported by nothing", "stop", Reason.MALFORMED),
        ("not supported", "stop", Reason.MALFORMED),
        ("unsupported", "stop", Reason.MALFORMED),
        ("supported contradicted", "stop", Reason.MALFORMED),
        ("", "stop", Reason.MALFORMED),
        ("true", "stop", Reason.MALFORMED),
        ("supported", "length", Reason.TRUNCATED),
        ("I'm sorry, but I can't help with that.", "stop", Reason.REFUSED),
        ("supported", "content_filter", Reason.REFUSED),
    ],
)
def test_anything_but_one_word_is_no_verdict(text, finish_reason, reason):
    found = as_word(Reply(text, finish_reason=finish_reason))
    assert isinstance(found, Unscored)
    assert (found.reason, found.raw) == (reason, text)


def test_a_verdict_in_json_is_read_with_its_reasoning():
    reply = Reply(
        'The form is {"reasoning": "...", "verdict": "?"}.\n{"reasoning": "It says so.", "verdict": "Supported"}'
    )
    assert as_verdict(reply) == JudgedClaim(reasoning="It says so.", verdict="supported")
    assert as_verdict(Reply('{"verdict": "contradicted"}')) == JudgedClaim(verdict="contradicted")


@pytest.mark.parametrize("text", ['{"verdict": "true"}', '{"verdict": null}', '{"verdict": 1}', "{}", "supported"])
def test_json_without_one_of_the_verdicts_is_malformed(text):
    found = as_verdict(Reply(text))
    assert isinstance(found, Unscored) and found.reason is Reason.MALFORMED


def test_a_vote_tells_what_was_said_or_why_nothing_was():
    assert votes("s")[0].told() == {"judge": "j", "verdict": "supported", "why": "so"}
    assert votes("f")[0].told() == {"judge": "j", "verdict": "failed", "why": "malformed: prose"}
