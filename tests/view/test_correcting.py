"""Correcting calls with mouse and keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtWidgets import QMenu

from livescope.calls import State
from livescope.record.corrections import CorrectionLog
from livescope.view.window import MainWindow

LIVE, DEAD, UNCERTAIN = State.LIVE, State.DEAD, State.UNCERTAIN


@pytest.fixture
def window(qtbot: Any, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path) -> Iterator[MainWindow]:
    """A window on a frame with a live, a dead and an uncertain cell, being recorded."""
    scripted.frame = new_frame(3)
    scripted.analysis = new_analysis(scripted.frame, [LIVE, DEAD, UNCERTAIN])
    scripted.fields = {"record": tmp_path, "recording": True}
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.canvas.calls.drawing is not None)
    yield window
    window.close()


@pytest.fixture
def correcting(qtbot: Any, window: MainWindow) -> MainWindow:
    qtbot.keyClicks(window, "K")
    assert window.canvas.picking
    return window


def _place(window: MainWindow, x_px: float, y_px: float) -> QPoint:
    point = window.canvas.box.mapViewToScene(QPointF(x_px + 0.5, y_px + 0.5))
    return QPoint(window.canvas.mapFromScene(point))


def _click(qtbot: Any, window: MainWindow, x_px: float, y_px: float, button: Any = None, keys: Any = None) -> None:
    qtbot.mouseClick(
        window.canvas.viewport(),
        button or Qt.MouseButton.LeftButton,
        keys or Qt.KeyboardModifier.NoModifier,
        _place(window, x_px, y_px),
    )


def _states(window: MainWindow) -> list[int]:
    return [int(s) for s in window.canvas.calls.drawing.analysis.calls.state]


def test_a_click_flips_and_is_stored_with_who_and_when(qtbot: Any, correcting: MainWindow, tmp_path: Path) -> None:
    for x_px in (30, 70, 110):
        _click(qtbot, correcting, x_px, 50)
    qtbot.waitUntil(lambda: _states(correcting) == [DEAD, LIVE, DEAD])
    qtbot.waitUntil(lambda: correcting.side.cells.counts[DEAD].number == "2")
    qtbot.waitUntil(lambda: len(CorrectionLog(tmp_path)) == 3)
    first = CorrectionLog(tmp_path).lines[0]
    assert (first.kind, first.frame_index, first.track, first.state, first.called) == ("state", 3, 1, DEAD, LIVE)
    assert first.p_dead == pytest.approx(0.03)
    assert first.author
    assert first.wall_time > 1.7e9


def test_flipping_back_still_says_what_the_model_had_called(qtbot: Any, correcting: MainWindow, tmp_path: Path) -> None:
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: _states(correcting)[0] == DEAD)
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: _states(correcting)[0] == LIVE)
    qtbot.waitUntil(lambda: [line.called for line in CorrectionLog(tmp_path).lines] == [LIVE, LIVE])


def test_undo_and_redo(qtbot: Any, correcting: MainWindow, tmp_path: Path) -> None:
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: _states(correcting)[0] == DEAD)
    qtbot.keyClick(correcting, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: _states(correcting)[0] == LIVE)
    qtbot.keyClick(correcting, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: _states(correcting)[0] == DEAD)
    qtbot.keyClick(correcting, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: correcting.message == "nothing to redo")
    qtbot.waitUntil(lambda: len(CorrectionLog(tmp_path)) == 3)
    assert len(CorrectionLog(tmp_path).standing) == 1


def test_adding_and_removing_cells(qtbot: Any, correcting: MainWindow) -> None:
    _click(qtbot, correcting, 150, 120, keys=Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, DEAD, UNCERTAIN, LIVE])
    _click(qtbot, correcting, 150, 120)
    qtbot.waitUntil(lambda: _states(correcting)[3] == DEAD)
    _click(qtbot, correcting, 70, 50, button=Qt.MouseButton.RightButton)
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, UNCERTAIN, DEAD])


def test_a_box_is_for_many(qtbot: Any, correcting: MainWindow) -> None:
    view = correcting.canvas.viewport()
    start, end = _place(correcting, 55, 30), _place(correcting, 130, 70)
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view, (start + end) / 2)
    qtbot.mouseMove(view, end)
    with qtbot.waitSignal(correcting.canvas.boxed) as boxed:
        qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    (box,) = boxed.args
    assert (round(box.left() / 5), round(box.right() / 5)) == (11, 26)
    (menu,) = correcting.canvas.findChildren(QMenu)
    (live,) = [action for action in menu.actions() if action.text() == "live"]
    live.trigger()
    menu.close()
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, LIVE, LIVE])
    correcting.correcting.undo()  # what a box said is taken back as one
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, DEAD, UNCERTAIN])


def _box(qtbot: Any, window: MainWindow, start: QPoint, end: QPoint) -> None:
    view = window.canvas.viewport()
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view, (start + end) / 2)
    qtbot.mouseMove(view, end)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)


def _say(window: MainWindow, what: str) -> None:
    """Answer the menu of a box."""
    (menu,) = window.canvas.findChildren(QMenu)
    (action,) = [action for action in menu.actions() if action.text() == what]
    action.trigger()
    menu.close()


def test_what_is_hidden_is_not_corrected(qtbot: Any, correcting: MainWindow, tmp_path: Path) -> None:
    told: list[str] = []
    correcting.canvas.read_out.connect(told.append)
    qtbot.keyClicks(correcting, "L")
    _click(qtbot, correcting, 30, 50)
    _click(qtbot, correcting, 30, 50, button=Qt.MouseButton.RightButton)
    qtbot.mouseMove(correcting.canvas.viewport(), _place(correcting, 31, 51))
    assert told
    assert not any("cell" in text for text in told)
    _click(qtbot, correcting, 30, 50, keys=Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: correcting.message.startswith("some cells are hidden"))
    everywhere = _place(correcting, 5, 5), _place(correcting, 200, 150)
    _box(qtbot, correcting, *everywhere)
    _say(correcting, "not cells")
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE])
    qtbot.waitUntil(lambda: [line.track for line in CorrectionLog(tmp_path).standing] == [2, 3])
    qtbot.keyClicks(correcting, "LH")
    _click(qtbot, correcting, 30, 50)
    _box(qtbot, correcting, *everywhere)
    qtbot.waitUntil(lambda: correcting.message == "no cell that is shown lies in the box")
    assert len(CorrectionLog(tmp_path)) == 2


def test_the_most_uncertain_cell_is_looked_at_first(qtbot: Any, window: MainWindow) -> None:
    qtbot.keyClicks(window, "N")
    middle = window.canvas.box.viewRect().center()
    assert (middle.x(), middle.y()) == (pytest.approx(110.5, abs=1), pytest.approx(50.5, abs=1))
    assert window.message.startswith("uncertain, probability of dead 0.50; 2 left")
    for _ in range(3):
        qtbot.keyClicks(window, "N")
    assert "begins again" in window.message


def test_hidden_cells_are_not_looked_at(qtbot: Any, window: MainWindow) -> None:
    qtbot.keyClicks(window, "UN")
    assert window.message.endswith("; 1 left")
    middle = window.canvas.box.viewRect().center()
    assert middle.x() != pytest.approx(110.5, abs=1)


def test_cells_of_another_run_were_not_looked_at(
    qtbot: Any, window: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path
) -> None:
    for _ in range(2):
        qtbot.keyClicks(window, "N")
    assert window.message.endswith("; 1 left")
    for index, record in ((0, tmp_path / "second"), (9, None), (2, None)):  # recorded, not recorded, and one more
        frame = new_frame(index)
        scripted.fields = {"record": record, "recording": record is not None}
        scripted.frame, scripted.analysis = frame, new_analysis(frame, [LIVE, DEAD, UNCERTAIN])
        qtbot.waitUntil(lambda frame=frame: window.canvas.calls.drawing.analysis.frame is frame)
        qtbot.keyClicks(window, "N")
        assert window.message.endswith("; 2 left")


def test_without_a_record_nothing_can_be_corrected(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {}
    qtbot.keyClicks(window, "K")
    assert not window.canvas.picking
    assert "press Record" in window.message


def test_just_after_record_the_user_is_not_told_to_press_it(qtbot: Any, window: MainWindow, scripted: Any) -> None:
    scripted.fields = {"record": None, "recording": True}
    qtbot.keyClicks(window, "K")
    assert not window.canvas.picking
    assert window.message.startswith("the frame shown is from before the recording")


def test_corrections_end_with_their_record(
    qtbot: Any, correcting: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path
) -> None:
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: _states(correcting) == [DEAD, DEAD, UNCERTAIN])
    qtbot.waitUntil(lambda: not correcting.side.curve_note.isHidden())  # the curve is the model's
    second = tmp_path / "second"
    second.mkdir()
    frame = new_frame(3)
    scripted.records[frame.time_s] = second  # another run: frames and tracks begin again
    scripted.frame, scripted.analysis = frame, new_analysis(frame, [LIVE, DEAD, UNCERTAIN])
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, DEAD, UNCERTAIN])
    qtbot.waitUntil(lambda: correcting.side.curve_note.isHidden())
    _click(qtbot, correcting, 70, 50)
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, LIVE, UNCERTAIN])
    qtbot.waitUntil(lambda: len(CorrectionLog(second)) == 1)
    assert len(CorrectionLog(tmp_path)) == 1


def test_a_frame_after_the_end_of_the_record_is_not_corrected(
    qtbot: Any, correcting: MainWindow, scripted: Any, tmp_path: Path
) -> None:
    scripted.fields = {"record": tmp_path, "recording": False}
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: "not recorded" in correcting.message)
    assert _states(correcting) == [LIVE, DEAD, UNCERTAIN]
    assert len(CorrectionLog(tmp_path)) == 0


def test_a_correction_is_undone_after_the_end_of_its_record(
    qtbot: Any, correcting: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path
) -> None:
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: correcting.message == "1 correction")
    frame = new_frame(4)
    scripted.frame, scripted.analysis = frame, new_analysis(frame, [LIVE, DEAD, UNCERTAIN])
    scripted.fields = {"record": tmp_path, "recording": False}
    qtbot.waitUntil(lambda: correcting.canvas.calls.drawing.analysis.frame is frame)
    for keys, standing in ((Qt.Key.Key_Z, 0), (Qt.Key.Key_Y, 1)):
        qtbot.keyClick(correcting, keys, Qt.KeyboardModifier.ControlModifier)
        qtbot.waitUntil(lambda standing=standing: len(CorrectionLog(tmp_path).standing) == standing)
        qtbot.waitUntil(lambda: correcting.message.endswith(f" in {tmp_path.name}"))


def test_a_box_is_answered_for_the_record_in_which_it_was_drawn(
    qtbot: Any, correcting: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path
) -> None:
    _box(qtbot, correcting, _place(correcting, 15, 30), _place(correcting, 90, 70))
    second = tmp_path / "second"
    second.mkdir()
    frame = new_frame(0)
    scripted.records[frame.time_s] = second
    scripted.frame, scripted.analysis = frame, new_analysis(frame, [LIVE, DEAD, UNCERTAIN])
    qtbot.waitUntil(lambda: correcting.canvas.calls.drawing.analysis.frame is frame)
    _click(qtbot, correcting, 110, 50)
    qtbot.waitUntil(lambda: _states(correcting) == [LIVE, DEAD, DEAD])
    _say(correcting, "dead")
    qtbot.waitUntil(lambda: [line.track for line in CorrectionLog(tmp_path).lines] == [1, 2])
    assert [line.track for line in CorrectionLog(second).lines] == [3]
    assert _states(correcting) == [LIVE, DEAD, DEAD]  # those of the second record go on to hold


def test_corrections_that_cannot_be_saved_are_an_error(qtbot: Any, correcting: MainWindow, tmp_path: Path) -> None:
    (tmp_path / "corrections").write_text("a file where the folder should be")
    _click(qtbot, correcting, 30, 50)
    qtbot.waitUntil(lambda: "not on the disk" in correcting.banner.text)


@pytest.fixture
def held(
    qtbot: Any, correcting: MainWindow, scripted: Any, new_frame: Any, new_analysis: Any, tmp_path: Path
) -> MainWindow:
    """A window that holds frame 3 while the run goes on."""
    qtbot.keyClicks(correcting, "Z")
    frame = new_frame(4)
    scripted.frame, scripted.analysis = frame, new_analysis(frame, [DEAD, DEAD])
    return correcting


def test_a_held_picture_stands_still_and_says_so(qtbot: Any, held: MainWindow, scripted: Any) -> None:
    def plate() -> int:
        return int(held.canvas.grab().toImage().pixelColor(17, 17).lightness())

    picture, dark = held.canvas.picture, plate()
    qtbot.wait(150)
    assert (held.canvas.picture, held.canvas.note) == (picture, "held (Z)")
    assert held.side.values["calls"].text() == "frame 3"
    qtbot.keyClicks(held, "Z")
    qtbot.waitUntil(lambda: held.canvas.picture.frame.index == 4)
    assert held.canvas.note == ""
    qtbot.waitUntil(lambda: held.side.values["calls"].text() == "frame 4")
    assert plate() != dark


def test_corrections_of_a_held_picture_are_drawn_and_saved(
    qtbot: Any, held: MainWindow, scripted: Any, tmp_path: Path
) -> None:
    held._pictures = tmp_path / "pictures"
    for state in (DEAD, LIVE):  # the second click turns it back: it is seen what the first one did
        _click(qtbot, held, 30, 50)
        qtbot.waitUntil(lambda state=state: _states(held) == [state, DEAD, UNCERTAIN])
    _click(qtbot, held, 150, 120, keys=Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: _states(held) == [LIVE, DEAD, UNCERTAIN, LIVE])
    qtbot.waitUntil(lambda: held.side.cells.counts[LIVE].number == "2")
    held.correcting.undo()
    qtbot.waitUntil(lambda: _states(held) == [LIVE, DEAD, UNCERTAIN])
    qtbot.keyClick(held, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: held.message.endswith("frame3.png"))
    assert [line.frame_index for line in CorrectionLog(tmp_path).lines] == [3] * 4
    assert [frame.index for frame in scripted.shown].count(3) == 1  # painted anew, not shown anew


def test_without_a_picture_there_is_nothing_to_hold(qtbot: Any, scripted: Any, new_frame: Any) -> None:
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    window.freeze.trigger()
    qtbot.waitUntil(lambda: window.message == "no picture to hold yet")
    scripted.frame = new_frame(0)
    qtbot.waitUntil(lambda: window.canvas.picture is not None)
    assert window.canvas.note == ""
    window.close()
