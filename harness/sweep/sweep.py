"""Runs searches with different hyperparameters and re-evaluates the best trial on held-out dev data.

The value of the best trial on its selection items is biased upwards, and the bias grows with the number of trials. Dev
is therefore split: trials search and are ranked on the picking fold; only the picked mixture and its baselines are
evaluated on the confirming fold, after all choices.

Optuna proposes the hyperparameters and stores finished trials. An interrupted trial is not stored; it is resumed from
its saved search state. The sampler is created anew for every trial from the seed and the trial's number and sees only
finished trials, so a resumed sweep gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from harness.compare.budgeted_search import default_search
from harness.compare.method import reason_not_applicable
from harness.compare.requirements import TaskInputs
from harness.run_folder.store import Store, write_atomically
from harness.session.evaluator import Evaluator, StopRules, difference, measured
from harness.session.hold_out import split_hold_out
from harness.session.provenance import changed_inputs, changed_settings, open_folder, provenance
from harness.session.session import Session, open_session
from harness.session.settings import RunSettings
from harness.swarm.settings import SwarmSettings
from harness.swarm.update import Row
from harness.sweep.result import Final, Fold, Swept, SweptTrial
from harness.trackers.base import Trackers
from utilities.core import Evaluation
from utilities.errors import UserError
from utilities.sync import run_sync
from utilities.tasks import ItemSet, Task

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["LISTS", "Plan", "Sweep", "default_budget", "folds", "importance", "propose", "sweep"]

LISTS: dict[str, tuple[float, ...]] = {
    "inertia": (0.1, 0.2, 0.3),
    "cognitive": (0.1, 0.2, 0.3, 0.4, 0.5),
    "social": (0.2, 0.3, 0.4, 0.5, 0.6),
    "repel": (0.01, 0.05, 0.1),
    "step_length": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
"""Values that the scripts of the paper's reference code sweep (arXiv 2410.11163)."""

CONFIRMING = 0.25
"""Share of dev that is not used for any choice."""
LEAST_CLUSTERS = 8
"""Minimum number of independent dev items: with fewer, a quarter is a single item without an error estimate."""
DRAWS = 10
"""Number of random splits to try until each item set has items in both folds."""
LEAST_RANKED = 10
"""Minimum number of trials for importances: with fewer, the best tenth is less than one trial."""
USUAL_BUDGET = 120

UNADDRESSABLE = frozenset("%?{}")
"""Special characters in the address of Optuna's storage."""

Sampler = Literal["tpe", "random"]
Watch = Callable[[Sequence[SweptTrial]], None]
"""Receives all finished trials after each trial."""


@dataclass(frozen=True)
class Plan:
    """Number of trials, budget and sampler of a sweep."""

    trials: int
    budget: int
    """Evaluations of the picking fold per trial."""
    sampler: Sampler = "tpe"


def default_budget(swarm: SwarmSettings) -> int:
    """The number of evaluations that the settings imply if they set `iterations`; else `USUAL_BUDGET`."""
    iterations_set = "iterations" in swarm.model_fields_set
    return swarm.particles * (swarm.iterations + 1) if iterations_set else USUAL_BUDGET


def sweep(
    settings: RunSettings,
    plan: Plan,
    folder: Path,
    watch: Watch = lambda trials: None,
    note: Callable[[str], None] = lambda text: None,
    track: Sequence[str] = (),
) -> Swept:
    """Runs or resumes a sweep and writes sweep.json.

    Args:
        settings: Settings of every trial, except for the swept hyperparameters.
        plan: Trials, budget, sampler.
        folder: A new folder, or the folder of the sweep to resume.
        watch: Called after every trial.
        note: Called with each note of the session before the start.
        track: Trackers that receive the events.

    Raises:
        UserError: Invalid settings, too few dev items, or a folder of another sweep.
    """
    _optuna()  # checked before anything is read
    session = open_session(settings.anywhere())
    try:
        if reason := reason_not_applicable("swarm", TaskInputs(session, None)):
            raise UserError(f"a sweep needs a search: {reason}")
        picking, confirming = folds(session.task)
        store = _open(folder, _document(session, plan))
        try:
            if session.judges is not None:
                session.judges.record_in(store.folder)
            store.save_items(session.task, session.validation_set)
            for text in session.notes:
                note(text)
            with Trackers(track, store, note):
                return Sweep(session, picking, confirming, plan, store, watch).run()
        finally:
            for text in session.take_notes():
                note(text)
            store.close()
    finally:
        session.close()


# -- the folds ---------------------------------------------------------------------------------------------------------


def folds(task: Task) -> tuple[Task, Task]:
    """The task with the picking fold as dev, and the task with the confirming fold as dev.

    All item sets are split together, so that items of the same source are in the same fold across item sets.

    Raises:
        UserError: dev has too few independent items, or no split has items of each item set in both folds.
    """
    sets = task.item_sets
    if (clusters := _fold(task).clusters) < LEAST_CLUSTERS:
        raise UserError(
            f"dev has {clusters} independent items, and a sweep parts them into those that pick and those that confirm:"
            f" {LEAST_CLUSTERS} or more are needed"
        )
    items = [item for s in sets.values() for item in s.dev]
    for seed in range(DRAWS):
        held = {id(item) for item in split_hold_out(items, CONFIRMING, seed)[1]}
        picking, confirming = (
            replace(task, item_sets={name: _side(s, held, side) for name, s in sets.items()}) for side in (False, True)
        )
        if all(s.dev for fold in (picking, confirming) for s in fold.item_sets.values()):
            return picking, confirming
    raise UserError(
        "dev cannot be parted into items that pick and items that confirm: no parting leaves some of"
        f" {' and '.join(sets)} on both sides; more dev items are needed, of more sources"
    )


def _side(s: ItemSet, held: Container[int], side: bool) -> ItemSet:
    """An item set with only the held-out dev items, or only the others."""
    return replace(s, dev=tuple(item for item in s.dev if (id(item) in held) is side))


def _fold(task: Task) -> Fold:
    """The size of dev."""
    clusters = {item.source or (s.name, item.id) for s in task.item_sets.values() for item in s.dev}
    return Fold(items=task.size("dev"), clusters=len(clusters))


# -- the folder --------------------------------------------------------------------------------------------------------


def _document(session: Session, plan: Plan) -> dict[str, Any]:
    """Content of settings.yaml, which must not change when a sweep is resumed."""
    task = {"settings": session.settings.model_dump(mode="json"), **provenance(session)}
    return {"sweep": asdict(plan), "task": task}  # not at the key "settings", which marks a run


def _open(folder: Path, document: dict[str, Any]) -> Store:
    if not UNADDRESSABLE.isdisjoint(str(folder.resolve())):
        raise UserError(f"--out {folder}: the address of a database holds none of {' '.join(sorted(UNADDRESSABLE))}")
    return open_folder(folder, "sweep", document, _differences)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences between two documents, as messages."""
    yield from changed_settings(then["sweep"], now["sweep"])
    yield from changed_settings(then["task"]["settings"], now["task"]["settings"])
    yield from (f"{what} changed since it began" for what in changed_inputs(then["task"], now["task"]))


# -- Optuna ------------------------------------------------------------------------------------------------------------


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("a sweep needs Optuna: pip install -e '.[sweep]' (or pip install 'optuna>=4.0')") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def _finished_trials(path: Path) -> Iterator[Study]:
    """The study in a SQLite file, which holds finished trials only.

    Raises:
        UserError: The file is not such a study.
    """
    optuna = _optuna()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
        study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path} is damaged; without it, all trials are run again: {text}") from error
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def propose(study: Study, lists: Mapping[str, Sequence[float]], sampler: Sampler, seed: int) -> dict[str, int]:
    """The next trial's hyperparameters, as indices into their sorted lists, so that the sampler can use the order.

    They are requested from a copy of the study: trials are stored when finished, so interrupted trials do not affect
    later proposals. The same finished trials and seed give the same proposal.
    """
    optuna = _optuna()
    make = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler]
    trials = study.get_trials()
    own = int(np.random.SeedSequence((seed, len(trials))).generate_state(1)[0])
    copy = optuna.create_study(direction="maximize", sampler=make(seed=own))
    copy.add_trials(trials)
    return dict(copy.ask(_space(lists)).params)


def _space(lists: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    optuna = _optuna()
    return {name: optuna.distributions.IntDistribution(0, len(values) - 1) for name, values in lists.items()}


def _keep(study: Study, lists: Mapping[str, Sequence[float]], indices: dict[str, int], trial: SweptTrial) -> None:
    """Adds a finished trial, in one transaction."""
    create = _optuna().trial.create_trial
    attributes = trial.model_dump(exclude={"number", "value"})
    study.add_trial(create(params=indices, distributions=_space(lists), value=trial.value, user_attrs=attributes))


def _kept(study: Study) -> list[SweptTrial]:
    documents = ({"number": one.number, "value": one.value, **one.user_attrs} for one in study.get_trials())
    return [SweptTrial.model_validate(one) for one in documents]


def importance(study: Study) -> tuple[dict[str, float] | None, str | None]:
    """The importance of each hyperparameter, the largest first; or None and the reason."""
    trials = study.get_trials()
    if len(trials) < LEAST_RANKED:
        return None, f"left out: it needs {LEAST_RANKED} trials, and there are {len(trials)}"
    if len({one.value for one in trials}) == 1:
        return None, "left out: all trials have the same value"
    by = _optuna().importance
    shares = by.get_param_importances(study, evaluator=by.PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}, None


# -- the sweep ---------------------------------------------------------------------------------------------------------


class Sweep:
    """One sweep in progress.

    Args:
        session: Session with the full dev split, which is not evaluated here.
        picking: The task whose dev is the picking fold.
        confirming: The task whose dev is the confirming fold.
        plan: Trials, budget, sampler.
        store: Store of the sweep's folder.
        watch: Called after every trial.
    """

    def __init__(
        self, session: Session, picking: Task, confirming: Task, plan: Plan, store: Store, watch: Watch
    ) -> None:
        self.session, self.picking, self.confirming = session, picking, confirming
        self.plan, self.store, self.watch = plan, store, watch
        own = {name: getattr(session.settings.swarm, name) for name in LISTS}
        self.lists = {name: tuple(sorted({*values, own[name]})) for name, values in LISTS.items()}
        """Values of the paper and of the settings, so that trial 0 is in the search space."""
        self.defaults = {name: values.index(own[name]) for name, values in self.lists.items()}
        self.checkpoint: dict[str, Any] = store.checkpoint() or {"evaluator": {}, "engine": None, "seconds": 0.0}
        self._began = time.perf_counter()

    def run(self) -> Swept:
        """Does the remaining work."""
        path = self.store.folder / "sweep.json"
        if path.is_file():
            return _read(path)
        with _finished_trials(self.store.folder / "trials.db") as study, self._evaluators() as (picking, confirming):
            swept = run_sync(self._measure(study, picking, confirming))
        write_atomically(path, swept.model_dump_json(indent=2) + "\n")
        return swept

    @contextmanager
    def _evaluators(self) -> Iterator[tuple[Evaluator, Evaluator]]:
        """Evaluators of the two folds on one engine."""
        engine = self.session.engine(self.checkpoint["engine"])
        try:
            self.checkpoint["engine"] = engine.state()
            saved = self.checkpoint["evaluator"]
            rules = StopRules(self.picking.name, self.session.panel, "retry with the same command")
            picking, confirming = (
                Evaluator(replace(self.session, task=task), engine, self.store, rules, (), saved, self._save)
                for task in (self.picking, self.confirming)
            )
            yield picking, confirming
        finally:
            engine.close()

    async def _measure(self, study: Study, picking: Evaluator, confirming: Evaluator) -> Swept:
        experts, _ = await picking.expert_evaluations("dev")  # recorded ones are not repeated
        self.watch(trials := _kept(study))
        while (number := len(trials)) < self.plan.trials:
            seed = self.session.settings.seed
            places = self.defaults if number == 0 else propose(study, self.lists, self.plan.sampler, seed)
            trial = await self._trial(picking, number, places)
            _keep(study, self.lists, places, trial)
            picking.publish(
                number, {"trial/value": trial.value, **{f"trial/{k}": v for k, v in trial.parameters.items()}}
            )
            self.watch(trials := _kept(study))

        best, first = max(trials, key=lambda trial: trial.value), trials[0]  # the first of ties
        ranked, _ = await picking.ranked_experts()
        expert, reached = picking.experts[ranked[0]], experts[ranked[0]].value
        both = (picking, confirming)
        picked, picked_test = await self._final(*both, _row(best), best.value, trial=best.number)
        defaults, defaults_test = await self._final(*both, _row(first), first.value, trial=0)
        initial, initial_test = await self._final(*both, picking.expert_row(expert), reached, expert=expert)
        with self.store.replacing("best") as folder:
            self.session.pool.write(torch.from_numpy(self.session.expert_row(_row(best))), folder)
        shares, problem = importance(study)
        self._save()
        return Swept(
            task=self.picking.name,
            edition=self.picking.edition,
            seed=self.session.settings.seed,
            engine=picking.engine.name,
            model=self.session.settings.base_model,
            sampler=self.plan.sampler,
            budget=self.plan.budget,
            lists={name: list(values) for name, values in self.lists.items()},
            picking=_fold(self.picking),
            confirming=_fold(self.confirming),
            trials=trials,
            picked=picked,
            defaults=defaults,
            best_initial=initial,
            difference={
                "picked_minus_defaults": difference(picked_test, defaults_test, self.picking.combine),
                "picked_minus_best_initial": difference(picked_test, initial_test, self.picking.combine),
            },
            importance=shares,
            importance_problem=problem,
            adapter="best",
            seconds=self.checkpoint["seconds"],
        )

    async def _trial(self, evaluator: Evaluator, number: int, places: Mapping[str, int]) -> SweptTrial:
        """A search with a trial's hyperparameters, which ends when the budget is used up."""
        parameters = {name: values[places[name]] for name, values in self.lists.items()}
        own = {
            **parameters,
            "optimiser": "pso",
            "winner": "best",
        }  # the hyperparameters are those of the published swarm
        swarm = self.session.settings.swarm.model_copy(update=own)
        # The indices are in the name, so that saved state is not restored into a search with other hyperparameters.
        name = f"trial-{number}-{'-'.join(map(str, places.values()))}"
        seed, budget = self.session.settings.seed, self.plan.budget
        result = await default_search(evaluator, name, swarm, budget, seed, objective="metric")
        return SweptTrial(
            number=number,
            parameters=parameters,
            value=result.best_value,
            **asdict(result.cost),
            coefficients=evaluator.coefficients(result.row),
            ended=result.note or f"{budget} evaluations done",
        )

    async def _final(
        self,
        picking: Evaluator,
        confirming: Evaluator,
        row: Row,
        value: float | None,
        *,
        trial: int | None = None,
        expert: str | None = None,
    ) -> tuple[Final, Evaluation]:
        """Evaluates a trial's best mixture, or an expert, on the confirming fold and on test; `value` is on picking."""
        name = f"trial-{trial}" if expert is None else f"expert-{expert}"
        held = await confirming.recorded(confirming.record_name(f"{name}-confirming", "dev"), name, row, "dev")
        test = await picking.recorded(picking.record_name(name, "test"), name, row, "test")
        values = {"picking": value, "confirming": held.value, "test": test.value}
        picking.publish(self.plan.trials, {f"{kind}/{name}": one for kind, one in values.items()})
        final = Final(
            trial=trial,
            expert=expert,
            coefficients=picking.coefficients(row),
            picking=value,
            confirming=measured(held),
            shrinkage=None if value is None or held.value is None else value - held.value,
            test=measured(test),
            records=f"records/{self.picking.name}-{name}-test.parquet",
        )
        return final, test

    def _save(self) -> None:
        now = time.perf_counter()
        self.checkpoint["seconds"] += now - self._began
        self._began = now
        self.store.save_checkpoint(self.checkpoint)


def _row(trial: SweptTrial) -> Row:
    """The search's row of a trial's best mixture."""
    return np.array(list(trial.coefficients.values()))


def _read(path: Path) -> Swept:
    try:
        return Swept.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged; without it, it is made again of what the sweep found") from error
