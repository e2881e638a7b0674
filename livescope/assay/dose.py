"""Dose and response: the four-parameter logistic curve with intervals, and the Z' of a plate.

Owns the fit. Which well got which dose lies in `plate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, least_squares, minimize_scalar
from scipy.stats import t as student

from livescope.errors import AssayError

__all__ = ["DoseResponse", "Estimate", "fit_dose_response", "z_prime"]

Floats = NDArray[np.float64]

_FARTHEST = 100.0
"""How many times beyond the doses half an effect is looked for: what lies farther is not determined by them."""
_LOG_SLOPES = np.linspace(math.log(0.1), math.log(20.0), 25)
"""Hill slopes that are tried for each EC50, logarithms."""


@dataclass(slots=True, frozen=True)
class Estimate:
    """A fitted parameter with its standard error and 95 % interval, which may be open on one side."""

    value: float
    error: float
    low: float
    high: float


@dataclass(slots=True, frozen=True)
class DoseResponse:
    """A fitted curve: response = bottom + (top - bottom) / (1 + (dose / ec50) ** slope).

    Attributes
    ----------
    bottom, top
        Response at infinite dose and at none (for a positive slope).
    slope
        Hill slope; positive where the response falls with the dose.
    ec50
        Dose of half the effect, in the unit of the doses; its interval is that of the profile likelihood.
    log10_ec50
        The same as log10.
    residual
        Standard deviation of the points about the curve.
    n
        Points.
    bounded
        True if half the effect lies inside the range of doses; otherwise the EC50 is an extrapolation.
    determined
        True if the EC50's interval ends on both sides, within a hundredfold of the doses; else they tell at most that
        it lies above or below a dose.
    """

    bottom: Estimate
    top: Estimate
    slope: Estimate
    ec50: Estimate
    log10_ec50: Estimate
    residual: float
    n: int
    bounded: bool
    determined: bool
    covariance: Floats

    def predict(self, dose: ArrayLike) -> Floats:
        """Return the response at doses."""
        parameters = (self.bottom.value, self.top.value, self.slope.value, self.log10_ec50.value * math.log(10))
        return _curve(np.asarray(parameters), np.asarray(dose, float))

    def band(self, dose: ArrayLike) -> tuple[Floats, Floats]:
        """Return the 95 % confidence band of the curve at doses, by the delta method."""
        doses = np.asarray(dose, float)
        p = np.array([self.bottom.value, self.top.value, self.slope.value, self.log10_ec50.value * math.log(10)])
        step = 1e-5 * np.maximum(np.abs(p), 1.0)
        gradient = np.stack(
            [
                (_curve(p + step * e, doses) - _curve(p - step * e, doses)) / (2 * s)
                for s, e in zip(step, np.eye(4), strict=True)
            ],
            axis=-1,
        )
        error = np.sqrt(np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient))
        half = float(student.ppf(0.975, self.n - 4)) * error
        middle = _curve(p, doses)
        return middle - half, middle + half


def fit_dose_response(dose: ArrayLike, response: ArrayLike, weights: ArrayLike | None = None) -> DoseResponse:
    """Fit the four-parameter logistic curve by least squares.

    Parameters
    ----------
    dose
        (n,) doses, 0 for untreated.
    response
        (n,) e.g. fractions alive.
    weights
        (n,) relative weights, e.g. cells counted.

    Raises
    ------
    AssayError
        Fewer than five points or four doses, or no curve fits.
    """
    x, y = np.asarray(dose, float), np.asarray(response, float)
    w = np.ones_like(y) if weights is None else np.asarray(weights, float)
    known = np.isfinite(x) & np.isfinite(y) & (w > 0)
    x, y, w = x[known], y[known], w[known]
    if len(y) < 5 or len(np.unique(x)) < 4 or (x < 0).any():
        raise AssayError(
            f"a four-parameter curve needs five points at four doses of 0 or more; there are {len(y)} points at doses "
            f"{sorted(set(x.tolist()))}. Add doses to the plate map, or compare conditions without a curve."
        )
    root_w = np.sqrt(w / w.mean())

    def residuals(p: Floats) -> Floats:
        return np.asarray(root_w * (_curve(p, x) - y), np.float64)

    profile = _Profile(x, y, w)
    best = least_squares(residuals, profile.start(), x_scale="jac", max_nfev=2000)
    variance = 2 * float(best.cost) / (len(y) - 4)
    covariance = _covariance(residuals, best.x, variance)
    if not best.success or not np.isfinite(best.x).all():
        raise AssayError(f"no four-parameter curve fits the responses {y.round(3).tolist()} at doses {x.tolist()}.")
    return _result(best.x, covariance, math.sqrt(variance), x, len(y), profile.interval(float(best.x[3])))


def z_prime(negative: ArrayLike, positive: ArrayLike) -> float:
    """Return the Z' of a plate's controls (Zhang et al. 1999); NaN with fewer than two wells of each or equal means.

    Wells with a NaN, where no cell was called, are left out.

    >>> round(z_prime([0.95, 0.97, 0.96], [0.10, 0.12, 0.11]), 3)
    0.929
    """
    a, b = (wells[np.isfinite(wells)] for wells in (np.asarray(negative, float), np.asarray(positive, float)))
    if len(a) < 2 or len(b) < 2 or a.mean() == b.mean():
        return math.nan
    return float(1 - 3 * (a.std(ddof=1) + b.std(ddof=1)) / abs(a.mean() - b.mean()))


def _curve(p: Floats, dose: Floats) -> Floats:
    bottom, top, slope, log_ec50 = p
    with np.errstate(divide="ignore"):
        power = np.clip(slope * (np.log(dose) - log_ec50), -700, 700)
    # at dose 0 the power is minus or plus infinity by the sign of the slope, which the clip keeps finite
    response: Floats = bottom + (top - bottom) / (1 + np.exp(power))
    return response


def _covariance(residuals: Callable[[Floats], Floats], p: Floats, variance: float) -> Floats:
    """Return the covariance from the observed curvature, as R's drc does; infinite where the sum of squares is flat."""
    step = 1e-4 * np.maximum(np.abs(p), 0.1)
    e = np.diag(step)

    def cost(q: Floats) -> float:
        return 0.5 * float((residuals(q) ** 2).sum())

    curvature = np.empty((4, 4))
    for i in range(4):
        for j in range(4):
            mixed = cost(p + e[i] + e[j]) - cost(p + e[i] - e[j]) - cost(p - e[i] + e[j]) + cost(p - e[i] - e[j])
            curvature[i, j] = mixed / (4 * step[i] * step[j])
    if np.linalg.eigvalsh(curvature).min() <= 1e-12 * np.abs(curvature).max():
        return np.full((4, 4), np.inf)
    return np.asarray(np.linalg.inv(curvature) * variance, np.float64)


class _Profile:
    """Least sum of squares of curves through points, where EC50, or EC50 and slope, are given: plateaus are linear."""

    def __init__(self, x: Floats, y: Floats, w: Floats) -> None:
        with np.errstate(divide="ignore"):
            self._logs = np.log(x)
        self._n, self._share, self._mean = len(x), w / w.sum(), float(w @ y / w.sum())
        self._z = y - self._mean
        self._whole = float(self._share @ self._z**2)
        self.ends = math.log(x[x > 0].min() / _FARTHEST), math.log(x.max() * _FARTHEST)

    def __call__(self, log_ec50: float) -> float:
        """Least sum of squares at an EC50."""
        tried = self._squares(log_ec50, _LOG_SLOPES)
        k = int(np.argmin(tried))
        bounds = float(_LOG_SLOPES[max(k - 1, 0)]), float(_LOG_SLOPES[min(k + 1, len(_LOG_SLOPES) - 1)])
        between = minimize_scalar(
            lambda slope: float(self._squares(log_ec50, np.array([slope]))[0]), bounds=bounds, method="bounded"
        )
        return min(float(between.fun), float(tried[k]))

    def start(self) -> Floats:
        """Return bottom, top, slope and log(EC50) of the best curve among many."""
        tried = np.linspace(*self.ends, 60)
        squares = np.stack([self._squares(float(log_ec50), _LOG_SLOPES) for log_ec50 in tried])
        row, column = np.unravel_index(int(np.argmin(squares)), squares.shape)
        slope = math.exp(_LOG_SLOPES[column])
        g = self._fall(float(tried[row]), np.array([_LOG_SLOPES[column]]))[0]
        mean = float(self._share @ g)
        span = float(self._share @ ((g - mean) * self._z)) / max(float(self._share @ (g - mean) ** 2), 1e-15)
        bottom = self._mean - span * mean
        return np.array([bottom, bottom + span, slope, tried[row]])

    def interval(self, log_ec50: float) -> tuple[float, float]:
        """Return the 95 % profile likelihood interval of log(EC50) (Bates and Watts 1988, section 6.1).

        All EC50s are in it at which the best curve fits no worse than chance allows. Unlike the standard error it holds
        where the doses do not reach the lower plateau; it is infinite where it does not end within `_FARTHEST` of them.
        """
        best = min(max(log_ec50, self.ends[0]), self.ends[1])
        freedom = self._n - 4
        most = self(best) * (1 + float(student.ppf(0.975, freedom)) ** 2 / freedom)

        def bound(end: float, side: float) -> float:
            step, inner = 0.02 * side, best
            while abs(end - inner) > abs(step):
                outer, step = inner + step, 1.3 * step
                if self(outer) > most:
                    return float(brentq(lambda v: self(v) - most, inner, outer, xtol=1e-4))
                inner = outer
            return math.inf * side

        return bound(self.ends[0], -1.0), bound(self.ends[1], 1.0)

    def _fall(self, log_ec50: float, log_slopes: Floats) -> Floats:
        """Return (slopes, n) parts of the way from bottom to top."""
        power = np.exp(log_slopes)[:, None] * (self._logs - log_ec50)
        return np.asarray(1 / (1 + np.exp(np.clip(power, -700, 700))), np.float64)

    def _squares(self, log_ec50: float, log_slopes: Floats) -> Floats:
        """Return the least sum of squares at each slope: that of a straight line in `_fall`."""
        g = self._fall(log_ec50, log_slopes)
        g -= (g @ self._share)[:, None]
        spread = g**2 @ self._share
        fitted = np.divide(
            (g * self._z) @ self._share, np.sqrt(spread), out=np.zeros_like(spread), where=spread > 1e-15
        )
        return np.asarray(np.maximum(self._n * (self._whole - fitted**2), 0.0), np.float64)


def _result(
    p: Floats, covariance: Floats, residual: float, x: Floats, n: int, log_ec50: tuple[float, float]
) -> DoseResponse:
    if p[2] < 0:  # the same curve written with a positive slope: the plateaus change places
        p = np.array([p[1], p[0], -p[2], p[3]])
        order, sign = [1, 0, 2, 3], np.array([1.0, 1.0, -1.0, 1.0])
        covariance = covariance[np.ix_(order, order)] * np.outer(sign, sign)  # a product of matrices has no infinity
    error = np.sqrt(np.diag(covariance))
    quantile = float(student.ppf(0.975, n - 4))

    def estimate(value: float, standard_error: float) -> Estimate:
        half = quantile * standard_error
        return Estimate(float(value), float(standard_error), float(value - half), float(value + half))

    low, high = log_ec50
    logarithm = Estimate(*(float(v) / math.log(10) for v in (p[3], error[3], low, high)))
    ec50 = math.exp(p[3])
    return DoseResponse(
        bottom=estimate(p[0], error[0]),
        top=estimate(p[1], error[1]),
        slope=estimate(p[2], error[2]),
        ec50=Estimate(ec50, float(ec50 * error[3]), math.exp(low), math.exp(high)),
        log10_ec50=logarithm,
        residual=residual,
        n=n,
        bounded=bool(x[x > 0].min() <= ec50 <= x.max()),
        determined=math.isfinite(low) and math.isfinite(high),
        covariance=covariance,
    )
