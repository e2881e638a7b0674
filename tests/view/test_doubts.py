"""The queue of the most uncertain cells of a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from livescope.calls import State
from livescope.frames import Frame, LossLedger
from livescope.record.corrections import Correction, CorrectionLog
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings, ViewSettings
from livescope.view.doubts import doubts_of
from livescope.view.player import RecordPlayer
from livescope.view.recorded import RecordWindow

CHANCES = ((0.02, 0.40, 0.99), (0.10, 0.55, 0.70))
"""Probability of dead by frame and cell; the cells are tracks 1, 2, 3 at x = 30, 70, 110."""


@pytest.fixture
def record(tmp_path: Path, new_frame: Any, new_analysis: Any) -> Path:
    settings = RecordSettings(min_free_mb=0, chunk_px=64)
    run = Settings(record=settings)
    errors: list[Exception] = []
    recorder = Recorder(tmp_path / "run.ome.zarr", settings, LossLedger(), run_settings=run, on_error=errors.append)
    for index, chances in enumerate(CHANCES):
        frame = Frame(new_frame(index).pixels, index, 0, "Camera", 50.0 + index, 1.7e9 + index, 12, pixel_um=0.65)
        assert recorder.put(frame)
        calls = new_analysis(frame, [State.LIVE] * 3).calls
        recorder.put_calls(frame, replace(calls, p_dead=np.array(chances, np.float32)))
    recorder.close({})
    assert errors == []
    return recorder.path


def test_each_cell_comes_once_where_it_is_least_certain(record: Path) -> None:
    doubts = doubts_of(record)
    assert [(d.number, round(d.x_px), round(d.p_dead, 2)) for d in doubts] == [
        (1, 70, 0.55),
        (1, 110, 0.7),
        (1, 30, 0.1),
    ]
    assert [d.radius_px for d in doubts] == [10, 10, 10]
    assert len(doubts_of(record, most=2)) == 2


def test_what_was_corrected_does_not_come_again(record: Path) -> None:
    log = CorrectionLog(record)
    said = Correction(0, "state", 1, 2, 50, 70, 10, State.DEAD, State.LIVE, 0.55, "someone", 1.7e9)
    log.save(log.take([said]))
    assert [round(d.x_px) for d in doubts_of(record)] == [110, 30]


def test_shift_n_goes_from_one_to_the_next(qtbot: Any, record: Path) -> None:
    window = RecordWindow(RecordPlayer(record), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.isActiveWindow() and window.canvas.picture is not None)
    for said, x_px in (("1 of 3: probability of dead 0.55", 70), ("2 of 3", 110), ("3 of 3", 30)):
        qtbot.keyClick(window, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        qtbot.waitUntil(lambda said=said: window.message.startswith(said))
        assert window.player.number == 1
        assert window.canvas.box.viewRect().center().x() == pytest.approx(x_px + 0.5, abs=1)
    window.next_doubt()
    qtbot.waitUntil(lambda: "begins again" in window.message)
    window.next_doubt()
    qtbot.waitUntil(lambda: window.message.startswith("1 of 3"))
    assert window.errors == []
    window.close()
