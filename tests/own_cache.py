"""A cache folder for every test, so that none reads what another stored."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
for name, folder in (("HF_HOME", "huggingface"), ("MPLCONFIGDIR", "matplotlib"), ("VLLM_CACHE_ROOT", "vllm")):
    os.environ.setdefault(name, str(CACHES / folder))  # those of other libraries stay where they are

NUMBERS = count()


def own_cache(patch: pytest.MonkeyPatch, factory: pytest.TempPathFactory) -> None:
    """Sets a new cache folder, in which only the converted SmolLM2 is shared."""
    folder = factory.getbasetemp() / "caches" / str(next(NUMBERS)) / "model-swarms"
    folder.mkdir(parents=True)
    shared = CACHES / "model-swarms" / "smollm2"
    if shared.is_dir():
        (folder / "smollm2").symlink_to(shared)
    patch.setenv("XDG_CACHE_HOME", str(folder.parent))


@pytest.fixture(scope="module", autouse=True)
def own_cache_of_a_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No module reads what another stored, in fixtures that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        own_cache(patch, tmp_path_factory)
        yield


@pytest.fixture(autouse=True)
def own_cache_of_a_test(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads what another stored."""
    own_cache(monkeypatch, tmp_path_factory)
