"""Chances that hold: temperature and uncertain band from calls whose truth is known.

Owns that arithmetic. Where the truth comes from is the caller's: `livescope.train`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

__all__ = ["calibration_error", "fit_temperature", "risk_band"]

_PRIOR = 2.0
"""Cells' worth of belief in the temperature as it was: a handful of control cells does not turn it over."""


def fit_temperature(logit: NDArray[np.float64], dead: NDArray[np.bool_]) -> float:
    """Find the temperature that makes ``sigmoid(logit / temperature)`` the chance of dead (Guo et al. 2017).

    Parameters
    ----------
    logit, dead
        (n,) logits of calls with temperature 1, and whether the cells were dead.

    Returns
    -------
    Of the greatest likelihood, with a weak pull towards 1; between 0.05 and 20.
    """

    def loss(log_temperature: float) -> float:
        z = logit * np.exp(-log_temperature)
        return float(np.sum(np.logaddexp(0, z) - dead * z) + _PRIOR * log_temperature**2 / 2)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def risk_band(p_dead: NDArray[np.float64], dead: NDArray[np.bool_], risk: float, most: float) -> tuple[float, float]:
    """Choose the narrowest band around 0.5 outside which at most `risk` of the calls are wrong.

    Parameters
    ----------
    p_dead, dead
        (n,) calibrated chances, and whether the cells were dead; n at least 1.
    risk
        Largest part of wrong calls among those given.
    most
        Largest part of cells that may be left uncertain; where the risk cannot be had within it, the band stops there.
    """
    confidence, wrong = np.maximum(p_dead, 1 - p_dead), (p_dead >= 0.5) != dead
    order = np.argsort(-confidence)
    error = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    least = max(int(np.ceil((1 - most) * len(order))), 1)
    good = np.flatnonzero(error[least - 1 :] <= risk)
    kept = least + int(good[-1]) if len(good) else least
    edge = round(float(confidence[order[kept - 1]]), 3)
    edge = min(max(edge, 0.6), 0.95)
    return round(1 - edge, 3), edge


def calibration_error(p_dead: NDArray[np.float64], dead: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error of chances of dead in equally wide bins (Guo et al. 2017); NaN without any."""
    if not len(p_dead):
        return float("nan")
    which = np.minimum((p_dead * bins).astype(int), bins - 1)
    off = np.bincount(which, p_dead, bins) - np.bincount(which, dead, bins)
    return float(np.abs(off).sum() / len(p_dead))
