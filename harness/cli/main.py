"""The command line: finds the verbs, one module each, runs one, and turns errors and signals into exit codes.

Only the module of the verb that is named is imported; the list of verbs imports them all, and nothing heavy.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import harness.cli
from harness.cli.command import SECTIONS, VERBS, write_definitions
from utilities.errors import UserError
from utilities.quiet import silence
from utilities.registry import unknown_name

__all__ = ["main"]

DEFAULT_VERB = "search"
OPEN_FILES = 128
"""Minimum of the limit on open files."""
PROGRAM = "model-swarms"
"""The installed command, for which a shell completes."""


class Verbs(TyperGroup):
    """The verbs by the names of their modules; options without a verb are those of `search`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Prints the help if there are no arguments, and inserts the default verb before an option that is not ours."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0].startswith("-") and args[0].partition("=")[0] not in own:
            args = [DEFAULT_VERB, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb, whose module is imported here.

        Raises:
            UserError: There is no such verb.
        """
        if cmd_name not in self.commands:
            module = f"harness.cli.{cmd_name.replace('-', '_')}"
            if cmd_name not in VERBS and cmd_name.replace("-", "").isalpha() and find_spec(module) is not None:
                import_module(module)
            if cmd_name not in VERBS:
                if ctx.resilient_parsing:
                    return None
                raise unknown_name("verb", cmd_name, self.list_commands(ctx))
            self.commands[cmd_name] = VERBS[cmd_name].command()
        return self.commands[cmd_name]

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all verbs, by section."""
        for module in iter_modules(harness.cli.__path__):
            import_module(f"harness.cli.{module.name}")
        return sorted(VERBS, key=lambda name: (SECTIONS.index(VERBS[name].section), name != DEFAULT_VERB, name))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Verbs and options; those of the default verb too."""
        offered = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            offered += self.get_command(ctx, DEFAULT_VERB).shell_complete(ctx, incomplete)
        return offered

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the verbs in sections, each with the first sentence of its help."""
        names = self.list_commands(ctx)
        for section in SECTIONS:
            rows = [(name, VERBS[name].summary) for name in names if VERBS[name].section == section]
            with formatter.section(section):
                write_definitions(formatter, rows)


def _print_version(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        except PackageNotFoundError:
            typer.echo(f"{PROGRAM}, not installed (run from a checkout)")
        ctx.exit()


app = typer.Typer(
    name=PROGRAM,
    cls=Verbs,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="VERB [OPTIONS]",
    epilog="`python run.py --task medical` is short for `python run.py search --task medical`.",
)


@app.callback(help="Model Swarms: adapt a pool of LoRA experts to a task by searching their mixtures.")
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _fail(message: str) -> NoReturn:
    from harness.display.console import open_console

    open_console(stderr=True, soft_wrap=True).print(f"Error: {message}", style="red", markup=False, highlight=False)
    raise SystemExit(2)


def _terminated(signal_number: int, frame: FrameType | None) -> None:
    if not callable(signal.getsignal(signal.SIGINT)):  # ignored, as under nohup
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)  # a running event loop cancels its tasks in order


def main() -> None:
    """Runs the command line; without a verb, `search`."""
    arguments = sys.argv[1:]
    silence(trace="--trace" in arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    completing = bool({"--install-completion", "--show-completion"} & set(arguments))
    program = "python run.py" if sys.argv[0].endswith("run.py") and not completing else PROGRAM
    for number in (signal.SIGTERM, signal.SIGHUP):  # an ended job or terminal leaves the same checkpoint as Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminated)
    from harness.display.console import standard_streams

    with standard_streams(json="--json" in arguments):
        _run(arguments, program)


def _check_open_files() -> None:
    """Raises the limit on open files if it is low.

    Raises:
        UserError: The limit cannot be raised far enough.
    """
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < OPEN_FILES:
        if 0 <= highest < OPEN_FILES:
            raise UserError(f"at most {highest} open files are allowed here; set `ulimit -n {OPEN_FILES}` or more")
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, highest))


def _run(arguments: list[str], program: str) -> None:
    """Runs a verb; its failures become one sentence and an exit code."""
    try:
        _check_open_files()
        code = app(
            arguments,
            prog_name=program,
            complete_var=f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE",
            standalone_mode=False,
        )
        if isinstance(code, int) and code:  # typer makes an exit code of Ctrl-C and of a verb's Exit
            raise SystemExit(code)
    except typer.Exit as ended:
        raise SystemExit(ended.exit_code) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _fail(f"no space left to write {error.filename or 'the run folder'}; free some, then resume the run")
        if error.errno in {errno.EACCES, errno.EROFS} and error.filename:
            _fail(f"{error.filename} cannot be written: {error.strerror}")
        if error.errno in {errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOENT}:
            _fail(f"{error.filename or 'a file of the run'}: {error.strerror}")
        raise
    except Exception as error:
        # typer brings its own copy of click, whose errors (unknown option, wrong type) share this method.
        if (message := getattr(error, "format_message", None)) is not None:
            _fail(message())
        raise
