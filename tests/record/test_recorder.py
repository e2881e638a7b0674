"""What goes into the recorder comes out of the record, to the bit; what cannot go in is counted and told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame, LossCause
from livescope.record import journal
from livescope.record.buffers import Buffers
from livescope.record.layout import JOURNAL
from livescope.record.reader import open_record
from livescope.record.verify import verify
from livescope.record.writer import IN_FLIGHT
from livescope.settings import load_settings


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def assert_same_calls(one: CellCalls, other: CellCalls) -> None:
    for field in fields(CellCalls):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_frames_come_back_as_they_went_in(bench: Any, make_frame: Callable[..., Frame], dtype: str, codec: str) -> None:
    recorder = bench.open(codec=codec, queue_frames=100)
    facts = {
        "segment": 3,
        "lost_before": 2,
        "elapsed_ms": 5.5,
        "position": "B2",
        "x_um": 1.0,
        "y_um": -2.0,
        "z_um": 0.25,
        "exposure_ms": 10.0,
        "metadata": {"ImageNumber": 4, "Camera-Gain": "1"},
    }
    frames = [make_frame(k, dtype=dtype, **facts) for k in range(70)]  # more than t grows by
    assert all(recorder.put(frame) for frame in frames)
    recorder.close({"model": "a"})
    assert (recorder.recorded, bench.ledger.total(LossCause.RECORDER), bench.errors) == (70, 0, [])
    record = open_record(recorder.path)
    assert record.closed
    assert record.manifest["model"] == "a"
    assert len(record) == len(record.frames) == 70
    assert record.settings == load_settings(recorder.path / "run.yaml")
    for stored, frame in zip(record.iter_frames(), frames, strict=True):
        np.testing.assert_array_equal(stored.pixels, frame.pixels)
        for field in fields(frame):
            if field.name != "pixels":
                assert getattr(stored, field.name) == getattr(frame, field.name), field.name
    np.testing.assert_array_equal(record.frames[2:5], np.stack([f.pixels for f in frames[2:5]]))
    assert record.frame_table["lost_before"].to_pylist() == [2] * 70


def test_pixels_that_may_change_are_copied(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open()
    frame = make_frame(0)
    as_it_was = frame.pixels.copy()
    recorder.put(frame)
    frame.pixels[:] = 0
    recorder.close()
    np.testing.assert_array_equal(open_record(recorder.path).frames[0], as_it_was)


def test_read_only_pixels_are_held_others_pooled() -> None:
    buffers = Buffers(limit=3, limit_bytes=10_000)
    fixed, changing = np.zeros((50, 60), np.uint8), np.ones((50, 60), np.uint8)
    fixed.flags.writeable = False
    assert buffers.hold(fixed) is fixed
    copy, turned = buffers.hold(changing), buffers.hold(changing.T)
    assert copy is not None
    assert copy is not changing
    np.testing.assert_array_equal(turned, changing.T)
    assert (buffers.fill, buffers.hold(fixed)) == (1.0, None)
    buffers.give(copy)
    buffers.give(fixed)
    assert buffers.hold(changing) is copy  # used again
    assert buffers.fill == pytest.approx(2 / 3)


def test_the_queue_is_bounded_in_memory_but_takes_one_frame() -> None:
    buffers = Buffers(limit=100, limit_bytes=10_000)
    large, small = np.zeros((200, 100), np.uint8), np.zeros((60, 100), np.uint8)
    first = buffers.hold(large)
    assert first is not None
    assert buffers.hold(small) is None
    assert buffers.fill == 1.0
    buffers.give(first)
    assert buffers.hold(small) is not None
    assert buffers.hold(small) is None


def test_pyramid_holds_means(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open(levels=3)
    frame = make_frame(0, shape=(96, 130))
    recorder.put(frame)
    recorder.close()
    record = open_record(recorder.path)
    half = record.stack(level=1)[0]
    assert [record.stack(level=k).shape for k in range(3)] == [(1, 96, 130), (1, 48, 65), (1, 24, 33)]
    means = frame.pixels.reshape(48, 2, 65, 2).mean((1, 3))
    assert np.abs(half - means).max() <= 0.5


def test_a_pyramid_made_at_the_close_is_the_same(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    records = []
    for pyramid in ("live", "close"):
        recorder = bench.open(tmp_path / f"{pyramid}.ome.zarr", pyramid=pyramid, channels=("BF", "Cy5"))
        for k in range(4):
            recorder.put(make_frame(k, channel=("BF", "Cy5")[k % 2]))
        recorder.put_calls(make_frame(0, channel="BF"), make_calls(0, 5))
        wait_for(lambda recorder=recorder: recorder.recorded == 4 and list(recorder.path.glob("labels/cells/0/c/*")))
        assert (recorder.path / "1").exists() == (pyramid == "live")
        yaozarrs = pytest.importorskip("yaozarrs")
        yaozarrs.validate_zarr_store(str(recorder.path))  # also while the run goes on
        recorder.close()
        yaozarrs.validate_zarr_store(str(recorder.path))
        assert verify(recorder.path).ok, str(verify(recorder.path))
        records.append(open_record(recorder.path))
    for level in range(3):
        one, other = (np.asarray(record.stack(level=level)) for record in records)
        np.testing.assert_array_equal(one, other)
        one, other = (np.asarray(record.stack(level=level, labels="cells")) for record in records)
        np.testing.assert_array_equal(one, other)
    assert bench.errors == []


@pytest.mark.parametrize("linked", [False, True])
def test_calls_and_labels_come_back(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], linked: bool
) -> None:
    recorder = bench.open()
    stored = {0: make_calls(0, 12, linked=linked), 2: make_calls(2, 0), 3: make_calls(3, 5, linked=linked)}
    for k in range(4):
        frame = make_frame(k)
        recorder.put(frame)
        if k in stored:
            recorder.put_calls(frame, stored[k])
    recorder.close()
    record = open_record(recorder.path)
    assert record.analysed == {0, 2, 3}
    assert record.frame_table["analysed"].to_pylist() == [True, False, True, True]
    assert record.calls_of(1) is None, "frame 1 was not analysed: that is not the same as no cell"
    assert len(record.calls_of(2)) == 0
    for k, calls in stored.items():
        assert_same_calls(record.calls_of(k), calls)
    assert record.calls["frame"].to_pylist() == [0] * 12 + [3] * 5
    assert set(record.calls["state"].to_pylist()) <= {"live", "dead", "uncertain"}
    np.testing.assert_allclose(record.calls["area_um2"].to_numpy(), record.calls["area_px"].to_numpy() * 0.65**2, 1e-6)
    cells, viability = record.stack(labels="cells"), record.stack(labels="viability")
    assert not cells[1].any()
    assert not viability[2].any()
    rows = record.calls.slice(12).to_pylist()
    words = {1: "live", 2: "dead", 3: "uncertain"}
    for row in rows:
        y, x = round(row["y_px"]), round(row["x_px"])
        if 0 <= y < 96 and 0 <= x < 130 and cells[3][y, x] == row["label"]:
            assert words[int(viability[3][y, x])] == row["state"]
    assert set(np.unique(cells[3])) - {0} <= {row["label"] for row in rows}
    assert {row["label"] for row in rows} == ({7, 8, 9, 10, 11} if linked else {1, 2, 3, 4, 5})


def test_without_labels_only_the_table_is_stored(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open(labels=False)
    frame = make_frame(0)
    recorder.put(frame)
    recorder.put_calls(frame, make_calls(0, 3))
    recorder.close()
    record = open_record(recorder.path)
    assert len(record.calls) == 3
    with pytest.raises(RecordError, match="no labels 'cells'"):
        record.stack(labels="cells")


def test_a_new_shape_position_or_channel_gets_its_own_image(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open()
    frames = [
        make_frame(0),
        make_frame(1, shape=(64, 64), segment=1),
        make_frame(2, segment=2),
        make_frame(3, position="B2"),
        make_frame(4, channel="DAPI"),
        make_frame(5, shape=(64, 64), segment=3),
    ]
    for frame in frames:
        assert recorder.put(frame)
    recorder.close()
    record = open_record(recorder.path)
    assert record.images == ("", "images/1", "images/2", "images/3")
    assert record.frame_table["image"].to_pylist() == ["", "images/1", "", "images/2", "images/3", "images/1"]
    assert record.frame_table["t"].to_pylist() == [0, 0, 1, 0, 0, 1]
    assert record.stack("images/1").shape == (2, 64, 64)
    for stored, frame in zip(record.iter_frames(), frames, strict=True):
        np.testing.assert_array_equal(stored.pixels, frame.pixels)


def test_declared_channels_share_an_image(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open(channels=("BF", "GFP"))
    frames = [make_frame(k, channel=("BF", "GFP")[k % 2]) for k in range(6)]
    for frame in frames:
        recorder.put(frame)
    recorder.close()
    record = open_record(recorder.path)
    assert record.images == ("",)
    assert record.frame_table["c"].to_pylist() == [0, 1, 0, 1, 0, 1]
    for stored, frame in zip(record.iter_frames(), frames, strict=True):
        np.testing.assert_array_equal(stored.pixels, frame.pixels)


def test_other_tables_and_notes(bench: Any) -> None:
    recorder = bench.open()
    for k in range(2):
        recorder.put_table(
            "truth", {"frame": [k, k], "radii_px": np.ones((2, 32), np.float32), "state": ["live", "dead"]}
        )
    recorder.note(devices={"camera": "DCam"})
    assert open_record(recorder.path).table("truth")["frame"].to_pylist() == [0, 0, 1, 1]
    assert open_record(recorder.path).manifest["devices"] == {"camera": "DCam"}
    with pytest.raises(RecordError, match="'calls'"):
        recorder.put_table("calls", {"a": [1]})
    with pytest.raises(RecordError, match="could not be written"):
        recorder.put_table("truth", {"other": [1]})
    recorder.close()
    record = open_record(recorder.path)
    assert record.table("truth")["state"].to_pylist() == ["live", "dead"] * 2
    assert record.manifest["devices"] == {"camera": "DCam"}
    with pytest.raises(RecordError, match="no table 'fate'"):
        record.table("fate")


def test_a_full_queue_refuses_and_counts(
    bench: Any, make_frame: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = bench.open(queue_frames=4)
    hold = threading.Event()
    pyramid = recorder._images.pyramid
    monkeypatch.setattr(
        recorder._images, "pyramid", lambda *args: hold.wait(30) and pyramid(*args)
    )  # a disk that hangs
    taken = [recorder.put(make_frame(k)) for k in range(4 + IN_FLIGHT + 3)]
    assert taken == [True] * (4 + IN_FLIGHT) + [False] * 3
    assert recorder.queue_fill == 1.0
    assert bench.ledger.total(LossCause.RECORDER) == 3
    hold.set()
    recorder.close()
    assert recorder.recorded == 4 + IN_FLIGHT
    assert open_record(recorder.path).frame_table["frame"].to_pylist() == list(range(4 + IN_FLIGHT))
    assert recorder.put(make_frame(99)) is False
    assert bench.ledger.total(LossCause.RECORDER) == 4


def test_a_refused_frame_leaves_a_hole_where_its_channel_lies_beside_others(
    bench: Any, make_frame: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = bench.open(channels=("BF", "GFP"), queue_frames=4)
    hold = threading.Event()
    pyramid = recorder._images.pyramid
    monkeypatch.setattr(recorder._images, "pyramid", lambda *args: hold.wait(30) and pyramid(*args))
    room = 4 + IN_FLIGHT
    assert room % 2 == 0
    taken = [recorder.put(make_frame(k, channel=("BF", "GFP")[k % 2])) for k in range(room + 1)]
    hold.set()
    wait_for(lambda: recorder.recorded == room)
    taken += [recorder.put(make_frame(k, channel=("BF", "GFP")[k % 2])) for k in range(room + 1, room + 4)]
    recorder.close()
    assert taken == [True] * room + [False] + [True] * 3
    rows = open_record(recorder.path).frame_table.to_pylist()
    assert [(row["frame"], row["t"], row["c"]) for row in rows[-3:]] == [
        (room + 1, room // 2, 1),
        (room + 2, room // 2 + 1, 0),
        (room + 3, room // 2 + 1, 1),
    ]
    assert verify(recorder.path).ok, str(verify(recorder.path))


def test_a_write_that_fails_is_told_counted_and_leaves_the_rest_whole(
    bench: Any, make_frame: Callable[..., Frame]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    wait_for(lambda: recorder.recorded == 1)
    shard = recorder.path / "0" / "c" / "1"
    shard.write_text("a file where a folder must be: the disk refuses exactly this frame")
    recorder.put(make_frame(1))
    wait_for(lambda: bench.errors)
    shard.unlink()
    recorder.put(make_frame(2))
    recorder.close()
    assert (recorder.recorded, bench.ledger.total(LossCause.RECORDER)) == (2, 1)
    assert str(recorder.path) in str(bench.errors[0])
    record = open_record(recorder.path)
    assert record.frame_table["frame"].to_pylist() == [0, 2]
    assert record.frame_table["t"].to_pylist() == [0, 2]
    np.testing.assert_array_equal(record.frames[1], make_frame(2).pixels)
    assert record.manifest["errors"] == [str(e) for e in bench.errors]


def test_a_disk_that_refuses_each_frame_has_one_error(
    bench: Any, make_frame: Callable[..., Frame], full_at: Callable[[int], AbstractContextManager[None]]
) -> None:
    """Whatever tensorstore says of each: file, bytes and handle are others each time."""
    recorder = bench.open(codec="none", labels=False, queue_frames=100)
    with full_at(6_000):
        for k in range(20):
            recorder.put(make_frame(k))
        wait_for(lambda: bench.ledger.total(LossCause.RECORDER) == 20)
    recorder.close()
    told = {re.sub(r"\d+ frames lost so far", "", str(error)) for error in bench.errors}
    assert len([error for error in told if "File too large" in error]) == 1
    assert len(open_record(recorder.path).manifest["errors"]) == len(told)


def test_a_deleted_record_is_told_and_later_frames_are_counted(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    wait_for(lambda: recorder.recorded == 1)
    shutil.rmtree(recorder.path)
    wait_for(lambda: bench.errors)
    assert "out of reach (moved, deleted" in str(bench.errors[0])
    recorder.put(make_frame(1))
    recorder.put_calls(make_frame(1), make_calls(1, 3))
    wait_for(lambda: bench.ledger.total(LossCause.RECORDER) == 1)
    recorder.close()
    assert recorder.recorded == 1
    assert not recorder.path.exists(), "nothing is written where the record was"


def test_a_record_out_of_reach_for_an_instant_goes_on(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    share = tmp_path / "share"
    recorder = bench.open(share / "a.ome.zarr")
    for k in range(2):
        recorder.put(make_frame(k))
    recorder.put_calls(make_frame(0), make_calls(0, 3))
    wait_for(lambda: recorder.recorded == 2 and open_record(recorder.path).analysed == {0})
    share.rename(tmp_path / "away")
    for k in range(2, 5):
        assert recorder.put(make_frame(k))
    recorder.put_calls(make_frame(1), make_calls(1, 3))
    wait_for(lambda: bench.ledger.total(LossCause.RECORDER) == 3 and "calls are lost" in str(bench.errors))
    wait_for(lambda: recorder._journal.due and not share.exists())
    (tmp_path / "away").rename(share)
    for k in range(5, 8):
        recorder.put(make_frame(k))
    recorder.put_calls(make_frame(5), make_calls(5, 3))
    recorder.close()
    assert (recorder.recorded, bench.ledger.total(LossCause.RECORDER)) == (5, 3)
    record = open_record(recorder.path)
    assert record.frame_table["frame"].to_pylist() == [0, 1, 5, 6, 7]
    assert record.analysed == {0, 5}
    assert verify(recorder.path).ok, str(verify(recorder.path))


def test_a_record_replaced_by_another_takes_no_further_frame(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    wait_for(lambda: recorder.recorded == 1)
    recorder.path.rename(recorder.path.with_name("moved.ome.zarr"))
    other = bench.open()
    wait_for(lambda: "another record stands in its place" in str(bench.errors))
    assert recorder.put(make_frame(1)) is False
    recorder.close()
    other.close()
    assert len(open_record(other.path)) == 0


def test_calls_go_on_after_a_full_disk(
    bench: Any,
    make_frame: Callable[..., Frame],
    make_calls: Callable[..., CellCalls],
    full_at: Callable[[int], AbstractContextManager[None]],
) -> None:
    recorder = bench.open(labels=False)
    for k in range(6):
        recorder.put(make_frame(k))

    def decide(k: int) -> None:
        recorder.put_table("fates", {"frame": [k] * 500, "name": [f"{k}"] * 500})

    for k in range(3):
        recorder.put_calls(make_frame(k), make_calls(k, 100))
        decide(k)
    wait_for(lambda: recorder.recorded == 6 and len(open_record(recorder.path).analysed) == 3)
    most = {name: (recorder.path / f"{name}.arrow").stat().st_size for name in ("calls", "fates")}
    with full_at(most["calls"] + 300):
        recorder.put_calls(make_frame(3), make_calls(3, 100))
        wait_for(lambda: bench.errors)
    with full_at(most["fates"] + 300), pytest.raises(RecordError, match="File too large"):
        decide(3)
    for k in range(4, 6):
        recorder.put_calls(make_frame(k), make_calls(k, 100))
        decide(k)
    recorder.close()
    record = open_record(recorder.path)
    assert sorted(record.analysed) == sorted(set(record.calls["frame"].to_pylist())) == [0, 1, 2, 4, 5]
    assert_same_calls(record.calls_of(5), make_calls(5, 100))
    assert sorted(set(record.table("fates")["frame"].to_pylist())) == [0, 1, 2, 4, 5]
    assert verify(recorder.path).ok, str(verify(recorder.path))


def test_a_track_that_cannot_be_a_label_is_told(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    frame, calls = make_frame(0), make_calls(0, 2)
    calls.track[:] = [0, 1]
    recorder.put(frame)
    recorder.put_calls(frame, calls)
    recorder.close()
    assert "must be 1.." in str(bench.errors[0])
    assert open_record(recorder.path).analysed == frozenset()


def test_calls_of_a_refused_frame_are_kept_without_a_place(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.put_calls(make_frame(5), make_calls(5, 2))
    recorder.close()
    record = open_record(recorder.path)
    assert record.calls["t"].to_pylist() == [None, None]
    assert record.analysed == {5}


def test_existing_records_are_refused_or_replaced_and_nothing_else_is_ever_deleted(
    bench: Any, make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    first = bench.open()
    first.put(make_frame(0))
    with pytest.raises(RecordError, match="being written by another process"):
        bench.open(overwrite=True)
    first.close()
    with pytest.raises(RecordError, match=r"exists.*record\.overwrite=true"):
        bench.open()
    assert len(open_record(first.path)) == 1
    second = bench.open(overwrite=True)
    second.close()
    assert len(open_record(second.path)) == 0
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("years of work")
    with pytest.raises(RecordError, match="not a livescope record"):
        bench.open(foreign, overwrite=True)
    assert [f.name for f in foreign.iterdir()] == ["chapter.txt"]
    assert (foreign / "chapter.txt").read_text() == "years of work"


def test_a_path_that_cannot_be_written_names_the_next_step(bench: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RecordError, match=r"is a file; choose another"):
        bench.open(file)
    with pytest.raises(RecordError, match=r"cannot be written.*may write to"):
        bench.open(file / "below.ome.zarr")
    with pytest.raises(RecordError, match=r"MB free.*Free space"):
        bench.open(tmp_path / "full.ome.zarr", min_free_mb=10**9)


def test_time_in_the_path(bench: Any, tmp_path: Path) -> None:
    recorder = bench.open(tmp_path / "run-{time}.ome.zarr")
    assert recorder.path.name.startswith("run-2")
    assert recorder.path.exists()


def test_another_process_cannot_write_the_same_record(bench: Any) -> None:
    recorder = bench.open()
    code = (
        "import sys; from livescope.record.place import make_record_folder; from pathlib import Path\n"
        "make_record_folder(Path(sys.argv[1]), overwrite=True, min_free_bytes=0)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(recorder.path)], capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert "being written by another process" in other.stderr
    assert (recorder.path / JOURNAL).exists()


def test_a_record_is_read_while_it_is_written(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    for k in range(3):
        recorder.put(make_frame(k))
        recorder.put_calls(make_frame(k), make_calls(k, 2))
    wait_for(lambda: recorder.recorded == 3 and len(open_record(recorder.path).analysed) == 3)
    record = open_record(recorder.path)
    assert (record.live, record.closed, len(record), len(record.calls)) == (True, False, 3, 6)
    np.testing.assert_array_equal(record.frames[2], make_frame(2).pixels)
    recorder.put(make_frame(3))
    wait_for(lambda: recorder.recorded == 4)
    assert len(record.frames) == 3, "a record does not change under its reader"
    record.refresh()
    assert len(record.frames) == 4
    recorder.close()
    record.refresh()
    assert (record.live, record.closed) == (False, True)


def test_a_record_that_grows_is_read_on_and_equals_one_read_at_once(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = bench.open()
    record = open_record(recorder.path)
    order = [0, 1, 2, 5, 6, 3, 4, 7]
    for done, k in enumerate(order, 1):
        recorder.put(make_frame(k))
        wait_for(lambda done=done: recorder.recorded == done)
        if k % 2 == 0:
            recorder.put_calls(make_frame(k), make_calls(k, 3))
            wait_for(lambda k=k: k in open_record(recorder.path).analysed)
        record.refresh()
        whole = open_record(recorder.path)
        assert record.frame_table.equals(whole.frame_table)
        assert (record.analysed, record.images, len(record)) == (whole.analysed, whole.images, done)
        for index in sorted(whole.analysed):
            assert_same_calls(record.calls_of(index), make_calls(index, 3))
    parsed: list[bytes] = []
    monkeypatch.setattr(journal.json, "loads", lambda text, loads=json.loads: parsed.append(text) or loads(text))
    recorder.put(make_frame(8))
    wait_for(lambda: recorder.recorded == 9)
    record.refresh()
    assert len(record) == 9
    # the first line is looked at each time; losses may have come beside the frame
    assert sum(b'"kind":"frame"' in text for text in parsed) == 1


def test_another_record_in_the_place_of_one_is_read_anew(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    paths = []
    for name, cells in (("a", 2), ("b", 2), ("c", 3)):
        recorder = bench.open(tmp_path / f"{name}.ome.zarr")
        for k in range(cells):
            recorder.put(make_frame(k))
            recorder.put_calls(make_frame(k), replace(make_calls(k, cells), p_dead=np.full(cells, cells / 10, "f4")))
        recorder.close()
        paths.append(recorder.path)
    record = open_record(paths[0])
    assert len(record.calls) == 4
    for other in paths[1:]:
        shutil.rmtree(paths[0])
        shutil.copytree(other, paths[0])
        record.refresh()
        assert record.frame_table.equals(open_record(other).frame_table)
        assert_same_calls(record.calls_of(1), open_record(other).calls_of(1))


def test_what_was_known_of_a_record_stays_while_it_is_out_of_reach(
    bench: Any, make_frame: Callable[..., Frame]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.close()
    record = open_record(recorder.path)
    away = recorder.path.with_name("away")
    recorder.path.rename(away)
    with pytest.raises(RecordError, match="is not there"):
        record.refresh()
    assert len(record.frame_table) == 1
    away.rename(recorder.path)
    record.refresh()
    assert len(record.frame_table) == 1


def test_calls_that_are_on_their_way_to_the_disk_are_no_damage(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.put_calls(make_frame(0), make_calls(0, 3))
    wait_for(lambda: open_record(recorder.path).analysed)
    late = recorder.path.parent / "late.ome.zarr"
    shutil.copytree(recorder.path, late)
    table = (late / "calls.arrow").read_bytes()
    (late / "calls.arrow").unlink()
    record = open_record(late)
    assert len(record.calls_of(0)) == 0
    (late / "calls.arrow").write_bytes(table)
    record.refresh()
    assert_same_calls(record.calls_of(0), make_calls(0, 3))


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a livescope record"):
        open_record(tmp_path)
    with pytest.raises(RecordError, match=r"missing.ome.zarr' is not there. Give the folder"):
        open_record(tmp_path / "missing.ome.zarr")


def test_an_empty_record_closes_in_order(bench: Any) -> None:
    recorder = bench.open()
    recorder.close()
    recorder.close()
    record = open_record(recorder.path)
    assert (len(record), record.images, record.closed, len(record.calls)) == (0, (), True, 0)
    with pytest.raises(RecordError, match="has no image"):
        _ = record.frames
    json.loads((recorder.path / "manifest.json").read_text())


def test_a_store_that_refuses_is_one_clear_error() -> None:
    pytest.importorskip("upath")
    with pytest.raises(RecordError, match=r"cannot be opened: .*Endpoint and credentials"):
        open_record("nosuchstore://lab/day1.ome.zarr")
