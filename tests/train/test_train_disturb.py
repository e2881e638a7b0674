from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from livescope.calls import State
from livescope.train.augment import AugmentSettings, augment
from livescope.train.disturb import discs, shade, texture
from livescope.train.examples import Cells, Example

Picture = NDArray[np.float32]
Disturb = Callable[[Picture, np.random.Generator], Picture]
ALL = pytest.mark.parametrize("disturb", [texture, discs, shade])


def picture(scale: float = 1.0) -> Picture:
    y, x = np.mgrid[:96, :128]
    waves = np.sin(y / 7) * np.cos(x / 5) + 0.2 * np.random.default_rng(5).standard_normal((96, 128))
    return (scale * waves).astype(np.float32)


@ALL
@pytest.mark.parametrize("seed", range(8))
def test_disturbance_is_of_the_picture_s_own_scale(disturb: Disturb, seed: int) -> None:
    """Whatever the normalisation made of the camera's counts, the same things are laid over it."""
    image = picture()
    kept = image.copy()
    done = disturb(image, np.random.default_rng(seed))
    assert (done.shape, done.dtype) == (image.shape, np.float32)
    assert np.isfinite(done).all()
    assert np.array_equal(image, kept)  # the training picture is drawn from again
    assert not np.allclose(done, image, atol=0.02 * float(image.std()))
    assert np.array_equal(done, disturb(image, np.random.default_rng(seed)))
    faint = disturb(picture(0.1), np.random.default_rng(seed))
    assert np.allclose(faint, 0.1 * done, atol=0.002 * float(done.std()))


@ALL
def test_an_empty_picture_stays_finite(disturb: Disturb) -> None:
    done = disturb(np.zeros((64, 64), np.float32), np.random.default_rng(0))
    assert np.isfinite(done).all()
    assert np.abs(done).max() < 0.01


@pytest.mark.parametrize("seed", range(8))
def test_texture_keeps_the_contrast(seed: int) -> None:
    image = picture()
    assert texture(image, np.random.default_rng(seed)).std() == pytest.approx(image.std(), rel=1e-3)


def test_discs_leave_the_rest_of_the_picture_alone() -> None:
    image = np.tile(picture(), (4, 4))
    changed = np.abs(discs(image, np.random.default_rng(1)) - image) > 1e-6
    assert 0.001 < changed.mean() < 0.5


def test_disturbances_are_drawn_after_all_else_and_move_no_cell() -> None:
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    contour = np.stack([40 + 9 * np.sin(ring), 60 + 9 * np.cos(ring)], axis=-1)[None].astype(np.float32)
    cells = Cells(np.array([[40, 60]], np.float32), contour, np.array([State.DEAD], np.uint8), None)
    example = Example(picture(), cells, None, False, None)

    def drawn(**parts: float) -> Example:
        return augment(example, 96, AugmentSettings(**parts), np.random.default_rng(3))

    plain = drawn()
    assert np.array_equal(plain.image, drawn(texture=0.0, discs=0.0, shade=0.0).image)
    for name in ("texture", "discs", "shade"):
        other = drawn(**{name: 1.0})
        assert not np.allclose(other.image, plain.image, atol=1e-3)
        assert np.array_equal(other.cells.contours_yx, plain.cells.contours_yx)
