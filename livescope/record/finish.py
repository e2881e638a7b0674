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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from livescope.record.arrays import build_levels, halved_labels, halved_means, sweep, trim
from livescope.record.committed import FRAMES_SCHEMA, Committed, frames_table, n_calls, read_committed
from livescope.record.corrections import corrections_account
from livescope.record.layout import (
    CALLS,
    FRAMES,
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
from livescope.record.table import read_stream, write_parquet

__all__ = ["finish", "sha256"]


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
    places = set(committed.places(image))
    length = 1 + max((t for t, _ in places), default=-1)
    key = ImageKey.from_dict(line)
    frames = committed.frames_of(image)
    step = _interval_s(frames.filter(pc.field("c") == 0)["time_s"].to_numpy())
    _build_levels(folder, line, places, halved_means)
    ome = image_attributes(
        key, line["levels"], seconds_per_frame=step, channels=line["channels"], window=line["window"]
    )
    yield functools.partial(write_group, folder, {**read_attributes(folder), **ome})
    yield from _array_jobs(folder, line["levels"], length, places, clean)
    stored = set(frames["frame"].to_pylist())
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


def _interval_s(times_s: NDArray[np.float64]) -> float | None:
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
    stored = set(committed.frames["frame"].to_pylist())
    for batch in batches:
        frame = batch["frame"][0].as_py() if len(batch) else None
        if frame not in committed.calls:
            continue
        if frame not in stored:
            index = batch.schema.get_field_index("t")
            batch = batch.set_column(index, "t", pa.nulls(len(batch), pa.int64()))
        kept[frame] += len(batch)
        yield batch


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
