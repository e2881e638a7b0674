from __future__ import annotations

from typing import Any

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


def no_pixels(side: int) -> np.ndarray:
    return np.zeros((side, side), np.uint8)


def scaled(places: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in 1024 x 1024 px as another objective shows them, in a frame of as many pixels, and which are in it."""
    seen = 511.5 + factor * (places - 511.5)
    return seen, ((seen > 0) & (seen < 1023)).all(axis=1)


@pytest.mark.parametrize("binning", [2, 4])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_binning_keeps_the_identities(binning: int, known: bool, seed: int) -> None:
    """Whether the pixel size tells of it or, where nobody knows that, the camera."""
    places, linker = scattered(seed), Linker()

    def at(index: int, b: int) -> np.ndarray:
        facts = {"pixel_um": 0.65 * b, "x_um": 7.0, "y_um": 9.0} if known else {"metadata": {"Binning": f"{b}x{b}"}}
        calls = calls_at((places + 0.5) / b - 0.5, radius_px=10.0 / b)
        return linker.update(calls, frame_of(index, pixels=no_pixels(1024 // b), **facts)).track

    first = at(0, 1)
    np.testing.assert_array_equal(at(1, binning), first)
    assert (linker.report.linked, linker.report.born, linker.report.missing) == (len(places), 0, 0)
    assert np.isnan(linker.report.shift_yx_px).all()
    np.testing.assert_array_equal(at(2, binning), first)
    assert linker.report.shift_yx_px == pytest.approx((0, 0), abs=1e-3)
    np.testing.assert_array_equal(at(3, 1), first)
    assert linker.tracks == len(places)


def test_an_objective_keeps_the_identities_of_those_it_shows_and_remembers_the_others() -> None:
    places, linker = scattered(5), Linker(memory_frames=3)
    first = linker.update(calls_at(places), frame_of(0, pixel_um=0.65)).track
    close, inside = scaled(places, 2.0)
    for index in range(1, 10):
        calls = linker.update(calls_at(close[inside], radius_px=20.0), frame_of(index, pixel_um=0.325))
        np.testing.assert_array_equal(calls.track, first[inside])
    assert 0 < inside.sum() < len(places)
    np.testing.assert_array_equal(linker.update(calls_at(places), frame_of(10, pixel_um=0.65)).track, first)


def test_a_stage_move_together_with_binning_keeps_the_identities() -> None:
    places, linker, move = scattered(6), Linker(), np.array([310.0, -190.0])
    first = linker.update(calls_at(places), frame_of(0, pixel_um=0.5, x_um=0.0, y_um=0.0)).track
    moved = places + move
    inside = ((moved > 0) & (moved < 1023)).all(axis=1)
    there = {"pixel_um": 1.0, "y_um": -0.5 * move[0], "x_um": -0.5 * move[1], "pixels": no_pixels(512)}
    calls = linker.update(calls_at((moved[inside] + 0.5) / 2 - 0.5, radius_px=5.0), frame_of(1, **there))
    np.testing.assert_array_equal(calls.track, first[inside])


def test_a_region_of_a_camera_without_pixel_size_keeps_the_identities() -> None:
    places, linker, corner = scattered(7), Linker(), np.array([200, 300])
    first = linker.update(calls_at(places), frame_of(0, metadata={"Binning": "1"})).track
    there = places - corner
    inside = ((there > 0) & (there < 511)).all(axis=1)
    frame = frame_of(1, metadata={"Binning": "1"}, pixels=no_pixels(512))
    np.testing.assert_array_equal(linker.update(calls_at(there[inside]), frame).track, first[inside])


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"pixels": no_pixels(512)}), ({"pixel_um": 0.65}, {}), ({}, {"pixel_um": 0.65})],
    ids=["shape", "size lost", "size found"],
)
def test_where_nobody_knows_the_scale_identities_begin_afresh(before: dict[str, Any], after: dict[str, Any]) -> None:
    places, linker = scattered(8), Linker()
    first = linker.update(calls_at(places), frame_of(0, **before)).track
    halved = (places + 0.5) / 2 - 0.5
    second = linker.update(calls_at(halved, radius_px=5.0), frame_of(1, **after)).track
    assert not set(first) & set(second)
    assert (linker.report.linked, linker.report.born, linker.report.missing) == (0, len(places), 0)
    np.testing.assert_array_equal(linker.update(calls_at(halved, radius_px=5.0), frame_of(2, **after)).track, second)


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
