"""How each method comes to its result: from an evaluator and a seed to something that can be evaluated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baselines.cbtm import cluster_weights
from harness.baselines.combined_answers import CombineAnswers, ModelResponses, evaluate_combined
from harness.baselines.ensemble import can_mix, heaviest_answer, mixed_answer
from harness.baselines.greedy_soup import GreedySoup
from harness.baselines.pack_of_llms import log_perplexities, pack_weights
from harness.baselines.vote import TOP_K, vote
from harness.compare.budgeted_search import budgeted_search, default_search
from harness.compare.requirements import Case
from harness.session.evaluator import Cost, Evaluator
from harness.swarm.cma import cma, evol_merge
from harness.swarm.drivers import SearchStrategy
from harness.swarm.lorahub import EXAMPLES, lorahub, penalty
from harness.swarm.random_search import RandomSearch
from harness.swarm.settings import PRESETS, SwarmSettings
from harness.swarm.update import Row
from utilities.core import Evaluation, Item, Response, Split
from utilities.registry import Registry
from utilities.scorers.base import prompt_variables
from utilities.scorers.gold_logprob import GoldLogprob
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import ItemSet, Task

__all__ = ["Chosen", "Way", "few_examples", "ways"]


@dataclass(frozen=True)
class Chosen:
    """What a method came to: a row of experts, an adapter that was made, or a way to answer."""

    cost: Cost = field(default_factory=Cost)
    row: Row | None = None
    """Coefficients of the experts, or of the columns of a search."""
    expert: str | None = None
    """The expert that it is, where it is one as it stands."""
    answer: Callable[[Split], Awaitable[Evaluation]] | None = None
    """Answers a split, where the result is no single model."""
    note: str | None = None


@dataclass(frozen=True)
class Trial:
    """What a method is given."""

    evaluator: Evaluator
    case: Case
    budget: int
    """Evaluations of a search."""
    seed: int
    name: str
    """What the state of a search is saved under."""


Way = Callable[[Trial], Awaitable[Chosen]]

ways: Registry[Way] = Registry("method")
"""Name to how a method chooses. Methods that make an adapter, and the base model, choose nothing and are not here."""


@ways.register("best_single")
async def best_single(trial: Trial) -> Chosen:
    """The expert with the highest value on dev."""
    ranked, cost = await trial.evaluator.ranked_experts()
    name = trial.evaluator.experts[ranked[0]]
    return Chosen(cost, trial.evaluator.expert_row(name), expert=name, note=name)


# -- searches ----------------------------------------------------------------------------------------------------------


async def _searched(trial: Trial, make: Callable[[int, int], SearchStrategy]) -> Chosen:
    found, cost = await budgeted_search(
        trial.evaluator, trial.name, make(len(trial.evaluator.experts), trial.seed), trial.budget
    )
    return Chosen(cost, found.best[0])


ways.register("random")(partial(_searched, make=RandomSearch))
ways.register("cma")(partial(_searched, make=cma))
ways.register("evol_merge")(partial(_searched, make=evol_merge))


@ways.register("swarm")
async def swarm(trial: Trial) -> Chosen:
    """The search of the session's settings: the search of the verb `search`, but the budget ends it."""
    return await _own_search(trial, trial.budget)


@ways.register("swarm_third")
async def swarm_third(trial: Trial) -> Chosen:
    """The same with a third of the budget."""
    return await _own_search(trial, max(1, trial.budget // 3))


async def _own_search(trial: Trial, budget: int) -> Chosen:
    settings = trial.evaluator.session.settings.swarm
    found = await default_search(trial.evaluator, trial.name, settings, budget, trial.seed)
    return Chosen(found.cost, found.row, note=found.note)


@ways.register("paper")
async def paper(trial: Trial) -> Chosen:
    """The published search: its moves, the metric as objective, the best particle as winner, one row for the model."""
    own = {name: value for name, value in PRESETS["paper"].items() if name in SwarmSettings.model_fields}
    swarm = trial.evaluator.session.settings.swarm.model_copy(update=own)
    found = await default_search(
        trial.evaluator, trial.name, swarm, trial.budget, trial.seed, objective="metric", groups=1
    )
    return Chosen(found.cost, found.row, note=found.note)


@ways.register("greedy_soup")
async def greedy_soup(trial: Trial) -> Chosen:
    """Takes the evaluations that it needs, whatever the budget is."""
    soup = GreedySoup(len(trial.evaluator.experts))
    _, cost = await budgeted_search(trial.evaluator, trial.name, soup, 2 * len(trial.evaluator.experts))
    return Chosen(cost, soup.row)


@ways.register("lorahub")
async def lora_hub(trial: Trial) -> Chosen:
    """Searches on a few examples; each of its evaluations is one of those."""
    few = few_examples(trial.evaluator.task, trial.seed)
    found, cost = await budgeted_search(
        trial.evaluator,
        trial.name,
        lorahub(len(trial.evaluator.experts), trial.seed),
        trial.budget,
        task=few,
        penalty=penalty,
    )
    note = f"each of its evaluations is of {few.size('dev')} dev items"
    return Chosen(cost, found.best[0], note=note)


def few_examples(task: Task, seed: int) -> Task:
    """The task with a few dev items an item set, scored smoothly where the scorer compares options.

    Smoothly is by the log-probability of the gold answer: LoraHub minimises a loss, and so few items have few
    accuracies. The parts are averaged, as log-probabilities are below zero.
    """
    rng = np.random.default_rng(seed)
    sets = {}
    for name, s in task.item_sets.items():
        chosen = sorted(rng.permutation(len(s.dev))[:EXAMPLES])
        dev = tuple(s.dev[k] for k in chosen)
        sets[name] = replace(s, scorer=_smooth(s.scorer), dev=dev, group_by=None)
    return replace(task, item_sets=sets, combination="mean", weights=None)


def _smooth(scorer: Any) -> Any:
    if not isinstance(scorer, MultipleChoice) or isinstance(scorer, GoldLogprob):
        return scorer
    smooth = GoldLogprob(answer_by=scorer.answer_by, normalize=scorer.normalize)
    smooth.prompt = scorer.prompt
    return smooth


# -- answers of several experts ----------------------------------------------------------------------------------------


def _answering(
    trial: Trial, choose: Callable[[Split], Awaitable[CombineAnswers]]
) -> Callable[[Split], Awaitable[Evaluation]]:
    async def answer(split: Split) -> Evaluation:
        evaluations, _ = await trial.evaluator.expert_evaluations(split)
        return await evaluate_combined(trial.evaluator.task, split, evaluations, await choose(split))

    return answer


async def _voted(trial: Trial, count: int | None) -> Chosen:
    ranked, cost = await trial.evaluator.ranked_experts()
    voters = ranked[:count]

    def choose(_: ItemSet, items: Sequence[Item], answers: ModelResponses) -> list[Response | None]:
        return [vote(item, [own[k] for k in voters]) for item, own in zip(items, answers, strict=True)]

    async def same(_: Split) -> CombineAnswers:
        return choose

    names = ", ".join(trial.evaluator.experts[k] for k in voters)
    note = f"{len(voters)} experts answer every question" + (f": {names}" if count else "")
    return Chosen(cost, answer=_answering(trial, same), note=note)


ways.register("prediction_merge")(partial(_voted, count=None))
ways.register("top_k_vote")(partial(_voted, count=TOP_K))


def _mixture(weights: dict[str, NDArray[np.float64]]) -> CombineAnswers:
    """Mixes the experts' answers with weights [experts, items] by item set; of generated ones takes the heaviest."""

    def choose(s: ItemSet, items: Sequence[Item], answers: ModelResponses) -> list[Response | None]:
        answer = mixed_answer if can_mix(items, answers) else heaviest_answer
        triples = zip(items, answers, weights[s.name].T, strict=True)
        return [answer(item, own, own_weights) for item, own, own_weights in triples]

    return choose


@ways.register("pack_of_llms")
async def pack_of_llms(trial: Trial) -> Chosen:
    """Every expert reads every prompt once more, to be weighed by how little it surprises it."""
    evaluator = trial.evaluator

    async def choose(split: Split) -> CombineAnswers:
        weights = {}
        for s in evaluator.task.item_sets.values():
            prompts = [s.scorer.prompt.render(**prompt_variables(item)) for item in s.split(split)]  # type: ignore[attr-defined]  # one that compares options
            models = [evaluator.model(evaluator.expert_row(name)) for name in evaluator.experts]
            weights[s.name] = pack_weights(np.array([await log_perplexities(model, prompts) for model in models]))
        return _mixture(weights)

    note = f"{len(evaluator.experts)} experts read every prompt twice and answer it"
    return Chosen(answer=_answering(trial, choose), note=note)


@ways.register("cbtm")
async def cbtm(trial: Trial) -> Chosen:
    """Every expert answers, weighed by how near the question is to its training texts.

    Generated answers are not mixed: there the nearest expert answers, the paper's own variant with one expert."""
    training = trial.case.training or {}
    texts = [[pair.prompt + pair.answer for pair in training[name]] for name in trial.evaluator.experts]

    async def choose(split: Split) -> CombineAnswers:
        sets = trial.evaluator.task.item_sets.values()
        return _mixture({s.name: cluster_weights(texts, [item.question for item in s.split(split)]) for s in sets})

    note = f"{len(texts)} experts answer every question"
    return Chosen(answer=_answering(trial, choose), note=note)
