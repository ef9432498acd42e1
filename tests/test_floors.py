"""The floor plan of the code, read from the source, and what an import loads, measured in a fresh interpreter."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import utilities
import utilities.lab
import utilities.scorers

ROOT = Path(__file__).parents[1]

FLOORS = """
(harness)                                 the Python interface: harness/__init__.py, the only file outside a room
testing                                   conformance suites for scorers, engines and optimisers
cli                                       the command line: one file a verb
embedded_training                         builds and measures the bundled models
report annotate publish                   what people see of finished folders; merging and uploading a winner
lab sweep analysis                        studies: each uses sessions
compare                                   methods at equal budget on one session
run topics                                one search from start to result; drafting a topic's task
session                                   settings, opening a session, evaluating rows
local_judge                               a judge model in this process
engines baselines display trackers        inference; merging and ensembling methods; terminal output; tracking tools
swarm experts run_folder embedded         search on coefficients; adapters; files and events; bundled models and corpus
(utilities)                               the library of scorers, judges and checks; usable without harness
"""
"""The rooms of harness/ from the top floor down, and what each floor is. A file imports only from lower floors."""

SAME_FLOOR: set[str] = set()
"""Imports between rooms of one floor that are allowed, as "from to"."""

SWARM_MUST_NOT_IMPORT = (
    "torch",
    "transformers",
    "peft",
    "utilities.tasks",
    "utilities.task_file",
    "harness.engines",
    "harness.run_folder",
)
"""The search is arithmetic on rows of coefficients: it knows neither models, tasks nor files."""


def modules_of(root):
    """Every module of harness and utilities under `root`, as {dotted name: path}."""
    files = [path for package in ("harness", "utilities") for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_of(module, path):
    """Everything that a file imports, also inside functions and under TYPE_CHECKING, as (module, name or None)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            yield from ((".".join([*above, node.module or ""]).strip("."), alias.name) for alias in node.names)


@cache
def import_graph(root):
    """{module: modules of harness and utilities that it imports}; `from a import b` is a.b if that is a module."""
    modules = modules_of(root)
    graph = {module: set() for module in modules}
    for module, path in modules.items():
        for target, name in imports_of(module, path):
            inner = f"{target}.{name}"
            graph[module] |= {found for found in [inner if inner in modules else target] if found in modules}
        graph[module].discard(module)
    return graph


def room_of(module):
    """The room that a module is in, as the table names it."""
    parts = module.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 else f"({parts[0]})"


def circles_of(graph):
    """Groups of modules that import each other, directly or through others."""

    def reachable(start):
        seen, todo = set(), [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    reached = {module: reachable(module) for module in graph}
    return {
        frozenset(other for other in seen if module in reached[other])
        for module, seen in reached.items()
        if module in seen
    }


def violations(root, same_floor=frozenset()):
    """Every import that the floor plan forbids, every circle, and every file outside a room, one line each."""
    lines = FLOORS.strip().splitlines()
    floor = {room: k for k, line in enumerate(lines) for room in line.partition("  ")[0].split()}
    graph = import_graph(root)
    found = {f"loose file {path.name}" for path in (root / "harness").glob("*.py") if path.name != "__init__.py"}
    for module, imported in graph.items():
        here = room_of(module)
        if here not in floor:
            found.add(f"room {here} is not in the table")
            continue
        for target in imported:
            there = room_of(target)
            if there == here or there not in floor:
                continue
            if floor[there] < floor[here]:
                found.add(f"up: {module} -> {target}")
            elif floor[there] == floor[here] and f"{here} {there}" not in same_floor:
                found.add(f"across: {module} -> {target}")
    return found | {"circle: " + " ".join(sorted(circle)) for circle in circles_of(graph)}


def test_the_code_follows_the_floor_plan():
    assert sorted(violations(ROOT, SAME_FLOOR)) == []


def test_the_checker_reads_the_real_imports():
    graph = import_graph(ROOT)
    assert len(graph) > 150
    assert "harness.run_folder.store" in graph["harness.run.adapt"]
    assert "utilities.core" in graph["utilities.scorers.numeric"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"harness/swarm/a.py": "import harness.cli.main"}, "up: harness.swarm.a -> harness.cli.main"),
        (
            {"harness/swarm/a.py": "def f():\n    from harness.cli import main"},
            "up: harness.swarm.a -> harness.cli.main",
        ),
        (
            {"harness/swarm/a.py": "if TYPE_CHECKING:\n    from ..cli.main import Verb"},
            "up: harness.swarm.a -> harness.cli.main",
        ),
        ({"harness/swarm/a.py": "from harness import search"}, "up: harness.swarm.a -> harness"),
        ({"utilities/a.py": "from harness.cli.main import x"}, "up: utilities.a -> harness.cli.main"),
        ({"harness/swarm/a.py": "from harness.experts.b import x"}, "across: harness.swarm.a -> harness.experts.b"),
        ({"harness/tools.py": ""}, "loose file tools.py"),
        ({"harness/misc/a.py": ""}, "room misc is not in the table"),
        (
            {"harness/swarm/a.py": "from . import b", "harness/swarm/b.py": "def f():\n    import harness.swarm.a"},
            "circle: harness.swarm.a harness.swarm.b",
        ),
        (
            {"utilities/a.py": "import utilities.c", "utilities/c.py": "from utilities.d import x"}
            | {"utilities/d.py": "from .a import y"},
            "circle: utilities.a utilities.c utilities.d",
        ),
    ],
)
def test_a_planted_violation_is_reported(tmp_path, files, expected):
    plan = {"harness/__init__.py": "", "harness/cli/main.py": "import harness.swarm.c", "harness/swarm/c.py": ""}
    for name, text in ({"harness/experts/b.py": "import utilities.e", "utilities/e.py": ""} | plan | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert expected in violations(tmp_path)
    for name in files:
        (tmp_path / name).unlink()
    import_graph.cache_clear()
    assert violations(tmp_path) == set()


def test_the_search_knows_no_model_task_or_file():
    modules = {name: path for name, path in modules_of(ROOT).items() if room_of(name) == "swarm"}
    imported = {(module, target) for module, path in modules.items() for target, _ in imports_of(module, path)}
    assert any(target == "numpy" for _, target in imported)
    wrong = [
        pair for pair in sorted(imported) if f"{pair[1]}.".startswith(tuple(f"{m}." for m in SWARM_MUST_NOT_IMPORT))
    ]
    assert wrong == []


def loaded_by(statement):
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import run",
        "import harness",
        *(
            f"import sys, run; sys.argv[1:] = {words}\ntry: run.main()\nexcept SystemExit: pass"
            for words in (["--help"], ["search", "--help"], ["list", "tasks"])
        ),
    ],
)
def test_the_command_line_starts_without_torch_and_langchain(statement):
    assert loaded_by(statement).isdisjoint({"torch", "transformers", "peft", "langchain", "langchain_core", "datasets"})


@pytest.mark.parametrize(
    "module", ["utilities", "utilities.scorers", "utilities.lab", "utilities.errors", "utilities.registry"]
)
def test_importing_the_light_modules_loads_nothing_heavy(module):
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert loaded.isdisjoint({"numpy", "scipy", "torch", "transformers", "pydantic", "yaml", "datasets"})


def test_the_library_is_used_without_torch_and_without_the_harness():
    loaded = loaded_by("from utilities import *\nload_task('medical', edition='mini')")
    assert "utilities.scorers.multiple_choice" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "datasets", "harness"})


PACKAGES = [utilities, utilities.scorers, utilities.lab]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_and_is_no_module(package):
    # A check and a module of one name would hide each other, depending on what was imported first.
    assert [name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)] == []
    assert len(set(package.__all__)) == len(package.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_attribute_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'evaluate_everything'"):
        package.evaluate_everything  # noqa: B018 - looking it up is the test
