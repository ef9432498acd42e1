"""`serve`: vLLM's own OpenAI server with a run's winner and experts as named adapters, or with a bare base model.

Without vLLM the server of transformers serves the winner, merged into its base model.

This process becomes the server, so signals reach it and no second process remains. `Serving` is the server's command
and environment.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness.cli.command import verb
from harness.embedded import BASE, EXPERTS
from harness.experts.environment import installed_server
from harness.session.settings import EMBEDDED, RunSettings
from utilities.bounded_input import read_yaml
from utilities.errors import UserError, first_line

if TYPE_CHECKING:
    from harness.experts.mixing import Expert

__all__ = ["PORT", "WINNER", "Serving", "run_serve", "serving_base", "serving_run"]

PORT = 8000
"""Where vLLM listens by default."""
WINNER = "winner"
"""What clients call the winner."""
RANK, SLOTS = 16, 20
"""Rank and number of the adapters that a server makes room for before it knows them: `-- --max-lora-rank` and
`-- --max-loras` say otherwise. Every adapter computes at the full rank of its slot."""


@verb("Use")
def serve(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [-- OPTIONS]", help="The run folder; after -- any options of vLLM's server."),
    ] = None,
    experts: Annotated[bool, typer.Option("--experts", help="Serve the run's initial experts too.")] = False,
    base_model: Annotated[
        str | None, typer.Option(help="Without a run: 'embedded' (the default), a folder, or a hub id.")
    ] = None,
    updates: Annotated[
        bool, typer.Option("--updates", help="Let clients load adapters. Always so without a run.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to bind. The server has no authentication; do not expose it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind.")] = PORT,
) -> None:
    """Serves a run's winner to any OpenAI client, or without a run the base model to `--engine remote`."""
    run_serve(arguments or [], base_model, host, port, experts=experts, updates=updates)


@dataclass(frozen=True)
class Serving:
    """The model and adapters of a server."""

    model: Path
    """Folder of the base model, or of a winner that is a model of its own."""
    name: str
    """What clients call it."""
    adapters: tuple[Expert, ...] = ()
    """Adapters and what clients call them."""
    rank: int | None = None
    """Largest rank of any adapter; None if no adapter is or will be served."""
    modules: tuple[str, ...] = ()
    """Names of the modules that adapters may change. If the output layer is one of them, vLLM computes the
    log-probabilities of a prompt's tokens with another request's adapter, and on a CPU it fails."""
    updates: bool = False
    """Whether clients may load adapters while the server runs."""
    trust_remote_code: bool = False

    def command(self, host: str, port: int, further: Sequence[str] = (), *, on_cpu: bool = False) -> list[str]:
        """The command of vLLM's server; `further` options come last and override the others."""
        from harness.engines.adapter_slots import CPU_BATCH, lora_rank

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
        if on_cpu:  # as the engines of this project on a CPU; compiling takes longer than most requests
            command += ["--dtype", "float32", "--enforce-eager", "--max-num-batched-tokens", str(CPU_BATCH)]
        return [*command, *further]

    def environment(self) -> dict[str, str]:
        """The environment of the server; variables that the user has set keep their values."""
        defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        required = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if self.updates else {}
        return {**defaults, **os.environ, **required}


def serving_run(folder: Path, *, experts: bool = False, updates: bool = False) -> Serving:
    """A run's base model and winner, and with `experts` its initial experts.

    Raises:
        UserError: Not a finished run, or adapters that are missing or no longer fit the base model.
    """

    from harness.experts.files import resolve
    from harness.experts.lora_pool import LoraPool
    from harness.experts.mixing import Expert
    from harness.experts.pool import open_pool
    from harness.run_folder.result import Result

    if not (folder / "settings.yaml").is_file():
        raise UserError(f"{folder} is no run folder (it has no settings.yaml); `serve` takes runs/NAME")
    if not (folder / "result.json").is_file():
        raise UserError(f"{folder} has no result yet; finish it with `python run.py resume {folder}`")
    try:
        Result.model_validate_json((folder / "result.json").read_bytes())
        document = read_yaml((folder / "settings.yaml").read_bytes())
        settings = RunSettings(**document["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} is corrupt: {first_line(error)}") from error
    trusted, best = settings.engine_settings.trust_remote_code, (folder / "best").resolve()
    base = resolve(settings.base_spec, code=trusted).resolve()
    if not (best / "adapter_config.json").is_file():  # a full model
        if not (best / "config.json").is_file():
            raise UserError(f"{best} holds no winner, which is written at the end of a run")
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
    from harness.experts.files import resolve
    from harness.experts.lora_pool import LoraPool
    from harness.experts.pool import open_pool

    base = resolve(str(BASE) if spec == EMBEDDED else spec).resolve()
    modules = tuple(sorted(_linear_modules(base, trusted=False)))
    rank = RANK
    if spec == EMBEDDED:
        pool = open_pool([str(EXPERTS)], base, check_values=False)
        rank = pool.rank if isinstance(pool, LoraPool) else RANK
    return Serving(base, _name_of(spec), rank=rank, modules=modules, updates=True)


def run_serve(
    arguments: Sequence[str], base_model: str | None, host: str, port: int, *, experts: bool, updates: bool
) -> NoReturn:
    """Replaces this process by the server of a run, or of a bare base model.

    Args:
        arguments: The run folder, if any, and further options of vLLM's server.
        base_model: The bare base model if no run is given; by default the embedded one.
        host: Address to bind; the server has no authentication.
        port: Port to bind.
        experts: Whether the run's initial experts are served too.
        updates: Whether clients of a run's server may load adapters; a bare base model's always may.

    Raises:
        UserError: No server is installed, it cannot serve this, or there is nothing to serve.
    """
    from harness.engines.base import INSTALL_VLLM

    has_run = bool(arguments) and not arguments[0].startswith("-")
    run, further = (arguments[0], arguments[1:]) if has_run else (None, arguments)
    if run is not None and base_model is not None:
        raise UserError("a run determines its base model: give a run folder or --base-model, not both")
    if run is None and experts:
        raise UserError("--experts needs a run folder: python run.py serve runs/NAME --experts")
    server = installed_server()
    if server is None:
        raise UserError(
            f"`serve` needs a server, and none is installed: {INSTALL_VLLM}, or for a run's winner alone the server of"
            " transformers: pip install -e '.[serve]'"
        )
    if server == "transformers":
        if run is None or experts or updates:
            raise UserError(
                "without vLLM only a run's winner is served: python run.py serve runs/NAME, without --experts and"
                f" --updates; install vLLM with {INSTALL_VLLM}"
            )
        _run_transformers_server(Path(run), host, port, further)
    serving = serving_run(Path(run), experts=experts, updates=updates) if run else serving_base(base_model or EMBEDDED)
    command = serving.command(host, port, further, on_cpu=_is_cpu_build())
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    names = ", ".join([serving.name, *(adapter.name for adapter in serving.adapters)])
    print(f"Starting {shlex.join(command)}")
    print(f"The server will listen at {url} (Ctrl-C ends it). Models: {names}.", flush=True)
    if serving.updates:
        print(f"  python run.py --task TASK --engine remote --base-url {url}", flush=True)
    os.execve(command[0], command, serving.environment())  # noqa: S606 - this very interpreter, without a shell


def _run_transformers_server(run: Path, host: str, port: int, further: Sequence[str]) -> NoReturn:
    """Replaces this process by the server of transformers with the winner, merged into its base on first use."""
    from huggingface_hub import constants

    from harness.publish.card import Winner
    from harness.publish.merge import merge_run

    folder = run / "merged" / WINNER
    if not folder.exists():
        print(f"vLLM is not installed; the winner is merged into its base for the server of transformers: {folder}")
        winner = Winner.of_run(run)
        if winner.kind == "model":
            folder.parent.mkdir(exist_ok=True)
            folder.symlink_to(winner.folder.resolve())
        else:
            merge_run(run, folder)
    command = [sys.executable, "-P", "-c", "from transformers.cli.transformers import main; main()", "serve", WINNER]
    command += ["--host", host, "--port", str(port), *further]
    Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)  # its list of models is read from there
    print(f"The server will listen at http://{host}:{port}/v1 (Ctrl-C ends it). Models: {WINNER}.")
    print(f"Then: {_example(folder, f'http://{host}:{port}/v1')}", flush=True)
    os.chdir(folder.parent)  # clients call the model as it is called here
    os.execve(command[0], command, {**os.environ, "HF_HUB_OFFLINE": "1"})  # noqa: S606 - without a shell


def _example(folder: Path, url: str) -> str:
    """A request that the model answers: a chat if it has a chat template, else a prompt to be continued."""
    config = folder / "tokenizer_config.json"
    chat = (folder / "chat_template.jinja").is_file() or (config.is_file() and '"chat_template"' in config.read_text())
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]} if chat else {"prompt": "Hello"}
    body = json.dumps({"model": WINNER, **asked, "max_tokens": 20})
    endpoint = "chat/completions" if chat else "completions"
    return f"curl {url}/{endpoint} -H 'Content-Type: application/json' -d '{body}'"


def _linear_modules(base: Path, trusted: bool) -> set[str]:
    """Names of a model's linear layers, without the embedding and the output layer: those have a row for each token."""
    from transformers import AutoConfig

    from harness.experts.base_model import base_shapes

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
