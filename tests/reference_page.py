"""Writes `docs/reference.md` from the code: `python tests/reference_page.py`. `test_docs.py` compares the two."""

import ast
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import typer
from pydantic import BaseModel

from harness.cli.main import app
from harness.run_folder.events import AnyEvent
from harness.run_folder.result import Result
from utilities.registry import Registry

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
HEAD = """# Reference

Written by `python tests/reference_page.py` from the code; a test fails when it is out of date.

"""


def options() -> dict[tuple[str, str], list[str]]:
    """(option, its description) to the commands that have it."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for verb in group.list_commands(context):
        for parameter in group.get_command(context, verb).params:
            if parameter.name in {"help", "help_all"}:
                continue
            names = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
            names = [*names, *parameter.secondary_opts]
            found[" ".join(f"`{name}`" for name in names), clean(getattr(parameter, "help", ""))].append(verb)
    return found


def registries() -> dict[str, list[str]]:
    """Kind of thing to its registered names."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted([*(ROOT / "utilities").rglob("*.py"), *(ROOT / "harness").rglob("*.py")]):
        if "Registry[" not in path.read_text(encoding="utf-8"):
            continue
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for value in vars(module).values():
            if isinstance(value, Registry):
                found[value.kind] |= set(value)
    return {kind: sorted(names) for kind, names in sorted(found.items())}


def models_of(model: type[BaseModel], seen: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """A model and the models in its fields, by name, in the order of their appearance."""
    seen.setdefault(model.__name__, model)
    for field in model.model_fields.values():
        for kind in _inner(field.annotation):
            if kind.__name__ not in seen:
                models_of(kind, seen)
    return seen


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def described(model: type[BaseModel]) -> dict[str, str]:
    """Field to its description: the string below it in the source, of the class that declares it."""
    found: dict[str, str] = {}
    for declaring in reversed([c for c in model.__mro__ if issubclass(c, BaseModel) and c is not BaseModel]):
        body = ast.parse(textwrap.dedent(inspect.getsource(declaring))).body[0].body  # type: ignore[attr-defined]
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                )
                found[node.target.id] = clean(str(text))
    return {name: found.get(name, "") for name in model.model_fields}


def kind_of(annotation: Any) -> str:
    """A field's type in words."""
    arguments = get_args(annotation)
    name = str(annotation)
    if "Literal" in name.partition("[")[0]:
        return " or ".join(f"`{value}`" for value in arguments)
    if arguments and ("|" in name or "Union" in name) and "[" not in name.partition("|")[0]:
        return " or ".join("null" if one is NoneType else kind_of(one) for one in arguments)
    if name.startswith("typing.Annotated"):
        return kind_of(arguments[0])
    if name.startswith("list"):
        return f"list of {kind_of(arguments[0])}"
    if name.startswith("dict"):
        return f"mapping to {kind_of(arguments[1])}"
    plain = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    short = getattr(annotation, "__name__", name)
    return plain.get(short, short)


def clean(text: str | None) -> str:
    """A description on one line of a table."""
    return re.sub(r"\s+", " ", (text or "").replace("\\[", "[")).strip().replace("|", "\\|")


def table_of(model: type[BaseModel], hidden: frozenset[str] = frozenset()) -> list[str]:
    """The fields of a model as a table."""
    texts = described(model)
    rows = [
        f"| `{name}` | {kind_of(field.annotation)} | {texts[name]} |"
        for name, field in model.model_fields.items()
        if name not in hidden
    ]
    return ["| field | type | meaning |", "|---|---|---|", *rows, ""]


def page() -> str:
    """The whole page."""
    lines = ["## Options", "", "| option | commands | meaning |", "|---|---|---|"]
    lines += [f"| {names} | {', '.join(verbs)} | {text} |" for (names, text), verbs in sorted(options().items())]
    lines += ["", "## Registered names", "", "| kind | names |", "|---|---|"]
    lines += [f"| {kind} | {', '.join(f'`{name}`' for name in names)} |" for kind, names in registries().items()]
    lines += ["", "## Result", "", "`result.json` is a `Result`; the other tables are the objects in it.", ""]
    for name, model in models_of(Result, {}).items():
        lines += [f"### {name}", "", first_sentence(model), "", *table_of(model)]
    lines += ["## Events", "", "One line of `events.jsonl` each. Every event has `at`, seconds since 1970.", ""]
    for event in get_args(get_args(AnyEvent)[0]):
        kind = event.model_fields["kind"].default
        lines += [f"### `{kind}`", "", first_sentence(event), "", *table_of(event, frozenset({"at", "kind"}))]
    return HEAD + "\n".join(lines).rstrip() + "\n"


def first_sentence(model: type[BaseModel]) -> str:
    """The first paragraph of a docstring."""
    return clean((model.__doc__ or "").split("\n\n")[0])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
