"""The README and docs/: complete, true to the code, and their snippets run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from reference_page import PAGE, ROOT, described, models_of, options, page, registries
from stub_server import says

from harness.cli.main import app
from harness.run_folder.events import AnyEvent
from harness.run_folder.result import Result
from harness.run_folder.store import _record_schema
from utilities.core import Item, Reason
from utilities.hub import Hub
from utilities.task_file import TaskFile

PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
SNIPPET = re.compile(r"<!-- test(?:: (?P<file>\S+))? -->\n```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)
CHOICES = {"A": "yes", "B": "no"}
ITEMS = [{"id": k, "question": f"Is {k} even?", "choices": CHOICES, "answer": "AB"[k % 2]} for k in range(6)]
FOREIGN = {"--measure", "--expert-limit", "--api-key", "--base", "--outfile", "--lora", "--only", "--write"}
"""Options of other programs that the pages name."""


def documented(name: str) -> set[str]:
    """Everything that a page writes in backticks, taken apart at commas and blanks."""
    return {word.strip(",.:") for code in re.findall(r"`([^`\n]+)`", PAGES[name]) for word in [code, *code.split()]}


def test_the_reference_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/reference_page.py"


def test_the_reference_has_every_option_name_field_and_event():
    words = documented("reference.md")
    names = {name for found in registries().values() for name in found}
    assert {"multiple_choice", "vllm", "cma-positive", "harmonic_mean", "ties", "cbtm"} <= names
    flags = {flag.strip("`") for option, _ in options() for flag in option.split()}
    assert {"--task", "--experts", "--include-base", "--methods"} <= flags
    events = get_args(get_args(AnyEvent)[0])
    fields = {name for model in models_of(Result, {}).values() for name in described(model)}
    fields |= {name for event in events for name in event.model_fields}
    kinds = {event.model_fields["kind"].default for event in events}
    assert sorted((names | flags | fields | kinds) - words - {"kind"}) == []


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("utilities.md", {"scorer", "combination", "mix", "normalization"}),
        ("environments.md", {"environment"}),
        ("engines.md", {"engine"}),
        ("search.md", {"optimiser"}),
        ("comparing.md", {"method", "merge"}),
    ],
)
def test_a_page_explains_every_registered_name_of_its_kind(name, kinds):
    found = registries()
    assert sorted({one for kind in kinds & set(found) for one in found[kind]} - documented(name)) == []


def test_the_task_page_explains_every_field():
    models = [*models_of(TaskFile, {}).values(), Hub, Item]
    assert sorted({field for model in models for field in model.model_fields} - documented("tasks.md")) == []


def test_the_pages_explain_records_and_reasons():
    assert set(_record_schema().names) <= documented("runs.md")
    assert set(Reason) <= documented("utilities.md")


def test_every_option_that_a_page_names_exists():
    flags = {flag.strip("`") for option, _ in options() for flag in option.split()} | {"--help", "--help-all"}
    wrong = {
        (name, flag)
        for name, text in PAGES.items()
        for flag in re.findall(
            r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"pip \S.*|pytest -.*|(?:vllm|transformers) serve.*", "", text)
        )
        if flag not in flags | FOREIGN
    }
    assert sorted(wrong) == []


def test_every_command_that_a_page_shows_is_understood():
    group = typer.main.get_command(app)
    verbs = set(group.list_commands(typer.Context(group)))
    shown = [
        line
        for text in PAGES.values()
        for line in re.findall(r"^(?:\|.*`)?python run\.py ([^`\n]*)", text, re.MULTILINE)
    ]
    assert len(shown) > 25
    for line in shown:
        words = shlex.split(line.partition("#")[0].rstrip("\\&| "))
        verb = words[0] if not words[0].startswith("-") else "search"
        assert verb in verbs, line
        context = typer.Context(group)
        own = {name for one in group.get_command(context, verb).params for name in [*one.opts, *one.secondary_opts]}
        own |= {"--help", "--help-all"}
        assert {word for word in words if word.startswith("--") and word != "--"} <= own, line


def test_links_lead_to_files_and_headings():
    wrong = []
    for name, text in PAGES.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, heading = target.partition("#")
            if path.startswith(("http", "mailto")):
                continue
            file = (folder / path).resolve() if path else folder / name
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE) if heading else []
            slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
            if not file.exists() or (heading and heading not in slugs):
                wrong.append((name, target))
    assert wrong == []


def test_the_readme_is_short_and_marks_the_commands_that_the_ci_runs():
    assert len(PAGES["README.md"].splitlines()) < 250
    assert PAGES["README.md"].count("<!-- ci -->\n```bash\n") == 3
    linked = set(re.findall(r"\((docs/[\w.]+\.md)\)", PAGES["README.md"]))
    assert linked == {f"docs/{name}" for name in PAGES} - {"docs/README.md"}


def small(words: list[str]) -> list[str]:
    """Options that make a command of the docs quick."""
    verb = words[0] if not words[0].startswith("-") else "search"
    if verb in {"score", "resume", "list", "doctor"} or "--responses" in words:
        return ["--cloud", "0"] if verb == "lab" else []
    if verb == "lab":
        return ["--limit", "20", "--cloud", "0"]
    return ["--limit", "4", *(["--iterations", "1", "--particles", "4"] if verb == "search" else [])]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if SNIPPET.search(text)])
def test_the_snippets_of_a_page_run_in_order(name, tmp_path, base, adapters, monkeypatch, judge_server):
    shutil.copytree(base, tmp_path / "my-base")
    for folder in adapters:
        shutil.copytree(folder, tmp_path / "my-experts" / folder.name)
    for folder, files in (("published", ("medqa", "medmcqa")), ("data", ("easy", "hard"))):
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / f"{file}.json").write_text(json.dumps({"dev": ITEMS, "test": ITEMS}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    judge_server.answer = lambda asked: says(f'{{"reason": "Read.", "level": {1 + len(asked.last) % 4}}}')
    commands = []
    for snippet in SNIPPET.finditer(PAGES[name]):
        if snippet["file"]:
            (tmp_path / snippet["file"]).write_text(snippet["text"])
        elif snippet["language"] == "python":
            commands.append([sys.executable, "-c", snippet["text"]])
        else:
            for line in snippet["text"].replace("\\\n", " ").splitlines():
                words = shlex.split(re.sub(r"http://\S+", judge_server.url, line))
                assert words[:2] == ["python", "run.py"], line
                commands.append([sys.executable, str(ROOT / "run.py"), *words[2:], *small(words[2:])])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    if "--judge-url" in PAGES[name]:
        assert judge_server.count > 20


def drawn(picture: Path) -> list[str]:
    """The lines of a picture of a screen, without colours; every run of digits is one #."""
    cells = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', picture.read_text(encoding="utf-8"))
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in cells:
        rows.setdefault(float(y), []).append((float(x), text))
    lines = [" ".join(text for _, text in sorted(row)).replace("&#160;", " ") for _, row in sorted(rows.items())]
    return [masked for line in lines if (masked := words_of(line))]


def words_of(line: str) -> str:
    """What a line says, without numbers, bars and spaces."""
    return " ".join(re.sub(r"[▁▂▃▄▅▆▇█━╸╺─]", "", re.sub(r"[\d.:]+", "#", line)).split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_picture_shows_what_the_command_draws(tmp_path):
    import pty

    master, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "run.py"), "--task", "medical", "--limit", "40", "--out", str(tmp_path)]
    running = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    output = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # how a closed terminal ends on Linux
            break
        if not block:
            break
        output += block
    assert running.wait() == 0, output.decode(errors="replace")[-2000:]
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", output.decode(errors="replace"))
    on_screen = " ".join(words_of(screen).split())

    from harness.display.screenshot import draw

    (folder,) = tmp_path.glob("medical*")
    draw(folder, tmp_path / "now.svg")
    now, stored = drawn(tmp_path / "now.svg"), drawn(ROOT / "docs" / "console.svg")
    changing = re.compile(r"^(global )?best |evaluated|answers/s")  # names of experts and a time that is still unknown
    assert [line for line in stored if not changing.search(line)] == [
        line for line in now if not changing.search(line)
    ], "run: python run.py --task medical && python -m harness.display.screenshot runs/medical-seed0 docs/console.svg"
    for line in now[1:]:
        for word in re.findall(r"[a-z]{3,}", line):
            assert word in on_screen, line
