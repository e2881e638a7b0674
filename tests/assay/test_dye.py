from __future__ import annotations

import numpy as np
import pytest

from livescope.assay.dye import bland_altman, concordance


def test_limits_hold_95_percent_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0.3, 1.0, 4000)
    b = a - 0.02 + rng.normal(0, 0.03, 4000)
    figures = bland_altman(a, b)
    assert figures.bias == pytest.approx(0.02, abs=0.003)
    assert ((a - b > figures.low) & (a - b < figures.high)).mean() == pytest.approx(0.95, abs=0.01)


def test_missing_values_are_left_out() -> None:
    assert bland_altman([1.0, 2.0, np.nan], [1.0, 1.0, 1.0]).n == 2
    assert np.isnan(bland_altman([1.0], [0.5]).low)


def test_concordance_is_lower_than_correlation_with_a_bias() -> None:
    a = np.linspace(0, 1, 30)
    assert concordance(a, a + 0.3).ccc == pytest.approx(2 * a.var() / (2 * a.var() + 0.09))
    assert concordance(a, 1 - a).ccc < -0.9


def test_interval_of_the_concordance_covers() -> None:
    rng = np.random.default_rng(1)
    true, inside = 2 * 0.8 / 2.0, 0
    for _ in range(1000):
        a, b = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 40).T
        figures = concordance(a, b)
        inside += figures.low <= true <= figures.high
    assert 0.92 <= inside / 1000 <= 0.98


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        bland_altman([1, 2], [1])
