"""`serve`: vLLM's own OpenAI server with a run's winner and experts as named adapters, or with a bare base model.

This process becomes the server, so that signals reach it and nothing stays behind. What it is started with is made
here, apart from that, as `Serving`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

import yaml

from harness.embedded import BASE, EXPERTS
from harness.engines.adapter_slots import CPU_BATCH, lora_rank
from harness.engines.base import INSTALL_VLLM
from harness.experts.pool import Expert, LoraPool, base_shapes, open_pool, resolve
from harness.run_folder.result import Result
from harness.session.settings import EMBEDDED, RunSettings
from utilities.errors import UserError, first_line

__all__ = ["PORT", "WINNER", "Serving", "run_serve", "serving_base", "serving_run"]

PORT = 8000
"""Where vLLM listens by default."""
WINNER = "winner"
"""What clients call the winner."""
RANK, SLOTS = 16, 20
"""Rank and number of the adapters that a server makes room for before it knows them: `-- --max-lora-rank` and
`-- --max-loras` say otherwise. Every adapter computes at the full rank of its slot."""


@dataclass(frozen=True)
class Serving:
    """What a server is started with."""

    model: Path
    """Folder of the base model, or of a winner that is a model of its own."""
    name: str
    """What clients call it."""
    adapters: tuple[Expert, ...] = ()
    """Adapters and what clients call them."""
    rank: int | None = None
    """Largest rank of any adapter; None where none is or will be served."""
    modules: tuple[str, ...] = ()
    """Names of the modules that adapters may change. Where the output layer is one of them, vLLM answers for the
    log-probabilities of a prompt's tokens with some other request's adapter, and on a CPU not at all."""
    updates: bool = False
    """Whether clients may load adapters of their own while it runs."""
    trust_remote_code: bool = False

    def command(self, host: str, port: int, further: Sequence[str] = (), *, on_cpu: bool = False) -> list[str]:
        """vLLM's server as a command; `further` options come last and win."""
        # Not `vllm serve`, which does not start where the package has another name, as the CPU build's.
        command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(self.model), "--served-model-name", self.name, "--host", host, "--port", str(port)]
        if self.rank is not None:
            slots = max(len(self.adapters), SLOTS if self.updates else 1)
            command += ["--enable-lora", "--max-loras", str(slots), "--max-lora-rank", str(lora_rank(self.rank))]
            command += ["--lora-target-modules", *self.modules]
        if self.adapters:
            modules = ({"name": adapter.name, "path": str(adapter.folder)} for adapter in self.adapters)
            command += ["--lora-modules", *(json.dumps(module) for module in modules)]
        if self.trust_remote_code:
            command += ["--trust-remote-code"]
        if on_cpu:  # as the engines of this project compute there; compiling takes longer than most questions
            command += ["--dtype", "float32", "--enforce-eager", "--max-num-batched-tokens", str(CPU_BATCH)]
        return [*command, *further]

    def environment(self) -> dict[str, str]:
        """What vLLM reads from the environment; what the user has set stays."""
        given = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        asked = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if self.updates else {}
        return {**given, **os.environ, **asked}


def serving_run(folder: Path, *, experts: bool = False, updates: bool = False) -> Serving:
    """A run's base model and winner, and where asked its initial experts.

    Raises:
        UserError: No run, none with a result, or adapters that are not there or do not fit any more.
    """
    if not (folder / "settings.yaml").is_file():
        raise UserError(f"{folder} is no run folder: it holds no settings.yaml; `serve` takes runs/NAME")
    if not (folder / "result.json").is_file():
        raise UserError(f"{folder} has no result yet; finish it with `python run.py resume {folder}`")
    try:
        Result.model_validate_json((folder / "result.json").read_bytes())
        told = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
        settings = RunSettings(**told["settings"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        first = first_line(error)
        raise UserError(f"{folder} is damaged: {first}") from error
    trusted, best = settings.engine_settings.trust_remote_code, (folder / "best").resolve()
    base = resolve(settings.base_spec, code=trusted).resolve()
    if not (best / "adapter_config.json").is_file():  # a full model
        if not (best / "config.json").is_file():
            raise UserError(f"{best} holds no winner; it was written at the end of the run")
        if experts or updates:
            raise UserError(f"{folder}: the winner is a full model; it is served alone, without --experts or --updates")
        return Serving(best, WINNER, trust_remote_code=trusted)
    name = _name_of(settings.base_model)
    pools = [open_pool([str(best)], base, check_values=False, trust_remote_code=trusted)]
    adapters = [Expert(WINNER, best)]
    if experts:
        pools.append(open_pool(settings.expert_specs, base, check_values=False, trust_remote_code=trusted))
        for one in pools[1].experts:
            called = f"expert-{one.name}" if one.name in {name, WINNER} else one.name
            adapters.append(Expert(called, one.folder.resolve()))
    loras = [pool for pool in pools if isinstance(pool, LoraPool)]
    rank, modules = max(pool.rank for pool in loras), {_last(path) for pool in loras for path in pool.modules}
    if updates:
        modules |= _linear_modules(base, trusted)
    return Serving(base, name, tuple(adapters), rank, tuple(sorted(modules)), updates, trusted)


def serving_base(spec: str = EMBEDDED) -> Serving:
    """A bare base model that loads adapters while it runs, for `--engine remote`."""
    base = resolve(str(BASE) if spec == EMBEDDED else spec).resolve()
    modules = tuple(sorted(_linear_modules(base, trusted=False)))
    rank = RANK
    if spec == EMBEDDED:
        pool = open_pool([str(EXPERTS)], base, check_values=False)
        rank = pool.rank if isinstance(pool, LoraPool) else RANK
    return Serving(base, _name_of(spec), rank=rank, modules=modules, updates=True)


def run_serve(
    given: Sequence[str], base_model: str | None, host: str, port: int, *, experts: bool, updates: bool
) -> NoReturn:
    """The verb: becomes the server of a run, or of a bare base model.

    Args:
        given: The run folder, if any, and further options of vLLM's server.
        base_model: The bare base model, where no run is given; by default the embedded one.
        host: Address to bind; any other than loopback opens the server, which asks for no key, to a network.
        port: Port to bind.
        experts: Whether the run's initial experts are served too.
        updates: Whether clients of a run's server may load adapters; a bare base model's may in any case.

    Raises:
        UserError: vLLM is not installed, or there is nothing to serve.
    """
    run, further = (given[0], given[1:]) if given and not given[0].startswith("-") else (None, given)
    if run is not None and base_model is not None:
        raise UserError("a run brings its own base model: give a run folder or --base-model, not both")
    if run is None and experts:
        raise UserError("--experts are those of a run; name it: python run.py serve runs/NAME --experts")
    if importlib.util.find_spec("vllm") is None:
        raise UserError(f"vLLM is not installed, whose server this starts; install it with {INSTALL_VLLM}")
    serving = serving_run(Path(run), experts=experts, updates=updates) if run else serving_base(base_model or EMBEDDED)
    command = serving.command(host, port, further, on_cpu=_is_cpu_build())
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    names = ", ".join([serving.name, *(adapter.name for adapter in serving.adapters)])
    print(f"Starting {shlex.join(command)}")
    print(f"It will answer at {url} (Ctrl-C ends it). Models: {names}.", flush=True)
    if serving.updates:
        print(f"  python run.py --task TASK --engine remote --base-url {url}", flush=True)
    os.execve(command[0], command, serving.environment())  # noqa: S606 - this very interpreter, without a shell


def _linear_modules(base: Path, trusted: bool) -> set[str]:
    """Names of a model's linear layers, without the embedding and the output layer: those have a row for each token."""
    from transformers import AutoConfig

    tokens = AutoConfig.from_pretrained(base, trust_remote_code=trusted).get_text_config().vocab_size
    shapes = base_shapes(base, trust_remote_code=trusted)
    weights = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] != tokens]
    return {_last(name.removesuffix(".weight")) for name in weights}


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _name_of(spec: str) -> str:
    """What clients call a base model: embedded, the hub id, or the folder's name."""
    path = Path(spec).expanduser()
    return path.resolve().name if path.is_dir() else spec


def _is_cpu_build() -> bool:
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True
