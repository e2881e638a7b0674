"""The live window: the controls of a session around the running picture.

Owns what a click asks of the session. The session does all work on its own thread; nothing here waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livescope.view.display import choose_binding, require_display

require_display()
choose_binding()  # before Qt is imported: without a display or its libraries Qt ends the process

from platformdirs import user_config_path  # noqa: E402
from qtpy.QtCore import QRectF, QTimer  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from livescope.acquire.changes import FullFrame  # noqa: E402
from livescope.calls import Viability  # noqa: E402
from livescope.errors import DisplayError, LivescopeError  # noqa: E402
from livescope.places import Place, places_in_plan  # noqa: E402
from livescope.status import SessionState, Status  # noqa: E402
from livescope.view.controls import ControlBar  # noqa: E402
from livescope.view.crashes import crashes_reported  # noqa: E402
from livescope.view.docks import DOCKS, DeviceDocks  # noqa: E402
from livescope.view.frame_window import FrameWindow  # noqa: E402
from livescope.view.garbage import collected_here  # noqa: E402
from livescope.view.interrupt import interruptible  # noqa: E402
from livescope.view.memory import WindowMemory  # noqa: E402
from livescope.view.monitor import monitoring  # noqa: E402
from livescope.view.region import roi_of_box  # noqa: E402
from livescope.view.theme import THEMES  # noqa: E402

if TYPE_CHECKING:
    from livescope.session import Session
    from livescope.view.start import StartPage

__all__ = ["MainWindow", "run_window", "show"]


class MainWindow(FrameWindow):
    """The live window of a session. Closing it stops its threads and timer; the session goes on until it is closed.

    Parameters
    ----------
    session
        The session to show and to drive.
    memory
        File in which the layout is remembered; None remembers nothing.
    """

    control_groups = ("Session", "Devices")
    moves_stage = True

    def __init__(self, session: Session, memory: Path | None = None) -> None:
        self.session = session
        self.docks: DeviceDocks | None = None
        self._planned: tuple[Path | None, dict[str, Place]] = (None, {})
        self._docks_left_open = WindowMemory(memory).names("docks")
        self._own_plan = session.settings.run.plan
        record = session.settings.record.path
        pictures = Path("runs") if record is None else record.parent
        super().__init__(session, session.settings.view, memory, pictures)

    def make_bar(self) -> Any:
        """Make the bar with start, stop, snap, record and exposure."""
        session, add = self.session, self.commands.add
        menu = self.commands.menu_button
        bar: Any = None
        add("Session", "Start or stop the live run", "Space", lambda: bar.run.click())
        add("Session", "Take one frame and call its cells", "S", lambda: bar.snap.click())
        add("Session", "Record, or end the record", "R", lambda: bar.record.click())
        add("Session", "Burst: so many frames without a gap", "B", lambda: bar.burst.click())
        add("Session", "Exposure", "E", lambda: bar.exposure.setFocus())
        self.region = add("Session", "Camera region: drag it on the picture", "G", self._ask_region, checked=False)
        self.full_frame = add("Session", "Full frame of the camera", "Shift+G", self._ask_full_frame)
        for name in DOCKS:
            add("Devices", name, "", partial(self.toggle_dock, name))
        bar = ControlBar(THEMES[self.theme_name], self.view_buttons(), menu())
        bar.start_asked.connect(self._start)
        bar.burst_asked.connect(lambda frames: session.burst(frames))
        bar.stop_asked.connect(lambda: session.stop())
        bar.snap_asked.connect(lambda: session.snap())
        bar.record_asked.connect(lambda on: session.start_recording() if on else session.stop_recording())
        bar.exposure_asked.connect(lambda ms: session.set_exposure(ms))
        return bar

    def view_buttons(self) -> list[Any]:
        """Buttons of the camera's region, and those of the picture."""
        region = [
            self.commands.button(action, name) for action, name in ((self.region, "ROI"), (self.full_frame, "Full"))
        ]
        return region + super().view_buttons()

    def _start(self) -> None:
        """Stream, or follow the plan of the config; a plan of the dock is started there."""
        self.session.set_plan(self._own_plan)
        self.session.start()

    def _ask_region(self, on: bool) -> None:
        if on and self.canvas.picture is None:
            self.tell("take a picture first: press Start or Snap")
            self.region.setChecked(False)
            return
        self.canvas.ask_box(self._set_region if on else None)
        if on:
            self.tell("drag a box on the picture; a click gives up")

    def _set_region(self, box: QRectF) -> None:
        self.region.setChecked(False)
        picture = self.canvas.picture
        region = None if picture is None else roi_of_box(box, picture.frame)
        if region is None:
            self.tell("no region set")
        else:
            self.tell(region.reason)
            self.session.change(region)

    def _ask_full_frame(self) -> None:
        self.session.change(FullFrame())

    def toggle_dock(self, name: str) -> None:
        """Show or hide a device dock, see `livescope.view.docks.DOCKS`."""
        from pymmcore_plus import CMMCorePlus

        core = self.session.core
        if not isinstance(core, CMMCorePlus):
            missing = "press Start or Snap first" if core is None else "this source has no devices"
            self.tell(f"{name}: {missing}")
            return
        if self.docks is None or self.docks.core.core is not core:
            self._close_docks()
            try:
                self.docks = DeviceDocks(self, core, self.session, self.tell)
            except ImportError as error:
                self.tell(f"{name}: needs pymmcore-widgets ({error}); run `pip install 'livescope[viewer]'`")
                return
        self.docks.toggle(name)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Let go of the core's devices as well; a dock that waits for one of them is waited for, with a live window."""
        if self.docks is not None and self.docks.core.waiting:
            event.ignore()
            self.tell("closing as soon as the device answers\u2026")
            QTimer.singleShot(100, self.close)
            return
        if self.docks is not None:
            self.memory.keep(docks=self.docks.visible)
        super().closeEvent(event)
        self._close_docks()

    def _close_docks(self) -> None:
        if self.docks is not None:
            self.docks.close()
            self.docks = None

    @property
    def busy(self) -> bool:
        """Whether a run or a record goes on."""
        status = self.session.status()
        return status.recording or status.state not in (SessionState.IDLE, SessionState.FAILED)

    def places(self) -> tuple[tuple[Place, ...], str | None]:
        """Return what the plan will visit, and what the run has seen of it."""
        frame = self.session.latest_frame()
        plan = self.session.settings.run.plan
        if plan != self._planned[0]:
            try:
                self._planned = plan, {} if plan is None else places_in_plan(plan)
            except LivescopeError:  # the run itself says what is wrong with its plan
                self._planned = plan, {}
        seen = dict(self.session.book.places)
        return tuple((self._planned[1] | seen).values()), None if frame is None else frame.position

    def go_to(self, place: Place) -> str:
        """Ask the session to move the stage."""
        from livescope.acquire.changes import Move

        settings, state = self.session.settings, self.session.status().state
        if place.x_um is None or place.y_um is None:
            return f"Nobody knows where {place.name} is on the stage."
        if settings.run.plan is not None and state not in (SessionState.IDLE, SessionState.FAILED):
            return "The plan moves the stage; stop the run first."
        self.session.change(Move(place.x_um, place.y_um, name=place.name))
        return ""

    def use_model(self, model: str) -> Future[None]:
        """Ask the session for another model."""
        return self.session.use_model(model)

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        """(seconds, viability) pairs for each named position."""
        return self.session.book.curves_by_place()

    def hint(self, status: Status) -> str:
        """Say what to do while there is no picture."""
        if status.busy:
            return f"{status.busy}\u2026"
        if status.state in (SessionState.IDLE, SessionState.FAILED):
            return "Press Start (Space) for live, Snap (S) for one frame"
        return "waiting for the first frame\u2026"

    def refresh(self) -> None:
        """Show the status of the session."""
        super().refresh()
        status = self.session.status()
        planned = self.session.settings.run.plan is not None
        self.bar.show_status(status, planned)
        if self.docks is not None:
            self.docks.show_status(status)
        if self._docks_left_open and self.session.core is not None:
            names, self._docks_left_open = self._docks_left_open, []
            for name in names:
                self.toggle_dock(name)
            self.memory.restore_docks(self)
        record = status.record
        self.place.setText("" if record is None else f"record  {record}")


def application() -> Any:
    """Return the Qt application, made if there is none."""
    require_display()  # the display may have gone since this module was imported, and Qt would abort the process
    app = QApplication.instance() or QApplication(sys.argv[:1])
    app.setApplicationName("livescope")
    return app


@contextmanager
def _prompt() -> Iterator[None]:
    """Let a busy thread hand over the interpreter after 1 ms instead of 5: ticks within 41 ms instead of 62 (95 %)."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_window(window: FrameWindow | StartPage) -> int:
    """Show a window until it is closed, by hand, Ctrl-C or SIGTERM; returns the exit code."""
    window.set_theme(window.theme_name)
    with crashes_reported(window), interruptible() as signals, _prompt():
        window.show()
        code = int(QApplication.instance().exec())
    return signals[0] if signals else code


@contextmanager
def _monitored(session: Session, window: MainWindow) -> Iterator[None]:
    """Serve the page for browsers that the session's settings ask for; the window says where, or why not."""
    with ExitStack() as page:
        try:
            monitor = page.enter_context(monitoring(session, session.settings.view.monitor))
        except DisplayError as error:  # e.g. the port is taken; that ends no run at a microscope
            window.errors.append(str(error))
        else:
            if monitor is not None:
                window.tell(f"monitor: {monitor.url}")
                print(f"monitor: {monitor.url}", flush=True)
        yield


def show(session: Session) -> int:
    """Open the window on a session, start it, and go on with what is opened in its place; returns when it is closed.

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
    from livescope.session import Session

    application()
    with collected_here(), ExitStack() as others:
        while True:
            window = MainWindow(session, user_config_path("livescope") / "window.ini")
            with _monitored(session, window):
                session.start()
                code = run_window(window)
            if window.opening.wanted is None:
                return code
            session.close()
            session = others.enter_context(Session(window.opening.wanted))
