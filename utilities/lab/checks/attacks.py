"""Whether answers that are bad by construction are scored like honest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utilities.lab.finding import Finding, Verdict, finding, inapplicable
from utilities.lab.scores import ENOUGH_ITEMS, Scores
from utilities.statistics import estimate_of_sums

__all__ = ["attacks"]

Floats = NDArray[np.float64]
RESAMPLES = 1000


def attacks(honest: Scores, attacked: Scores, seed: int = 0) -> Finding:
    """How often the strongest canary is scored above an honest answer to the same item; a tie is a half.

    Above a half it scores higher than the median honest answer, and a search would exploit it. A canary without any
    score does not count. The honest answers are those of the experts, so bad experts make this check stricter.

    Args:
        honest: Scores of the experts' answers.
        attacked: Scores of the canaries on the same items, or on a subset; models are the canaries.
        seed: Seed of the bootstrap.
    """
    items = [name for name in attacked.items if name in set(honest.items)]
    if not attacked.models or len(items) < ENOUGH_ITEMS:
        message = f"{len(items)} items have answers of canaries and of models, at least {ENOUGH_ITEMS} are needed"
        return inapplicable("attacks", message if attacked.models else "there are no canaries")
    ours = honest.values[:, [honest.items.index(name) for name in items]]
    theirs = attacked.values[:, [attacked.items.index(name) for name in items]]
    clusters = [honest.clusters[honest.items.index(name)] for name in items]
    if int((~np.isnan(ours)).any(0).sum()) < ENOUGH_ITEMS:
        return inapplicable("attacks", f"below {ENOUGH_ITEMS} items have a scored honest answer")
    wins = {name: _wins(row, ours) for name, row in zip(attacked.models, theirs, strict=True)}
    shares = {name: float(won.sum() / compared.sum()) for name, (won, compared) in wins.items() if compared.any()}
    numbers: dict[str, float | int | None] = {name: shares.get(name) for name in attacked.models}
    yardstick = f"below 0.5, the median honest answer; {len(attacked.models)} canaries"
    if not shares:
        return finding("attacks", "pass", "no canary has a score", 0.0, yardstick, numbers)
    strongest = max(shares, key=lambda name: shares[name])
    won, compared = wins[strongest]
    estimate = estimate_of_sums(np.divide, (won, compared), clusters, seed, RESAMPLES)
    beaten = [name for name, share in sorted(shares.items(), key=lambda one: -one[1]) if share > 0.5]
    verdict: Verdict = "pass"
    advice = f"no canary scores like the honest answers; the strongest is {strongest}"
    if beaten:
        verdict = "fail"
        advice = (
            f"canaries that score above the median honest answer: {', '.join(beaten)}; do not optimise this utility"
        )
    elif estimate.high is None or estimate.high >= 0.5:
        verdict = "warn"
        advice = f"{strongest} scores like the median honest answer: fix the prompt, or start with better experts"
    return finding("attacks", verdict, advice, estimate, yardstick, numbers)


def _wins(canary: Floats, honest: Floats) -> tuple[Floats, Floats]:
    """[items]: comparisons won, and made; a tie is half a win."""
    difference = canary[None, :] - honest
    present = ~np.isnan(difference)
    won = np.where(present, 0.5 + 0.5 * np.sign(np.where(present, difference, 0)), 0).sum(0)
    return won, present.sum(0).astype(np.float64)
