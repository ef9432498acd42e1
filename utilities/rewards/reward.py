"""Reward models as a utility: answers are generated, rewarded, normalised and mixed (the paper's third objective)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Unpack

from utilities.bounded_input import read_json
from utilities.core import Item, Outcome, Response, Score, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.prompt_format import PromptOptions
from utilities.registry import unknown_name
from utilities.reply_text import answer_alone
from utilities.rewards.mixes import WORD_LIMIT, Mix, conflict, length_score, mixes
from utilities.rewards.normalization import Normalization, normalizations
from utilities.rewards.reward_model import RewardModel, reward_model
from utilities.scorers.generation import GenerationScorer

__all__ = ["Reward"]

REFERENCE = Path(__file__).parent / "reference.json"
"""Prompts with good and bad answers; their raw rewards are the default scale of a reward model."""


@scorer_registry.register("reward")
class Reward(GenerationScorer):
    """Mean reward of generated answers; raw reward, length and every part of a mix are kept beside each score.

    Args:
        model: Reward model: `embedded`, a folder or a hub id.
        mix: general, verbose, concise, reverse; or conflict, a weighted sum of the reward and `against`.
        against: The other part of a conflict: `brevity`, `length`, or another reward model.
        weight: Weight of the reward in a conflict, 0 to 1.
        normalize: Scale of the rewards: `zscore`, `range` (the paper's, 0 to 1) or `none`.
        reference: JSON file with a list of raw reference rewards for fitting the scale; by default the rewards of the
            bundled reference answers under the same model.
        words: Length from which an answer's length score is 1.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`; the paper's 200.
        stop: As in `GenerationScorer`.
        trust_remote_code: As in `RewardModel.load`.
        own_scoring: As in `RewardModel.load`.
        base: As in `RewardModel.load`.
        options: As in `GenerationScorer`.

    Raises:
        UserError: No model is specified, or an option has an invalid value.
    """

    def __init__(
        self,
        model: str | None = None,
        mix: str = "general",
        against: str = "brevity",
        weight: float = 0.5,
        normalize: str = "zscore",
        reference: str | None = None,
        words: int = WORD_LIMIT,
        prompt: str = "bare",
        max_tokens: int = 200,
        stop: Sequence[str] = (),
        trust_remote_code: bool = False,
        own_scoring: bool = False,
        base: str | None = None,
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(prompt, max_tokens, stop, **options)
        if not model:
            raise UserError("no reward model given; name a folder or a hub id with --option model=NAME")
        normalizations.check(normalize)
        if mix not in {*mixes, "conflict"}:
            raise unknown_name("mix", str(mix), [*mixes, "conflict"])
        self.model, self.normalize, self.reference, self.words = model, normalize, reference, words
        self.trusted, self.own_scoring, self.base = trust_remote_code, own_scoring, base
        self.second = against if mix == "conflict" and against not in {"brevity", "length"} else None
        rival = "second" if self.second else against
        self.mix: Mix = conflict("reward", rival, weight) if mix == "conflict" else mixes.get(mix)
        self.objectives: tuple[str, ...] = tuple(self.mix.weights) if mix == "conflict" else ()

    def check(self, item: Item) -> str | None:
        """Accepts every item."""
        return None

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """The mixed value of each response, with its parts as measures."""
        alone = [answer_alone(response.text) for response in responses]
        answers = ["" if isinstance(answer, Unscored) else answer for answer in alone]
        pairs = [(item.question, answer) for item, answer in zip(items, answers, strict=True)]
        columns = [await self._rewards(self.model, self._scale, pairs)]
        if self.second:
            columns.append(await self._rewards(self.second, self._second_scale, pairs))
        rewards = zip(*columns, strict=True)
        mixed = [self._mixed(answer, found) for answer, found in zip(answers, rewards, strict=True)]
        return [
            answer if isinstance(answer, Unscored) else outcome for answer, outcome in zip(alone, mixed, strict=True)
        ]

    def _mixed(self, answer: str, rewards: tuple[tuple[float, float] | Unscored, ...]) -> Outcome:
        length = length_score(answer, self.words)
        parts = {"length": length, "brevity": 1.0 - length}
        for name, reward in zip(("reward", "second"), rewards, strict=False):
            if isinstance(reward, Unscored):
                return reward
            parts[f"raw_{name}"], parts[name] = reward
        reported = {*self.mix.weights, "raw_reward"} | ({"raw_second"} if self.second else set())
        return Score(self.mix(parts), {name: value for name, value in parts.items() if name in reported})

    async def _rewards(
        self, name: str, scale: Normalization, pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[float, float] | Unscored]:
        """Raw and normalised reward of each pair."""
        raws = await self._load(name).score_async(pairs)
        return [raw if isinstance(raw, Unscored) else (raw, scale(raw)) for raw in raws]

    def rest(self) -> None:
        """Moves the reward models off the GPU until the next score."""
        for name in filter(None, (self.model, self.second)):
            self._load(name).rest()

    def _load(self, name: str) -> RewardModel:
        base = self.base if name == self.model else None
        return reward_model(name, trust_remote_code=self.trusted, own_scoring=self.own_scoring, base=base)

    @cached_property
    def _scale(self) -> Normalization:
        return self._fitted(self.model)

    @cached_property
    def _second_scale(self) -> Normalization:
        return self._fitted(self.second or "")

    def _fitted(self, name: str) -> Normalization:
        """The normalisation, fitted to reference rewards that no particle can change."""
        fit = normalizations.get(self.normalize)
        if self.normalize == "none":
            return fit([])
        if self.reference is None:
            answers = read_json(REFERENCE.read_bytes())
            raws = self._load(name).score([(prompt, answer) for prompt, answer in answers])
            return fit([raw for raw in raws if isinstance(raw, float)])
        try:
            stored = [float(raw) for raw in read_json(Path(self.reference).read_bytes(), finite=True)]
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"reference={self.reference}: expected a JSON list of raw rewards ({error})") from error
        return fit(stored)
