"""After a crash: a record is trimmed to its journal and finished.

Owns `recover` and the report of what was lost. The finishing itself is the same as at a normal close (`finish`).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from livescope.errors import RecordError
from livescope.frames import LossCause
from livescope.record.committed import Committed, read_committed
from livescope.record.finish import finish
from livescope.record.layout import FORMAT, write_group
from livescope.record.manifest import first_manifest, read_manifest, write_manifest
from livescope.record.place import is_record, lock_record

__all__ = ["Recovery", "recover"]

_LOST = (LossCause.CORE, LossCause.CAMERA, LossCause.RECORDER)
"""Causes by which a frame is not in the record; the others are frames that were stored, but not called or shown."""


@dataclass(slots=True, frozen=True)
class Recovery:
    """What `recover` found.

    Attributes
    ----------
    path
        The record.
    frames, analysed
        Frames that are safe, and frames whose calls are.
    unfinished
        Frames that had been begun on the disk but were not in the journal; they were deleted.
    losses
        Frames lost and skipped by cause as last journalled (`LossLedger.by_cause`), and ``delivered``; empty where
        nothing was lost.
    was_closed
        True if the record had ended in order and nothing had to be done.
    rowless
        Analysed frames whose calls cannot be read from the table; what there is of it is kept as ``calls.arrow``.
    """

    path: Path
    frames: int
    analysed: int
    unfinished: int
    losses: dict[str, int]
    was_closed: bool
    rowless: int = 0

    def __str__(self) -> str:
        if self.was_closed:
            return f"{self.path}: ended in order, {self.frames} frames; nothing to recover."
        lost = ", ".join(f"{n} {cause}" for cause, n in self.losses.items() if n and cause in _LOST)
        said = (
            f"{self.path}: {self.frames} frames and the calls of {self.analysed - self.rowless} are safe; "
            f"{self.unfinished} unfinished frames were dropped. Lost before the crash: {lost or 'none'}."
        )
        if self.rowless:
            said += f" The table of calls is damaged, {self.rowless} frames have lost theirs; calls.arrow was kept."
        return said


def recover(path: Path | str) -> Recovery:
    """Trim a record to its journal and finish it. Safe to repeat; a record that ended in order is left as it is.

    Parameters
    ----------
    path
        The folder, ``NAME.ome.zarr``.

    Raises
    ------
    RecordError
        No record, one that is being written, or a disk that refuses.
    """
    path = Path(path).expanduser().absolute()
    if not is_record(path):
        what = "is not a livescope record: it has no readable journal" if path.exists() else "is not there"
        raise RecordError(f"{str(path)!r} {what}; nothing can be recovered.")
    try:
        with lock_record(path):
            return _recover(path)
    except (OSError, ValueError) as error:  # tensorstore names a disk's refusal by the latter
        raise RecordError(
            f"record {str(path)!r} could not be recovered: {error}. What was recorded is untouched: free space or give "
            "permission, then try again."
        ) from error


def _recover(path: Path) -> Recovery:
    committed = read_committed(path)
    now = datetime.now().astimezone()
    try:
        manifest = read_manifest(path)
    except (OSError, json.JSONDecodeError):  # the crash came before the first manifest
        manifest = {**first_manifest(now), "opened": None}
        write_manifest(path, manifest)
    was_closed = manifest["closed"] is not None
    unfinished = 0
    if not was_closed:
        for part in path.glob("*.part"):
            part.unlink()
        unfinished = _delete_unfinished(path, committed)
        closing = {"closed": now.isoformat(), "recovered": True, "losses_before": committed.losses}
        committed = finish(path, closing, clean=False)
    n_frames, n_analysed, n_rowless = len(committed.frames), len(committed.calls), len(committed.rowless)
    return Recovery(path, n_frames, n_analysed, unfinished, committed.losses, was_closed, n_rowless)


def _delete_unfinished(path: Path, committed: Committed) -> int:
    """Delete images and labels that were never complete, and return the number of frames that were begun in vain."""
    unfinished = 0
    for image in committed.images:
        begun = {int(shard.name) for shard in (path / image / "0" / "c").glob("*")}
        unfinished += len(begun - {t for t, _ in committed.places(image)})
        labels = path / image / "labels"
        if labels.is_dir() and not (labels / "zarr.json").exists():
            shutil.rmtree(labels)
    homes = [] if committed.plate is None else [str(committed.plate.path_of(name)) for name in committed.plate.wells]
    for home in (*(f"images/{folder.name}" for folder in (path / "images").glob("[0-9]*")), *homes):
        if home not in committed.images and (path / home).is_dir():
            shutil.rmtree(path / home)
    if not committed.images:
        made = {"images", "labels", *(home.partition("/")[0] for home in homes)}
        for child in path.iterdir():
            if child.is_dir() and (child.name.isdigit() or child.name in made):
                shutil.rmtree(child)
        write_group(path, {"livescope": {"format": FORMAT}})
    return unfinished
