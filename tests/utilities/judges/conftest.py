"""Closes the caches that a test leaves open."""

import pytest

from utilities.judges.cache import JudgementCache


@pytest.fixture(autouse=True)
def closed_caches(monkeypatch):
    """Every cache that is opened in a test is closed after it; tests of closing look at the cache itself."""
    opened, initialise = [], JudgementCache.__init__

    def remember(self, *args, **options):
        initialise(self, *args, **options)
        opened.append(self)

    monkeypatch.setattr(JudgementCache, "__init__", remember)
    yield
    for cache in opened:
        cache.close()
