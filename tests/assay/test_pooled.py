from __future__ import annotations

import numpy as np
import pytest

from livescope.assay.pooled import counting_rows, pooled_viability
from livescope.assay.viability import viability_of_counts
from livescope.calls import CellCalls, ErrorRates
from livescope.track.testing import calls_at


def test_one_cluster_is_the_binomial_interval() -> None:
    pooled, single = pooled_viability([90], [10], [3]), viability_of_counts(90, 10, 3)
    assert (pooled.fraction, pooled.low, pooled.high) == (single.fraction, single.low, single.high)
    assert (pooled.n_live, pooled.n_dead, pooled.n_uncertain) == (90, 10, 3)


def test_no_cells_no_fraction() -> None:
    assert np.isnan(pooled_viability([0, 0], [0, 0]).fraction)


def test_interval_covers_with_clusters_where_the_binomial_one_does_not() -> None:
    rng = np.random.default_rng(0)
    clustered, naive, runs = 0, 0, 1500
    for _ in range(runs):
        p = rng.beta(0.8 * 12, 0.2 * 12, 10)  # mean 0.8, correlation within a field 1 / 13
        live = rng.binomial(60, p)
        pooled, single = pooled_viability(live, 60 - live), viability_of_counts(int(live.sum()), int(600 - live.sum()))
        clustered += pooled.low <= 0.8 <= pooled.high
        naive += single.low <= 0.8 <= single.high
    assert 0.93 <= clustered / runs <= 0.97
    assert naive / runs < 0.75


@pytest.mark.parametrize(("wells", "mean", "within"), [(2, 0.8, 0.1), (2, 0.5, 0.02), (3, 0.8, 0.02)])
def test_interval_covers_with_two_or_three_clusters(wells: int, mean: float, within: float) -> None:
    """Clusters that agree by luck do not say that cells are independent: it held the truth in 87 to 92 % of runs."""
    rng = np.random.default_rng(5)
    inside, runs = 0, 2000
    for _ in range(runs):
        live = rng.binomial(100, rng.beta(mean * (1 / within - 1), (1 - mean) * (1 / within - 1), wells))
        pooled = pooled_viability(live, 100 - live)
        inside += pooled.low <= mean <= pooled.high
    assert inside / runs >= 0.94


def test_corrected_interval_covers_with_few_clusters() -> None:
    """Four wells: as uncertain as the scatter between them is, the interval is that of the bare fraction, corrected."""
    rng = np.random.default_rng(3)
    inside, runs, rates = 0, 2000, ErrorRates(0.95, 100_000, 0.95, 100_000)
    for _ in range(runs):
        p = rng.beta(0.7 * 19, 0.3 * 19, 4)  # mean 0.7, correlation within a well 1 / 20
        live = rng.binomial(100, 0.95 * p + 0.05 * (1 - p))
        v = pooled_viability(live, 100 - live, rates=rates)
        assert v.corrected_low is not None
        assert v.corrected_high is not None
        inside += v.corrected_low <= 0.7 <= v.corrected_high
    assert 0.93 <= inside / runs <= 0.97


def test_correction_is_given_with_its_interval() -> None:
    v = pooled_viability([46, 46], [4, 4], rates=ErrorRates(0.93, 200, 0.93, 200))
    assert v.corrected == pytest.approx(0.988, abs=1e-3)  # a 99 % viable field reads 92 %
    assert v.corrected_low is not None
    assert v.corrected_high is not None
    assert v.corrected_low < 0.95 < v.corrected_high


def border_calls() -> CellCalls:
    places = [[50, 50], [3, 50], [50, 3], [96, 50], [50, 96]]
    calls = calls_at(places, radius_px=8.0)
    calls.edge[1:] = True
    return calls


def test_border_rules() -> None:
    assert counting_rows(border_calls(), (100, 100), "all").tolist() == [True] * 5
    assert counting_rows(border_calls(), (100, 100), "inside").tolist() == [True, False, False, False, False]
    assert counting_rows(border_calls(), (100, 100), "brick").tolist() == [True, True, True, False, False]


def test_brick_rule_does_not_favour_small_cells() -> None:
    """Where every cell is called of which a part is seen."""
    rng = np.random.default_rng(2)
    counted, all_inside = 0, 0
    for _ in range(200):
        places = rng.uniform(-30, 230, (60, 2))
        dead = rng.random(60) < 0.5
        radius = np.where(dead, 6.0, 18.0)
        visible = ((places + radius[:, None] > 0) & (places - radius[:, None] < 200)).all(axis=1)
        calls = calls_at(places[visible], radius_px=radius[visible])
        calls.edge[:] = ((places - radius[:, None] < 0) | (places + radius[:, None] > 199)).any(axis=1)[visible]
        counted += dead[visible][counting_rows(calls, (200, 200), "brick")].sum()
        all_inside += counting_rows(calls, (200, 200), "brick").sum()
    assert counted / all_inside == pytest.approx(0.5, abs=0.02)


def test_of_cells_called_by_their_centre_all_count_lest_small_ones_be_favoured() -> None:
    """As `decode` gives them: what has its centre beyond the border is a cell of the neighbouring field."""
    rng = np.random.default_rng(2)
    shares = {}
    for rule in ("all", "brick", "inside"):
        counted = np.zeros(2)
        for _ in range(300):
            places = rng.uniform(0, 200, (60, 2)) - 0.5
            dead = rng.random(60) < 0.5
            radius = np.where(dead, 6.0, 18.0)
            calls = calls_at(places, radius_px=radius)
            calls.edge[:] = ((places - radius[:, None] < 0) | (places + radius[:, None] > 199)).any(axis=1)
            counted += np.bincount(dead[counting_rows(calls, (200, 200), rule)], minlength=2)
        shares[rule] = counted[1] / counted.sum()
    assert shares["all"] == pytest.approx(0.5, abs=0.01)
    assert shares["all"] + 0.02 < shares["brick"] < shares["inside"] - 0.02
