from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from livescope.assay.survival import Lives, between_wells, death_rate, fit_lag_death, kaplan_meier, log_rank
from livescope.errors import AssayError

lifelines = pytest.importorskip("lifelines", reason="survival is compared with lifelines: pip install livescope[dev]")


def exponential(rng: np.random.Generator, n: int, rate: float, end: float = 10.0) -> Lives:
    death = rng.exponential(1 / rate, n)
    return Lives(np.zeros(n), np.minimum(death, end), death < end)


def waltons() -> dict[str, Lives]:
    """The flies of lifelines' own tutorial."""
    from lifelines.datasets import load_waltons

    table = load_waltons()
    return {
        str(group): Lives(np.zeros(len(rows)), rows["T"].to_numpy(float), rows["E"].to_numpy(bool))
        for group, rows in table.groupby("group")
    }


def test_kaplan_meier_and_log_rank_as_lifelines_publishes_them() -> None:
    """lifelines 0.30 documentation, "Quickstart": median of all flies 56; log-rank of the two groups 122.25."""
    groups = waltons()
    both = Lives(
        *(np.concatenate([getattr(g, name) for g in groups.values()]) for name in ("entry_h", "exit_h", "died"))
    )
    assert kaplan_meier(both).median_h == 56.0
    statistic, p = log_rank(groups)
    assert statistic == pytest.approx(122.25, abs=0.005)
    assert p < 1e-20


def test_kaplan_meier_by_hand() -> None:
    curve = kaplan_meier(Lives(np.zeros(5), np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([1, 1, 0, 1, 0], bool)))
    at = dict(zip(curve.hours.tolist(), curve.alive.tolist(), strict=True))
    assert at[1.0] == pytest.approx(4 / 5)
    assert at[2.0] == pytest.approx(4 / 5 * 3 / 4)
    assert at[3.0] == pytest.approx(4 / 5 * 3 / 4 * 1 / 2)
    assert (curve.n, curve.deaths) == (5, 3)


@pytest.mark.parametrize("late", [0.0, 0.4])
def test_kaplan_meier_is_that_of_lifelines(late: float) -> None:
    rng = np.random.default_rng(7)
    entry = np.where(rng.random(200) < late, rng.uniform(0, 8, 200), 0.0)
    death = entry + rng.exponential(6.0, 200)
    lives = Lives(entry, np.minimum(np.ceil(8 * death) / 8, 10.0), death < 9.9)
    peer = lifelines.KaplanMeierFitter().fit(lives.exit_h, lives.died, entry=lives.entry_h if late else None)
    curve = kaplan_meier(lives)
    at = curve.hours[:-1]
    np.testing.assert_allclose(curve.alive[:-1], peer.survival_function_at_times(at), rtol=1e-9)
    interval = peer.confidence_interval_.loc[at].to_numpy()
    np.testing.assert_allclose(np.stack([curve.low, curve.high], axis=1)[:-1], interval, rtol=1e-9)
    assert curve.median_h == peer.median_survival_time_


def test_kaplan_meier_goes_on_where_all_were_lost_from_sight() -> None:
    """All tracks break, e.g. as the camera's region changes, and the cells are seen anew a little later."""
    rng = np.random.default_rng(8)
    entry = np.repeat([0.0, 5.1], 2000)
    death = entry + rng.exponential(5.0, 4000)
    end = np.repeat([5.0, 10.0], 2000)
    curve = kaplan_meier(Lives(entry, np.minimum(death, end), death < end))
    assert curve.median_h == pytest.approx(5 * np.log(2), rel=0.1)
    assert curve.alive[-1] == pytest.approx(np.exp(-2), rel=0.1)


def test_kaplan_meier_ends_where_all_have_died_before_others_come() -> None:
    """One cell that dies early says nothing of a hundred that come later; nor does debris of those that were killed."""
    first = kaplan_meier(Lives(np.array([0.0, 1.0, 1.0]), np.array([0.5, 3.0, 4.0]), np.ones(3, bool)))
    assert (first.hours.tolist(), first.alive.tolist(), first.median_h) == ([0.0, 0.5], [1.0, 1.0], np.inf)
    killed = exponential(np.random.default_rng(9), 300, 1.0)
    debris = Lives(np.append(killed.entry_h, 12), np.append(killed.exit_h, 20), np.append(killed.died, False))
    assert kaplan_meier(debris).median_h == kaplan_meier(killed).median_h
    assert kaplan_meier(debris).hours[-1] == killed.exit_h.max()
    assert kaplan_meier(debris).alive[-1] == pytest.approx(1 / 300)


def test_kaplan_meier_where_nobody_dies_and_where_all_do() -> None:
    alive = kaplan_meier(Lives(np.zeros(3), np.full(3, 5.0), np.zeros(3, bool)))
    assert (alive.hours.tolist(), alive.alive.tolist(), alive.low.tolist()) == ([0.0, 5.0], [1.0, 1.0], [1.0, 1.0])
    assert alive.median_h == np.inf
    dead = kaplan_meier(Lives(np.zeros(2), np.array([1.0, 2.0]), np.ones(2, bool)))
    assert (dead.alive[-1], dead.low[-1], dead.high[-1], dead.median_h) == (0.0, 0.0, 0.0, 1.0)


def test_interval_of_the_survival_covers() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        curve = kaplan_meier(exponential(rng, 60, 0.1))
        k = np.searchsorted(curve.hours, 5.0, side="right") - 1
        inside += curve.low[k] <= np.exp(-0.5) <= curve.high[k]
    assert 0.91 <= inside / 200 <= 0.99


def test_cells_seen_late_do_not_lengthen_life() -> None:
    rng = np.random.default_rng(1)
    entry, death = rng.uniform(0, 8, 4000), rng.exponential(5.0, 4000)
    seen = death > entry  # those that died before they came into sight are unknown
    curve = kaplan_meier(Lives(entry[seen], death[seen], np.ones(int(seen.sum()), bool)))
    assert curve.median_h == pytest.approx(5 * np.log(2), rel=0.12)


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_log_rank_is_that_of_lifelines_where_all_are_seen_from_the_start(groups: int) -> None:
    """With ties, too: times are rounded to a twentieth of the run."""
    from lifelines.statistics import multivariate_logrank_test

    rng = np.random.default_rng(groups)
    lives = {str(k): exponential(rng, 30 + 10 * k, 0.1 + 0.02 * k) for k in range(groups)}
    lives = {name: Lives(one.entry_h, np.ceil(2 * one.exit_h) / 2, one.died) for name, one in lives.items()}
    peer = multivariate_logrank_test(
        np.concatenate([one.exit_h for one in lives.values()]),
        np.repeat(list(lives), [len(one) for one in lives.values()]),
        np.concatenate([one.died for one in lives.values()]),
    )
    assert log_rank(lives) == pytest.approx((peer.test_statistic, peer.p_value), rel=1e-9)


def test_log_rank_with_late_entry_by_hand() -> None:
    """The cell that comes at 4 h is not at risk at 3 h: 3 of 4 are of the first group, then 2 of 3, then 1 of 2."""
    early = Lives(np.zeros(3), np.array([3.0, 5.0, 7.0]), np.array([True, True, False]))
    late = Lives(np.array([0.0, 4.0]), np.array([4.5, 6.0]), np.array([False, True]))
    expected, variance = 3 / 4 + 2 / 3 + 1 / 2, 3 / 16 + 2 / 9 + 1 / 4
    assert log_rank({"early": early, "late": late})[0] == pytest.approx((2 - expected) ** 2 / variance)


@pytest.mark.parametrize("late", [(0.0, 0.6), (0.6, 0.1, 0.4)])
def test_log_rank_keeps_its_size_where_cells_are_seen_late(late: tuple[float, ...]) -> None:
    """The same hazard in all groups; between 2 and 8.5 % of 400 tests find p < 0.05 (99.9 % of the binomial)."""
    rng = np.random.default_rng(5)

    def group(part: float, n: int = 100, end: float = 24.0) -> Lives:
        entry = np.where(rng.random(n) < part, rng.uniform(0, 0.9 * end, n), 0.0)
        death = entry + rng.exponential(20.0, n)
        return Lives(entry, np.minimum(death, end), death < end)

    found = [log_rank({str(k): group(part) for k, part in enumerate(late)})[1] < 0.05 for _ in range(400)]
    assert 0.02 <= np.mean(found) <= 0.085


def scattered(rng: np.random.Generator, wells: int, ratio: float = 1.0, late: float = 0.3) -> Lives:
    """Wells of 60 cells each, with hazards that scatter by a fifth."""
    rate = np.repeat(0.03 * ratio * np.exp(rng.normal(0, 0.2, wells)), 60)
    entry = np.where(rng.random(len(rate)) < late, rng.uniform(0, 20, len(rate)), 0.0)
    death = entry + rng.exponential(1 / rate)
    names = np.repeat([f"A{k}" for k in range(wells)], 60)
    return Lives(entry, np.minimum(death, 24.0), death < 24.0, names)


def test_wells_as_replicates_keep_the_size_that_cells_do_not() -> None:
    """The same hazard in all conditions; between 2 and 8.5 % of 400 tests find p < 0.05 (99.9 % of the binomial)."""
    rng = np.random.default_rng(6)
    runs = [{str(k): scattered(rng, 3, late=0.3 * k) for k in range(3)} for _ in range(400)]
    by_wells = [between_wells(run) for run in runs]
    assert {(test.between, test.within) for test in by_wells} == {(2, 6)}
    assert 0.02 <= np.mean([test.p < 0.05 for test in by_wells]) <= 0.085
    assert np.mean([log_rank(run)[1] < 0.05 for run in runs]) > 0.12
    effects = [between_wells({str(k): scattered(rng, 4, 1 + 1.5 * k) for k in range(2)}) for _ in range(50)]
    assert np.mean([test.p < 0.05 for test in effects]) > 0.8


def test_wells_are_not_compared_where_they_cannot_be() -> None:
    rng = np.random.default_rng(2)
    enough = scattered(rng, 2)
    others = {"single": scattered(rng, 1), "unnamed": exponential(rng, 20, 0.2)}
    with pytest.raises(AssayError, match=r"two wells of two conditions; \['a'\] has them"):
        between_wells({"a": enough, **others})
    assert between_wells({"a": enough, "b": scattered(rng, 2), **others}).left_out == ("single", "unnamed")
    alive = replace(enough, died=np.zeros(len(enough), bool))
    with pytest.raises(AssayError, match="nobody died"):
        between_wells({"a": alive, "b": alive})
    one = Lives(np.zeros(1), np.ones(1), np.ones(1, bool), np.array(["A1"]))
    same = Lives(*(np.tile(getattr(one, name), 2) for name in ("entry_h", "exit_h", "died")), np.array(["A1", "A2"]))
    with pytest.raises(AssayError, match="do not differ"):
        between_wells({"a": same, "b": same})


def test_log_rank_of_groups_that_tell_nothing() -> None:
    alive = Lives(np.zeros(3), np.full(3, 5.0), np.zeros(3, bool))
    after = Lives(np.full(2, 6.0), np.array([7.0, 8.0]), np.ones(2, bool))
    assert log_rank({"a": alive, "b": alive}) == (0.0, 1.0)
    assert log_rank({"alive": alive, "after": after}) == (0.0, 1.0)
    # a third group that was never at risk when a cell died costs no degree of freedom
    dying = {str(k): exponential(np.random.default_rng(k), 20, 0.2 + k) for k in range(2)}
    early = Lives(np.zeros(2), np.full(2, 1e-9), np.zeros(2, bool))
    assert log_rank({**dying, "early": early}) == pytest.approx(log_rank(dying))


def test_death_rate_covers() -> None:
    rng = np.random.default_rng(2)
    inside = [(r := death_rate(exponential(rng, 40, 0.05))).low <= 0.05 <= r.high for _ in range(500)]
    assert 0.93 <= np.mean(inside) <= 0.99
    assert death_rate(Lives(np.zeros(1), np.ones(1), np.zeros(1, bool))).low == 0.0


def test_lag_and_rate_of_death() -> None:
    rng = np.random.default_rng(3)
    hours = np.linspace(0, 24, 97)
    true = 0.05 + 0.8 * (1 - np.exp(-0.3 * np.maximum(hours - 6, 0)))
    fit = fit_lag_death(hours, true + rng.normal(0, 0.01, len(hours)))
    for true_value, value, (low, high), most in (
        (6.0, fit.onset_h, fit.onset_interval_h, 0.5),
        (0.3, fit.rate_per_h, fit.rate_interval_per_h, 0.05),
    ):
        assert value == pytest.approx(true_value, abs=high - low)
        assert value == pytest.approx((low + high) / 2)
        assert high - low < most
    assert fit.plateau == pytest.approx(0.85, abs=0.02)
    with pytest.raises(AssayError, match="no death to time"):
        fit_lag_death(hours, np.full(len(hours), 0.1))


def test_no_onset_is_read_into_noise() -> None:
    """Half of such series had one before they were held against a constant."""
    rng = np.random.default_rng(5)
    for points, cells, dead in ((12, 50, 0.1), (48, 100, 0.2)):
        for _ in range(15):
            with pytest.raises(AssayError, match="no death to time"):
                fit_lag_death(0.5 * np.arange(points), rng.binomial(cells, dead, points) / cells)
    # one high point at the end
    with pytest.raises(AssayError, match="no death to time"):
        fit_lag_death(np.arange(12.0), np.append(rng.binomial(50, 0.1, 11) / 50, 0.24))


def test_onset_and_rate_that_the_points_do_not_tell() -> None:
    rng, hours = np.random.default_rng(0), 0.5 * np.arange(48)
    with pytest.raises(AssayError, match="from the first point on"):
        fit_lag_death(hours, 0.1 + 0.8 * (1 - np.exp(-0.2 * (hours + 2))) + rng.normal(0, 0.01, len(hours)))
    with pytest.raises(AssayError, match="rises between two points"):
        fit_lag_death(hours, np.where(hours > 6.2, 0.98, 0.02))


def test_intervals_of_onset_and_rate_hold_of_cells_watched_throughout() -> None:
    rng, hours = np.random.default_rng(6), 0.5 * np.arange(48)
    held = []
    for _ in range(60):
        death_h = 6 + rng.exponential(1 / 0.15, 100)
        fit = fit_lag_death(hours, (death_h <= hours[:, None]).mean(axis=1), 100)
        held.append(
            [
                low <= true <= high
                for true, (low, high) in ((6.0, fit.onset_interval_h), (0.15, fit.rate_interval_per_h))
            ]
        )
    assert (np.mean(held, axis=0) >= 0.85).all()


def test_lives_of_tracks() -> None:
    lives = Lives.of_tracks(
        [0, 0, 3600, 0], [7200, 7200, 7200, 0], [np.nan, 3600, np.nan, np.nan], [False, False, True, False]
    )
    assert lives.exit_h.tolist() == [2.0, 1.0]
    assert lives.died.tolist() == [False, True]


def test_nothing_to_compare() -> None:
    nobody = Lives(np.empty(0), np.empty(0), np.empty(0, bool))
    with pytest.raises(AssayError, match="no survival"):
        kaplan_meier(nobody)
    with pytest.raises(AssayError, match="two groups"):
        log_rank({"a": exponential(np.random.default_rng(4), 5, 1.0), "b": nobody})
