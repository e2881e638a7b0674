"""The fraction of living cells with its uncertainty, bare and corrected for the model's own errors.

Owns the arithmetic from counts to `livescope.calls.Viability`. Knows no images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls, ErrorRates, State, Viability

__all__ = ["corrected", "corrected_fraction", "corrected_interval", "viability", "viability_of_counts", "wilson"]

_Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def viability(
    calls: CellCalls,
    rates: ErrorRates | None = None,
    counting: NDArray[np.bool_] | None = None,
) -> Viability:
    """Compute the viability of one frame's calls, or of the `counting` rows; see `viability_of_counts`."""
    counted = calls.state if counting is None else calls.state[counting]
    live, dead, uncertain = (
        int(np.count_nonzero(counted == state)) for state in (State.LIVE, State.DEAD, State.UNCERTAIN)
    )
    return viability_of_counts(live, dead, uncertain, rates=rates)


def viability_of_counts(
    n_live: int, n_dead: int, n_uncertain: int = 0, *, rates: ErrorRates | None = None
) -> Viability:
    """Compute live / (live + dead) with its 95 % interval.

    Parameters
    ----------
    n_live, n_dead, n_uncertain
        Cells by call; uncertain ones do not enter the fraction.
    rates
        Of the model, from its card; with them the fraction is also given corrected.

    Examples
    --------
    >>> v = viability_of_counts(90, 10, rates=ErrorRates(0.95, 500, 0.9, 300))
    >>> [round(x, 3) for x in (v.fraction, v.low, v.high, v.corrected, v.corrected_low, v.corrected_high)]
    [0.9, 0.826, 0.945, 0.941, 0.85, 1.0]
    """
    fraction, low, high = wilson(n_live, n_live + n_dead)
    return Viability(n_live, n_dead, n_uncertain, fraction, low, high, *corrected(fraction, n_live + n_dead, rates))


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
    calls.
    """
    youden = sensitivity + specificity - 1
    return None if youden <= 0 else min(max((apparent + specificity - 1) / youden, 0.0), 1.0)


def corrected_interval(apparent: float, cells: float, rates: ErrorRates) -> tuple[float, float]:
    """Return the 95 % interval of a Rogan-Gladen fraction, the uncertainty of both error rates included.

    After Lang and Reiczigel (2014), Prev. Vet. Med. 113:13-22, around a fraction clipped to 0..1: where more cells are
    called live than the model would call so in an all-live culture, the culture is still not known to be all live. It
    is all of 0..1 where the error rates rest on so few cells that the model may be no better than chance.

    Parameters
    ----------
    apparent
        Fraction called live.
    cells
        Number (or effective number) of cells.
    rates
        Of the model.

    Examples
    --------
    >>> [round(v, 3) for v in corrected_interval(0.5, 200, ErrorRates(0.95, 100, 0.95, 100))]
    [0.414, 0.586]
    """
    z2 = _Z95**2
    n, p = cells + z2, (cells * apparent + z2 / 2) / (cells + z2)
    n_se, n_sp = rates.n_live + 2, rates.n_dead + 2
    se, sp = (rates.n_live * rates.sensitivity + 1) / n_se, (rates.n_dead * rates.specificity + 1) / n_sp
    youden = se + sp - 1
    if youden <= 0:
        return 0.0, 1.0
    live = min(max((p + sp - 1) / youden, 0.0), 1.0)
    shift = 2 * z2 * (live * se * (1 - se) / n_se - (1 - live) * sp * (1 - sp) / n_sp)
    variance = p * (1 - p) / n + live**2 * se * (1 - se) / n_se + (1 - live) ** 2 * sp * (1 - sp) / n_sp
    half = _Z95 * math.sqrt(variance) / youden
    return min(max(live + shift - half, 0.0), 1.0), min(max(live + shift + half, 0.0), 1.0)


def corrected(
    apparent: float, cells: float, rates: ErrorRates | None
) -> tuple[float | None, float | None, float | None]:
    """Return a fraction corrected for a model's errors, with its 95 % interval; None of each where it cannot be.

    Parameters
    ----------
    apparent, cells
        Fraction called live, NaN where no cell was called, and the number (or effective number) of cells.
    rates
        Of the model; None where they are not known.
    """
    fraction = None
    if rates is not None and not math.isnan(apparent):
        fraction = corrected_fraction(apparent, rates.sensitivity, rates.specificity)
    if rates is None or fraction is None:
        return None, None, None
    return fraction, *corrected_interval(apparent, cells, rates)
