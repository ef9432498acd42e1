import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table

from harness.display.console import open_console, print_json, standard_streams

PRINTS = """
import os, sys
from harness.display.console import print_json, standard_streams
with standard_streams(json="--json" in sys.argv):
    for k in range(2000):
        print("line", k, flush=True)
    os.system("echo from a child")
    print_json('{"value": 1}', stored=None)
print("the end", file=sys.stderr)
"""


def run(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -c "$1" "${{@:2}}" {redirection}', sys.executable, PRINTS, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.parametrize("redirection", ["| head -n 1", ">&-", "> /dev/null"])
def test_the_program_continues_without_a_reader(redirection: str) -> None:
    done = run(redirection)
    assert done.stderr.strip().endswith("the end")
    assert done.returncode == 0


def test_a_full_device_is_reported_as_the_output_and_not_as_the_folder() -> None:
    done = run("> /dev/full", "--json")
    assert "stdout cannot be written: [Errno 28]" in done.stderr
    assert done.returncode == 1


def test_with_json_stdout_holds_the_document_alone() -> None:
    done = run("", "--json")
    assert json.loads(done.stdout) == {"value": 1}
    assert "line 1999" in done.stderr
    assert "from a child" in done.stderr


def test_streams_are_restored(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with standard_streams(json=True):
        print("a note")
        print_json("{}")
    assert sys.stdout is before
    assert capsys.readouterr() == ("{}\n", "a note\n")


def test_a_stored_result_needs_no_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, as it should
    monkeypatch.setattr(sys, "stdout", full)
    print_json("{}", stored=tmp_path)
    with pytest.raises(SystemExit) as raised:
        print_json("{}")
    assert raised.value.code == 1
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_names_reach_the_terminal_as_text() -> None:
    console = open_console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    table = Table(title="x[/]\x1b[2J")
    table.add_column("a\x1b]0;t\x07")
    table.add_row("[red]no\x9b31m[/]")
    console.print(table)
    with Live(table, console=console, auto_refresh=False):
        pass
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "x[/]\\x1b[2J" in shown
    assert "[red]no\\x9b31m[/]" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown
