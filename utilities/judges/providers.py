"""Creates judges by name: a model on a server with OpenAI's protocol, or of any langchain provider."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from pydantic import SecretStr

from utilities.errors import UserError
from utilities.judges.budget import Budget, Price
from utilities.judges.cache import JudgementCache
from utilities.judges.client import JudgeClient, Wait
from utilities.judges.request import OPENAI
from utilities.judges.request_errors import scrubbed

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["ClientOptions", "named_judge", "openai_judge"]


class ClientOptions(TypedDict, total=False):
    """Options common to every judge, as in `JudgeClient`."""

    price: Required[Price | None]
    cache: Required[JudgementCache]
    budget: Required[Budget]
    max_in_flight: int
    timeout: float
    temperature: float
    max_tokens: int | None
    attempts: int
    wait: Wait


def named_judge(spec: str, *, api_key: SecretStr | None = None, **options: Unpack[ClientOptions]) -> JudgeClient:
    """A judge of a provider, such as "anthropic:claude-haiku-4-5", through langchain's package for the provider.

    Args:
        spec: PROVIDER:MODEL.
        api_key: None to let the provider's package find its key, as documented there.
        options: As in `JudgeClient`.

    Raises:
        UserError: The provider is unknown, its package is not installed, or a requirement such as a key is missing.
    """
    provider, _, model = spec.partition(":")
    if not provider or not model:
        raise UserError(f"judge {spec!r}: expected PROVIDER:MODEL, such as anthropic:claude-haiku-4-5")
    if provider == "openai":
        if api_key is None:
            if not (key := os.environ.get("OPENAI_API_KEY")):
                raise UserError(f"judge {spec}: no API key; set the environment variable OPENAI_API_KEY")
            api_key = SecretStr(key)
        return openai_judge(model, api_key=api_key, **options)
    common: dict[str, Any] = {
        "temperature": options.get("temperature", 0.0),
        "timeout": options.get("timeout", 60.0),
        "max_retries": 0,
        **({} if api_key is None else {"api_key": api_key}),
    }

    def connect() -> BaseChatModel:
        from langchain.chat_models import init_chat_model

        chat: BaseChatModel = init_chat_model(model, model_provider=provider, **common)
        return chat

    try:
        connect()  # a missing key or package is reported before any request
    except Exception as error:
        raise UserError(f"judge {spec}: {scrubbed(str(error), [api_key] if api_key else [])}") from None
    return JudgeClient(connect, name=spec, endpoint=provider, **options)


def openai_judge(
    model: str, *, base_url: str | None = None, api_key: SecretStr | None = None, **options: Unpack[ClientOptions]
) -> JudgeClient:
    """A judge on any server with OpenAI's chat protocol.

    Args:
        model: Its name on the server.
        base_url: Address of the server, including `/v1`; None for OpenAI. Variables such as OPENAI_BASE_URL are
            ignored: the address determines the cost and the cache key of a judgement.
        api_key: None for servers without authentication; keys in the environment are not sent to them.
        options: As in `JudgeClient`.
    """
    endpoint, timeout = base_url or OPENAI, options.get("timeout", 60.0)

    def connect() -> BaseChatModel:
        from openai import DefaultAsyncHttpxClient

        from utilities.judges.openai_chat import OpenAIChat, transport

        # langchain's own client is shared by all event loops, but connections belong to one.
        http = DefaultAsyncHttpxClient(timeout=timeout, transport=transport(endpoint), trust_env=False)
        arguments: dict[str, Any] = {"base_url": endpoint, "api_key": api_key or SecretStr("none"), "model": model}
        arguments |= {"temperature": options.get("temperature", 0.0), "timeout": timeout, "max_retries": 0}
        return OpenAIChat(**arguments, use_responses_api=False, http_async_client=http)

    return JudgeClient(connect, name=model, endpoint=endpoint, **options)
