"""A map of stage positions or wells, coloured by viability; a click goes there.

Owns the drawing, and asking before a stage is moved. The places come from `livescope.places`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QFont, QLinearGradient, QPainter, QPen
from qtpy.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QPushButton, QToolTip, QVBoxLayout, QWidget
from scipy.spatial import cKDTree

from livescope.assay.viability import viability_of_counts
from livescope.places import Place
from livescope.view.theme import Theme

__all__ = ["MapDock", "PlateMap", "viability_colour"]

_DEAD, _MIDDLE, _LIVE = (230, 159, 0), (224, 224, 224), (86, 180, 233)
"""From the orange of dead over grey to the blue of live: told apart with every kind of colour vision."""
_FEW = 20
"""Cells; what rests on fewer is drawn with a dashed edge."""
_MARGIN_PX = 26.0
_MOST_SIDE_PX = 92.0
_TEXT_PX = 30.0


def viability_colour(fraction: float) -> tuple[int, int, int]:
    """Red, green, blue of a viability from 0 to 1.

    >>> viability_colour(0.0), viability_colour(1.0)
    ((230, 159, 0), (86, 180, 233))
    """
    place = min(max(fraction, 0.0), 1.0) * 2
    ends = (_DEAD, _MIDDLE) if place <= 1 else (_MIDDLE, _LIVE)
    part = place if place <= 1 else place - 1
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(*ends, strict=True))
    return red, green, blue


class PlateMap(QWidget):
    """The map. Wells lie as on their plate if all names are wells, positions as on the stage, else in reading order."""

    chosen = Signal(object)
    """A `Place` that was clicked."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.places: tuple[Place, ...] = ()
        self.here: str | None = None
        """Name of the place of the frame that is shown."""
        self._theme = theme
        self._rects: dict[str, QRectF] = {}
        self._heads: list[tuple[QRectF, str]] = []
        self.setMinimumSize(240, 150)
        self.setMouseTracking(True)
        self.setAccessibleName("Map of positions by viability")

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        self._theme = theme
        self.update()

    def show_places(self, places: Sequence[Place], here: str | None) -> None:
        """Show places, and which of them is that of the picture."""
        if tuple(places) != self.places or here != self.here:
            self.places, self.here = tuple(places), here
            self._arrange()
            self.update()

    def place_at(self, point: QPointF) -> Place | None:
        """Return the place drawn at a point of this widget; of several fields of a well the one seen last."""
        found = [place for place in self.places if self._rects[place.name].contains(point)]
        return max(found, key=lambda p: -1 if p.frame_index is None else p.frame_index, default=None)

    def rect_of(self, name: str) -> Any:
        """Where a place is drawn."""
        return self._rects[name]

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Arrange anew."""
        super().resizeEvent(event)
        self._arrange()

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Choose a place."""
        place = self.place_at(event.position())
        if place is not None and event.button() == Qt.MouseButton.LeftButton:
            self.chosen.emit(place)

    def event(self, event: Any) -> bool:
        """Tell what a place is when the mouse rests on it."""
        if event.type() == QEvent.Type.ToolTip:
            place = self.place_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), "" if place is None else describe(self._together(place)), self)
            return True
        return bool(super().event(event))

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw heads, places, and the scale of colours."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPixelSize(11)
        painter.setFont(font)
        painter.setPen(QColor(self._theme.muted))
        if not self.places:
            painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), "no named position was visited yet")
        for rect, text in self._heads:
            painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), text)
        wells = self._by_rect()
        for rect, places in wells:
            self._paint_place(painter, rect, _pooled(places), any(p.name == self.here for p in places))
        self._paint_scale(painter)
        painter.end()

    def _by_rect(self) -> list[tuple[Any, list[Place]]]:
        """Places by where they are drawn: the fields of a well share one."""
        found: dict[tuple[float, float], tuple[Any, list[Place]]] = {}
        for place in self.places:
            rect = self._rects[place.name]
            found.setdefault((rect.x(), rect.y()), (rect, []))[1].append(place)
        return list(found.values())

    def _together(self, place: Place) -> Place:
        rect = self._rects[place.name]
        return _pooled([other for other in self.places if self._rects[other.name] == rect])

    def _paint_place(self, painter: Any, rect: Any, place: Place, here: bool) -> None:
        seen = place.viability is not None and math.isfinite(place.viability.fraction)
        fill, ink = QColor(self._theme.raised), QColor(self._theme.muted)
        text = ""
        few = False
        if seen and place.viability is not None:
            fill, ink = QColor(*viability_colour(place.viability.fraction)), QColor("#15181c")
            text = f"{100 * place.viability.fraction:.0f}"
            few = place.viability.n_live + place.viability.n_dead < _FEW
        edge = QPen(QColor(self._theme.text if here else self._theme.line), 2.5 if here else 1.0)
        if few and not here:
            edge = QPen(QColor(self._theme.caution), 1.5, Qt.PenStyle.DashLine)
        painter.setPen(edge)
        painter.setBrush(fill)
        inner = rect.adjusted(2, 2, -2, -2)
        if place.well is not None:
            painter.drawEllipse(inner)
        else:
            painter.drawRoundedRect(inner, 4, 4)
        painter.setPen(ink)
        named = place.well is None and rect.width() >= 2 * _TEXT_PX
        if rect.width() >= _TEXT_PX:
            words = f"{place.name}\n{text}" if named else text
            painter.drawText(inner, int(Qt.AlignmentFlag.AlignCenter), words)

    def _paint_scale(self, painter: Any) -> None:
        bar = QRectF(_MARGIN_PX + 34, self.height() - 16, max(self.width() - 2 * _MARGIN_PX - 90, 40), 8)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for k in range(5):
            gradient.setColorAt(k / 4, QColor(*viability_colour(k / 4)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawRoundedRect(bar, 3, 3)
        painter.setPen(QColor(self._theme.muted))
        line = QRectF(0, bar.top() - 4, bar.left() - 6, 16)
        painter.drawText(line, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), "0 % alive")
        line = QRectF(bar.right() + 6, bar.top() - 4, 60, 16)
        painter.drawText(line, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), "100 %")

    def _arrange(self) -> None:
        # at least a pixel: a dock that folds up passes through sizes smaller than its margins
        width, height = max(self.width() - 2 * _MARGIN_PX, 1), max(self.height() - 2 * _MARGIN_PX - 8, 1)
        room = QRectF(_MARGIN_PX, _MARGIN_PX, width, height)
        wells = [place.well for place in self.places]
        self._heads = []
        if self.places and all(well is not None for well in wells):
            self._rects = self._as_plate([well for well in wells if well is not None], room)
        elif self.places and all(p.x_um is not None and p.y_um is not None for p in self.places):
            self._rects = self._as_stage(room)
        else:
            columns = max(1, math.ceil(math.sqrt(len(self.places) * room.width() / max(room.height(), 1.0))))
            cells = [(k // columns, k % columns) for k in range(len(self.places))]
            self._rects = self._as_grid(cells, room)

    def _as_grid(self, cells: list[tuple[int, int]], room: Any) -> dict[str, Any]:
        rows, columns = (max((cell[axis] for cell in cells), default=0) + 1 for axis in (0, 1))
        side = min(room.width() / columns, room.height() / rows, _MOST_SIDE_PX)
        return {
            place.name: QRectF(room.left() + column * side, room.top() + row * side, side, side)
            for place, (row, column) in zip(self.places, cells, strict=True)
        }

    def _as_plate(self, wells: list[tuple[int, int]], room: Any) -> dict[str, Any]:
        """Lay wells out from A1, so that the map looks like the plate on the stage."""
        rects = self._as_grid(wells, room)
        side = next(iter(rects.values())).width()
        rows, columns = (max(well[axis] for well in wells) + 1 for axis in (0, 1))
        for row in range(rows):
            self._heads.append((QRectF(0, room.top() + row * side, room.left() - 4, side), _letters(row)))
        for column in range(columns):
            box = QRectF(room.left() + column * side, room.top() - 18, side, 16)
            self._heads.append((box, str(column + 1)))
        return rects

    def _as_stage(self, room: Any) -> dict[str, Any]:
        """Lay positions out as they lie on the stage, x to the right and y upwards, none above another."""
        xy = np.array([(place.x_um, place.y_um) for place in self.places], float)
        low, span = xy.min(axis=0), np.maximum(np.ptp(xy, axis=0), 1e-9)
        near_um = cKDTree(xy).query(xy, k=2, p=np.inf)[0][:, 1].min() if len(xy) > 1 else np.inf
        least_um = float(near_um) if 1e-6 < near_um < np.inf else float(span.max()) or 1.0
        scale = min(room.width() / (span[0] + least_um), room.height() / (span[1] + least_um))
        side = min(max(least_um * scale, _TEXT_PX), _MOST_SIDE_PX)
        scale = min((room.width() - side) / span[0], (room.height() - side) / span[1], side / least_um * 1.15)
        rects = {}
        for place, (x, y) in zip(self.places, xy - low, strict=True):
            left, top = room.left() + x * scale, room.top() + (span[1] - y) * scale
            rects[place.name] = QRectF(left, top if span[1] > 1e-6 else room.top(), side, side)
        return rects


class MapDock(QDockWidget):
    """The map in a dock of a window, with the question before a stage moves.

    Parameters
    ----------
    window
        Where it docks.
    theme
        Colours.
    go
        Goes to a place; returns why it cannot, empty if it does.
    ask
        Whether to ask first: a stage that moves can hit something.
    """

    def __init__(self, window: Any, theme: Theme, go: Callable[[Place], str], ask: bool) -> None:
        super().__init__("Positions", window)
        self.setObjectName("dock positions")
        self.map = PlateMap(theme)
        self._go, self._ask = go, ask
        self._wanted: Place | None = None
        self.question = QLabel()
        self.question.setWordWrap(True)
        self.yes, self.no = QPushButton("Move there"), QPushButton("Stay")
        row = QHBoxLayout()
        row.addWidget(self.question, 1)
        for button in (self.yes, self.no):
            row.addWidget(button)
            button.hide()
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.map, 1)
        layout.addLayout(row)
        self.setWidget(body)
        self.setMinimumWidth(300)
        there = "move the stage there" if ask else "see it"
        self.question.setText(f"Click on a position to {there}. Dashed: fewer than {_FEW} cells.")
        self.map.chosen.connect(self._choose)
        self.yes.clicked.connect(self._move)
        self.no.clicked.connect(lambda: self._settle("The stage stays."))

    def _choose(self, place: Place) -> None:
        self._wanted = place
        if not self._ask:
            self._settle(self._go(place) or describe(place))
            return
        where = "" if place.x_um is None or place.y_um is None else f" (x {place.x_um:.0f}, y {place.y_um:.0f} \u00b5m)"
        self.question.setText(f"Move the stage to {place.name}{where}?")
        for button in (self.yes, self.no):
            button.show()

    def _move(self) -> None:
        place = self._wanted
        if place is not None:
            self._settle(self._go(place) or f"The stage goes to {place.name}.")

    def _settle(self, text: str) -> None:
        self._wanted = None
        self.question.setText(text)
        for button in (self.yes, self.no):
            button.hide()


def describe(place: Place) -> str:
    """Say what was seen at a place."""
    if place.viability is None:
        return f"{place.name}: not seen yet"
    v = place.viability
    n = v.n_live + v.n_dead
    if not n:
        return f"{place.name}: no cell called live or dead"
    few = ", few cells" if n < _FEW else ""
    return f"{place.name}: {100 * v.fraction:.1f} % alive ({100 * v.low:.0f} \u2013 {100 * v.high:.0f}), n = {n}{few}"


def _pooled(places: list[Place]) -> Place:
    """Return the fields of a well as one place, their cells together."""
    if len(places) == 1:
        return places[0]
    seen = [place.viability for place in places if place.viability is not None]
    newest = max((place.frame_index for place in places if place.frame_index is not None), default=None)
    counts = [sum(getattr(v, name) for v in seen) for name in ("n_live", "n_dead", "n_uncertain")]
    name = f"{places[0].name} and {len(places) - 1} more"
    return Place(name, viability=viability_of_counts(*counts) if seen else None, frame_index=newest)


def _letters(row: int) -> str:
    """Name a row of a plate: A to Z, then AA.

    >>> _letters(0), _letters(7), _letters(26)
    ('A', 'H', 'AA')
    """
    return chr(65 + row) if row < 26 else chr(64 + row // 26) + chr(65 + row % 26)
