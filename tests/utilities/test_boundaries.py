"""What may import what, read from the source, and what an import loads, seen in a fresh interpreter."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import utilities
import utilities.lab
import utilities.scorers
from utilities.core import scorer_registry

ROOT = Path(__file__).parents[2]


def imported_modules(path):
    """Every module that a file imports, also inside functions; `from a import b` counts as `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def is_within(module, package):
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("utilities", ["harness"]),
        (
            "harness/swarm",
            ["torch", "transformers", "peft", "harness.engines", "utilities.tasks", "harness.run_folder.store"],
        ),
    ],
)
def test_a_room_does_not_import_what_it_must_not_know(room, forbidden):
    files = sorted((ROOT / room).rglob("*.py"))
    assert len(files) >= 4
    imports = {(str(path.relative_to(ROOT)), module) for path in files for module in imported_modules(path)}
    assert any(module == "numpy" for _, module in imports), "the walk finds imports at all"
    assert [pair for pair in sorted(imports) for package in forbidden if is_within(pair[1], package)] == []


def loaded_by(statement):
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


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


@pytest.mark.parametrize("name", utilities.__all__)
def test_every_public_name_resolves_to_a_public_name_of_its_module(name):
    found, home = getattr(utilities, name), import_module(utilities._HOME[name])
    assert found is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", utilities.scorers.__all__)
def test_every_scorer_resolves_to_a_public_name_of_its_module(name):
    found, home = getattr(utilities.scorers, name), import_module(utilities.scorers._HOME[name])
    assert found is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", utilities.lab.__all__)
def test_every_name_of_the_lab_resolves_whatever_was_imported_before(name):
    # A check and a module of one name would hide each other, depending on what was imported first.
    home = import_module(utilities.lab._HOME[name])
    assert getattr(utilities.lab, name) is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("package", [utilities, utilities.scorers, utilities.lab])
def test_public_names_and_their_homes_are_the_same_list(package):
    assert sorted(package.__all__) == sorted(package._HOME)
    assert len(set(package.__all__)) == len(package.__all__)


@pytest.mark.parametrize("package", [utilities, utilities.scorers, utilities.lab])
def test_an_unknown_attribute_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'evaluate_everything'"):
        package.evaluate_everything  # noqa: B018 - looking it up is the test


def test_every_scorer_class_that_a_task_may_name_is_exported():
    others = {"reward", "factuality", "pairwise", "topic_interest"}  # of `utilities.rewards` and `utilities.judges`
    built_in = {name: scorer_registry.get(name) for name in scorer_registry if name not in others}
    exported = {getattr(utilities.scorers, name) for name in utilities.scorers.__all__}
    assert [name for name, maker in built_in.items() if maker not in exported] == []
