"""After a crash exactly the journalled frames are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame
from livescope.record.layout import JOURNAL, MANIFEST
from livescope.record.reader import open_record
from livescope.record.recover import Recovery, recover
from livescope.record.verify import verify

CRASHING = """
import os, sys, time
import numpy as np
from livescope.frames import Frame, LossLedger
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings
settings = RecordSettings(min_free_mb=0, queue_frames=64)
recorder = Recorder(sys.argv[1], settings, LossLedger(), run_settings=Settings(), on_error=print)
for k in range(40):
    pixels = np.random.default_rng(k).integers(0, 4096, (96, 130)).astype(np.uint16)
    recorder.put(Frame(pixels, k, 0, "Camera", 100 + k / 10, 0.0, 12))
while recorder.recorded < 10:
    time.sleep(0.001)
os._exit(9)
"""


def crash(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASHING, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr


def test_a_killed_recorder_leaves_what_was_journalled(tmp_path: Path, make_frame: Callable[..., Frame]) -> None:
    path = tmp_path / "a.ome.zarr"
    crash(path)
    before = open_record(path)
    assert not before.closed
    assert not before.live
    found = recover(path)
    assert found.frames == len(before) >= 10
    assert not found.was_closed
    record = open_record(path)
    assert record.closed
    assert record.manifest["recovered"] is True
    assert record.frame_table["frame"].to_pylist() == list(range(found.frames))
    for frame in record.iter_frames():
        np.testing.assert_array_equal(frame.pixels, make_frame(frame.index).pixels)
    array = zarr.open_array(str(path / "0"), mode="r")
    assert array.shape[0] == found.frames, "no phantom frames"
    assert {int(f.name) for f in (path / "0" / "c").iterdir()} == set(range(found.frames))
    assert not list(path.rglob("*.__lock"))
    again = recover(path)
    assert again.was_closed
    assert "nothing to recover" in str(again)


def test_dropped_journal_lines_drop_their_frames(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open()
    for k in range(6):
        recorder.put(make_frame(k))
        recorder.put_calls(make_frame(k), make_calls(k, 3))
    recorder.close()
    journal = recorder.path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if b'"frame","image":"","t":3' in line)
    journal.write_bytes(b"".join(lines[:last]) + lines[last][:20])  # the power failed within the line of frame 3
    manifest = (recorder.path / MANIFEST).read_text().replace('"closed": "', '"closed": null, "was": "')
    (recorder.path / MANIFEST).write_text(manifest)
    found = recover(recorder.path)
    assert (found.frames, found.unfinished) == (3, 3)
    record = open_record(recorder.path)
    assert record.frames.shape[0] == record.stack(labels="cells").shape[0] == 3
    np.testing.assert_array_equal(record.frames[2], make_frame(2).pixels)
    assert record.analysed <= set(range(6))
    assert set(record.calls["frame"].to_pylist()) == record.analysed


def test_calls_that_cannot_be_read_are_told_and_their_table_is_kept(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    recorder = bench.open(labels=False)
    for k in range(5):
        recorder.put(make_frame(k))
        recorder.put_calls(make_frame(k), make_calls(k, 20))
    while recorder.recorded < 5 or len(open_record(recorder.path).analysed) < 5:
        time.sleep(0.005)
    crashed = tmp_path / "crashed.ome.zarr"
    shutil.copytree(recorder.path, crashed)
    stream = crashed / "calls.arrow"
    whole = stream.read_bytes()
    stream.write_bytes(whole[: len(whole) * 5 // 9] + whole[len(whole) * 6 // 9 :])
    found = recover(crashed)
    assert (found.frames, found.analysed, found.rowless) == (5, 5, 3)
    assert "the calls of 2 are safe" in str(found)
    assert "3 frames have lost theirs; calls.arrow was kept" in str(found)
    assert stream.exists()
    record = open_record(crashed)
    assert record.manifest["calls_lost_of_frames"] == [2, 3, 4]
    assert record.calls["frame"].to_pylist() == [0] * 20 + [1] * 20
    assert [len(record.calls_of(k) or ()) for k in range(5)] == [20, 20, 0, 0, 0]  # told already, so no error
    assert sum("calls in the table, others in the journal" in problem for problem in verify(crashed).problems) == 3


@pytest.mark.parametrize("left", [(), (MANIFEST,), ("0",), ("0", "zarr.json", "labels")])
def test_a_crash_within_the_first_instant(
    bench: Any, make_frame: Callable[..., Frame], left: tuple[str, ...], tmp_path: Path
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.close()
    path = tmp_path / "crashed.ome.zarr"
    path.mkdir()
    for name in left:
        source = recorder.path / name
        if source.is_dir():
            shutil.copytree(source, path / name)
        elif source.exists():
            shutil.copy(source, path / name)
    (path / "labels").mkdir(exist_ok=True)
    first = (recorder.path / JOURNAL).read_bytes().splitlines(keepends=True)[0]
    (path / JOURNAL).write_bytes(first)
    if MANIFEST in left:
        (path / MANIFEST).write_text((path / MANIFEST).read_text().replace('"closed": "', '"closed": null, "was": "'))
    assert recover(path).frames == 0
    record = open_record(path)
    assert record.closed
    assert record.images == ()
    assert not (path / "0").exists()


def test_recovering_what_is_written_or_is_no_record_is_refused(bench: Any, tmp_path: Path) -> None:
    recorder = bench.open()
    with pytest.raises(RecordError, match="being written by another process"):
        recover(recorder.path)
    with pytest.raises(RecordError, match="not a livescope record"):
        recover(tmp_path)


def test_recovery_says_what_was_lost() -> None:
    losses = {"delivered": 12, "core": 3, "camera": 0, "recorder": 2, "analysis": 7, "display": 0}
    said = str(Recovery(Path("run.ome.zarr"), 10, 5, 1, losses, was_closed=False))
    assert "10 frames and the calls of 5 are safe; 1 unfinished frames were dropped" in said
    assert said.endswith("Lost before the crash: 3 core, 2 recorder.")


def test_a_pyramid_left_for_the_close_is_made_by_recover(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    recorder = bench.open(pyramid="close")
    for k in range(3):
        recorder.put(make_frame(k))
    recorder.put_calls(make_frame(1), make_calls(1, 4))
    recorder.close()
    path = recorder.path
    manifest = (path / MANIFEST).read_text().replace('"closed": "', '"closed": null, "was": "')
    (path / MANIFEST).write_text(manifest)
    for half_done in ("1/c/2", "2", "labels/cells/1"):
        shutil.rmtree(path / half_done)
    assert recover(path).frames == 3
    assert verify(path).ok, str(verify(path))
