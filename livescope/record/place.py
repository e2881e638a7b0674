"""The folder of a record: made, refused or replaced before the first frame comes.

Owns the checks at the start (place, space, permission, existing record, another writer) and the lock. Writes no frames.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from livescope.errors import RecordError
from livescope.record.layout import JOURNAL, LOCK, MANIFEST

__all__ = ["is_locked", "is_record", "lock_record", "make_record_folder", "record_around", "resolve_path"]


def resolve_path(path: Path, now: datetime) -> Path:
    """Return the path with ``{time}`` replaced by date and time, absolute."""
    return Path(str(path).replace("{time}", now.strftime("%Y%m%d-%H%M%S"))).expanduser().absolute()


def is_record(path: Path) -> bool:
    """Return True if a folder is a livescope record, finished or not."""
    try:
        with (path / JOURNAL).open("rb") as journal:
            first = json.loads(journal.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("kind") == "open" and "livescope" in first


def record_around(path: Path) -> Path | None:
    """Return the record in whose folder a file would lie, None outside of every record."""
    return next((folder for folder in path.expanduser().absolute().parents if is_record(folder)), None)


def make_record_folder(path: Path, *, overwrite: bool, min_free_bytes: int) -> FileLock:
    """Make an empty folder for a record, or empty the record that is there, and lock it.

    Parameters
    ----------
    path
        Absolute path; parents are made.
    overwrite
        Replace a record that is there. Anything else that is there is never touched.
    min_free_bytes
        Least free space on its disk.

    Returns
    -------
    FileLock
        Held; release it when the record is finished.

    Raises
    ------
    RecordError
        The path cannot be written, holds something, is in use by another process, or its disk has too little space.
    """
    try:
        if path.exists() and not path.is_dir():
            raise RecordError(
                f"record path {str(path)!r} is a file; choose another, e.g. {str(path.with_suffix('.ome.zarr'))!r}."
            )
        occupied = path.is_dir() and any(child.name != LOCK for child in path.iterdir())
        if occupied and not is_record(path):
            raise RecordError(
                f"record path {str(path)!r} holds something that is not a livescope record; livescope never deletes "
                "that. Choose another path."
            )
        if occupied and not overwrite:
            raise RecordError(
                f"record {str(path)!r} exists. Choose another path (a {{time}} in it becomes date and time), "
                "or replace it with --set record.overwrite=true."
            )
        path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
        if free < min_free_bytes:
            raise RecordError(
                f"the disk of record {str(path)!r} has {free / 1e6:.0f} MB free, {min_free_bytes / 1e6:.0f} MB are "
                "needed to begin. Free space, choose another disk, or lower record.min_free_mb."
            )
        lock = lock_record(path)
        if occupied:
            _empty(path)
    except OSError as error:
        raise RecordError(
            f"record path {str(path)!r} cannot be written: {error.strerror or error}. "
            "Choose a folder that you may write to."
        ) from None
    return lock


def lock_record(path: Path) -> FileLock:
    """Lock a record for one writer; the lock ends with the process.

    Raises
    ------
    RecordError
        Another process holds it.
    """
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=1)  # a reader that asks whether the run goes on holds it for an instant
    except Timeout:
        raise RecordError(
            f"record {str(path)!r} is being written by another process; end that run or choose another path."
        ) from None
    return lock


def is_locked(path: Path) -> bool:
    """Return True while another writer holds the record."""
    if not isinstance(path, Path) or not (path / LOCK).exists():
        return False  # a URL is read only
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # no permission to lock: read-only media, where nobody writes
        return False
    lock.release()
    return False


def _empty(path: Path) -> None:
    """Delete the contents of a record, its journal last: cut off half-way, what is left is still known as a record."""
    last = (MANIFEST, JOURNAL, LOCK)
    for child in [c for c in path.iterdir() if c.name not in last]:
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    for name in last[:2]:
        (path / name).unlink(missing_ok=True)
