"""Files that are cut off anywhere are read up to the cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from livescope.record.journal import SYNC_LINES, Journal, read_journal
from livescope.record.table import TableStream, read_stream, to_batch, write_parquet


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
        assert read_journal(tmp_path / "cut") == lines[: data[:cut].count(b"\n")]


def test_blocks_lost_by_a_power_failure_end_the_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"a":1}\n' + b"\0" * 20 + b'\n{"a":2}\n')
    assert read_journal(tmp_path / "j") == [{"a": 1}]


def test_journal_syncs_in_batches_and_what_it_speaks_of_first(tmp_path: Path) -> None:
    synced = []
    journal = Journal(tmp_path / "j", before_sync=lambda: synced.append(len(read_journal(tmp_path / "j"))))
    for k in range(SYNC_LINES):
        journal.append({"k": k})
    assert journal.due
    journal.sync()
    assert not journal.due
    journal.sync()
    assert synced == [SYNC_LINES], "a sync without new lines costs nothing"
    journal.close()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_journal_notices_that_it_has_gone(tmp_path: Path, how: str) -> None:
    journal = Journal(tmp_path / "j")
    (tmp_path / "j").unlink()
    if how == "replaced":
        (tmp_path / "j").write_text("")
    with pytest.raises(FileNotFoundError):
        journal.sync()
    journal.close()


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


def test_a_line_that_does_not_fit_leaves_no_trace(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append({"k": 0}, {"k": 1})
    whole, file = journal._size, journal._file

    class Full:
        """A disk that takes 5 bytes more."""

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            return int(file.write(data[:5]))

    journal._file = Full()
    with pytest.raises(OSError, match="No space left"):
        journal.append({"k": 2}, {"k": 3})
    journal._file = file
    assert (tmp_path / "j").stat().st_size == whole
    journal.append({"k": 4})
    journal.close()
    assert [line["k"] for line in read_journal(tmp_path / "j")] == [0, 1, 4]
