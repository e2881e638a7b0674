from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from field_kit import calls, field

from livescope.calls import State
from livescope.errors import ModelError
from livescope.train.calibrate import best_p_cell, fit_state, uncertain_band
from livescope.train.scoring import Matched, bootstrap, bootstrap_interval, match_field, score


def test_found_missed_and_spurious_are_counted_apart() -> None:
    truth = field([(20, 20), (50, 50), (80, 80)], [State.LIVE, State.DEAD, State.DEAD])
    found = match_field(truth, calls([(21, 20), (50, 58), (20, 80)], [0.1, 0.9, 0.5]), reach=1.0)
    assert found.marked.tolist() == [State.LIVE, State.DEAD, -1]
    assert found.missed.tolist() == [State.DEAD]
    figures = score([found])
    assert figures.f1 == pytest.approx(2 * 2 / 6)
    assert (figures.recall_live, figures.recall_dead) == (1.0, 0.5)
    assert figures.auc_dead == 1.0
    assert figures.balanced_accuracy == 1.0


def test_reach_is_a_part_of_the_radius() -> None:
    truth = field([(50, 50)], [State.LIVE])
    assert match_field(truth, calls([(50, 56)], [0.1]), reach=0.5).marked.tolist() == [-1]
    assert match_field(truth, calls([(50, 54)], [0.1]), reach=0.5).marked.tolist() == [State.LIVE]


def test_cells_centred_outside_or_in_the_border_are_not_asked_for() -> None:
    truth = field([(-3, 50), (5, 50), (50, 50)], [State.LIVE] * 3)
    met = match_field(truth, calls([(0, 50), (5, 50), (50, 50)], [0.1] * 3), reach=0.5, border_px=12)
    assert met.marked.tolist() == [State.LIVE]
    assert met.missed.size == 0


def test_calls_where_the_labels_are_silent_count_neither_way() -> None:
    known = np.ones((100, 100), bool)
    known[:, 70:] = False
    truth = replace(field([(50, 50), (20, 85)], [State.LIVE, State.DEAD]), known=known)
    met = match_field(truth, calls([(50, 50), (80, 30), (80, 90), (20, 85)], [0.1, 0.1, 0.1, 0.9]), reach=0.5)
    assert met.marked.tolist() == [State.LIVE, -1, State.DEAD]


def test_bootstrap_resamples_groups() -> None:
    def one(group: str, right: bool) -> Matched:
        p_cell, p_dead = np.array([0.9], np.float32), np.array([0.1], np.float32)
        marked, missed = np.array([1 if right else -1]), np.array([] if right else [1], np.int64)
        return Matched("f", group, p_cell, p_dead, np.array([1], np.uint8), marked, np.zeros(1), missed)

    same = [one(group, right) for group in "abc" for right in (True, False)]  # equal groups: draws do not differ
    low, high = bootstrap(same, score, rounds=50)["f1"]
    assert low == high == pytest.approx(0.5)
    some = [one("a", True), one("b", False), one("c", True)]
    intervals = bootstrap(some, score, rounds=200)
    assert 0 <= intervals["f1"][0] < 0.1
    assert 0.99 < intervals["f1"][1] <= 1
    assert bootstrap(some, score, rounds=200) == intervals, "the same again"
    assert "n_live" not in intervals, "the number of marked cells is what it is"
    assert "recall_dead" not in intervals, "nowhere is a dead cell"
    assert bootstrap([one("a", True), one("b", False)], score) == {}, "two groups tell nothing of a third"
    assert "recall" not in bootstrap([one(group, True) for group in "abcd"], score, rounds=50), "all were found"


def test_bootstrap_of_a_figure_that_few_groups_have() -> None:
    def one(group: int, dead: int, found: int) -> Matched:
        marked = np.array([State.LIVE] * 20 + [State.DEAD] * found, np.int64)
        ones, missed = np.ones(len(marked), np.float32), np.full(dead - found, State.DEAD, np.int64)
        return Matched(
            "f", str(group), ones, ones * 0.1, marked.astype(np.uint8), marked, np.zeros(len(marked)), missed
        )

    def with_dead(*found: int) -> dict[str, tuple[float, float]]:
        return bootstrap([one(g, 10, found[g]) if g < len(found) else one(g, 0, 0) for g in range(12)], score, 300)

    assert "recall_dead" not in with_dead(9), "what one group says"
    assert "recall_dead" not in with_dead(9, 6)
    (low, high), (low_12, high_12) = with_dead(9, 8, 6)["recall_dead"], with_dead(*(9, 8, 6) * 4)["recall_dead"]
    assert low < 0.5 < low_12 < 23 / 30 < high_12 < 0.9 < high, "three of twelve are three"


def test_interval_by_hand() -> None:
    draws = np.array([0.5, 0.7, 0.8, 0.9, np.nan])
    # four of five resamples defined: 5 (1 - 0.2 ** (1 / 5)) = 1.4 groups tell of it
    assert bootstrap_interval(0.7, draws, groups=5) is None
    # deviations -0.225, -0.025, 0.075, 0.175: error sqrt(0.0875 / 3) = 0.170783; the t of 2 is 4.3027
    errors = 4.302653 * np.sqrt(3 / 2)
    plain = bootstrap_interval(0.7, draws[:4], 3, bounds=None)
    assert plain == pytest.approx((0.7 - 0.170783 * errors, 0.7 + 0.170783 * errors), abs=1e-5)
    # logits 0, 0.847298, 1.386294, 2.197225: error 0.923668; by the slope 0.170783 / (0.7 * 0.3) = 0.813252, less
    ends = [1 / (1 + np.exp(-(np.log(0.7 / 0.3) + side * 0.923668 * errors))) for side in (-1, 1)]
    assert bootstrap_interval(0.7, draws[:4], 3) == pytest.approx(ends, abs=1e-5)
    doubled = bootstrap_interval(0.4, 2 * draws[:4] - 1, 3, bounds=(-1, 1))
    assert doubled == pytest.approx([2 * end - 1 for end in ends], abs=1e-5), "the same on another scale"
    # resamples at the bound have no logit: the slope stands in, 0.25 / (0.75 * 0.25) for deviations of 0.25, 0, 0.25
    ends = [1 / (1 + np.exp(-(np.log(3) + side * 4 / 3 * errors))) for side in (-1, 1)]
    assert bootstrap_interval(0.75, np.array([0.5, 0.75, 1.0]), 3) == pytest.approx(ends, abs=1e-5)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_interval_of_groups_that_agree_has_no_width(bounds: tuple[float, float] | None) -> None:
    assert bootstrap_interval(0.3, np.full(50, 0.3), 5, bounds) == pytest.approx((0.3, 0.3))
    assert bootstrap_interval(0.3, np.full(50, 0.3), 2, bounds) is None
    assert bootstrap_interval(float("nan"), np.full(50, np.nan), 5, bounds) is None
    assert bootstrap_interval(float("nan"), np.append(np.full(49, 0.3), np.nan), 5, bounds) is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_figure_at_its_bound_has_no_interval(value: float) -> None:
    assert bootstrap_interval(value, np.full(50, value), 12) is None
    assert bootstrap_interval(value, np.full(50, value), 12, bounds=(-1.0, 2.0)) == pytest.approx((value, value))


def test_interval_where_one_group_of_twelve_fails() -> None:
    """A third of the resamples lack it and lie at the bound; the lower end is far, the upper one stays below 1."""
    picked = np.random.default_rng(0).integers(0, 12, (500, 12))
    interval = bootstrap_interval(1 - 0.12 / 12, 1 - 0.12 * np.mean(picked == 0, axis=1), 12)
    assert interval is not None
    assert 0.88 < interval[0] < 0.94, "one of twelve, all of it lost, would be 0.917"
    assert 0.995 < interval[1] < 1
    assert bootstrap_interval(0.99, np.append(np.ones(49), 0.5), 12) is not None, "one resample has no spread"


def _groups_of_cells(sets: int, groups: int, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of each group, and of these the found ones: 40 to 160, rates that differ with a correlation of 0.05."""
    rng = np.random.default_rng(seed)
    n = rng.integers(40, 161, (sets, groups))
    return n, rng.binomial(n, rng.beta(19 * rate, 19 * (1 - rate), n.shape))


@pytest.mark.parametrize("rate", [0.85, 0.95])
@pytest.mark.parametrize("groups", [3, 5, 12])
def test_95_of_100_intervals_hold_the_truth(groups: int, rate: float) -> None:
    """Percentiles of the same resamples hold it in 69 to 90 of 100."""
    n, found = _groups_of_cells(1500, groups, rate, seed=groups)
    picked = np.random.default_rng(0).integers(0, groups, (300, groups))
    draws = found[:, picked].sum(axis=2) / n[:, picked].sum(axis=2)
    values = found.sum(axis=1) / n.sum(axis=1)
    intervals = [bootstrap_interval(float(value), drawn, groups) for value, drawn in zip(values, draws, strict=True)]
    low, high = np.array([one for one in intervals if one is not None]).T
    assert len(low) > 0.98 * len(values)
    assert 0.93 < np.mean((low <= rate) & (rate <= high)) < 0.98
    low, high = np.percentile(draws, (2.5, 97.5), axis=1)
    assert np.mean((low <= rate) & (rate <= high)) < 0.91


def test_95_of_100_intervals_hold_a_difference() -> None:
    """Of the mean of seven groups, without bounds; percentiles hold it in 86 of 100."""
    gaps = np.random.default_rng(1).normal(-2.0, 3.0, (2000, 7))
    picked = np.random.default_rng(0).integers(0, 7, (300, 7))
    draws = gaps[:, picked].mean(axis=2)
    intervals = [bootstrap_interval(float(g.mean()), d, 7, None) for g, d in zip(gaps, draws, strict=True)]
    low, high = np.array(intervals, float).T
    assert 0.935 < np.mean((low <= -2) & (high >= -2)) < 0.965
    low, high = np.percentile(draws, (2.5, 97.5), axis=1)
    assert np.mean((low <= -2) & (high >= -2)) < 0.89


def _drawn(n: int, bias: float, temperature: float) -> Matched:
    """Cells whose true chance of dead is sigmoid((logit + bias) / temperature)."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, n)
    dead = rng.random(n) < 1 / (1 + np.exp(-(logit + bias) / temperature))
    p = (1 / (1 + np.exp(-logit))).astype(np.float32)
    marked = np.where(dead, State.DEAD, State.LIVE).astype(np.int64)
    return Matched(
        "f", "g", np.ones(n, np.float32), p, np.ones(n, np.uint8), marked, np.zeros(n), np.zeros(0, np.int64)
    )


def test_calibration_recovers_bias_and_temperature() -> None:
    found = fit_state([_drawn(20_000, bias=-1.0, temperature=2.0)])
    assert found.bias == pytest.approx(-1.0, abs=0.15)
    assert found.temperature == pytest.approx(2.0, abs=0.15)


def test_uncertain_band_keeps_the_risk_or_stops_at_most() -> None:
    found = _drawn(20_000, bias=0.0, temperature=1.0)
    low, high = uncertain_band([found], risk=0.05, most=0.5)
    given = (found.p_dead <= low) | (found.p_dead >= high)
    wrong = (found.p_dead >= 0.5) != (found.marked == State.DEAD)
    assert wrong[given].mean() <= 0.055
    assert given.mean() > 0.5
    assert uncertain_band([found], risk=0.0, most=0.0) == (0.4, 0.6)


def test_p_cell_parts_true_from_spurious() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.uniform(0.5, 1, 200), rng.uniform(0.05, 0.4, 200)]).astype(np.float32)
    marked = np.repeat([1, -1], 200)
    found = Matched("f", "g", scores, scores, marked.astype(np.uint8), marked, np.zeros(400), np.zeros(0, np.int64))
    assert 0.4 <= best_p_cell([found]) <= 0.5


def test_p_cell_is_not_the_one_lucky_score() -> None:
    """Thirty spurious calls of one score make the threshold just above them best; a bit less is far worse."""
    true, spurious = np.linspace(0.45, 0.95, 100), np.concatenate([np.linspace(0.1, 0.45, 70), np.full(30, 0.549)])
    scores = np.concatenate([true, spurious]).astype(np.float32)
    marked = np.repeat([1, -1], 100)
    found = Matched("f", "g", scores, scores, marked.astype(np.uint8), marked, np.zeros(200), np.zeros(0, np.int64))
    thresholds = np.arange(0.05, 0.9, 0.005)
    f1 = [2 * (true >= t).sum() / ((scores >= t).sum() + 100) for t in thresholds]
    assert thresholds[np.argmax(f1)] == pytest.approx(0.55, abs=0.006)
    assert 0.38 < best_p_cell([found]) < 0.48


def test_calibration_needs_cells_of_both_states() -> None:
    found = _drawn(50, bias=-100.0, temperature=1.0)
    with pytest.raises(ModelError, match="50 live and 0 dead"):
        fit_state([found])


def test_figures_against_counts_by_hand() -> None:
    p_dead = np.array([0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.05, 0.05, 0.02, 0.01], np.float32)
    marked = np.array([2, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    call = np.array([2, 2, 1, 3, 1, 1, 1, 1, 1, 1], np.uint8)
    found = Matched("f", "g", np.ones(10, np.float32), p_dead, call, marked, np.zeros(10), np.array([2]))
    figures = score([found])
    assert (figures.n_live, figures.n_dead) == (7, 4)
    assert figures.average_precision_dead == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert figures.balanced_accuracy == pytest.approx((2 / 3 + 6 / 7) / 2)
    assert figures.f1_dead == pytest.approx(2 * 2 / (3 + 3))
    # two hits, one false alarm, one miss, six right rejections
    assert figures.mcc == pytest.approx((2 * 6 - 1 * 1) / np.sqrt(3 * 3 * 7 * 7))
    assert figures.error_at_90 == pytest.approx(1 / 9)  # the call at 0.6 is the least sure
    assert (figures.sensitivity, figures.specificity) == (1.0, pytest.approx(2 / 3))
    assert figures.uncertain == pytest.approx(0.1)
    assert figures.brier == pytest.approx(np.mean((p_dead - (marked == 2)) ** 2))
