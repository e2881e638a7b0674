"""The fraction of living cells with its uncertainty, bare and corrected for the model's own errors.

Owns the arithmetic from counts to `livescope.calls.Viability`. Knows no images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls, State, Viability

__all__ = ["corrected_fraction", "viability", "viability_of_counts", "wilson"]

_Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def viability(
    calls: CellCalls,
    sensitivity: float | None = None,
    specificity: float | None = None,
    counting: NDArray[np.bool_] | None = None,
) -> Viability:
    """Compute the viability of one frame's calls, or of the `counting` rows; see `viability_of_counts`."""
    counted = calls.state if counting is None else calls.state[counting]
    live, dead, uncertain = (
        int(np.count_nonzero(counted == state)) for state in (State.LIVE, State.DEAD, State.UNCERTAIN)
    )
    return viability_of_counts(live, dead, uncertain, sensitivity, specificity)


def viability_of_counts(
    n_live: int, n_dead: int, n_uncertain: int = 0, sensitivity: float | None = None, specificity: float | None = None
) -> Viability:
    """Compute live / (live + dead) with its 95 % interval.

    Parameters
    ----------
    n_live, n_dead, n_uncertain
        Cells by call; uncertain ones do not enter the fraction.
    sensitivity, specificity
        Chances that the model calls a live cell live and a dead cell dead, from its card. Where both are known the
        fraction is also given corrected (Rogan and Gladen 1978).

    Examples
    --------
    >>> v = viability_of_counts(90, 10, sensitivity=0.95, specificity=0.9)
    >>> round(v.fraction, 3), round(v.low, 3), round(v.high, 3), round(v.corrected, 3)
    (0.9, 0.826, 0.945, 0.941)
    """
    fraction, low, high = wilson(n_live, n_live + n_dead)
    corrected = corrected_low = corrected_high = None
    if sensitivity is not None and specificity is not None:
        corrected, corrected_low, corrected_high = (
            corrected_fraction(value, sensitivity, specificity) for value in (fraction, low, high)
        )
    return Viability(n_live, n_dead, n_uncertain, fraction, low, high, corrected, corrected_low, corrected_high)


def wilson(successes: float, trials: float, z: float = _Z95) -> tuple[float, float, float]:
    """Return a proportion and its interval after Wilson (1927); all NaN without trials.

    It holds at 0 and 1 and with few cells, where the textbook interval does not. Trials need not be whole: an effective
    number serves.

    >>> [round(v, 3) for v in wilson(0, 10)]
    [0.0, 0.0, 0.278]
    """
    if trials == 0:
        return math.nan, math.nan, math.nan
    p = successes / trials
    scale = 1 + z**2 / trials
    middle = (p + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    # the exact limits at 0 and 1 are 0 and 1, which rounding may miss
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return p, low, high


def corrected_fraction(apparent: float, sensitivity: float, specificity: float) -> float | None:
    """Correct an apparent live fraction for calls that go wrong, after Rogan and Gladen (1978), clipped to 0..1.

    None where the model is no better than chance (sensitivity + specificity <= 1): nothing can be learnt from its
    calls. The interval of the corrected fraction is that of the apparent one sent through the same line; the
    uncertainty of the sensitivity and specificity themselves is not in it.
    """
    youden = sensitivity + specificity - 1
    if youden <= 0:
        return None
    corrected = (apparent + specificity - 1) / youden
    return corrected if math.isnan(corrected) else min(max(corrected, 0.0), 1.0)
