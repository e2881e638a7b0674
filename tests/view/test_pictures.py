"""Grey values, shapes and the written picture: what does not need Qt."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from livescope.calls import State
from livescope.errors import RecordError
from livescope.view import geometry, grey
from livescope.view.geometry import marker_segments, outline_segments, round_length_um
from livescope.view.grey import AutoLevels, Grey8Converter, spread_levels, to_grey8
from livescope.view.picture import save_picture
from livescope.view.theme import STATE_COLOURS


@pytest.mark.parametrize("module", [geometry, grey])
def test_docstring_examples_of_the_view(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("dtype", "black", "white"), [(np.uint8, 3, 250), (np.uint16, 100, 4095), (np.uint16, 0, 65535)]
)
def test_grey8_is_linear_and_saturates(dtype: type, black: int, white: int) -> None:
    values = np.linspace(0, np.iinfo(dtype).max, 512).astype(dtype).reshape(16, 32)
    expected = np.clip((values.astype(float) - black) / (white - black), 0, 1) * 255
    np.testing.assert_allclose(to_grey8(values, black, white), expected, atol=1.0)


def test_grey8_leaves_the_frame_alone_and_returns_a_new_picture() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    values.flags.writeable = False
    convert = Grey8Converter()
    first = convert(values, 0, 63)
    copy = first.copy()
    convert(values[::-1], 0, 63)
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("fill", [0, 77, 65535])
def test_levels_of_an_even_frame_can_be_drawn(fill: int) -> None:
    values = np.full((200, 200), fill, np.uint16)
    black, white = spread_levels(values)
    assert white > black
    assert to_grey8(values, black, white).shape == (200, 200)


def test_auto_levels_do_not_flicker_but_follow_a_new_exposure() -> None:
    rng = np.random.default_rng(1)
    levels = AutoLevels()
    scene = rng.normal(1000, 50, (256, 256))
    first = levels(scene.astype(np.uint16))
    assert levels(scene.astype(np.uint16)) == pytest.approx(first)
    brighter = levels((scene * 1.1).astype(np.uint16))
    assert first[1] < brighter[1] < first[1] * 1.1
    assert levels((scene * 4).astype(np.uint16))[0] == pytest.approx(first[0] * 4, rel=0.01)


def test_outline_of_a_live_cell_is_closed_and_of_the_others_broken(new_frame: Any, new_analysis: Any) -> None:
    calls = new_analysis(new_frame(), list(State)).calls
    drawn = {s: outline_segments(calls.outlines_yx()[calls.state == s], s) for s in State}
    assert {s: len(lines) for s, lines in drawn.items()} == {State.LIVE: 32, State.DEAD: 16, State.UNCERTAIN: 16}
    live = drawn[State.LIVE]
    np.testing.assert_allclose(live[:, 2:], np.roll(live[:, :2], -1, axis=0))
    np.testing.assert_allclose(np.hypot(live[:, 0] - 30, live[:, 1] - 50), 10, rtol=1e-6)
    np.testing.assert_allclose(live[8, :2], (30, 60), atol=1e-5)  # ray 8 of 32 points down: y grows downwards


def test_markers_differ_in_shape() -> None:
    centres = np.array([[5.0, 7.0], [100.0, 3.0]])
    shapes = {state: marker_segments(centres, state, 4.0) for state in State}
    assert len({len(s) for s in shapes.values()}) == 3
    for lines in shapes.values():
        np.testing.assert_allclose(lines.reshape(2, -1, 2).mean(axis=1), centres, atol=1e-9)


@pytest.mark.parametrize(("most", "length"), [(1.0, 1.0), (9.9, 5.0), (250.0, 200.0), (0.31, 0.2)])
def test_scale_bars_are_round(most: float, length: float) -> None:
    assert round_length_um(most) == pytest.approx(length)


@pytest.mark.parametrize("pixel_um", [0.65, None])
@pytest.mark.parametrize("shape", [(192, 256), (1100, 600)])
def test_written_picture_shows_every_state(
    tmp_path: Path, new_frame: Any, new_analysis: Any, shape: tuple[int, int], pixel_um: float | None
) -> None:
    path = tmp_path / "picture.png"
    frame = new_frame(0, *shape, pixel_um=pixel_um)
    save_picture(path, new_analysis(frame, list(State)))
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    scale = max(1, -(-900 // max(shape)))
    assert picture.shape[1] == shape[1] * scale
    assert picture.shape[0] > shape[0] * scale
    cells = picture[: 70 * scale, : 130 * scale]
    for k, state in enumerate(State):
        colour = [int(STATE_COLOURS[state][i : i + 2], 16) for i in (1, 3, 5)]
        near = np.abs(cells - colour).sum(-1) < 60
        columns = np.nonzero(near)[1] / scale
        assert len(columns) > 20
        assert abs(np.median(columns) - (30 + 40 * k)) < 12


def test_picture_of_a_frame_without_cells(tmp_path: Path, new_frame: Any, new_analysis: Any) -> None:
    save_picture(tmp_path / "empty.png", new_analysis(new_frame(), []))
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_unwritable_picture_is_one_clear_error(tmp_path: Path, new_frame: Any, new_analysis: Any) -> None:
    with pytest.raises(RecordError, match=r"missing.*Choose another path"):
        save_picture(tmp_path / "missing" / "p.png", new_analysis(new_frame(), []))


def test_pictures_need_no_qt() -> None:
    code = "import sys, livescope.view.picture; print([m for m in sys.modules if m[:4] in ('PySi', 'PyQt')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
