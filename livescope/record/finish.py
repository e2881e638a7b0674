"""From journal to finished record: the same steps at a normal close and after a crash.

Owns `finish`: trims the arrays to the journal, turns tables into Parquet, completes metadata and manifest. It works
from what is on the disk alone: a record closed in order and one recovered after a power failure are made by the same
code.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livescope.errors import RecordError
from livescope.record.arrays import build_levels, halved_labels, halved_means, sweep, trim
from livescope.record.corrections import corrections_account
from livescope.record.journal import read_journal
from livescope.record.layout import (
    CALLS,
    FORMAT,
    FRAMES,
    JOURNAL,
    LABELS,
    LOCK,
    MANIFEST,
    ImageKey,
    image_attributes,
    label_attributes,
    level_shapes,
    read_attributes,
    write_group,
)
from livescope.record.manifest import read_manifest, write_manifest
from livescope.record.plate import PlateLayout
from livescope.record.table import read_stream, write_parquet

__all__ = ["Committed", "finish", "frames_table", "n_calls", "read_committed", "sha256"]

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
        Lines of frames, in the order of `Frame.index`.
    calls
        `Frame.index` -> line of its analysis.
    rowless
        `Frame.index` of frames whose calls are in the journal, and not all in the table; known to `finish` alone.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    plate: PlateLayout | None = None
    frames: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    rowless: list[int] = field(default_factory=list)

    def places(self, image: str) -> set[tuple[int, int]]:
        """(t, c) of every frame of an image that is on disk."""
        return {(line["t"], line["c"]) for line in self.frames if line["image"] == image}


def read_committed(path: Path) -> Committed:
    """Read the journal of the record at `path`.

    Raises
    ------
    RecordError
        Another version of livescope wrote it, in another format.
    """
    committed = Committed()
    for line in read_journal(path / JOURNAL):
        if line["kind"] == "open":
            if line["livescope"] != FORMAT:
                raise RecordError(
                    f"record {str(path)!r} is of format {line['livescope']}, this livescope reads format {FORMAT}. "
                    "Open it with the version that wrote it (manifest.json, versions)."
                )
            if line.get("plate") is not None:
                committed.plate = PlateLayout.from_dict(line["plate"])
        elif line["kind"] == "image":
            committed.images[line["image"]] = line
        elif line["kind"] == "frame":
            committed.frames.append(line)
        elif line["kind"] == "calls":
            committed.calls[line["frame"]] = line
    committed.frames.sort(key=lambda line: int(line["frame"]))
    return committed


def frames_table(committed: Committed) -> pa.Table:
    """Return one row a frame on disk: where it lies, when and how it was taken, if it was analysed, and the counts."""
    rows = []
    for line in committed.frames:
        calls = committed.calls.get(line["frame"])
        counts = (
            {} if calls is None else {name: calls[name] for name in ("saturated", "n_live", "n_dead", "n_uncertain")}
        )
        rows.append({**line, **counts, "analysed": calls is not None})
    return pa.Table.from_pylist(rows, FRAMES_SCHEMA)


def finish(path: Path, extra: Mapping[str, Any], *, clean: bool) -> Committed:
    """Make a record whole from its journal. May be repeated; what is finished already stays as it is.

    Parameters
    ----------
    path
        The record; nobody may be writing to it.
    extra
        Entries for the manifest.
    clean
        True if every frame that was begun is in the journal, so that there are no shards to look for and delete.

    Raises
    ------
    OSError
        The disk refused; what was committed is still safe, and finishing can be tried again.
    """
    committed = read_committed(path)
    # each job ends with a sync, which is nothing but waiting: 12 in turn took 110 ms, together 5 ms
    with ThreadPoolExecutor(max_workers=8) as pool:
        jobs = [pool.submit(job) for job in _jobs(path, committed, clean)]
    for job in jobs:
        job.result()
    manifest = {**read_manifest(path), **extra}
    manifest["frames_recorded"] = len(committed.frames)
    manifest["frames_analysed"] = len(committed.calls)
    manifest["calls_lost_of_frames"] = committed.rowless
    manifest["corrections"] = corrections_account(path)
    manifest["files_sha256"] = {
        file.relative_to(path).as_posix(): sha256(file) for file in _small_files(path, committed)
    }
    write_manifest(path, manifest)
    return committed


def _jobs(path: Path, committed: Committed, clean: bool) -> Iterator[Callable[[], object]]:
    """Yield what is left to be done of a record, in no order."""
    for image in committed.images:
        yield from _image_jobs(path, image, committed, clean)
    if committed.plate is not None:
        yield functools.partial(committed.plate.write_groups, path, committed.images)
    for stream in sorted(path.glob("*.arrow")):
        yield functools.partial(_finish_table, stream, committed)
    batches = iter(frames_table(committed).to_batches())
    yield functools.partial(write_parquet, path / f"{FRAMES}.parquet", FRAMES_SCHEMA, batches)


def _image_jobs(path: Path, image: str, committed: Committed, clean: bool) -> Iterator[Callable[[], object]]:
    line, folder = committed.images[image], path / image
    places = committed.places(image)
    length = 1 + max((t for t, _ in places), default=-1)
    key = ImageKey.from_dict(line)
    step = _interval_s([f["time_s"] for f in committed.frames if f["image"] == image and f["c"] == 0])
    _build_levels(folder, line, places, halved_means)
    ome = image_attributes(
        key, line["levels"], seconds_per_frame=step, channels=line["channels"], window=line["window"]
    )
    yield functools.partial(write_group, folder, {**read_attributes(folder), **ome})
    yield from _array_jobs(folder, line["levels"], length, places, clean)
    stored = {f["frame"] for f in committed.frames if f["image"] == image}
    labelled = {(c["t"], 0) for index, c in committed.calls.items() if c["labelled"] and index in stored}
    for name in LABELS:
        labels = folder / "labels" / name
        if (labels.parent / "zarr.json").exists():  # written last: without it the labels were never complete
            _build_levels(labels, line, {(t,) for t, _ in labelled}, halved_labels)
            yield functools.partial(write_group, labels, label_attributes(name, key, line["levels"], step))
            yield from _array_jobs(labels, line["levels"], length, labelled, clean)


def _build_levels(
    folder: Path,
    line: Mapping[str, Any],
    places: Collection[tuple[int, ...]],
    halved: Callable[[NDArray[Any], int], list[NDArray[Any]]],
) -> None:
    """Make the levels that were left for the close."""
    if line.get("live_levels", line["levels"]) < line["levels"]:
        shapes = level_shapes(line["height"], line["width"], line["levels"])
        build_levels(folder, shapes, line["codec"], line["chunk_px"], places, halved)


def _array_jobs(
    folder: Path, levels: int, length: int, kept: set[tuple[int, int]], clean: bool
) -> Iterator[Callable[[], object]]:
    for level in range(levels):
        yield functools.partial(trim, folder / str(level), length)
        if not clean:
            yield functools.partial(sweep, folder / str(level), kept)


def _interval_s(times_s: list[float]) -> float | None:
    if len(times_s) < 2:
        return None
    return float(np.median(np.diff(np.sort(times_s)))) or None


def _finish_table(stream: Path, committed: Committed) -> None:
    """Make a Parquet file of a stream, which is kept where calls that were committed cannot be read from it."""
    schema, batches = read_stream(stream)
    kept: Counter[int] = Counter()
    if schema is not None:
        if stream.stem == CALLS:
            batches = _committed_calls(batches, committed, kept)
        write_parquet(stream.with_suffix(".parquet"), schema, batches)
    if stream.stem == CALLS:
        committed.rowless = [index for index, line in committed.calls.items() if kept[index] < n_calls(line)]
    if not committed.rowless or stream.stem != CALLS:
        stream.unlink()


def _committed_calls(
    batches: Iterator[pa.RecordBatch], committed: Committed, kept: Counter[int]
) -> Iterator[pa.RecordBatch]:
    """Leave out frames whose labels did not reach the disk; take t from those that are not in the record themselves.

    The rows that are left are added to `kept`, by `Frame.index`.
    """
    stored = {line["frame"] for line in committed.frames}
    for batch in batches:
        frame = batch["frame"][0].as_py() if len(batch) else None
        if frame not in committed.calls:
            continue
        if frame not in stored:
            index = batch.schema.get_field_index("t")
            batch = batch.set_column(index, "t", pa.nulls(len(batch), pa.int64()))
        kept[frame] += len(batch)
        yield batch


def n_calls(line: Mapping[str, Any]) -> int:
    """Return the number of cells that the journal's line of an analysis tells of."""
    return int(line["n_live"] + line["n_dead"] + line["n_uncertain"])


def _small_files(path: Path, committed: Committed) -> list[Path]:
    """All files of the record but the pixels: those have their sum in the journal."""
    files = [file for file in path.iterdir() if file.is_file() and file.name not in (MANIFEST, LOCK)]
    files += (path / "images").glob("zarr.json")
    if committed.plate is not None:
        files += [path / group / "zarr.json" for group in committed.plate.groups(committed.images)]
    for image in committed.images:
        labels = path / image / "labels"
        for group in (path / image, labels, *(labels / name for name in LABELS)):
            files += [*group.glob("zarr.json"), *group.glob("*/zarr.json")]
    return sorted(set(files))


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
