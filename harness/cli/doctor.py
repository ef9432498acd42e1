"""`doctor`: what is installed, which engines work here, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from harness.cli.command import verb

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["examine"]


@verb("Use")
def doctor() -> None:
    """Reports what is installed, which engines work here, and what is missing."""
    examine()


def examine() -> None:
    """Prints the state of this installation; loads torch to detect a GPU.

    Raises:
        SystemExit: With code 1 if a search cannot run here.
    """
    from harness.display.console import open_console

    console = open_console()

    def say(good: bool, text: str) -> None:
        mark, style = ("ok  ", "green") if good else ("miss", "red")
        console.print(f"{mark} ", style=style, end="")
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    problems = 0
    say(True, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    for requirement in _requirements():
        name = requirement.name
        try:
            installed = version(name)
        except PackageNotFoundError:
            say(False, f"{name}: not installed; pip install '{requirement}'")
            problems += 1
            continue
        fits = requirement.specifier.contains(installed.split("+")[0], prereleases=True)
        say(
            fits,
            f"{name} {installed}"
            + ("" if fits else f" does not satisfy {requirement.specifier}; pip install '{requirement}'"),
        )
        problems += not fits

    from harness.embedded import BASE, expert_folders

    family = (BASE / "model.safetensors").is_file() and bool(expert_folders())
    say(
        family,
        f"embedded model with {len(expert_folders())} experts" if family else f"embedded model: no weights in {BASE}",
    )
    problems += not family
    try:
        import torch

        say(True, "engine local: works on the CPU")
        if torch.cuda.is_available():
            names = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
            say(True, f"engine local: works on {names}")
        else:
            console.print("     engine local: no GPU that torch can use; --device cpu is the default", highlight=False)
    except ImportError as error:
        say(False, f"engine local: torch cannot be imported ({error})")
        problems += 1
    from harness.experts.environment import environment_problem

    if (problem := environment_problem()) is not None:
        say(False, problem)
        problems += 1
    for name in ("vllm", "ray"):
        if find_spec(name) is not None:
            say(True, f"engine {name}: installed")
        else:
            text = f"     engine {name}: not installed; pip install -e '.[{name}]'"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    if problems:
        console.print(f"{problems} problem{'s' if problems > 1 else ''} found.", style="red")
        raise SystemExit(1)
    console.print("Everything that a search needs is installed.", style="green")


def _requirements() -> list[Requirement]:
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in requires("model-swarms") or []]
    return [r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
