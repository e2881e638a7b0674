from __future__ import annotations

import numpy as np
import pytest

from livescope.calls import State, ray_angles
from livescope.settings import SimulationSettings
from livescope.simulate.culture import DEATH_PROGRESS, REACH_UM, Culture
from livescope.simulate.truth import View, truth_of_view

SMALL = SimulationSettings(width=256, height=256, cells_per_mm2=300)


def test_same_seed_same_culture_whatever_was_asked_before() -> None:
    straight, detour = Culture(SMALL), Culture(SMALL)
    for minute in (0.0, 3.3, 40.0, 1.0):
        detour.shown(minute)
    a, b = straight.shown(17.3), detour.shown(17.3)
    np.testing.assert_array_equal(a.cell, b.cell)
    np.testing.assert_array_equal(a.y_um, b.y_um)
    np.testing.assert_array_equal(a.radius_um, b.radius_um)


def test_other_seed_other_culture() -> None:
    other = Culture(SMALL.model_copy(update={"seed": 2}))
    assert not np.array_equal(Culture(SMALL).shown(0.0).y_um, other.shown(0.0).y_um)


@pytest.mark.parametrize("dead_fraction", [0.0, 0.3, 1.0])
def test_density_and_dead_fraction_are_those_asked_for(dead_fraction: float) -> None:
    culture = Culture(SMALL.model_copy(update={"dead_fraction": dead_fraction}))
    shown = culture.shown(0.0)
    assert len(shown) == round(300 * (culture.side_um / 1000) ** 2)
    # binomial: four standard deviations
    assert abs(shown.dead.mean() - dead_fraction) <= 4 * np.sqrt(dead_fraction * (1 - dead_fraction) / len(shown))


def test_empty_culture() -> None:
    culture = Culture(SMALL.model_copy(update={"cells_per_mm2": 0.0}))
    assert len(culture.shown(0.0)) == 0
    assert len(truth_of_view(culture, 30.0, View(0, 0, 64, 64), 0.65)) == 0


def test_living_cells_move_and_dead_ones_do_not() -> None:
    culture = Culture(SMALL.model_copy(update={"division_rate_per_h": 0.0, "death_rate_per_h": 0.0}))
    before, after = culture.shown(0.0), culture.shown(60.0)
    step = np.hypot(after.y_um - before.y_um, after.x_um - before.x_um)
    step = step[step < culture.side_um / 2]  # not over the joined edge
    dead = before.dead[np.hypot(after.y_um - before.y_um, after.x_um - before.x_um) < culture.side_um / 2]
    assert step[dead].max() == 0.0
    assert 5.0 < np.median(step[~dead]) < 40.0


def test_dying_is_one_way_and_its_time_is_the_one_stated() -> None:
    settings = SMALL.model_copy(update={"death_rate_per_h": 2.0, "dead_fraction": 0.0, "minutes_per_frame": 1.0})
    culture = Culture(settings)
    first_dead: dict[int, float] = {}
    last_radius: dict[int, float] = {}
    for minute in range(0, 90):
        shown = culture.shown(float(minute))
        for cell, death, radius in zip(shown.cell, shown.death_minute, shown.radius_um, strict=True):
            if np.isfinite(death):
                first_dead.setdefault(int(cell), minute)
                assert death <= minute
                assert first_dead[int(cell)] - death < 1.0
                assert radius <= last_radius.get(int(cell), np.inf) + 1e-9  # a dead cell never swells again
                last_radius[int(cell)] = radius
            else:
                assert int(cell) not in first_dead
    assert len(first_dead) > 100


def test_at_death_rounding_and_shrinking_are_nearly_over() -> None:
    settings = SMALL.model_copy(update={"death_rate_per_h": 2.0, "division_rate_per_h": 0.0, "dead_fraction": 0.0})
    culture = Culture(settings)
    shown = culture.shown(60.0)
    just_dead = (shown.dying >= DEATH_PROGRESS) & (shown.dying < DEATH_PROGRESS + 0.1)
    assert just_dead.any()
    assert shown.roundness[just_dead].min() > 0.9


def test_divisions_replace_a_cell_by_two_daughters_near_it() -> None:
    settings = SMALL.model_copy(
        update={"division_rate_per_h": 1.0, "death_rate_per_h": 0.0, "dead_fraction": 0.0, "cells_per_mm2": 120.0}
    )
    culture = Culture(settings)
    before, after = culture.shown(0.0), culture.shown(60.0)
    gone = np.setdiff1d(before.cell, after.cell)
    new = np.setdiff1d(after.cell, before.cell)
    assert len(gone) > 5
    assert len(new) == 2 * len(gone)


def test_dead_cells_do_not_divide() -> None:
    """Some began to die while they rounded up to divide, died, and became two living daughters."""
    settings = SMALL.model_copy(update={"division_rate_per_h": 0.5, "death_rate_per_h": 0.5, "cells_per_mm2": 150.0})
    culture, dead = Culture(settings), set[int]()
    for minute in range(0, 240, 4):
        shown = culture.shown(float(minute))
        assert dead <= set(shown.cell.tolist())
        dead |= set(shown.cell[shown.dead].tolist())
    assert len(dead) > 50


def test_no_cell_lies_wholly_under_another() -> None:
    culture = Culture(SimulationSettings(seed=4))
    truth = truth_of_view(culture, 30.0, View(0, 0, 1024, 1024), 0.65)
    apart = np.hypot(*(np.subtract.outer(v, v) for v in (truth.y_px, truth.x_px)))
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    radius = np.median(truth.radii_px, axis=1)
    clear = apart.min(axis=1) > 0.5 * np.minimum(radius, radius[nearest])
    assert clear.mean() > 0.99


def test_truth_follows_the_conventions_of_calls() -> None:
    culture = Culture(SMALL)
    truth = truth_of_view(culture, 5.0, View(-40, 30, 200, 240), SMALL.pixel_um)
    assert truth.radii_px.shape == (len(truth), len(ray_angles()))
    assert truth.radii_px.dtype == np.float32
    assert set(np.unique(truth.state)) <= {State.LIVE, State.DEAD}
    np.testing.assert_array_equal(np.isfinite(truth.death_minutes), truth.state == State.DEAD)
    assert truth.radii_px.max() <= REACH_UM / SMALL.pixel_um
    inside = truth.in_frame()
    assert len(inside) < len(truth)
    assert inside.visible.min() > 0.25
    assert truth.visible.max() == 1.0


def test_shifted_view_shows_the_same_cells_elsewhere() -> None:
    culture = Culture(SMALL)
    here = truth_of_view(culture, 5.0, View(0, 0, 256, 256), SMALL.pixel_um)
    there = truth_of_view(culture, 5.0, View(20, -35, 256, 256), SMALL.pixel_um)
    both, i, j = np.intersect1d(here.cell_id, there.cell_id, return_indices=True)
    assert len(both) > 5
    np.testing.assert_allclose(here.y_px[i] - there.y_px[j], 20, atol=1e-3)
    np.testing.assert_allclose(here.x_px[i] - there.x_px[j], -35, atol=1e-3)


def test_culture_has_no_edge() -> None:
    culture = Culture(SMALL)
    here = truth_of_view(culture, 0.0, View(0, 0, 256, 256), SMALL.pixel_um)
    round_trip = truth_of_view(culture, 0.0, View(culture.side_px, -2 * culture.side_px, 256, 256), SMALL.pixel_um)
    np.testing.assert_array_equal(here.cell_id, round_trip.cell_id)
    np.testing.assert_allclose(here.y_px, round_trip.y_px, atol=1e-3)
