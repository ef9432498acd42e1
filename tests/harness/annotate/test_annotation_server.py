import json
from http.client import HTTPConnection
from threading import Thread

import pytest
from text_run import make_text_run

from harness.annotate.pairs import make_key
from harness.annotate.server import AnnotationServer
from harness.annotate.verdicts import latest, read_verdicts
from utilities.errors import UserError


class Client:
    """A browser as far as HTTP goes."""

    def __init__(self, server):
        self.server = server

    def ask(self, method, path, body=None, **headers):
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=120)
        text = json.dumps(body) if isinstance(body, dict) else body
        kind = {"Content-Type": "application/json"} if text is not None else {}
        connection.request(method, path, text, {**kind, **headers})
        reply = connection.getresponse()
        content = reply.read().decode()
        connection.close()
        return reply.status, content

    def say(self, pair, verdict, rater="ann", **more):
        return self.ask(
            "POST",
            "/verdicts",
            {"annotation": self.server.key.id, "pair": pair, "rater": rater, "verdict": verdict} | more,
        )


@pytest.fixture
def key(tmp_path):
    key = make_key(make_text_run(tmp_path / "run"), "best-initial", 50, 2, 0)
    key.save()
    return key


@pytest.fixture
def client(key):
    with AnnotationServer(key, 0) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Client(server)
        server.shutdown()


def test_verdicts_are_on_the_disk_before_the_answer_and_undone_ones_are_gone(client, key):
    assert client.say(0, "a", confidence=3, comment="shörter", seconds=1.5) == (204, "")
    (line,) = map(json.loads, key.verdicts.read_text().splitlines())
    assert line == {
        "annotation": key.id, "pair": 0, "rater": "ann", "verdict": "a", "confidence": 3, "comment": "shörter",
        "seconds": 1.5, "item": key.pairs[0].item, "instruction": key.pairs[0].instruction,
        "a": key.pairs[0].a, "b": key.pairs[0].b,
    }  # fmt: skip
    client.say(1, "both bad")
    client.say(1, None)
    client.say(0, "b", rater="bob")
    status, content = client.ask("GET", "/verdicts?rater=ann")
    assert status == 200 and [(one["pair"], one["verdict"]) for one in json.loads(content)] == [(0, "a")]
    assert len(read_verdicts([key.verdicts])) == 4 and len(latest(read_verdicts([key.verdicts]))) == 2


def test_a_server_that_starts_again_has_all_verdicts_also_after_a_cut_line(client, key):
    client.say(0, "a")
    with key.verdicts.open("a") as file:
        file.write('{"annotation": "')  # killed while writing
    with AnnotationServer(key, 0) as again:
        Thread(target=again.serve_forever, args=(0.01,), daemon=True).start()
        assert [one["pair"] for one in json.loads(Client(again).ask("GET", "/verdicts?rater=ann")[1])] == [0]
        with pytest.raises(UserError, match=f"--port {again.server_port}: .*choose another port"):
            AnnotationServer(key, again.server_port)
        again.shutdown()


def test_the_page_comes_without_the_key_and_other_paths_do_not_exist(client):
    status, text = client.ask("GET", "/")
    assert status == 200 and "Advise on 3." in text and "winner" not in text.replace("winner says", "")
    assert client.ask("GET", "/../settings.yaml")[0] == client.ask("POST", "/page", {})[0] == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"pair": 14}, 409),
        ({"annotation": "another"}, 409),
        ({"pair": -1}, 400),
        ({"verdict": "c"}, 400),
        ({"rater": " "}, 400),
        ({"rater": "a\x1b[31m"}, 400),
        ({"confidence": 4}, 400),
        ({"comment": "x" * 10_001}, 400),
        ({"comment": "x" * 200_000}, 413),
    ],
)
def test_what_is_no_verdict_is_refused_and_not_stored(client, key, change, status):
    assert client.say(**{"pair": 0, "verdict": "a", **change})[0] == status
    assert not key.verdicts.exists()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Content-Type": "text/plain"}]
)
def test_other_sites_cannot_read_or_write_through_the_browser(client, key, headers):
    body = {"annotation": key.id, "pair": 0, "rater": "ann", "verdict": "a"}
    assert client.ask("POST", "/verdicts", body, **headers)[0] == 403
    if "Content-Type" not in headers:
        assert client.ask("GET", "/", **headers)[0] == 403
    assert not key.verdicts.exists()
