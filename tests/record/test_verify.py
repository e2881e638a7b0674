"""What was changed after the run is found."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorstore as ts
import zarr

from livescope.calls import CellCalls, State
from livescope.errors import RecordError
from livescope.frames import Frame
from livescope.record.corrections import LOG, Correction, CorrectionLog
from livescope.record.layout import FORMAT
from livescope.record.manifest import write_manifest
from livescope.record.reader import Record, open_record
from livescope.record.recover import recover
from livescope.record.verify import verify


def correct(path: Path, *tracks: int) -> CorrectionLog:
    log = CorrectionLog(path)
    said = [
        Correction(0, "state", 0, track, 1.0, 2.0, 3.0, State.DEAD, State.LIVE, 0.2, "Ada", 1.7e9 + track)
        for track in tracks
    ]
    log.save(log.take(said))
    return log


@pytest.fixture
def stored(bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]) -> Path:
    recorder = bench.open()
    for k in range(4):
        recorder.put(make_frame(k))
        if k % 2 == 0:
            recorder.put_calls(make_frame(k), make_calls(k, 5))
    recorder.put(make_frame(4, shape=(64, 70)))
    recorder.close()
    path: Path = recorder.path
    return path


def test_what_was_not_touched_is_as_written(stored: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = verify(stored, lambda done, total: steps.append((done, total)))
    assert found.ok, str(found)
    assert (found.frames, steps[-1]) == (5, (5, 5))
    assert "all as written" in str(found)


def swap_frames(path: Path) -> None:
    a, b = path / "0/c/1/0/0/0", path / "0/c/3/0/0/0"
    held = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(held)


def write_plane(array: str, t: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        zarr.open_array(str(path / array), mode="r+")[t] = np.uint8(1)

    return write


def cut_shard(path: Path) -> None:
    shard = path / "0/c/2/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-20])


def flip_bit(shard: str) -> Callable[[Path], None]:
    """Change one bit of the first chunk, as a tired disk does."""

    def write(path: Path) -> None:
        stored = bytearray((path / shard).read_bytes())
        stored[40] ^= 1
        (path / shard).write_bytes(stored)

    return write


def cut(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, 100)


def drop(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def edit(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / name).write_bytes((path / name).read_bytes() + b" ")

    return write


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / name).write_text((path / name).read_text().replace(old, new))

    return write


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap_frames, "frame 1 (root, t 1) is not what was recorded"),
        (write_plane("0", 2), "frame 2 (root, t 2) is not what was recorded"),
        (write_plane("1", 2), "level 1 is not made from level 0"),
        (write_plane("images/1/2", 0), "frame 4 (images/1, t 0): level 2"),
        (write_plane("labels/viability/0", 2), "labels/viability/0 differ"),
        (cut_shard, "frame 2 (root, t 2) cannot be read"),
        (flip_bit("0/c/2/0/0/0"), "frame 2 (root, t 2) cannot be read"),
        (flip_bit("1/c/2/0/0/0"), "frame 2 (root, t 2) cannot be read"),
        (flip_bit("labels/cells/0/c/2/0/0"), "labels/cells/0 cannot be read"),
        (lambda path: shutil.rmtree(path / "0/c/3"), "frame 3 (root, t 3) is not what was recorded"),
        (edit("run.yaml"), "run.yaml has changed"),
        (replace_in("manifest.json", "livescope record", "livescope  record"), "manifest.json has changed"),
        (edit("labels/viability/zarr.json"), "labels/viability/zarr.json has changed"),
        (lambda path: (path / "calls.parquet").unlink(), "calls.parquet is missing"),
        (cut("calls.parquet"), "table 'calls'"),
        (lambda path: shutil.rmtree(path / "0"), "frame 0 (root, t 0) cannot be read"),
    ],
)
def test_every_change_is_found_and_named(stored: Path, change: Callable[[Path], None], named: str) -> None:
    change(stored)
    found = verify(stored)
    assert not found.ok
    assert any(named in problem for problem in found.problems), found.problems


def test_cells_that_are_gone_from_the_table_are_named(stored: Path) -> None:
    table = pq.read_table(stored / "calls.parquet")
    pq.write_table(table.slice(2), stored / "calls.parquet")
    assert len(open_record(stored).calls_of(2) or ()) == 5
    with pytest.raises(RecordError, match=r"calls of frame 0 .* 3 cells of it, there were 5"):
        open_record(stored).calls_of(0)
    assert any("calls of frame 0" in problem for problem in verify(stored).problems)


@pytest.mark.parametrize("change", [lambda path: (path / "calls.parquet").unlink(), cut("calls.parquet")])
def test_labels_are_not_held_against_calls_that_are_gone(stored: Path, change: Callable[[Path], None]) -> None:
    change(stored)
    assert not any("labels/" in problem for problem in verify(stored).problems)


@pytest.mark.parametrize(
    ("change", "read", "told"),
    [
        (cut_shard, lambda record: record.frame(2), "frame 2 of record .* cannot be read"),
        (flip_bit("0/c/2/0/0/0"), lambda record: record.frame(2), "frame 2 of record .* cannot be read"),
        (flip_bit("1/c/2/0/0/0"), lambda record: record.stack(level=1)[2], r"plane \(2, 0\) of .* cannot be read"),
        (cut_shard, lambda record: record.frames[2], r"plane \(2, 0\) of .* cannot be read"),
        (lambda path: shutil.rmtree(path / "0/c/3"), lambda record: record.frame(3), "not those that were recorded"),
        (swap_frames, lambda record: record.frame(1), "not those that were recorded"),
        (lambda path: shutil.rmtree(path / "0"), lambda record: record.frame(0), "array .* cannot be read"),
        (cut("0/zarr.json"), lambda record: record.frames, "array .* cannot be read"),
        (cut("calls.parquet"), lambda record: record.calls, "table 'calls' of record .* .livescope verify"),
        (drop("calls.parquet"), lambda record: record.calls_of(0), "calls of frame 0 .* 0 cells .* were 5.* verify"),
        (cut("manifest.json"), lambda record: record.manifest, "manifest.json .* .livescope recover"),
        (lambda path: (path / "manifest.json").unlink(), lambda record: record.closed, "manifest.json .* recover"),
        (lambda path: (path / "run.yaml").unlink(), lambda record: record.settings, "lost its run.yaml"),
    ],
)
def test_reading_what_is_damaged_says_what_and_what_to_do(
    stored: Path, change: Callable[[Path], None], read: Callable[[Record], Any], told: str
) -> None:
    change(stored)
    with pytest.raises(RecordError, match=told):
        read(open_record(stored))


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_a_flipped_bit_is_an_error_to_every_reader(bench: Any, make_frame: Callable[..., Frame], codec: str) -> None:
    recorder = bench.open(codec=codec)
    recorder.put(make_frame(0))
    recorder.close()
    flip_bit("0/c/0/0/0/0")(recorder.path)
    with pytest.raises(ValueError, match="checksum"):
        np.asarray(zarr.open_group(str(recorder.path), mode="r")["0"])
    store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(recorder.path / "0")}}).result()
    with pytest.raises(ValueError, match="Digest mismatch"):
        store[0, 0].read().result()


def test_a_record_of_another_format_is_not_guessed_at(stored: Path) -> None:
    replace_in("journal.ndjson", f'"livescope":{FORMAT}', '"livescope":1')(stored)
    with pytest.raises(RecordError, match=f"is of format 1, this livescope reads format {FORMAT}"):
        open_record(stored)


def test_a_lost_manifest_is_made_anew(stored: Path) -> None:
    (stored / "manifest.json").unlink()
    recover(stored)
    assert verify(stored).ok


@pytest.mark.parametrize("pyramid", ["live", "close"])
def test_a_record_that_was_not_closed_says_so_and_its_frames_are_sound(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], pyramid: str
) -> None:
    recorder = bench.open(pyramid=pyramid)
    recorder.put(make_frame(0))
    recorder.put_calls(make_frame(0), make_calls(0, 9))
    while recorder.recorded < 1 or not open_record(recorder.path).analysed:
        time.sleep(0.005)
    (problem,) = verify(recorder.path).problems
    assert "never closed" in problem
    recorder.close()
    assert verify(recorder.path).ok


def test_a_recovered_record_is_whole(stored: Path) -> None:
    manifest = stored / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"closed": "', '"closed": null, "was": "'))
    recover(stored)
    assert verify(stored).ok


def test_dask_reads_shard_by_shard(stored: Path, make_frame: Callable[..., Frame]) -> None:
    pytest.importorskip("dask.array")
    record = open_record(stored)
    frames = record.dask()
    assert frames.shape == (4, 1, 96, 130)
    assert frames.chunks[0] == (1, 1, 1, 1)
    assert len(frames.chunks[2]) == len(frames.chunks[3]) == 1
    np.testing.assert_array_equal(frames[3, 0].compute(), make_frame(3).pixels)
    assert record.dask(labels="cells", level=1).shape == (4, 48, 65)
    assert record.dask("images/1").shape == (1, 1, 64, 70)


def test_corrections_are_in_the_manifest_and_checked(stored: Path) -> None:
    correct(stored, 1, 2)
    correct(stored, 3)
    account = open_record(stored).manifest["corrections"]
    assert account["lines"] == 3
    assert account["authors"] == {"Ada": {"lines": 3, "first_wall_time": 1.7e9 + 1, "last_wall_time": 1.7e9 + 3}}
    assert verify(stored).ok
    text = (stored / LOG).read_text()
    (stored / LOG).write_text(text.replace("Ada", "Bob", 1))
    assert verify(stored).problems == ("corrections/log.ndjson has changed",)
    (stored / LOG).write_text(text.split("\n", 1)[1])
    assert verify(stored).problems == ("corrections/log.ndjson has 2 corrections, there were 3",)
    (stored / LOG).write_text("x" + text)
    assert "is damaged" in verify(stored).problems[0]


def test_corrections_made_while_the_run_goes_on_are_told_at_its_end(
    bench: Any, make_frame: Callable[..., Frame]
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    correct(recorder.path, 1)
    recorder.close()
    assert open_record(recorder.path).manifest["corrections"]["lines"] == 1
    assert verify(recorder.path).ok


def test_firings_of_rules_are_checked(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    rows = [{"frame": 0, "rule": name, "ok": True, "wait_s": 0.1} for name in ("a", "b")]
    for row in rows:
        recorder.put_table("firings", {name: [value] for name, value in row.items()})
    recorder.note(firings=rows)
    recorder.close()
    assert verify(recorder.path).ok
    manifest = open_record(recorder.path).manifest
    manifest["firings"][1]["rule"] = "c"
    write_manifest(recorder.path, manifest)
    assert verify(recorder.path).problems == ("1 firings of rules in manifest.json are not in firings.parquet",)
