"""What a model's config says of lengths: its context, its local attention, and where its rope changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["config_fields", "context_length", "local_window", "scaled_logits", "switch_length"]

LOCAL = re.compile(r"window|chunk|local|sliding")
NOT_LOCAL = re.compile(r"feed_forward|max_window_layers|num_|use_|theta|freq")
SWITCHING = {"longrope", "dynamic", "su"}
"""Kinds of rope whose frequencies depend on the longest sequence of a batch."""


def config_fields(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a text model's config, those of its nested dictionaries too."""

    def walk(held: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in held.items():
            yield str(name), value
            if isinstance(value, Mapping):
                yield from walk(value)

    yield from walk(config.get_text_config().to_dict())


def context_length(config: Any) -> int:
    """Tokens that a model's context holds, 2048 if its config does not say."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
    return next((value for name in names if type(value := getattr(text, name, None)) is int and value > 0), 2048)


def local_window(config: Any) -> int | None:
    """Tokens that the narrowest local attention of any layer sees, by any name; None if the config names none."""
    found: list[int] = []
    for name, value in config_fields(config):
        if LOCAL.search(name) and not NOT_LOCAL.search(name):
            found += [one for one in (value if isinstance(value, list | tuple) else [value]) if type(one) is int]
    return min((one for one in found if one > 0), default=None)


def switch_length(config: Any) -> int | None:
    """Tokens from which on the rope of a batch depends on its longest sequence; None if it never does."""
    text = config.get_text_config()
    held = dict(config_fields(config))
    if not any(held.get(name) in SWITCHING for name in ("rope_type", "type")):
        return None
    original = held.get("original_max_position_embeddings") or getattr(text, "max_position_embeddings", None)
    return int(original or 0)


def scaled_logits(config: Any) -> bool:
    """Whether the config names a cap or a scale of the logits that the output layer alone does not apply."""
    return any(re.search("final.*cap|logits?_scal", name) and value for name, value in config_fields(config))
