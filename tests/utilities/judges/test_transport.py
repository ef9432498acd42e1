"""Connections to a judge: proxies of the environment, and certificates."""

import asyncio
import shutil
import ssl
import subprocess

import pytest
from stub_server import JudgeServer

from utilities.errors import UserError
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.client import JudgeStopped
from utilities.judges.openai_chat import transport
from utilities.judges.parsing import Message
from utilities.judges.providers import openai_judge

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def ask(url, timeout=20.0):
    client = openai_judge(
        "m", base_url=url, price=Price(0, 0), cache=JudgementCache(), budget=Budget(), attempts=1, timeout=timeout
    )
    try:
        return asyncio.run(client.ask([Message("user", "Rate this.")], max_tokens=10))
    finally:
        client.cache.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "all_proxy"])
def test_a_proxy_of_the_environment_is_used(judge_server, monkeypatch, name):
    monkeypatch.setenv(
        name, judge_server.url.removesuffix("/v1").removeprefix("http://" if name == "all_proxy" else "")
    )
    assert ask("http://judge.invalid/v1").text == "Rating: 7/10"
    assert judge_server.requests[0].headers["host"] == "judge.invalid"
    assert judge_server.requests[0].path == "http://judge.invalid/v1/chat/completions"


def test_hosts_of_no_proxy_are_reached_directly(judge_server, monkeypatch):
    monkeypatch.setenv("http_proxy", judge_server.url)
    monkeypatch.setenv("no_proxy", "judge.invalid")
    with pytest.raises(JudgeStopped, match="No server was reached"):
        ask("http://judge.invalid/v1")
    assert judge_server.count == 0


def test_a_proxy_that_cannot_be_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "gopher://localhost:70")
    with pytest.raises(UserError, match="proxy of the environment"):
        ask("http://judge.invalid/v1")
    with pytest.raises(UserError, match="proxy of the environment"):
        transport("http://judge.invalid/v1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of localhost, and its key, in one file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl command makes a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "own.pem"]
    subprocess.run([openssl, *new, *subject, *files], check=True, capture_output=True)
    path = folder / "cert.pem"
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "own.pem").read_bytes())
    return path


@pytest.fixture
def secure_url(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with JudgeServer(tls=context) as server:
        yield server.url.replace("http://127.0.0.1", "https://localhost")


def test_https_on_this_machine_needs_its_authority(secure_url, certificate, monkeypatch):
    with pytest.raises(JudgeStopped, match=r"certificate is not trusted: .*Set the environment variable SSL_CERT_FILE"):
        ask(secure_url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(secure_url).text == "Rating: 7/10"


def test_a_file_of_certificates_that_does_not_exist_is_named(secure_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(UserError, match=r"missing\.pem cannot be read"):
        ask(secure_url)


def test_https_to_a_server_that_speaks_http_says_so(judge_server):
    with pytest.raises(JudgeStopped, match="does the server speak https"):
        ask(judge_server.url.replace("http:", "https:"))
