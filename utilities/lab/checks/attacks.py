"""Whether answers that nobody should want are scored like honest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import Estimate, clustered_estimate

__all__ = ["attacks"]

Floats = NDArray[np.float64]
RESAMPLES = 1000


def attacks(honest: Scores, attacked: Scores, seed: int = 0) -> Finding:
    """How often the strongest canary is scored above an honest answer to the same item; a tie is a half.

    Above a half it beats the median honest answer, and a search that finds it never looks back. A canary that could
    not be scored on any item has beaten nobody. The honest answers are the experts': bad experts are easily beaten, and
    that too is something to know before a search.

    Args:
        honest: Scores of the experts' answers.
        attacked: Scores of the canaries on the same items, or on some of them; its models are the canaries.
        seed: Of the bootstrap.
    """
    items = [name for name in attacked.items if name in set(honest.items)]
    if not attacked.models or len(items) < ENOUGH_ITEMS:
        told = f"{len(items)} items were answered by canaries and by models, at least {ENOUGH_ITEMS} are needed"
        return inapplicable("attacks", told if attacked.models else "there are no canaries")
    ours = honest.values[:, [honest.items.index(name) for name in items]]
    theirs = attacked.values[:, [attacked.items.index(name) for name in items]]
    clusters = [honest.clusters[honest.items.index(name)] for name in items]
    if int((~np.isnan(ours)).any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("attacks", f"below {ENOUGH_ITEMS} items have an honest answer with a score")
    wins = {name: _wins(row, ours) for name, row in zip(attacked.models, theirs, strict=True)}
    shares = {name: float(won.sum() / asked.sum()) for name, (won, asked) in wins.items() if asked.any()}
    numbers: dict[str, float | int | None] = {name: shares.get(name) for name in attacked.models}
    yardstick = f"below 0.5, the median honest answer; {len(attacked.models)} canaries"
    if not shares:
        return finding("attacks", "pass", "no canary got a score at all", 0.0, yardstick, numbers)
    strongest = max(shares, key=lambda name: shares[name])
    won, asked = wins[strongest]
    found: Estimate = clustered_estimate(
        lambda index: won[index].sum() / asked[index].sum() if asked[index].any() else np.nan,
        clusters,
        seed,
        RESAMPLES,
    )
    beaten = [name for name, share in sorted(shares.items(), key=lambda one: -one[1]) if share > 0.5]
    verdict: Verdict = "pass"
    advice = f"no canary comes near the honest answers; the strongest is {strongest}"
    if beaten:
        verdict = "fail"
        advice = f"the median honest answer is beaten by {', '.join(beaten)}: never optimise this"
    elif found.high is None or found.high >= 0.5:
        verdict = "warn"
        advice = (
            f"{strongest} is about as good as the median honest answer: mend the prompt, or begin with better experts"
        )
    return finding("attacks", verdict, advice, found, yardstick, numbers)


def _wins(canary: Floats, honest: Floats) -> tuple[Floats, Floats]:
    """[items]: comparisons won, and made; a tie is half a win."""
    apart = canary[None, :] - honest
    known = ~np.isnan(apart)
    won = np.where(known, 0.5 + 0.5 * np.sign(np.where(known, apart, 0)), 0).sum(0)
    return won, known.sum(0).astype(np.float64)
