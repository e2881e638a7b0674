"""Curves and bars: viability over time with its interval, and the interval of this instant.

Owns the small plots. Numbers as text are in `livescope.view.readouts`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from livescope.calls import CellCalls, State, Viability
from livescope.view.theme import Theme

__all__ = ["ConfidenceChart", "IntervalBar", "ViabilityChart"]

_MOST_POINTS = 400
"""More points than the chart has pixels only cost time."""
Curve = list[tuple[float, Viability]]


class ViabilityChart(pg.PlotWidget):
    """Viability in percent against time, with its 95 % interval as a band."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(enableMenu=False)
        self.setFixedHeight(112)
        self.unit = "s"
        """Unit of the time axis."""
        self.shown_points = 0
        """Instants of the curve at which a cell was called."""
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)
        self.setXRange(0, 10, padding=0)
        self.setYRange(-8, 108, padding=0)  # room for the labels of 0 and 100
        self.getAxis("left").setTicks([[(v, str(v)) for v in (0, 25, 50, 75, 100)]])
        self.getAxis("left").setWidth(34)
        self._low = pg.PlotCurveItem()
        self._high = pg.PlotCurveItem()
        self._band = pg.FillBetweenItem(self._low, self._high)
        self._curve = pg.PlotCurveItem()
        self._newest = pg.ScatterPlotItem(size=5, pen=None)
        self._now = pg.InfiniteLine(angle=90)
        self._now.setVisible(False)
        self._unit_s = 1.0
        for item in (self._low, self._high, self._band, self._curve, self._newest, self._now):
            self.addItem(item)
        self._lines: list[Any] = []
        self.setAccessibleName("Viability over time")
        self.setToolTip("Viability over time with its 95 % interval")
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        colour = QColor(theme.states[State.LIVE])
        self.setBackground(theme.panel)
        for name in ("left", "bottom"):
            axis = self.getAxis(name)
            axis.setPen(theme.line)
            axis.setTextPen(theme.muted)
        self.showGrid(y=True, alpha=0.25)
        self._curve.setPen(pg.mkPen(colour, width=1))
        self._newest.setBrush(colour)
        self._now.setPen(pg.mkPen(theme.text, width=1))
        band = QColor(colour)
        band.setAlpha(70)
        self._band.setBrush(band)
        for edge in (self._low, self._high):
            edge.setPen(None)
        self._thin = QColor(colour)
        self._thin.setAlpha(150)
        for line in self._lines:
            line.setPen(pg.mkPen(self._thin, width=1))

    def set_now(self, seconds: float) -> None:
        """Mark an instant of the curve."""
        self._now.setVisible(True)
        self._now.setValue(seconds / self._unit_s)

    def set_curve(self, points: Curve) -> None:
        """Show (seconds since the start, viability) pairs with the interval; without a called cell there is a gap."""
        self._set_unit([points])
        time, rows = self._table(points)
        told = np.isfinite(rows[:, 1])
        self._low.setData(time[told], rows[told, 0])
        self._high.setData(time[told], rows[told, 2])
        self._curve.setData(time, rows[:, 1], connect="finite")
        self._show_newest([(time[told], rows[told, 1])])
        self.shown_points = int(told.sum())
        for line in self._lines:
            line.setVisible(False)

    def set_curves(self, curves: list[Curve]) -> None:
        """Show several at once, a thin line each, without intervals."""
        self.set_curve([])
        self._set_unit(curves)
        while len(self._lines) < len(curves):
            self._lines.append(pg.PlotCurveItem(pen=pg.mkPen(self._thin, width=1)))
            self.addItem(self._lines[-1])
        told = []
        for line, points in zip(self._lines, curves, strict=False):
            time, rows = self._table(points)
            line.setData(time, rows[:, 1], connect="finite")
            line.setVisible(True)
            finite = np.isfinite(rows[:, 1])
            told.append((time[finite], rows[finite, 1]))
            self.shown_points += int(finite.sum())
        self._show_newest(told)

    def _show_newest(self, lines: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Mark the newest instant of each line: one of a single instant has nothing else to show."""
        ends = [(time[-1], percent[-1]) for time, percent in lines if len(time)]
        self._newest.setData(*np.array(ends, np.float64).reshape(-1, 2).T)

    def _table(self, points: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times (n,) in the unit of the axis, and low, fraction, high (n, 3) in percent, of not too many points."""
        step = -(-len(points) // _MOST_POINTS) or 1
        points = points[::-step][::-1]  # the newest is always among them
        time = np.array([seconds / self._unit_s for seconds, _ in points], dtype=np.float64)
        rows = np.array([(v.low, v.fraction, v.high) for _, v in points], dtype=np.float64).reshape(-1, 3) * 100
        return time, rows

    def _set_unit(self, curves: list[Curve]) -> None:
        ends_s = [points[end][0] for points in curves if points for end in (0, -1)]
        first_s, last_s = (min(ends_s), max(ends_s)) if ends_s else (0.0, 0.0)
        self._unit_s, self.unit = _time_unit(last_s)
        if ends_s:
            self.setXRange(first_s / self._unit_s, max(last_s, first_s + 10) / self._unit_s, padding=0.01)


def _time_unit(longest_s: float) -> tuple[float, str]:
    return next(((s, name) for s, name in ((3600.0, "h"), (60.0, "min")) if longest_s >= 3 * s), (1.0, "s"))


class IntervalBar(QWidget):
    """Viability on a scale from 0 to 100 %: the interval as a band, the figure as a line."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setFixedHeight(14)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._theme = theme
        self._viability: Viability | None = None

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        self._theme = theme
        self.update()

    def set_viability(self, viability: Viability | None) -> None:
        """Show a viability; None shows an empty scale."""
        self._viability = viability
        self.update()

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw scale, band and line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._theme.raised))
        width = float(self.width())
        painter.drawRoundedRect(QRectF(0, 4, width, 6), 3, 3)
        if self._viability is not None and math.isfinite(self._viability.fraction):
            colour = QColor(self._theme.states[State.LIVE])
            left, right = self._viability.low * width, self._viability.high * width
            painter.setBrush(colour)
            painter.setOpacity(0.55)
            painter.drawRoundedRect(QRectF(left, 4, max(right - left, 2), 6), 3, 3)
            painter.setOpacity(1.0)
            middle = min(max(self._viability.fraction * width, 1.5), width - 1.5)
            painter.drawRect(QRectF(middle - 1.5, 0, 3, 14))
        painter.end()


class ConfidenceChart(QWidget):
    """How sure the calls are: cells by their probability of being dead, in the colours of their states."""

    _BINS = 20

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setFixedHeight(54)
        self.setToolTip("Cells by their calibrated probability of being dead; few cells in the middle are a good sign")
        self.setAccessibleName("Histogram of the probability of being dead")
        self._theme = theme
        self.counts = np.zeros((len(State), self._BINS), np.int64)
        """Cells by state (rows, in the order of `State`) and probability of being dead."""

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        self._theme = theme
        self.update()

    def set_calls(self, calls: CellCalls | None) -> None:
        """Show the cells of a frame; None shows none."""
        self.counts = np.zeros((len(State), self._BINS), np.int64)
        if calls is not None:
            place = np.clip((calls.p_dead * self._BINS).astype(int), 0, self._BINS - 1)
            for row, state in enumerate(State):
                self.counts[row] = np.bincount(place[calls.state == state], minlength=self._BINS)
        self.update()

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw stacked bars, high as the square root: the few uncertain cells are seen beside the many sure ones."""
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        base, width = self.height() - 16.0, self.width() / self._BINS
        total = self.counts.sum(axis=0)
        scale = base / math.sqrt(max(int(total.max()), 1))
        for column in range(self._BINS):
            bottom, below = base, 0
            for row, state in enumerate(State):
                below += int(self.counts[row, column])
                top = base - scale * math.sqrt(below)
                painter.setBrush(QColor(self._theme.states[state]))
                painter.drawRect(QRectF(column * width + 0.5, top, width - 1.0, bottom - top))
                bottom = top
        painter.setBrush(QColor(self._theme.line))
        painter.drawRect(QRectF(0, base, self.width(), 1))
        painter.setPen(QColor(self._theme.muted))
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        line = QRectF(0, base + 2, self.width(), 14)
        painter.drawText(line, int(Qt.AlignmentFlag.AlignLeft), "sure live")
        painter.drawText(line, int(Qt.AlignmentFlag.AlignRight), "sure dead")
        painter.end()
