"""Libraries that report to somebody else (traces of judge requests, usage statistics) are kept from doing so."""

from __future__ import annotations

import os

__all__ = ["silence"]

TRACING = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
"""Variables with which langchain sends every request and reply to a tracing server."""
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "ANONYMIZED_TELEMETRY": "False",
}


def silence(*, trace: bool = False) -> None:
    """Turns off telemetry, and the tracing that the environment asks for unless `trace`.

    Called before such a library is imported; some read their variables then.
    """
    os.environ.update(QUIET)
    if not trace:
        os.environ.update(dict.fromkeys(TRACING, "false"))
