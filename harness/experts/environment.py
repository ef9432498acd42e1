"""Installed packages: those that prevent transformers from importing its models, and servers of models."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from utilities.errors import first_line

__all__ = ["environment_problem", "installed_server"]

BESIDE_TORCH = ("torchvision", "torchaudio")
"""Packages built against a specific torch build that transformers imports if they are installed."""


def environment_problem() -> str | None:
    """The problem with torch's companion packages and the command that fixes it; None if they can be imported.

    A CUDA build next to a CPU build of torch (left by an installer that replaced only torch) breaks the import of
    models that do not need the package.
    """
    for name in BESIDE_TORCH:
        if find_spec(name) is None:
            continue
        try:
            import_module(name)
        except Exception as error:  # OSError: missing library; RuntimeError: missing operator
            return (
                f"{name} is installed and cannot be imported beside this torch ({first_line(error)}), so transformers"
                f" cannot import its models; pip uninstall -y {' '.join(BESIDE_TORCH)}"
            )
    return None


def installed_server() -> Literal["vllm", "transformers"] | None:
    """The server that `serve` starts: vLLM's, else the one of transformers if what it needs is installed."""
    if find_spec("vllm") is not None:
        return "vllm"
    return "transformers" if all(find_spec(name) is not None for name in ("fastapi", "uvicorn")) else None
