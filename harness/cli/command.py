"""A verb as a command: it registers itself, its help has a short and a full form, and a flag takes a shell's list.

```python
@verb("Studies", reads=TASK | MODELS)
def count(settings_given: Given, json: JsonOption = False) -> None:
    ...
```
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from harness.cli.options import COMMON, PANELS, option_parameters
from harness.session.settings import known_settings, read_config
from utilities.errors import UserError
from utilities.foreign_text import printable

__all__ = [
    "SECTIONS",
    "VERBS",
    "ConfigOption",
    "Display",
    "DisplayOption",
    "Given",
    "JsonOption",
    "TrackOption",
    "Verb",
    "verb",
    "write_definitions",
]

SECTIONS = ("Search", "Look", "Evaluate", "Compare", "Data", "Use")
"""Sections of the list of verbs, in the order of the help page."""

Display = Literal["auto", "plain", "none"]
DisplayOption = Annotated[Display, typer.Option(help="auto: a live screen on a terminal, else plain lines.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, all else on stderr.")]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file with settings; flags override it.")]


def _checked_trackers(ctx: typer.Context, names: list[str] | None) -> list[str] | None:
    if names and not ctx.resilient_parsing:
        from harness.trackers.base import check_trackers

        check_trackers(names)
    return names


TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        callback=_checked_trackers,
        help="Also log to tensorboard, wandb, mlflow, or a FILE.py:NAME that is called with every event.",
    ),
]
Given = dict[str, Any]
"""Annotation of a verb's parameter that receives the settings given as flags, by flat name; None means not given."""

OWN_PANEL = "Options"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    name: str
    section: str
    function: Callable[..., None]
    reads: Set[str]
    """Flat names of the settings that it reads."""
    common: Set[str]
    """Those of its settings that the short help shows."""

    @property
    def summary(self) -> str:
        """The first paragraph of its help."""
        return (self.function.__doc__ or "").strip().partition("\n\n")[0]

    def command(self) -> TyperCommand:
        """The verb as a command that parses its options."""
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=self.name, cls=VerbCommand, context_settings={"help_option_names": ["-h", "--help"]})(
            self._with_options()
        )
        command = typer.main.get_command(app)
        assert isinstance(command, VerbCommand)  # noqa: S101 - made with this class
        command.verb = self
        return command

    def _with_options(self) -> Callable[..., None]:
        """The function with one option a setting in place of its parameter annotated `Given`."""
        own = list(inspect.signature(self.function, eval_str=True).parameters.values())
        given_name = next((p.name for p in own if p.annotation == Given), None)
        settings = option_parameters(self.reads) if given_name else []
        help_all = inspect.Parameter(
            "help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _HELP_ALL]
        )
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != given_name]

        def called(**values: Any) -> None:
            values.pop("help_all", None)
            if given_name:
                self._note_unread(values.get("config"))
                given = {p.name: values.pop(p.name) for p in settings}
                values[given_name] = {n: (tuple(v) or None) if isinstance(v, list) else v for n, v in given.items()}
            self.function(**values)

        parameters = [*settings, *keyword, help_all]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        called.__doc__, called.__name__ = self.function.__doc__, self.function.__name__
        return called

    def _note_unread(self, config: Path | None) -> None:
        """Reports settings of a `--config` file that this verb does not read; several verbs may share the file."""
        if config is not None and (unread := [name for name in read_config(config) if name not in self.reads]):
            text = f"note: --config {config}: `{self.name}` does not read {', '.join(unread)}"
            typer.echo(printable(text), err=True)


VERBS: dict[str, Verb] = {}
"""The verbs whose modules were imported."""


def verb(
    section: str, *, reads: Set[str] = frozenset(), common: Set[str] = COMMON
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as the verb that its module is named after.

    Args:
        section: One of `SECTIONS`.
        reads: Settings that the verb reads; all others are refused.
        common: Settings that the short help shows, if the verb reads them.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__module__.rpartition(".")[2].replace("_", "-")
        VERBS[name] = Verb(name, section, function, frozenset(reads), frozenset(reads & common))
        return function

    return register


class VerbCommand(TyperCommand):
    """Parses lists after one flag, explains a flag that belongs to other verbs, and writes help in two lengths."""

    verb: Verb

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments.

        Raises:
            UserError: A setting that this verb does not read.
        """
        if not ctx.resilient_parsing:
            self._refuse_unread(args)
        parsed: list[str] = super().parse_args(ctx, self._unfolded(args))
        return parsed

    def _refuse_unread(self, args: list[str]) -> None:
        offered = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        end = args.index("--") if "--" in args else len(args)
        for flag in (one.partition("=")[0] for one in args[:end] if one.startswith("--")):
            name = flag[2:].removeprefix("no-").replace("-", "_")
            if flag not in offered and name in known_settings():
                raise UserError(
                    f"`{self.name}` does not read {flag}; remove it (`{self.name} --help-all`: its options)"
                )

    def _unfolded(self, args: list[str]) -> list[str]:
        """`--experts a b` as `--experts a --experts b`, for flags that may be repeated.

        Where the verb has arguments of its own, only further paths that exist belong to the flag.
        """
        repeated = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        positional = any(param.param_type_name == "argument" for param in self.params)
        unfolded: list[str] = []
        flag = None
        values = 0
        for k, one in enumerate(args):
            if one == "--":
                return [*unfolded, *args[k:]]
            if one.startswith("-"):
                flag, values = one if one in repeated else None, 0
                unfolded.append(one)
                continue
            if flag is not None and values and (not positional or Path(one).exists()):
                unfolded += [flag, one]
            else:
                flag = flag if not values else None
                unfolded.append(one)
            values += 1
        return unfolded

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options in groups: the common ones, or with --help-all every one."""
        everything = ctx.meta.get("help_all", False)
        panels: dict[str, list[tuple[str, str]]] = {}
        hidden = 0
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            panel = getattr(param, "rich_help_panel", None) or OWN_PANEL
            if param.param_type_name == "argument":
                panel = "Arguments"
            elif not everything and param.name in self.verb.reads - self.verb.common:
                hidden += 1
                continue
            panels.setdefault(panel, []).append(record)
        order = ["Arguments", "Task", "Models", OWN_PANEL, *PANELS]
        for panel in sorted(panels, key=order.index):
            with formatter.section(panel):
                write_definitions(formatter, panels[panel])
        if hidden:
            formatter.write_paragraph()
            formatter.write_text(f"{hidden} more options: {ctx.command_path} --help-all")


def write_definitions(formatter: Any, rows: Sequence[tuple[str, str]], widest: int = 28) -> None:
    """Writes terms and their descriptions in two columns; unlike typer's own, it never breaks a name at a hyphen.

    Args:
        formatter: The help page.
        rows: Terms and descriptions.
        widest: A longer term has its description on the next line.
    """
    left = min(widest, max(len(term) for term, _ in rows)) + 2
    indent = " " * formatter.current_indent
    for term, text in rows:
        room = max(20, formatter.width - left - len(indent))
        lines = wrap(" ".join(text.split()), room, break_on_hyphens=False, break_long_words=False)
        if len(term) > left - 2:
            formatter.write(f"{indent}{term}\n")
            term = ""
        for line in lines or [""]:
            formatter.write(f"{indent}{term:<{left}}{line}".rstrip() + "\n")
            term = ""


def _show_all(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta["help_all"] = True
        typer.echo(ctx.get_help())
        ctx.exit()


_HELP_ALL = typer.Option("--help-all", callback=_show_all, is_eager=True, help="Show all options and exit.")
