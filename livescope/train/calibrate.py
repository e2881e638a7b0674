"""Thresholds and probabilities that hold: chosen on fields that the network was not trained on.

Owns the choice of the card's `p_cell`, temperature and uncertain band, and the bias folded into the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

from livescope.calls import State
from livescope.detect.calibrate import risk_band
from livescope.errors import ModelError
from livescope.train.scoring import Matched

__all__ = ["StateCalibration", "best_p_cell", "fit_state", "known_states", "platt", "uncertain_band"]

_ABOUT = 0.05
"""Score over which the F-score by threshold is smoothed (a Gaussian's sigma)."""


@dataclass(slots=True, frozen=True)
class StateCalibration:
    """Chance of dead = sigmoid((logit + bias) / temperature)."""

    bias: float
    temperature: float


def best_p_cell(matched: Sequence[Matched], recall_weight: float = 1.0, otherwise: float = 0.5) -> float:
    """Find the score threshold with the best detection F-score.

    Parameters
    ----------
    matched
        Fields called with a threshold near 0.
    recall_weight
        How many times as much recall counts as precision (beta of the F-score); 1 is F1.
    otherwise
        Where no cell was marked: there is nothing to choose by.

    Returns
    -------
    The threshold about which the score is best: its curve is smoothed over `_ABOUT`, since on few cells it is jagged,
    and its very best point is chance. Where a stretch is equally good, the middle.
    """
    scores = np.concatenate([m.p_cell for m in matched])
    hit = np.concatenate([m.marked >= 0 for m in matched])
    cells = hit.sum() + sum(len(m.missed) for m in matched)
    if not cells:
        return otherwise
    thresholds = np.linspace(0.05, 0.9, 171)
    beta2 = recall_weight**2
    f_score = np.array(
        [(1 + beta2) * hit[scores >= t].sum() / ((scores >= t).sum() + beta2 * cells) for t in thresholds]
    )
    about = gaussian_filter1d(f_score, _ABOUT / (thresholds[1] - thresholds[0]), mode="nearest")
    good = thresholds[about >= about.max() - 1e-9]
    return round(float(good[len(good) // 2]), 3)


def fit_state(matched: Sequence[Matched], even: bool = False) -> StateCalibration:
    """Fit bias and temperature of the dead logit by maximum likelihood (Platt 1999) on found cells of known state.

    The calls must have been made with temperature 1 and bias 0. `even` gives live and dead the same weight: for marked
    cells whose share of dead says nothing of a field's. Otherwise that share is believed.
    """
    logit, dead = known_states(matched)
    weight = np.where(dead, 0.5 / dead.mean(), 0.5 / (1 - dead.mean())) if even else np.ones(len(dead))
    return platt(logit, dead, weight)[0]


def platt(
    logit: NDArray[np.float64], dead: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[StateCalibration, float]:
    """Fit bias and temperature to (n,) logits of dead cells and others by maximum likelihood, each cell weighed.

    Returns
    -------
    The calibration, and the mean cross-entropy that it leaves (nats).
    """
    share = weight / weight.sum()

    def loss(parameters: NDArray[np.float64]) -> float:
        z = np.exp(parameters[0]) * (logit + parameters[1])
        return float(share @ (np.logaddexp(0, z) - dead * z))

    def held(parameters: NDArray[np.float64]) -> float:
        # the small ridge keeps a perfectly separated set from driving the temperature to 0
        return loss(parameters) + 1e-3 * float(parameters[0] ** 2)

    found = minimize(held, np.zeros(2), method="Nelder-Mead").x
    return StateCalibration(bias=float(found[1]), temperature=float(np.exp(-found[0]))), loss(found)


def uncertain_band(matched: Sequence[Matched], risk: float = 0.01, most: float = 0.1) -> tuple[float, float]:
    """Choose the narrowest band around 0.5 outside which at most `risk` of the calls are wrong.

    Parameters
    ----------
    matched
        Fields called with the calibrated network.
    risk
        Largest part of wrong calls among those given.
    most
        Largest part of cells that may be left uncertain; where the risk cannot be had within it, the band stops there.
    """
    logit, dead = known_states(matched)
    return risk_band(1 / (1 + np.exp(-logit)), dead, risk, most)


def known_states(matched: Sequence[Matched]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (n,) logits of the called chances of found cells of known state, and which of them are dead.

    Raises
    ------
    ModelError
        There are no live or no dead ones.
    """
    p = np.concatenate([m.p_dead for m in matched]).astype(np.float64).clip(1e-7, 1 - 1e-7)
    marked = np.concatenate([m.marked for m in matched])
    known = (marked == State.LIVE) | (marked == State.DEAD)
    dead = marked[known] == State.DEAD
    if not dead.any() or dead.all():
        raise ModelError(
            f"the network found {np.sum(~dead)} live and {np.sum(dead)} dead labelled cells; calibration needs "
            "some of each. Label more fields of both, or train longer."
        )
    return np.log(p[known] / (1 - p[known])), dead
