"""What a journal says is truly on the disk.

Owns `Committed`, `read_committed`, and the table of frames. Reads the journal and nothing else; what is left to be done
of a record is the business of `finish`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from livescope.errors import RecordError
from livescope.record.journal import Bookmark, read_journal
from livescope.record.layout import FORMAT, JOURNAL
from livescope.record.plate import PlateLayout

__all__ = ["FRAMES_SCHEMA", "Committed", "frames_table", "n_calls", "read_committed"]

FRAMES_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("t", pa.int64()),
        ("c", pa.int64()),
        ("frame", pa.int64()),
        ("segment", pa.int32()),
        ("camera", pa.string()),
        ("position", pa.string()),
        ("channel", pa.string()),
        ("time_s", pa.float64()),
        ("wall_time", pa.float64()),
        ("elapsed_ms", pa.float64()),
        ("exposure_ms", pa.float64()),
        ("x_um", pa.float64()),
        ("y_um", pa.float64()),
        ("z_um", pa.float64()),
        ("pixel_um", pa.float64()),
        ("bit_depth", pa.int32()),
        ("lost_before", pa.int64()),
        ("rows_crc32c", pa.int64()),
        ("analysed", pa.bool_()),
        ("saturated", pa.bool_()),
        ("n_live", pa.int64()),
        ("n_dead", pa.int64()),
        ("n_uncertain", pa.int64()),
    ]
)
_COUNTS = ("n_live", "n_dead", "n_uncertain")
_OF_CALLS = ("analysed", "saturated", *_COUNTS)
_LINES_SCHEMA = pa.schema(
    [*(column for column in FRAMES_SCHEMA if column.name not in _OF_CALLS), ("metadata", pa.large_string())]
)
"""A frame's line, its metadata as JSON."""
_CALLS_FACTS = ("frame", "image", "t", "labelled", "saturated", *_COUNTS)
_LINES_AT_ONCE = 4096
"""Lines of frames that are held as dicts before they become columns: 6 kB each, as against half of one."""


@dataclass(slots=True)
class Committed:
    """What a journal says is truly on disk.

    Attributes
    ----------
    images
        Image group -> its line, in the order in which they began.
    plate
        Where the positions of a plate lie, None for a record that is none.
    frames
        Lines of frames as columns, in the order of `Frame.index`; `frame` gives one.
    calls
        `Frame.index` -> line of its analysis.
    losses
        Frames lost and skipped by cause, and ``delivered``, as last told; empty where none was.
    rowless
        `Frame.index` of frames whose calls are in the journal, and not all in the table; known to `finish` alone.
    mark
        How far the journal was read.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    plate: PlateLayout | None = None
    frames: pa.Table = field(default_factory=_LINES_SCHEMA.empty_table)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    rowless: list[int] = field(default_factory=list)
    mark: Bookmark = field(default_factory=Bookmark)

    def frame(self, number: int) -> dict[str, Any]:
        """Return the line of the `number`-th frame; what the camera did not tell is None."""
        columns = zip(self.frames.column_names, self.frames.itercolumns(), strict=True)
        line = {name: column[number].as_py() for name, column in columns}
        return {**line, "metadata": json.loads(line["metadata"])}

    def frames_of(self, image: str) -> pa.Table:
        """Return the lines of an image's frames."""
        return self.frames.filter(pc.field("image") == image)

    def places(self, image: str) -> list[tuple[int, int]]:
        """(t, c) of every frame of an image that is on disk, in their order."""
        frames = self.frames_of(image)
        return list(zip(frames["t"].to_pylist(), frames["c"].to_pylist(), strict=True))


def read_committed(path: Path, known: Committed | None = None) -> Committed:
    """Read the journal of the record at `path`.

    Parameters
    ----------
    path
        The record.
    known
        What was read of it before, which stays as it is: only the lines since then are read.

    Raises
    ------
    RecordError
        Another version of livescope wrote it, in another format.
    """
    known = Committed() if known is None else known
    mark = replace(known.mark)
    committed = replace(known, images=dict(known.images), calls=dict(known.calls), mark=mark)
    lines: list[dict[str, Any]] = []
    batches: list[pa.RecordBatch] = []
    for line in read_journal(path / JOURNAL, mark):
        if line["kind"] == "open":  # the first of a journal: another one than was known, or none was
            committed, lines, batches = _opened(path, line, mark), [], []
        elif line["kind"] == "frame":
            lines.append({**line, "metadata": json.dumps(line["metadata"])})
            if len(lines) == _LINES_AT_ONCE:
                batches.append(pa.RecordBatch.from_pylist(lines, _LINES_SCHEMA))
                lines = []
        else:
            _take(committed, line)
    batches.append(pa.RecordBatch.from_pylist(lines, _LINES_SCHEMA))
    committed.frames = _in_order(committed.frames, pa.Table.from_batches(batches, _LINES_SCHEMA))
    return committed


def _opened(path: Path, line: Mapping[str, Any], mark: Bookmark) -> Committed:
    """Return what the first line of a journal tells."""
    if line["livescope"] != FORMAT:
        raise RecordError(
            f"record {str(path)!r} is of format {line['livescope']}, this livescope reads format {FORMAT}. "
            "Open it with the version that wrote it (manifest.json, versions)."
        )
    plate = line.get("plate")
    return Committed(plate=None if plate is None else PlateLayout.from_dict(plate), mark=mark)


def _take(committed: Committed, line: dict[str, Any]) -> None:
    """Add what a line tells that is not of a frame itself."""
    if line["kind"] == "image":
        committed.images[line["image"]] = line
    elif line["kind"] == "calls":
        facts = {name: line[name] for name in _CALLS_FACTS}  # the names are ours, not a copy from each line
        committed.calls[line["frame"]] = {**facts, "image": sys.intern(line["image"])}
    elif line["kind"] == "losses":
        committed.losses = {name: count for name, count in line.items() if name != "kind"}


def _in_order(known: pa.Table, new: pa.Table) -> pa.Table:
    """Return the lines of all frames in the order of `Frame.index`."""
    if not len(new):
        return known
    frames = pa.concat_tables([known, new]).combine_chunks()
    return frames if np.all(np.diff(frames["frame"].to_numpy()) > 0) else frames.sort_by("frame")


def frames_table(committed: Committed) -> pa.Table:
    """Return one row a frame on disk: where it lies, when and how it was taken, if it was analysed, and the counts."""
    row = pc.index_in(committed.frames["frame"], pa.array(list(committed.calls), pa.int64()))
    table = committed.frames.append_column("analysed", row.is_valid())
    for name in ("saturated", *_COUNTS):
        values = [line[name] for line in committed.calls.values()]
        table = table.append_column(name, pa.array(values, FRAMES_SCHEMA.field(name).type).take(row))
    return table.select(FRAMES_SCHEMA.names)


def n_calls(line: Mapping[str, Any]) -> int:
    """Return the number of cells that the journal's line of an analysis tells of."""
    return sum(int(line[name]) for name in _COUNTS)
