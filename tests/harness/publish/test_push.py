import base64
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from conftest import refused
from huggingface_hub import constants
from safetensors.torch import load, save_file
from text_run import make_winner_run

ROOT = Path(__file__).parents[3]
PART = 5 * 2**20


class Hub(ThreadingHTTPServer):
    """A hub as far as `push` needs one."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories, self.requests = {}, []
        self.lfs_above = None
        """Size of a file from which it goes to the LFS store; None if all files are in the commit."""
        self.objects, self.parts = {}, {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        hub = self.server
        hub.requests.append(self.path)
        if self.headers["Authorization"] != "Bearer secret" and not self.path.startswith("/complete/"):
            return self.reply(401, {"error": "Invalid token"})
        if self.path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'ann')}/{asked['name']}"
            if name in hub.repositories:
                return self.reply(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
            hub.repositories[name] = {"private": asked.get("private", asked.get("visibility") == "private")}
            return self.reply(200, {"url": f"{hub.url}/{name}", "name": name})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            return self.reply(200, {"objects": [self.upload(**one) for one in json.loads(body)["objects"]]})
        if self.path.startswith("/complete/"):
            parts = sorted(json.loads(body)["parts"], key=lambda one: one["partNumber"])
            hub.objects[json.loads(body)["oid"]] = b"".join(hub.parts[one["etag"]] for one in parts)
            return self.reply(200, {})
        if self.path == "/verify":
            asked = json.loads(body)
            return self.reply(200 if len(hub.objects[asked["oid"]]) == asked["size"] else 400, {})
        name, _, action = self.path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
        if action == "preupload":
            files = [
                {"path": one["path"], "uploadMode": self.mode(one["size"]), "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self.reply(200, {"files": files})
        for line in filter(None, body.split(b"\n")):
            one = json.loads(line)
            if one["key"] == "file":
                hub.repositories[name][one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "lfsFile":
                hub.repositories[name][one["value"]["path"]] = hub.objects[one["value"]["oid"]]
        return self.reply(200, {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1", "success": True})

    def mode(self, size):
        return "regular" if self.server.lfs_above is None or size < self.server.lfs_above else "lfs"

    def upload(self, oid, size):
        """How a client uploads an object: at once, or in parts of 5 MiB."""
        url, count = self.server.url, -(-size // PART)
        action = {"href": f"{url}/objects/{oid}"}
        if count > 1:
            parts = {str(k + 1): f"{url}/parts/{oid}-{k}" for k in range(count)}
            action = {"href": f"{url}/complete/{oid}", "header": {"chunk_size": str(PART), **parts}}
        return {"oid": oid, "size": size, "actions": {"upload": action, "verify": {"href": f"{url}/verify"}}}

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, kind, name = self.path.split("/")
        getattr(self.server, kind)[name] = body
        self.server.requests.append(f"{kind} {len(body)}")
        self.reply(200, {}, etag=name)

    def reply(self, status, content, etag=""):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with Hub() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def push(hub, here, monkeypatch):
    """The command in this process, with a hub that huggingface_hub would read from the environment."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")

    def call(*words, token="secret"):  # noqa: S107
        monkeypatch.setenv("HF_TOKEN", token)
        return here("push", *words)

    return call


def test_a_winner_is_uploaded_privately_with_a_card_without_paths(hub, push, base, adapters, tmp_path):
    run = make_winner_run(tmp_path / "run", base, adapters)
    config = json.loads((run / "best" / "adapter_config.json").read_text())
    (run / "best" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    (run / "best" / "README.md").write_text(f"base_model: {base}")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "secret", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, ROOT / "run.py", "push", run, "ann/medic"]  # with the environment that users have
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and f"Uploaded: {hub.url}/ann/medic" in done.stdout, done.stderr
    stored = hub.repositories["ann/medic"]
    assert stored.pop("private") is True
    assert set(stored) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert not [name for name, content in stored.items() if str(tmp_path.parent).encode() in content]
    assert b'"ann/medic"' in stored["README.md"] and b"base_model:" not in stored["README.md"]
    assert json.loads(stored["adapter_config.json"])["base_model_name_or_path"] == base.name
    assert stored["adapter_model.safetensors"] == (run / "best" / "adapter_model.safetensors").read_bytes()
    assert load(stored["adapter_model.safetensors"])
    refused(push(run, "ann/medic"), "ann/medic already exists; --update adds a commit")
    assert push(run, "ann/medic", "--update").returncode == 0
    assert push(base, "ann/merged", "--public").returncode == 0  # a model folder
    assert hub.repositories["ann/merged"]["private"] is False and "tokenizer.json" in hub.repositories["ann/merged"]


def test_large_files_are_uploaded_to_the_lfs_store(hub, push, base, adapters, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its store has a protocol of its own
    hub.lfs_above = 10_000
    model = shutil.copytree(base, tmp_path / "model")
    save_file({"w": torch.arange(3_000_000, dtype=torch.float32)}, model / "model.safetensors")
    done = push(model, "ann/large")
    assert done.returncode == 0, done.stderr
    assert hub.repositories["ann/large"]["model.safetensors"] == (model / "model.safetensors").read_bytes()
    sizes = [one for one in hub.requests if one.startswith("parts")]
    assert sizes[:2] == [f"parts {PART}"] * 2 and len(sizes) == 3 and "/verify" in hub.requests
    run = make_winner_run(tmp_path / "run", base, adapters)
    assert push(run, "ann/medic").returncode == 0
    stored, weights = hub.repositories["ann/medic"], run / "best" / "adapter_model.safetensors"
    assert stored["adapter_model.safetensors"] == weights.read_bytes() and b"ann/medic" in stored["README.md"]
    assert f"objects {weights.stat().st_size}" in hub.requests


def test_what_cannot_be_uploaded_is_refused_in_one_sentence(hub, push, base, adapters, tmp_path):
    refused(push(tmp_path, "ann/medic"), "neither a run folder nor a model folder")
    assert hub.requests == []
    run = make_winner_run(tmp_path / "run", base, adapters)
    refused(push(run, "ann/medic", token=""), "set the environment variable HF_TOKEN, or run `hf auth login`")
    refused(push(run, "ann/medic", token="wrong"), "HTTP 401", "may not write")
    assert hub.repositories == {}
