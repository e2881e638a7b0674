from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livescope.calls import CellCalls, State
from livescope.errors import SourceError
from livescope.frames import Frame, LossLedger
from livescope.record.corrections import Correction, CorrectionLog
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings
from livescope.train.data import UNKNOWN
from livescope.train.sources import Records, read, settings_of

CENTRES = np.array([[20, 20], [20, 60], [60, 20], [60, 60]], np.float32)


def calls_at(index: int) -> CellCalls:
    n = len(CENTRES)
    return CellCalls(
        frame_index=index,
        y_px=CENTRES[:, 0].copy(),
        x_px=CENTRES[:, 1].copy(),
        radii_px=np.full((n, 32), 6, np.float32),
        p_cell=np.full(n, 0.9, np.float32),
        p_dead=np.full(n, 0.1, np.float32),
        state=np.full(n, State.LIVE, np.uint8),
        area_px=np.full(n, 100, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
        pixel_um=0.5,
    )


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "run.ome.zarr"
    settings = RecordSettings(path=path, min_free_mb=0, chunk_px=64)
    recorder = Recorder(path, settings, LossLedger(), run_settings=Settings(record=settings), on_error=pytest.fail)
    for index in range(4):
        pixels = np.random.default_rng(index).integers(100, 200, (80, 96)).astype(np.uint16)
        pixels.flags.writeable = False
        frame = Frame(pixels, index, 0, "Camera", float(index), 1.7e9 + index, 12, pixel_um=0.5)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls_at(index))
    recorder.close({})
    return path


def say(kind: str, frame: int, row: int, state: State | None) -> Correction:
    y, x = CENTRES[row] if row >= 0 else (40, 84)
    return Correction(0, kind, frame, -1, float(y), float(x), 6.0, state, State.LIVE, 0.1, "me", 1.7e9)


def test_only_what_was_said_is_a_label(record: Path) -> None:
    with pytest.raises(SourceError, match="simulated"):
        settings_of(record)  # nobody has corrected anything yet
    log = CorrectionLog(record)
    log.save(log.take([say("state", 1, 0, State.DEAD), say("remove", 1, 1, None), say("add", 2, -1, State.LIVE)]))
    settings = settings_of(record)
    assert isinstance(settings, Records)
    dataset = read(settings)
    assert dataset.pixel_um == 0.5
    assert not dataset.complete
    first, second = dataset.fields
    assert first.group != second.group
    assert first.state.tolist() == [State.DEAD, UNKNOWN, UNKNOWN]
    assert second.state.tolist() == [UNKNOWN] * 4 + [State.LIVE]
    assert first.known is not None
    assert first.known[20, 60]  # removed: known to be empty
    assert first.known[20, 28]
    assert not first.known[40, 40]  # between the cells nobody has said anything
    assert first.contours_yx[0].mean(axis=0) == pytest.approx(CENTRES[0], abs=1e-3)


def test_a_reviewed_frame_confirms_what_was_left(record: Path) -> None:
    log = CorrectionLog(record)
    log.save(log.take([say("state", 1, 0, State.DEAD)]))
    (field,) = read(Records(path=record.parent, reviewed=True)).fields
    assert field.state.tolist() == [State.DEAD, State.LIVE, State.LIVE, State.LIVE]
    assert field.known is None
