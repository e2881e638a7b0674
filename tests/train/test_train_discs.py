from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from livescope.calls import State
from livescope.train.augment import AugmentSettings, augment
from livescope.train.discs import with_discs
from livescope.train.examples import Cells, Example


def picture(scale: float = 1.0) -> NDArray[np.float32]:
    y, x = np.mgrid[:192, :256]
    waves = np.sin(y / 7) * np.cos(x / 5) + 0.2 * np.random.default_rng(5).standard_normal((192, 256))
    return (scale * waves).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_discs_are_of_the_picture_s_own_contrast_and_leave_the_rest_alone(seed: int) -> None:
    image = picture()
    kept = image.copy()
    done = with_discs(image, np.random.default_rng(seed))
    assert (done.shape, done.dtype) == (image.shape, np.float32)
    assert np.array_equal(image, kept)  # the training picture is drawn from again
    changed = np.abs(done - image) > 0.1 * image.std()
    assert 0.002 < changed.mean() < 0.6
    faint = with_discs(picture(0.1), np.random.default_rng(seed))
    assert np.allclose(faint, 0.1 * done, atol=0.002 * float(done.std()))


def test_an_empty_picture_stays_empty() -> None:
    assert np.abs(with_discs(np.zeros((64, 64), np.float32), np.random.default_rng(0))).max() < 0.01


def test_discs_are_drawn_after_all_else_and_move_no_cell() -> None:
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    contour = np.stack([40 + 9 * np.sin(ring), 60 + 9 * np.cos(ring)], axis=-1)[None].astype(np.float32)
    cells = Cells(np.array([[40, 60]], np.float32), contour, np.array([State.DEAD], np.uint8), None)
    example = Example(picture(), cells, None, False, None)
    plain, covered = (
        augment(example, 96, AugmentSettings(discs=part), np.random.default_rng(3)) for part in (0.0, 1.0)
    )
    assert not np.allclose(covered.image, plain.image, atol=1e-3)
    assert np.array_equal(covered.cells.contours_yx, plain.cells.contours_yx)
    assert np.array_equal(covered.cells.state, plain.cells.state)
