"""The calls over the picture: outlines, markers and trails by state, painted as plain line segments.

Owns the graphics item. The segments come ready from the render thread; markers keep their size on the screen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import internals
from qtpy.QtCore import QLineF, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QWidget

from livescope.calls import State
from livescope.view.geometry import marker_segments
from livescope.view.render import Drawing
from livescope.view.theme import STATE_COLOURS

__all__ = ["CallsItem", "StateGlyph", "state_pen"]

_SHIFT_PX = 0.3
"""Lines are drawn twice, this far to either side, in place of one wider pen: seen as well in two thirds of the time,
for Qt has a fast way for antialiased lines of width 1 only."""
_MOST_WIDE = 20_000
"""Segments up to which they are drawn twice."""
_COARSE_PX = 14.0
"""Cells of a smaller radius on the screen are drawn with half the rays."""
_MARKER_PX = 4.5
"""Radius of a marker on the screen."""
_MOST_IDS = 1000
_TRAIL_OPACITY = 0.7


def state_pen(state: State) -> Any:
    """Pen of a state, a pixel wide at every zoom."""
    pen = QPen(QColor(STATE_COLOURS[state]), 1.0)
    pen.setCosmetic(True)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    return pen


class _Lines:
    """Segments in the memory layout of Qt's lines, filled without a Python loop."""

    def __init__(self) -> None:
        self._array = internals.PrimitiveArray(QLineF, 4)

    def fill(self, segments: NDArray[np.float64]) -> None:
        self._array.resize(len(segments))
        self._array.ndarray()[:] = segments

    def __len__(self) -> int:
        return len(self._array)

    def draw(self, painter: Any) -> None:
        if len(self._array):
            painter.drawLines(*self._array.drawargs())


class CallsItem(pg.GraphicsObject):
    """Cells of one analysed frame. `outlines`, `rings`, `trails`, `ids` and `states` say what of it is visible."""

    def __init__(self) -> None:
        super().__init__()
        self.outlines = True
        self.rings = True
        self.trails = False
        self.ids = False
        self.states = set(State)
        self.drawing: Drawing | None = None
        self._lines = {state: _Lines() for state in State}
        self._trails = {state: _Lines() for state in State}
        self._filled: tuple[Drawing, bool] | None = None
        self._markers = {state: _Lines() for state in State}
        self._bounds = QRectF()
        self.setPos(0.5, 0.5)  # an image item's pixel spans 0..1, the calls' (0, 0) is the centre of that pixel

    def set_drawing(self, drawing: Drawing | None) -> None:
        """Show these calls; None shows nothing."""
        self.drawing = drawing
        height, width = (0, 0) if drawing is None else drawing.analysis.frame.pixels.shape
        bounds = QRectF(-0.5, -0.5, width, height)
        if bounds != self._bounds:
            self.prepareGeometryChange()
            self._bounds = bounds
        self.update()

    def boundingRect(self) -> Any:  # noqa: N802 - Qt's name
        """The frame's rectangle."""
        return self._bounds

    def paint(self, painter: Any, *_: object) -> None:
        """Draw the visible states, the most numerous (live) lowest."""
        if self.drawing is None:
            return
        painter.setClipRect(self._bounds)
        if self.trails:
            self._paint_trails(painter, self.drawing)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pixel = 1.0 / max(abs(painter.worldTransform().m11()), 1e-9)
        visible = [state for state in State if state in self.states]
        if self.outlines:
            self._fill_outlines(self.drawing, coarse=self.drawing.radius_px / pixel < _COARSE_PX)
        if self.rings:
            for state in visible:
                self._markers[state].fill(marker_segments(self.drawing.centres[state], state, _MARKER_PX * pixel))
        parts = [lines for lines, on in ((self._lines, self.outlines), (self._markers, self.rings)) if on]
        wide = sum(len(lines[state]) for lines in parts for state in visible) <= _MOST_WIDE
        for state in visible:
            painter.setPen(state_pen(state))
            for shift in (-_SHIFT_PX * pixel, 2 * _SHIFT_PX * pixel) if wide else (0.0,):
                painter.translate(shift, shift)
                for lines in parts:
                    lines[state].draw(painter)
            if wide:
                painter.translate(-_SHIFT_PX * pixel, -_SHIFT_PX * pixel)
            if self.ids:
                self._paint_ids(painter, state)

    def _paint_trails(self, painter: Any, drawing: Drawing) -> None:
        """Lie below the cells, thin and without antialiasing: 30 steps of 500 cells are 15,000 segments."""
        painter.setOpacity(_TRAIL_OPACITY)
        for state, segments in drawing.trails.items():
            if state in self.states:
                painter.setPen(state_pen(state))
                self._trails[state].fill(segments)
                self._trails[state].draw(painter)
        painter.setOpacity(1.0)

    def _fill_outlines(self, drawing: Drawing, *, coarse: bool) -> None:
        if self._filled is not None and self._filled[0] is drawing and self._filled[1] is coarse:
            return
        for state, segments in (drawing.coarse if coarse else drawing.outlines).items():
            self._lines[state].fill(segments)
        self._filled = (drawing, coarse)

    def _paint_ids(self, painter: Any, state: State) -> None:
        """Write the track numbers beside the markers, as long as they are few enough to be read."""
        assert self.drawing is not None
        calls = self.drawing.analysis.calls
        chosen = (calls.state == state) & (calls.track >= 0)
        if np.count_nonzero(chosen) > _MOST_IDS:
            return
        transform = painter.worldTransform()
        painter.save()
        painter.resetTransform()
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        for x, y, track in zip(calls.x_px[chosen], calls.y_px[chosen], calls.track[chosen], strict=True):
            place = transform.map(QPointF(float(x), float(y)))
            painter.drawText(place + QPointF(7, -5), str(track))
        painter.restore()


class StateGlyph(QWidget):
    """The marker of a state, for legends: the same shape and colour as on the picture."""

    def __init__(self, state: State, colour: str, parent: Any = None) -> None:
        super().__init__(parent)
        self._state = state
        self.colour = colour
        self.setFixedSize(18, 18)

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw the marker in the middle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self.colour), 2.0, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        lines = _Lines()
        lines.fill(marker_segments(np.array([[9.0, 9.0]]), self._state, 5.5))
        lines.draw(painter)
        painter.end()
