import json
import subprocess
import sys
from pathlib import Path

import pytest

from utilities.errors import UserError
from utilities.registry import Registry, unknown_name

ROOT = Path(__file__).parents[2]


def test_an_entry_is_returned_under_its_name():
    shapes = Registry("shape")

    @shapes.register("square")
    class Square: ...

    assert shapes.get("square") is Square
    assert list(shapes) == ["square"]


@pytest.mark.parametrize(
    ("requested", "hint"),
    [("squar", "Did you mean 'square'?"), ("SQUARE", None), ("xyz", None), ("circel", "Did you mean 'circle'?")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(requested, hint):
    shapes = Registry("shape")
    shapes.register("square")(1)
    shapes.register("circle")(2)
    for look_up in (shapes.get, shapes.check):
        with pytest.raises(UserError, match=f"unknown shape '{requested}'") as caught:
            look_up(requested)
        assert "Known: circle, square." in str(caught.value)
        assert ("Did you mean" in str(caught.value)) == (hint is not None)
        assert (hint or "") in str(caught.value)


def test_an_empty_registry_has_no_suggestion():
    assert "Known: none." in str(unknown_name("shape", "square", []))


def test_a_name_is_registered_once():
    shapes = Registry("shape")
    shapes.register("square")(1)
    with pytest.raises(ValueError, match="shape 'square' is registered twice"):
        shapes.register("square")(2)
    assert shapes.get("square") == 1


def test_running_the_same_definition_again_replaces_the_entry():
    shapes = Registry("shape")

    def cell():
        @shapes.register("square")
        def square(): ...

        return square

    cell()
    again = cell()
    assert shapes.get("square") is again

    def other(): ...

    with pytest.raises(ValueError, match="registered twice"):
        shapes.register("square")(other)


def test_a_module_is_imported_only_when_its_name_is_requested(tmp_path, monkeypatch):
    (tmp_path / "shapes_of_a_user.py").write_text(
        '"""Many shapes."""\n'
        "import registry_under_test as r\n\n"
        "@r.shapes.register('star')\nclass Star:\n    '''Five corners.\n\n    Or more.'''\n\n"
        "r.shapes.register('dot')(5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    shapes = Registry("shape", modules={"star": "shapes_of_a_user", "dot": "shapes_of_a_user"})
    monkeypatch.setitem(sys.modules, "registry_under_test", type("Holder", (), {"shapes": shapes}))
    assert list(shapes) == ["star", "dot"]
    assert "star" in shapes
    shapes.check("star")
    assert shapes.describe("star") == "Five corners."
    assert shapes.describe("dot") == "Many shapes."
    assert "shapes_of_a_user" not in sys.modules
    assert shapes.get("dot") == 5
    assert shapes.describe("star") == "Five corners."
    assert sys.modules.pop("shapes_of_a_user")


def test_names_of_modules_are_suggested_without_importing_them():
    shapes = Registry("shape", modules={"square": "no_such_module_anywhere"})
    with pytest.raises(UserError, match="Did you mean 'square'"):
        shapes.get("squere")
    assert shapes.describe("square") == ""


def test_a_file_of_a_package_registers_without_a_list_and_is_imported_when_it_is_requested(tmp_path, monkeypatch):
    package = tmp_path / "shapes_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    code = 'from shapes_package import shapes\n\n\n@shapes.register("circle")\ndef make():\n    """A round shape."""\n'
    (package / "round.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import shapes_package

    shapes_package.shapes = shapes = Registry("shape", ("shapes_package",), ("shapes.register",))
    assert list(shapes) == ["circle"] and shapes.describe("circle") == "A round shape."
    assert "shapes_package.round" not in sys.modules
    assert shapes.get("circle").__name__ == "make"
    (package / "oval.py").write_text(code)
    with pytest.raises(ValueError, match=r"'circle' is registered by shapes_package\.\w+ and by"):
        list(Registry("shape", ("shapes_package",), ("shapes.register",)))


def test_an_object_of_a_file_is_an_entry(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def star(): ...\n")
    shapes = Registry("shape")
    shapes.check(f"{path}:star")
    assert shapes.get(f"{path}:star").__name__ == "star"
    assert list(shapes) == []
    with pytest.raises(UserError, match=r"unknown shape of .*mine.py 'stor'. Did you mean 'star'\?"):
        shapes.get(f"{path}:stor")
    with pytest.raises(UserError, match=r"no\.py does not exist"):
        shapes.get(f"{tmp_path}/no.py:star")


def install(folder, name, module, points):
    """Lays an installed distribution into `folder`: a module and the metadata that declares entry points."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_an_installed_package_adds_entries(tmp_path, monkeypatch):
    install(
        tmp_path,
        "starry",
        "def star():\n    '''Five corners.'''\n",
        "[tests.shapes]\nstar = starry:star\nsquare = starry:star\nbroken = starry:nothing\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    shapes = Registry("shape", group="tests.shapes")
    shapes.register("square")(4)
    assert list(shapes) == ["broken", "square", "star"]
    assert "star" in shapes
    assert shapes.describe("star") == "Five corners."
    assert "starry" not in sys.modules
    assert shapes.get("star").__name__ == "star"
    assert shapes.get("square") == 4, "a package cannot replace an entry of the project"
    with pytest.raises(UserError, match="shape 'broken': starry:nothing of the package starry cannot be loaded: Attr"):
        shapes.get("broken")
    assert list(Registry("shape")) == []
    assert sys.modules.pop("starry")


PACKAGE = '''
import numpy as np
from harness.engines.local import LocalEngine
from harness.swarm.random_search import RandomSearch
from utilities.scorers import MultipleChoice, utility

class SecondOption(MultipleChoice):
    """Accuracy, under another name."""

@utility(max_tokens=4)
def brief(item, response):
    """Short answers."""
    return 1.0 / (1 + len(response.text))

class MyEngine(LocalEngine):
    """The local engine of another package."""

def my_search(columns, settings, seed, groups):
    """Random mixtures of another package."""
    return RandomSearch(columns, seed, settings.particles)

def first_part(values):
    """The first part."""
    return next(iter(values.values()))
'''
POINTS = """
[model_swarms.scorers]
second_option = addons:SecondOption
brief = addons:brief
[model_swarms.engines]
mine = addons:MyEngine
[model_swarms.optimisers]
mine = addons:my_search
[model_swarms.combinations]
first_part = addons:first_part
[model_swarms.methods]
first_expert = addons_method:first_expert
"""
METHOD = """
from harness.compare.method import MethodResult, method

@method("first_expert")
async def first_expert(context):
    return MethodResult(expert=context.evaluator.experts[0])
"""


def test_an_installed_package_adds_to_every_registry_and_nothing_else_is_edited(tmp_path):
    install(tmp_path, "addons", PACKAGE, POINTS)
    (tmp_path / "addons_method.py").write_text(METHOD)
    code = """
import json, sys
from harness.session.settings import run_settings
settings = run_settings({"task": "medical", "optimiser": "mine", "engine": "mine", "combine": "first_part"})
assert "addons" not in sys.modules and "torch" not in sys.modules
from harness.engines.base import engines
assert engines.describe("mine") == "The local engine of another package."
from harness.swarm.optimisers import make_optimiser
from utilities.scorer_by_name import make_scorer
from utilities.tasks import load_task
search = make_optimiser(3, 3, settings.swarm, 0)
search.tell([0.0] * len(search.ask()))
from harness.compare.method import methods, selected_methods
assert selected_methods("first_expert,base") == ["base", "first_expert"]
assert methods.get("first_expert").run.__name__ == "first_expert"
task = load_task("medical", edition="mini", limit=2, combine=settings.combine)
print(json.dumps([search.ask().shape, type(make_scorer("brief", {})).__name__,
    type(make_scorer("second_option", {})).__name__, engines.get("mine").__name__, task.combine.__name__]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{tmp_path}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[20, 3], "FunctionScorer", "SecondOption", "MyEngine", "first_part"]
