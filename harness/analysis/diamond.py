"""Diamond in the rough: where the particle that ends best stood among the initial particles.

If the initial value said nothing about the end, the rank would be uniform: of N particles each is first with
probability 1/N, and half of them start in the bottom half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis.result import Line
from harness.run_folder.read import Run
from utilities.errors import UserError

__all__ = ["diamond_lines", "initial_rank", "rank_shares"]


def initial_rank(run: Run) -> NDArray[np.float64]:
    """The probability [particles] of each initial rank, the highest value first, of the particle that ended best.

    Equal values share their ranks evenly. The best particle is the one with the highest personal best, the first of
    equal ones.

    Raises:
        UserError: The search has no particles with personal bests, or they were not scored.
    """
    done = run.iterations
    if not done or not done[-1].best:
        raise UserError(
            f"{run.folder}: its search has no particles that keep an identity; `search --preset paper` has (it is the"
            " published search)"
        )
    first = [np.nan if score is None else score for score in done[0].scores]
    last = [np.nan if score is None else score for score in done[-1].best]
    if np.isnan(last).all() or np.isnan(first).any():
        raise UserError(f"{run.folder}: an initial particle has no value")
    return rank_shares(np.array(first), int(np.nanargmax(last)))


def rank_shares(values: NDArray[np.float64], which: int) -> NDArray[np.float64]:
    """The probability [values] of each rank of one of the values, if ties are broken at random."""
    above, equal = int((values > values[which]).sum()), int((values == values[which]).sum())
    shares = np.zeros(len(values))
    shares[above : above + equal] = 1 / equal
    return shares


def diamond_lines(ranks: Sequence[NDArray[np.float64]]) -> list[Line]:
    """Shares of searches whose best particle started first, and in the bottom half, with exact binomial intervals.

    Args:
        ranks: `initial_rank` of each search. Seeds of one task share the experts' initial values, so they are not
            independent, and the interval is too narrow if tasks differ.
    """
    from scipy.stats import binomtest

    count = len(ranks)
    first = [float(one[0]) for one in ranks]
    bottom = [float(one[(len(one) + 1) // 2 :].sum()) for one in ranks]
    chances = [[1 / len(one) for one in ranks], [len(one) // 2 / len(one) for one in ranks]]
    lines = []
    labels = ("started first", "started in the bottom half")
    for label, hits, chance in zip(labels, (first, bottom), chances, strict=True):
        interval = binomtest(round(sum(hits)), count).proportion_ci(0.95, "exact")
        share, control = sum(hits) / count, float(np.mean(chance))
        lines.append(
            Line(label=label, value=share, low=float(interval.low), high=float(interval.high), control=control, n=count)
        )
    return lines
