"""The window: puts picture, side panel, controls and banner together and keeps them up to date.

Owns the render thread and one timer, both ended at close. The session does all work; nothing here waits for it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from livescope.view.display import choose_binding, require_display

require_display()
choose_binding()  # before Qt is imported: without a display or its libraries Qt ends the process

from qtpy.QtCore import Qt, QTimer, Signal  # noqa: E402
from qtpy.QtGui import QKeySequence, QShortcut  # noqa: E402
from qtpy.QtWidgets import (  # noqa: E402
    QApplication,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from livescope.view.canvas import Canvas  # noqa: E402
from livescope.view.controls import Banner, ControlBar  # noqa: E402
from livescope.view.readouts import SidePanel  # noqa: E402
from livescope.view.render import RenderThread  # noqa: E402
from livescope.view.theme import THEMES, apply_theme  # noqa: E402

if TYPE_CHECKING:
    from livescope.session import Session

__all__ = ["MainWindow", "show"]

_STATUS_MS = 200
_CURVE_EVERY = 5
"""The curve is drawn every fifth status: it changes slowly."""


class MainWindow(QMainWindow):
    """The live window of a session. Closing it stops its thread and timer; the session goes on until it is closed."""

    _picture_ready = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._crashes: list[str] = []
        self._ticks = 0
        view = session.settings.view
        theme = THEMES[view.theme]
        self.bar = ControlBar(theme)
        self.banner = Banner()
        self.canvas = Canvas(session.mark_shown, theme)
        self.side = SidePanel(theme)
        self._pixel, self._record = QLabel(), QLabel()
        self.setWindowTitle("livescope")
        self.resize(1280, 800)
        self._lay_out()
        self._connect()
        self.bar.outlines.setChecked(view.outlines)
        self.bar.rings.setChecked(view.rings)
        self.render_thread = RenderThread(session, self._picture_ready.emit, view.rate_fps)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._refresh)
        self._refresh()
        self._timer.start(_STATUS_MS)
        self.render_thread.start()
        self.canvas.setFocus()

    def report_crash(self, text: str) -> None:
        """Put an error of the window itself on the banner."""
        self._crashes.append(text)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """End the timer and the thread before anything they use goes."""
        self._timer.stop()
        self.render_thread.stop()
        super().closeEvent(event)

    def _lay_out(self) -> None:
        scroll = QScrollArea()
        scroll.setObjectName("sideScroll")
        scroll.setWidget(self.side)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(330)
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.addWidget(self.canvas)
        splitter.addWidget(scroll)
        splitter.setStretchFactor(0, 1)
        splitter.setSizes([940, 340])
        splitter.setChildrenCollapsible(False)
        status = QWidget()
        status.setObjectName("status")
        status.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        line = QHBoxLayout(status)
        line.setContentsMargins(12, 4, 12, 4)
        line.addWidget(self._pixel)
        line.addStretch(1)
        line.addWidget(self._record)
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget, stretch in ((self.bar, 0), (self.banner, 0), (splitter, 1), (status, 0)):
            column.addWidget(widget, stretch)
        self.setCentralWidget(body)

    def _connect(self) -> None:
        session, bar = self.session, self.bar
        bar.start_asked.connect(lambda: session.start())
        bar.stop_asked.connect(lambda: session.stop())
        bar.snap_asked.connect(lambda: session.snap())
        bar.record_asked.connect(lambda on: session.start_recording() if on else session.stop_recording())
        bar.exposure_asked.connect(lambda ms: session.set_exposure(ms))
        bar.outlines.toggled.connect(self._show_parts)
        bar.rings.toggled.connect(self._show_parts)
        bar.overlay.toggled.connect(self._show_parts)
        bar.fit.clicked.connect(self.canvas.fit)
        self.canvas.read_out.connect(self._pixel.setText)
        self._picture_ready.connect(self._take_picture, Qt.ConnectionType.QueuedConnection)
        for key, act in (
            ("Space", bar.run.click),
            ("S", bar.snap.click),
            ("R", bar.record.click),
            ("O", bar.outlines.toggle),
            ("M", bar.rings.toggle),
            ("H", bar.overlay.toggle),
            ("F", self.canvas.fit),
            ("1", self.canvas.actual_size),
            ("E", bar.exposure.setFocus),
            ("F11", self._toggle_full_screen),
        ):
            QShortcut(QKeySequence(key), self).activated.connect(act)

    def _take_picture(self) -> None:
        picture = self.render_thread.take()
        if picture is not None:
            self.canvas.show_picture(picture)

    def _show_parts(self) -> None:
        calls = self.canvas.calls
        calls.setVisible(self.bar.overlay.isChecked())
        calls.outlines, calls.rings = self.bar.outlines.isChecked(), self.bar.rings.isChecked()
        calls.update()

    def _toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def _refresh(self) -> None:
        """Show the session's status; every figure on the window but the picture comes from here."""
        status, analysis = self.session.status(), self.session.latest_analysis()
        frame = self.session.latest_frame()
        self.bar.show_status(status)
        self.side.show_status(status, analysis, None if frame is None else frame.index)
        self.side.show_viability(None if analysis is None else analysis.viability)
        if self._ticks % _CURVE_EVERY == 0:
            self.side.show_curve(self.session.viability_curve())
        self._ticks += 1
        own = (*self._crashes, *filter(None, (self.render_thread.failure,)))
        reason = (status.reason,) if status.state == "failed" and status.reason and not status.errors else ()
        self.banner.show_messages((*status.errors, *reason, *own), status.warnings)
        self._record.setText("" if status.record is None else f"record  {status.record}")
        if self.canvas.picture is None:
            hint = f"{status.busy}\u2026" if status.busy else "Press Start (Space) for live, Snap (S) for one frame"
            if hint != self.canvas.hint:
                self.canvas.hint = hint
                self.canvas.viewport().update()


@contextmanager
def _crashes_reported(window: MainWindow) -> Iterator[None]:
    """Show what a slot of the window raises on its banner, and on stderr; without this it would be lost or fatal."""
    before = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        window.report_crash("".join(traceback.format_exception_only(kind, error)).strip())
        before(kind, error, trace)

    sys.excepthook = report
    try:
        yield
    finally:
        sys.excepthook = before


def show(session: Session) -> int:
    """Open the window on a session, start it, and return when the window is closed.

    Parameters
    ----------
    session
        Not started; it is left running or idle as the user left it, and closed by the caller.

    Returns
    -------
    int
        Exit code of the event loop, 0 when the user closed the window.

    Raises
    ------
    DisplayError
        There is no display, or Qt is not installed.
    """
    require_display()  # again: it may have gone since this module was imported, and Qt would end the process
    app = QApplication.instance() or QApplication(sys.argv[:1])
    app.setApplicationName("livescope")
    apply_theme(app, THEMES[session.settings.view.theme])
    window = MainWindow(session)
    with _crashes_reported(window):
        window.show()
        session.start()
        return int(app.exec())
