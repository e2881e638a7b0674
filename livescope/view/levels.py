"""The levels plate: histogram of the raw grey values with the two levels shown as black and white.

Owns the plate on the picture. Histogram and levels come from the render thread, which ignores the overlay by nature:
they are made of the camera's own grey values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from livescope.view.render import Contrast, Picture

__all__ = ["LevelsPlate"]

_PLOT = QRectF(12, 10, 216, 52)
_GRAB_PX = 12.0


class LevelsPlate(QWidget):
    """Drag a level to fix the contrast; a double click makes it automatic again."""

    contrast_asked = Signal(object)
    """A new `Contrast`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFixedSize(240, 86)
        self.setCursor(Qt.CursorShape.ArrowCursor)
        self.setToolTip("Grey values of the picture. Drag black or white to fix them; double-click: automatic (A)")
        self.setAccessibleName("Contrast")
        self._contrast = Contrast()
        self._levels = (0.0, 1.0)
        self._counts = np.zeros(1)
        self._span = (0.0, 1.0)
        self._range = (0.0, 1.0)
        self._full = 255.0
        self._dragged: int | None = None

    def show_picture(self, picture: Picture, contrast: Contrast) -> None:
        """Show histogram and levels of a picture."""
        self._contrast = contrast
        self._levels = picture.levels
        self._full = float(2**picture.frame.bit_depth - 1)
        if picture.histogram is not None:
            self._counts, self._span = np.sqrt(picture.histogram.counts), picture.histogram.span
        if self._dragged is None:
            low, high = min(self._span[0], self._levels[0]), max(self._span[1], self._levels[1])
            margin = 0.06 * (high - low)
            self._range = (low - margin, high + margin)
        self.update()

    def place_of(self, level: int) -> Any:
        """Point of the handle of black (0) or white (1) on the plate."""
        return QPointF(self._x(self._levels[level]), _PLOT.bottom())

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw plate, histogram, ramp and handles."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(0, 0, 0, 165))
        painter.drawRoundedRect(QRectF(self.rect()), 6, 6)
        painter.setBrush(QColor(255, 255, 255, 110))
        painter.drawPolygon(self._outline())
        black, white = (self._x(level) for level in self._levels)
        painter.setPen(QPen(QColor(255, 255, 255, 170), 1.2))
        painter.drawLine(QPointF(black, _PLOT.bottom()), QPointF(white, _PLOT.top()))
        for x, fill in ((black, QColor("black")), (white, QColor("white"))):
            painter.setPen(QPen(QColor("white"), 1.2))
            painter.drawLine(QPointF(x, _PLOT.top()), QPointF(x, _PLOT.bottom()))
            painter.setBrush(fill)
            painter.drawEllipse(QPointF(x, _PLOT.bottom()), 4.5, 4.5)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        text = f"{self._levels[0]:.0f} \u2013 {self._levels[1]:.0f}   {'automatic' if self._contrast.auto else 'fixed'}"
        painter.setPen(QColor(255, 255, 255, 210))
        painter.drawText(QRectF(12, 66, 216, 16), int(Qt.AlignmentFlag.AlignCenter), text)
        painter.end()

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take hold of the nearer level."""
        away = [abs(event.position().x() - self._x(level)) for level in self._levels]
        nearest = int(away[1] < away[0])
        self._dragged = nearest if away[nearest] <= _GRAB_PX else None

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Move the level that is held; black stays below white."""
        if self._dragged is None:
            return
        low, high = self._range
        value = low + (event.position().x() - _PLOT.left()) / _PLOT.width() * (high - low)
        black, white = self._levels
        if self._dragged == 0:
            black = min(max(value, 0.0), white - 1)
        else:
            white = max(min(value, self._full), black + 1)
        self._levels = (black, white)
        self.contrast_asked.emit(Contrast(False, black, white))
        self.update()

    def mouseReleaseEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Let go."""
        self._dragged = None

    def mouseDoubleClickEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Back to automatic contrast."""
        self._dragged = None
        self.contrast_asked.emit(Contrast())

    def _x(self, grey: float) -> float:
        low, high = self._range
        return float(_PLOT.left() + (grey - low) / max(high - low, 1e-9) * _PLOT.width())

    def _outline(self) -> Any:
        edges = np.linspace(*self._span, len(self._counts) + 1)
        heights = self._counts / max(float(self._counts.max()), 1e-9) * (_PLOT.height() - 2)
        points = [QPointF(self._x(edges[0]), _PLOT.bottom())]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            y = _PLOT.bottom() - height
            points += [QPointF(self._x(left), y), QPointF(self._x(right), y)]
        return QPolygonF([*points, QPointF(self._x(edges[-1]), _PLOT.bottom())])
