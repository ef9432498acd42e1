"""The conformance suite of engines on each engine; one that is not installed is skipped."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from harness.engines.base import engines
from harness.engines.settings import EngineSettings
from harness.testing import EngineConformance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ENGINES = ["local", "local on cuda", "vllm", "remote", "ray", "ray of vllm"]
NEEDS = {"vllm": ("vllm",), "remote": ("vllm",), "ray": ("ray",), "ray of vllm": ("ray", "vllm")}
"""Packages; the remote engine is tested against vLLM's own server."""


class TestEngine(EngineConformance):
    @pytest.fixture(scope="class", params=ENGINES)
    @classmethod
    def engine(cls, request, base, pool):
        """One engine at a time: the next one starts when the tests of this one are done."""
        for needed in NEEDS.get(request.param, ()):
            if importlib.util.find_spec(needed) is None:
                pytest.skip(f"{needed} is not installed")
        if request.param == "local on cuda" and not torch.cuda.is_available():
            pytest.skip("there is no GPU")
        name, _, device = request.param.removesuffix(" of vllm").partition(" on ")
        settings = {"dtype": "float32", "device": device or "cpu", "adapter_slots": 6}
        if request.param == "remote":
            settings["base_url"] = request.getfixturevalue("vllm_server").url
        if request.param == "ray":
            settings |= {"workers": 2, "worker_engine": "local"}
        if request.param == "ray of vllm":
            settings |= {"workers": 1, "worker_engine": "vllm"}
        engine = engines.get(name)(base, pool, EngineSettings(**settings), {})
        yield engine
        engine.close()
