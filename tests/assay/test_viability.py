from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from livescope.assay.viability import corrected_fraction, corrected_interval, viability, viability_of_counts, wilson
from livescope.calls import CellCalls, ErrorRates, State


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s(counts: tuple[int, int]) -> None:
    successes, trials = counts
    interval = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    fraction, low, high = wilson(successes, trials)
    assert fraction == successes / trials
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert 0 <= low <= fraction <= high <= 1


def test_no_cell_gives_no_number() -> None:
    v = viability_of_counts(0, 0, 3, rates=ErrorRates(0.9, 100, 0.9, 100))
    assert v.n_uncertain == 3
    assert all(math.isnan(x) for x in (v.fraction, v.low, v.high))
    assert (v.corrected, v.corrected_low, v.corrected_high) == (None, None, None)


@given(st.floats(0, 1), st.floats(0.55, 1), st.floats(0.55, 1))
def test_the_correction_undoes_the_model_s_errors(true: float, sensitivity: float, specificity: float) -> None:
    apparent = true * sensitivity + (1 - true) * (1 - specificity)
    assert corrected_fraction(apparent, sensitivity, specificity) == pytest.approx(true, abs=1e-9)


def test_the_correction_stays_in_its_range_and_refuses_chance() -> None:
    v = viability_of_counts(1, 99, rates=ErrorRates(0.9, 100, 0.9, 100))
    assert (v.corrected, v.corrected_low) == (0.0, 0.0)
    assert corrected_fraction(0.5, 0.5, 0.5) is None
    v = viability_of_counts(5, 5, rates=ErrorRates(0.5, 100, 0.5, 100))
    assert (v.corrected, v.corrected_low, v.corrected_high) == (None, None, None)


@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.tuples(st.floats(0.6, 1), st.integers(10, 10_000), st.floats(0.6, 1), st.integers(10, 10_000)),
)
def test_the_corrected_fraction_lies_in_an_interval_of_some_width(
    counts: tuple[int, int], rates: tuple[float, int, float, int]
) -> None:
    """Also where more cells are called live than the model would in an all-live culture: it said 100 to 100 %."""
    v = viability_of_counts(counts[0], counts[1] - counts[0], rates=ErrorRates(*rates))
    assert v.corrected is not None
    assert v.corrected_low is not None
    assert v.corrected_high is not None
    assert 0 <= v.corrected_low <= v.corrected <= v.corrected_high <= 1
    assert v.corrected_high - v.corrected_low > 1e-4


@pytest.mark.parametrize("true", [0.1, 0.5, 0.9, 1.0])
def test_corrected_interval_covers(true: float) -> None:
    rng = np.random.default_rng(1)
    sensitivity, specificity, inside, runs = 0.93, 0.9, 0, 2000
    for _ in range(runs):
        apparent = rng.binomial(300, true * sensitivity + (1 - true) * (1 - specificity)) / 300
        se, sp = rng.binomial(150, sensitivity) / 150, rng.binomial(100, specificity) / 100
        low, high = corrected_interval(apparent, 300, ErrorRates(se, 150, sp, 100))
        inside += low <= true <= high
    # at the end of the range a clipped interval can only err to one side
    assert 0.93 <= inside / runs <= (0.985 if true < 1 else 0.998)


def test_error_rates_of_few_cells_may_be_no_better_than_chance() -> None:
    """A rate of one cell is drawn half-way to a half: the interval had its ends the wrong way round."""
    assert corrected_interval(0.5, 100, ErrorRates(0.9, 1, 0.3, 10_000)) == (0.0, 1.0)


def test_calls_are_counted_by_state() -> None:
    state = np.array([State.LIVE] * 4 + [State.DEAD] * 2 + [State.UNCERTAIN], np.uint8)
    n = len(state)
    some = np.zeros(n, np.float32)
    calls = CellCalls(
        0, some, some, np.ones((n, 32), np.float32), some, some, state, some, np.zeros(n, bool), np.zeros(n, np.int64)
    )
    v = viability(calls)
    assert (v.n_live, v.n_dead, v.n_uncertain) == (4, 2, 1)
    assert v.fraction == pytest.approx(4 / 6)
