"""Device docks on the demo microscope, with the network cut."""

from __future__ import annotations

import logging
import socket
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import useq
from pymmcore_plus.experimental.unicore import XYStageDevice
from pymmcore_widgets import PropertyWidget, StageWidget
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QMessageBox

from livescope.acquire.changes import Preset, Property, Roi
from livescope.acquire.core import close_core, open_core
from livescope.acquire.planned import load_plan
from livescope.errors import AcquisitionError
from livescope.session import Session
from livescope.settings import CameraSettings, Settings, SourceSettings
from livescope.status import SessionState
from livescope.view.docks import DOCKS
from livescope.view.icons import svg_path
from livescope.view.widget_core import DeviceCall
from livescope.view.window import MainWindow


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for something")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def core() -> Iterator[Any]:
    core = open_core(SourceSettings(kind="demo"), CameraSettings())
    yield core
    close_core(core)


@pytest.fixture
def window(qtbot: Any, scripted: Any, core: Any) -> Iterator[MainWindow]:
    scripted.core = core
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    yield window
    window.close()


def _open(qtbot: Any, window: MainWindow, name: str) -> Any:
    window.toggle_dock(name)
    qtbot.waitUntil(lambda: window.docks.content(name) is not None, timeout=60_000)
    return window.docks.content(name)


@pytest.mark.usefixtures("no_network")
def test_every_dock_opens_offline_with_all_icons(
    qtbot: Any, window: MainWindow, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "livescope.view.icons"):
        for name in DOCKS:
            _open(qtbot, window, name)
    assert window.errors == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("livescope")] == []
    assert window.canvas.width() >= window.canvas.minimumWidth()


def test_docks_are_made_once_and_toggled(qtbot: Any, window: MainWindow) -> None:
    _open(qtbot, window, "Stage")
    dock = window.docks.toggle("Stage")
    assert not dock.isVisible()
    assert window.docks.toggle("Stage") is dock
    assert dock.isVisible()


def test_opening_docks_sets_nothing(qtbot: Any, window: MainWindow, scripted: Any, core: Any) -> None:
    core.setPosition(30.0)  # pymmcore-widgets' objective widget drives the focus to 0 and back when it is made
    for name in ("Objective", "Channel", "Presets", "Stage"):
        _open(qtbot, window, name)
    assert scripted.asked == []
    assert core.getPosition() == 30.0


def test_what_a_dock_sets_is_a_change_of_the_session(qtbot: Any, window: MainWindow, scripted: Any, core: Any) -> None:
    stage = _open(qtbot, window, "Stage").findChildren(StageWidget)[0]
    stage._move_btns.moveRequested.emit(10.0, 0.0)
    _open(qtbot, window, "Channel").findChildren(QComboBox)[0].setCurrentText("FITC")
    window.docks.core.setROI("Camera", 10, 20, 64, 48)
    browser = _open(qtbot, window, "Device properties")
    (binning,) = [w for w in browser.findChildren(PropertyWidget) if (w._device, w._prop) == ("Camera", "Binning")]
    binning.setValue("2")
    changes = [change for kind, change in scripted.asked if kind == "change"]
    x_um, y_um = core.getXYPosition()
    assert changes[0] == DeviceCall("setXYPosition", ("XY", x_um + 10, y_um))
    assert changes[0].devices(core) == ("XY",)
    assert changes[1:] == [Preset("Channel", "FITC"), Roi(10, 20, 64, 48), Property("Camera", "Binning", "2")]


def test_docks_cannot_run_the_camera_behind_the_session(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    _open(qtbot, window, "Stage")
    core = window.docks.core
    core.snapImage()
    assert scripted.asked == [("snap",)]
    for name in ("startContinuousSequenceAcquisition", "run_mda", "loadSystemConfiguration", "unloadAllDevices"):
        with pytest.raises(AcquisitionError, match="the session runs the camera"):
            getattr(core, name)()


def test_events_of_the_core_come_on_the_gui_thread(qtbot: Any, window: MainWindow, core: Any) -> None:
    _open(qtbot, window, "Stage")
    here, seen = threading.get_ident(), []
    window.docks.core.events.propertyChanged.connect(lambda *what: seen.append((threading.get_ident(), what)))
    other = threading.Thread(target=core.setProperty, args=("Camera", "Binning", "2"))
    other.start()
    other.join()
    qtbot.waitUntil(lambda: (here, ("Camera", "Binning", "2")) in seen)
    assert {thread for thread, _ in seen} == {here}


def test_the_region_of_a_python_camera_comes_to_its_dock(qtbot: Any) -> None:
    """The core names no camera there, which the dock raised at."""
    with Session(Settings.model_validate({"simulation": {"width": 256, "height": 192}})) as session:
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        session.start().result()
        dock = _open(qtbot, window, "Camera ROI")
        session.change(Roi(16, 32, 128, 96)).result()
        (camera,) = dock.value()
        qtbot.waitUntil(lambda: dock.value()[camera].roi[:4] == (16, 32, 128, 96))
        window.close()


def test_a_region_beyond_the_one_that_its_dock_began_with_opens_no_box(
    qtbot: Any, window: MainWindow, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QMessageBox, "critical", lambda *said: pytest.fail(str(said[1:])))
    core.setROI(16, 16, 64, 64)
    dock = _open(qtbot, window, "Camera ROI")
    core.setROI(0, 0, 128, 128)
    core.setROI(8, 8, 32, 32)
    assert dock.value()["Camera"].roi[:4] == (8, 8, 32, 32)
    assert tuple(core.getROI()) == (8, 8, 32, 32)


def test_the_region_of_several_cameras_is_not_for_their_dock(
    qtbot: Any, window: MainWindow, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = _open(qtbot, window, "Camera ROI")
    widgets = window.docks.core
    names = ("Physical Camera 1", "Physical Camera 2")
    monkeypatch.setitem(widgets._known, ("getDevicePropertyNames", ("Multi Camera",)), names)
    core.events.roiSet.emit("Multi Camera", 16, 32, 128, 96)
    core.events.roiSet.emit("Camera", 8, 8, 64, 64)
    assert dock.value()["Camera"].roi[:4] == (8, 8, 64, 64)


def test_plan_is_written_and_run_by_the_session(
    qtbot: Any, window: MainWindow, scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = _open(qtbot, window, "Acquisition plan")
    assert not plan.tab_wdg.isTabVisible(plan.tab_wdg.indexOf(plan.z_plan))  # no run takes a stack
    plan.setValue(useq.MDASequence(stage_positions=[{"x": 1, "y": 2, "name": "A1"}, (3, 4)], channels=["DAPI"]))
    qtbot.mouseClick(plan.run, Qt.MouseButton.LeftButton)
    (stop, (_, path), start) = scripted.asked
    assert (stop, start) == (("stop",), ("start",))
    read = load_plan(path)
    first = read.stage_positions[0]
    assert (first.name, first.x, first.y) == ("A1", 1, 2)
    assert [channel.config for channel in read.channels] == ["DAPI"]
    scripted.settings = Settings.model_validate({"run": {"plan": path}})
    scripted.fields = {"state": SessionState.RUNNING}
    scripted.asked.clear()
    qtbot.waitUntil(lambda: plan.pause.isEnabled() and not plan.run.isEnabled())
    for button, text in ((plan.pause, "Go on"), (plan.pause, "Pause"), (plan.cancel, "Pause")):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        assert plan.pause.text() == text
    assert scripted.asked == [("pause",), ("resume",), ("stop",)]


class SlowStage(XYStageDevice):
    """A stage whose every move and look waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.may_move, self.may_tell = threading.Event(), threading.Event()
        self.may_tell.set()
        self.place, self.halted = (0.0, 0.0), threading.Event()

    def set_position_um(self, x: float, y: float) -> None:
        assert self.may_move.wait(60)
        self.place = (x, y)

    def get_position_um(self) -> tuple[float, float]:
        assert self.may_tell.wait(60)
        return self.place

    def stop(self) -> None:
        self.halted.set()

    def home(self) -> None: ...

    def set_origin_x(self) -> None: ...

    def set_origin_y(self) -> None: ...


def test_a_slow_device_never_holds_up_the_window(qtbot: Any) -> None:
    settings = Settings.model_validate({"simulation": {"width": 128, "height": 128}, "detector": {"threads": 1}})
    with Session(settings) as session:
        session.snap().result()
        slow = SlowStage()
        session.core.loadPyDevice("Slow", slow)
        session.core.initializeDevice("Slow")
        session.core.setXYStageDevice("Slow")
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        ticks: list[int] = []
        timer = QTimer()
        timer.timeout.connect(lambda: ticks.append(len(ticks)))
        timer.start(1)

        def lives_on() -> None:
            """Return only if the window's own events go on being served."""
            before = len(ticks)
            qtbot.waitUntil(lambda: len(ticks) > before + 20, timeout=60_000)

        slow.may_tell.clear()
        window.toggle_dock("Stage")  # made while the stage does not say where it is
        QTimer.singleShot(200, slow.may_tell.set)
        qtbot.waitUntil(lambda: window.docks.content("Stage") is not None, timeout=60_000)
        assert ticks  # the wait for its answer was served by the event loop
        stage = window.docks.content("Stage").findChildren(StageWidget)[0]
        stage._move_btns.moveRequested.emit(25.0, -5.0)  # comes back although the stage does not move yet
        assert slow.place == (0.0, 0.0)
        lives_on()
        qtbot.waitUntil(lambda: "set XY position Slow 25 -5" in window.bar.state.toolTip(), timeout=60_000)
        assert window.docks.toggle("Stage") is not None
        qtbot.mouseClick(stage._halt, Qt.MouseButton.LeftButton)  # not behind the move in the queue
        assert slow.halted.wait(60)
        slow.may_move.set()
        qtbot.waitUntil(lambda: stage._x_pos.value() == 25.0 and stage._y_pos.value() == -5.0, timeout=60_000)
        timer.stop()
        assert session.status().errors == ()
        assert window.errors == []
        window.close()


def test_what_a_device_refuses_is_told_and_taken_back(qtbot: Any) -> None:
    settings = Settings.model_validate({"simulation": {"width": 128, "height": 128}, "detector": {"threads": 1}})
    with Session(settings) as session:
        session.snap().result()
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        browser = _open(qtbot, window, "Device properties")
        (label,) = [w for w in browser.findChildren(PropertyWidget) if (w._device, w._prop) == ("Objective", "Label")]
        before = label.value()
        window.docks.core.setProperty("Objective", "Label", "no such objective")
        qtbot.waitUntil(lambda: "no such objective" in window.banner.text, timeout=60_000)
        assert label.value() == before
        window.close()


def test_without_a_core_the_user_is_told(window: MainWindow, scripted: Any) -> None:
    scripted.core = None
    window.toggle_dock("Stage")
    assert window.message == "Stage: press Start or Snap first"
    scripted.core = object()
    window.toggle_dock("Stage")
    assert window.message == "Stage: this source has no devices"


@pytest.mark.parametrize("turned", [{}, {"rotate": 90}, {"flip": "horizontal"}, {"rotate": 1, "flip": "vertical"}])
def test_icons_are_well_formed_and_coloured(turned: dict[str, Any]) -> None:
    text = svg_path("mdi:help-circle", color="#123456", **turned).read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "currentColor" not in text


def test_an_unknown_icon_is_told_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    assert svg_path("mdi", "no-such-icon").exists()
    assert "mdi:no-such-icon" in caplog.text
