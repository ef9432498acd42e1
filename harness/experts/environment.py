"""Faults of the installed packages that keep transformers from importing its models."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from utilities.errors import first_line

__all__ = ["environment_problem"]

BESIDE_TORCH = ("torchvision", "torchaudio")
"""Packages that are built against one build of torch, and that transformers imports where they are installed."""


def environment_problem() -> str | None:
    """What is wrong with the packages beside torch, and the command that fixes it; None if they can be imported.

    A build for CUDA beside a torch for the CPU, as an installer leaves it that replaces torch alone, breaks the import
    of models that do not need it.
    """
    for name in BESIDE_TORCH:
        if find_spec(name) is None:
            continue
        try:
            import_module(name)
        except Exception as error:  # OSError for a library that is missing, RuntimeError for an operator
            return (
                f"{name} is installed and cannot be imported beside this torch ({first_line(error)}), so transformers"
                f" cannot import its models; pip uninstall -y {' '.join(BESIDE_TORCH)}"
            )
    return None
