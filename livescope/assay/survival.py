"""Kinetics of death: accumulation, Kaplan-Meier, log-rank, rate and lag.

Owns what follows from each cell's time of death. The times come from `livescope.track.fate`; Kaplan-Meier and the
log-rank test are lifelines' (``pip install livescope[assay]``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.stats import chi2

from livescope.errors import AssayError

__all__ = ["DeathRate", "LagDeath", "Lives", "Survival", "death_rate", "fit_lag_death", "kaplan_meier", "log_rank"]

Floats = NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Lives:
    """When cells were watched and when they died, n rows; hours since the treatment or the start of the run.

    Attributes
    ----------
    entry_h, exit_h
        (n,) first sight of the cell alive, and its death or its last sight.
    died
        (n,) bool, True where `exit_h` is a death; else the cell was lost from sight or lived to the end.
    """

    entry_h: Floats
    exit_h: Floats
    died: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not (len(self.entry_h) == len(self.exit_h) == len(self.died)):
            raise ValueError(f"lengths differ: {len(self.entry_h)}, {len(self.exit_h)}, {len(self.died)}")

    def __len__(self) -> int:
        return len(self.died)

    @classmethod
    def of_tracks(cls, first_s: ArrayLike, last_s: ArrayLike, death_s: ArrayLike, arrived_dead: ArrayLike) -> Lives:
        """Take tracks as `Fates` describe them; cells dead when first seen tell nothing of the time of death.

        Parameters
        ----------
        first_s, last_s
            (n,) seconds of the first and last sight.
        death_s
            (n,) time of death, NaN for the living.
        arrived_dead
            (n,) bool.
        """
        first, last, death = (np.asarray(times, float) / 3600 for times in (first_s, last_s, death_s))
        died = np.isfinite(death)
        end = np.where(died, np.maximum(death, first), last)
        # a track of one frame is watched for no time
        keep = ~np.asarray(arrived_dead, bool) & (end > first)
        return cls(first[keep], end[keep], died[keep])


@dataclass(slots=True, frozen=True)
class Survival:
    """A Kaplan-Meier curve.

    Attributes
    ----------
    hours, alive, low, high
        (m,) steps, the fraction that survived, and its 95 % interval.
    median_h
        Time at which half are dead; infinite where more than half lived to the end.
    n, deaths
        Cells watched, deaths among them.
    """

    hours: Floats
    alive: Floats
    low: Floats
    high: Floats
    median_h: float
    n: int
    deaths: int


@dataclass(slots=True, frozen=True)
class DeathRate:
    """Deaths an hour and living cell, with its exact 95 % interval."""

    per_h: float
    low: float
    high: float
    deaths: int
    cell_hours: float


@dataclass(slots=True, frozen=True)
class LagDeath:
    """The lag-exponential model of death (Forcina et al. 2017, Cell Syst. 4:600), with standard errors.

    Attributes
    ----------
    start, plateau
        Dead fraction before the onset and in the end.
    onset_h, onset_error_h
        Time of the onset.
    rate_per_h, rate_error_per_h
        Rate at which the plateau is approached.
    """

    start: float
    plateau: float
    onset_h: float
    onset_error_h: float
    rate_per_h: float
    rate_error_per_h: float


def kaplan_meier(lives: Lives) -> Survival:
    """Estimate survival; cells that come into sight late count from then on.

    Raises
    ------
    AssayError
        No cell was watched, or lifelines is not installed.
    """
    if not len(lives):
        raise AssayError("no cell was seen alive and followed, so there is no survival to estimate.")
    fitter = _lifelines().KaplanMeierFitter()
    late = lives.entry_h - lives.entry_h.min() > 0
    entry = lives.entry_h if late.any() else None
    fitter.fit(lives.exit_h, lives.died, entry=entry)
    curve, interval = fitter.survival_function_, fitter.confidence_interval_
    return Survival(
        hours=curve.index.to_numpy(float),
        alive=curve.iloc[:, 0].to_numpy(float),
        low=interval.iloc[:, 0].to_numpy(float),
        high=interval.iloc[:, 1].to_numpy(float),
        median_h=float(fitter.median_survival_time_),
        n=len(lives),
        deaths=int(lives.died.sum()),
    )


def log_rank(groups: Mapping[str, Lives]) -> tuple[float, float]:
    """Return the statistic and p of the log-rank test that all groups die alike.

    Raises
    ------
    AssayError
        Fewer than two groups with cells, or lifelines is not installed.
    """
    filled = {name: lives for name, lives in groups.items() if len(lives)}
    if len(filled) < 2:
        raise AssayError(f"a log-rank test compares two groups or more; there are cells in {list(filled) or 'none'}.")
    result = _lifelines().statistics.multivariate_logrank_test(
        np.concatenate([lives.exit_h for lives in filled.values()]),
        np.repeat(list(filled), [len(lives) for lives in filled.values()]),
        np.concatenate([lives.died for lives in filled.values()]),
    )
    return float(result.test_statistic), float(result.p_value)


def death_rate(lives: Lives) -> DeathRate:
    """Count deaths over the hours that living cells were watched; the interval is Garwood's (1936).

    >>> rate = death_rate(Lives(np.zeros(4), np.array([2.0, 3.0, 5.0, 5.0]), np.array([True, True, False, False])))
    >>> round(rate.per_h, 3), round(rate.low, 3), round(rate.high, 3)
    (0.133, 0.016, 0.482)
    """
    hours, deaths = float((lives.exit_h - lives.entry_h).sum()), int(lives.died.sum())
    if hours <= 0:
        return DeathRate(math.nan, math.nan, math.nan, deaths, hours)
    low = float(chi2.ppf(0.025, 2 * deaths)) / 2 if deaths else 0.0
    high = float(chi2.ppf(0.975, 2 * deaths + 2)) / 2
    return DeathRate(deaths / hours, low / hours, high / hours, deaths, hours)


def fit_lag_death(hours: ArrayLike, dead_fraction: ArrayLike) -> LagDeath:
    """Fit the lag-exponential model to a curve of the dead fraction.

    Raises
    ------
    AssayError
        Fewer than six points, or the curve does not rise.
    """
    t, f = np.asarray(hours, float), np.asarray(dead_fraction, float)
    known = np.isfinite(t) & np.isfinite(f)
    t, f = t[known], f[known]
    if len(t) < 6 or np.ptp(t) == 0:
        raise AssayError(f"lag and rate of death need six points in time; there are {len(t)}.")
    span = float(np.ptp(t))

    def residuals(p: Floats) -> Floats:
        return np.asarray(_lag_curve(p, t) - f, np.float64)

    bounds = ([0.0, 0.0, t.min() - span, 1e-4 / span], [1.0, 1.0, t.max(), 1e3 / span])
    starts = [
        np.array([max(float(f.min()), 1e-3), min(max(float(f.max()), 2e-3), 0.999), t.min() + part * span, rate / span])
        for part in (0.1, 0.3, 0.6)
        for rate in (1.0, 5.0)
    ]
    best = min((least_squares(residuals, start, bounds=bounds) for start in starts), key=lambda fit: float(fit.cost))
    start, plateau, onset, rate = best.x.tolist()
    if plateau - start < 0.02:
        raise AssayError(f"the dead fraction stays between {f.min():.3f} and {f.max():.3f}: no death to time.")
    jacobian = np.asarray(best.jac, float)
    variance = 2 * float(best.cost) / max(len(t) - 4, 1)
    error = np.sqrt(np.diag(np.linalg.pinv(jacobian.T @ jacobian)) * variance)
    return LagDeath(start, plateau, onset, float(error[2]), rate, float(error[3]))


def _lag_curve(p: Floats, t: Floats) -> Floats:
    start, plateau, onset, rate = p
    late = np.maximum(t - onset, 0.0)
    return np.asarray(start + (plateau - start) * (1 - np.exp(-rate * late)), np.float64)


def _lifelines() -> Any:
    """Import the optional package."""
    try:
        import lifelines
        import lifelines.statistics
    except ImportError:
        raise AssayError("survival needs the package lifelines: pip install livescope[assay].") from None
    return lifelines
