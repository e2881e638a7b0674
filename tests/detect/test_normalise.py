from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from livescope.detect.normalise import Background, Spread, levels

KINDS = [Background(contrast=0.1), Spread()]


def field(cover: float, level: float = 1000.0, seed: int = 0, size: int = 512) -> np.ndarray:
    """A bright-field frame as float: background with shot noise, a fraction `cover` of cell pixels bright and dark."""
    rng = np.random.default_rng(seed)
    frame = rng.normal(level, 0.02 * level, (size, size))
    cells = rng.random((size, size)) < cover
    frame[cells] *= rng.choice([0.6, 0.8, 1.15, 1.4], cells.sum())
    return frame


@pytest.mark.parametrize("cover", [0.0, 0.1, 0.4, 0.6])
def test_background_is_found_under_many_cells(cover: float) -> None:
    black, inv_gain = levels(field(cover).astype(np.uint16), Background(contrast=0.1))
    assert black == pytest.approx(1000, rel=0.01)
    assert inv_gain == pytest.approx(1 / 100, rel=0.01)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_gain_changes_nothing(kind: Background | Spread) -> None:
    frame = field(0.2)
    black, inv_gain = levels(frame.astype(np.uint16), kind)
    black_bright, inv_gain_bright = levels((frame * 16).astype(np.uint16), kind)
    x = (frame - black) * inv_gain
    x_bright = (frame * 16 - black_bright) * inv_gain_bright
    np.testing.assert_allclose(x, x_bright, atol=0.02)


def test_spread_does_not_see_an_offset() -> None:
    frame = field(0.2).astype(np.uint16)
    black, inv_gain = levels(frame, Spread())
    black_offset, inv_gain_offset = levels(frame + 500, Spread())
    assert black_offset == black + 500
    assert inv_gain_offset == inv_gain


def test_spread_does_not_blow_up_noise() -> None:
    frame = field(0.0, seed=3)
    black, inv_gain = levels(frame.astype(np.uint16), Spread(floor=0.2))
    assert np.abs((frame - black) * inv_gain).max() < 0.6


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_black_registration_border_changes_nothing(kind: Background | Spread) -> None:
    frame = field(0.2).astype(np.uint16)
    bordered = frame.copy()
    bordered[:40] = 0
    bordered[:, -50:] = 0
    assert levels(bordered, kind) == pytest.approx(levels(frame, kind), rel=0.03)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 3), (64, 64), (1025, 333)])
def test_flat_empty_and_saturated_frames(kind: Background | Spread, dtype: type, shape: tuple[int, int]) -> None:
    for value in (0, 1, 100, np.iinfo(dtype).max):
        black, inv_gain = levels(np.full(shape, value, dtype), kind)
        assert black == value
        assert 0 < inv_gain <= 1


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    st.sampled_from(KINDS),
)
def test_levels_are_finite_and_inside_the_frame(pixels: np.ndarray, kind: Background | Spread) -> None:
    black, inv_gain = levels(pixels, kind)
    assert pixels.min() <= black <= pixels.max()
    assert 0 < inv_gain <= 1
