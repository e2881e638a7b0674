from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from livescope.assay.viability import corrected_fraction, viability, viability_of_counts, wilson
from livescope.calls import CellCalls, State


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s(counts: tuple[int, int]) -> None:
    successes, trials = counts
    interval = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    fraction, low, high = wilson(successes, trials)
    assert fraction == successes / trials
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert 0 <= low <= fraction <= high <= 1


def test_no_cell_gives_no_number() -> None:
    v = viability_of_counts(0, 0, 3, 0.9, 0.9)
    assert v.n_uncertain == 3
    assert all(math.isnan(x) for x in (v.fraction, v.low, v.high, v.corrected, v.corrected_low, v.corrected_high))


@given(st.floats(0, 1), st.floats(0.55, 1), st.floats(0.55, 1))
def test_the_correction_undoes_the_model_s_errors(true: float, sensitivity: float, specificity: float) -> None:
    apparent = true * sensitivity + (1 - true) * (1 - specificity)
    assert corrected_fraction(apparent, sensitivity, specificity) == pytest.approx(true, abs=1e-9)


def test_the_correction_stays_in_its_range_and_refuses_chance() -> None:
    v = viability_of_counts(1, 99, sensitivity=0.9, specificity=0.9)
    assert (v.corrected, v.corrected_low) == (0.0, 0.0)
    assert corrected_fraction(0.5, 0.5, 0.5) is None
    assert viability_of_counts(5, 5, sensitivity=0.9).corrected is None


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
