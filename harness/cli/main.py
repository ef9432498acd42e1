"""Verbs and options of the command line. Nothing heavy is imported before a verb needs it.

The options of a run are made from the fields of `RunSettings`, so a setting is described in one place.
"""

from __future__ import annotations

import errno
import inspect
import os
import signal
import sys
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import typer

from harness.session.settings import NESTED, RunSettings, known_settings, read_config, run_settings
from utilities.errors import UserError

__all__ = ["main"]

app = typer.Typer(
    name="model-swarms",
    help="Adapt LLM experts by collaborative search: experts in, better expert out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

VERBS = (
    "search", "resume", "compare", "sweep", "lab", "evaluate", "score", "validate", "topic", "list", "doctor", "serve",
    "serve-judge",
)  # fmt: skip
SHORT = {"task": "-t", "limit": "-n"}
PANELS = {"swarm": "The swarm (Algorithm 1)", "engine_settings": "The engine", "judging": "The judges"}
WRITING = {
    "judge", "judge_url", "judge_key_env", "judge_key_file", "judge_price", "allow_unknown_price", "budget_tokens",
    "budget_usd",
}  # fmt: skip
"""Settings that matter where a judge model writes and nobody judges."""
Display = Literal["auto", "plain", "none"]

DisplayOption = Annotated[Display, typer.Option(help="auto: a live screen on a terminal, else plain lines.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, all else on stderr.")]


def _with_settings(verb: Callable[..., None], only: Container[str] | None = None) -> Callable[..., None]:
    """Gives a verb, in place of its parameter `given`, one option for every setting of a run, or for `only` some."""
    panels = {name: PANELS[group] for group, model in NESTED.items() for name in model.model_fields}
    added = []
    for name, field in known_settings().items():
        if only is not None and name not in only:
            continue
        kind = _option_type(field.annotation)
        flag = "--" + name.replace("_", "-")
        flags = [flag + f"/--no-{flag[2:]}"] if kind is bool else [flag, *([SHORT[name]] if name in SHORT else [])]
        default = "" if field.is_required() or field.default in (None, ()) else f" [default: {field.default}]"
        option = typer.Option(
            *flags,
            help=(field.description or "") + default.replace("[", r"\["),
            metavar=_metavar(field.annotation),
            show_default=False,
            rich_help_panel=panels.get(name, "The run"),
        )
        added.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "given"]

    def called(**values: Any) -> None:
        given = {p.name: values.pop(p.name) for p in added}
        given = {name: (tuple(v) or None) if isinstance(v, list) else v for name, v in given.items()}
        verb(given=given, **values)

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    called.__signature__ = inspect.Signature([*added, *keyword])  # type: ignore[attr-defined]  # where inspect looks first
    called.__annotations__ = {p.name: p.annotation for p in [*added, *keyword]}
    called.__doc__, called.__name__ = verb.__doc__, verb.__name__
    return called


def _option_type(annotation: Any) -> Any:
    """How an option is parsed: flags and lists by typer, every other value by pydantic, so that a wrong one is answered
    with the same sentence whether it came from a flag or from a file."""
    if annotation is bool:
        return bool
    return list[str] if get_origin(annotation) is tuple else str


def _metavar(annotation: Any) -> str | None:
    """What an option's value looks like in the help."""
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    if choices:
        return "|".join(choices)
    kinds = {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    inner = [a for a in get_args(annotation) if a is not type(None)] or [annotation]
    return None if annotation is bool else kinds.get(inner[0], "TEXT")


def _settings(config: Path | None, given: dict[str, Any]) -> RunSettings:
    """Defaults < task file < --config file < flags."""
    from utilities.tasks import read_task_file

    layers: list[dict[str, Any]] = [read_config(config) if config else {}, given]
    merged = run_settings(*layers) if any(layer.get("task") for layer in layers) else None
    if merged is None:
        from utilities.tasks import list_tasks

        raise UserError(f"no task given: add --task NAME, one of {', '.join(list_tasks())}, or the path of a task file")
    described, path = read_task_file(merged.task)
    edition = described.choose(merged.edition, merged.preferred_edition)
    try:
        return run_settings(described.editions[edition].settings, *layers)
    except UserError as error:
        raise UserError(f"{error} (recommended settings are in {path})") from error


@app.command()
@_with_settings
def search(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    topic: Annotated[
        str | None, typer.Option(help="A topic of your own in place of a task: instructions on it are drafted first.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="Your own instructions on it: .txt, one a line, or .json, .jsonl, .yaml.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="Name of the run folder; by default task, seed and a number.")
    ] = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Adapts a pool of experts to a task, or to a topic, with a particle swarm. The default verb."""
    spent = None
    if topic is not None or instructions is not None:
        if given["task"] is not None:
            raise UserError("--task names a task and --topic makes one: give one of them")
        from harness.topics.draft import topic_task

        layers = ({"task": "topic"}, read_config(config) if config else {}, given)
        path, spent = topic_task(topic, instructions, run_settings(*layers), out, _note)
        given["task"] = str(path)
    settings = _settings(config, given)
    from harness.cli.search import run_search

    run_search(settings, out, name, display, json, spent)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The run folder.")],
    budget_tokens: Annotated[int | None, typer.Option(help="Another budget for the judges of the whole run.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Another budget, in US dollars.")] = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Continues an interrupted run; it ends as if it had never been interrupted."""
    from harness.cli.search import run_resume

    given = {"budget_tokens": budget_tokens, "budget_usd": budget_usd}
    run_resume(folder, display, json, {name: value for name, value in given.items() if value is not None})


@app.command()
@_with_settings
def compare(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    methods: Annotated[str, typer.Option(help="all, static, dynamic, or names parted by commas.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each method that draws random numbers.")] = 3,
    budget: Annotated[int, typer.Option(min=1, help="Evaluations on dev that each search has.")] = 120,
    space: Annotated[
        Literal["factors", "delta"], typer.Option(help="Merge A and B apart, or their products BA.")
    ] = "factors",
    training_data: Annotated[
        Path | None, typer.Option(help="Folder of EXPERT.jsonl: {prompt, answer} that each expert was trained on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the comparison; one that was begun there is continued.")
    ] = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Compares the search with the simpler things, at equal budget; several tasks are parted by commas.

    The same command again continues a comparison that was interrupted.
    """
    told = given["task"] or (read_config(config).get("task") if config else None)
    names = [name.strip() for name in str(told or "").split(",") if name.strip()]
    settings = [_settings(config, {**given, "task": name}) for name in names] or [_settings(config, given)]
    from harness.compare.compare import run_compare

    run_compare(
        settings,
        methods,
        seeds=seeds,
        budget=budget,
        space=space,
        training_data=training_data,
        out=out,
        display=display,
        json=json,
    )


@app.command()
@_with_settings
def sweep(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    trials: Annotated[int, typer.Option(min=2, help="Searches; the first one has the settings as they are.")] = 30,
    sampler: Annotated[Literal["tpe", "random"], typer.Option(help="How hyperparameters are proposed.")] = "tpe",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluations of each search; by default those of the settings' iterations, or 120."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; one that was begun there is continued.")
    ] = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Sweeps the hyperparameters of the search, and says what is left of the best where nothing was picked.

    The same command again continues a sweep that was interrupted.
    """
    settings = _settings(config, given)
    from harness.sweep.sweep import run_sweep

    run_sweep(settings, trials=trials, sampler=sampler, budget=budget, out=out, display=display, json=json)


@app.command()
@_with_settings
def lab(
    given: dict[str, Any],
    designs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DESIGN]...",
            help="Utilities to be tested: a scorer's name or FILE.py:NAME, where wanted with ,OPTION=VALUE; by default"
            " the task's own.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="What people said of answers: .jsonl or .csv with item, response, rater, label.")
    ] = None,
    responses: Annotated[
        list[Path] | None, typer.Option(help="Folder of a run whose stored answers are looked at; no model is loaded.")
    ] = None,
    cloud: Annotated[int, typer.Option(min=0, help="Mixtures of two experts that are measured too.")] = 12,
    probes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Dev items of which bad and repeated answers are made; by default 200, with judges 25."
        ),
    ] = None,
    search: Annotated[bool, typer.Option("--search", help="Search with each design as the objective, too.")] = False,
    budget: Annotated[int, typer.Option(min=1, help="Evaluations on dev of each of these searches.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Such searches with each design.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the lab; one that was begun there is continued.")] = None,
    display: DisplayOption = "auto",
    json: JsonOption = False,
) -> None:
    """Tells whether a utility can be trusted as an objective, before a search is spent on it.

    The same command again continues a lab that was interrupted, and asks no judge twice.
    """
    told = given["task"] or (read_config(config).get("task") if config else None)
    if responses and told:
        raise UserError("--responses brings the task of its run along: leave --task out")
    wanted = {"designs": tuple(designs or ()), "labels": labels, "cloud": cloud, "probes": probes}
    wanted |= {"search": search, "budget": budget, "seeds": seeds}
    layers = {**(read_config(config) if config else {}), **{k: v for k, v in given.items() if v is not None}}
    settings = None if responses else _settings(config, given)
    from harness.cli.lab import run_lab

    run_lab(settings or layers, wanted, responses or [], out, display, json)


@app.command()
@_with_settings
def evaluate(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    split: Annotated[Literal["dev", "test"], typer.Option(help="Which split.")] = "dev",
    out: Annotated[Path | None, typer.Option(help="Write the records of every answer to this new folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Scores the base model and every expert (or one adapter) on a task, without a search."""
    settings = _settings(config, given)
    from harness.cli.search import run_evaluate

    run_evaluate(settings, split, out, json)


@app.command()
@_with_settings
def validate(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings; flags win over it.")] = None,
    json: JsonOption = False,
) -> None:
    """Checks a task file, its data and the experts without running a model."""
    settings = _settings(config, given)
    from harness.cli.search import run_validate

    run_validate(settings, json)


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="The run folder, or the folder of `evaluate --out`.")],
    utility: Annotated[
        str | None, typer.Option(help="A scorer's name, or FILE.py:NAME; by default the task's own.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the scorer, as NAME=VALUE.")] = None,
    combine: Annotated[str | None, typer.Option(help="Another way to make one number of the item sets.")] = None,
    json: JsonOption = False,
) -> None:
    """Scores the stored responses of a run again, with another utility and without generating."""
    from harness.cli.search import run_score

    given = {"utility": utility, "option": tuple(option or ()), "combine": combine}
    run_score(folder, {name: value for name, value in given.items() if value}, json)


@app.command()
@partial(_with_settings, only=WRITING)
def topic(
    given: dict[str, Any],
    text: Annotated[str, typer.Argument(help="The interest, in a few words of any language.")],
    out: Annotated[
        Path | None, typer.Option(help="The task file to write; by default named after the topic.", metavar="FILE.yaml")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    dev: Annotated[int, typer.Option(min=2, max=500, help="Instructions that choose.")] = 25,
    test: Annotated[int, typer.Option(min=2, max=500, help="Instructions that test.")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Which instructions become dev and which test.")] = 0,
) -> None:
    """Has a judge model write instructions on a topic of your own, as a task file to read and edit.

    Without --judge, or with the embedded one, which cannot write, subjects of the bundled corpus are asked about.
    """
    from harness.topics.draft import run_topic

    run_topic(text, out, given, force=force, dev=dev, test=test, seed=seed)


@app.command(name="list")
def list_(what: Annotated[Literal["tasks", "utilities", "engines"], typer.Argument(help="What to list.")]) -> None:
    """Lists what can be named: tasks, utilities, engines."""
    from harness.cli.list import print_list

    print_list(what)


@app.command()
def doctor() -> None:
    """Says what is installed, which engines work here, and what is missing."""
    from harness.cli.doctor import examine

    examine()


@app.command()
def serve(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [-- OPTIONS]", help="The run folder; after -- any options of vLLM's server."),
    ] = None,
    experts: Annotated[bool, typer.Option("--experts", help="Serve the run's initial experts too.")] = False,
    base_model: Annotated[
        str | None, typer.Option(help="Without a run: 'embedded' (the default), a folder, or a hub id.")
    ] = None,
    updates: Annotated[
        bool, typer.Option("--updates", help="Let clients load adapters. Always so without a run.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to bind. No key is asked for: beware of others.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind.")] = 8000,
) -> None:
    """Serves a run's winner to any OpenAI client, or without a run the base model to `--engine remote`."""
    from harness.cli.serve import run_serve

    run_serve(given or [], base_model, host, port, experts=experts, updates=updates)


@app.command(name="serve-judge")
def serve_judge(
    model: Annotated[str | None, typer.Option(help="Folder or hub id; by default the embedded judge.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="LoRA adapter that is merged into the model.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind. No key is asked for: beware of others.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0 takes a free one.")] = 8008,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default torch's own choice.")] = None,
) -> None:
    """Serves a local model through the protocol of hosted ones, for `--judge` and `--judge-url`."""
    from harness.local_judge.server import run_serve_judge

    run_serve_judge(model, adapter, host, port, threads)


def _note(text: str) -> None:
    from harness.display.console import open_console

    open_console(stderr=True, soft_wrap=True).print(f"note: {text}", style="dim", markup=False, highlight=False)


def _fail(message: str) -> NoReturn:
    from harness.display.console import open_console

    open_console(stderr=True, soft_wrap=True).print(f"Error: {message}", style="red", markup=False, highlight=False)
    raise SystemExit(2)


def _terminated(signal_number: int, frame: FrameType | None) -> None:
    if not callable(signal.getsignal(signal.SIGINT)):  # ignored, as under nohup
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)  # whose handler, where an event loop runs, ends its tasks in order


def main() -> None:
    """Runs the command line; `search` is understood where no verb is named."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in {*VERBS, "--help", "-h"} and arguments[0].startswith("-"):
        arguments = ["search", *arguments]
    signal.signal(signal.SIGTERM, _terminated)  # a cluster that ends a job gets the same checkpoint as Ctrl-C
    from harness.display.console import standard_streams

    with standard_streams(json="--json" in arguments):
        _run(arguments)


def _run(arguments: list[str]) -> None:
    """Runs a verb; its failures become one sentence and an exit code."""
    try:
        code = app(arguments, standalone_mode=False)
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
        raise
    except Exception as error:
        # typer brings its own copy of click, whose errors (unknown option, wrong type) share this method.
        if (message := getattr(error, "format_message", None)) is not None:
            _fail(message())
        raise
