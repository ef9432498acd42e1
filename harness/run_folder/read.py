"""Reads a run folder: settings, result, and tables of its iterations and answers.

    >>> run = open_run("runs/medical-seed0")
    >>> run.table()
    >>> run.history[["iteration", "best_metric"]]
    >>> run.answers.query("split == 'test' and label == 'winner' and score == 0")[["question", "gold", "response"]]
    >>> run.models("test")["winner"].value
    >>> run.winner.save("my-expert")

Folders of version 0.1 are read too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from harness.run_folder.events import AnyEvent, IterationDone
from harness.run_folder.result import Result, Winner
from harness.run_folder.store import Store
from harness.run_folder.version_0_1 import current_names
from utilities.bounded_input import read_yaml
from utilities.core import Evaluation, Item, Scorer, Split
from utilities.data_files import Part
from utilities.errors import UserError, in_words
from utilities.prompts import prompt_hash
from utilities.scorer_by_name import scorer_of
from utilities.scorers.base import PromptedScorer
from utilities.task_file import Edition, ItemSetFile, read_task_file
from utilities.task_items import read_items, with_examples
from utilities.user_code import file_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STUDIES", "Run", "RunWinner", "Study", "open_run"]

Study = Literal["search", "evaluate", "compare", "sweep", "lab", "analyse"]
STUDIES: dict[Study, str] = {
    "compare": "compare",
    "sweep": "sweep",
    "lab": "lab",
    "analyse": "analyse",
    "evaluate": "evaluated",
    "search": "settings",
}
"""Verbs that write a folder, and the key by which the settings of their folders are recognised, in this order."""
BASE = "base model"
"""Name of the base model in tables."""
M = TypeVar("M", bound=BaseModel)


def open_run(folder: str | Path) -> Run:
    """The run in a folder, finished or not; nothing is written.

    Raises:
        UserError: No run folder, or a damaged file in it.
    """
    folder = Path(folder).expanduser()
    if not (folder / "settings.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: it has no settings.yaml")
    return Run(folder)


@dataclass(frozen=True)
class RunWinner:
    """The winner of a search."""

    folder: Path
    """The adapter, as peft loads it (a model of transformers if the experts are full models)."""
    summary: Winner
    """Its entry in `result.json`: values on dev and test, and how it was selected."""

    @property
    def coefficients(self) -> dict[str, float]:
        """Expert -> coefficient; the mean over groups of modules if there are several."""
        return self.summary.coefficients

    def save(self, folder: str | Path) -> Path:
        """Copies the adapter to a new folder, which is returned.

        Raises:
            UserError: The folder exists, or the run's adapter does not.
        """
        target = Path(folder).expanduser()
        if target.exists():
            raise UserError(f"{target} already exists; choose another folder")
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} does not exist; the winner was not written or was moved")
        return Path(shutil.copytree(self.folder, target))


class Run:
    """A run folder, read on first use of each attribute.

    Args:
        folder: The run folder; it is not checked here (see `open_run`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = Store(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {'finished' if self.result else 'not finished'})"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The content of `settings.yaml`: settings, versions, hashes of data and weights."""
        return self._store.settings()

    @property
    def study(self) -> Study:
        """The verb that wrote the folder.

        Raises:
            UserError: No verb of this project.
        """
        for study, key in STUDIES.items():
            if key in self.document:
                return study
        raise UserError(f"{self.folder / 'settings.yaml'} has no settings of a run")

    @property
    def state(self) -> str:
        """finished, running, or interrupted."""
        if self.study == "evaluate":
            finished = any((self.folder / "records").glob("evaluate_*.parquet"))
        else:
            finished = (self.folder / ("result.json" if self.study == "search" else f"{self.study}.json")).is_file()
        return "running" if self._store.in_use else "finished" if finished else "interrupted"

    def read(self, name: str, schema: type[M]) -> M | None:
        """A JSON file of the folder as its schema; None if there is no such file.

        Raises:
            UserError: The file is corrupt.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return schema.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{path} is corrupt: {in_words(error)}") from error

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings by the names of the flags, of a comparison those of its first task; `harness.search(**run.settings)`
        repeats a search."""
        tasks = self.document.get("tasks")
        places = [self.document, self.document.get("task"), *(tasks.values() if isinstance(tasks, Mapping) else ())]
        stored = next((one["settings"] for one in places if isinstance(one, Mapping) and "settings" in one), None)
        if not isinstance(stored, Mapping):
            raise UserError(f"{self.folder / 'settings.yaml'} has no settings of a run")
        flat = dict(stored)
        for group in [name for name, value in stored.items() if isinstance(value, Mapping)]:
            flat |= flat.pop(group)
        return current_names(flat)

    @cached_property
    def result(self) -> Result | None:
        """`result.json`; None if the run is not finished.

        Raises:
            UserError: The file is corrupt.
        """
        return self.read("result.json", Result)

    @property
    def winner(self) -> RunWinner:
        """The winner.

        Raises:
            UserError: The run is not finished.
        """
        if self.result is None:
            raise UserError(f"{self.folder} has no winner: the run is not finished; run `resume {self.folder}`")
        return RunWinner(self.folder / "best", self.result.winner)

    def table(self) -> pd.DataFrame:
        """The final table: a row for the base model, each expert and the winner.

        Raises:
            UserError: The run is not finished.
        """
        import pandas as pd

        if self.result is None:
            raise UserError(f"{self.folder} has no table: the run is not finished; run `resume {self.folder}`")
        rows = [
            row.model_dump(include={"name", "kind", "dev", "dev_se", "test", "test_se"}) for row in self.result.rows
        ]
        return pd.DataFrame(rows)

    @cached_property
    def events(self) -> list[AnyEvent]:
        """The logged events, in order."""
        return list(self._store.events())

    @property
    def iterations(self) -> list[IterationDone]:
        """The last event of each complete iteration; one that was repeated after an interruption counts once."""
        last = {event.iteration: event for event in self.events if isinstance(event, IterationDone)}
        return [last[iteration] for iteration in sorted(last)]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each scored row of the search: `iteration`, `evaluations` until it was scored (rows of an iteration
        are spread evenly over its evaluations), `metric`, and `best_metric` until the end of its iteration."""
        import pandas as pd

        rows: list[tuple[int, float, float, float]] = []
        before, best = 0, float("-inf")
        for done in self.iterations:
            scores = [score for score in done.scores if score is not None]
            best = max([best, *scores])
            step = (done.evaluations - before) / max(1, len(scores))
            rows += [(done.iteration, before + step * k, score, best) for k, score in enumerate(scores, 1)]
            before = done.evaluations
        return pd.DataFrame(rows, columns=["iteration", "evaluations", "metric", "best_metric"])

    @cached_property
    def combine(self) -> Callable[..., Any] | None:
        """The combination of the item sets' values; None if the task file cannot be read or names a user's function."""
        return self._source.combine

    @cached_property
    def items(self) -> Mapping[tuple[str, str, str], Item]:
        """The items by (item set, split, id): those stored in the folder, else those of the task's data if it can be
        read; else empty."""
        return self._source.items

    def items_of(self, task: str) -> Mapping[tuple[str, str, str], Item]:
        """The stored items of one task of a comparison."""
        return self._store.items(task)

    @property
    def first_item_set(self) -> str:
        """The item set of records that name none."""
        return self._source.first

    @cached_property
    def _source(self) -> _Items:
        return _Items(self.settings if "settings" in self.document else {}, self._store.items())

    def evaluations(self, record: str, part: str = "") -> dict[str, Evaluation]:
        """The evaluations in `records/<record>.parquet` by label; empty if there is no such file.

        Args:
            record: Name of the file.
            part: Folder inside the run folder that has the records, such as `designs/01` of a lab.

        Raises:
            UserError: The file is corrupt.
        """
        return Store(self.folder / part).evaluations(record, self.combine or _unknown)

    def models(self, split: Split) -> dict[str, Evaluation]:
        """The final evaluations on a split by name: base model, experts, winner; those that are stored."""
        return self._models(f"evaluate_{split}") if self.study == "evaluate" else self._models(f"{split}_")

    def other_scores(self, split: Split) -> dict[str, dict[str, Evaluation]]:
        """Other scores of the answers of `models`: scorer -> name -> evaluation. The scorers are the task's report-only
        ones (on test), and those of `score --utility`."""
        prefixes = {}
        for path in sorted((self.folder / "records").glob("*.parquet")):
            if split == "test" and (own := re.fullmatch(r"(beside_(.+?)_)(base|winner|expert_.+)", path.stem)):
                prefixes[own[2]] = own[1]
            elif again := re.match(rf"(rescored-(.+?)-(evaluate_{split}$|{split}_))", path.stem):
                prefixes[again[2]] = again[1]
        return {scorer: self._models(prefix) for scorer, prefix in prefixes.items()}

    def _models(self, prefix: str) -> dict[str, Evaluation]:
        """The evaluations in one file named `prefix`, or in files of one model each whose names begin with it."""
        found = self.evaluations(prefix)
        for path in sorted((self.folder / "records").glob("*.parquet")):
            name = path.stem.removeprefix(prefix)
            if name != path.stem and (name in ("base", "winner") or name.startswith("expert_")):
                found[BASE if name == "base" else name.removeprefix("expert_")] = next(
                    iter(self.evaluations(path.stem).values())
                )
        return found

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row for each iteration: evaluations and seconds so far, the mean metric of its rows, the metric of the best
        row so far (`best_metric`), the objective, and the coefficients of the best row by objective, one column an
        expert (`coefficient NAME`)."""
        import pandas as pd

        start = self.events[0].at if self.events else 0.0
        rows: list[dict[str, Any]] = []
        best: float | None = None
        for event in self.iterations:
            scores = [score for score in event.scores if score is not None]
            best = max([*scores, *([] if best is None else [best])], default=None)
            row = {
                "iteration": event.iteration,
                "evaluations": event.evaluations,
                "seconds": event.at - start,
                "mean_metric": sum(scores) / len(scores) if scores else None,
                "best_metric": best,
                "objective": event.objective,
            }
            rows.append(row | {f"coefficient {name}": value for name, value in event.coefficients.items()})
        return pd.DataFrame(rows)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row for each stored answer.

        Columns: `label` (base, best, winner, expert_NAME, or the particle's number), `split`, `iteration` (missing in
        the final evaluations), `report_only` (the scorer, if it is not the one of the search), `item_set`, `item`,
        `question`, `options`, `gold`, `prompt`, `response`, `score`, `unscored` (the reason), `detail`, `measures`,
        `notes`, `tokens`, `choice_logprobs`. Question, options and gold answer are those stored in the folder; in
        folders of version 0.1 they come from the task's data, and are None if it cannot be read. A prompt is None if
        the task cannot be read or its prompt has changed.
        """
        import pandas as pd
        from pyarrow import ArrowException, parquet

        tables = []
        for path in sorted((self.folder / "records").glob("*.parquet")):
            try:
                table = parquet.read_table(path).to_pandas()
            except ArrowException as error:
                raise UserError(f"{path} is corrupt: {error}") from error
            tables.append(table.assign(**_origin(path.stem)))
        if not tables:
            return pd.DataFrame(columns=COLUMNS)
        answers = pd.concat(tables, ignore_index=True)
        answers["iteration"] = answers["iteration"].astype("Int64")
        answers["measures"] = answers["measures"].map(dict)
        source = self._source
        answers["item_set"] = answers["item_set"].str.partition(":")[0].replace("", source.first)
        keys = list(zip(answers["item_set"], answers["split"], answers["item"], answers["prompt_hash"], strict=True))
        described = {key: source.describe(*key) for key in set(keys)}
        answers[["question", "options", "gold", "prompt"]] = pd.DataFrame(
            [described[key] for key in keys], index=answers.index, dtype=object
        )
        return answers[COLUMNS]


def _origin(record: str) -> dict[str, Any]:
    """Split, iteration and report-only scorer of a file of records, by its name."""
    if iteration := re.fullmatch(r"iter_(\d+)", record):
        return {"split": "dev", "iteration": int(iteration[1]), "report_only": None}
    if other := re.fullmatch(r"beside_(.+?)_(base|winner|expert_.+)", record):
        return {"split": "test", "iteration": None, "report_only": other[1]}
    if again := re.fullmatch(r"rescored-(.+?)-(?:evaluate_)?(dev|test).*", record):
        return {"split": again[2], "iteration": None, "report_only": again[1]}
    split = next((part for part in re.split("[_-]", record) if part in ("dev", "test")), None)
    return {"split": split, "iteration": None, "report_only": None}


COLUMNS = [
    *(
        "label",
        "split",
        "iteration",
        "report_only",
        "item_set",
        "item",
        "question",
        "options",
        "gold",
        "prompt",
        "response",
    ),
    *("score", "unscored", "detail", "measures", "notes", "tokens", "choice_logprobs"),
]


class _Items:
    """The items of a run's task: as stored, or as read from its data if that can still be read."""

    def __init__(self, settings: Mapping[str, Any], stored: Mapping[tuple[str, str, str], Item]) -> None:
        self.items = dict(stored)
        self.first = next((name for name, _, _ in stored), "")
        self.combine: Callable[..., Any] | None = None
        self._scorers: dict[str, Scorer | None] = {}
        self._settings = settings
        if "task" not in settings:
            return
        try:
            described, path = read_task_file(settings["task"])
            base, data = settings.get("base_model"), settings.get("data")
            bundled_model = base == "embedded" or (base == "smollm2" and data is None)
            preferred: Literal["mini", "full"] = "mini" if bundled_model else "full"
            edition = described.editions[described.choose(settings.get("edition"), preferred)]
            self.combine = _combination(settings.get("combine") or described.combine, described.weights)
            self.first = next(iter(edition.item_sets))
            scorers = {name: self._scorer(edition, path.parent, name) for name in edition.item_sets}
            for name, parts in read_items(edition, path.parent, data and Path(data), scorers).items():
                read: dict[tuple[str, str, str], Item] = {}
                read |= {(name, split, item.id): item for split, own in parts.items() for item in own}
                self.items = {**read, **self.items}
                self._scorers[name] = _with_examples(scorers[name], edition.item_sets[name], parts, name)
        except UserError:
            return  # the answers are complete without them

    def _scorer(self, edition: Edition, folder: Path, name: str) -> Scorer | None:
        described, own = edition.item_sets[name], self._settings.get("utility")
        if file_of(own or described.scorer) is not None:
            return None  # reading a run must not execute user code
        pairs = (one.partition("=") for one in self._settings.get("option") or ())
        try:
            options = {name.strip(): read_yaml(value) for name, _, value in pairs}
            return scorer_of(described, folder, own, options)
        except UserError:  # it needs a judge
            return None

    def describe(self, item_set: str, split: str, item_id: str, hashed: str) -> tuple[Any, Any, Any, Any]:
        """Question, options, gold answer and prompt of an item."""
        item = self.items.get((item_set, split, item_id))
        if item is None:
            return None, None, None, None
        scorer = self._scorers.get(item_set)
        prompt = scorer.prompt.render(item) if isinstance(scorer, PromptedScorer) else None
        same = prompt is not None and prompt_hash(prompt) == hashed
        return item.question, item.choices, item.answer, prompt if same else None


def _with_examples(
    scorer: Scorer | None, described: ItemSetFile, parts: Mapping[Part, list[Item]], origin: str
) -> Scorer | None:
    """The scorer with its examples for `few_shot`; None if there are not enough."""
    try:
        if scorer is not None:
            with_examples(scorer, described, parts, origin)
        return scorer
    except UserError:
        return None


def _unknown(values: Mapping[str, Any]) -> Any:
    """The value of one item set; nan for several, if their combination is not known."""
    return next(iter(values.values())) if len(values) == 1 else np.nan


def _combination(name: str, weights: Mapping[str, float] | None) -> Callable[..., Any] | None:
    """A registered combination; None for a user's function, because reading a run must not execute user code."""
    from utilities.combine import combinations, weighted_mean

    if file_of(name) is not None:
        return None
    return partial(weighted_mean, weights=weights) if name == "weighted_mean" else combinations.get(name)
