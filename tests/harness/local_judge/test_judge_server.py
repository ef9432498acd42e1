"""The local judge as a client of hosted models meets it, and its process as the one who starts it does."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import openai
import pytest

from harness.embedded import BASE, EXPERTS
from harness.local_judge.model import LocalJudge, Question
from harness.local_judge.server import MAX_BODY, NAME, JudgeProcess, JudgeServer
from utilities.errors import UserError

ROOT = Path(__file__).parents[3]
ADAPTER = EXPERTS / "look-up"
ASKED = {"model": NAME, "messages": [{"role": "user", "content": "Question: What is a volt?\nAnswer:"}]}


@pytest.fixture(scope="module")
def server():
    with JudgeServer(lambda: LocalJudge(BASE, ADAPTER), NAME) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(server):
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield lambda **changed: client.chat.completions.create(**{**ASKED, "temperature": 0, **changed})


def connect(server):
    return socket.create_connection(server.server_address[:2], timeout=30)


def post(body, *, path="/v1/chat/completions", headers=None):
    """A request as it goes over the line."""
    body = json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = {"Host": "here", "Content-Length": len(body), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def read(line):
    """Status and document of the next answer of a connection."""
    file = line.makefile("rb")
    head = [file.readline()]
    while head[-1] not in {b"\r\n", b""}:
        head.append(file.readline())
    length = next(int(text.split(b":")[1]) for text in head if text.lower().startswith(b"content-length"))
    return int(head[0].split()[1]), json.loads(file.read(length))


def raw(server, request):
    with connect(server) as line:
        line.sendall(request)
        return read(line)


def refused(server, request, status, *words, code=None):
    """Asserts that a request is refused in the protocol's own format, and that the server goes on."""
    got, document = raw(server, request)
    assert got == status, document
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert document["error"]["code"] == code
    for word in words:
        assert word in document["error"]["message"]
    assert raw(server, b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n") == (200, {"status": "ok"})
    return document["error"]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_model_is_listed(server):
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        assert [model.id for model in client.models.list()] == [NAME]


def test_an_answer_has_all_that_the_client_reads(ask, server):
    found = ask(max_tokens=20)
    prompt = len(server.judge.row(Question([("user", ASKED["messages"][0]["content"])])).ids)
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].message.content.strip()
    assert found.choices[0].finish_reason == "stop"
    assert found.choices[0].logprobs is None
    assert (found.model, found.object) == (NAME, "chat.completion")
    assert found.usage.prompt_tokens == prompt
    assert found.usage.total_tokens == prompt + found.usage.completion_tokens


def test_either_name_of_the_limit_cuts(ask):
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}, {"max_completion_tokens": 2, "max_tokens": 9}):
        found = ask(**limit)
        assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("length", 2)


def test_log_probabilities_come_in_the_protocols_format(ask):
    found = ask(max_tokens=3, logprobs=True, top_logprobs=20).choices[0].logprobs.content
    assert len(found) == 3
    for token in found:
        assert bytes(token.bytes).decode() == token.token
        assert len(token.top_logprobs) == 20
        likeliest = token.top_logprobs[0]
        assert (likeliest.token, likeliest.logprob) == (token.token, token.logprob)
    assert ask(max_tokens=1, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_one_stop_string_or_several(ask):
    whole = ask(max_tokens=6).choices[0].message.content
    mark = whole.split()[0][-1]
    for stop in (mark, ["never", mark]):
        found = ask(max_tokens=6, stop=stop).choices[0]
        assert (found.message.content, found.finish_reason) == (whole[: whole.index(mark)], "stop")


def test_sampling_is_repeated_by_its_seed_and_the_default_temperature_is_the_protocols(ask):
    drawn = [ask(max_tokens=8, temperature=openai.omit, seed=5).choices[0].message.content for _ in range(2)]
    assert drawn[0] == drawn[1]
    others = {ask(max_tokens=8, temperature=openai.omit, seed=s).choices[0].message.content for s in range(6)}
    assert len(others) > 1


def test_what_changes_nothing_is_accepted(ask):
    plain = ask(max_tokens=3).choices[0].message.content
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    more = ask(max_tokens=3, n=1, stream=False, top_p=1.0, presence_penalty=0, response_format=schema, user="me")
    assert more.choices[0].message.content == plain


def test_contents_in_parts_are_one_text(ask):
    text = ASKED["messages"][0]["content"]
    parts = [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]
    found = ask(max_tokens=5, messages=[{"role": "user", "content": parts}])
    assert found.choices[0].message.content == ask(max_tokens=5).choices[0].message.content


def test_a_connection_is_kept_for_further_requests(server):
    with connect(server) as line:
        for _ in range(3):
            line.sendall(post({**ASKED, "max_tokens": 1}))
            assert read(line)[0] == 200
        line.sendall(post(b"{"))
        assert read(line)[0] == 400
        line.sendall(post({**ASKED, "max_tokens": 1}))
        assert read(line)[0] == 200


def test_64_connections_are_held(server):
    lines = [connect(server) for _ in range(64)]
    try:
        for line in lines:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        assert [read(line)[0] for line in lines] == [200] * 64
    finally:
        for line in lines:
            line.close()


def test_16_requests_at_the_same_time_are_one_batch_and_answered_as_alone(server, ask, monkeypatch):
    asked = [
        {
            "messages": [{"role": "user", "content": f"Question: {'What is a volt? ' * k}\nAnswer:"}],
            "max_tokens": k % 5 + 1,
        }
        for k in range(16)
    ]
    alone = [ask(**one, logprobs=True) for one in asked]
    sizes, go, answer = [], threading.Event(), server.judge.answer

    def watched(rows):
        sizes.append(len(rows))
        go.wait(30)
        answer(rows)

    monkeypatch.setattr(server.judge, "answer", watched)

    async def together():
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            first = asyncio.create_task(client.chat.completions.create(**ASKED, temperature=0, max_tokens=1))
            while not sizes:  # a first batch keeps the model busy
                await asyncio.sleep(0.001)
            tasks = [
                asyncio.create_task(client.chat.completions.create(**{**ASKED, **one}, temperature=0, logprobs=True))
                for one in asked
            ]
            while server.judge.waiting < len(asked):
                await asyncio.sleep(0.001)
            go.set()
            await first
            return await asyncio.gather(*tasks)

    found = asyncio.run(together())
    assert sizes == [1, 16]
    for one, other in zip(alone, found, strict=True):
        assert other.choices[0].message == one.choices[0].message
        assert other.usage == one.usage
        pairs = zip(one.choices[0].logprobs.content, other.choices[0].logprobs.content, strict=True)
        assert all(b.logprob == pytest.approx(a.logprob, abs=1e-4) for a, b in pairs)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_another_models_name_is_not_found(ask):
    with pytest.raises(openai.NotFoundError) as error:
        ask(model="gpt-4o")
    assert error.value.code == "model_not_found"
    assert NAME in str(error.value)


def test_a_prompt_longer_than_the_context_is_refused_by_name(ask):
    with pytest.raises(openai.BadRequestError) as error:
        ask(messages=[{"role": "user", "content": "volt " * 3000}])
    assert error.value.code == "context_length_exceeded"
    assert "2048" in str(error.value)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 2),
        ("stream", True),
        ("top_p", 0.5),
        ("presence_penalty", 1.0),
        ("logit_bias", {"5": 1}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("messages", []),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]),
        ("messages", [{"role": "pope", "content": "x"}]),
        ("max_tokens", 0),
        ("max_tokens", "many"),
        ("temperature", -0.1),
        ("temperature", 2.5),
        ("top_logprobs", 21),
        ("stop", [""]),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(server, param, value):
    error = refused(server, post({**ASKED, "max_tokens": 1, "logprobs": True, param: value}), 400, param)
    assert error["param"] == param


def test_top_logprobs_need_logprobs(server):
    refused(server, post({**ASKED, "top_logprobs": 3}), 400, "logprobs: true")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": NaN}',
        b"null",
        b"[]",
        b'"x"',
        b'{"model": "\\ud800"}',
        b"1e999",
    ],
)
def test_what_is_no_json_object_is_refused(server, body):
    refused(server, post(body), 400)


def test_a_body_over_4_mb_is_refused_and_its_sender_reads_so(server, ask):
    with pytest.raises(openai.APIStatusError) as error:
        ask(messages=[{"role": "user", "content": "x" * (2 * MAX_BODY)}])
    assert error.value.status_code == 413
    refused(server, post(b"", headers={"Content-Length": 10**30}), 413)


def test_malformed_requests_are_refused_in_the_protocols_format(server):
    refused(server, b"hello\r\n\r\n", 400)
    refused(server, b"GET /v1/models HTTP/9.9\r\n\r\n", 505)
    refused(server, b"BREW /v1/models HTTP/1.1\r\n\r\n", 501)
    refused(server, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414)
    refused(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431)
    refused(server, b"GET /v2 HTTP/1.1\r\n\r\n", 404, "/v2")
    refused(server, post(ASKED, path="/v1/completions"), 404, "/v1/chat/completions")
    refused(server, post(ASKED, headers={"Content-Length": "-1"}), 400, "Content-Length")
    refused(server, post(ASKED, headers={"Content-Length": None}), 411)
    refused(server, post(b"0\r\n\r\n", headers={"Content-Length": None, "Transfer-Encoding": "chunked"}), 411)


def test_clients_that_go_away_leave_the_server_as_it_was(server, capfd):
    for request in (post(ASKED)[:-5], post({**ASKED, "max_tokens": 5}), b"POST /v1"):
        with connect(server) as line:
            line.sendall(request)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not an ordinary end
    assert raw(server, post({**ASKED, "max_tokens": 1}))[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_in_the_model_is_the_servers_and_may_be_tried_again(server, ask, monkeypatch):
    def broken(rows):
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(server.judge, "answer", broken)
        with pytest.raises(openai.InternalServerError, match="no memory left"):
            ask(max_tokens=1)
    assert ask(max_tokens=1).usage.completion_tokens == 1


def test_a_model_that_cannot_be_loaded_leaves_its_port(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="no such folder"):
        JudgeServer(lambda: LocalJudge(tmp_path / "nothing"), NAME, port=port)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_an_address_that_is_not_of_this_machine_is_a_users_mistake():
    with pytest.raises(UserError, match=re.escape("192.0.2.1:0 cannot be bound")):
        JudgeServer(lambda: LocalJudge(BASE), NAME, host="192.0.2.1")


# -- processes ---------------------------------------------------------------------------------------------------------


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listening(url):
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.slow
def test_a_judge_process_answers_and_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the working directory was imported')")
    monkeypatch.chdir(tmp_path)
    with JudgeProcess(adapter=ADAPTER) as judge:
        with openai.OpenAI(base_url=judge.url, api_key="none") as client:
            assert client.chat.completions.create(**ASKED, max_tokens=2).model == judge.name == NAME
        pid = judge._child.pid
    assert not alive(pid)
    assert not listening(judge.url)
    judge.close()


def test_a_judge_process_that_does_not_start_says_why(tmp_path):
    with pytest.raises(UserError, match=r"could not be started: .*nothing: there is no such adapter folder"):
        JudgeProcess(adapter=tmp_path / "nothing")


def test_the_verb_says_in_one_sentence_what_it_cannot_serve(here, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in (
            (["--adapter", ADAPTER, "--port", port], f"port {port} of 127.0.0.1 is in use"),
            (["--adapter", tmp_path / "nothing"], "no such adapter folder"),
            (["--model", tmp_path / "nothing", "--port", 0], "no such folder"),
            (["--port", 70000], "65535"),
        ):
            done = here("serve-judge", *arguments)
            assert done.returncode == 2
            assert len([line for line in done.stderr.splitlines() if line.startswith("Error:")]) == 1
            assert words in done.stderr


@pytest.mark.slow
def test_a_judge_process_ends_with_a_parent_that_is_killed():
    code = (
        "import time; from harness.embedded import BASE; from harness.local_judge.server import JudgeProcess\n"
        "judge = JudgeProcess(adapter=None); print(judge._child.pid, judge.url, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid, url = parent.stdout.readline().split()
    assert alive(pid)
    assert listening(url)
    parent.kill()
    parent.communicate()
    while alive(pid) or listening(url):  # for ever, where the child stays: the test's time limit ends it
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_ends_the_verb_with_130_and_frees_its_port():
    verb = subprocess.Popen(
        [sys.executable, "run.py", "serve-judge", "--adapter", str(ADAPTER), "--port", "0", "--threads", "1"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background has made them ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    url = re.search(r"http://[^ ]+/v1", verb.stdout.readline())[0]
    assert f"--judge look-up --judge-url {url}" in verb.stdout.readline()
    with openai.OpenAI(base_url=url, api_key="none") as client:
        assert (
            client.chat.completions.create(**{**ASKED, "model": "look-up"}, max_tokens=1).usage.completion_tokens == 1
        )
    verb.send_signal(signal.SIGINT)
    _, err = verb.communicate(timeout=60)
    assert verb.returncode == 130
    assert "Traceback" not in err
    assert not listening(url)
