"""Closes the caches that a test leaves open."""

import pytest

from utilities.judges.cache import JudgementCache


@pytest.fixture(autouse=True)
def closed_caches(request, monkeypatch):
    """Every cache that a test of `utilities.judges` opens is closed after it."""
    if request.path.parent.name != "judges":
        yield
        return
    opened, initialise = [], JudgementCache.__init__

    def remember(self, *args, **options):
        initialise(self, *args, **options)
        opened.append(self)

    monkeypatch.setattr(JudgementCache, "__init__", remember)
    yield
    for cache in opened:
        cache.close()
