from __future__ import annotations

import sys

from harness.experts.environment import environment_problem


def test_a_package_that_cannot_be_imported_beside_torch_is_named_with_the_command_that_fixes_it(tmp_path, monkeypatch):
    for name in ("torchvision", "torchaudio"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "torchvision.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    problem = environment_problem()
    assert problem is not None and problem.startswith("torchvision is installed and cannot be imported")
    assert "libcudart.so.13" in problem and problem.endswith("pip uninstall -y torchvision torchaudio")
