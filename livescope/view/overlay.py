"""The calls over the picture: outlines and trails as plain line segments, markers from a small atlas of pictures.

Owns the graphics item. The segments come ready from the render thread; markers keep their size on the screen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import internals
from qtpy.QtCore import QLineF, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap
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
_CELL_PX = 16
"""Side of a marker's place in the atlas."""
_MOST_IDS = 1000


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


class _Markers:
    """Markers of all states, drawn once into an atlas and from there as fragments: a third of the time of lines."""

    def __init__(self) -> None:
        self._array = internals.PrimitiveArray(QPainter.PixmapFragment, 10)
        self._atlas: Any = None

    def draw(self, painter: Any, drawing: Drawing, states: list[State]) -> None:
        """Draw the markers of some states, the first lowest. What is outside the view is left out."""
        ratio = painter.device().devicePixelRatioF()
        if self._atlas is None or self._atlas.devicePixelRatioF() != ratio:
            self._atlas = _marker_atlas(ratio)
        transform = painter.worldTransform()
        scale, shift = np.array([transform.m11(), transform.m22()]), np.array([transform.dx(), transform.dy()])
        size = painter.device().width() / ratio, painter.device().height() / ratio
        side_px = round(_CELL_PX * ratio)
        for state in states:
            place = drawing.centres[state] * scale + shift
            place = place[((place > -_CELL_PX) & (place < np.array(size) + _CELL_PX)).all(axis=1)]
            self._array.resize(len(place))
            if not len(place):
                continue
            fragments = self._array.ndarray()
            fragments[:, 0:2] = place
            fragments[:, 2:6] = side_px * (state - 1), 0, side_px, side_px
            fragments[:, 6:10] = 1 / ratio, 1 / ratio, 0.0, 1.0
            painter.save()
            painter.resetTransform()
            painter.drawPixmapFragments(*self._array.drawargs(), self._atlas)
            painter.restore()


def _marker_atlas(ratio: float) -> Any:
    """Markers side by side in the order of `State`, for a screen of so many device pixels a pixel."""
    side_px = round(_CELL_PX * ratio)
    atlas = QPixmap(side_px * len(State), side_px)
    atlas.setDevicePixelRatio(ratio)
    atlas.fill(Qt.GlobalColor.transparent)
    painter = QPainter(atlas)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    lines = _Lines()
    for state in State:
        centre = np.array([[(state - 0.5) * side_px / ratio, side_px / ratio / 2]])
        painter.setPen(QPen(QColor(STATE_COLOURS[state]), 1.6))
        lines.fill(marker_segments(centre, state, _MARKER_PX))
        lines.draw(painter)
    painter.end()
    return atlas


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
        self._markers = _Markers()
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

    @property
    def shown(self) -> set[State]:
        """States whose cells can be seen: none while the calls, or both outlines and markers, are off."""
        return self.states if self.isVisible() and (self.outlines or self.rings) else set()

    def visible_rows(self) -> NDArray[np.int64]:
        """Rows of the drawn cells that can be seen: what is hidden must not be corrected."""
        if self.drawing is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(np.isin(self.drawing.analysis.calls.state, [*self.shown]))

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
            self._draw_outlines(painter, visible, pixel)
        if self.rings:
            self._markers.draw(painter, self.drawing, visible)
        for state in visible if self.ids else ():
            self._paint_ids(painter, state)

    def _draw_outlines(self, painter: Any, states: list[State], pixel: float) -> None:
        wide = sum(len(self._lines[state]) for state in states) <= _MOST_WIDE
        for state in states:
            painter.setPen(state_pen(state))
            for shift in (-_SHIFT_PX * pixel, 2 * _SHIFT_PX * pixel) if wide else (0.0,):
                painter.translate(shift, shift)
                self._lines[state].draw(painter)
            if wide:
                painter.translate(-_SHIFT_PX * pixel, -_SHIFT_PX * pixel)

    def _paint_trails(self, painter: Any, drawing: Drawing) -> None:
        """Lie below the cells, thin and without antialiasing: 30 steps of 500 cells are 15,000 segments."""
        for state, segments in drawing.trails.items():
            if state in self.states:
                painter.setPen(state_pen(state))
                self._trails[state].fill(segments)
                self._trails[state].draw(painter)

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
        painter.setPen(state_pen(state))
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
