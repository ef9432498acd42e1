"""A server for tests that loads LoRA adapters while it runs: real HTTP, real arithmetic, bad on purpose where a test
says so.

It speaks what the remote engine needs of vLLM's server: `/v1/models`, `/tokenize`, `/v1/load_lora_adapter`,
`/v1/unload_lora_adapter` and `/v1/completions` with token ids, log-probabilities of prompts and of chosen tokens.
`server.script[path]` holds answers that come before the good ones; the attributes make it another kind of server.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from held_port import hold_port
from safetensors.torch import load_file
from stub_server import Answer, error
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["LoraStub"]


class LoraStub:
    """Serves the base model `base` under the name `name` between `__enter__` and `__exit__`."""

    def __init__(self, base: Path, name: str = "tiny", key: str | None = None) -> None:
        self.name, self.key = name, key
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.requests: list[tuple[str, Mapping[str, str], Any]] = []
        self.loaded: dict[str, Path] = {}
        self.loads: list[tuple[str, Path]] = []
        self.most_loaded = 0
        self.in_flight = self.most_in_flight = 0
        self.runtime_lora = True  # whether the endpoints for adapters are there
        self.refuses = ""  # what is said of every adapter
        self.forgets = False  # adapters that are loaded are not known afterwards
        self.deaf = False  # adapters are loaded and the base model answers
        self.scale = 1.0  # a factor of what adapters change
        self.context: int | None = 512
        self.serve(base)
        self._changes: dict[str, dict[str, torch.Tensor]] = {}
        self._computing, self._counting = _COMPUTING, threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._held = hold_port()
        self.port = self._held.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def serve(self, base: Path, listed: bool = True) -> None:
        """Takes another base model, under the same name; `listed`: its folder can be seen in the list of models."""
        if listed:
            self.models = [{"id": self.name, "root": str(base), "parent": None}]
        self.tokenizer, self._model, self._pristine = _read(base)

    def __enter__(self) -> LoraStub:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._held.close()

    def start(self) -> None:
        """Begins to listen, after `stop` again at the same port, which no other process can have taken."""
        stub = self

        class Handler(_Handler):
            server_of = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Ends as a server that crashes, adapters and all."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.forget()

    def forget(self) -> None:
        """What a restart does."""
        self.loaded.clear()

    def asked(self, path: str) -> list[Any]:
        """Bodies of the requests for one path."""
        return [body for where, _, body in self.requests if where == path]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self._counting:
            self.requests.append((path, headers, body))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.script[path]:
                return self.script[path].popleft()
            if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
                return error(401, f"wrong key {headers.get('authorization')}")
            known = {
                ("GET", "/v1/models"): self._models,
                ("POST", "/tokenize"): self._tokenize,
                ("POST", "/v1/completions"): self._complete,
            }
            if self.runtime_lora:
                known |= {
                    ("POST", "/v1/load_lora_adapter"): self._load,
                    ("POST", "/v1/unload_lora_adapter"): self._unload,
                }
            if (method, path) not in known:
                return Answer(b'{"detail": "Not Found"}', 404)
            with self._computing:
                return known[method, path](body)
        finally:
            with self._counting:
                self.in_flight -= 1

    def _models(self, _: Any) -> Answer:
        bases = [{**one, "max_model_len": self.context} for one in self.models]
        return _json({"object": "list", "data": [*bases, *({"id": n, "parent": self.name} for n in self.loaded)]})

    def _tokenize(self, body: Any) -> Answer:
        return _json({"tokens": self.tokenizer(body["prompt"])["input_ids"]})

    def _load(self, body: Any) -> Answer:
        name, path = body["lora_name"], Path(body["lora_path"])
        if self.refuses:
            return error(500, self.refuses)
        if name in self.loaded:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_config.json").exists():
            return error(404, f"Loading lora {name} failed: No adapter found for {path}")
        assert name not in [n for n, _ in self.loads] and path not in [p for _, p in self.loads], "used before"
        self._changes[name] = _changes(path)
        self.loads.append((name, path))
        if not self.forgets:
            self.loaded[name] = path
        self.most_loaded = max(self.most_loaded, len(self.loaded))
        return Answer(f"Success: LoRA adapter '{name}' added successfully.".encode())

    def _unload(self, body: Any) -> Answer:
        if body["lora_name"] not in self.loaded:
            return error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        del self.loaded[body["lora_name"]]
        return Answer(b"Success")

    def _complete(self, body: Any) -> Answer:
        name = body["model"]
        if name != self.name and name not in self.loaded and not (self.deaf and self.forgets):
            return error(404, f"The model `{name}` does not exist.")
        changes = {} if name == self.name or self.deaf else self._changes[name]
        for module, weight in self._pristine.items():
            parameter = self._model.get_parameter(module + ".weight").data
            parameter.copy_(weight + self.scale * changes[module] if module in changes else weight)
        choices = [self._choice(k, ids, body) for k, ids in enumerate(body["prompt"])]
        return _json({"object": "text_completion", "model": name, "choices": choices[::-1]})  # `index` tells the order

    @torch.inference_mode()
    def _choice(self, index: int, prompt: list[int], body: Any) -> dict[str, Any]:
        ids, reason = list(prompt), "length"
        logprobs = self._model(torch.tensor([ids])).logits[0].log_softmax(-1)
        choice: dict[str, Any] = {"index": index, "text": ""}
        if body.get("prompt_logprobs") is not None:
            own = [logprobs[k, token].item() for k, token in enumerate(ids[1:])]
            choice["prompt_logprobs"] = [None, *({str(t): {"logprob": p}} for t, p in zip(ids[1:], own, strict=True))]
        if body.get("logprob_token_ids"):
            top = {f"token_id:{token}": logprobs[-1, token].item() for token in body["logprob_token_ids"]}
            choice["logprobs"] = {"top_logprobs": [top]}
        new: list[int] = []
        while len(new) < body["max_tokens"]:
            new.append(int(logprobs[-1].argmax()))
            if new[-1] in {1, *body.get("stop_token_ids", ())}:
                reason = "stop"
                break
            if any(mark in self.tokenizer.decode(new) for mark in body.get("stop") or ()):
                reason = "stop"
                break
            if len(new) < body["max_tokens"]:
                logprobs = self._model(torch.tensor([[*ids, *new]])).logits[0].log_softmax(-1)
        return {**choice, "token_ids": new if body.get("return_token_ids") else None, "finish_reason": reason}


@cache
def _read(base: Path) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """The tokenizer, the model, and a copy of its linear layers, which adapters change."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    linear = {name: m.weight.clone() for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    del linear["lm_head"]  # tied to the embedding
    return AutoTokenizer.from_pretrained(base), model, linear


def _changes(folder: Path) -> dict[str, torch.Tensor]:
    """Of each module what an adapter adds to its weight: s BA."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    paths = {
        key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]: key.rsplit(".lora_", 1)[0] for key in tensors
    }
    scale = config["lora_alpha"] / config["r"]
    return {m: scale * tensors[f"{k}.lora_B.weight"] @ tensors[f"{k}.lora_A.weight"] for m, k in paths.items()}


_COMPUTING = threading.Lock()  # of the models, which stubs share


def _json(document: Any) -> Answer:
    return Answer(json.dumps(document).encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of: LoraStub

    def do_GET(self) -> None:
        self._reply(self.server_of.answer("GET", self.path, self._headers(), None))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(self.server_of.answer("POST", self.path, self._headers(), body))

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _reply(self, answer: Answer) -> None:
        if self.server_of._server is None:  # stopped while it computed
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
        self.close_connection = self.close_connection or answer.cut

    def log_message(self, *_: Any) -> None:
        pass
