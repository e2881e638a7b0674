"""Calls are drawn only over the piece of the sample that they were made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from livescope.calls import State
from livescope.view.render import Contrast, Renderer


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        ({"index": 9}, True),
        ({"x_um": 100.5}, True),
        ({"x_um": None}, True),
        ({"x_um": 140.0}, False),
        ({"position": "A2"}, False),
    ],
)
def test_calls_of_another_place_are_not_drawn(new_frame: Any, new_analysis: Any, change: Any, drawn: bool) -> None:
    called = replace(new_frame(3), position="A1", x_um=100.0, y_um=0.0)
    shown = replace(called, **change)
    picture = Renderer()(shown, new_analysis(called, [State.LIVE]), Contrast())
    assert (picture.drawing is not None) is drawn


def test_calls_of_a_frame_of_another_shape_are_not_drawn(new_frame: Any, new_analysis: Any) -> None:
    render = Renderer()
    called = new_frame(3)
    analysis = new_analysis(called, [State.LIVE])
    assert render(called, analysis, Contrast()).drawing is not None
    assert render(new_frame(4, height=96), analysis, Contrast()).drawing is None
    assert render(new_frame(5), analysis, Contrast()).drawing is not None
