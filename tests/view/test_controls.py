"""The bar in every state of a session; region of the camera by dragging on the picture; bursts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt

from livescope.acquire.changes import FullFrame
from livescope.session import Session
from livescope.settings import Settings
from livescope.status import SessionState
from livescope.view.region import PictureRoi
from livescope.view.window import MainWindow

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def window(qtbot: Any, scripted: Any) -> Iterator[MainWindow]:
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    yield window
    window.close()


def _drag(qtbot: Any, window: MainWindow, start_px: tuple[int, int], end_px: tuple[int, int]) -> None:
    view = window.canvas.viewport()

    def place(x_px: int, y_px: int) -> QPoint:
        return QPoint(window.canvas.mapFromScene(window.canvas.box.mapViewToScene(QPointF(x_px, y_px))))

    start, end = place(*start_px), place(*end_px)
    qtbot.mousePress(view, LEFT, pos=start)
    qtbot.mouseMove(view, (start + end) / 2)
    qtbot.mouseMove(view, end)
    qtbot.mouseRelease(view, LEFT, pos=end)


STATES = {
    #            run text, run, snap, record, burst
    SessionState.IDLE: ("Start", True, True, True, False),
    SessionState.STARTING: ("Stop", False, False, True, False),
    SessionState.RUNNING: ("Stop", True, False, True, True),
    SessionState.CHANGING: ("Stop", True, False, True, False),
    SessionState.STOPPING: ("Start", False, False, False, False),
    SessionState.FAILED: ("Start", True, True, True, False),
}


@pytest.mark.parametrize("state", list(SessionState))
def test_the_bar_is_right_in_every_state(window: MainWindow, scripted: Any, state: SessionState) -> None:
    scripted.fields = {"state": state}
    window.refresh()
    bar = window.bar
    enabled = (bar.run.isEnabled(), bar.snap.isEnabled(), bar.record.isEnabled(), bar.burst.isEnabled())
    assert (bar.run.text(), *enabled) == STATES[state]
    assert state.value in bar.state.text()


def test_no_burst_during_a_plan(window: MainWindow, scripted: Any, tmp_path: Any) -> None:
    scripted.settings = Settings.model_validate({"run": {"plan": tmp_path / "plan.yaml"}})
    scripted.fields = {"state": SessionState.RUNNING}
    window.refresh()
    assert not window.bar.burst.isEnabled()


def test_what_is_asked_of_the_record_is_not_asked_twice(window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"busy": "opening the record"}
    window.refresh()
    assert not window.bar.record.isEnabled()


def test_a_burst_of_so_many_frames(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"state": SessionState.RUNNING}
    window.refresh()
    window.bar.burst_frames.setFocus()
    window.bar.burst_frames.selectAll()
    qtbot.keyClicks(window.bar.burst_frames, "17")
    qtbot.keyClick(window.bar.burst_frames, Qt.Key.Key_Return)
    qtbot.keyClicks(window, "B")
    assert scripted.asked == [("burst", 17)]


def test_a_region_is_dragged_on_the_picture(qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any) -> None:
    scripted.frame = new_frame(0)
    qtbot.waitUntil(lambda: window.canvas.picture is not None)
    qtbot.keyClicks(window, "G")
    assert window.region.isChecked()
    _drag(qtbot, window, (40, 30), (300, 90))  # beyond the right edge
    ((_, change),) = scripted.asked
    assert isinstance(change, PictureRoi)
    wanted = {"x_px": 40, "y_px": 30, "width_px": 216, "height_px": 60}
    assert {name: abs(getattr(change, name) - value) <= 2 for name, value in wanted.items()} == dict.fromkeys(
        wanted, True
    )
    assert change.x_px + change.width_px == 256
    assert not window.region.isChecked()
    before = window.canvas.box.viewRect()
    _drag(qtbot, window, (40, 30), (80, 60))  # the next drag pans again
    assert len(scripted.asked) == 1
    assert window.canvas.box.viewRect() != before
    qtbot.keyClicks(window, "G")
    qtbot.mouseClick(window.canvas.viewport(), LEFT)
    assert (len(scripted.asked), window.message) == (1, "no region set")
    qtbot.keyClick(window, Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    assert scripted.asked[1:] == [("change", FullFrame())]


def test_no_region_without_a_picture(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    qtbot.keyClicks(window, "G")
    assert not window.region.isChecked()
    assert "take a picture first" in window.message


@pytest.mark.timeout(300)
def test_region_burst_and_full_frame_of_a_running_camera(qtbot: Any) -> None:
    settings = Settings.model_validate(
        {"simulation": {"width": 256, "height": 192, "rate_fps": 20}, "detector": {"threads": 1}}
    )

    def shape() -> tuple[int, ...]:
        return session.latest_frame().pixels.shape

    with Session(settings) as session:
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        session.start().result()
        qtbot.waitUntil(lambda: window.canvas.picture is not None, timeout=60_000)
        for _ in range(2):  # a region of a region
            before = shape()
            window.region.setChecked(True)
            _drag(qtbot, window, (before[1] // 4, before[0] // 4), (before[1] // 4 + 100, before[0] // 4 + 80))
            qtbot.waitUntil(lambda before=before: shape() != before, timeout=60_000)
            qtbot.waitUntil(
                lambda: window.canvas.picture.frame.pixels.shape == shape(),
                timeout=60_000,
            )
        delivered = session.status().delivered
        session.burst(7).result()
        assert session.status().delivered >= delivered + 7
        window.full_frame.trigger()
        qtbot.waitUntil(lambda: shape() == (192, 256), timeout=60_000)
        session.stop().result()
        assert session.status().errors == ()
        window.close()
