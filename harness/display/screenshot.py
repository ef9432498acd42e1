"""A picture of the live screen, drawn from the events of a real run.

Made with `python -m harness.display.screenshot runs/medical-seed0 screen.svg`.
"""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from harness.display.live import LiveScreen
from harness.run_folder.events import Finished, Testing
from harness.run_folder.store import Store

__all__ = ["draw"]


def draw(folder: Path, picture: Path, width: int = 100, height: int = 32, share: float = 0.7) -> None:
    """Replays the first `share` of a run's search, with the times of its events, and saves the screen as SVG."""
    events = [event for event in Store(folder).events() if not isinstance(event, Testing | Finished)]
    shown = events[: max(1, round(share * len(events)))]
    console = Console(record=True, width=width, height=height, force_terminal=True, file=StringIO())
    at = shown[0].at
    screen = LiveScreen(console, now=lambda: at)
    for event in shown:
        at = event.at
        screen(event)
    console.print(screen.render())
    drawing = console.export_svg(title="python run.py --task medical")
    # The reader's own monospaced font will do: a picture in a README must not fetch anything.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
