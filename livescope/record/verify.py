"""Is a record still what was written? Every frame, label, table and file is checked against what was noted of it.

Owns `verify`. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from livescope.errors import RecordError
from livescope.record.arrays import halved_labels, halved_means
from livescope.record.committed import n_calls
from livescope.record.corrections import check_corrections
from livescope.record.finish import sha256
from livescope.record.journal import checksum
from livescope.record.labels import label_planes
from livescope.record.layout import CALLS, FIRINGS, FRAMES, LABELS, MANIFEST
from livescope.record.manifest import is_as_written
from livescope.record.reader import Record, open_record

__all__ = ["Verification", "verify"]


@dataclass(slots=True, frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    path
        The record.
    frames, files
        Frames and other files that were checked.
    problems
        One line each; empty where all is as it was written.
    """

    path: Path
    frames: int
    files: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing differs."""
        return not self.problems

    def __str__(self) -> str:
        head = f"{self.path}: {self.frames} frames and {self.files} files checked, "
        return head + ("all as written." if self.ok else f"{len(self.problems)} problems:\n" + "\n".join(self.problems))


def verify(path: Path | str, progress: Callable[[int, int], None] = lambda done, total: None) -> Verification:
    """Check a record: hashes of files, sums of frames, pyramid and labels against what they were made from.

    Corrections and the rules' firings are checked against the manifest's account of them.

    Parameters
    ----------
    path
        The folder, ``NAME.ome.zarr``.
    progress
        Called with frames checked and frames in all.

    Raises
    ------
    RecordError
        There is no record.
    """
    record = open_record(path)
    manifest = record.manifest
    hashes: dict[str, str] = manifest.get("files_sha256", {})
    problems = (
        [] if record.closed else ["the record was never closed: run `livescope recover` first, if no run writes it"]
    )
    for name, known in hashes.items():
        file = record.path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif sha256(file) != known:
            problems.append(f"{name} has changed")
    if record.closed and not problems:
        problems += _tables(record)
    if record.closed:
        if not is_as_written(manifest):
            problems.append(f"{MANIFEST} has changed")
        problems += check_corrections(record.path, manifest.get("corrections"))
    labels = _has_calls(record, problems)
    for number in range(len(record)):
        problems += _frame(record, number, labels=labels)
        progress(number + 1, len(record))
    return Verification(record.path, len(record), len(hashes), tuple(problems))


def _tables(record: Record) -> list[str]:
    problems = []
    if not record.table(FRAMES).equals(record.frame_table):
        problems.append(f"{FRAMES}.parquet differs from the journal")
    counted = dict.fromkeys(record.analysed, 0)
    for index in record.calls["frame"].to_pylist():
        counted[index] += 1
    for index, line in record.analyses.items():
        if counted[index] != n_calls(line):
            problems.append(f"frame {index}: {counted[index]} calls in the table, others in the journal")
    told = record.manifest.get(FIRINGS, [])
    rows = record.table(FIRINGS).to_pylist() if FIRINGS in record.tables else []
    missing = sum(row not in rows for row in told)
    if missing and not record.manifest.get("recovered"):  # the table's last rows may have been lost with the power
        problems.append(f"{missing} firings of rules in {MANIFEST} are not in {FIRINGS}.parquet")
    return problems


def _has_calls(record: Record, problems: list[str]) -> bool:
    """Return False where the table of calls is gone or unreadable: labels then have nothing to be compared with."""
    try:
        return not record.analysed or (CALLS in record.tables and record.calls is not None)
    except RecordError as error:
        problems.append(str(error))
        return False


def _frame(record: Record, number: int, *, labels: bool) -> list[str]:
    """Check one frame: its sum, its pyramid, and its labels if they can be."""
    place = record.place(number)
    folder, plane = record.path / place.image, (place.t, place.c)
    where = f"frame {place.index} ({place.image or 'root'}, t {place.t})"
    about = record.image(place.image)
    levels = (
        about["levels"] if record.closed else about.get("live_levels", about["levels"])
    )  # the others come at the end
    try:
        stored = [np.asarray(zarr.open_array(str(folder / str(k)), mode="r")[plane]) for k in range(levels)]
    except Exception as error:  # noqa: BLE001  whatever a damaged shard makes a decoder raise is a finding
        return [f"{where} cannot be read: {error}"]
    if checksum(stored[0]) != place.rows_crc32c:
        return [f"{where} is not what was recorded"]
    made = halved_means(stored[0], levels)
    problems = [
        f"{where}: level {k} is not made from level 0" for k in range(1, levels) if np.any(made[k] != stored[k])
    ]
    try:
        calls = record.calls_of(place.index) if labels else None
    except RecordError as error:
        return [*problems, f"{where}: {error}"]
    if calls is None or not record.analyses[place.index]["labelled"]:
        return problems
    cells, viability = label_planes(calls, stored[0].shape)
    for name, expected_levels in zip(
        LABELS, (halved_labels(cells, levels), halved_labels(viability, levels)), strict=True
    ):
        for level, expected in enumerate(expected_levels):
            array = zarr.open_array(str(folder / "labels" / name / str(level)), mode="r")
            try:
                same = np.array_equal(array[place.t], expected)
            except Exception as error:  # noqa: BLE001  as above
                problems.append(f"{where}: labels/{name}/{level} cannot be read: {error}")
                continue
            if not same:
                problems.append(f"{where}: labels/{name}/{level} differ from the table of calls")
    return problems
