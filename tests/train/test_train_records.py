from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from livescope.calls import CellCalls, State
from livescope.detect.bundle import load_bundle
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.frames import Frame, LossLedger
from livescope.record.corrections import Correction, CorrectionLog
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings
from livescope.train.bundling import make_bundle
from livescope.train.data import UNKNOWN
from livescope.train.evaluate import evaluate, evaluate_all
from livescope.train.proposal import propose
from livescope.train.recalibrate import recalibrate
from livescope.train.settings import TrainSettings
from livescope.train.sources import Records, read, settings_of

CENTRES = np.array([[20, 20], [20, 60], [60, 20], [60, 60]], np.float32)


def calls_at(index: int, tracked: bool = False) -> CellCalls:
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
        track=np.arange(1, n + 1) if tracked else np.full(n, -1, np.int64),
        pixel_um=0.5,
    )


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return recorded(tmp_path / "run.ome.zarr")


def recorded(path: Path, tracked: bool = False, pixel_um: float = 0.5) -> Path:
    settings = RecordSettings(path=path, min_free_mb=0, chunk_px=64)
    recorder = Recorder(path, settings, LossLedger(), run_settings=Settings(record=settings), on_error=pytest.fail)
    for index in range(4):
        pixels = np.random.default_rng(index).integers(100, 200, (80, 96)).astype(np.uint16)
        pixels.flags.writeable = False
        frame = Frame(pixels, index, 0, "Camera", float(index), 1.7e9 + index, 12, pixel_um=pixel_um)
        assert recorder.put(frame)
        recorder.put_calls(frame, replace(calls_at(index, tracked), pixel_um=pixel_um))
    recorder.close({})
    return path


def say(kind: str, frame: int, row: int, state: State | None, track: int = -1) -> Correction:
    y, x = CENTRES[row] if row >= 0 else (40, 84)
    return Correction(0, kind, frame, track, float(y), float(x), 6.0, state, State.LIVE, 0.1, "me", 1.7e9)


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
    # calls that nobody spoke of may be no cells: none is a label, and the places of all are left out of the training
    assert first.state.tolist() == [State.DEAD]
    assert second.state.tolist() == [State.LIVE]
    assert second.centres_yx.tolist() == [[40, 84]]
    assert first.known is not None
    assert second.known is not None
    assert not any(first.known[tuple(at)] for at in ((60, 20), (60, 60)))
    assert not any(second.known[tuple(at)] for at in CENTRES.astype(int))
    assert second.known[40, 84]
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


def test_a_call_beside_a_corrected_cell_is_not_known_to_be_empty(record: Path) -> None:
    log = CorrectionLog(record)
    beside = replace(say("add", 0, -1, State.LIVE), y_px=20.0, x_px=30.0)  # 10 pixels from a call of radius 6
    log.save(log.take([beside]))
    (field,) = read(Records(path=record)).fields
    assert field.known is not None
    assert field.known[20, 33]
    assert field.known[20, 25]  # the added cell's own
    assert not field.known[20, 22]  # of the call, which the surroundings of the added cell reach


def test_live_is_said_of_one_frame_and_dead_of_all_later_ones(tmp_path: Path) -> None:
    record = recorded(tmp_path / "run.ome.zarr", tracked=True)
    log = CorrectionLog(record)
    said = [say("state", 0, 0, State.LIVE, 1), say("state", 0, 1, State.DEAD, 2), say("state", 3, 2, State.DEAD, 3)]
    log.save(log.take(said))
    first, last = read(Records(path=record)).fields
    assert first.state.tolist() == [State.LIVE, State.DEAD]
    assert last.state.tolist() == [UNKNOWN, State.DEAD, State.DEAD]  # the first may have died in between
    first, last = read(Records(path=record, reviewed=True)).fields
    assert first.state.tolist() == [State.LIVE, State.DEAD, State.LIVE, State.LIVE]
    assert last.state.tolist() == [UNKNOWN, State.DEAD, State.DEAD, State.LIVE]


def test_picked_cells_measure_nothing_and_set_no_chances(record: Path, tmp_path: Path) -> None:
    log = CorrectionLog(record)
    log.save(log.take([say("state", 1, row, State.DEAD) for row in range(4)]))
    sheet = evaluate("simulated", record, tmp_path / "sheet")
    assert {one["value"] for one in sheet["figures"].values()} == {None}
    assert "reviewed: true" in sheet["warnings"][0]
    assert "reviewed: true" in (tmp_path / "sheet" / "sheet.html").read_text()
    with pytest.raises(SourceError, match="reviewed: true"):
        recalibrate("simulated", record, tmp_path / "new.onnx")
    log.save(log.take([say("state", k, row, State.DEAD) for k in (0, 2) for row in range(4)]))
    done = recalibrate("simulated", record, tmp_path / "new.onnx")  # how such frames look can be learnt
    assert done.watched
    assert done.ece is None
    assert "reviewed: true" in done.notes[0]
    shown = propose(TrainSettings(name="mine", data=(Records(path=record),)), tmp_path / "labels")
    assert "reviewed: true" in shown["notes"][0]
    config = tmp_path / "reviewed.yaml"
    config.write_text(f"data: [{{kind: records, path: {json.dumps(str(record))}, reviewed: true}}]")
    with pytest.raises(ModelError, match="0 live and 0 dead labelled cells"):  # the states count, but this is noise
        recalibrate("simulated", config, tmp_path / "new.onnx")


@pytest.mark.timeout(600)
def test_picked_cells_train_a_network_but_say_nothing_of_it(record: Path, tmp_path: Path) -> None:
    log = CorrectionLog(record)
    states = (State.DEAD, State.LIVE, State.DEAD, State.LIVE)
    log.save(log.take([say("state", k, row, state) for k in range(4) for row, state in enumerate(states)]))
    data = [{"kind": "records", "path": record}]
    fit = {"steps": 1, "batch": 1, "canvas_px": 64}
    settings = TrainSettings.model_validate(
        {"name": "mended", "out": tmp_path, "start": "simulated", "data": data, "fit": fit}
    )
    with pytest.raises(SourceError, match="--from"):
        make_bundle(settings.model_copy(update={"start": None}))
    made = make_bundle(settings)
    card, start = made.bundle.card, load_bundle("simulated").card
    assert card.validation == ()
    assert card.sensitivity is None
    assert (card.temperature, card.uncertain) == (max(start.temperature, 1.0), start.uncertain)
    assert card.p_cell == start.p_cell


def corrected(path: Path, pixel_um: float = 0.5) -> Path:
    log = CorrectionLog(recorded(path, pixel_um=pixel_um))
    log.save(log.take([say("state", k, 0, State.DEAD) for k in (0, 2)]))
    return path


def test_frames_of_few_places_are_called_what_they_are(tmp_path: Path) -> None:
    corrected(tmp_path / "runs" / "a.ome.zarr")
    corrected(tmp_path / "runs" / "b.ome.zarr")
    settings = Records(path=tmp_path / "runs", reviewed=True)
    dataset = read(settings)
    assert dataset.described == "4 fields of kind records in 'runs', each frame a group"
    (note,) = dataset.notes
    assert "of 2 places and dealt by frame: the same cells may be in training and test" in note
    assert len(read(settings.model_copy(update={"reviewed": False})).notes) == 2
    config = tmp_path / "reviewed.yaml"
    config.write_text(json.dumps({"data": [{"kind": "records", "path": str(tmp_path / "runs"), "reviewed": True}]}))
    ((_, sheet),) = evaluate_all("simulated", config, tmp_path / "sheet").items()
    assert note in sheet["warnings"]
    corrected(tmp_path / "runs" / "c.ome.zarr")
    dataset = read(settings)
    assert dataset.described == "6 fields of kind records in 'runs', grouped by place"
    assert dataset.notes == ()


def test_records_of_different_pixel_sizes_are_no_one_entry(tmp_path: Path) -> None:
    corrected(tmp_path / "a.ome.zarr", pixel_um=0.65)
    corrected(tmp_path / "b.ome.zarr", pixel_um=0.325)
    with pytest.raises(SettingsError, match=r"state pixels of 0\.325, 0\.65 um; .* an entry of their own"):
        read(Records(path=tmp_path))
    assert read(Records(path=tmp_path, pixel_um=0.65)).pixel_um == 0.65
    assert read(Records(path=tmp_path / "b.ome.zarr")).pixel_um == 0.325
