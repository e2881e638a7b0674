"""First page, configs and records that are dropped or chosen, and clips."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from livescope.calls import State
from livescope.frames import Frame, LossLedger
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings, ViewSettings
from livescope.status import SessionState
from livescope.view import opening
from livescope.view.player import RecordPlayer
from livescope.view.recorded import RecordWindow
from livescope.view.start import StartPage, show_start
from livescope.view.window import MainWindow

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("opening", "recorded", "window"):
        monkeypatch.setattr(f"livescope.view.{module}.user_config_path", lambda name: tmp_path / "memory" / name)


@pytest.fixture
def record(tmp_path: Path, new_frame: Any, new_analysis: Any) -> Path:
    """A finished run of three frames."""
    settings = RecordSettings(min_free_mb=0, chunk_px=64)
    run = Settings(record=settings)
    errors: list[Exception] = []
    recorder = Recorder(tmp_path / "run.ome.zarr", settings, LossLedger(), run_settings=run, on_error=errors.append)
    for index in range(3):
        frame = Frame(new_frame(index).pixels, index, 0, "Camera", 50.0 + index, 1.7e9 + index, 12, pixel_um=0.65)
        assert recorder.put(frame)
        recorder.put_calls(frame, new_analysis(frame, [State.LIVE, State.DEAD]).calls)
    recorder.close({})
    assert errors == []
    return recorder.path


@pytest.fixture
def window(qtbot: Any, scripted: Any) -> Iterator[MainWindow]:
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    yield window
    window.close()


def drop(target: Any, *paths: Path) -> bool:
    """Drag files over a widget and drop them; returns whether they were taken."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), copy, mime, left, none)
    enter.ignore()
    QApplication.sendEvent(target, enter)
    if not enter.isAccepted():
        return False
    QApplication.sendEvent(target, QDropEvent(QPointF(9, 9), copy, mime, left, none))
    return True


def _beside() -> list[RecordWindow]:
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, RecordWindow)]


def test_a_dropped_record_opens_beside_the_live_window(qtbot: Any, window: MainWindow, record: Path) -> None:
    assert drop(window, record)
    qtbot.waitUntil(lambda: len(_beside()) == 1)
    (beside,) = _beside()
    assert beside.player.path == record
    assert window.isVisible()
    beside.close()
    qtbot.waitUntil(lambda: window.opening._beside == [])
    drop(window, record)
    window.close()  # and takes what was opened beside it with it
    assert not any(w.isVisible() for w in QApplication.topLevelWidgets() if isinstance(w, RecordWindow))


def test_a_dropped_config_takes_the_place_of_an_idle_session(window: MainWindow) -> None:
    drop(window, CONFIGS / "plate.yaml")
    assert window.opening.wanted is not None
    assert window.opening.wanted.run.plan is not None
    assert not window.isVisible()


def test_a_running_session_is_not_ended_unasked(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"state": SessionState.RUNNING}
    for answer, visible in (("Stay", True), ("End and open", False)):
        drop(window, CONFIGS / "simulated.yaml")
        (button,) = [b for b in window.opening.question.buttons() if b.text() == answer]
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: window.opening.question is None)
        assert window.isVisible() is visible
    assert window.opening.wanted is not None


def test_a_config_dropped_on_a_record_beside_is_opened_in_place_of_the_session(
    qtbot: Any, window: MainWindow, record: Path, scripted: Any
) -> None:
    scripted.fields = {"state": SessionState.RUNNING}
    drop(window, record)
    qtbot.waitUntil(lambda: len(_beside()) == 1)
    (beside,) = _beside()
    for answer, visible in (("Stay", True), ("End and open", False)):
        drop(beside, CONFIGS / "simulated.yaml")
        drop(beside, CONFIGS / "plate.yaml")  # asked once, for the newest
        (button,) = [b for b in window.opening.question.buttons() if b.text() == answer]
        assert "plate.yaml" in window.opening.question.text()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: window.opening.question is None)
        assert [window.isVisible(), beside.isVisible()] == [visible, visible]
    assert window.opening.wanted is not None
    assert window.opening.wanted.run.plan is not None


def test_what_cannot_be_opened_is_told(qtbot: Any, window: MainWindow, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("sauce: {}")
    drop(window, tmp_path / "bad.yaml")
    qtbot.waitUntil(lambda: "sauce" in window.banner.text)
    drop(window, tmp_path)
    qtbot.waitUntil(lambda: "neither a config" in window.banner.text)
    assert window.opening.wanted is None
    assert not drop(window)


def test_the_dialog_opens_a_record_and_does_not_wait(qtbot: Any, window: MainWindow, record: Path) -> None:
    actions = {action.text(): action for action in window.actions()}
    actions["Open a record"].trigger()
    (dialog,) = window.findChildren(QFileDialog)
    dialog.fileSelected.emit(str(record))
    dialog.close()
    qtbot.waitUntil(lambda: len(_beside()) == 1)
    _beside()[0].close()


def test_a_record_that_is_read_too_late_leaves_no_thread(qtbot: Any, window: MainWindow, record: Path) -> None:
    drop(window, record)
    window.close()  # before the helper thread has read it
    qtbot.wait(100)
    assert _beside() == []


@pytest.mark.timeout(300)
def test_a_clip_of_a_record(qtbot: Any, record: Path) -> None:
    window = RecordWindow(RecordPlayer(record), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    window.clip.save()
    window.clip.save()
    qtbot.waitUntil(lambda: window.message == "a clip is being made already")
    qtbot.waitUntil(lambda: window.message.startswith("saved") or bool(window.errors), timeout=200_000)
    assert window.errors == []
    assert Path(window.message.removeprefix("saved ")).stat().st_size > 1000
    window.clip.save()
    window.close()  # in the middle of the next one
    assert len([*record.parent.glob("run-*.*")]) == 1


@pytest.mark.timeout(300)
def test_a_clip_is_of_the_position_that_is_shown_with_its_corrections(
    qtbot: Any, tmp_path: Path, new_frame: Any, new_analysis: Any
) -> None:
    settings = RecordSettings(min_free_mb=0, chunk_px=64)
    errors: list[Exception] = []
    run = Settings(record=settings)
    recorder = Recorder(tmp_path / "plate.ome.zarr", settings, LossLedger(), run_settings=run, on_error=errors.append)
    for index, position in enumerate(["A1", "B1"]):
        frame = replace(new_frame(index), position=position)
        assert recorder.put(frame)
        recorder.put_calls(frame, new_analysis(frame, [State.LIVE, State.DEAD]).calls)
    recorder.close({})
    assert errors == []
    window = RecordWindow(RecordPlayer(recorder.path), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    window.player.seek(1)
    qtbot.waitUntil(lambda: window.canvas.picture is not None and window.canvas.picture.frame.position == "B1")
    for said in ("position B1", "position B1, as corrected"):
        window.clip.save()
        qtbot.waitUntil(lambda: window.message.startswith("saved") or bool(window.errors), timeout=200_000)
        assert window.errors == []
        assert window.message == f"saved {window.clip._path} ({said})"
        window.correcting.on.setChecked(True)
        window.feed.corrector.set_state(window.player.latest_analysis().calls, [0], State.DEAD)
    window.close()


def test_without_a_record_there_is_no_clip(qtbot: Any, window: MainWindow) -> None:
    window.clip.save()
    qtbot.waitUntil(lambda: "press Record" in window.message)


def test_the_first_page_offers_the_demo(qtbot: Any) -> None:
    page = StartPage()
    qtbot.addWidget(page)
    page.show()
    assert page.focusWidget() is page.buttons["demo"]
    qtbot.keyClick(page.buttons["demo"], Qt.Key.Key_Space)
    assert isinstance(page.wanted, Settings)
    assert (page.wanted.source.kind, str(page.wanted.record.path)) == ("simulated", "runs/demo-{time}.ome.zarr")
    assert not page.isVisible()


def test_the_first_page_takes_drops_and_opens_the_wizard(qtbot: Any, tmp_path: Path, record: Path) -> None:
    page = StartPage("light")
    qtbot.addWidget(page)
    page.show()
    drop(page, tmp_path)
    assert "neither a config" in page.said.text()
    qtbot.mouseClick(page.buttons["train"], Qt.MouseButton.LeftButton)
    assert page._wizard.isVisible()
    drop(page, record)
    qtbot.waitUntil(lambda: isinstance(page.wanted, RecordPlayer) and not page.isVisible())
    assert page.wanted.path == record
    page.wanted.close()


def test_the_first_page_stays_and_says_in_red_what_cannot_be_opened(qtbot: Any, tmp_path: Path) -> None:
    page = StartPage()
    qtbot.addWidget(page)
    page.show()
    (tmp_path / "latin.yaml").write_bytes("# \u00b5m".encode("latin-1"))
    drop(page, tmp_path / "latin.yaml")
    assert "latin.yaml" in page.said.text()
    settings = RecordSettings(min_free_mb=0)
    empty = tmp_path / "empty.ome.zarr"
    Recorder(empty, settings, LossLedger(), run_settings=Settings(), on_error=print).close({})
    page.open(empty)
    qtbot.waitUntil(lambda: "holds no frame" in page.said.text())
    assert page.said.property("alarm") == "true"
    assert page.isVisible()
    page.close()


def test_a_record_that_is_read_when_the_first_page_is_gone_is_closed(qtbot: Any, record: Path) -> None:
    page = StartPage()
    qtbot.addWidget(page)
    page.show()
    page.open(record)
    page.close()
    assert page.wanted is None


def test_the_cards_of_the_first_page_never_overlap(qtbot: Any) -> None:
    page = StartPage()
    qtbot.addWidget(page)
    page.resize(300, 200)
    page.show()
    qtbot.waitExposed(page)
    page.said.setText("what is wrong with this file " * 40)
    said = page.said
    qtbot.waitUntil(lambda: said.height() >= said.heightForWidth(said.width()))
    boxes = [widget.geometry() for widget in (*page.buttons.values(), said)]
    assert not any(a.intersects(b) for a, b in itertools.combinations(boxes, 2))
    page.close()


def test_from_the_first_page_to_a_record_and_from_there_to_a_session(
    qapp: Any, record: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Settings] = []

    def step() -> None:
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, StartPage) and widget.isVisible():
                drop(widget, record)
            elif isinstance(widget, RecordWindow) and widget.isVisible():
                drop(widget, CONFIGS / "simulated.yaml")

    def show(session: Any) -> int:
        shown.append(session.settings)
        return 0

    monkeypatch.setattr("livescope.view.window.show", show)
    timer = QTimer()
    timer.timeout.connect(step)
    timer.start(100)
    assert show_start() == 0
    timer.stop()
    assert [settings.source.kind for settings in shown] == ["simulated"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
def test_ctrl_c_ends_the_first_page(qapp: Any) -> None:
    QTimer.singleShot(300, lambda: signal.raise_signal(signal.SIGINT))
    assert show_start() == 128 + signal.SIGINT


def test_the_first_page_shows_what_its_slots_raise(qapp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: None)
    monkeypatch.setattr(StartPage, "_train", lambda self: 1 // 0)

    def look() -> None:
        (page,) = [w for w in QApplication.topLevelWidgets() if isinstance(w, StartPage) and w.isVisible()]
        page.buttons["train"].click()
        QApplication.processEvents()
        said.append(page.said.text())
        page.close()

    QTimer.singleShot(300, look)
    assert show_start() == 0
    assert said[0].startswith("ZeroDivisionError")


def test_the_first_page_can_be_closed(qapp: Any) -> None:
    QTimer.singleShot(300, qapp.closeAllWindows)
    assert show_start() == 0
    assert opening.memory_path().name == "window.ini"
