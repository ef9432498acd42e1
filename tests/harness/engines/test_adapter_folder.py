from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stub_lora_server import LoraStub

from harness.engines import adapter_folder
from harness.engines.adapter_folder import AdapterFolder
from harness.experts.pool import open_pool
from utilities.errors import UserError

ROWS = np.array([[0.6, 0.5, -0.1], [1.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def pool(adapters, base):
    return open_pool([str(folder) for folder in adapters], base)


@pytest.fixture
def folder(tmp_path):
    with_it = AdapterFolder(tmp_path / "memory")
    yield with_it
    with_it.close()


def test_each_adapter_has_a_name_of_its_own_and_is_the_mixture(folder, pool, tmp_path):
    written = folder.write(pool, ROWS) + folder.write(pool, ROWS[:1])
    assert len({path.name for path in written}) == 3
    for path, row in zip(written, [*ROWS, ROWS[0]], strict=True):
        pool.write(torch.from_numpy(row), tmp_path / "expected")
        expected = load_file(tmp_path / "expected" / "adapter_model.safetensors")
        found = load_file(path / "adapter_model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_names_differ_between_folders_too(folder, pool, tmp_path):
    other = AdapterFolder(tmp_path / "memory")
    assert other.write(pool, ROWS)[0].name != folder.write(pool, ROWS)[0].name
    other.close()


def test_what_is_removed_is_gone_and_a_closed_folder_leaves_nothing(folder, pool, tmp_path):
    first, second = folder.write(pool, ROWS)
    folder.remove(first)
    folder.remove(first)
    assert not first.exists() and second.exists()
    folder.close()
    folder.close()
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_folder_that_nobody_closed_goes_with_its_object(tmp_path):
    folder = AdapterFolder(tmp_path)
    path = folder.path
    del folder
    assert not path.exists()


def test_a_folder_of_a_killed_process_is_removed_at_the_next_start_and_a_living_ones_is_not(tmp_path):
    child = os.fork()
    if not child:
        try:
            folder = AdapterFolder(tmp_path)
            (folder.path / "adapter").mkdir()
            (folder.path / "adapter" / "weights").write_bytes(bytes(1000))
            time.sleep(600)
        finally:
            os._exit(1)
    while not (weights := list(tmp_path.glob(f"model-swarms-{child}-*/adapter/weights"))):
        time.sleep(0.01)
    AdapterFolder(tmp_path).close()
    assert weights[0].exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert weights[0].exists()
    AdapterFolder(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_ends_takes_nothing_with_it(folder):
    child = os.fork()
    if not child:
        try:
            folder.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()


def test_only_folders_of_ones_own_are_removed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("years of work")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "model-swarms-1-feed").symlink_to(precious)
    (tmp_path / "memory" / "model-swarms-notes").write_text("a file")
    (tmp_path / "memory" / "somebody-elses").mkdir()
    AdapterFolder(tmp_path / "memory").close()
    assert (precious / "thesis").exists()
    assert len(list((tmp_path / "memory").iterdir())) == 3


def test_a_full_memory_is_told_with_how_much_is_needed_and_where(folder, pool, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs? .*MB.*--adapter-folder") as raised:
        folder.write(pool, ROWS)
    assert str(folder.root) in str(raised.value)
    usage.free = 1 << 40

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(pool), "write_all", full)
    with pytest.raises(UserError, match="full"):
        folder.write(pool, ROWS)
    assert [path.name for path in folder.path.iterdir()] == ["lock"]


def test_shared_memory_with_too_little_room_gives_way_to_the_temporary_directory(monkeypatch, tmp_path):
    small, large = tmp_path / "shm", tmp_path / "tmp"
    for one in (small, large):
        one.mkdir()
    monkeypatch.setattr(adapter_folder, "SHARED_MEMORY", small)
    monkeypatch.setattr(adapter_folder.tempfile, "gettempdir", lambda: str(large))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    roots = []
    for room in (1 << 20, 1 << 30):
        folder = AdapterFolder(None, room)
        roots.append(folder.root)
        assert folder.path.stat().st_mode & 0o077 == 0  # nobody else reads it
        folder.close()
    assert roots == [small, large]
    small.rmdir()
    folder = AdapterFolder(None)
    assert folder.root == large
    folder.close()


def test_a_place_where_no_folder_can_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no folder for adapters can be made there"):
        AdapterFolder(tmp_path / "file")


# -- a container's small shared memory, really mounted -----------------------------------------------------------------


def with_shared_memory(size, *command):
    """Runs a command that sees another /dev/shm, of so many bytes; this process and its servers see the usual one."""
    mounted = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [*mounted, sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


@pytest.mark.slow
def test_a_search_at_a_server_with_little_shared_memory_writes_its_adapters_elsewhere(adapters, base, tmp_path):
    experts = [word for folder in adapters for word in ("--experts", folder)]
    with LoraStub(base) as server:  # 64 kB have room for the weights of the two adapters, not for their configs
        done = with_shared_memory(
            *("64k", "run.py", "--task", "medical", "--edition", "mini", "--limit", "2", "--particles", "3"),
            *("--iterations", "1", "--base-model", base, *experts, "--engine", "remote", "--base-url", server.url),
            *("--out", tmp_path, "--name", "run"),
        )
        assert done.returncode == 0, done.stderr
        assert len(server.loads) > 3  # experts and mixtures: the server read each from the temporary directory
        assert not [
            path for _, path in server.loads if path.exists() or path.is_relative_to(adapter_folder.SHARED_MEMORY)
        ]
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.slow
def test_shared_memory_that_fills_up_later_is_told_in_one_sentence_and_left_clean(adapters, base, tmp_path):
    (tmp_path / "fill.py").write_text(
        "import shutil, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from harness.engines.adapter_folder import SHARED_MEMORY, AdapterFolder\n"
        "from harness.experts.pool import open_pool\n"
        "from utilities.errors import UserError\n"
        "pool = open_pool(sys.argv[2:], Path(sys.argv[1]))\n"
        "folder = AdapterFolder(None, 1000)\n"
        "assert folder.root == SHARED_MEMORY\n"
        "folder.write(pool, np.ones((1, len(sys.argv) - 2)))\n"
        "(SHARED_MEMORY / 'filler').write_bytes(bytes(shutil.disk_usage(SHARED_MEMORY).free - 20_000))\n"
        "try:\n    folder.write(pool, np.ones((1, len(sys.argv) - 2)))\n"
        "except UserError as error:\n    print(error)\n"
        "folder.close()\n"
        "print([path.name for path in SHARED_MEMORY.iterdir()])\n"
    )
    done = with_shared_memory("2m", tmp_path / "fill.py", base, *adapters)
    assert done.returncode == 0, done.stderr
    sentence, left = done.stdout.splitlines()
    assert sentence.startswith(f"{adapter_folder.SHARED_MEMORY}: shared memory is full") and "--shm-size" in sentence
    assert left == "['filler']"
