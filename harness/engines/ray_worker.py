"""The worker of the Ray engine: an actor that holds an engine and answers jobs."""

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
"""Prompt sets cached by the driver and by each worker: every particle is evaluated on the same ones."""

FOLDING = frozenset({"local"})
"""Engines that answer for one particle at a time; the others batch many."""


@dataclass(frozen=True)
class Plan:
    """Everything needed to create an engine; the same for every worker."""

    engine: str
    """Name in the registry, or auto."""
    settings: EngineSettings
    base: str
    experts: tuple[tuple[str, str], ...] | None
    """Name and folder of each; None for the base model alone."""
    granularity: Granularity
    """Which modules share coefficients."""
    hashes: Mapping[str, str]
    """Folder to `folder_hash`, of the base model and of every expert."""


class Question(NamedTuple):
    """Prompt set and generation arguments of a job; a worker fetches the prompts once."""

    key: str
    """Hash of the prompts and options."""
    texts: list[Any]
    """One reference to (prompts, options), in a list so that it is not fetched with every job."""
    how: dict[str, Any] | None
    """Arguments of `generate`; None for log-probabilities of the options."""


class Report(NamedTuple):
    """Properties of a worker whose engine is loaded."""

    device: str
    folding: bool
    """Whether it answers for one particle at a time."""
    state: dict[str, Any]


class Answer(NamedTuple):
    """Answers of a job or the error it raised, and the seconds that the engine spent since the last answer."""

    found: list[Any]
    error: BaseException | None
    forward: float
    mixing: float
    state: dict[str, Any]


class Worker:
    """One engine in a process of its own.

    Args:
        cpus: Threads of torch; set before torch is imported.
        gpu: Whether it has a GPU; otherwise all GPUs are hidden.
    """

    def __init__(self, cpus: int, gpu: bool) -> None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(cpus)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ["HF_HUB_OFFLINE"] = "1"  # files are local, or come from the driver
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._cpus, self._gpu = cpus, gpu
        self._engine: Engine | None = None
        self._copies: AdapterFolder | None = None
        self._texts: OrderedDict[str, tuple[list[str], list[list[str]]]] = OrderedDict()
        self._last_times = (0.0, 0.0)

    async def hello(self) -> tuple[int, str]:
        """Process id and IP address of its machine."""
        return os.getpid(), str(import_module("ray").util.get_node_ip_address())

    async def live(self) -> None:
        """Never returns; its failure reports the end of this worker to the driver even if the worker is idle."""
        await asyncio.Event().wait()

    async def missing(self, hashes: Mapping[str, str]) -> list[str]:
        """The folders that this machine's disk does not have with the same content."""
        return await asyncio.to_thread(lambda: [folder for folder, own in hashes.items() if not _has(folder, own)])

    async def load(self, plan: Plan, files: Mapping[str, Files], state: dict[str, Any]) -> Report | BaseException:
        """Creates the engine from this machine's disk, and from `files` for the folders that are missing there."""
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
        self._free()  # the engine of an earlier call with another state
        here = {folder: Path(folder) for folder in plan.hashes}
        if files:
            get = import_module("ray").get
            self._copies = AdapterFolder(None, size(list(files.values())))
            names = {plan.base: Path(plan.base).name, **{folder: name for name, folder in plan.experts or ()}}
            for number, (folder, own) in enumerate(files.items()):
                here[folder] = self._copies.path / str(number) / names[folder]  # folder names are the experts' names
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
        """Answers of the particle `row` [experts]; exceptions are returned as values: the worker is intact."""
        assert self._engine is not None  # noqa: S101 - jobs come after `load`
        answers: Sequence[Response | ChoiceLogprobs | Unscored] = ()
        failed = None
        try:
            if question.key not in self._texts:
                texts = await question.texts[0]
                self._texts.setdefault(question.key, texts)  # engines cache prompt sets by object identity
            self._texts.move_to_end(question.key)
            prompts, options = self._texts[question.key]
            while len(self._texts) > QUESTIONS_KEPT:
                self._texts.popitem(last=False)
            model = self._engine.particle(row)
            if question.how is None:
                answers = await model.choice_logprobs(prompts, options)
            else:
                answers = await model.generate(prompts, **question.how)
        except Exception as error:
            failed = _carried(error)
        times = (self._engine.times.forward, self._engine.times.mixing)
        spent, self._last_times = (times[0] - self._last_times[0], times[1] - self._last_times[1]), times
        return Answer(list(answers), failed, *spent, self._engine.state())

    async def close(self) -> None:
        """Frees the engine and removes the copies."""
        await asyncio.to_thread(self._free)

    def _free(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._copies is not None:
            self._copies.close()
        self._engine, self._copies, self._last_times = None, None, (0.0, 0.0)


def _has(folder: str, expected: str) -> bool:
    from harness.experts.files import folder_hash
    from utilities.errors import UserError

    try:
        return folder_hash(Path(folder)) == expected
    except (UserError, OSError, ValueError, KeyError):
        return False


def _carried(error: Exception) -> Exception:
    """The error, or a RuntimeError with its message if it cannot be pickled, with the traceback as a note."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    error.add_note("in a Ray worker:\n" + "".join(traceback.format_tb(error.__traceback__)))
    return error
