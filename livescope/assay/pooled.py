"""Viability of many fields together: cells of one field are alike, so they say less than as many independent ones.

Owns pooling over frames, positions, wells and conditions, and which cells at the border count. The arithmetic of one
frame lies in `viability`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from livescope.assay.viability import corrected, wilson
from livescope.calls import CellCalls, ErrorRates, Viability

__all__ = ["BorderRule", "counting_rows", "pooled_viability"]

BorderRule = Literal["all", "inside", "brick"]

_Z95 = 1.959963984540054
_NOTHING = (math.nan, math.nan, math.nan)


def counting_rows(calls: CellCalls, shape: tuple[int, int], rule: BorderRule = "all") -> NDArray[np.bool_]:
    """Return which cells count, (n,) bool, by what is done with those at the border.

    Parameters
    ----------
    calls
        Cells of a frame.
    shape
        (height, width) of the frame.
    rule
        ``"all"``: unbiased where cells are called whose centre lies in the frame, as by a network that learnt from
        outlines that run on beyond it; ``"inside"``: none whose outline touches the border, which favours small (dead)
        cells; ``"brick"``: those that touch the top or left border count, those that touch the bottom or right do not,
        which is unbiased where cells are called that show any part (Gundersen 1977), as by a network that learnt from
        marks of visible parts. Of cells called by their centre it has half the bias of ``"inside"``: those whose
        centre lies beyond the top or left are missing.
    """
    if rule == "all" or not len(calls):
        return np.ones(len(calls), bool)
    if rule == "inside":
        return ~calls.edge
    outlines = calls.outlines_yx()
    beyond: NDArray[np.bool_] = (outlines[..., 0].max(axis=1) >= shape[0] - 0.5) | (
        outlines[..., 1].max(axis=1) >= shape[1] - 0.5
    )
    return ~beyond


def pooled_viability(
    n_live: ArrayLike,
    n_dead: ArrayLike,
    n_uncertain: ArrayLike = 0,
    *,
    rates: ErrorRates | None = None,
) -> Viability:
    """Compute the viability over clusters (fields, wells, frames): each entry of the arrays is one.

    Parameters
    ----------
    n_live, n_dead, n_uncertain
        (m,) counts by cluster.
    rates
        Of the model, from its card; with them the fraction is also given corrected.

    Returns
    -------
    Viability
        The interval is Wilson's with the effective number of cells, which the scatter between clusters gives (Dean and
        Pagano 2015), and Student's quantile of m - 1 degrees of freedom; with one cluster it is the binomial one. That
        of the corrected fraction rests on the same number.

    Examples
    --------
    Fields that differ by more than chance give a wider interval than their cells alone would.

    >>> even, uneven = pooled_viability([80] * 6, [20] * 6), pooled_viability([95, 65] * 3, [5, 35] * 3)
    >>> round(even.fraction, 6), round(uneven.fraction, 6), uneven.high - uneven.low > 2 * (even.high - even.low)
    (0.8, 0.8, True)
    """
    live, dead, uncertain = (np.atleast_1d(np.asarray(counts, float)) for counts in (n_live, n_dead, n_uncertain))
    cells = _effective(live, live + dead)
    fraction, low, high = wilson(cells * float(live.sum()) / float((live + dead).sum()), cells) if cells else _NOTHING
    counts = (int(live.sum()), int(dead.sum()), int(uncertain.sum()))
    return Viability(*counts, fraction, low, high, *corrected(fraction, cells, rates))


def _effective(live: NDArray[np.float64], cells: NDArray[np.float64]) -> float:
    """Effective number of cells: as many independent ones would scatter as the clusters do, at most all of them.

    What few clusters tell of their scatter is uncertain itself. Student's quantile stands for that in an interval; it
    is put into the number of cells here (Korn and Graubard 1998), so that every interval made from it has it. It counts
    also where they scatter less than cells by chance: two or three clusters may agree by luck, and an interval that
    then took their cells as independent held the truth in as few as 87 % of simulated pairs of wells.
    """
    live, cells = live[cells > 0], cells[cells > 0]
    total, m = float(cells.sum()), len(cells)
    p = float(live.sum()) / total if total else math.nan
    if m < 2 or p in (0.0, 1.0) or math.isnan(p):
        return total
    variance = m / (m - 1) * float(((live - p * cells) ** 2).sum()) / total**2
    independent = p * (1 - p) * (_Z95 / float(student.ppf(0.975, m - 1))) ** 2
    return independent / variance if independent < total * variance else total
