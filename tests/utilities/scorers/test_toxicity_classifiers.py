import asyncio
import json
import logging
import math
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import make_tokenizer
from pydantic import SecretStr
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from utilities.core import Item, Reason, Response, Score, Unscored
from utilities.errors import UserError
from utilities.scorers.toxicity import Toxicity
from utilities.scorers.toxicity_classifiers import LocalClassifier, PerspectiveClassifier, make_classifier

ROOT = Path(__file__).parents[3]
TEXTS = [
    "You are kind.",
    "You are rude!",
    "a",
    "What a day",
    "I hate mornings, and so do you",
    "b",
    "zz",
    "Get out.",
] * 3


def scores(classifier, texts):
    return asyncio.run(classifier.toxicity(texts))


def test_importing_the_classifiers_loads_no_torch():
    code = "import utilities.scorers.toxicity_classifiers, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)).isdisjoint({"torch", "transformers"})


# -- a model of one's own --------------------------------------------------------------------------------------------

KINDS = {
    "bert": (BertConfig, BertForSequenceClassification, {"pad_token_id": 2}),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, {"pad_token_id": 2}),
    "llama": (LlamaConfig, LlamaForSequenceClassification, {"pad_token_id": 2}),
    "llama without padding": (LlamaConfig, LlamaForSequenceClassification, {"pad_token_id": None}),
    "llama padded with its end": (LlamaConfig, LlamaForSequenceClassification, {"pad_token_id": 1}),
}


def make_model(folder, kind="bert", labels=("neutral", "toxic"), **options):
    """A random classifier whose answers differ from text to text; one token a byte, `<s>` before the text."""
    configuration, architecture, special = KINDS[kind]
    torch.manual_seed(3)
    config = configuration(
        **{
            "vocab_size": 259,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.4,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: k for k, label in enumerate(labels)},
            **special,
            **options,
        }
    )
    architecture(config).save_pretrained(folder)
    tokenizer = make_tokenizer(folder)
    if config.pad_token_id is None:  # many decoders come without one
        tokenizer.pad_token = None
        tokenizer.save_pretrained(folder)
    return folder


def logits_alone(folder, *texts):
    """What transformers itself answers to each text alone, without any of the code under test: [texts, labels]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return torch.cat([model(torch.tensor([byte_ids(folder, text)])).logits for text in texts]).double()


def byte_ids(folder, text):
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return [0, *(vocabulary["Ġ" if letter == " " else letter] for letter in text)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_the_same_alone_and_in_a_batch(kind, tmp_path):
    folder = make_model(tmp_path, kind)
    one, many = (LocalClassifier(str(folder), "cpu", batch=size) for size in (1, 16))
    sizes = []
    many._model.register_forward_pre_hook(lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    alone, together = scores(one, TEXTS), scores(many, TEXTS)
    assert max(sizes) >= 6 and sum(sizes) == len(TEXTS), "there were batches"
    assert together == pytest.approx(alone, abs=1e-6)
    plain = logits_alone(folder, *TEXTS).softmax(1)[:, 1].tolist()
    assert together == pytest.approx(plain, abs=1e-6), "in the order of the texts"
    assert len({round(score, 3) for score in together}) > 4, "the model tells texts apart"


def test_all_texts_of_two_callers_at_once_are_scored(tmp_path):
    classifier = LocalClassifier(str(make_model(tmp_path)), "cpu")

    async def both():
        return await asyncio.gather(classifier.toxicity(TEXTS), classifier.toxicity(TEXTS[::-1]))

    first, second = asyncio.run(both())
    assert first == pytest.approx(second[::-1], abs=1e-6)
    assert scores(classifier, []) == []


@pytest.mark.parametrize(
    ("labels", "multi", "toxic"),
    [
        (("neutral", "toxic"), False, ("toxic",)),
        (("toxic", "non-toxic"), False, ("toxic",)),
        (("nothate", "hate"), False, ("hate",)),
        (("NOT-HATE", "HATE"), False, ("HATE",)),
        (("NON_HATE", "HATE"), False, ("HATE",)),
        (("notoxic", "toxic"), False, ("toxic",)),
        (("hate speech", "normal", "offensive"), False, ("hate speech", "offensive")),
        (("toxic",), False, ("toxic",)),
        (("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"), True, ("toxic",)),
        (("toxicity", "severe_toxicity", "insult", "male", "female", "muslim"), True, ("toxicity",)),
        (("male", "insult", "Identity_Attack"), True, ("insult", "Identity_Attack")),
    ],
)
def test_toxic_labels_are_found_by_their_names(labels, multi, toxic, tmp_path):
    problem = "multi_label_classification" if multi else None
    folder = make_model(tmp_path, labels=labels, problem_type=problem)
    classifier = LocalClassifier(str(folder), "cpu")
    assert classifier.toxic_labels == toxic
    logits, positions = logits_alone(folder, "so so")[0], [labels.index(label) for label in toxic]
    if multi or len(labels) == 1:
        expected = max(1 / (1 + math.exp(-logits[k])) for k in positions)
    else:
        expected = sum(math.exp(logits[k]) for k in positions) / sum(math.exp(one) for one in logits)
    assert scores(classifier, ["so so"]) == [pytest.approx(expected, abs=1e-6)]


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (("LABEL_0", "LABEL_1"), {}),
        (("toxic", "spam", "neutral"), {}),
        (("positive", "negative"), {}),
        (("toxic", "threat"), {}),
        (("male", "female"), {"problem_type": "multi_label_classification"}),
        (("LABEL_0",), {}),
    ],
)
def test_labels_that_do_not_say_what_is_toxic_are_asked_for(labels, options, tmp_path):
    folder = make_model(tmp_path, labels=labels, **options)
    with pytest.raises(UserError, match=rf"{', '.join(labels)}.*do not say.*toxic_labels"):
        LocalClassifier(str(folder), "cpu")
    given = LocalClassifier(str(folder), "cpu", toxic_labels=[labels[0]])
    assert given.toxic_labels == labels[:1]
    assert 0 < scores(given, ["so so"])[0] < 1


def test_given_labels_win_over_names_and_turn_the_score_around(tmp_path):
    folder = str(make_model(tmp_path))
    found, turned = LocalClassifier(folder, "cpu"), LocalClassifier(folder, "cpu", toxic_labels="neutral")
    for one, other in zip(scores(found, TEXTS), scores(turned, TEXTS), strict=True):
        assert one + other == pytest.approx(1.0, abs=1e-6)


def test_the_highest_of_several_given_independent_labels_counts(tmp_path):
    folder = make_model(tmp_path, labels=("a", "b", "c"), problem_type="multi_label_classification")
    a, c, both = (LocalClassifier(str(folder), "cpu", toxic_labels=names) for names in (["a"], ["c"], ["a", "c"]))
    pairs = list(zip(scores(a, TEXTS), scores(c, TEXTS), strict=True))
    assert scores(both, TEXTS) == pytest.approx([max(pair) for pair in pairs], abs=1e-6)
    assert any(x > y for x, y in pairs) and any(x < y for x, y in pairs), "now one, now the other"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"toxic_labels": ["toxicity"]}, "has no label 'toxicity'; it has neutral, toxic"),
        ({"toxic_labels": ["neutral", "toxic"]}, "do not say what is toxic"),
        ({"batch": 0}, "at least 1"),
        ({"device": "gpu"}, "cannot be loaded: .*gpu"),
    ],
)
def test_wrong_options_are_refused(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        LocalClassifier(str(make_model(tmp_path)), **{"device": "cpu", **options})


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_text_that_is_too_long_is_unscored_and_the_longest_that_fits_is_scored(kind, tmp_path):
    folder = make_model(tmp_path, kind, max_position_embeddings=20)
    classifier = LocalClassifier(str(folder), "cpu")
    fits = 16 if kind == "roberta" else 19  # `<s>` is a token, and RoBERTa loses the positions up to that of padding
    good, long, short = scores(classifier, ["x" * fits, "x" * (fits + 1), "y"])
    assert good == pytest.approx(logits_alone(folder, "x" * fits).softmax(1)[0, 1].item(), abs=1e-6)
    assert long == Unscored(Reason.TRUNCATED, f"{fits + 2} tokens, the classifier reads {fits + 1}")
    assert isinstance(short, float)


def test_the_tokenizers_own_limit_counts(tmp_path):
    folder = make_model(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 5}), encoding="utf-8")
    short, long = scores(LocalClassifier(str(folder), "cpu"), ["xxxx", "xxxxx"])
    assert isinstance(short, float)
    assert long.reason is Reason.TRUNCATED


def test_what_is_no_text_is_unscored_and_the_rest_is_scored(tmp_path):
    classifier = LocalClassifier(str(make_model(tmp_path)), "cpu")
    empty, blank, broken, good = scores(classifier, ["", " \n\t", "half \ud83d of a pair", "fine"])
    assert (empty.reason, blank.reason, broken.reason) == (Reason.NOT_APPLICABLE,) * 2 + (Reason.MALFORMED,)
    assert [good] == pytest.approx(scores(classifier, ["fine"]), abs=1e-6)
    assert scores(classifier, [""]) == [empty]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_special_tokens_spelled_out_in_a_text_are_letters(kind, tmp_path):
    folder = make_model(tmp_path, kind)
    for text in ("hello<pad>", "hello</s>", "<s>hello"):
        expected = logits_alone(folder, text).softmax(1)[0, 1].item()
        assert scores(LocalClassifier(str(folder), "cpu"), [text]) == [pytest.approx(expected, abs=1e-6)]


def test_logits_that_are_not_numbers_are_malformed(tmp_path):
    classifier = LocalClassifier(str(make_model(tmp_path)), "cpu")
    with torch.no_grad():
        classifier._model.classifier.bias.fill_(math.nan)
    assert [one.reason for one in scores(classifier, ["a", "b"])] == [Reason.MALFORMED] * 2


def test_a_language_model_without_a_trained_head_is_refused(base):
    with pytest.raises(UserError, match=r"no trained text-classification model: its file has no score\.weight"):
        LocalClassifier(str(base), "cpu")


def test_a_regression_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="regression"):
        LocalClassifier(str(make_model(tmp_path, labels=("toxicity",), problem_type="regression")), "cpu")


def test_weights_in_a_pickle_are_not_read(tmp_path):
    folder = make_model(tmp_path)
    weights = BertForSequenceClassification.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be loaded.*safetensors"):
        LocalClassifier(str(folder), "cpu")


@pytest.mark.parametrize("name", ["nobody/nothing-here", "./no/such/folder", "a/b/c"])
def test_a_model_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=f"{name}: the toxicity classifier cannot be loaded"):
        LocalClassifier(name, "cpu")


def test_code_of_a_model_is_not_run_unless_it_is_trusted(tmp_path):
    folder = make_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    with pytest.raises(UserError, match="with trust_remote_code that code is run here"):
        LocalClassifier(str(folder), "cpu")
    assert not (tmp_path / "ran").exists()


# -- the Perspective API ---------------------------------------------------------------------------------------------

KEY = "AIza-not-a-real-key-0123456789"


def says(value, status=200):
    body = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": value, "type": "PROBABILITY"}}}}
    return status, {}, json.dumps(body)


def fails(status, message="no", headers=None, **detail):
    error = {"code": status, "message": message, "details": [detail] if detail else []}
    return status, headers or {}, json.dumps({"error": error})


class Stub:
    """A real HTTP server that answers from a script, the last entry for ever, and keeps what it was asked."""

    def __init__(self, *script):
        self.script, self.asked, self.released = list(script), [], threading.Event()
        self.now = self.most = 0
        self.together: threading.Barrier | None = None
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub._lock:
                    stub.asked.append((self.path, dict(self.headers), body))
                    entry = stub.script.pop(0) if len(stub.script) > 1 else stub.script[0]
                    stub.now += 1
                    stub.most = max(stub.most, stub.now)
                if stub.together is not None:
                    stub.together.wait(120)
                with stub._lock:
                    stub.now -= 1
                self.answer(entry(body["comment"]["text"]) if callable(entry) else entry)

            def answer(self, entry):
                if entry == "cut":  # without a word
                    self.close_connection = True
                    return
                if entry == "silent":
                    stub.released.wait(30)
                    return
                status, headers, text = entry
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode()) + (10 if entry[1].get("X-Half") else 0)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1alpha1/comments:analyze"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = []

    def make(*script):
        made.append(Stub(*script))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(stub, texts=("You fool",), **options):
    """Outcomes, and the seconds that the classifier would have waited."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    classifier = PerspectiveClassifier(SecretStr(KEY), stub.url, sleep=sleep, **options)
    return scores(classifier, texts), waits


def test_a_probability_comes_back_for_each_text_in_order(stub):
    server = stub(lambda text: says(len(text) / 10))
    assert ask(server, ["abc", "a", "abcdefghij", "ab"])[0] == [0.3, 0.1, 1.0, 0.2]
    assert len(server.asked) == 4
    assert ask(server, [])[0] == []


def test_the_request_is_what_the_api_expects_and_the_key_is_in_no_address(stub):
    server = stub(says(0.25))
    assert ask(server, ['Näh "quoted" 🙂'])[0] == [0.25]
    path, headers, body = server.asked[0]
    assert path == "/v1alpha1/comments:analyze"
    assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == KEY
    assert body["comment"]["text"] == 'Näh "quoted" 🙂'
    assert body["requestedAttributes"] == {"TOXICITY": {}}
    assert (body["languages"], body["doNotStore"]) == (["en"], True)


@pytest.mark.parametrize(
    "passing", [fails(429), fails(500), fails(503), fails(408), "cut", (200, {"X-Half": "1"}, "{")]
)
def test_a_passing_failure_is_tried_again(stub, passing):
    server = stub(passing, passing, says(0.75))
    outcomes, waits = ask(server)
    assert outcomes == [0.75]
    assert (len(server.asked), len(waits)) == (3, 2)
    assert 0 < waits[0] < waits[1], "the second wait is longer"


@pytest.mark.parametrize(
    ("passing", "told"),
    [
        (fails(429, "Quota exceeded"), "HTTP 429: Quota exceeded"),
        (fails(500, "backend"), "HTTP 500: backend"),
        ((502, {}, "<html>\n<b>Bad</b> gateway</html>"), "HTTP 502: <html> <b>Bad</b> gateway</html>"),
        ("cut", "RemoteDisconnected"),
        ((200, {"X-Half": "1"}, json.dumps({"half": 1})), "IncompleteRead"),
    ],
)
def test_what_keeps_failing_is_unscored_and_never_a_number(stub, passing, told):
    server = stub(passing)
    (outcome,), waits = ask(server, attempts=3)
    assert (outcome.reason, outcome.attempts) == (Reason.TRANSPORT, 3)
    assert told in outcome.detail
    assert (len(server.asked), len(waits)) == (3, 2), "no wait after the last attempt"


def test_a_silent_server_is_a_transport_failure(stub):
    server = stub("silent")
    (outcome,), _ = ask(server, attempts=2, timeout_s=0.2)
    assert (outcome.reason, outcome.attempts) == (Reason.TRANSPORT, 2)
    assert "timed out" in outcome.detail


def test_no_server_at_all_is_a_transport_failure(stub):
    server = stub(says(0.5))
    server.close()
    (outcome,), waits = ask(server, attempts=4)
    assert (outcome.reason, outcome.attempts, len(waits)) == (Reason.TRANSPORT, 4, 3)
    assert "refused" in outcome.detail


def test_the_time_that_the_server_names_is_waited(stub):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    told = [fails(429, headers={"Retry-After": wait}) for wait in ("7", soon, past)]
    outcomes, waits = ask(stub(*told, fails(503, headers={"Retry-After": "3"}), says(0.5)), attempts=5)
    assert outcomes == [0.5]
    assert 7 <= waits[0] <= 8
    assert 30 < waits[1] <= 61
    assert 0 <= waits[2] <= 1
    assert 3 <= waits[3] <= 4


@pytest.mark.parametrize("told", ["soon", "", "nan", "-inf", "Thu, 99 Foo 2026"])
def test_a_senseless_retry_after_is_as_none(stub, told):
    _, waits = ask(stub(fails(500, headers={"Retry-After": told}), says(0.5)))
    assert len(waits) == 1
    assert 1.0 <= waits[0] <= 1.5


def test_without_a_named_time_the_waits_for_a_quota_outlast_a_minute(stub):
    _, waits = ask(stub(fails(429)))
    assert len(waits) == 3
    assert 60 < sum(waits) < 120


@pytest.mark.parametrize("told", ["3600", "9" * 400])
def test_a_server_that_asks_for_an_hour_is_not_asked_again(stub, told):
    server = stub(fails(429, "come back later", {"Retry-After": told}))
    (outcome,), waits = ask(server)
    assert (outcome.reason, outcome.attempts, waits) == (Reason.TRANSPORT, 1, [])
    assert "come back later, asked to wait" in outcome.detail


def test_waits_differ_between_texts(stub):
    _, waits = ask(stub(fails(500)), [f"text {k}" for k in range(8)], attempts=2)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    "body",
    [
        "{not json",
        "",
        "[]",
        "{}",
        '"0.5"',
        "[" * 100_000,
        json.dumps({"attributeScores": {"INSULT": {"summaryScore": {"value": 0.5}}}}),
        json.dumps({"attributeScores": {"TOXICITY": {"summaryScore": None}}}),
        says("0.5")[2],
        says(None)[2],
        says(True)[2],
    ],
)
def test_an_answer_without_a_value_is_malformed(stub, body):
    server = stub((200, {}, body))
    (outcome,), waits = ask(server)
    assert (outcome.reason, outcome.raw, outcome.attempts) == (Reason.MALFORMED, body[:500], 1)
    assert (len(server.asked), waits) == (1, []), "a complete answer would be the same again"


@pytest.mark.parametrize("value", [1.5, -0.01, 50, math.nan, math.inf, 10**400])
def test_a_value_that_is_no_probability_is_out_of_range(stub, value):
    (outcome,), _ = ask(stub(fails(500), says(value)))
    assert (outcome.reason, outcome.attempts) == (Reason.OUT_OF_RANGE, 2)
    assert outcome.raw == says(value)[2][:500]


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_both_ends_are_probabilities(stub, value):
    (outcome,), _ = ask(stub(says(value)))
    assert outcome == value and isinstance(outcome, float)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", Reason.NOT_APPLICABLE),
        ("LANGUAGE_DETECTION_FAILED", Reason.NOT_APPLICABLE),
        ("COMMENT_EMPTY", Reason.NOT_APPLICABLE),
        ("COMMENT_TOO_LONG", Reason.TRUNCATED),
    ],
)
def test_what_the_api_refuses_of_one_text_leaves_the_others_scored(stub, kind, reason):
    server = stub(lambda text: fails(400, "not this one", errorType=kind) if text == "odd" else says(0.5))
    first, odd, last = ask(server, ["one", "odd", "two"])[0]
    assert (first, last) == (0.5, 0.5)
    assert odd == Unscored(reason, "HTTP 400: not this one", 1)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (fails(401, "unauthenticated"), "refuses the key .HTTP 401: unauthenticated.*PERSPECTIVE_API_KEY.*local"),
        (fails(403, "has not been used"), "refuses the key .HTTP 403: has not been used"),
        (fails(400, "API key not valid.", reason="API_KEY_INVALID"), "refuses the key .HTTP 400: API key not valid"),
        (fails(400, "Unknown attribute", errorType="INVALID_REQUEST"), "refuses requests: HTTP 400: Unknown attribute"),
        (fails(404, "nothing here"), "127.0.0.1 refuses requests: HTTP 404: nothing here"),
        ((410, {}, "gone"), "refuses requests: HTTP 410: gone"),
    ],
)
def test_a_permanent_refusal_is_the_users_to_mend_and_ends_the_asking(stub, reply, message):
    server = stub(reply)
    with pytest.raises(UserError, match=message):
        ask(server, [f"text {k}" for k in range(50)], in_flight=2)
    assert len(server.asked) <= 6, "those in flight, and not all 50"


def test_a_redirection_does_not_carry_the_key_elsewhere(stub):
    elsewhere = stub(says(0.5))
    with pytest.raises(UserError, match="HTTP 302"):
        ask(stub((302, {"Location": elsewhere.url}, "")))
    assert elsewhere.asked == []


def test_what_is_no_text_is_not_sent(stub):
    server = stub(says(0.5))
    empty, blank, broken, good = ask(server, ["", " \n", "half \ud83d of a pair", "fine"])[0]
    assert (empty.reason, blank.reason, broken.reason) == (Reason.NOT_APPLICABLE,) * 2 + (Reason.MALFORMED,)
    assert good == 0.5
    assert [body["comment"]["text"] for _, _, body in server.asked] == ["fine"]


def test_no_more_texts_are_in_flight_than_allowed_over_all_callers(stub):
    server = stub(says(0.5))
    server.together = threading.Barrier(3)  # three must be there at once for any to be answered
    classifier = PerspectiveClassifier(SecretStr(KEY), server.url, in_flight=3)

    async def two_callers():
        return await asyncio.gather(classifier.toxicity(["a"] * 6), classifier.toxicity(["b"] * 6))

    assert asyncio.run(two_callers()) == [[0.5] * 6] * 2
    assert server.most == 3
    assert scores(classifier, ["c"] * 6) == [0.5] * 6, "and again in another event loop"


def test_a_text_keeps_its_place_while_it_waits(stub):
    server = stub(fails(429), fails(429), says(0.5))
    assert ask(server, ["first", "second"], in_flight=1)[0] == [0.5, 0.5]
    assert [body["comment"]["text"] for _, _, body in server.asked] == ["first", "first", "first", "second"]


@pytest.mark.parametrize(
    "reply",
    [
        (403, {}, f"the key {KEY} may not"),
        (400, {}, json.dumps({"error": {"message": f"bad key {KEY}"}})),
        (500, {}, f"crashed on {KEY}"),
        (200, {}, f"broken {KEY}"),
        (200, {}, json.dumps({"attributeScores": {"TOXICITY": {"summaryScore": {"value": 7}}}, "key": KEY})),
        "cut",
    ],
)
def test_the_key_is_nowhere_to_be_read(stub, reply, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    try:
        seen = repr(ask(stub(reply), attempts=1)[0])
    except UserError as error:
        seen = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    if reply != "cut":
        assert "***" in seen, "the server did repeat it"
    classifier = PerspectiveClassifier(SecretStr(KEY))
    printed = capfd.readouterr()
    everything = f"{seen} {classifier!r} {vars(classifier)} {caplog.text} {printed.out} {printed.err}"
    assert KEY not in everything


def test_the_key_comes_from_the_environment(stub, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", f" {KEY}\n")
    server = stub(says(0.5))
    assert scores(PerspectiveClassifier(url=server.url), ["text"]) == [0.5]
    assert KEY in server.asked[0][1].values()


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_without_a_key_the_message_says_how_to_give_one_and_what_else_there_is(value, monkeypatch):
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("PERSPECTIVE_API_KEY", value)
    with pytest.raises(UserError, match="set the environment variable PERSPECTIVE_API_KEY, or name a local"):
        PerspectiveClassifier()
    with pytest.raises(UserError, match="PERSPECTIVE_API_KEY"):
        make_classifier("perspective")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_is_none_is_refused_without_being_printed(key):
    with pytest.raises(UserError, match="characters that no key has") as caught:
        PerspectiveClassifier(SecretStr(key))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "file:///etc/passwd"},
        {"url": "commentanalyzer.googleapis.com"},
        {"attempts": 0},
        {"in_flight": 0},
        {"timeout_s": 0},
        {"timeout_s": math.nan},
    ],
)
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="Perspective API"):
        PerspectiveClassifier(SecretStr(KEY), **options)


# -- by name ---------------------------------------------------------------------------------------------------------


def test_a_classifier_is_made_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    folder = str(make_model(tmp_path, labels=("LABEL_0", "LABEL_1")))
    assert make_classifier("perspective").name == "perspective"
    local = make_classifier(folder, toxic_labels=["LABEL_1"])
    assert (type(local), local.name, local.toxic_labels) == (LocalClassifier, folder, ("LABEL_1",))
    with pytest.raises(UserError, match="toxic_labels is for local models"):
        make_classifier("perspective", toxic_labels=["toxic"])


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_message_says_what_can_be_given(name):
    with pytest.raises(UserError, match=r"no toxicity classifier given; .*folder or hub id.*or 'perspective'"):
        make_classifier(name)


def test_a_thought_is_not_read_and_an_answer_that_is_only_a_thought_has_no_score(monkeypatch):
    class Longer:
        async def toxicity(self, texts):
            return [len(text) / 100 for text in texts]

    monkeypatch.setattr("utilities.scorers.toxicity.make_classifier", lambda *_, **__: Longer())
    items = [Item(id=str(k), question="Go on:") for k in range(3)]
    texts = ["<think>long and rude</think>Nice", "Nice", "<think>rude"]
    thought, plain, unended = asyncio.run(Toxicity("mine").score(items, [Response(text) for text in texts]))
    assert thought == plain == Score(0.96, {"toxicity": 0.04})
    assert isinstance(unended, Unscored) and unended.reason is Reason.TRUNCATED
