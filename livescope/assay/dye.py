"""Agreement of two ways to measure the same wells or fields, e.g. the model's viability beside a dye's.

Owns Bland-Altman limits and Lin's concordance. Knows neither cells nor images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

__all__ = ["BlandAltman", "Concordance", "bland_altman", "concordance"]


@dataclass(slots=True, frozen=True)
class BlandAltman:
    """Differences first minus second.

    Attributes
    ----------
    n
        Pairs.
    bias, bias_low, bias_high
        Mean difference with its 95 % interval.
    low, high
        Limits of agreement: 95 % of the differences lie between them.
    """

    n: int
    bias: float
    bias_low: float
    bias_high: float
    low: float
    high: float


@dataclass(slots=True, frozen=True)
class Concordance:
    """Lin's concordance correlation coefficient with its 95 % interval."""

    n: int
    ccc: float
    low: float
    high: float


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"two lists of the same length are compared, not shapes {a.shape} and {b.shape}.")
    known = np.isfinite(a) & np.isfinite(b)
    return a[known], b[known]


def bland_altman(first: ArrayLike, second: ArrayLike) -> BlandAltman:
    """Compare paired measurements after Bland and Altman (1986); pairs with a NaN are left out.

    >>> figures = bland_altman([0.90, 0.80, 0.71, 0.62], [0.88, 0.80, 0.70, 0.59])
    >>> round(figures.bias, 4), round(figures.low, 4), round(figures.high, 4)
    (0.015, -0.0103, 0.0403)
    """
    a, b = _pairs(first, second)
    n = len(a)
    if n < 2:
        return BlandAltman(n, float((a - b).mean()) if n else math.nan, math.nan, math.nan, math.nan, math.nan)
    bias, spread = float((a - b).mean()), float((a - b).std(ddof=1))
    half = float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return BlandAltman(n, bias, bias - half, bias + half, bias - 1.96 * spread, bias + 1.96 * spread)


def concordance(first: ArrayLike, second: ArrayLike) -> Concordance:
    """Return Lin's concordance (1989) with the interval of his Z transform; NaN with fewer than three pairs.

    >>> concordance([1, 2, 3, 4], [1, 2, 3, 4]).ccc
    1.0
    """
    a, b = _pairs(first, second)
    n = len(a)
    if n < 3:
        return Concordance(n, math.nan, math.nan, math.nan)
    shift = float(a.mean() - b.mean())
    covariance = float(((a - a.mean()) * (b - b.mean())).mean())
    spread = float(a.var() + b.var() + shift**2)
    if spread == 0:
        return Concordance(n, math.nan, math.nan, math.nan)
    ccc = 2 * covariance / spread
    r = covariance / math.sqrt(float(a.var() * b.var())) if a.var() > 0 and b.var() > 0 else 0.0
    if abs(ccc) >= 1 - 1e-12 or r == 0:
        return Concordance(n, ccc, ccc if r else math.nan, ccc if r else math.nan)
    u2 = shift**2 / math.sqrt(float(a.var() * b.var()))
    variance = (
        (1 - r**2) * ccc**2 / ((1 - ccc**2) * r**2)
        + 2 * ccc**3 * (1 - ccc) * u2 / (r * (1 - ccc**2) ** 2)
        - ccc**4 * u2**2 / (2 * r**2 * (1 - ccc**2) ** 2)
    ) / (n - 2)
    half = 1.959963984540054 * math.sqrt(max(variance, 0.0))
    middle = math.atanh(ccc)
    return Concordance(n, ccc, math.tanh(middle - half), math.tanh(middle + half))
