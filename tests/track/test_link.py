from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livescope.settings import SimulationSettings
from livescope.simulate.culture import Culture
from livescope.simulate.truth import View, truth_of_view
from livescope.track.link import Division, Linker
from livescope.track.register import search
from livescope.track.testing import calls_at, frame_of

GRID = np.stack(np.meshgrid(np.arange(60, 960, 80.0), np.arange(60, 960, 80.0)), axis=-1).reshape(-1, 2)


def scattered(seed: int, n: int = 120) -> np.ndarray:
    """Places at least 30 px apart."""
    rng = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < n:
        place = rng.uniform(20, 1004, 2)
        if all(np.hypot(*(place - p)) > 30 for p in places):
            places.append(place)
    return np.array(places)


def test_order_of_the_calls_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    linker = Linker()
    first = linker.update(calls_at(GRID), frame_of(0)).track
    order = rng.permutation(len(GRID))
    second = linker.update(calls_at(GRID[order] + rng.normal(0, 1, GRID.shape)), frame_of(1)).track
    np.testing.assert_array_equal(second, first[order])


def test_a_missed_cell_comes_back_as_itself_until_it_is_forgotten() -> None:
    linker = Linker(memory_frames=3)
    linker.update(calls_at(GRID), frame_of(0))
    for index in range(1, 4):
        linker.update(calls_at(GRID[1:]), frame_of(index))
    assert linker.report.missing == 1
    assert linker.update(calls_at(GRID), frame_of(4)).track[0] == 1
    for index in range(5, 9):
        linker.update(calls_at(GRID[1:]), frame_of(index))
    assert linker.update(calls_at(GRID), frame_of(9)).track[0] == len(GRID) + 1


def test_empty_frames_are_frames() -> None:
    linker = Linker()
    assert len(linker.update(calls_at(np.empty((0, 2))), frame_of(0)).track) == 0
    first = linker.update(calls_at(GRID), frame_of(1)).track
    linker.update(calls_at(np.empty((0, 2))), frame_of(2))
    np.testing.assert_array_equal(linker.update(calls_at(GRID), frame_of(3)).track, first)


@pytest.mark.parametrize("sign", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("stage_known", [True, False])
def test_a_stage_move_keeps_the_identities(sign: tuple[int, int], stage_known: bool) -> None:
    places = scattered(3)
    move = np.array([310.0, -190.0])
    linker = Linker()
    known = {"pixel_um": 0.5, "x_um": 0.0, "y_um": 0.0} if stage_known else {}
    first = linker.update(calls_at(places), frame_of(0, **known)).track
    moved = places + move
    inside = ((moved > 0) & (moved < 1024)).all(axis=1)
    if stage_known:
        known |= {"y_um": sign[0] * move[0] * 0.5, "x_um": sign[1] * move[1] * 0.5}
    second = linker.update(calls_at(moved[inside]), frame_of(1, **known)).track
    np.testing.assert_array_equal(second, first[inside])
    assert linker.report.shift_yx_px == pytest.approx(tuple(move), abs=0.5)


def test_cells_that_left_the_field_with_the_stage_come_back_as_themselves() -> None:
    places = scattered(4)
    linker = Linker(memory_frames=3)
    first = linker.update(calls_at(places), frame_of(0)).track
    away = places + np.array([0.0, 400.0])
    away = away[(away < 1024).all(axis=1)]
    for index in range(1, 20):
        linker.update(calls_at(away), frame_of(index))
    np.testing.assert_array_equal(linker.update(calls_at(places), frame_of(20)).track, first)


@pytest.mark.parametrize("sign", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_look_at_an_empty_place_does_not_lose_the_cells(sign: tuple[int, int]) -> None:
    """They are out of sight, not missed, whichever way the stage's axes run; and some come back elsewhere."""
    places = scattered(4)
    linker = Linker(memory_frames=3)
    first = linker.update(calls_at(places), frame_of(0, pixel_um=0.5, x_um=0.0, y_um=0.0)).track
    for index in range(1, 20):
        linker.update(calls_at(np.empty((0, 2))), frame_of(index, pixel_um=0.5, x_um=900.0, y_um=-600.0))
    assert linker.report.missing == 0
    move = np.array([120.0, -60.0])
    moved = places + move
    inside = ((moved > 0) & (moved < 1024)).all(axis=1)
    back = {"pixel_um": 0.5, "y_um": sign[0] * move[0] * 0.5, "x_um": sign[1] * move[1] * 0.5}
    np.testing.assert_array_equal(linker.update(calls_at(moved[inside]), frame_of(20, **back)).track, first[inside])


def test_cameras_do_not_mix() -> None:
    linker = Linker()
    tracks = [linker.update(calls_at(GRID), frame_of(k, camera="AB"[k % 2])).track.tolist() for k in range(4)]
    assert tracks[:2] == tracks[2:]
    assert not set(tracks[0]) & set(tracks[1])


def test_positions_do_not_mix() -> None:
    linker = Linker()
    a = linker.update(calls_at(GRID), frame_of(0, position="A1")).track
    b = linker.update(calls_at(GRID), frame_of(1, position="B2")).track
    assert not set(a) & set(b)
    np.testing.assert_array_equal(linker.update(calls_at(GRID), frame_of(2, position="A1")).track, a)


def test_a_division_is_seen_and_the_parent_goes_on() -> None:
    linker = Linker()
    linker.update(calls_at(GRID, radius_px=12.0), frame_of(0))
    step = np.array([0.0, 7.0])
    daughters = np.concatenate([GRID[1:], GRID[:1] + step, GRID[:1] - step])
    radius = np.full(len(daughters), 12.0)
    radius[-2:] = 8.5
    calls = linker.update(calls_at(daughters, radius_px=radius), frame_of(1))
    child = int(calls.track.max())
    assert child == len(GRID) + 1
    assert linker.report.divisions == (Division(1, child),)
    assert 1 in calls.track[-2:]


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(1)
    linker = Linker(memory_frames=5, away_frames=5)
    kept = []
    for index in range(60):
        linker.update(calls_at(rng.uniform(0, 1024, (50, 2))), frame_of(index))
        kept.append(linker.tracks)
    assert max(kept) <= 50 * 7


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-600, 600), st.floats(-600, 600))
def test_the_constellation_gives_the_shift(seed: int, dy: float, dx: float) -> None:
    places = scattered(seed, 60)
    moved = places + np.array([dy, dx])
    inside = ((moved >= 0) & (moved < 1024)).all(axis=1)
    found = search(places, moved[inside], (1024, 1024), 12.0)
    if inside.sum() >= 15:
        assert found is not None
        np.testing.assert_allclose(found, [dy, dx], atol=0.5)


def test_strangers_have_no_shift() -> None:
    assert search(scattered(1, 60), scattered(2, 60), (1024, 1024), 6.0) is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_identity_switches_on_the_simulated_culture(seed: int) -> None:
    """The bar of the tracking: at most 2 switches in 1000 links, with drift, stage moves and 5 % missed detections."""
    simulation = SimulationSettings(seed=seed, minutes_per_frame=2.0, death_rate_per_h=0.1, dead_fraction=0.1)
    culture, linker = Culture(simulation), Linker()
    rng = np.random.default_rng(seed)
    origin, last, switches, links = np.zeros(2), dict[int, int](), 0, 0
    for index in range(120):
        origin += rng.normal((0.3, 0.15), 0.3)
        if index % 40 == 39:
            origin += rng.uniform(-250, 250, 2)
        top, left = np.round(origin).astype(int).tolist()
        truth = truth_of_view(culture, 2.0 * index, View(top, left, 1024, 1024), simulation.pixel_um).in_frame()
        truth = truth.select(rng.random(len(truth)) > 0.05)
        places = np.stack([truth.y_px, truth.x_px], axis=-1) + rng.normal(0, 0.8, (len(truth), 2))
        calls = linker.update(calls_at(places, radius_px=np.median(truth.radii_px, axis=1)), frame_of(index))
        for track, cell in zip(calls.track.tolist(), truth.cell_id.tolist(), strict=True):
            if track in last:
                links += 1
                # a daughter that goes on under her parent's number is no switch
                switches += last[track] != cell and culture.parent_of(cell) != last[track]
            last[track] = cell
    assert links > 20_000
    assert 1000 * switches / links <= 2


def test_a_long_cell_that_falls_into_two_calls_is_no_division() -> None:
    linker = Linker()
    calls = calls_at(GRID, radius_px=12.0)
    calls.radii_px[0] *= 1 + 0.6 * np.cos(2 * np.arange(32) * 2 * np.pi / 32)
    linker.update(calls, frame_of(0))
    step = np.array([0.0, 7.0])
    halves = np.concatenate([GRID[1:], GRID[:1] + step, GRID[:1] - step])
    radius = np.full(len(halves), 12.0)
    radius[-2:] = 8.5
    linker.update(calls_at(halves, radius_px=radius), frame_of(1))
    assert not linker.report.divisions
