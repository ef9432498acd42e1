"""Tasks of several turns: a model acts in an environment, all items of a turn in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from utilities.core import (
    Evaluation,
    Item,
    Model,
    Outcome,
    Reason,
    Response,
    Score,
    Unscored,
    Usage,
    scorer_registry,
)
from utilities.environments.base import Environment, IllegalAction, Observation, environment_registry
from utilities.errors import UserError, first_line
from utilities.prompt_format import prompt_format
from utilities.prompts import prompt_hash
from utilities.reply_text import own_answer
from utilities.scorers.base import PromptedScorer, item_results

__all__ = ["Conversation"]


@scorer_registry.register("conversation")
class Conversation(PromptedScorer):
    """The mean score of a model's episodes in an environment.

    In each turn the model sees the environment's observation and acts: it writes one line, or chooses the most likely
    of the offered actions. An illegal action costs a turn; the model is told why. An episode ends by itself, after
    `turns`, or when its actions have `token_limit` tokens; at a limit it is scored as it stands.

    The transcript is the response: the first action is its text, `more` are the next observations and actions in turn.
    Stored transcripts are scored by replaying their actions. An item is unscored if the model cannot answer a turn (a
    prompt too long), or if a user's environment raises an error.

    Args:
        environment: A registered environment, FILE.py:NAME, or an object.
        turns: Maximum number of actions of an episode.
        max_tokens: Maximum tokens of an action.
        token_limit: Maximum tokens of all actions of an episode.
        prompt: Template of a turn, see `load_prompt`; its `question` is the observation.
        chat: Whether a turn is put into the model's chat template.
        system_prompt: As in `PromptOptions`.
        options: Arguments of the environment that is named.

    Raises:
        UserError: There is no such environment or prompt, or an option has an invalid value.
    """

    def __init__(
        self,
        environment: str | Environment,
        turns: int = 8,
        max_tokens: int = 32,
        token_limit: int = 1024,
        prompt: str = "bare",
        chat: bool = False,
        system_prompt: str = "",
        **options: Any,
    ) -> None:
        for name, number in {"turns": turns, "max_tokens": max_tokens, "token_limit": token_limit}.items():
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise UserError(f"{name} is {number!r}; a whole number from 1 is accepted")
        self.prompt = prompt_format(prompt, chat=chat, system_prompt=system_prompt)
        self.turns, self.max_tokens, self.token_limit = turns, max_tokens, token_limit
        try:
            self.environment = (
                environment_registry.get(environment)(**options) if isinstance(environment, str) else environment
            )
        except TypeError as error:
            raise UserError(f"environment {environment!r} does not take its options: {error}") from error

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that its prompt and its environment read."""
        return tuple(dict.fromkeys((*super().columns, *self.environment.columns)))

    def check(self, item: Item) -> str | None:
        """As the environment says."""
        return self.environment.check(item)

    async def __call__(self, model: Model, items: Sequence[Item]) -> Evaluation:
        """Plays all items together, turn by turn."""
        episodes = [_Episode(self.environment, item) for item in items]
        hashes = [prompt_hash(self._prompt(one)) for one in episodes]
        requests = 0
        for _ in range(self.turns):
            playing = [one for one in episodes if one.open and one.tokens < self.token_limit]
            if not playing:
                break
            requests += len(playing)
            await asyncio.gather(
                self._write(model, [one for one in playing if not one.observation.actions]),
                self._choose(model, [one for one in playing if one.observation.actions]),
            )
        start = time.perf_counter()
        results = await item_results(self, items, hashes, [one.transcript for one in episodes])
        return Evaluation.of(results, Usage(requests=requests, seconds=time.perf_counter() - start))

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """Replays stored transcripts."""
        return [self.score_one(item, response) for item, response in zip(items, responses, strict=True)]

    def score_one(self, item: Item, response: Response) -> Outcome:
        """The score of one transcript, with its turns, tokens and illegal actions as measures."""
        episode = _Episode(self.environment, item)
        for action in (response.text, *response.more[1::2]):
            episode.act(action, 0)
        return episode.outcome(response.tokens)

    async def _write(self, model: Model, playing: Sequence[_Episode]) -> None:
        if playing:
            stop = () if self.prompt.chat else ("\n",)
            prompts = [self._prompt(one) for one in playing]
            answers = await model.generate(prompts, max_tokens=self.max_tokens, stop=stop)
            for one, answer in zip(playing, answers, strict=True):
                if isinstance(answer, Unscored):
                    one.failed = answer
                else:
                    lines = own_answer(answer.text).strip().splitlines()
                    one.act(lines[0].strip() if lines else "", answer.tokens)

    async def _choose(self, model: Model, playing: Sequence[_Episode]) -> None:
        if playing:
            blank = "" if self.prompt.chat else " "
            options = [[f"{blank}{action}" for action in one.observation.actions] for one in playing]
            answers = await model.choice_logprobs([self._prompt(one) for one in playing], options)
            for one, answer in zip(playing, answers, strict=True):
                if isinstance(answer, Unscored):
                    one.failed = answer
                elif any(value != value for value in answer.logprobs):
                    one.failed = Unscored(Reason.MALFORMED, f"log-probabilities are not numbers: {answer.logprobs}")
                else:
                    best = max(range(len(answer.logprobs)), key=answer.logprobs.__getitem__)
                    one.act(one.observation.actions[best], answer.tokens[best])

    def _prompt(self, episode: _Episode) -> str:
        return self.prompt.render(episode.item, question=episode.observation.text)


class _Episode:
    """One item that is being played."""

    def __init__(self, environment: Environment, item: Item) -> None:
        self.environment, self.item = environment, item
        self.tokens = self.illegal = 0
        self.failed: Unscored | None = None
        self.done = False
        self.observation = Observation("")
        self._lines: list[str] = []
        with self._guarded():
            self._state = environment.start(item)
            self._look()

    @property
    def open(self) -> bool:
        return self.failed is None and not self.done

    def act(self, action: str, tokens: int) -> None:
        """Carries out an action and observes what follows; nothing after the end."""
        if not self.open:
            return
        if self._lines:
            self._lines.append(self.observation.text)
        self._lines.append(action)
        self.tokens += tokens
        problem = ""
        with self._guarded():
            try:
                self._state = self.environment.act(self._state, action)
            except IllegalAction as illegal:
                self.illegal += 1
                problem = f"Not possible: {first_line(illegal)}\n"
            self._look(problem)

    @property
    def transcript(self) -> Response | Unscored:
        """The actions and observations, or why there are none."""
        if self.failed is not None:
            return self.failed
        first, *more = self._lines or [""]  # empty if the episode was over when it began
        return Response(first, self.tokens, "stop" if self.done else "length", more=tuple(more))

    def outcome(self, tokens: int) -> Outcome:
        """The score of the episode as it stands."""
        if self.failed is None:
            with self._guarded():
                turns = (len(self._lines) + 1) // 2
                measures = {"turns": float(turns), "tokens": float(tokens), "illegal": float(self.illegal)}
                return Score(float(self.environment.score(self._state)), measures)
        assert self.failed is not None  # noqa: S101 - set by `_guarded`
        return self.failed

    def _look(self, problem: str = "") -> None:
        self.done = self.environment.done(self._state)
        if not self.done:
            text, actions = self.environment.observe(self._state)
            self.observation = Observation(problem + text, actions)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """An error of an environment ends its episode, not the run."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # a user's environment may raise anything
            detail = f"the environment raised {type(error).__name__}: {first_line(error)}"
            self.failed = Unscored(Reason.MALFORMED, detail)
