"""Outlines become the pixels whose centres they enclose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from livescope.calls import CellCalls
from livescope.record.labels import UNLINKED, cell_ids, label_planes


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), y=st.floats(-20, 90), x=st.floats(-20, 110), radius=st.floats(0.5, 40))
def test_one_cell_is_what_scikit_image_fills(
    make_calls_once: Callable[[int, int], CellCalls], seed: int, y: float, x: float, radius: float
) -> None:
    rng = np.random.default_rng(seed)
    radii = (radius * rng.uniform(0.5, 1.5, (1, 32))).astype(np.float32)
    centre = {"y_px": np.array([y], np.float32), "x_px": np.array([x], np.float32)}
    calls = replace(make_calls_once(0, 1), radii_px=radii, **centre)
    cells, viability = label_planes(calls, (70, 90))
    # padded, because polygon2mask refuses nothing outside but clips in its own way
    expected = polygon2mask((190, 210), calls.outlines_yx()[0] + 60)[60:130, 60:150]
    assert np.count_nonzero((cells > 0) != expected) <= 2  # centres that lie on the line itself
    np.testing.assert_array_equal(viability, np.where(cells > 0, calls.state[0], 0))


@pytest.fixture(scope="module")
def make_calls_once() -> Callable[[int, int], CellCalls]:

    def make(index: int, n: int) -> CellCalls:
        ones = np.ones(n, np.float32)
        return CellCalls(
            index, ones, ones, np.ones((n, 32), np.float32), ones, ones, np.full(n, 2, np.uint8), ones,
            np.zeros(n, bool), np.full(n, -1, np.int64),
        )  # fmt: skip

    return make


def test_the_surer_cell_is_on_top(make_calls_once: Callable[[int, int], CellCalls]) -> None:
    calls = replace(
        make_calls_once(0, 3),
        y_px=np.full(3, 20, np.float32),
        x_px=np.full(3, 20, np.float32),
        radii_px=np.repeat(np.array([[5], [5], [9]], np.float32), 32, axis=1),
        p_cell=np.array([0.6, 0.9, 0.7], np.float32),
    )
    cells, _ = label_planes(calls, (40, 40))
    assert cells[20, 20] == 2
    assert cells[20, 27] == 3
    assert set(np.unique(cells)) == {0, 2, 3}


def test_no_cell_leaves_empty_planes(make_calls_once: Callable[[int, int], CellCalls]) -> None:
    cells, viability = label_planes(make_calls_once(0, 0), (8, 9))
    assert cells.shape == viability.shape == (8, 9)
    assert not cells.any()
    assert (cells.dtype, viability.dtype) == (np.int32, np.uint8)


def test_ids_are_tracks_or_rows(make_calls_once: Callable[[int, int], CellCalls]) -> None:
    calls = make_calls_once(0, 3)
    assert cell_ids(calls).tolist() == [1, 2, 3]
    assert cell_ids(replace(calls, track=np.array([9, 4, 6]))).tolist() == [9, 4, 6]
    assert cell_ids(replace(calls, track=np.array([9, -1, 6]))).tolist() == [9, UNLINKED + 2, 6]
    with pytest.raises(ValueError, match="must be 1"):
        cell_ids(replace(calls, track=np.array([0, 1, 2])))
