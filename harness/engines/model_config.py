"""Lengths in a model's config: context, local attention window, and where the rope changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["config_fields", "context_length", "local_window", "scaled_logits", "switch_length"]

LOCAL = re.compile(r"window|chunk|local|sliding")
NOT_LOCAL = re.compile(r"feed_forward|max_window_layers|num_|use_|theta|freq")
SWITCHING = {"longrope", "dynamic", "su"}
"""Rope types whose frequencies depend on the longest sequence of a batch."""


def config_fields(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a text model's config, including nested dictionaries."""

    def walk(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in fields.items():
            yield str(name), value
            if isinstance(value, Mapping):
                yield from walk(value)

    yield from walk(config.get_text_config().to_dict())


def context_length(config: Any) -> int:
    """Context length in tokens; 2048 if the config does not define it."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
    return next((value for name in names if type(value := getattr(text, name, None)) is int and value > 0), 2048)


def local_window(config: Any) -> int | None:
    """Smallest local attention window of any layer in tokens, under any field name; None if there is none."""
    windows: list[int] = []
    for name, value in config_fields(config):
        if LOCAL.search(name) and not NOT_LOCAL.search(name):
            windows += [one for one in (value if isinstance(value, list | tuple) else [value]) if type(one) is int]
    return min((one for one in windows if one > 0), default=None)


def switch_length(config: Any) -> int | None:
    """Length in tokens beyond which the rope of a batch depends on its longest sequence; None if it never does."""
    text = config.get_text_config()
    fields = dict(config_fields(config))
    if not any(fields.get(name) in SWITCHING for name in ("rope_type", "type")):
        return None
    original = fields.get("original_max_position_embeddings") or getattr(text, "max_position_embeddings", None)
    return int(original or 0)


def scaled_logits(config: Any) -> bool:
    """Whether the config has a cap or scale of the logits, which the output layer alone does not apply."""
    return any(re.search("final.*cap|logits?_scal", name) and value for name, value in config_fields(config))
