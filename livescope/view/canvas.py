"""The picture: newest frame, calls over it, zoom and pan, pixel read-out, scale bar.

Owns painting. Pictures come ready from the render thread; the latency of a frame is taken when its painting ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QPoint, QPointF, QRect, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QApplication, QRubberBand

from livescope.calls import State
from livescope.frames import Frame
from livescope.view.geometry import round_length_um
from livescope.view.overlay import CallsItem
from livescope.view.render import Picture
from livescope.view.theme import Theme

__all__ = ["Canvas"]


class Canvas(pg.GraphicsView):
    """The live picture.

    Parameters
    ----------
    on_painted
        Called with each frame once, at the end of the paint event that brought it to the screen.
    theme
        Colours around the picture.
    """

    read_out = Signal(str)
    """What lies under the mouse: place in pixels and micrometres, grey value; empty outside the picture."""
    clicked = Signal(QPointF, object, object)
    """While `picking`: place of this widget, button and modifiers of a click."""
    boxed = Signal(QRectF)
    """While `picking`: a box that was drawn with the left button, in pixels of the frame."""
    step_changed = Signal(int)
    """Only every so many-th camera pixel can be seen at the new zoom."""

    corner: Any = None
    """A widget that is kept at the bottom left."""

    def __init__(self, on_painted: Callable[[Frame], None], theme: Theme) -> None:
        super().__init__(background=theme.canvas)
        self.picture: Picture | None = None
        self.picking = False
        """True while clicks are for cells; the middle button still pans, the wheel zooms."""
        self._pressed: QPoint | None = None
        self._then: Callable[[QRectF], None] | None = None
        self._band = QRubberBand(QRubberBand.Shape.Rectangle, self)
        self.hint = ""
        self.note = ""
        """What is written on the picture, at the top left."""
        self._bar: tuple[tuple[str, float, float], Any] | None = None
        """The scale bar as it was drawn last, and what it shows."""
        self._theme = theme
        self._on_painted = on_painted
        self._unstamped: Frame | None = None
        self._mouse: QPointF | None = None
        self.box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False, defaultPadding=0.01)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.calls = CallsItem()
        self.box.addItem(self.image)
        self.box.addItem(self.calls, ignoreBounds=True)
        self.box.sigTransformChanged.connect(self._tell_step)
        self._step = 1
        self.setCentralItem(self.box)
        self.setMinimumSize(400, 240)  # beside each other: the box of levels and the scale bar
        self.setMouseTracking(True)
        self.setAccessibleName("Live picture")

    def show_picture(self, picture: Picture) -> None:
        """Show a picture. The view is fitted when the frame's size changes, else zoom and pan stay."""
        resized = self.picture is None or self.picture.frame.pixels.shape != picture.frame.pixels.shape
        if self.picture is None or self.picture.frame is not picture.frame:
            self._unstamped = picture.frame
        self.picture = picture
        rows, columns = picture.grey8.shape
        self.image.setImage(picture.grey8, autoLevels=False)
        self.image.setRect(QRectF(0, 0, columns * picture.step, rows * picture.step))
        if self.calls.drawing is not picture.drawing:
            self.calls.set_drawing(picture.drawing)
        if resized:
            self.fit()
        self._tell_read_out()

    def fit(self) -> None:
        """Show the whole picture, as large as it goes."""
        if self.picture is not None:
            height, width = self.picture.frame.pixels.shape
            self.box.setRange(QRectF(0, 0, width, height), padding=0.01)

    def actual_size(self) -> None:
        """One pixel of the camera on one pixel of the screen, around the middle of the view."""
        (x0, x1), (y0, y1) = self.box.viewRange()
        width, height = self.box.width() / 2, self.box.height() / 2
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        self.box.setRange(QRectF(x - width, y - height, 2 * width, 2 * height), padding=0)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours around the picture."""
        self._theme = theme
        self.setBackground(theme.canvas)

    def set_hint(self, hint: str) -> None:
        """Say what to do while there is no picture."""
        if hint != self.hint:
            self.hint = hint
            self.viewport().update()

    def set_note(self, note: str) -> None:
        """Write something on the picture; an empty note takes it away."""
        self.note = note
        self.viewport().update()

    def show_state(self, state: State, visible: bool) -> None:
        """Show or hide the cells of one state."""
        (self.calls.states.add if visible else self.calls.states.discard)(state)
        self.calls.update()

    def cell_at(self, place: QPointF) -> int | None:
        """Row of the visible cell whose outline holds a place of this widget, None between cells."""
        drawing, rows = self.calls.drawing, self.calls.visible_rows()
        if drawing is None or not len(rows):
            return None
        calls = drawing.analysis.calls
        point = self.place_px(place)
        dy, dx = point.y() - calls.y_px[rows], point.x() - calls.x_px[rows]
        nearest = int(np.argmin(dy * dy + dx * dx))
        row, away = int(rows[nearest]), float(np.hypot(dy[nearest], dx[nearest]))
        n_rays = calls.radii_px.shape[1]
        ray = int(np.rint(np.arctan2(dy[nearest], dx[nearest]) / (2 * np.pi) * n_rays)) % n_rays
        return row if away <= calls.radii_px[row, ray] else None

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Keep the corner widget in its corner."""
        super().resizeEvent(event)
        if self.corner is not None:
            self.corner.move(14, self.height() - self.corner.height() - 14)

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Fit the picture."""
        if self.picking:
            self.mousePressEvent(event)
            return
        super().mouseDoubleClickEvent(event)
        self.fit()

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Paint, then stamp the frame: now it is on the screen."""
        super().paintEvent(event)
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.picture is None:
            self._paint_hint(painter)
        else:
            self._paint_scale_bar(painter, self.picture.frame.pixel_um)
            self._paint_note(painter)
        painter.end()
        if self._unstamped is not None:
            frame, self._unstamped = self._unstamped, None
            self._on_painted(frame)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Begin a click or a box while picking."""
        asked = self._then is not None and event.button() == Qt.MouseButton.LeftButton
        if asked or (self.picking and event.button() != Qt.MouseButton.MiddleButton):
            self._pressed = event.position().toPoint()
            return
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """End a click or a box while picking."""
        if self._pressed is None:
            super().mouseReleaseEvent(event)
            return
        pressed, self._pressed = self._pressed, None
        drawn, then = self._band.isVisible(), self._then
        corners = [self.place_px(QPointF(p)) for p in (pressed, event.position().toPoint())]
        box = QRectF(*corners).normalized() if drawn else QRectF()
        self._band.hide()
        if then is not None:
            self.ask_box(None)
            then(box.translated(0.5, 0.5) if drawn else box)
        elif self.picking and drawn:
            self.boxed.emit(box)
        elif self.picking:
            self.clicked.emit(event.position(), event.button(), event.modifiers())

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Follow the mouse for the read-out; draw the box while picking."""
        if self._pressed is None:
            super().mouseMoveEvent(event)
        else:
            here = event.position().toPoint()
            if (here - self._pressed).manhattanLength() >= QApplication.startDragDistance():
                self._band.setGeometry(QRect(self._pressed, here).normalized())
                self._band.show()
        self._mouse = QPointF(event.position())
        self._tell_read_out()

    def leaveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Clear the read-out."""
        super().leaveEvent(event)
        self._mouse = None
        self._tell_read_out()

    def ask_box(self, then: Callable[[QRectF], None] | None) -> None:
        """Let the next drag with the left button draw a box.

        Parameters
        ----------
        then
            Given the box in pixels of the frame, (0, 0) the outer corner of the top left one; an empty one if the user
            only clicked. None asks no more.
        """
        self._then = then
        cross = self.picking or then is not None
        self.setCursor(Qt.CursorShape.CrossCursor if cross else Qt.CursorShape.ArrowCursor)

    def place_px(self, place: QPointF) -> Any:
        """Point of the frame at a place of this widget, in pixels; (0, 0) is the centre of the top left pixel."""
        return self.box.mapSceneToView(self.mapToScene(place.toPoint())) - QPointF(0.5, 0.5)

    def look_at(self, y_px: float, x_px: float, half_px: float) -> None:
        """Show a square of the frame, `half_px` to each side of a point."""
        self.box.setRange(QRectF(x_px + 0.5 - half_px, y_px + 0.5 - half_px, 2 * half_px, 2 * half_px), padding=0)

    def pixel_at(self, place: QPointF) -> tuple[int, int] | None:
        """Row and column of the camera pixel at a place of this widget, None outside the picture."""
        if self.picture is None:
            return None
        point = self.box.mapSceneToView(self.mapToScene(place.toPoint()))
        y, x = int(np.floor(point.y())), int(np.floor(point.x()))
        height, width = self.picture.frame.pixels.shape
        return (y, x) if 0 <= y < height and 0 <= x < width else None

    def _tell_step(self) -> None:
        screen_per_px = self.box.width() * self.devicePixelRatioF() / max(self.box.viewRect().width(), 1e-9)
        step = max(1, int(1 / max(screen_per_px, 1e-3)))
        if step != self._step:
            self._step = step
            self.step_changed.emit(step)

    def _tell_read_out(self) -> None:
        pixel = None if self._mouse is None else self.pixel_at(self._mouse)
        if pixel is None or self.picture is None:
            self.read_out.emit("")
            return
        y, x = pixel
        frame = self.picture.frame
        place = f"x {x}  y {y} px"
        if frame.pixel_um is not None:
            place += f"   {x * frame.pixel_um:.1f}, {y * frame.pixel_um:.1f} \u00b5m"
        self.read_out.emit(f"{place}   grey {int(frame.pixels[y, x])}{self._cell_text()}")

    def _cell_text(self) -> str:
        row = None if self._mouse is None else self.cell_at(self._mouse)
        drawing = self.calls.drawing
        if row is None or drawing is None:
            return ""
        calls = drawing.analysis.calls
        name = "cell" if calls.track[row] < 0 else f"cell {calls.track[row]}"
        area = "" if calls.pixel_um is None else f", {calls.area_um2[row]:.0f} \u00b5m\u00b2"
        state = State(int(calls.state[row])).label
        return f"   \u2502   {name}: {state}, probability of dead {calls.p_dead[row]:.2f}{area}"

    def _paint_hint(self, painter: Any) -> None:
        painter.setPen(QColor(self._theme.muted))
        font = QFont(self.font())
        font.setPixelSize(16)
        painter.setFont(font)
        painter.drawText(self.viewport().rect(), int(Qt.AlignmentFlag.AlignCenter), self.hint)

    def _paint_note(self, painter: Any) -> None:
        """Top left, on a plate like the scale bar's."""
        if not self.note:
            return
        font = QFont(self.font())
        font.setPixelSize(13)
        plate = QRectF(14, 14, QFontMetrics(font).horizontalAdvance(self.note) + 20, 28)
        painter.fillRect(plate, QColor(0, 0, 0, 150))
        painter.setFont(font)
        painter.setPen(QColor("white"))
        painter.drawText(plate, int(Qt.AlignmentFlag.AlignCenter), self.note)

    def _paint_scale_bar(self, painter: Any, pixel_um: float | None) -> None:
        """Bottom right, on a dark plate so that it reads on every picture."""
        screen_per_px = self.box.width() / max(self.box.viewRect().width(), 1e-9)
        label, length = "pixel size unknown", 0.0
        if pixel_um is not None:
            length_um = round_length_um(160 / screen_per_px * pixel_um)
            label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} \u00b5m"
            length = length_um / pixel_um * screen_per_px
        ratio = self.devicePixelRatioF()
        if self._bar is None or self._bar[0] != (label, length, ratio):
            self._bar = (label, length, ratio), self._draw_scale_bar(label, length, ratio)
        plate = self._bar[1]
        place = QPointF(self.viewport().width() - plate.width() / ratio - 14, self.viewport().height() - 50)
        painter.drawPixmap(place, plate)

    def _draw_scale_bar(self, label: str, length: float, ratio: float) -> Any:
        """Draw the plate; kept until the zoom changes, since text takes 0.3 ms."""
        font = QFont(self.font())
        font.setPixelSize(13)
        width = math.ceil(max(length, QFontMetrics(font).horizontalAdvance(label))) + 20
        plate = QPixmap(round(width * ratio), round(36 * ratio))
        plate.setDevicePixelRatio(ratio)
        plate.fill(QColor(0, 0, 0, 150))
        painter = QPainter(plate)
        painter.setFont(font)
        painter.setPen(QColor("white"))
        painter.drawText(QRectF(0, 2, width, 22), int(Qt.AlignmentFlag.AlignCenter), label)
        if length:
            painter.setPen(QPen(QColor("white"), 3, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap))
            painter.drawLine(QPointF((width - length) / 2, 28), QPointF((width + length) / 2, 28))
        painter.end()
        return plate
