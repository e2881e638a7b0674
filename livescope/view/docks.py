"""Docks with the devices of the microscope: stage, shutters, channels, properties and more, from pymmcore-widgets.

Owns where and when they are made: each on first use, in a scroll area, since several are wider than half a screen. What
they do is theirs; they talk to the core directly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QScrollArea

from livescope.errors import DisplayError
from livescope.view.icons import use_bundled_icons

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

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
    "Acquisition plan": ("MDAWidget", "Positions, times, channels, z: a useq plan"),
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
    """

    def __init__(self, window: QMainWindow, core: CMMCorePlus) -> None:
        self._window, self._core = window, core
        self._docks: dict[str, Any] = {}

    @property
    def core(self) -> CMMCorePlus:
        """Whose devices these are."""
        return self._core

    def toggle(self, name: str) -> Any:
        """Show a dock or hide it; returns it.

        Raises
        ------
        DisplayError
            pymmcore-widgets is not installed, or the devices of this core do not suit the widget.
        """
        dock = self._docks.get(name)
        if dock is None:
            dock = self._make(name)
            self._docks[name] = dock
        else:
            dock.setVisible(not dock.isVisible())
        return dock

    def close(self) -> None:
        """Let go of the core: widgets are deleted, so that nothing of them is called when it is closed."""
        for dock in self._docks.values():
            self._window.removeDockWidget(dock)
            dock.widget().takeWidget().deleteLater()
            dock.deleteLater()
        self._docks.clear()

    def _make(self, name: str) -> Any:
        widget_name, tip = DOCKS[name]
        QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
        try:
            widget = _device_widget(widget_name, self._core)
        finally:
            QApplication.restoreOverrideCursor()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(widget)
        dock = QDockWidget(name, self._window)
        dock.setObjectName(f"dock {name}")
        dock.setToolTip(tip)
        dock.setWidget(scroll)
        self._window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        others = [other for other in self._docks.values() if other.isVisible() and not other.isFloating()]
        if others:  # one place for all of them: the picture keeps its size
            self._window.tabifyDockWidget(others[-1], dock)
            dock.show()
            dock.raise_()
        else:
            dock.show()
            self._window.resizeDocks([dock], [_WIDTH_PX], Qt.Orientation.Horizontal)
        return dock


def _device_widget(name: str, core: CMMCorePlus) -> Any:
    try:
        use_bundled_icons()
        widgets = importlib.import_module("pymmcore_widgets")
    except ImportError as error:
        raise DisplayError(
            f"the device docks need pymmcore-widgets ({error}). Install them with `pip install 'livescope[viewer]'`."
        ) from None
    if name == "StageWidget":
        return _stages(widgets, core)
    if name == "ShuttersWidget":
        return _shutters(widgets, core)
    make = getattr(widgets, name)
    return make(mmcore=core)


def _stages(widgets: Any, core: CMMCorePlus) -> Any:
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    labels = [label for label in (core.getXYStageDevice(), core.getFocusDevice()) if label]
    if not labels:
        raise DisplayError("this configuration has no stage; add one in Micro-Manager's hardware configuration wizard.")
    body = QWidget()
    layout = QVBoxLayout(body)
    for label in labels:
        layout.addWidget(widgets.StageWidget(label, mmcore=core))
    layout.addStretch(1)
    return body


def _shutters(widgets: Any, core: CMMCorePlus) -> Any:
    from pymmcore_plus import DeviceType
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    labels = core.getLoadedDevicesOfType(DeviceType.ShutterDevice)
    if not labels:
        raise DisplayError("this configuration has no shutter.")
    body = QWidget()
    layout = QVBoxLayout(body)
    for label in labels:
        layout.addWidget(widgets.ShuttersWidget(label, mmcore=core))
    layout.addStretch(1)
    return body
