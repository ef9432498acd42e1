"""A picture of the live screen, drawn from the events of a real run.

Made with `python -m harness.screenshot runs/medical-seed0 screen.svg`.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from harness.console import LiveScreen
from harness.events import Finished, Testing
from harness.store import Store

__all__ = ["draw"]


def draw(folder: Path, picture: Path, width: int = 100, height: int = 32) -> None:
    """Replays the events of a run folder up to the end of its search, and saves the screen as SVG."""
    console = Console(record=True, width=width, height=height, force_terminal=True, file=StringIO())
    screen = LiveScreen(console)
    for event in Store(folder).events():
        if isinstance(event, Testing | Finished):
            break
        screen(event)
    console.print(screen.render())
    console.save_svg(str(picture), title="python run.py --task medical")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
