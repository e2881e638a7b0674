"""The window driven with real mouse and key events, offscreen, on a scripted session."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyqtgraph.functions import ndarray_from_qimage
from qtpy.QtCore import QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QColor, QImage
from qtpy.QtWidgets import QApplication, QLabel, QToolButton, QWidget

from livescope import qt_libraries
from livescope.calls import State, Viability
from livescope.errors import DisplayError
from livescope.settings import Settings
from livescope.status import SessionState
from livescope.view.actions import HelpSheet
from livescope.view.display import require_display
from livescope.view.theme import STATE_COLOURS
from livescope.view.window import MainWindow, show

LIVE, DEAD, UNCERTAIN = State.LIVE, State.DEAD, State.UNCERTAIN


@pytest.fixture
def window(qtbot: Any, scripted: Any) -> Iterator[MainWindow]:
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.resize(1280, 800)  # the offscreen screen is smaller
    window.show()
    qtbot.waitExposed(window)
    yield window
    window.close()


def _click(qtbot: Any, widget: QWidget) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def _toggle(qtbot: Any, window: MainWindow, action: Any) -> None:
    """Click the button of an action in the bar."""
    (button,) = [b for b in window.bar.findChildren(QToolButton) if b.defaultAction() is action]
    _click(qtbot, button)


def _texts(window: MainWindow) -> list[str]:
    return [label.text() for label in window.side.findChildren(QLabel)]


def _show(qtbot: Any, window: MainWindow, frame: Any, analysis: Any = None) -> None:
    """Let the session have a frame and wait until it is on the screen."""
    window.session.frame, window.session.analysis = frame, analysis
    qtbot.waitUntil(lambda: any(f is frame for f in window.session.shown) and window.canvas.picture.frame is frame)
    qtbot.waitUntil(
        lambda: analysis is None or (window.canvas.calls.drawing and window.canvas.calls.drawing.analysis is analysis)
    )


def test_every_control_asks_the_session(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    _click(qtbot, window.bar.run)
    _click(qtbot, window.bar.snap)
    _click(qtbot, window.bar.record)
    window.bar.exposure.setFocus()
    window.bar.exposure.selectAll()
    qtbot.keyClicks(window.bar.exposure, "12.5")
    qtbot.keyClick(window.bar.exposure, Qt.Key.Key_Return)
    assert scripted.asked == [("start",), ("snap",), ("record", True), ("exposure", 12.5)]


def test_controls_of_a_running_recording_session_stop(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"state": SessionState.RUNNING, "recording": True}
    qtbot.waitUntil(lambda: window.bar.run.text() == "Stop" and window.bar.record.text() == "Recording")
    assert not window.bar.snap.isEnabled()
    _click(qtbot, window.bar.run)
    _click(qtbot, window.bar.record)
    assert scripted.asked == [("stop",), ("record", False)]


def test_the_hint_never_says_start_while_it_runs(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    assert "Press Start" in window.canvas.hint
    scripted.fields = {"state": SessionState.RUNNING}
    qtbot.waitUntil(lambda: "waiting for the first frame" in window.canvas.hint)


def test_docks_do_not_make_the_window_wider(qtbot: Any, window: MainWindow) -> None:
    window.resize(window.minimumWidth(), 800)
    qtbot.keyClicks(window, "P")
    qtbot.waitUntil(lambda: window.map.isVisible() and window.map.width() >= 300)
    qtbot.wait(50)
    assert window.width() == window.minimumWidth()
    assert window.bar.width() == window.width()


def test_a_small_screen_is_enough(qtbot: Any, window: MainWindow) -> None:
    def shown() -> list[str]:
        return [button.text() for button in window.bar.findChildren(QToolButton) if button.isVisible()]

    window.resize(1280, 700)
    qtbot.waitUntil(lambda: shown() == ["ROI", "Full", "Calls", "Outlines", "Markers", "Trails", "Fit", "Menu"])
    window.resize(1000, 700)
    qtbot.waitUntil(lambda: window.width() == 1000 and shown()[:1] + shown()[-1:] == ["ROI", "Menu"])
    assert len(shown()) < 8
    window.resize(100, 700)
    qtbot.waitUntil(lambda: shown() == ["Menu"])
    assert window.width() <= 800
    menu = next(b for b in window.bar.findChildren(QToolButton) if b.isVisible()).menu()
    assert {window.region, window.outlines, window.trails, window.fit} <= {*menu.actions()}  # still at hand
    window.resize(1280, 700)
    qtbot.waitUntil(lambda: len(shown()) == 8)


def test_the_window_opens_no_larger_than_the_screen(qtbot: Any, scripted: Any) -> None:
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    assert window.width() <= window.screen().availableGeometry().width()
    assert window.height() <= window.screen().availableGeometry().height()
    window.close()


def test_a_long_state_is_cut_and_told_in_full(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    window.resize(window.minimumWidth(), 800)
    scripted.fields = {"busy": "measuring backend openvino on every device of this computer"}
    qtbot.waitUntil(lambda: window.bar.state.text().endswith("\u2026") and "meas" in window.bar.state.text())
    assert "computer" not in window.bar.state.text()
    assert window.bar.state.toolTip() == scripted.fields["busy"]


@pytest.mark.parametrize("state", [SessionState.STARTING, SessionState.STOPPING])
def test_nothing_can_be_asked_twice_while_changing(
    qtbot: Any, window: MainWindow, scripted: Any, state: SessionState
) -> None:
    scripted.fields = {"state": state, "busy": "doing it"}
    qtbot.waitUntil(lambda: not window.bar.run.isEnabled())
    _click(qtbot, window.bar.run)
    assert scripted.asked == []
    assert "doing it" in window.bar.state.text()


def test_shortcuts(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    window.activateWindow()
    for key in (Qt.Key.Key_Space, Qt.Key.Key_S, Qt.Key.Key_R):
        qtbot.keyClick(window, key)
    assert scripted.asked == [("start",), ("snap",), ("record", True)]
    for key, toggle in (("O", window.outlines), ("M", window.markers), ("H", window.overlay)):
        qtbot.keyClicks(window, key)
        assert not toggle.isChecked()
    assert not window.canvas.calls.isVisible()
    qtbot.keyClicks(window, "E")
    assert window.bar.exposure.hasFocus()


def test_exposure_typed_is_not_overwritten_by_the_status(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    window.bar.exposure.setFocus()
    window.bar.exposure.selectAll()
    qtbot.keyClicks(window.bar.exposure, "33")
    scripted.fields = {"exposure_ms": 7.0, "busy": "a new status has come"}
    qtbot.waitUntil(lambda: "a new status" in window.bar.state.text())
    assert window.bar.exposure.text().startswith("33")
    qtbot.keyClick(window.bar.exposure, Qt.Key.Key_Return)
    assert scripted.asked == [("exposure", 33.0)]


def test_each_painted_frame_is_stamped_once(qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any) -> None:
    for index in range(3):
        _show(qtbot, window, new_frame(index))
    window.canvas.viewport().repaint()
    assert [frame.index for frame in scripted.shown] == [0, 1, 2]


def test_a_new_analysis_of_an_old_frame_is_drawn(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any
) -> None:
    frame = new_frame()
    _show(qtbot, window, frame)
    _show(qtbot, window, frame, new_analysis(frame, [LIVE]))


def _pixels_like(window: MainWindow, colour: str) -> int:
    image = window.canvas.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    data = ndarray_from_qimage(image)
    wanted = QColor(colour)
    difference = np.abs(data[..., 2::-1].astype(int) - [wanted.red(), wanted.green(), wanted.blue()]).sum(-1)
    return int(np.count_nonzero(difference < 40))


def test_each_state_is_drawn_in_its_colour(qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE, LIVE, DEAD, UNCERTAIN]))
    seen = {state: _pixels_like(window, STATE_COLOURS[state]) for state in State}
    assert all(count > 50 for count in seen.values()), seen
    _toggle(qtbot, window, window.overlay)
    assert [_pixels_like(window, STATE_COLOURS[state]) for state in State] == [0, 0, 0]


def test_outlines_and_markers_are_hidden_apart(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any
) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE] * 4))
    both = _pixels_like(window, STATE_COLOURS[LIVE])
    _toggle(qtbot, window, window.outlines)
    markers = _pixels_like(window, STATE_COLOURS[LIVE])
    _toggle(qtbot, window, window.markers)
    assert both > markers > _pixels_like(window, STATE_COLOURS[LIVE]) == 0


def test_counts_and_viability_with_interval(
    qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any
) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE, LIVE, LIVE, DEAD, UNCERTAIN]))
    qtbot.waitUntil(lambda: "75.0 %" in _texts(window))
    assert "95 % interval 65.0 \u2013 85.0 %   n = 4" in _texts(window)
    assert [window.side.cells.counts[state].number for state in State] == ["3", "1", "1"]
    assert window.side.confidence.counts.sum(axis=1).tolist() == [3, 1, 1]


def test_a_frame_without_cells_has_no_bare_percentage(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any
) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, []))
    qtbot.waitUntil(lambda: "no cell called live or dead" in _texts(window))
    assert not any("nan" in text for text in _texts(window))


def test_lost_refused_and_skipped_stand_apart(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"lost": {"core": 3, "camera": 1, "recorder": 7, "analysis": 900, "display": 20}}
    values = window.side.values
    qtbot.waitUntil(lambda: values["lost"].text() == "3 / 1")
    assert values["refused"].text() == "7"
    assert values["skipped"].text() == "900 / 20"
    assert [values[key].property("alarm") for key in ("lost", "refused", "skipped")] == ["true", "true", None]


def test_curve_over_time(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    gap = Viability(0, 0, 0, float("nan"), float("nan"), float("nan"))
    scripted.curve = [(60.0 * k, gap if k == 5 else Viability(8, 2, 0, 0.8, 0.5, 0.9)) for k in range(10)]
    qtbot.waitUntil(lambda: window.side.chart.shown_points == 9)
    assert window.side.chart.unit == "min"


def test_curves_of_several_positions(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    side = window.side
    whole = Viability(8, 2, 0, 0.8, 0.5, 0.9)
    scripted.curve = [(float(k), whole) for k in range(6)]
    scripted.book.curves = {"A1": scripted.curve[:4], "A2": scripted.curve[4:]}
    qtbot.waitUntil(lambda: side.curve_of.isVisible() and side.chart.shown_points == 6)
    assert [side.curve_of.itemText(k) for k in range(side.curve_of.count())] == ["all positions", "A1", "A2"]
    side.curve_of.setFocus()
    qtbot.keyClick(side.curve_of, Qt.Key.Key_Down)
    assert (side.curve_of.currentText(), side.chart.shown_points) == ("A1", 4)
    scripted.book.curves = {}  # another run, at one place
    qtbot.waitUntil(lambda: not side.curve_of.isVisible() and side.chart.shown_points == 6)


def test_warnings_stay_after_the_banner(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"warnings": ("the picture is darker than what the model knows",)}
    qtbot.waitUntil(lambda: window.banner.text != "")
    _click(qtbot, window.banner.dismiss)
    window.refresh()
    assert window.banner.text == ""
    assert window.side.warnings.isVisible()
    assert "darker than what the model knows" in window.side.warnings.text()


def test_place_cadence_and_deaths(qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any) -> None:
    frame = dataclasses.replace(new_frame(0), position="B03", x_um=12.0, y_um=-7.25, z_um=3.0, channel="BF")
    _show(qtbot, window, frame)
    scripted.fields = {"cadence": "newest only", "deaths": 12}
    values = window.side.values
    qtbot.waitUntil(lambda: values["cadence"].text() == "newest only")
    assert values["deaths"].text() == "12"
    assert values["place"].text() == "B03, BF, x\u00a012.0  y\u00a0-7.2  z\u00a03.0\u00a0\u00b5m"
    scripted.frame = dataclasses.replace(frame, position=None, channel=None, x_um=-0.01, y_um=-0.0, z_um=None)
    qtbot.waitUntil(lambda: values["place"].text() == "x\u00a00.0  y\u00a00.0\u00a0\u00b5m")


def test_error_banner_names_the_next_step_and_copies(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    message = "acquisition: camera lost. Check the cable, then press Start."
    scripted.fields = {"state": SessionState.FAILED, "errors": (message,), "warnings": ("a warning",)}
    qtbot.waitUntil(lambda: window.banner.text == message)
    _click(qtbot, window.banner.copy)
    assert QApplication.clipboard().text() == f"{message}\na warning"
    _click(qtbot, window.banner.dismiss)
    assert window.banner.text == ""
    scripted.fields = {"errors": (message, "recording: disk full")}
    qtbot.waitUntil(lambda: window.banner.text == "recording: disk full")


def test_reason_of_a_failure_without_an_error_is_shown(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"state": SessionState.FAILED, "reason": "the disk cannot keep up"}
    qtbot.waitUntil(lambda: window.banner.text == "the disk cannot keep up")


def test_a_frame_that_cannot_be_drawn_is_told(qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any) -> None:
    good = new_frame(1)
    bad = new_frame(0)
    object.__setattr__(bad, "pixels", np.empty((0, 0), np.uint16))
    scripted.frame = bad
    qtbot.waitUntil(lambda: window.banner.text.startswith("frame 0 cannot be drawn"))
    _show(qtbot, window, good)
    qtbot.waitUntil(lambda: window.banner.text == "")


def test_pixel_read_out_in_pixels_micrometres_and_grey(qtbot: Any, window: MainWindow, new_frame: Any) -> None:
    _show(qtbot, window, new_frame())
    with qtbot.waitSignal(window.canvas.read_out, check_params_cb=bool) as told:
        place = window.canvas.mapFromScene(window.canvas.box.mapViewToScene(QPointF(100.5, 20.5)))
        qtbot.mouseMove(window.canvas.viewport(), place)
    assert told.args == ["x 100  y 20 px   65.0, 13.0 \u00b5m   grey 600"]
    assert window.canvas.pixel_at(QPointF(QPoint(-50, -50))) is None


def test_picture_keeps_its_aspect_and_zoom_stays(qtbot: Any, window: MainWindow, new_frame: Any) -> None:
    _show(qtbot, window, new_frame(0))
    view = window.canvas.box.viewRect()
    assert view.width() / view.height() == pytest.approx(
        window.canvas.box.width() / window.canvas.box.height(), rel=1e-3
    )
    window.canvas.actual_size()
    zoomed = window.canvas.box.viewRange()
    _show(qtbot, window, new_frame(1))
    np.testing.assert_allclose(window.canvas.box.viewRange(), zoomed)
    _show(qtbot, window, new_frame(2, height=100, width=400))  # another size: all of it is shown
    (x0, x1), (y0, y1) = window.canvas.box.viewRange()
    assert x0 <= 0
    assert x1 >= 400
    assert y0 <= 0
    assert y1 >= 100


def test_closing_ends_thread_and_timer(qtbot: Any, scripted: Any, leavings: Callable[[set[int]], list[str]]) -> None:
    before = {t.ident for t in threading.enumerate() if t.ident is not None}
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    kinds = {text.split()[0] for text in leavings(before)}
    assert kinds == {"window", "timer", "thread"}  # the guard of these tests sees each of them
    window.close()
    assert leavings(before) == []


def test_show_starts_the_session_loses_no_traceback_and_returns_at_close(
    qapp: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("livescope.view.window.user_config_path", lambda name: tmp_path / name)
    told: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: told.append(str(error)))
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(str(args.exc_value)))

    def raise_in_a_thread() -> None:
        raise ValueError("a thread failed")

    def raise_in_a_slot() -> None:
        thread = threading.Thread(target=raise_in_a_thread, name="helper")
        thread.start()
        thread.join()
        raise ValueError("a slot failed")

    banners: list[str] = []

    def look() -> None:
        (window,) = [w for w in qapp.topLevelWidgets() if isinstance(w, MainWindow) and w.isVisible()]
        if "a slot failed" in window.banner.text:
            banners.append(window.banner.text)
            window.banner.copy.click()
            timer.stop()
            window.close()

    QTimer.singleShot(0, raise_in_a_slot)
    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(50)
    assert show(scripted) == 0
    assert scripted.asked == [("start",)]
    assert told == ["a thread failed", "a slot failed"]
    (banner,) = banners
    assert banner.startswith("ValueError: a slot failed. This is an error in livescope; what runs goes on.")
    copied = QApplication.clipboard().text()
    assert "thread helper: ValueError: a thread failed" in copied
    assert copied.count("Traceback (most recent call last)") == 2
    assert "in raise_in_a_thread" in copied


def test_every_session_of_a_window_has_its_monitor(
    qapp: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever way it was opened: from the first page, or in place of another."""
    monkeypatch.setattr("livescope.view.window.user_config_path", lambda name: tmp_path / name)
    taken = socket.create_server(("127.0.0.1", 0))
    messages: list[str] = []

    def look() -> None:
        for window in [w for w in qapp.topLevelWidgets() if isinstance(w, MainWindow) and w.isVisible()]:
            if window.message.startswith("monitor: ") or window.banner.text:
                messages.append(window.message or window.banner.text)
                window.close()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(50)
    for port in (0, taken.getsockname()[1]):
        assert show(type(scripted)(monitor={"port": port})) == 0
    timer.stop()
    taken.close()
    assert messages[0] == capsys.readouterr().out.strip()
    assert "cannot listen" in messages[1]


def test_missing_libraries_of_qt_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("Qt's wheels bring everything elsewhere")
    monkeypatch.setattr(qt_libraries, "ALWAYS", (qt_libraries.Library("libabsent.so.7", "libabsent7"),))
    with pytest.raises(DisplayError, match=r"libabsent\.so\.7.*libabsent.*--headless"):
        require_display()


def test_no_display_is_one_clear_error(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can lack a display")
    code = "import livescope.errors as e\ntry:\n import livescope.view.window\nexcept e.DisplayError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": "/usr/bin"}, capture_output=True, text=True)
    assert "--headless" in done.stdout
    assert "DISPLAY" in done.stdout, done.stderr


def test_a_display_that_is_gone_is_known_before_qt_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can lack a display")
    for name in ("QT_QPA_PLATFORM", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":77")
    with pytest.raises(DisplayError, match=r"nothing answers at DISPLAY=:77.*--headless"):
        require_display()


def test_a_class_is_hidden_by_its_count_and_by_its_key(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any
) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE, DEAD, UNCERTAIN]))
    _click(qtbot, window.side.cells.counts[DEAD])
    assert _pixels_like(window, STATE_COLOURS[DEAD]) == 0
    assert _pixels_like(window, STATE_COLOURS[LIVE]) > 0
    qtbot.keyClicks(window, "D")
    qtbot.keyClicks(window, "L")
    assert _pixels_like(window, STATE_COLOURS[DEAD]) > 0
    assert _pixels_like(window, STATE_COLOURS[LIVE]) == 0


def test_hovering_a_cell_tells_what_it_is(qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE, DEAD]))

    def place(x_px: float, y_px: float) -> Any:
        return window.canvas.mapFromScene(window.canvas.box.mapViewToScene(QPointF(x_px + 0.5, y_px + 0.5)))

    with qtbot.waitSignal(window.canvas.read_out, check_params_cb=lambda text: "cell" in text) as told:
        qtbot.mouseMove(window.canvas.viewport(), place(75, 50))
    assert "cell 2: dead, probability of dead 0.97, 133 \u00b5m\u00b2" in told.args[0]
    assert window.canvas.cell_at(QPointF(place(75, 50))) == 1
    assert window.canvas.cell_at(QPointF(place(50, 50))) is None


def test_a_button_keeps_its_short_text(qtbot: Any, window: MainWindow) -> None:
    for action in (window.trails, window.overlay):
        _toggle(qtbot, window, action)
    texts = {button.text() for button in window.bar.findChildren(QToolButton)}
    assert {"Calls", "Trails", "ROI", "Full"} <= texts


def test_ids_are_written_beside_the_cells(qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any) -> None:
    frame = new_frame()
    _show(qtbot, window, frame, new_analysis(frame, [LIVE] * 5))
    before = _pixels_like(window, STATE_COLOURS[LIVE])
    qtbot.keyClicks(window, "I")
    assert _pixels_like(window, STATE_COLOURS[LIVE]) > before


def test_trails_show_where_cells_have_been(qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any) -> None:
    for index in range(3):  # one cell goes right, one stands still
        frame = new_frame(index)
        analysis = new_analysis(frame, [LIVE, DEAD])
        analysis.calls.x_px[0] += 12 * index
        _show(qtbot, window, frame, analysis)
    before = _pixels_like(window, STATE_COLOURS[LIVE])
    window.canvas.show_state(LIVE, False)
    assert _pixels_like(window, STATE_COLOURS[LIVE]) == 0
    qtbot.keyClicks(window, "J")
    assert _pixels_like(window, STATE_COLOURS[LIVE]) == 0  # a hidden class has no trails either
    window.canvas.show_state(LIVE, True)
    assert _pixels_like(window, STATE_COLOURS[LIVE]) > before


def test_dragging_a_level_fixes_the_contrast_and_a_double_click_frees_it(
    qtbot: Any, window: MainWindow, new_frame: Any
) -> None:
    _show(qtbot, window, new_frame(0))
    plate = window.levels
    qtbot.waitUntil(lambda: plate.place_of(1).x() > plate.place_of(0).x() + 50)
    auto = window.canvas.picture.levels
    start = plate.place_of(1).toPoint()
    qtbot.mousePress(plate, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(plate, start - QPoint(60, 0))
    qtbot.mouseRelease(plate, Qt.MouseButton.LeftButton, pos=start - QPoint(60, 0))
    qtbot.waitUntil(lambda: window.canvas.picture.levels[1] < auto[1] - 50)
    fixed = window.canvas.picture.levels
    assert fixed[0] == auto[0]
    _show(qtbot, window, new_frame(500))  # brighter, but the levels are fixed now
    assert window.canvas.picture.levels == fixed
    qtbot.mouseDClick(plate, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.canvas.picture.levels[0] > 800)


def test_saved_picture_is_told(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert window.save_picture() is None
    frame = new_frame(7)
    _show(qtbot, window, frame, new_analysis(frame, [LIVE]))
    qtbot.keyClick(window, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: window.message.startswith("saved"))
    (picture,) = (tmp_path / "runs").iterdir()
    assert picture.name.endswith("frame7.png")


def test_a_picture_that_cannot_be_saved_is_an_error_on_the_banner(
    qtbot: Any, window: MainWindow, new_frame: Any, new_analysis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file where the folder should be")
    frame = new_frame(7)
    _show(qtbot, window, frame, new_analysis(frame, [LIVE]))
    window.save_picture()
    qtbot.waitUntil(lambda: window.banner.text.startswith("saving the picture: "))


def test_help_sheet_lists_every_shortcut(qtbot: Any, window: MainWindow) -> None:
    qtbot.keyClick(window, Qt.Key.Key_F1)
    (sheet,) = window.findChildren(HelpSheet)
    texts = {label.text() for label in sheet.findChildren(QLabel)}
    for action in window.actions():
        assert {action.text(), action.shortcut().toString() or "\u2013"} <= texts
    sheet.close()


def test_no_shortcut_is_given_twice(window: MainWindow) -> None:
    keys = [action.shortcut().toString() for action in window.actions() if not action.shortcut().isEmpty()]
    assert len(keys) == len(set(keys))


def test_layout_theme_and_switches_are_remembered(qtbot: Any, scripted: Any, tmp_path: Path) -> None:
    memory = tmp_path / "window.ini"
    first = MainWindow(scripted, memory)
    qtbot.addWidget(first)
    first.resize(799, 640)
    first.show()
    first.outlines.toggle()
    first.trails.toggle()
    first.side.cells.counts[DEAD].toggle()
    first.set_theme("light")
    first.close()
    second = MainWindow(scripted, memory)
    qtbot.addWidget(second)
    assert abs(second.width() - 799) + abs(second.height() - 640) < 5
    assert second.theme_name == "light"
    assert not second.canvas.calls.outlines
    assert second.canvas.calls.trails
    assert second.canvas.calls.states == {LIVE, UNCERTAIN}
    second.close()
    scripted.settings = Settings.model_validate({"view": {"theme": "dark", "outlines": True}})
    third = MainWindow(scripted, memory)  # what the config says wins
    qtbot.addWidget(third)
    assert third.theme_name == "dark"
    assert third.canvas.calls.outlines
    third.close()


def test_time_left_on_the_disk(qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any) -> None:
    _show(qtbot, window, new_frame())
    scripted.fields = {"recording": True, "fps_acquired": 100.0, "disk_free_bytes": 192 * 256 * 2 * 100 * 7200}
    qtbot.waitUntil(lambda: window.side.values["disk"].text() == "71 GB, 2 h or more")


def test_theme_changes_at_run_time(qtbot: Any, window: MainWindow) -> None:
    window.set_theme("dark")
    dark = window.grab().toImage().pixelColor(5, window.height() - 5).lightness()
    qtbot.keyClicks(window, "T")
    assert window.grab().toImage().pixelColor(5, window.height() - 5).lightness() > dark + 100
    qtbot.keyClicks(window, "T")


def test_only_pixels_that_can_be_seen_are_converted(qtbot: Any, window: MainWindow, new_frame: Any) -> None:
    frame = new_frame(0, height=2400, width=3001)
    _show(qtbot, window, frame)
    qtbot.waitUntil(lambda: window.canvas.picture.step > 1)
    step = window.canvas.picture.step
    assert window.canvas.picture.grey8.shape == (-(-2400 // step), -(-3001 // step))
    rect = window.canvas.image.mapRectToParent(window.canvas.image.boundingRect())
    assert 3001 <= rect.width() < 3001 + step
    assert 2400 <= rect.height() < 2400 + step
    window.canvas.actual_size()  # the frame stands still, yet all its pixels come
    qtbot.waitUntil(lambda: window.canvas.picture.grey8.shape == (2400, 3001))


def test_an_unknown_exposure_is_said_to_be_unknown(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"exposure_ms": None}
    qtbot.waitUntil(lambda: window.bar.exposure.text() == "unknown")
    assert scripted.asked == []
