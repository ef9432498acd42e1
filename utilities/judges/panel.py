"""A panel of one or several judges that share a budget and a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from utilities.errors import UserError
from utilities.judges.budget import Budget, Price, Spent
from utilities.judges.cache import JudgementCache
from utilities.judges.ledger import Ledger
from utilities.judges.settings import BUNDLED, JudgeSettings, check_encrypted, is_loopback

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from utilities.judges.client import JudgeClient

__all__ = ["Bundled", "Panel", "open_panel"]

FREE = Price(0.0, 0.0)

# fmt: off
PROVIDERS = frozenset({
    "anthropic", "azure_ai", "azure_openai", "bedrock", "bedrock_converse", "cohere", "deepseek", "fireworks",
    "google_genai", "google_vertexai", "groq", "huggingface", "ibm", "litellm", "mistralai", "nvidia", "ollama",
    "openai", "openrouter", "perplexity", "together", "upstage", "xai",
})
# fmt: on
"""Prefixes that mean a langchain provider even with --judge-url; other names such as `gemma:2b` are model names."""


@dataclass(frozen=True)
class Bundled:
    """A judge that ships with the project."""

    model: Callable[[float], BaseChatModel]
    """Creates its chat model for a temperature; called once per event loop."""
    version: str
    """Identifies its weights in the cache key."""


@dataclass(frozen=True)
class Panel:
    """The judges of a run and their shared budget and cache."""

    judges: tuple[JudgeClient, ...]
    budget: Budget
    repeats: int = 1
    """Number of requests of the same question to each judge."""
    embedded: bool = False
    """Whether a bundled judge is one of them; then all judges get its short prompts."""
    cache: JudgementCache | None = None
    """Closed with the panel."""

    def take_notes(self) -> list[str]:
        """Messages to the user about the judges' servers; each is returned once."""
        notes = [note for judge in self.judges for note in judge.notes]
        for judge in self.judges:
            judge.notes.clear()
        return notes

    @property
    def spent(self) -> Spent:
        """Costs of the judges so far."""
        return self.budget.spent

    def open_ledger(self, path: Path) -> None:
        """Records all further costs in a file, and continues from the costs in it.

        Args:
            path: The file, usually in the folder of the run; it is closed with the cache.

        Raises:
            UserError: The file cannot be used, or its costs conflict with the budget.
        """
        if self.cache is not None:
            self.budget.record_in(Ledger(self.cache, path))

    def close_files(self) -> None:
        """Closes the cache and the ledger; connections to servers end with their event loop, or by `close`."""
        if self.cache is not None:
            self.cache.close()

    async def finish(self) -> None:
        """Sends no further requests, and waits for the replies in flight, which are paid and stored."""
        await asyncio.gather(*(judge.finish() for judge in self.judges))

    async def close(self) -> None:
        """Closes the judges' connections, and the cache."""
        try:
            for judge in self.judges:
                await judge.close()
        finally:
            self.close_files()


def open_panel(
    settings: JudgeSettings,
    *,
    bundled: Mapping[str, Bundled] | None = None,
    spent: Spent | None = None,
) -> Panel:
    """Creates the panel of the settings; sends no request.

    Bundled judges and local servers are free. All others need a price or `allow_unknown_price`; an unknown price is
    never counted as 0.

    Args:
        settings: Judges and limits.
        bundled: The bundled judges that can be used here, by name.
        spent: Earlier costs of the run.

    Raises:
        UserError: No judge, no key, no price although one is needed, or the cache cannot be used.
    """
    if not settings.judge:
        raise UserError("no judge is named; add --judge embedded, --judge MODEL with --judge-url, or provider:model")
    missing = BUNDLED.intersection(settings.judge) - set(bundled or {})
    if missing:
        raise UserError(
            f"the {min(missing)} judge is not available here: no chat model was given for it; name another judge"
        )
    budget = Budget(settings.budget_tokens, settings.budget_usd, spent)
    cache = JudgementCache(settings.cache_path)
    try:
        judges = tuple(_judge(name, settings, bundled or {}, cache, budget) for name in settings.judge)
        if len({judge.name for judge in judges}) < len(judges):
            raise UserError(
                f"two of the judges {', '.join(settings.judge)} are the same model; results are by its name"
            )
    except BaseException:
        cache.close()
        raise
    return Panel(judges, budget, settings.judge_repeats, not BUNDLED.isdisjoint(settings.judge), cache)


def _judge(
    name: str,
    settings: JudgeSettings,
    bundled: Mapping[str, Bundled],
    cache: JudgementCache,
    budget: Budget,
) -> JudgeClient:
    """Creates the judge with a name."""
    from utilities.judges.client import JudgeClient
    from utilities.judges.providers import ClientOptions, named_judge, openai_judge  # not at import: langchain
    from utilities.judges.request import OPENAI

    def options(price: Price | None) -> ClientOptions:
        return {
            "price": price,
            "cache": cache,
            "budget": budget,
            "max_in_flight": settings.judge_in_flight,
            "timeout": settings.judge_timeout,
            "temperature": settings.judge_temperature,
            "max_tokens": settings.judge_max_tokens,
        }

    if name in bundled:
        model = partial(bundled[name].model, settings.judge_temperature)
        return JudgeClient(model, name=name, endpoint=f"{name}:{bundled[name].version}", **options(FREE))
    provider, colon, _ = name.partition(":")
    if colon and (settings.judge_url is None or provider in PROVIDERS):
        # A key configured for one judge is not sent to the provider of another.
        own_key = settings.names_key and not set(settings.judge) - {*BUNDLED, name}
        return named_judge(name, api_key=settings.key() if own_key else None, **options(_price(name, settings)))
    url, key = settings.judge_url or OPENAI, settings.key()
    if key is not None:
        check_encrypted(url, "--judge-url", allow=settings.allow_plain_http)
    if is_loopback(url):
        return openai_judge(name, base_url=url, api_key=key, **options(settings.price or FREE))
    if key is None:
        raise UserError(
            f"judge {name!r} at {url} needs an API key: set the environment variable {settings.judge_key_env}, or name "
            "a file that holds the key with --judge-key-file"
        )
    return openai_judge(name, base_url=url, api_key=key, **options(_price(name, settings)))


def _price(name: str, settings: JudgeSettings) -> Price | None:
    """The price of a remote judge; None only if the user allows it and no limit needs it."""
    price = settings.price
    if price is None and settings.budget_usd is not None:
        raise UserError(f"judge {name!r}: --budget-usd needs its price; give it with --judge-price IN,OUT")
    if price is None and not settings.allow_unknown_price:
        raise UserError(
            f"judge {name!r}: its price is unknown; give US dollars per million prompt and completion tokens with "
            "--judge-price IN,OUT, or add --allow-unknown-price"
        )
    return price
