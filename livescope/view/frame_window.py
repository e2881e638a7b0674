"""The window around a picture: canvas, side panel, banner, menu, help; for a live session and for a recorded run alike.

Owns the render thread, one timer and one helper thread, all ended at close, and what is remembered between two starts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QHBoxLayout, QLabel, QMainWindow, QScrollArea, QSplitter, QVBoxLayout, QWidget

from livescope.calls import Analysis, State, Viability
from livescope.errors import LivescopeError
from livescope.frames import Frame
from livescope.places import Place
from livescope.settings import Settings, ViewSettings
from livescope.status import Status
from livescope.view.actions import Actions, HelpSheet
from livescope.view.banner import Banner
from livescope.view.canvas import Canvas
from livescope.view.clip import Clip
from livescope.view.correct import CorrectedFeed
from livescope.view.correcting import CorrectingMode
from livescope.view.elided import ElidedLabel
from livescope.view.levels import LevelsPlate
from livescope.view.memory import WindowMemory
from livescope.view.opening import Opening
from livescope.view.picture import save_picture
from livescope.view.plate_map import MapDock
from livescope.view.readouts import SidePanel
from livescope.view.render import Contrast, RenderThread
from livescope.view.teaching import Teaching
from livescope.view.theme import THEMES, apply_theme

__all__ = ["FrameWindow", "Shown"]

_SIZE = QSize(1280, 800)
"""Where the screen is that large."""
_STATUS_MS = 200
_CURVE_EVERY = 5
"""The curve is drawn every fifth status: it changes slowly."""
_GESTURES = (
    ("wheel", "Zoom at the mouse"),
    ("drag", "Pan"),
    ("double click", "Fit the picture"),
    ("hover", "Pixel, grey value and cell"),
    ("click on a count", "Show or hide that class"),
)


class Shown(Protocol):
    """What a window shows: a session, or a recorded run that is played. Every method is cheap."""

    def status(self) -> Status:
        """Everything about this instant."""

    def latest_frame(self) -> Frame | None:
        """Newest frame."""

    def latest_analysis(self) -> Analysis | None:
        """Newest analysed frame."""

    def record_of(self, frame: Frame) -> Path | None:
        """Record that holds a frame, None if none does."""

    def viability_curve(self) -> list[tuple[float, Viability]]:
        """(seconds, viability) pairs."""

    def mark_shown(self, frame: Frame) -> None:
        """Count a painted frame."""

    @property
    def settings(self) -> Settings:
        """What the run was told."""


class FrameWindow(QMainWindow):
    """A window on what is `Shown`. Subclasses put their controls into the bar.

    Parameters
    ----------
    shown
        What to show.
    view
        Theme, rate, and what is drawn; what is set there wins over what is remembered.
    memory
        File in which layout, theme and switches are remembered; None remembers nothing.
    pictures
        Folder for saved pictures.
    """

    control_groups: tuple[str, ...] = ()
    """Headings of the subclass's own actions."""
    moves_stage = False
    """Whether going to a place moves a stage."""

    _picture_ready = Signal()
    _told = Signal(str)

    def __init__(self, shown: Shown, view: ViewSettings, memory: Path | None, pictures: Path) -> None:
        super().__init__()
        self.shown = shown
        self.errors: list[str] = []
        """What went wrong in the window itself; shown on the banner."""
        self.memory = WindowMemory(memory)
        self._pictures = pictures
        self._ticks = 0
        self._view = view
        self.theme_name = view.theme if "theme" in view.model_fields_set else self.memory.text("theme", view.theme)
        if self.theme_name not in THEMES:  # a file of another version
            self.theme_name = view.theme
        theme = THEMES[self.theme_name]
        self.banner = Banner()
        self.canvas = Canvas(shown.mark_shown, theme)
        self.levels = LevelsPlate(self.canvas)
        self.canvas.corner = self.levels
        self.levels.hide()  # until there is a picture
        self.side = SidePanel(theme)
        self.commands = Actions(self, (*self.control_groups, "Calls", "Corrections", "Picture", "Window"))
        self._pixel, self._message = QLabel(), ElidedLabel()
        self.place = ElidedLabel()
        """What is written or read, at the bottom right."""
        self.setWindowTitle("livescope")
        self.resize(_SIZE.boundedTo(self.screen().availableGeometry().size()))
        self.feed = CorrectedFeed(shown, shown.settings.detector.border)
        self._add_actions()
        self.correcting = CorrectingMode(
            self.canvas,
            self.feed,
            self.commands,
            shown.record_of,
            lambda: shown.status().recording,
            self.tell,
            self.errors.append,
            lambda write: self._guarded("saving a correction", write),
        )
        self.teaching = Teaching(self)
        self.opening = Opening(self)
        self.clip = Clip(self)
        self.map = MapDock(self, theme, self.go_to, self.moves_stage)
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, self.map)
        self.map.hide()
        self.commands.add("Window", "Map of positions", "P", lambda: self.map.setVisible(not self.map.isVisible()))
        self.bar = self.make_bar()
        self._lay_out()
        self._connect()
        self._apply()
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="livescope-window")
        self.render_thread = RenderThread(self.feed, self._picture_ready.emit, view.rate_fps)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)
        self.canvas.step_changed.connect(self._set_step)
        self.refresh()
        self._timer.start(_STATUS_MS)
        self.render_thread.start()
        self.canvas.setFocus()

    # ---- for subclasses --------------------------------------------------------------------------------------------

    def make_bar(self) -> Any:
        """Make the widget above the picture; `view_buttons` belong at its end."""
        raise NotImplementedError

    def view_buttons(self) -> list[Any]:
        """Buttons of the picture, for the bar."""
        names = {
            self.overlay: "Calls",
            self.outlines: "Outlines",
            self.markers: "Markers",
            self.trails: "Trails",
            self.fit: "Fit",
        }
        return [self.commands.button(action, name) for action, name in names.items()]

    def record_path(self) -> Path | None:
        """Folder of the record that is written or shown, None if there is none."""
        return self.shown.status().record

    @property
    def busy(self) -> bool:
        """Whether closing the window ends something that a user may want to go on."""
        return False

    def places(self) -> tuple[tuple[Place, ...], str | None]:
        """Return the places of the run, and the name of the one that is shown."""
        return (), None

    def go_to(self, place: Place) -> str:
        """Go to a place; returns why not, empty if it is on its way."""
        return f"{place.name} cannot be gone to"

    def use_model(self, model: str) -> Future[None] | str:
        """Have cells called by another model: done in the background, or said how it is done."""
        return f"Use it in a live run: livescope run CONFIG --set detector.model={model}"

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        """(seconds, viability) pairs for each named position."""
        return {}

    def hint(self, status: Status) -> str:
        """Say what to do while there is no picture."""
        return status.busy or ""

    def refresh(self) -> None:
        """Show the status; every figure on the window but the picture comes from here."""
        status, analysis, frame = self.shown.status(), self.feed.latest_analysis(), self.feed.latest_frame()
        self.side.show_status(status, analysis, frame)
        self.side.show_cells(analysis)
        self.side.curve_note.setVisible(bool(self.feed.standing))
        if self._ticks % _CURVE_EVERY == 0:
            self.side.show_curve(self.shown.viability_curve(), self.curves_by_place())
        self._ticks += 1
        own = (*self.errors, *filter(None, (self.render_thread.failure,)))
        reason = (status.reason,) if status.state == "failed" and status.reason and not status.errors else ()
        self.banner.show_messages((*status.errors, *reason, *own), status.warnings)
        if self.map.isVisible():
            self.map.map.show_places(*self.places())
        if self.canvas.picture is None:
            self.canvas.set_hint(self.hint(status))

    def report(self, text: str, trace: str) -> None:
        """Show an error on the banner, its traceback among the details to copy. Any thread."""
        self.banner.details.append(trace)
        self.errors.append(text)

    @property
    def message(self) -> str:
        """The line at the bottom of the window."""
        return str(self._message.text())

    def tell(self, text: str) -> None:
        """Show a line at the bottom of the window. Any thread."""
        self._told.emit(text)

    def in_background(self, what: str, do: Callable[[], str]) -> Future[None]:
        """Do something slow in the helper thread and tell what it returns; what it raises goes to the banner."""
        self.tell(f"{what}\u2026")
        return self._guarded(what, lambda: self.tell(do()))

    def _guarded(self, what: str, do: Callable[[], None]) -> Future[None]:
        def run() -> None:
            try:
                do()
            except LivescopeError as error:
                self.errors.append(f"{what}: {error}")
            except Exception as error:  # noqa: BLE001 - boundary of the helper thread
                self.errors.append(f"{what}: {type(error).__name__}: {error}")

        return self._helper.submit(run)

    # ---- what the user does ----------------------------------------------------------------------------------------

    def save_picture(self) -> Future[None] | None:
        """Write the newest analysed frame, or the one that is held, with its calls as PNG into the pictures' folder."""
        analysis = self.feed.latest_analysis()
        if analysis is None:
            self.tell("no analysed frame to save yet")
            return None
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        path = self._pictures / f"livescope-{stamp}-frame{analysis.frame.index}.png"

        def write() -> str:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(path, analysis)
            return f"saved {path}"

        return self.in_background("saving the picture", write)

    def set_theme(self, name: str) -> None:
        """Change all colours: ``"dark"`` or ``"light"``."""
        self.theme_name = name
        theme = THEMES[name]
        apply_theme(QApplication.instance(), theme)
        self.canvas.set_theme(theme)
        self.side.set_theme(theme)
        self.bar.set_theme(theme)
        self.map.map.set_theme(theme)

    def show_help(self) -> None:
        """Open the page of shortcuts."""
        HelpSheet(self.commands, _GESTURES, self).show()

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Stay as wide as the bar, whose width is known now; the layout of a main window does not ask it."""
        super().showEvent(event)
        self.setMinimumWidth(max(part.minimumSizeHint().width() for part in (self.bar, self.centralWidget())))

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """End timer and threads before anything they use goes; remember the layout."""
        for part in (self.teaching, self.opening, self.clip):
            part.close()
        self._timer.stop()
        self.render_thread.stop()
        self._helper.shutdown(wait=True)
        self._remember()
        super().closeEvent(event)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _add_actions(self) -> None:
        add, view = self.commands.add, self._view
        told, on = view.model_fields_set, self.memory.switch
        outlines = view.outlines if "outlines" in told else on("outlines", True)
        rings = view.rings if "rings" in told else on("rings", True)
        self.overlay = add("Calls", "Show the calls", "H", lambda _: self._apply(), checked=True)
        self.outlines = add("Calls", "Outlines of the cells", "O", lambda _: self._apply(), checked=outlines)
        self.markers = add("Calls", "Marker at the centre of each cell", "M", lambda _: self._apply(), checked=rings)
        self.trails = add(
            "Calls", "Trail of each tracked cell", "J", lambda _: self._apply(), checked=on("trails", False)
        )
        self.ids = add("Calls", "Number of each tracked cell", "I", lambda _: self._apply(), checked=on("ids", False))
        for state in State:
            switch = self.side.cells.counts[state]
            add("Calls", f"Show or hide {state.label} cells", state.label[0].upper(), switch.toggle)
        self.fit = add("Picture", "Fit the whole picture", "F", self.canvas.fit)
        add("Picture", "One camera pixel on one screen pixel", "1", self.canvas.actual_size)
        self.freeze = add("Picture", "Hold the picture", "Z", self._hold, checked=False)
        self.show_levels = add(
            "Picture", "Contrast plate", "C", lambda _: self._show_levels(), checked=on("levels", True)
        )
        add("Picture", "Automatic contrast", "A", lambda: self._set_contrast(Contrast()))
        add("Picture", "Full screen", "F11", self._toggle_full_screen)
        add("Window", "Save the picture with its calls", "Ctrl+S", self.save_picture)
        add("Window", "Dark or light", "T", lambda: self.set_theme("light" if self.theme_name == "dark" else "dark"))
        add("Window", "Shortcuts", "F1", self.show_help)
        add("Window", "Close", "Ctrl+W", self.close)

    def _lay_out(self) -> None:
        scroll = QScrollArea()
        scroll.setObjectName("sideScroll")
        scroll.setWidget(self.side)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(330)
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        self._splitter.addWidget(self.canvas)
        self._splitter.addWidget(scroll)
        self._splitter.setStretchFactor(0, 1)
        self._splitter.setSizes([940, 340])
        self._splitter.setChildrenCollapsible(False)
        status = QWidget()
        status.setObjectName("status")
        status.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        line = QHBoxLayout(status)
        line.setContentsMargins(12, 4, 12, 4)
        line.addWidget(self._pixel)
        line.addStretch(1)
        line.addWidget(self._message)
        line.addSpacing(18)
        line.addWidget(self.place)
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget, stretch in ((self.banner, 0), (self._splitter, 1), (status, 0)):
            column.addWidget(widget, stretch)
        self.setCentralWidget(body)
        self.setMenuWidget(self.bar)  # above the docks: beside one the bar would make the window wider
        self.memory.restore(self, self._splitter)

    def _connect(self) -> None:
        self.side.cells.state_toggled.connect(self.canvas.show_state)
        for label in self.memory.names("hidden"):
            self.side.cells.counts[State[label.upper()]].setChecked(False)
        self.levels.contrast_asked.connect(self._set_contrast)
        self.canvas.read_out.connect(self._pixel.setText)
        self._told.connect(self._message.setText)
        self._picture_ready.connect(self._take_picture, Qt.ConnectionType.QueuedConnection)

    def _hold(self, on: bool) -> None:
        if on and self.canvas.picture is None:
            self.freeze.setChecked(False)
            self.tell("no picture to hold yet")
            return
        self.feed.hold(on)
        self.canvas.set_note("held (Z)" if on else "")

    def _take_picture(self) -> None:
        picture = self.render_thread.take()
        if picture is not None:
            self.canvas.show_picture(picture)
            self._show_levels()
            if self.levels.isVisible():
                self.levels.show_picture(picture, self.render_thread.contrast)

    def _set_contrast(self, contrast: Contrast) -> None:
        self.render_thread.contrast = contrast

    def _show_levels(self) -> None:
        self.levels.setVisible(self.show_levels.isChecked() and self.canvas.picture is not None)

    def _set_step(self, step: int) -> None:
        self.render_thread.step = step

    def _apply(self) -> None:
        calls = self.canvas.calls
        calls.setVisible(self.overlay.isChecked())
        calls.outlines, calls.rings = self.outlines.isChecked(), self.markers.isChecked()
        calls.trails, calls.ids = self.trails.isChecked(), self.ids.isChecked()
        calls.update()

    def _toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def _remember(self) -> None:
        switches = {name: action.isChecked() for name, action in self._remembered().items()}
        hidden = [state.label for state in State if not self.side.cells.counts[state].isChecked()]
        self.memory.keep(theme=self.theme_name, hidden=hidden, **switches)
        self.memory.keep_layout(self, self._splitter)

    def _remembered(self) -> dict[str, Any]:
        """Switches that are found again as they were left. That all calls are hidden is not: it would puzzle."""
        return {
            "outlines": self.outlines,
            "rings": self.markers,
            "trails": self.trails,
            "ids": self.ids,
            "levels": self.show_levels,
        }
