import sys

import pytest

from utilities.errors import UserError
from utilities.registry import Registry, unknown_name


def test_an_entry_is_found_under_its_name():
    shapes = Registry("shape")

    @shapes.register("square")
    class Square: ...

    assert shapes.get("square") is Square
    assert list(shapes) == ["square"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("squar", "Did you mean 'square'?"), ("SQUARE", None), ("xyz", None), ("circel", "Did you mean 'circle'?")],
)
def test_a_wrong_name_is_answered_with_the_nearest_right_one(asked, hint):
    shapes = Registry("shape")
    shapes.register("square")(1)
    shapes.register("circle")(2)
    with pytest.raises(UserError, match=f"unknown shape '{asked}'") as caught:
        shapes.get(asked)
    assert "Known: circle, square." in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == (hint is not None)
    assert (hint or "") in str(caught.value)


def test_an_empty_registry_says_that_nothing_is_known():
    assert "Known: none." in str(unknown_name("shape", "square", []))


def test_a_name_is_registered_once():
    shapes = Registry("shape")
    shapes.register("square")(1)
    with pytest.raises(ValueError, match="shape 'square' is registered twice"):
        shapes.register("square")(2)
    assert shapes.get("square") == 1


def test_a_module_is_imported_only_when_its_name_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "shapes_of_a_user.py").write_text("import registry_under_test as r\nr.shapes.register('star')(5)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    shapes = Registry("shape", {"star": "shapes_of_a_user"})
    monkeypatch.setitem(sys.modules, "registry_under_test", type("Holder", (), {"shapes": shapes}))
    assert list(shapes) == ["star"]
    assert "shapes_of_a_user" not in sys.modules
    assert shapes.get("star") == 5
    assert sys.modules.pop("shapes_of_a_user")


def test_names_of_modules_are_suggested_without_importing_them():
    shapes = Registry("shape", {"square": "no_such_module_anywhere"})
    with pytest.raises(UserError, match="Did you mean 'square'"):
        shapes.get("squere")
