from __future__ import annotations

import numpy as np
import pytest

from livescope.calls import State
from livescope.settings import SimulationSettings
from livescope.simulate.culture import Culture
from livescope.simulate.optics import FULL_WELL_E, OFFSET, Optics, render_field

SMALL = SimulationSettings(width=320, height=256)


def test_pixels_depend_on_seed_and_frame_number_only() -> None:
    a, _ = render_field(SMALL, 3, 5)
    b, _ = render_field(SMALL, 3, 5)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, render_field(SMALL, 4, 5)[0])
    assert not np.array_equal(a, render_field(SMALL, 3, 6)[0])
    assert a.dtype == np.uint16
    assert a.shape == (256, 320)
    assert not a.flags.writeable


def test_frame_is_the_same_after_a_run_as_alone() -> None:
    culture = Culture(SMALL)
    optics = Optics(SMALL, culture)
    view = optics.view(12.0, -7.0)
    out = np.empty((256, 320), np.uint16)
    for number in range(30):
        optics.render(out, number, view, z_um=0.0, exposure_ms=20.0)
    alone, _ = render_field(SMALL, None, 29, x_um=-7.0, y_um=12.0)
    np.testing.assert_array_equal(out, alone)


def test_exposure_sets_the_brightness_up_to_saturation() -> None:
    dark = OFFSET * 4095
    once = np.median(render_field(SMALL, 1, exposure_ms=10)[0]) - dark
    twice = np.median(render_field(SMALL, 1, exposure_ms=20)[0]) - dark
    assert twice / once == pytest.approx(2.0, rel=0.02)
    assert np.median(render_field(SMALL, 1, exposure_ms=100)[0]) == 4095


@pytest.mark.parametrize("bit_depth", [12, 16])
def test_noise_is_shot_noise(bit_depth: int) -> None:
    empty = SMALL.model_copy(update={"cells_per_mm2": 0.0, "bit_depth": bit_depth})
    a, b = (render_field(empty, 1, number)[0].astype(float) for number in (0, 1))
    full = 2**bit_depth - 1
    gain = full * (1 - OFFSET) / FULL_WELL_E
    electrons = (a.mean() - OFFSET * full) / gain
    assert (a - b).std() / np.sqrt(2) == pytest.approx(gain * np.sqrt(electrons), rel=0.05)


def test_moving_the_stage_moves_the_field() -> None:
    settings = SMALL.model_copy(update={"seed": 8})
    # differences of rows: the slope of the illumination stays with the camera and does not matter here
    here, there = (np.diff(render_field(settings, x_um=x * SMALL.pixel_um)[0].astype(float), axis=0) for x in (0, 40))
    assert np.corrcoef(here[:, 40:].ravel(), there[:, :-40].ravel())[0, 1] > 0.5
    assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.25


def _sharpness(z_um: float) -> float:
    pixels, _ = render_field(SMALL, 2, z_um=z_um)
    fine = pixels[1:, 1:].astype(float) - pixels[:-1, :-1]
    return float(np.percentile(np.abs(fine), 99.5))


def test_far_from_focus_everything_blurs() -> None:
    assert _sharpness(0.0) > 1.5 * _sharpness(25.0)


def test_defocus_setting_equals_a_move_of_the_stage() -> None:
    moved, _ = render_field(SMALL, 2, z_um=4.0)
    offset, _ = render_field(SMALL.model_copy(update={"defocus_um": 4.0}), 2)
    np.testing.assert_array_equal(moved, offset)


def test_cells_are_visible_where_the_truth_says() -> None:
    pixels, truth = render_field(SimulationSettings(), 6)
    rows, columns = np.indices(pixels.shape)
    texture = np.abs(pixels[1:-1, 1:-1].astype(float) - 0.5 * (pixels[2:, 1:-1] + pixels[:-2, 1:-1].astype(float)))
    texture = np.pad(texture, 1)
    covered = np.zeros(pixels.shape, bool)
    for y, x, radii in zip(truth.y_px, truth.x_px, truth.radii_px, strict=True):
        covered |= np.hypot(rows - y, columns - x) < np.median(radii)
    assert texture[covered].mean() > 1.3 * texture[~covered].mean()


def test_brightness_alone_does_not_give_the_state_away() -> None:
    darker = []
    for seed in range(4):
        pixels, truth = render_field(SimulationSettings(dead_fraction=0.4), seed)
        truth = truth.in_frame()
        rows, columns = np.indices((17, 17)) - 8
        disc = np.hypot(rows, columns) < 7
        at_y = np.clip(truth.y_px.round().astype(int), 8, 1015)
        at_x = np.clip(truth.x_px.round().astype(int), 8, 1015)
        mean = np.array([pixels[y - 8 : y + 9, x - 8 : x + 9][disc].mean() for y, x in zip(at_y, at_x, strict=True)])
        live, dead = mean[truth.state == State.LIVE], mean[truth.state == State.DEAD]
        darker.append((live[:, None] > dead[None, :]).mean())
    auc = np.mean(darker)
    assert 0.05 < auc < 0.95


def test_living_cells_flicker_and_dead_ones_keep_still() -> None:
    a, truth = render_field(SimulationSettings(dead_fraction=0.5, seed=9), frame_number=0)
    b, _ = render_field(SimulationSettings(dead_fraction=0.5, seed=9), frame_number=8)
    c = render_field(SimulationSettings(dead_fraction=0.5, seed=9, minutes_per_frame=1e-6), frame_number=8)[0]
    truth = truth.in_frame()
    change = (a.astype(float) - b) ** 2 - (a.astype(float) - c) ** 2  # beyond the noise
    rows, columns = np.indices(a.shape)
    moved: dict[int, list[float]] = {State.LIVE: [], State.DEAD: []}
    for y, x, radii, state in zip(truth.y_px, truth.x_px, truth.radii_px, truth.state, strict=True):
        moved[int(state)].append(change[np.hypot(rows - y, columns - x) < np.median(radii)].mean())
    assert np.median(moved[State.LIVE]) > 5 * abs(np.median(moved[State.DEAD]))
