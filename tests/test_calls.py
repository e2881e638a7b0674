"""Calls as data: counts, areas and the convention of outlines."""

from __future__ import annotations

import numpy as np
import pytest

from livescope.calls import N_RAYS, CellCalls, State, ray_angles


def _calls(state: list[State], pixel_um: float | None = None) -> CellCalls:
    n = len(state)
    floats = {name: np.zeros(n, np.float32) for name in ("y_px", "x_px", "p_cell", "p_dead")}
    return CellCalls(
        frame_index=0,
        **floats,
        radii_px=np.full((n, N_RAYS), 10, np.float32),
        state=np.array(state, np.uint8),
        area_px=np.full(n, 300, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1),
        pixel_um=pixel_um,
    )


def test_counts_by_state() -> None:
    calls = _calls([State.LIVE, State.DEAD, State.LIVE, State.UNCERTAIN])
    assert [calls.count(state) for state in State] == [2, 1, 1]
    assert len(calls) == 4


def test_rows_can_be_chosen() -> None:
    calls = _calls([State.LIVE, State.DEAD, State.LIVE])
    chosen = calls.select(calls.state == State.LIVE)
    assert (len(chosen), chosen.count(State.LIVE), chosen.frame_index) == (2, 2, calls.frame_index)
    assert chosen.radii_px.shape == (2, 32)


def test_a_frame_without_cells() -> None:
    calls = _calls([])
    assert len(calls) == 0
    assert calls.outlines_yx().shape == (0, N_RAYS, 2)
    assert calls.area_um2.shape == (0,)


def test_state_words_and_label_values_are_fixed() -> None:
    """They are written into records and tables: changing them changes what stored data mean."""
    assert {state.label: state.value for state in State} == {"live": 1, "dead": 2, "uncertain": 3}


def test_area_follows_the_pixel_size_and_is_unknown_without_one() -> None:
    np.testing.assert_allclose(_calls([State.LIVE], 0.5).area_um2, [75.0])
    assert np.isnan(_calls([State.LIVE]).area_um2).all()


def test_rays_begin_to_the_right_and_turn_downwards() -> None:
    calls = _calls([State.LIVE])
    calls.y_px[0], calls.x_px[0] = 100, 200
    outline = calls.outlines_yx()[0]
    np.testing.assert_allclose(outline[0], [100, 210], atol=1e-4)
    np.testing.assert_allclose(outline[N_RAYS // 4], [110, 200], atol=1e-4)
    np.testing.assert_allclose(outline[N_RAYS // 2], [100, 190], atol=1e-4)


@pytest.mark.parametrize("n_rays", [4, 32])
def test_angles_are_even_and_do_not_repeat_the_first(n_rays: int) -> None:
    angles = ray_angles(n_rays)
    assert angles[0] == 0
    np.testing.assert_allclose(np.diff(angles), 2 * np.pi / n_rays)
    assert angles[-1] < 2 * np.pi
