"""Methods that search, select an expert, or combine the answers of several experts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
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
from harness.compare.line_search import TOTALS, best_of
from harness.compare.method import Method, MethodContext, MethodResult, method, methods
from harness.compare.requirements import (
    option_probabilities,
    token_space,
    training_texts,
    two_columns,
    two_experts,
    voters,
    votes,
    weight_space,
)
from harness.run.winner import averaged_rows
from harness.session.evaluator import Cost
from harness.swarm.cma import evol_merge
from harness.swarm.drivers import Budgeted
from harness.swarm.lorahub import lorahub, penalty
from harness.swarm.settings import PRESETS, SwarmSettings
from utilities.core import Evaluation, Item, Response, Split
from utilities.scorers.gold_logprob import GoldLogprob
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import ItemSet, Task

__all__ = ["smooth_task"]


methods.register("base")(Method("base", "always"))


@method("best_single", "always")
async def best_single(context: MethodContext) -> MethodResult:
    """The expert with the highest value on dev."""
    ranked, cost = await context.evaluator.ranked_experts()
    name = context.evaluator.experts[ranked[0]]
    return MethodResult(cost, context.evaluator.expert_row(name), expert=name, note=name)


# -- searches ----------------------------------------------------------------------------------------------------------


@method("uniform_mixture", "by name", needs=(two_experts, token_space))
async def uniform_mixture(context: MethodContext) -> MethodResult:
    """All experts' token probabilities with equal weights."""
    count = len(context.evaluator.experts)
    return MethodResult(row=np.full(count, 1.0 / count))


@method("scaled_soup", needs=(two_experts, weight_space))
async def scaled_soup(context: MethodContext) -> MethodResult:
    """The mean of all experts, times a total that is chosen on dev."""
    count = len(context.evaluator.experts)
    rows = [np.full(count, total / count) for total in TOTALS]
    best, cost = await best_of(context.evaluator, rows)
    return MethodResult(cost, rows[best], note=f"total {TOTALS[best]:g}, chosen on dev of {len(TOTALS)}")


@method("evol_merge", seeded=True, needs=(two_experts, weight_space))
async def evolutionary_merge(context: MethodContext) -> MethodResult:
    """Evolutionary merging, with the metric as objective and the best row as winner, as published."""
    strategy = evol_merge(len(context.evaluator.experts), context.seed)
    make = partial(Budgeted, strategy, context.budget, None)
    finished, cost = await budgeted_search(context.evaluator, context.name, make)
    return MethodResult(cost, finished.best[0])


@method("swarm", "always", seeded=True, needs=(two_columns,))
async def swarm(context: MethodContext) -> MethodResult:
    """The search of the session's settings: the search of the verb `search`, but the budget ends it."""
    return await _own_search(context, context.budget)


@method("swarm_third", seeded=True, needs=(two_columns,))
async def swarm_third(context: MethodContext) -> MethodResult:
    """The same with a third of the budget."""
    return await _own_search(context, max(1, context.budget // 3))


async def _own_search(context: MethodContext, budget: int, **changes: str) -> MethodResult:
    """The search of the settings with some of them changed."""
    swarm = context.evaluator.session.settings.swarm.model_copy(update=changes)
    result = await default_search(context.evaluator, context.name, swarm, budget, context.seed)
    return MethodResult(result.cost, result.row, note=result.note)


async def _other_optimiser(context: MethodContext, optimiser: str) -> MethodResult:
    return await _own_search(context, context.budget, optimiser=optimiser)


@method("oracle", "by name", seeded=True, needs=(two_columns,))
async def oracle(context: MethodContext) -> MethodResult:
    """The default search on the test items themselves: what there was to find. Its test value is biased upwards."""
    session = context.evaluator.session
    sets = {name: replace(one, dev=one.test) for name, one in session.task.item_sets.items()}
    on_test = replace(session, task=replace(session.task, item_sets=sets), validation_set=None)
    evaluator = replace(context.evaluator, session=on_test, cached={}, _recorded={})
    result = await default_search(evaluator, context.name, session.settings.swarm, context.budget, context.seed)
    return MethodResult(result.cost, result.row, note="chosen on test: not a method, but what there was to find")


# Objective, first rows and choice of the winner are those of the default search, so only the proposals differ.
for _name in ("random", "cma"):
    method(_name, seeded=True, needs=(two_columns,))(partial(_other_optimiser, optimiser=_name))


@method("paper", seeded=True, needs=(two_columns,))
async def paper(context: MethodContext) -> MethodResult:
    """The published search: its moves, the metric as objective, the best particle as winner, one row for the model."""
    own = {name: value for name, value in PRESETS["paper"].items() if name in SwarmSettings.model_fields}
    swarm = context.evaluator.session.settings.swarm.model_copy(update=own)
    result = await default_search(
        context.evaluator, context.name, swarm, context.budget, context.seed, objective="metric", groups=1
    )
    return MethodResult(result.cost, result.row, note=result.note)


@method("greedy_soup", needs=(two_experts,))
async def greedy_soup(context: MethodContext) -> MethodResult:
    """Takes the evaluations that it needs, whatever the budget is."""
    soup = GreedySoup(len(context.evaluator.experts))
    make = partial(Budgeted, soup, 2 * len(context.evaluator.experts), None)
    _, cost = await budgeted_search(context.evaluator, context.name, make)
    return MethodResult(cost, soup.row)


@method("lorahub", seeded=True, needs=(two_experts, weight_space))
async def lora_hub(context: MethodContext) -> MethodResult:
    """Searches by the log-probability of the answers on all dev items."""
    smooth = smooth_task(context.evaluator.task)
    make = partial(Budgeted, lorahub(len(context.evaluator.experts), context.seed), context.budget, penalty)
    finished, cost = await budgeted_search(context.evaluator, context.name, make, task=smooth)
    return MethodResult(cost, finished.best[0])


def smooth_task(task: Task) -> Task:
    """The task with the log-probability of the gold answer as the score of scorers that compare options.

    LoraHub minimises a loss. Item sets are combined by their mean, because log-probabilities are negative.
    """
    sets = {name: replace(s, scorer=_smooth(s.scorer), group_by=None) for name, s in task.item_sets.items()}
    return replace(task, item_sets=sets, combination="mean", weights=None)


def _smooth(scorer: Any) -> Any:
    if not isinstance(scorer, MultipleChoice) or isinstance(scorer, GoldLogprob):
        return scorer
    smooth = GoldLogprob(answer_by=scorer.answer_by, normalize=scorer.normalize)
    smooth.prompt = scorer.prompt
    return smooth


# -- answers of several experts ----------------------------------------------------------------------------------------


def _answering(
    context: MethodContext, choose: Callable[[Split], Awaitable[CombineAnswers]]
) -> Callable[[Split], Awaitable[Evaluation]]:
    async def answer(split: Split) -> Evaluation:
        evaluations, _ = await context.evaluator.expert_evaluations(split)
        return await evaluate_combined(context.evaluator.task, split, evaluations, await choose(split))

    return answer


def _votes(_: ItemSet, items: Sequence[Item], answers: ModelResponses) -> list[Response | None]:
    return [vote(item, own) for item, own in zip(items, answers, strict=True)]


@method("committee", seeded=True, needs=(two_columns, votes))
async def committee(context: MethodContext) -> MethodResult:
    """The default search, but its best rows vote on every answer instead of being averaged."""
    evaluator, swarm = context.evaluator, context.evaluator.session.settings.swarm
    result = await default_search(evaluator, context.name, swarm, context.budget, context.seed)
    count = averaged_rows(len(result.scored), swarm.top_k)
    top = sorted(result.scored, key=lambda one: -one.value)[:count]

    async def answer(split: Split) -> Evaluation:
        names = [f"{context.name}-{split}-{place}" for place in range(count)]
        voters = [await evaluator.recorded(name, name, one.row, split) for name, one in zip(names, top, strict=True)]
        return await evaluate_combined(evaluator.task, split, voters, _votes)

    return MethodResult(result.cost, answer=answer, note=f"{count} mixtures answer every question")


async def _voted(context: MethodContext, count: int | None) -> MethodResult:
    """Ties are broken by the order of `top`: of all experts that of the pool, since dev would be a choice on dev."""
    top, cost = list(range(len(context.evaluator.experts))), Cost()
    if count is not None:
        ranked, cost = await context.evaluator.ranked_experts()
        top = ranked[:count]

    def choose(_: ItemSet, items: Sequence[Item], answers: ModelResponses) -> list[Response | None]:
        return [vote(item, [own[k] for k in top]) for item, own in zip(items, answers, strict=True)]

    async def same(_: Split) -> CombineAnswers:
        return choose

    names = ", ".join(context.evaluator.experts[k] for k in top)
    note = f"{len(top)} experts answer every question" + (f": {names}" if count else "")
    return MethodResult(cost, answer=_answering(context, same), note=note)


method("prediction_merge", "static", needs=(two_experts, votes))(partial(_voted, count=None))
method("top_k_vote", needs=(voters, votes))(partial(_voted, count=TOP_K))


def _mixture(weights: dict[str, NDArray[np.float64]]) -> CombineAnswers:
    """Mixes answers with weights [experts, items] by item set; of generated answers the heaviest is selected."""

    def choose(s: ItemSet, items: Sequence[Item], answers: ModelResponses) -> list[Response | None]:
        answer = mixed_answer if can_mix(items, answers) else heaviest_answer
        triples = zip(items, answers, weights[s.name].T, strict=True)
        return [answer(item, own, own_weights) for item, own, own_weights in triples]

    return choose


@method("pack_of_llms", needs=(two_experts, option_probabilities))
async def pack_of_llms(context: MethodContext) -> MethodResult:
    """Every expert reads every prompt once more, to be weighed by how little it surprises it."""
    evaluator = context.evaluator

    async def choose(split: Split) -> CombineAnswers:
        weights = {}
        for s in evaluator.task.item_sets.values():
            plain = replace(s.scorer.prompt, chat=False)  # type: ignore[attr-defined]  # it compares options
            prompts = [plain.render(item) for item in s.split(split)]
            models = [evaluator.model(evaluator.expert_row(name)) for name in evaluator.experts]
            weights[s.name] = pack_weights(np.array([await log_perplexities(model, prompts) for model in models]))
        return _mixture(weights)

    note = f"{len(evaluator.experts)} experts read every prompt twice and answer it"
    return MethodResult(answer=_answering(context, choose), note=note)


@method("cbtm", needs=(two_experts, training_texts))
async def cbtm(context: MethodContext) -> MethodResult:
    """Every expert answers, weighed by how near the question is to its training texts.

    Generated answers are not mixed: there the nearest expert answers, the paper's own variant with one expert."""
    training = context.inputs.training or {}
    texts = [[pair.prompt + pair.answer for pair in training[name]] for name in context.evaluator.experts]

    async def choose(split: Split) -> CombineAnswers:
        sets = context.evaluator.task.item_sets.values()
        return _mixture({s.name: cluster_weights(texts, [item.question for item in s.split(split)]) for s in sets})

    note = f"{len(texts)} experts answer every question"
    return MethodResult(answer=_answering(context, choose), note=note)
