from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livescope.calls import State
from livescope.frames import Frame
from livescope.settings import TrackSettings
from livescope.track.evidence import Contrast, correlate, sample
from livescope.track.fate import FateFilter, Fates, FateSettings
from livescope.track.link import Linker
from livescope.track.testing import calls_at, frame_of

GRID = np.stack(np.meshgrid(np.arange(60, 960, 100.0), np.arange(60, 960, 100.0)), axis=-1).reshape(-1, 2)
N = len(GRID)


def run(p_dead: np.ndarray, fate: FateFilter | None = None, places: np.ndarray | None = None) -> list[Fates]:
    """Give the filter (frames, cells) of p_dead; `places` (frames, cells, 2) move the cells."""
    linker, fate = Linker(), fate or FateFilter()
    results = []
    for index, p in enumerate(p_dead):
        at = GRID[: len(p)] if places is None else places[index]
        calls = linker.update(calls_at(at, p_dead=p, radius_px=15.0), frame_of(index))
        assert calls.track.tolist() == list(range(1, len(p) + 1))
        results.append(fate.update(calls, frame_of(index), linker.report.shift_yx_px))
    return results


def noisy(rng: np.random.Generator, dead: np.ndarray, separation: float = 2.5, spread: float = 1.5) -> np.ndarray:
    """Calibrated-like p_dead for known states (frames, cells)."""
    log_odds = np.where(dead, separation, -separation) + rng.normal(0, spread, dead.shape)
    return 1 / (1 + np.exp(-log_odds))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=N))
@settings(deadline=None, max_examples=50)
def test_one_frame_alone_is_the_single_frame_call(p: list[float]) -> None:
    first = run(np.array([p]))[0]
    np.testing.assert_allclose(first.p_dead, p, atol=2e-6)
    np.testing.assert_array_equal(first.state, np.where(np.float32(first.p_dead) < 0.5, State.LIVE, State.DEAD))
    assert not first.died


def test_more_frames_sharpen_the_call() -> None:
    rng = np.random.default_rng(0)
    dead = np.repeat(rng.random(N)[None] < 0.4, 20, axis=0)
    p = noisy(rng, dead, separation=1.0, spread=1.4)
    results = run(p)
    single = ((p[-1] >= 0.5) == dead[-1]).mean()
    fused = ((results[-1].p_dead >= 0.5) == dead[-1]).mean()
    assert single < 0.85
    assert 1 - fused <= 0.5 * (1 - single)


def test_time_of_death_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    true_frame = rng.integers(15, 60, N)
    dead = np.arange(80)[:, None] >= true_frame
    results = run(noisy(rng, dead))
    last = results[-1]
    assert (last.state == State.DEAD).all()
    error = last.death_frame - (true_frame - 0.5)  # it died between two frames
    assert np.median(np.abs(error)) <= 1.0
    inside = (last.death_low_frame <= true_frame) & (true_frame - 1 <= last.death_high_frame)
    assert inside.mean() >= 0.85
    np.testing.assert_allclose(last.death_s, last.death_frame)  # a frame a second
    assert (last.death_low_s <= last.death_s).all()
    died = [track for result in results for track in result.died]
    assert sorted(died) == list(range(1, N + 1))


def test_a_time_once_settled_stays_after_the_window() -> None:
    rng = np.random.default_rng(2)
    dead = np.arange(200)[:, None] >= np.full(N, 30)
    results = run(noisy(rng, dead), FateFilter(FateSettings(window_frames=32)))
    np.testing.assert_allclose(results[-1].death_frame, results[70].death_frame)
    assert np.abs(results[-1].death_frame - 29.5).max() < 6


@pytest.mark.parametrize("hazard", [0.05, 0.00001])
def test_who_dies_slowly_in_many_frames_has_a_time_of_death_too(hazard: float) -> None:
    rng = np.random.default_rng(4)
    true_frame = np.linspace(300, 700, 40)
    odds = np.clip(8 * (np.arange(1000)[:, None] - true_frame) / 600, -4, 4)  # p_dead climbs for 600 frames
    last = run(1 / (1 + np.exp(-odds - rng.normal(0, 0.7, odds.shape))), FateFilter(FateSettings(hazard=hazard)))[-1]
    assert last.declared.all()
    assert not last.arrived_dead.any()
    assert np.isfinite(last.death_frame).all()
    assert np.median(np.abs(last.death_frame - true_frame)) < 60  # a tenth of the change
    assert ((last.death_low_frame <= last.death_frame) & (last.death_frame <= last.death_high_frame)).all()


def test_a_cell_dead_on_arrival_has_no_time_of_death() -> None:
    last = run(np.full((10, 3), 0.97))[-1]
    assert last.arrived_dead.all()
    assert np.isnan(last.death_frame).all()
    assert not last.died


def test_living_cells_do_not_die_of_time() -> None:
    rng = np.random.default_rng(3)
    results = run(noisy(rng, np.zeros((300, N), bool)))
    assert sum(len(result.died) for result in results) <= 0.02 * N
    assert (results[-1].state == State.LIVE).mean() >= 0.98


def test_the_first_frame_that_contradicts_is_believed_and_a_single_one_is_not_for_long() -> None:
    p = np.full((20, 2), 0.02)
    p[10:, 0] = 0.99
    p[10, 1] = 0.9
    results = run(p)
    assert results[9].state.tolist() == [State.LIVE, State.LIVE]
    assert results[10].state.tolist() == [State.DEAD, State.LIVE]
    assert results[12].p_dead[1] < 0.05


def test_resurrections_are_flagged() -> None:
    p = np.full((60, 2), 0.05)
    p[10:30, 0] = 0.98
    results = run(p)
    assert results[25].p_dead[0] > 0.95
    assert not results[25].resurrected.any()
    assert results[-1].resurrected.tolist() == [True, False]
    declared = np.array([result.declared for result in results])
    dead = np.array([result.state == State.DEAD for result in results])
    assert not declared[:, 1].any()
    assert not (declared & ~dead).any()
    assert dead[:, 0].argmax() < declared[:, 0].argmax()  # called dead at once, declared once it is sure
    assert not declared[-1].any()  # and taken back
    assert results[-1].state.tolist() == [State.LIVE, State.LIVE]


def test_a_cell_that_moves_is_alive_whatever_it_looks_like() -> None:
    rng = np.random.default_rng(4)
    frames = 60
    dead = np.repeat(np.arange(N)[None] < N // 2, frames, axis=0)
    p = noisy(rng, dead)
    p[:, -1] = 0.8  # looks dead but moves as the living do
    p[:, 0] = 0.6  # looks uncertain and keeps still
    step = rng.normal(0, 1.0, (frames, N, 2)) * ~dead[..., None]
    places = GRID + 0.7 * np.cumsum(step, axis=0) + rng.normal(0, 0.2, (frames, N, 2))
    last = run(p, places=places)[-1]
    assert last.p_dead[-1] < 0.2
    assert last.p_dead[0] > 0.6
    without = run(p, FateFilter(FateSettings(motion_weight=0.0)), places=places)[-1]
    assert without.p_dead[-1] > 0.9


@pytest.mark.parametrize("binning", [2, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_binning_invents_no_death(binning: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    linker, fate = Linker(), FateFilter()
    p = np.where(rng.random(N) < 0.3, 0.95, 0.05)
    pixels = {b: np.zeros((1024 // b, 1024 // b), np.uint8) for b in (1, binning)}
    for index in range(60):
        b = 1 if index < 30 else binning
        places = GRID + rng.normal(0, 0.5, GRID.shape)
        calls = calls_at((places + 0.5) / b - 0.5, p_dead=p, radius_px=15.0 / b)
        frame = frame_of(index, pixels=pixels[b], pixel_um=0.65 * b)
        calls = linker.update(calls, frame)
        fates = fate.update(calls, frame, linker.report.shift_yx_px)
        assert not fates.died
    assert fate.tracks == N
    np.testing.assert_array_equal(fates.state == State.DEAD, p > 0.5)


def test_what_motion_is_worth_is_learnt_anew_where_the_scale_changes() -> None:
    """Pixels four times as large: who moves as before moves by fewer of them, which is no stillness."""
    rng = np.random.default_rng(9)
    linker, fate = Linker(), FateFilter()
    dead = np.arange(N) < N // 2
    p = np.where(dead, 0.99, 0.01)
    p[-1] = 0.5  # of whom the network cannot tell; it moves as the living do
    small, large = np.zeros((1024, 1024), np.uint8), np.zeros((256, 256), np.uint8)
    told = []
    for index in range(45):
        b, pixels = (1, small) if index < 30 else (4, large)
        places = GRID + rng.normal(0, np.where(dead, 0.1, 1.0)[:, None], GRID.shape)
        calls = calls_at((places + 0.5) / b - 0.5, p_dead=p, radius_px=15.0 / b)
        frame = frame_of(index, pixels=pixels, pixel_um=0.65 * b)
        calls = linker.update(calls, frame)
        told.append(fate.update(calls, frame, linker.report.shift_yx_px).p_dead[-1])
    assert told[29] < 0.2
    assert max(told[30:]) < 0.25


def test_frames_in_which_a_cell_is_missed_only_widen_its_interval() -> None:
    linker, fate = Linker(), FateFilter()
    for index in range(40):
        p = [0.02 if index < 20 else 0.98]
        seen = not 15 <= index < 25
        calls = linker.update(calls_at([[50, 50]] if seen else [], p_dead=p if seen else []), frame_of(index))
        result = fate.update(calls, frame_of(index), linker.report.shift_yx_px)
    assert 13 <= result.death_low_frame[0] < 20 < result.death_high_frame[0] <= 26


def test_positions_are_apart_and_memory_is_bounded() -> None:
    linker, fate = Linker(memory_frames=2, away_frames=2), FateFilter(FateSettings(forget_frames=3))
    rng = np.random.default_rng(5)
    kept = []
    for index in range(60):
        frame = frame_of(index, position="A" if index % 2 else "B")
        calls = linker.update(calls_at(rng.uniform(0, 1024, (30, 2))), frame)
        assert len(fate.update(calls, frame).p_dead) == 30
        kept.append(fate.tracks)
    assert max(kept) <= 2 * 30 * 6


def test_an_empty_frame_has_no_fates() -> None:
    linker, fate = Linker(), FateFilter()
    calls = linker.update(calls_at([]), frame_of(0))
    assert len(fate.update(calls, frame_of(0)).p_dead) == 0


def test_features_say_nothing_until_both_kinds_are_known() -> None:
    contrast = Contrast()
    features = np.random.default_rng(6).normal(0, 1, (50, 2))
    contrast.learn(features, np.ones(50, bool), np.zeros(50, bool))
    assert not contrast.evidence(features).any()
    contrast.learn(features - 3, np.zeros(50, bool), np.ones(50, bool))
    assert contrast.evidence(features).mean() < -0.5
    assert contrast.evidence(features - 3).mean() > 0.5
    assert not contrast.evidence(np.full((3, 2), np.nan)).any()


def test_correlation_of_texture() -> None:
    rng = np.random.default_rng(7)
    a = rng.normal(100, 10, (4, 64)).astype(np.float32)
    flat = np.full((4, 64), 7.0, np.float32)
    assert correlate(a, 3 * a + 5).min() > 2.5
    assert np.abs(correlate(a, rng.normal(0, 1, (4, 64)).astype(np.float32))).max() < 0.6
    assert not correlate(a, flat).any()


def test_sample_stays_inside_the_frame() -> None:
    pixels = np.arange(100, dtype=np.uint16).reshape(10, 10)
    values = sample(pixels, np.array([[-5.0, 4.0], [9.0, 30.0]]), np.array([6.0, 6.0]))
    assert values.shape == (2, 64)
    assert values.max() <= 99


def test_apply_replaces_probability_and_state() -> None:
    linker, fate = Linker(), FateFilter()
    frame: Frame = frame_of(0)
    calls = linker.update(calls_at(GRID[:2], p_dead=[0.1, 0.9]), frame)
    applied = fate.update(calls, frame).apply(calls)
    assert applied.state.tolist() == [State.LIVE, State.DEAD]
    assert applied.p_dead == pytest.approx([0.1, 0.9])


def test_a_run_believes_beforehand_what_the_filter_does() -> None:
    assert TrackSettings().hazard == FateSettings().hazard
