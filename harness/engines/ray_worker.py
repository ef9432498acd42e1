"""The far side of the Ray pool: an actor that holds an engine of its own and answers the jobs that it is sent."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.engines.settings import EngineSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.engines.adapter_folder import AdapterFolder
    from harness.engines.base import Engine
    from harness.engines.ray_folder_copy import Files
    from harness.experts.grouping import Granularity
    from utilities.core import ChoiceLogprobs, Response, Unscored

__all__ = ["QUESTIONS_KEPT", "Answer", "Plan", "Question", "Report", "Worker"]

QUESTIONS_KEPT = 64
"""Prompt sets that are remembered on both sides: every particle is asked the same ones."""

FOLDING = frozenset({"local"})
"""Engines that answer for one particle at a time; the others have many in one batch."""


@dataclass(frozen=True)
class Plan:
    """What an engine is made of, the same for every worker."""

    engine: str
    """Name in the registry, or auto."""
    settings: EngineSettings
    base: str
    experts: tuple[tuple[str, str], ...] | None
    """Name and folder of each; None for the base model alone."""
    granularity: Granularity
    """Which of the experts' modules share their coefficients."""
    hashes: Mapping[str, str]
    """Folder to `folder_hash`, of the base model and of every expert."""


class Question(NamedTuple):
    """What a job asks; the prompts themselves are fetched once."""

    key: str
    """Hash of the prompts and options."""
    texts: list[Any]
    """One reference to (prompts, options), in a list so that it is not fetched with every job."""
    how: dict[str, Any] | None
    """Arguments of `generate`; None for log-probabilities of the options."""


class Report(NamedTuple):
    """What a worker is, once its engine is there."""

    device: str
    folding: bool
    """Whether it answers for one particle at a time."""
    state: dict[str, Any]


class Answer(NamedTuple):
    """What a job found, or the error that it raised, and what the engine spent since the last answer."""

    found: list[Any]
    error: BaseException | None
    forward: float
    mixing: float
    state: dict[str, Any]


class Worker:
    """One engine in a process of its own.

    Args:
        cpus: Threads of torch; set before torch is imported.
        gpu: Whether a GPU was given to it; else it sees none.
    """

    def __init__(self, cpus: int, gpu: bool) -> None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(cpus)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ["HF_HUB_OFFLINE"] = "1"  # all it needs is here, or comes from the driver
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._cpus, self._gpu = cpus, gpu
        self._engine: Engine | None = None
        self._copies: AdapterFolder | None = None
        self._texts: OrderedDict[str, tuple[list[str], list[list[str]]]] = OrderedDict()
        self._told = (0.0, 0.0)

    async def hello(self) -> tuple[int, str]:
        """Its process id and its machine, as soon as it has one."""
        return os.getpid(), str(import_module("ray").util.get_node_ip_address())

    async def live(self) -> None:
        """Never returns: by its failure the driver learns of this worker's death, also while nothing is asked of it."""
        await asyncio.Event().wait()

    async def missing(self, hashes: Mapping[str, str]) -> list[str]:
        """The folders that this machine's own disk does not have with the same content."""
        return await asyncio.to_thread(lambda: [folder for folder, told in hashes.items() if not _has(folder, told)])

    async def load(self, plan: Plan, files: Mapping[str, Files], state: dict[str, Any]) -> Report | BaseException:
        """Makes the engine, from this machine's disk and from `files` for the folders that are missing there."""
        try:
            return await asyncio.to_thread(self._load, plan, files, state)
        except Exception as error:
            return _carried(error)

    def _load(self, plan: Plan, files: Mapping[str, Files], state: dict[str, Any]) -> Report:
        import torch

        from harness.engines.adapter_folder import AdapterFolder
        from harness.engines.base import engines
        from harness.engines.ray_folder_copy import receive, size
        from harness.experts.pool import open_pool

        torch.set_num_threads(self._cpus)
        self._free()  # what an earlier call made with another state
        here = {folder: Path(folder) for folder in plan.hashes}
        if files:
            get = import_module("ray").get
            self._copies = AdapterFolder(None, size(list(files.values())))
            names = {plan.base: Path(plan.base).name, **{folder: name for name, folder in plan.experts or ()}}
            for number, (folder, own) in enumerate(files.items()):
                here[folder] = self._copies.path / str(number) / names[folder]  # a pool reads names off its folders
                receive(own, here[folder], get)
        base, pool = here[plan.base], None
        if plan.experts is not None:
            specs = [str(here[folder]) for _, folder in plan.experts]
            trusted = plan.settings.trust_remote_code
            pool = open_pool(specs, base, check_values=False, trust_remote_code=trusted).grouped(plan.granularity)
        name = plan.engine
        if name == "auto":
            name = "vllm" if self._gpu and importlib.util.find_spec("vllm") else "local"
        settings = plan.settings.model_copy(update={"device": "cuda" if self._gpu else "cpu"})
        self._engine = engines.get(name)(base, pool, settings, state)
        return Report(self._engine.device, name in FOLDING, self._engine.state())

    async def answer(self, row: NDArray[np.float64] | None, question: Question) -> Answer:
        """Asks the particle `row`; what that raises comes back as a value, because this worker is well."""
        assert self._engine is not None  # noqa: S101 - jobs come after `load`
        found: Sequence[Response | ChoiceLogprobs | Unscored] = ()
        failed = None
        try:
            if question.key not in self._texts:
                texts = await question.texts[0]
                self._texts.setdefault(question.key, texts)  # engines know a prompt set again by the object it is
            self._texts.move_to_end(question.key)
            prompts, options = self._texts[question.key]
            while len(self._texts) > QUESTIONS_KEPT:
                self._texts.popitem(last=False)
            model = self._engine.particle(row)
            if question.how is None:
                found = await model.choice_logprobs(prompts, options)
            else:
                found = await model.generate(prompts, **question.how)
        except Exception as error:
            failed = _carried(error)
        now = (self._engine.times.forward, self._engine.times.mixing)
        spent, self._told = (now[0] - self._told[0], now[1] - self._told[1]), now
        return Answer(list(found), failed, *spent, self._engine.state())

    async def close(self) -> None:
        """Frees the engine and removes the copies."""
        await asyncio.to_thread(self._free)

    def _free(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._copies is not None:
            self._copies.close()
        self._engine, self._copies, self._told = None, None, (0.0, 0.0)


def _has(folder: str, told: str) -> bool:
    from harness.experts.pool import folder_hash
    from utilities.errors import UserError

    try:
        return folder_hash(Path(folder)) == told
    except (UserError, OSError, ValueError, KeyError):
        return False


def _carried(error: Exception) -> Exception:
    """The error as it is, where it can travel, with the lines that led to it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own, just written
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    error.add_note("in a Ray worker:\n" + "".join(traceback.format_tb(error.__traceback__)))
    return error
