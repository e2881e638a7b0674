"""Tables of a record: appended as Arrow while the run goes on, Parquet once it is closed.

Owns the schema of the calls table, `TableStream`, and the change from one format to the other. An Arrow stream that
was cut off is readable up to the cut; a cut Parquet file is not readable at all, so none is ever streamed into.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from livescope.calls import N_RAYS, CellCalls, State
from livescope.frames import Frame
from livescope.record.append import AppendOnlyFile
from livescope.record.labels import cell_ids

__all__ = [
    "CALLS_SCHEMA",
    "TableStream",
    "calls_batch",
    "calls_of",
    "radii_of",
    "read_stream",
    "to_batch",
    "write_csv",
    "write_parquet",
]

CALLS_SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # group of the image in the record, "" for the root
        ("t", pa.int64()),  # place along t of that image; null where the frame itself is not in the record
        ("frame", pa.int64()),  # Frame.index
        ("time_s", pa.float64()),
        ("wall_time", pa.float64()),
        ("position", pa.string()),
        ("segment", pa.int32()),
        ("track", pa.int64()),
        ("label", pa.int32()),  # pixel value in labels/cells
        ("y_px", pa.float32()),
        ("x_px", pa.float32()),
        ("p_cell", pa.float32()),
        ("p_dead", pa.float32()),
        ("state", pa.string()),
        ("area_px", pa.float32()),
        ("area_um2", pa.float32()),
        ("edge", pa.bool_()),
        ("radii_px", pa.list_(pa.float32(), N_RAYS)),
    ]
)
_WORDS = np.array(["", *(state.label for state in State)], dtype=object)


class TableStream:
    """A table that grows: an Arrow IPC stream, opened at the first batch. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: AppendOnlyFile | None = None
        self._schema: pa.Schema | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Hand rows to the operating system, all or none; all batches must have the first one's schema.

        Raises
        ------
        OSError, pyarrow.ArrowException
            The disk refused, or the schema differs.
        """
        with self._lock:
            if self._file is None:
                self._file, self._schema = AppendOnlyFile(self._path), batch.schema
            if batch.schema != self._schema:
                raise pa.ArrowInvalid(f"columns {batch.schema} are not those of the rows before: {self._schema}")
            # not by a writer of pyarrow, which a full disk stops between the parts of a message
            head = b"" if self._file.size else self._schema.serialize()
            self._file.append(b"".join((head, batch.serialize())))

    def sync(self) -> None:
        """Force all rows to the disk itself."""
        with self._lock:
            if self._file is not None:
                self._file.sync()

    def close(self) -> None:
        """Close the file; its end ends the stream."""
        with self._lock:
            if self._file is not None:
                self._file.close()


def calls_batch(frame: Frame, calls: CellCalls, image: str, t: int | None) -> pa.RecordBatch:
    """Return one frame's calls as rows of the calls table; `t` is None where the frame was refused by the recorder."""
    n = len(calls)
    radii = np.ascontiguousarray(calls.radii_px, dtype=np.float32).ravel()
    columns = [
        pa.array([image] * n, pa.string()),
        pa.array([t] * n, pa.int64()),
        np.full(n, frame.index),
        np.full(n, frame.time_s),
        np.full(n, frame.wall_time),
        pa.array([frame.position] * n, pa.string()),
        np.full(n, frame.segment, np.int32),
        calls.track,
        cell_ids(calls),
        calls.y_px,
        calls.x_px,
        calls.p_cell,
        calls.p_dead,
        pa.array(_WORDS[calls.state], pa.string()),
        calls.area_px,
        calls.area_um2,
        pa.array(calls.edge),
        pa.FixedSizeListArray.from_arrays(pa.array(radii), N_RAYS),
    ]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, CALLS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=CALLS_SCHEMA)


def calls_of(rows: pa.Table, frame_index: int, pixel_um: float | None, saturated: bool) -> CellCalls:
    """Return the rows of one frame as `CellCalls`: the inverse of `calls_batch`, to the bit."""
    values = {name: rows[name].to_numpy() for name in ("y_px", "x_px", "p_cell", "p_dead", "area_px", "edge", "track")}
    numbers = {state.label: int(state) for state in State}
    state = np.array([numbers[word] for word in rows["state"].to_pylist()], np.uint8)
    radii = rows["radii_px"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1 if len(rows) else N_RAYS)
    return CellCalls(frame_index, **values, radii_px=radii, state=state, pixel_um=pixel_um, saturated=saturated)


def to_batch(columns: Mapping[str, ArrayLike]) -> pa.RecordBatch:
    """Return columns of equal length as a batch; an (n, k) array becomes a column of lists of k."""
    return pa.RecordBatch.from_pydict({name: _column(np.asarray(values)) for name, values in columns.items()})


def _column(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def read_stream(path: Path) -> tuple[pa.Schema | None, Iterator[pa.RecordBatch]]:
    """Return the schema and the whole batches of a stream that may have been cut off anywhere, or is still growing.

    A stream that is torn in its middle is read up to there. Each batch is looked through: one whose columns are made
    of anything else would end the process, not raise.
    """
    file = path.open("rb")
    source = pa.PythonFile(file, mode="r")
    try:
        reader = pa.ipc.open_stream(source)
    except _TORN:  # cut off within the schema
        source.close()
        return None, iter(())

    def batches() -> Iterator[pa.RecordBatch]:
        with source:
            while True:
                try:
                    batch = reader.read_next_batch()
                    batch.validate(full=True)
                except (StopIteration, *_TORN):
                    return
                if not _at_a_message(file):  # its end is the beginning of another one
                    return
                yield batch

    return reader.schema, batches()


_TORN = (pa.ArrowException, OSError)
"""What pyarrow raises of a stream that does not go on as it should."""


def _at_a_message(file: IO[bytes]) -> bool:
    """Return True where a message of Arrow begins, if only a part of one, or the file ends."""
    head = file.read(8)
    file.seek(-len(head), os.SEEK_CUR)
    # a marker, and a length below 16 MB: a column of -1 looks like markers only
    return b"\xff\xff\xff\xff".startswith(head[:4]) and head[7:] in (b"", b"\0")


def write_parquet(
    path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], rows_per_group: int = 65_536
) -> None:
    """Write batches to a Parquet file that appears under its name only when it is whole and on the disk."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            held: list[pa.RecordBatch] = []
            rows = 0  # counted as they come: a table of one row a frame has a batch for each
            for batch in batches:
                held.append(batch)
                rows += len(batch)
                if rows >= rows_per_group:
                    writer.write_table(pa.Table.from_batches(held, schema))
                    held, rows = [], 0
            if held:
                writer.write_table(pa.Table.from_batches(held, schema))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_csv(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Write batches of the calls table as CSV, the list of radii as one column a ray."""
    with pa_csv.CSVWriter(path, _flat(schema.empty_table()).schema) as writer:
        for batch in batches:
            writer.write_table(_flat(pa.Table.from_batches([batch])))


def radii_of(table: pa.Table) -> NDArray[np.float32]:
    """Return the radii of the calls table, (n, `N_RAYS`) pixels."""
    flat = pc.list_flatten(table["radii_px"].combine_chunks()).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(-1, N_RAYS)


def _flat(table: pa.Table) -> pa.Table:
    """Replace the column of lists by one column a ray."""
    radii = radii_of(table)
    flat = table.drop_columns(["radii_px"])
    for k in range(N_RAYS):
        flat = flat.append_column(f"radius_{k:02}_px", pa.array(radii[:, k]))
    return flat
