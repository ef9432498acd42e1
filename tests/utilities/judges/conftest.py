"""A judge's server, real as far as HTTP goes, for every test in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stub_server import JudgeServer


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    """Answers "Rating: 7/10" to everything until a test says otherwise."""
    with JudgeServer() as server:
        yield server
