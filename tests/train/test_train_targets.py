from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from livescope.calls import State, ray_angles
from livescope.train.augment import AugmentSettings, augment, place
from livescope.train.data import UNKNOWN
from livescope.train.examples import Cells, Example
from livescope.train.targets import encode, radii_from


def circle(y: float, x: float, radius: float) -> NDArray[np.float32]:
    angles = ray_angles(128)
    return np.stack([y + radius * np.sin(angles), x + radius * np.cos(angles)], -1).astype(np.float32)


def cells(*circles: tuple[float, float, float], state: int = State.LIVE) -> Cells:
    centres = np.array([c[:2] for c in circles], np.float32).reshape(-1, 2)
    contours = np.array([circle(*c) for c in circles], np.float32).reshape(-1, 128, 2)
    return Cells(centres, contours, np.full(len(circles), state, np.uint8))


def test_radii_of_a_circle_from_its_centre_and_from_beside_it() -> None:
    contour = np.stack([circle(20, 30, 10)] * 2)
    radii = radii_from(np.array([[20, 30], [20, 34]], np.float32), contour)
    assert radii[0] == pytest.approx(np.full(32, 10.0), abs=0.02)
    assert radii[1, 0] == pytest.approx(6.0, abs=0.02)  # ray 0 points along x
    assert radii[1, 16] == pytest.approx(14.0, abs=0.02)
    assert radii[1, 8] == pytest.approx(np.sqrt(100 - 16), abs=0.02)  # ray 8 of 32 points down


def test_radii_are_unknown_from_outside() -> None:
    radii = radii_from(np.array([[20, 60]], np.float32), circle(20, 30, 10)[None])
    assert np.isnan(radii[0, 0])


def test_targets_of_one_cell_lead_back_to_it() -> None:
    targets = encode([cells((21.0, 34.0, 9.0), state=State.DEAD)], 64, 96)
    assert targets.heat.shape == (1, 1, 16, 24)
    row, column = divmod(int(targets.heat.argmax()), 24)
    assert targets.heat.max() == 1
    at_peak = (targets.where[:, 1] == row) & (targets.where[:, 2] == column)
    middle = torch.tensor([row, column]) * 4 + 1.5
    assert (middle + targets.offset_yx[at_peak][0]).tolist() == pytest.approx([21.0, 34.0])
    assert targets.share.sum() == pytest.approx(1.0)
    assert (targets.dead == 1).all()
    assert targets.foreground.sum() * 16 == pytest.approx(np.pi * 81, rel=0.15)


def test_unknown_state_and_unmarked_places_are_missing_not_negative() -> None:
    speaks = np.zeros((64, 64), np.float32)
    speaks[:, :16] = 1
    one = cells((32.0, 40.0, 9.0), state=UNKNOWN)
    targets = encode([one], 64, 64, [speaks])
    assert targets.known[0, 0, :, :4].all()
    assert targets.known[0, 0, 8, 10] == 1  # inside a marked cell
    assert targets.known.sum() == 16 * 4 + targets.foreground.sum()
    assert (targets.dead == -1).all()


def test_a_cell_centred_outside_is_neither_asked_for_nor_punished() -> None:
    targets = encode([cells((-4.0, 32.0, 12.0))], 64, 64)
    assert targets.cells == 0
    assert len(targets.where) == 0
    assert targets.known[0, 0, 0, 8] == 0
    assert targets.known[0, 0, 12, 8] == 1


def test_empty_field() -> None:
    targets = encode([cells()], 64, 64)
    assert targets.heat.sum() == 0
    assert targets.known.all()


@pytest.mark.parametrize("seed", range(6))
def test_labels_move_with_the_picture(seed: int) -> None:
    y, x = np.mgrid[:120, :120].astype(np.float32)
    spot = np.exp(-((y - 50) ** 2 + (x - 71) ** 2) / 50)
    example = Example(spot, cells((50.0, 71.0, 8.0)))
    settings = AugmentSettings(gain=1, level=0, gradient=0, blur_px=0, noise=0)
    moved = augment(example, 160, settings, np.random.default_rng(seed))
    assert len(moved.cells.centres_yx) == 1
    if moved.image.max() > 0.5:
        total = moved.image.sum()
        rows, columns = np.mgrid[:160, :160]
        seen = [float((rows * moved.image).sum() / total), float((columns * moved.image).sum() / total)]
        assert moved.cells.centres_yx[0] == pytest.approx(seen, abs=0.3)


def test_a_cell_marked_by_its_visible_part_is_cut_with_the_picture() -> None:
    example = Example(
        np.zeros((100, 100), np.float32), cells((50.0, 95.0, 10.0), (50.0, 40.0, 10.0)), visible_only=True
    )
    moved = place(example, np.eye(2), np.zeros(2), 96)
    assert moved.cells.centres_yx[0] == pytest.approx([50.0, (85 + 95.5) / 2], abs=0.05)
    assert moved.cells.centres_yx[1] == pytest.approx([50.0, 40.0])
