"""The token-mixture engine: mixes the experts' probabilities instead of their weights (arXiv 2410.11163).

Experts may have different architectures and tokenizers: each scores a question's options under its own tokenizer, and
the mixture is over options. Every expert reads every question once; afterwards a mixture is arithmetic on stored
numbers, so a search costs no further call of a model. An expert with weight 0 is not loaded.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from harness.engines.base import Times, engines
from harness.engines.local import LocalEngine
from harness.engines.settings import EngineSettings
from harness.engines.token_generation import generate_mixed
from harness.engines.tokenizer import Tokens
from harness.experts.lora_pool import LoraPool
from harness.experts.pool import Pool
from harness.experts.token_pool import TokenPool, read_mixture
from utilities.core import ChoiceLogprobs, Response, Unscored
from utilities.errors import UserError
from utilities.scorers.multiple_choice import MultipleChoice
from utilities.tasks import Task

__all__ = [
    "TokenMixture",
    "TokenMixtureEngine",
    "check_vocabularies",
    "length_normalised",
    "load_token_mixture",
    "mixed_logprobs",
]

Row = NDArray[np.float64]
SETS_KEPT = 64
"""Sets of questions whose answers are stored: dev and test of every item set, and their parts."""

SUM = 1e-9
"""Largest difference of a row's sum from 1."""


@dataclass(frozen=True)
class _Answers:
    """One expert's answers to a set of questions."""

    logprobs: NDArray[np.float64]
    """[questions, options], -inf behind the last option of a question."""
    tokens: NDArray[np.float64]
    """Tokens of each option, [questions, options]."""
    unscored: Mapping[int, Unscored]
    each: list[ChoiceLogprobs | Unscored]


@dataclass
class _Questions:
    """A set of questions, and the experts' answers that exist so far."""

    prompts: Sequence[str]
    options: Sequence[Sequence[str]]
    answers: dict[int, asyncio.Task[_Answers]] = field(default_factory=dict)


def mixed_logprobs(
    logprobs: NDArray[np.float64], weights: NDArray[np.float64], lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-probabilities of options under a mixture of distributions over options.

    Each expert's log-probabilities are divided by the lengths and normalised over the options, p_k = softmax(l_k /
    length); the mixture is p = sum_k w_k p_k. Returned is length (log p + sum_k w_k z_k) with z_k the logarithm of
    expert k's normaliser: its differences divided by length are those of log p, and for a single expert it is l_k
    itself. A question with a single option has no distribution over options; there it is the mixture of that text's
    probabilities, log sum_k w_k exp(l_k).

    Args:
        logprobs: l, [experts, questions, options]; -inf if a question has fewer options.
        weights: w [experts], positive, with the sum 1.
        lengths: [questions, options]; 1 without normalisation by length.

    Returns:
        [questions, options].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = logprobs / lengths
        total = logsumexp(values, axis=-1, keepdims=True)
        total = np.where(np.isfinite(total), total, 0.0)  # an expert for which all options are impossible
        w = weights[:, None, None]
        mixed = logsumexp(values - total, axis=0, b=w) + (w * total).sum(axis=0)
        single = np.isfinite(logprobs).sum(axis=-1).max(axis=0) <= 1
        plain = logsumexp(logprobs, axis=0, b=w)
    result: NDArray[np.float64] = np.where(single[:, None], plain, mixed * lengths)
    return result


@engines.register("token_mixture")
class TokenMixtureEngine:
    """Mixtures of the probabilities of experts, which local engines compute.

    Args:
        base: Folder of the base model of the tables.
        pool: The experts; of `--mix tokens`.
        settings: Those of the local engines.
        state: `state()` of an earlier engine.

    Raises:
        UserError: The experts are those of `--mix weights`.
    """

    name = "token_mixture"

    def __init__(
        self, base: Path, pool: Pool | None, settings: EngineSettings, state: dict[str, Any] | None = None
    ) -> None:
        if not isinstance(pool, TokenPool):
            raise UserError("--engine token_mixture answers for --mix tokens; with --mix weights, local is accepted")
        self.pool, self.times, self.notes = pool, Times(), list[str]()
        self.by_length = False
        """Whether log-probabilities are divided by the options' lengths, as the task's scorers do."""
        self.calls = 0
        """Prompts that an expert has read."""
        self._base, self._settings, self._saved = base, settings, dict(state or {})
        self._engines: dict[int, LocalEngine] = {}
        """Local engine of each part of the pool that is loaded; -1 is the base model, if it is in no part."""
        self._copies: dict[int, Any] = {}
        """Folded models of the experts of mixtures that generate."""
        self._sets: OrderedDict[tuple[int, int], _Questions] = OrderedDict()

    @property
    def device(self) -> str:
        """Device description for display."""
        return self._engine(self._place(None)[0]).device

    def state(self) -> dict[str, Any]:
        """The states of the local engines, by part of the pool."""
        return {**self._saved, **{str(part): engine.state() for part, engine in self._engines.items()}}

    def particle(self, row: Row | None) -> TokenMixture:
        """The mixture with the weights `row` [experts]; None is the base model.

        Raises:
            UserError: The weights are not a distribution.
        """
        if row is None:
            return TokenMixture(self, ((None, 1.0),))
        if row.size != len(self.pool.experts) or not (row >= 0).all() or abs(row.sum() - 1.0) > SUM:
            raise UserError(
                "--mix tokens: the weights of a mixture of probabilities are not negative and sum to 1, since others"
                f" give no distribution; got {np.array2string(row, precision=4, threshold=8)}"
            )
        return TokenMixture(self, tuple((int(k), float(row[k])) for k in np.flatnonzero(row)))

    def close(self) -> None:
        """Frees the models."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._copies.clear()
        self._sets.clear()

    def _place(self, expert: int | None) -> tuple[int, Row | None]:
        """The part of an expert (None is the base model), and its row there; None if nothing is folded."""
        if expert is None:
            same = (k for k, part in enumerate(self.pool.parts) if part.base is self.pool.base)
            return next(same, -1), None
        part, column = self.pool.places[expert]
        own = self.pool.parts[part]
        return part, np.eye(len(own.names))[column] if isinstance(own, LoraPool) else None

    def _engine(self, part: int) -> LocalEngine:
        if part not in self._engines:
            pool = None if part < 0 else self.pool.parts[part]
            folder = self._base if pool is None else pool.base.folder
            engine = LocalEngine(folder, pool, self._settings, self._saved.get(str(part)))
            self._engines[part] = engine
            self.notes += [note for note in engine.notes if note not in self.notes]
        self._engines[part].times = self.times
        return self._engines[part]

    # -- options -----------------------------------------------------------------------------------------------------

    async def choice_logprobs(
        self, weights: Sequence[tuple[int | None, float]], prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of the options under a mixture of (expert, weight), see `mixed_logprobs`.

        A question that an expert of the mixture cannot score is unscored.
        """
        questions = self._questions(prompts, options)
        answers = [await self._asked(-1 if expert is None else expert, questions) for expert, _ in weights]
        if len(answers) == 1:
            return list(answers[0].each)
        start = time.perf_counter()
        w = np.array([weight for _, weight in weights])
        lengths = np.ones_like(answers[0].logprobs)
        if self.by_length:
            for k, texts in enumerate(options):
                lengths[k, : len(texts)] = [max(1, len(text.removeprefix(" "))) for text in texts]
        mixed = mixed_logprobs(np.stack([one.logprobs for one in answers]), w, lengths).tolist()
        tokens = np.rint(np.tensordot(w, np.stack([one.tokens for one in answers]), axes=1)).astype(int).tolist()
        unscored = {k: reason for one in answers for k, reason in one.unscored.items()}
        found: list[ChoiceLogprobs | Unscored] = [
            unscored.get(k) or ChoiceLogprobs(tuple(mixed[k][: len(texts)]), tuple(tokens[k][: len(texts)]))
            for k, texts in enumerate(options)
        ]
        self.times.mixing += time.perf_counter() - start
        return found

    def _questions(self, prompts: Sequence[str], options: Sequence[Sequence[str]]) -> _Questions:
        key = (id(prompts), id(options))
        known = self._sets.get(key)
        if known is None or known.prompts is not prompts or known.options is not options:
            known = self._sets[key] = _Questions(prompts, options)
        self._sets.move_to_end(key)
        while len(self._sets) > SETS_KEPT:
            self._sets.popitem(last=False)
        return known

    async def _asked(self, expert: int, questions: _Questions) -> _Answers:
        """An expert's answers, computed at the first request."""
        task = questions.answers.get(expert)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = questions.answers[expert] = asyncio.ensure_future(self._ask(expert, questions))
        return await asyncio.shield(task)

    async def _ask(self, expert: int, questions: _Questions) -> _Answers:
        part, row = self._place(None if expert < 0 else expert)
        each = await self._engine(part).particle(row).choice_logprobs(questions.prompts, questions.options)
        self.calls += len(each)
        shape = (len(each), max(map(len, questions.options), default=0))
        logprobs, tokens = np.full(shape, -np.inf), np.zeros(shape)
        for k, one in enumerate(each):
            if isinstance(one, ChoiceLogprobs):
                logprobs[k, : len(one.logprobs)], tokens[k, : len(one.tokens)] = one
        return _Answers(logprobs, tokens, {k: one for k, one in enumerate(each) if isinstance(one, Unscored)}, each)

    # -- generation --------------------------------------------------------------------------------------------------

    async def generate(
        self, weights: Sequence[tuple[int | None, float]], prompts: Sequence[str], max_tokens: int, stop: Sequence[str]
    ) -> list[Response | Unscored]:
        """Greedy continuations, mixed token by token; of a single expert those of its local engine.

        Raises:
            UserError: The experts have different vocabularies.
        """
        part, row = self._place(weights[0][0])
        lead = self._engine(part)
        if len(weights) == 1:
            return await lead.particle(row).generate(prompts, max_tokens=max_tokens, stop=stop)
        members = [self._engine(self._place(expert)[0]) for expert, _ in weights]
        check_vocabularies({self.pool.names[k or 0]: e.tokens for (k, _), e in zip(weights, members, strict=True)})
        if not all(engine.counts_from_zero for engine in members):
            raise UserError("--mix tokens: a model that counts positions in its own way cannot generate in a mixture")
        models = [await self._copy(expert) for expert, _ in weights]
        w = [weight for _, weight in weights]
        return await lead.submit(row, lambda: self._mixed_answers(members, models, w, prompts, max_tokens, stop))

    async def _copy(self, expert: int | None) -> Any:
        """The folded model of an expert, which stays in memory: every token needs all experts of the mixture."""
        key = -1 if expert is None else expert
        if key not in self._copies:
            part, row = self._place(expert)
            engine = self._engine(part)
            self._copies[key] = await engine.submit(row, engine.folded_copy)
        return self._copies[key]

    def _mixed_answers(
        self,
        members: Sequence[LocalEngine],
        models: Sequence[Any],
        weights: Sequence[float],
        prompts: Sequence[str],
        max_tokens: int,
        stop: Sequence[str],
    ) -> list[Response | Unscored]:
        encoded = [engine.tokens.prompts(prompts, max_tokens) for engine in members]
        unscored = {k: one for own in encoded for k, one in enumerate(own) if isinstance(one, Unscored)}
        each = ([one for own in encoded if not isinstance(one := own[k], Unscored)] for k in range(len(prompts)))
        ids = {k: own for k, own in enumerate(each) if k not in unscored}
        lengths = {k: tuple(map(len, own)) for k, own in ids.items()}
        waiting = sorted(ids, key=lengths.__getitem__)
        answers: dict[int, Response | Unscored] = dict(unscored)
        start = time.perf_counter()
        while waiting:
            longest = max(lengths[waiting[-1]]) + max_tokens
            size = max(1, min(engine.batch_tokens for engine in members) // longest)
            if not all(engine.mixes(longest) for engine in members):
                size = min(size, sum(lengths[k] == lengths[waiting[-1]] for k in waiting))
            batch, waiting = waiting[-size:], waiting[:-size]
            own = [[ids[k][model] for k in batch] for model in range(len(models))]
            device = torch.device(members[0].device)
            new = generate_mixed(models, weights, own, members[0].tokens, max_tokens, stop, device)
            for k, one in zip(batch, new, strict=True):
                answers[k] = members[0].tokens.answer(one, max_tokens, stop)
        self.times.forward += time.perf_counter() - start
        return [answers[k] for k in range(len(prompts))]


class TokenMixture:
    """A mixture of token probabilities; `close` frees its models.

    Args:
        engine: Holds the models.
        weights: (expert, weight), weights positive with the sum 1; expert None is the base model.
    """

    def __init__(self, engine: TokenMixtureEngine, weights: tuple[tuple[int | None, float], ...]) -> None:
        self._engine, self._weights = engine, weights

    @property
    def coefficients(self) -> dict[str, float]:
        """Expert -> weight, without those of weight 0."""
        return {self._engine.pool.names[expert]: w for expert, w in self._weights if expert is not None}

    async def generate(
        self, prompts: Sequence[str], *, max_tokens: int, stop: Sequence[str] = ()
    ) -> list[Response | Unscored]:
        """Greedy continuations, one per prompt."""
        return await self._engine.generate(self._weights, prompts, max_tokens, stop)

    async def choice_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[ChoiceLogprobs | Unscored]:
        """Log-probabilities of each prompt's options."""
        return await self._engine.choice_logprobs(self._weights, prompts, options)

    def close(self) -> None:
        """Frees the models."""
        self._engine.close()


def check_vocabularies(tokens: Mapping[str, Tokens]) -> None:
    """Checks that the experts share one vocabulary, as generation needs.

    Args:
        tokens: The tokenizer of each expert, by name.

    Raises:
        UserError: They do not.
    """
    (first, one), *others = tokens.items()
    vocabulary = one.tokenizer.get_vocab()
    for name, other in others:
        if other is not one and (other.tokenizer.get_vocab() != vocabulary or set(other.ends) != set(one.ends)):
            raise UserError(
                f"--mix tokens: generated answers are mixed token by token, and {first!r} and {name!r} have different"
                " vocabularies; give --experts of one vocabulary, or a task whose questions have options"
            )


def length_normalised(task: Task) -> bool:
    """Whether the task's scorers divide log-probabilities of options by their lengths.

    Raises:
        UserError: Some do and some do not.
    """
    scorers = [s.scorer for s in task.item_sets.values() if isinstance(s.scorer, MultipleChoice)]
    found = {one.normalize == "length" and one.answer_by == "text" for one in scorers}
    if len(found) > 1:
        raise UserError(
            "--mix tokens: the task's item sets must agree on `normalize` (none or length), since experts are mixed"
            " after it"
        )
    return found == {True}


def load_token_mixture(folder: str | Path, *, task: Task | None = None, **settings: Any) -> TokenMixture:
    """The winner of a search with `--mix tokens`, as a model that answers prompts.

    Args:
        folder: The winner's folder, such as `runs/NAME/best`.
        task: The task it will answer, whose scorers may normalise by length.
        settings: Of `EngineSettings`, such as `device`.

    Raises:
        UserError: The folder holds no mixture.

    Example:
        >>> model = load_token_mixture("runs/medical-seed0/best")
        >>> evaluate(task, model, "test").value
    """
    own = EngineSettings(**settings)
    mixture = read_mixture(Path(folder).expanduser(), trust_remote_code=own.trust_remote_code)
    engine = TokenMixtureEngine(mixture.pool.base.folder, mixture.pool, own)
    engine.by_length = task is not None and length_normalised(task)
    return engine.particle(np.array(mixture.weights))
