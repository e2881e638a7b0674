"""Recorded runs in the window: slider, keys, playing, and a run that is still going on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from livescope.calls import State
from livescope.errors import RecordError
from livescope.frames import Frame, LossCause, LossLedger
from livescope.record.place import lock_record
from livescope.record.reader import open_record
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings, ViewSettings
from livescope.view.player import RecordPlayer
from livescope.view.recorded import RecordWindow

LIVE, DEAD = State.LIVE, State.DEAD


@pytest.fixture
def ledger() -> LossLedger:
    return LossLedger()


@pytest.fixture
def recorder(tmp_path: Path, ledger: LossLedger) -> Iterator[Recorder]:
    settings = RecordSettings(min_free_mb=0, chunk_px=64)
    errors: list[Exception] = []
    recorder = Recorder(
        tmp_path / "run.ome.zarr",
        settings,
        ledger,
        run_settings=Settings(record=settings),
        on_error=errors.append,
    )
    yield recorder
    recorder.close({})
    assert errors == []


@pytest.fixture
def put(recorder: Recorder, new_frame: Any, new_analysis: Any) -> Callable[[int], None]:
    """Record a frame, 0.1 s after the one before; every second frame is analysed, from frame 6 on a cell is dead."""

    def put_frame(index: int) -> None:
        made = new_frame(index)
        frame = Frame(made.pixels, index, 0, "Camera", 50 + index / 10, 1.7e9 + index / 10, 12, pixel_um=0.65)
        assert recorder.put(frame)
        if index % 2 == 0:
            recorder.put_calls(frame, new_analysis(frame, [LIVE, DEAD if index >= 6 else LIVE]).calls)

    return put_frame


@pytest.fixture
def record(recorder: Recorder, put: Callable[[int], None]) -> Path:
    """A finished run of ten frames."""
    for index in range(10):
        put(index)
    recorder.close({})
    return recorder.path


@pytest.fixture
def window(qtbot: Any, record: Path) -> Iterator[RecordWindow]:
    window = RecordWindow(RecordPlayer(record), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    yield window
    window.close()


def _await_frame(qtbot: Any, window: RecordWindow, index: int) -> None:
    qtbot.waitUntil(lambda: window.canvas.picture is not None and window.canvas.picture.frame.index == index)


def test_first_frame_with_its_calls_is_shown(qtbot: Any, window: RecordWindow) -> None:
    _await_frame(qtbot, window, 0)
    qtbot.waitUntil(lambda: window.side.cells.counts[LIVE].number == "2")
    assert window.side.values["delivered"].text() == "10 / 10"
    qtbot.waitUntil(lambda: window.side.chart.shown_points == 5)


def test_the_corrected_viability_is_shown_as_in_the_live_run(qtbot: Any, window: RecordWindow) -> None:
    qtbot.waitUntil(lambda: not window.side.cells.corrected.isHidden())
    assert "corrected for model errors" in window.side.cells.corrected.text()


def test_cells_at_the_border_count_by_the_rule_of_the_run(
    tmp_path: Path, qtbot: Any, new_frame: Any, new_analysis: Any
) -> None:
    settings = Settings.model_validate({"record": {"min_free_mb": 0, "chunk_px": 64}, "detector": {"border": "inside"}})
    errors: list[Exception] = []
    place = tmp_path / "inside.ome.zarr"
    recorder = Recorder(place, settings.record, LossLedger(), run_settings=settings, on_error=errors.append)
    frame = dataclasses.replace(new_frame(0), position="B03")
    calls = new_analysis(frame, [LIVE, LIVE, DEAD]).calls
    assert recorder.put(frame)
    recorder.put_calls(frame, dataclasses.replace(calls, edge=np.array([True, False, False])))
    recorder.close({})
    assert errors == []
    window = RecordWindow(RecordPlayer(place), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.side.cells.counts[LIVE].number == "1")
    ((_, of_curve),) = window.player.viability_curve()
    ((of_map,), _) = window.player.places()
    assert of_curve.n_live == of_map.viability.n_live == 1
    qtbot.waitUntil(lambda: window.canvas.calls.drawing is not None)
    window.correcting.on.setChecked(True)  # corrected counts follow the rule too
    window.feed.corrector.set_state(window.canvas.calls.drawing.analysis.calls, [0], DEAD)
    qtbot.waitUntil(lambda: window.feed.latest_analysis().viability.corrected is None)
    assert window.feed.latest_analysis().viability.n_dead == 1
    window.close()


def test_corrections_of_former_sessions_hold_at_once_and_can_be_undone(
    qtbot: Any, record: Path, window: RecordWindow
) -> None:
    _await_frame(qtbot, window, 0)
    qtbot.waitUntil(lambda: window.canvas.calls.drawing is not None)
    calls = window.canvas.calls.drawing.analysis.calls
    window.correcting.on.setChecked(True)
    window.feed.corrector.set_state(calls, [0, 1], DEAD)  # a box: one thing said
    window.feed.corrector.set_state(calls, [0], State.UNCERTAIN)
    window.close()
    again = RecordWindow(RecordPlayer(record), ViewSettings())
    qtbot.addWidget(again)
    again.show()
    qtbot.waitUntil(lambda: [again.side.cells.counts[s].number for s in State] == ["0", "1", "1"])
    qtbot.waitUntil(lambda: again.message == "3 corrections")
    qtbot.waitUntil(lambda: not again.side.curve_note.isHidden())
    for numbers in (["0", "2", "0"], ["2", "0", "0"]):
        qtbot.waitUntil(lambda: again.canvas.calls.drawing is not None)
        again.correcting.undo()
        qtbot.waitUntil(lambda numbers=numbers: [again.side.cells.counts[s].number for s in State] == numbers)
    again.close()


def test_a_frame_before_the_correction_keeps_its_corrected_viability(qtbot: Any, window: RecordWindow) -> None:
    note = window.side.cells.corrected
    for number, kept in ((0, True), (6, False), (0, True)):
        window.player.seek(number)
        _await_frame(qtbot, window, number)
        if not kept:
            qtbot.waitUntil(lambda: window.side.cells.counts[DEAD].number == "1")
            calls = window.player.latest_analysis().calls
            window.correcting.on.setChecked(True)
            window.feed.corrector.set_state(calls, [0], DEAD)
        qtbot.waitUntil(lambda kept=kept: note.isHidden() is not kept)


def test_slider_and_keys_go_to_frames(qtbot: Any, window: RecordWindow) -> None:
    window.bar.slider.setValue(7)
    _await_frame(qtbot, window, 7)
    qtbot.waitUntil(lambda: window.side.values["calls"].text() == "frame 6, 1 behind")
    assert window.side.cells.counts[DEAD].number == "1"
    qtbot.keyClick(window, Qt.Key.Key_Right)
    _await_frame(qtbot, window, 8)
    qtbot.keyClick(window, Qt.Key.Key_Left)
    _await_frame(qtbot, window, 7)
    qtbot.keyClick(window, Qt.Key.Key_Home)
    _await_frame(qtbot, window, 0)
    qtbot.keyClick(window, Qt.Key.Key_End)
    _await_frame(qtbot, window, 9)
    qtbot.keyClick(window, Qt.Key.Key_Right)
    assert window.player.number == 9


def test_slider_and_clock_keep_their_room(qtbot: Any, window: RecordWindow) -> None:
    window.resize(window.minimumWidth(), 600)
    qtbot.keyClick(window, Qt.Key.Key_End)
    _await_frame(qtbot, window, 9)
    qtbot.waitUntil(lambda: window.bar.time.text().startswith("10 / 10"))
    assert window.bar.slider.width() >= 120
    qtbot.waitUntil(lambda: window.bar.time.width() >= window.bar.time.sizeHint().width())  # laid out a moment later
    assert window.bar.width() == window.width()


def test_playing_goes_to_the_end_and_begins_again(qtbot: Any, window: RecordWindow) -> None:
    window.bar.speed.setCurrentIndex(window.bar.speed.findData(2.0))
    qtbot.mouseClick(window.bar.play, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.bar.play.text() == "Pause")
    _await_frame(qtbot, window, 9)
    qtbot.waitUntil(lambda: window.bar.play.text() == "Play")
    assert window.player.status().shown > 3
    qtbot.keyClick(window, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: window.player.playing and window.player.number < 9)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    assert not window.player.playing


def test_a_run_that_goes_on_is_followed(
    qtbot: Any, recorder: Recorder, put: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livescope.view.player._FOLLOW_S", 0.1)
    for index in range(3):
        put(index)
    qtbot.waitUntil(lambda: recorder.recorded == 3)
    window = RecordWindow(RecordPlayer(recorder.path), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    window.player.seek(2)
    _await_frame(qtbot, window, 2)
    put(3)
    _await_frame(qtbot, window, 3)
    window.player.seek(0)
    put(4)
    qtbot.waitUntil(lambda: window.player.count == 5)
    assert window.player.number == 0  # who looks at an old frame is left there
    value = window.side.values
    assert [value[name].text() for name in ("refused", "deaths")] == ["\u2013", "\u2013"]  # not known yet
    put(5)
    recorder.close({"warnings": ["the lamp went out"]})
    qtbot.waitUntil(lambda: window.player.count == 6)
    qtbot.waitUntil(lambda: value["refused"].text() == "0")
    qtbot.waitUntil(lambda: "the lamp went out" in window.side.warnings.text())
    window.close()


@pytest.fixture
def followed(
    qtbot: Any, recorder: Recorder, put: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecordWindow]:
    """A window on a run of three frames that another program seems to write: its recorder has died just now."""
    monkeypatch.setattr("livescope.view.player._FOLLOW_S", 0.1)
    for index in range(3):
        put(index)
    qtbot.waitUntil(lambda: recorder.recorded == 3 and len(open_record(recorder.path).analysed) == 2)
    path = recorder.path.with_name("followed.ome.zarr")
    shutil.copytree(recorder.path, path)
    with lock_record(path):
        window = RecordWindow(RecordPlayer(path), ViewSettings())
        qtbot.addWidget(window)
        window.show()
        yield window
        window.close()


def test_a_run_that_is_out_of_reach_for_a_while_is_followed_on(qtbot: Any, followed: RecordWindow) -> None:
    _await_frame(qtbot, followed, 0)
    place = followed.player.path
    away = place.rename(place.with_name("away"))
    qtbot.waitUntil(lambda: followed.banner.text.startswith("the record is out of reach: "))
    assert "looking again" in followed.banner.text
    followed.player.seek(2)
    qtbot.waitUntil(lambda: "frame 2 cannot be read" in " ".join(followed.player.status().errors))
    away.rename(place)
    _await_frame(qtbot, followed, 2)
    qtbot.waitUntil(lambda: followed.banner.text == "")


def test_a_record_that_is_begun_anew_is_followed_from_its_start(
    qtbot: Any, followed: RecordWindow, new_frame: Any, new_analysis: Any
) -> None:
    player, settings = followed.player, RecordSettings(min_free_mb=0, chunk_px=64)
    player.seek(2)
    _await_frame(qtbot, followed, 2)
    other = Recorder(
        player.path.with_name("other"), settings, LossLedger(), run_settings=Settings(), on_error=lambda error: None
    )
    frame = new_frame(0)
    assert other.put(frame)
    other.put_calls(frame, new_analysis(frame, [DEAD, DEAD, DEAD]).calls)
    other.close({})
    player.path.rename(player.path.with_name("first"))
    other.path.rename(player.path)
    qtbot.waitUntil(lambda: player.count == 1)
    _await_frame(qtbot, followed, 0)
    qtbot.waitUntil(lambda: followed.side.cells.counts[DEAD].number == "3")
    assert player.number == 0


def test_who_goes_to_a_frame_during_a_look_is_left_there(
    qtbot: Any, recorder: Recorder, put: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livescope.view.player._FOLLOW_S", 0.1)
    put(0)
    put(1)
    qtbot.waitUntil(lambda: recorder.recorded == 2)
    player = RecordPlayer(recorder.path)
    player.seek(1)
    look = player._look
    counts: list[int] = []

    def look_slowly() -> None:
        if len(player._record) == 3 and 3 not in counts:
            player.seek(0)
        look()
        counts.append(player.count)

    monkeypatch.setattr(player, "_look", look_slowly)
    put(2)
    qtbot.waitUntil(lambda: counts.count(3) > 1)
    assert player.number == 0
    player.close()


def test_one_damaged_analysed_frame_hides_no_other(qtbot: Any, window: RecordWindow, record: Path) -> None:
    _await_frame(qtbot, window, 0)
    (shard,) = [path for path in (record / "0" / "c" / "4").rglob("*") if path.is_file()]
    shard.write_bytes(b"damaged")
    window.player.seek(5)
    _await_frame(qtbot, window, 5)
    qtbot.waitUntil(lambda: window.banner.text.startswith("frame 5 is shown without calls: "))
    assert window.player.latest_analysis() is None
    window.player.seek(6)
    _await_frame(qtbot, window, 6)
    qtbot.waitUntil(lambda: window.banner.text == "")


def test_cells_that_are_gone_from_the_disk_are_told(qtbot: Any, record: Path) -> None:
    (record / "calls.parquet").unlink()
    window = RecordWindow(RecordPlayer(record), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    _await_frame(qtbot, window, 0)
    qtbot.waitUntil(lambda: "calls of frame 0 of record" in window.banner.text)
    assert window.player.latest_analysis() is None
    window.close()


def test_what_the_run_lost_and_who_died_is_shown(
    qtbot: Any, recorder: Recorder, put: Callable[[int], None], ledger: LossLedger
) -> None:
    ledger.deliver(0, "Camera", 10)
    ledger.lose(LossCause.RECORDER, 0, "Camera", 3)
    ledger.lose(LossCause.DISPLAY, 1, "Camera", 4)
    for index in range(3):
        put(index)
        track, declared = np.array([1, 2, 3]), np.array([index > 0, True, index > 1])
        arrived_dead = np.array([False, True, False])
        columns = {"frame": np.full(3, index), "track": track, "declared": declared, "arrived_dead": arrived_dead}
        recorder.put_table("fates", columns)
    recorder.close({"errors": ["the disk was full"]})
    window = RecordWindow(RecordPlayer(recorder.path), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    value = window.side.values
    qtbot.waitUntil(lambda: value["refused"].text() == "3")
    assert value["delivered"].text() == "10 / 3"
    assert value["skipped"].text() == "0 / 4"
    assert value["deaths"].text() == "2"
    assert window.banner.text == "in this run: the disk was full"
    window.close()


def test_a_frame_that_cannot_be_read_is_told(qtbot: Any, window: RecordWindow, record: Path) -> None:
    _await_frame(qtbot, window, 0)
    shards = [path for path in (record / "0" / "c" / "8").rglob("*") if path.is_file()]
    assert shards
    for shard in shards:
        shard.write_bytes(b"damaged")
    window.player.seek(8)
    qtbot.waitUntil(lambda: window.banner.text.startswith("frame 8 cannot be read"))
    window.player.seek(3)
    _await_frame(qtbot, window, 3)
    qtbot.waitUntil(lambda: window.banner.text == "")


def test_what_is_no_record_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a livescope record"):
        RecordPlayer(tmp_path)


def test_a_record_without_frames_is_one_clear_error(recorder: Recorder) -> None:
    recorder.close({})
    with pytest.raises(RecordError):
        RecordPlayer(recorder.path)
