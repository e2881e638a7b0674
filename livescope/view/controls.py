"""The bar above a live picture: start, stop, snap, record, burst, exposure, and the state of the session.

Owns buttons and their look in each state. What they do is done by the session on its control thread: a click only asks.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPixmap
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from livescope.status import SessionState, Status
from livescope.view.folding import FoldingRow
from livescope.view.theme import Theme

__all__ = ["ControlBar", "draw_icon"]

_LIVE = (SessionState.STARTING, SessionState.RUNNING, SessionState.CHANGING)
_EXPOSURE_MS = (0.0, 600_000.0)
"""0 stands for an exposure that nobody knows."""


class ControlBar(QWidget):
    """Buttons of the session. Signals say what was asked for.

    Parameters
    ----------
    theme
        Colours of the icons.
    view_buttons
        Buttons of the picture, shown behind those of the session as far as there is room.
    menu
        Button shown at the end.
    """

    start_asked = Signal()
    stop_asked = Signal()
    snap_asked = Signal()
    record_asked = Signal(bool)
    burst_asked = Signal(int)
    exposure_asked = Signal(float)

    def __init__(self, theme: Theme, view_buttons: list[Any], menu: Any) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._theme = theme
        self._live = False
        self._recording = False
        self.run = _button("Start", "Start or stop the live run (Space)")
        self.snap = _button("Snap", "Take one frame and call its cells (S)")
        self.record = _button("Record", "Store frames and calls from now on (R)")
        self.burst = _button("Burst", "Take exactly so many frames without a gap; the live run pauses for them (B)")
        self.burst_frames = QSpinBox()
        self.exposure = QDoubleSpinBox()
        self.state = QLabel()
        self.state.setAccessibleName("State of the session")
        # what it is busy with can be long: the window must not grow wider for it
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.state.setMinimumWidth(96)
        self._set_up_exposure()
        self._set_up_burst()
        self._lay_out(view_buttons, menu)
        self.run.clicked.connect(self._ask_run)
        self.snap.clicked.connect(lambda: self.snap_asked.emit())
        self.record.clicked.connect(lambda: self.record_asked.emit(not self._recording))
        self.burst.clicked.connect(lambda: self.burst_asked.emit(self.burst_frames.value()))
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours of the icons."""
        self._theme = theme
        self.snap.setIcon(draw_icon("snap", theme.text))
        self._show_run()
        self._show_record()
        self.record.setMinimumWidth(104)

    def show_status(self, status: Status, planned: bool = False) -> None:
        """Look as the session is: what can be asked for now, and what it is doing; `planned` if it follows a plan."""
        live = status.state in _LIVE
        if live is not self._live:
            self._live = live
            self._show_run()
        if status.recording is not self._recording:
            self._recording = status.recording
            self._show_record()
        changing = status.state in (SessionState.STARTING, SessionState.STOPPING)
        self.run.setEnabled(not changing)
        self.snap.setEnabled(not live and not changing)
        self.record.setEnabled(status.state is not SessionState.STOPPING and "record" not in (status.busy or ""))
        self.burst.setEnabled(status.state is SessionState.RUNNING and not planned)
        if not self.exposure.hasFocus():
            self.exposure.blockSignals(True)
            self.exposure.setValue(status.exposure_ms or 0.0)
            self.exposure.blockSignals(False)
        self._show_state(status)

    def _show_state(self, status: Status) -> None:
        colours = {SessionState.RUNNING: self._theme.good, SessionState.FAILED: self._theme.alarm}
        colour = self._theme.caution if status.busy else colours.get(status.state, self._theme.muted)
        text = f"{status.busy}\u2026" if status.busy else status.state.value
        room = self.state.width() - self.state.fontMetrics().horizontalAdvance("\u25cf\u00a0 ") - 4
        text = self.state.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room)
        self.state.setText(f'<span style="color:{colour}">\u25cf</span>&nbsp; {text}')
        self.state.setToolTip(status.reason or status.busy or "State of the session")

    def _show_run(self) -> None:
        self.run.setText("Stop" if self._live else "Start")
        self.run.setIcon(draw_icon("stop" if self._live else "start", self._theme.text))

    def _show_record(self) -> None:
        colour = self._theme.window if self._recording else self._theme.alarm
        self.record.setIcon(draw_icon("record", colour))
        self.record.setText("Recording" if self._recording else "Record")
        self.record.setProperty("recording", "true" if self._recording else "false")
        self.record.style().unpolish(self.record)
        self.record.style().polish(self.record)

    def _ask_exposure(self, exposure_ms: float) -> None:
        if exposure_ms > 0:
            self.exposure_asked.emit(exposure_ms)

    def _ask_run(self) -> None:
        (self.stop_asked if self._live else self.start_asked).emit()

    def _set_up_exposure(self) -> None:
        self.exposure.setRange(*_EXPOSURE_MS)
        self.exposure.setDecimals(2)
        self.exposure.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.exposure.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.exposure.setSuffix(" ms")
        self.exposure.setSpecialValueText("unknown")
        self.exposure.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.exposure.setKeyboardTracking(False)
        self.exposure.setFixedWidth(88)
        self.exposure.setToolTip("Exposure of the camera; Enter applies (E)")
        self.exposure.setAccessibleName("Exposure in milliseconds")
        self.exposure.valueChanged.connect(self._ask_exposure)
        # the keyboard goes back to the picture, so that shortcuts work again
        self.exposure.lineEdit().returnPressed.connect(self.exposure.clearFocus)

    def _set_up_burst(self) -> None:
        self.burst_frames.setRange(1, 1_000_000)
        self.burst_frames.setValue(100)
        self.burst_frames.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.burst_frames.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.burst_frames.setFixedWidth(56)
        self.burst_frames.setToolTip("Frames of a burst")
        self.burst_frames.setAccessibleName("Frames of a burst")
        self.burst_frames.lineEdit().returnPressed.connect(self.burst_frames.clearFocus)
        self.burst.setMinimumWidth(56)

    def _lay_out(self, view_buttons: list[Any], menu: Any) -> None:
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(6)
        for widget in (self.run, self.snap, self.record):
            layout.addWidget(widget)
        layout.addSpacing(6)
        layout.addWidget(self.burst)
        layout.addWidget(self.burst_frames)
        layout.addSpacing(6)
        label = QLabel("Exp.")
        label.setObjectName("name")
        layout.addWidget(label)
        layout.addWidget(self.exposure)
        layout.addSpacing(6)
        layout.addWidget(FoldingRow(view_buttons, layout.spacing()))
        layout.addSpacing(6)
        layout.addWidget(self.state, 1)
        layout.addSpacing(10)
        layout.addWidget(menu)


def _button(text: str, tip: str) -> Any:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setIconSize(QSize(14, 14))
    button.setMinimumWidth(80)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


def draw_icon(name: str, colour: str) -> Any:
    """Draw an icon: no image file, sharp at every resolution."""
    pixmap = QPixmap(56, 56)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    path = QPainterPath()
    if name == "start":
        path.moveTo(12, 6)
        path.lineTo(50, 28)
        path.lineTo(12, 50)
        path.closeSubpath()
    elif name == "stop":
        path.addRoundedRect(9, 9, 38, 38, 5, 5)
    elif name == "pause":
        path.addRoundedRect(11, 8, 12, 40, 3, 3)
        path.addRoundedRect(33, 8, 12, 40, 3, 3)
    elif name == "record":
        path.addEllipse(8, 8, 40, 40)
    else:
        path.addRoundedRect(4, 14, 48, 34, 7, 7)
        path.addRoundedRect(18, 7, 20, 12, 4, 4)
        path.setFillRule(Qt.FillRule.WindingFill)
        hole = QPainterPath()
        hole.addEllipse(18, 20, 20, 20)
        path = path.simplified().subtracted(hole)
    painter.drawPath(path)
    painter.end()
    return QIcon(pixmap)
