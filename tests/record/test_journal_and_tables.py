"""Files that are cut off anywhere are read up to the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from livescope.record import committed, table
from livescope.record.append import AppendOnlyFile
from livescope.record.journal import SYNC_LINES, Bookmark, Journal, read_journal
from livescope.record.layout import FORMAT, JOURNAL
from livescope.record.table import TableStream, read_stream, to_batch, write_parquet

Full = Callable[[int], AbstractContextManager[None]]


def test_journal_cut_at_every_byte_gives_its_whole_lines(tmp_path: Path) -> None:
    lines = [{"kind": "frame", "t": k} for k in range(4)]
    journal = Journal(tmp_path / "j")
    for line in lines:
        journal.append(line)
    journal.sync()
    journal.close()
    data = (tmp_path / "j").read_bytes()
    for cut in range(len(data) + 1):
        (tmp_path / "cut").write_bytes(data[:cut])
        assert list(read_journal(tmp_path / "cut")) == lines[: data[:cut].count(b"\n")]


def test_blocks_lost_by_a_power_failure_end_the_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"a":1}\n' + b"\0" * 20 + b'\n{"a":2}\n')
    assert list(read_journal(tmp_path / "j")) == [{"a": 1}]


def test_a_journal_is_read_on_from_its_bookmark(tmp_path: Path) -> None:
    path, mark = tmp_path / "j", Bookmark()
    for data, found in (
        (b'{"a":1}\n{"a":2}\n{"a"', [1, 2]),  # the third is just being written
        (b'{"a":1}\n{"a":2}\n{"a"', []),
        (b'{"a":1}\n{"a":2}\n{"a":3}\n', [3]),
        (b'{"a":1}\n{"a":4}\n', [1, 4]),  # lines were taken back
        (b'{"a":1}\n{"a":5}\n{"a":6}\n', [1, 5, 6]),
        (b'{"b":1}\n{"a":5}\n{"a":6}\n{"a":7}\n', [5, 6, 7]),  # another journal
    ):
        path.write_bytes(data)
        assert [line["a"] for line in read_journal(path, mark) if "a" in line] == found
        assert mark.end == data.rfind(b"\n") + 1


def test_journal_syncs_in_batches_and_what_it_speaks_of_first(tmp_path: Path) -> None:
    synced = []
    journal = Journal(tmp_path / "j", before_sync=lambda: synced.append(len([*read_journal(tmp_path / "j")])))
    for k in range(SYNC_LINES):
        journal.append({"k": k})
    assert journal.due
    journal.sync()
    assert not journal.due
    journal.sync()
    assert synced == [SYNC_LINES], "a sync without new lines costs nothing"
    journal.close()


def test_journal_notices_that_it_is_out_of_reach_or_replaced(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    (tmp_path / "j").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        journal.sync()
    (tmp_path / "away").rename(tmp_path / "j")
    journal.sync()
    (tmp_path / "j").unlink()
    (tmp_path / "j").write_text("")
    with pytest.raises(FileExistsError, match="another file stands in its place"):
        journal.sync()
    journal.close()


def test_frames_of_a_long_journal_are_columns_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read at once: a dict for each frame took 6 kB, 6 GB for a night at 30 frames a second."""
    monkeypatch.setattr(committed, "_LINES_AT_ONCE", 4)
    facts = {"image": "", "c": 0, "segment": 0, "camera": "A", "wall_time": 1.0, "bit_depth": 12, "lost_before": 0}
    calls = {"image": "", "labelled": False, "saturated": False, "n_live": 2, "n_dead": 1, "n_uncertain": 0}
    journal = Journal(tmp_path / JOURNAL)
    journal.append({"kind": "open", "livescope": FORMAT})
    order = [1, 0, 2, 4, 3, 5, 8, 7, 6]
    for k in order:
        line = {"frame": k, "t": k, "time_s": k / 2, "rows_crc32c": 7 * k, "metadata": {"ImageNumber": k}}
        journal.append({"kind": "frame", **facts, **line})
    journal.append({"kind": "calls", "frame": 3, "t": 3, **calls}, {"kind": "losses", "delivered": 9, "core": 1})
    journal.close()
    known = committed.read_committed(tmp_path)
    assert known.frames["frame"].to_pylist() == sorted(order)
    assert (known.frame(-2)["metadata"], known.frame(7)["time_s"]) == ({"ImageNumber": 7}, 3.5)
    assert known.frame(0)["position"] is None
    assert known.places("") == [(k, 0) for k in range(9)]
    assert known.losses == {"delivered": 9, "core": 1}
    frames = committed.frames_table(known)
    assert frames.schema == committed.FRAMES_SCHEMA
    assert frames["n_live"].to_pylist() == [None] * 3 + [2] + [None] * 5
    assert frames["analysed"].to_pylist() == [k == 3 for k in range(9)]


def test_journal_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("here")
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "j")


def test_stream_cut_at_any_byte_gives_its_whole_batches(tmp_path: Path) -> None:
    stream = TableStream(tmp_path / "a.arrow")
    ends = []
    for k in range(3):
        stream.append(to_batch({"k": [k, k], "name": ["a", "b"]}))
        ends.append((tmp_path / "a.arrow").stat().st_size)
    stream.sync()
    stream.close()
    data = (tmp_path / "a.arrow").read_bytes()
    for cut in range(0, len(data) + 1, 3):
        (tmp_path / "cut.arrow").write_bytes(data[:cut])
        schema, batches = read_stream(tmp_path / "cut.arrow")
        whole = list(batches)
        assert len(whole) == sum(end <= cut for end in ends)
        assert schema is not None or not whole


def test_parquet_appears_only_when_whole(tmp_path: Path) -> None:
    batches = [to_batch({"k": [k] * 10}) for k in range(7)]
    write_parquet(tmp_path / "a.parquet", batches[0].schema, iter(batches), rows_per_group=25)
    assert pq.read_table(tmp_path / "a.parquet")["k"].to_pylist() == [k for k in range(7) for _ in range(10)]

    def breaks() -> Iterator[pa.RecordBatch]:
        yield batches[0]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_parquet(tmp_path / "b.parquet", batches[0].schema, breaks())
    assert not (tmp_path / "b.parquet").exists()


def test_the_rows_of_a_batch_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of one row a frame has as many batches: counting all that are held at each took a minute for 24 000."""
    counted = []
    monkeypatch.setattr(table, "len", lambda batch: counted.append(batch) or batch.num_rows, raising=False)
    batches = [to_batch({"k": [k]}) for k in range(50)]
    write_parquet(tmp_path / "a.parquet", batches[0].schema, iter(batches))
    assert len(counted) <= len(batches)
    assert pq.read_table(tmp_path / "a.parquet")["k"].to_pylist() == list(range(50))


def test_a_line_that_does_not_fit_leaves_no_trace(tmp_path: Path, full_at: Full) -> None:
    journal = Journal(tmp_path / "j")
    journal.append({"k": 0}, {"k": 1})
    whole = (tmp_path / "j").stat().st_size
    with full_at(whole + 5), pytest.raises(OSError, match="File too large"):
        journal.append({"k": 2}, {"k": 3})
    assert (tmp_path / "j").stat().st_size == whole
    journal.append({"k": 4})
    journal.close()
    assert [line["k"] for line in read_journal(tmp_path / "j")] == [0, 1, 4]


@pytest.mark.parametrize("room", [0, 5, 200, 500])
@pytest.mark.parametrize("before", [0, 2])
def test_a_batch_that_does_not_fit_leaves_no_trace(tmp_path: Path, full_at: Full, before: int, room: int) -> None:
    path = tmp_path / "a.arrow"
    stream = TableStream(path)
    for k in range(before):
        stream.append(rows(k))
    whole = path.stat().st_size if before else 0
    with full_at(whole + room), pytest.raises(OSError, match="File too large"):
        stream.append(rows(before))
    assert path.stat().st_size == whole
    for k in range(before + 1, 5):
        stream.append(rows(k))
    stream.close()
    _, batches = read_stream(path)
    assert [batch["k"][0].as_py() for batch in batches] == [k for k in range(5) if k != before]


def test_what_the_disk_will_not_even_take_back_is_taken_back_before_the_next_piece(
    tmp_path: Path, full_at: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AppendOnlyFile(tmp_path / "a")
    file.append(b"one ")

    def refuse() -> None:
        raise OSError("the share is gone")

    with monkeypatch.context() as gone:
        gone.setattr(file, "_take_back", refuse)
        with full_at(6), pytest.raises(OSError, match="File too large"):
            file.append(b"two ")
    file.append(b"three")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"one three"


def test_a_stream_torn_in_its_middle_is_read_up_to_there(tmp_path: Path) -> None:
    """As a full disk left it in records of before: what is read across the tear once ended the process."""
    stream = TableStream(tmp_path / "a.arrow")
    ends = []
    for k in range(6):
        stream.append(rows(k))
        ends.append((tmp_path / "a.arrow").stat().st_size)
    stream.close()
    data = (tmp_path / "a.arrow").read_bytes()
    for cut in range(ends[0] + 8, ends[1], 8):
        (tmp_path / "torn.arrow").write_bytes(data[:cut] + data[ends[1] :])
        _, batches = read_stream(tmp_path / "torn.arrow")
        read = [batch.to_pydict() for batch in batches]
        assert read[0] == rows(0).to_pydict()
        assert all(batch == rows(k).to_pydict() for k, batch in enumerate(read))


def rows(k: int) -> pa.RecordBatch:
    """Forty rows that tell which batch they are."""
    return to_batch({"k": [k] * 40, "name": [f"{k}{n}" for n in range(40)], "value": np.full(40, k / 2)})
