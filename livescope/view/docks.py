"""Docks with the devices of the microscope: stage, shutters, channels, properties and more, from pymmcore-widgets.

Owns where and when they are made: each on first use, in a scroll area, since several are wider than half a screen, and
once the devices have been read, which takes a microscope seconds. What they do is theirs; they talk to a `WidgetCore`,
so that no slow device can hold up the window.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QProgressBar, QScrollArea, QVBoxLayout, QWidget

from livescope.errors import DisplayError, LivescopeError
from livescope.status import Status
from livescope.view.icons import use_bundled_icons

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from livescope.session import Session
    from livescope.view.widget_core import WidgetCore

__all__ = ["DOCKS", "DeviceDocks"]

DOCKS: dict[str, tuple[str, str]] = {
    "Stage": ("StageWidget", "XY stage and focus, step by step"),
    "Presets": ("GroupPresetTableWidget", "Configuration groups and their presets"),
    "Channel": ("ChannelWidget", "Channel preset"),
    "Objective": ("ObjectivesWidget", "Objective"),
    "Shutters": ("ShuttersWidget", "Shutters"),
    "Camera ROI": ("CameraRoiWidget", "Region of interest of the camera"),
    "Pixel size": ("PixelConfigurationWidget", "Pixel size of each objective"),
    "Device properties": ("PropertyBrowser", "Every property of every device"),
    "Acquisition plan": ("MDAWidget", "Positions, tiles, times, channels: a useq plan"),
    "Core log": ("CoreLogWidget", "What Micro-Manager writes"),
}
"""Name of a dock, its widget in pymmcore-widgets, and what it is for."""

_WIDTH_PX = 340


class DeviceDocks:
    """The device docks of a window, made when they are first opened.

    Parameters
    ----------
    window
        Where they dock.
    core
        The open core.
    session
        Carries out what is asked.
    tell
        Shows a line of text.
    """

    def __init__(self, window: QMainWindow, core: CMMCorePlus, session: Session, tell: Callable[[str], None]) -> None:
        self._window, self._session, self._tell = window, session, tell
        self._docks: dict[str, _Dock] = {}
        use_bundled_icons()
        from livescope.view.widget_core import WidgetCore

        self.core = WidgetCore(core, session, self._show_busy)
        """Whose devices these are, as widgets see it."""

    def toggle(self, name: str) -> Any:
        """Show a dock or hide it; returns it. A new one is empty until the devices have been read."""
        dock = self._docks.get(name)
        if dock is None:
            dock = self._docks[name] = _Dock(name, DOCKS[name][1], self._window)
            self._place(dock)
            self.core.gather(partial(self._fill, name))
        else:
            dock.setVisible(not dock.isVisible())
        return dock

    def content(self, name: str) -> Any:
        """Return the widget in a dock, None before it is made."""
        return self._docks[name].content if name in self._docks else None

    @property
    def visible(self) -> list[str]:
        """Names of the docks that are open."""
        return [name for name, dock in self._docks.items() if not dock.isHidden()]

    def show_status(self, status: Status) -> None:
        """Let the plan's buttons be as the session is."""
        plan = self.content("Acquisition plan")
        if plan is not None:
            plan.show_status(status)

    def close(self) -> None:
        """Let go of the core: widgets are deleted, so that nothing of them is called when it is closed."""
        self.core.close()
        for dock in self._docks.values():
            self._window.removeDockWidget(dock)
            dock.empty()
            dock.deleteLater()
        self._docks.clear()

    def _fill(self, name: str) -> None:
        """Make the widget of a dock, now that the devices are known; making it sets nothing."""
        dock = self._docks.get(name)
        if dock is None:  # closed meanwhile
            return
        self.core.building = True
        try:
            dock.fill(_device_widget(DOCKS[name][0], self.core, self._session))
        except LivescopeError as error:  # a microscope without such a device is no failure
            self._tell(f"{name}: {error}")
            self._window.removeDockWidget(self._docks.pop(name))
            dock.deleteLater()
        finally:
            self.core.building = False

    def _show_busy(self, commands: int) -> None:
        for dock in self._docks.values():
            dock.busy.setVisible(commands > 0)

    def _place(self, dock: _Dock) -> None:
        self._window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        others = [
            other
            for other in self._docks.values()
            if other is not dock and other.isVisible() and not other.isFloating()
        ]
        if others:  # one place for all of them: the picture keeps its size
            self._window.tabifyDockWidget(others[-1], dock)
            dock.show()
            dock.raise_()
        else:
            dock.show()
            self._window.resizeDocks([dock], [_WIDTH_PX], Qt.Orientation.Horizontal)


class _Dock(QDockWidget):
    """A dock whose content comes later; a moving line at its top says that a device is not done yet."""

    def __init__(self, name: str, tip: str, window: QMainWindow) -> None:
        super().__init__(name, window)
        self.setObjectName(f"dock {name}")
        self.setToolTip(tip)
        self.content: Any = None
        self.busy = QProgressBar()
        self.busy.setRange(0, 0)
        self.busy.setTextVisible(False)
        self.busy.setFixedHeight(4)
        self.busy.setAccessibleName("A device is busy")
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setWidget(_note("reading the devices\u2026"))
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.busy)
        column.addWidget(self._scroll)
        self.setWidget(body)

    def fill(self, content: Any) -> None:
        """Show a widget."""
        self.content = content
        self._scroll.setWidget(content)
        self.busy.hide()

    def empty(self) -> None:
        """Give the widget up."""
        self.content = None
        self._scroll.takeWidget().deleteLater()


def _note(text: str) -> Any:
    label = QLabel(text)
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    return label


def _device_widget(name: str, core: WidgetCore, session: Session) -> Any:
    try:
        widgets = importlib.import_module("pymmcore_widgets")
    except ImportError as error:
        raise DisplayError(
            f"the device docks need pymmcore-widgets ({error}). Install them with `pip install 'livescope[viewer]'`."
        ) from None
    if name == "StageWidget":
        return _stages(widgets, core)
    if name == "ShuttersWidget":
        return _shutters(widgets, core)
    if name == "MDAWidget":
        from livescope.view.plan import PlanWidget

        return PlanWidget(core, session)
    make = getattr(widgets, name)
    return make(mmcore=core)


def _stages(widgets: Any, core: WidgetCore) -> Any:
    labels = [label for label in (core.getXYStageDevice(), core.getFocusDevice()) if label]
    if not labels:
        raise DisplayError("this configuration has no stage; add one in Micro-Manager's hardware configuration wizard.")
    body = QWidget()
    layout = QVBoxLayout(body)
    for label in labels:
        layout.addWidget(widgets.StageWidget(label, mmcore=core))
    layout.addStretch(1)
    return body


def _shutters(widgets: Any, core: WidgetCore) -> Any:
    from pymmcore_plus import DeviceType

    labels = core.getLoadedDevicesOfType(DeviceType.ShutterDevice)
    if not labels:
        raise DisplayError("this configuration has no shutter.")
    body = QWidget()
    layout = QVBoxLayout(body)
    for label in labels:
        layout.addWidget(widgets.ShuttersWidget(label, mmcore=core))
    layout.addStretch(1)
    return body
