"""The journal: one line for each thing that is truly on disk.

Owns ``journal.ndjson``: the sum that ties a frame to its line, appending, syncing in batches, noticing that the file
has gone, reading one that was cut off. What the lines say is the writer's business. A frame that has no line here was
not recorded.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from livescope.record.append import AppendOnlyFile

__all__ = ["Bookmark", "Journal", "checksum", "read_journal"]

SUMMED_ROW = 64
"""A frame's sum takes every so many rows."""
SYNC_LINES = 32
SYNC_S = 0.5
"""The journal reaches the disk itself after so many lines or seconds; a power failure loses at most these."""


class Journal:
    """Appends lines and syncs them. Safe to use from any thread.

    Parameters
    ----------
    path
        The file; it must not exist.
    before_sync
        Called before each sync, while no line can be added: syncs what the lines speak of.

    Raises
    ------
    OSError
        The file cannot be created or written.
    """

    def __init__(self, path: Path, before_sync: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._before_sync = before_sync
        self._file = AppendOnlyFile(path)
        self._lock = threading.Lock()
        self._unsynced = 0
        self._synced_at = time.monotonic()
        self.synced_bytes = 0
        """What a power failure cannot take back."""

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Hand lines to the operating system, all or none: they survive the death of this process.

        Raises
        ------
        OSError
            The disk refused.
        """
        data = b"".join(json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n" for line in lines)
        with self._lock:
            self._file.append(data)
            self._unsynced += len(lines)

    @property
    def due(self) -> bool:
        """True when a batch is full, or old enough, to be synced."""
        return self._unsynced >= SYNC_LINES or time.monotonic() - self._synced_at >= SYNC_S

    def sync(self) -> None:
        """Force all lines to the disk, and `check`.

        Raises
        ------
        OSError
            Syncing failed, or as `check`.
        """
        with self._lock:
            if self._unsynced:
                self._before_sync()
                self._file.sync()
                self._unsynced = 0
                self.synced_bytes = self._file.size
            self._synced_at = time.monotonic()
        self.check()

    def check(self) -> None:
        """Check that the file is still where it was. What is written beside it would else lie nowhere, or elsewhere.

        Raises
        ------
        FileNotFoundError
            It is out of reach, maybe for an instant: its folder was moved or deleted, or the disk has gone.
        FileExistsError
            Another file stands there: it will not come back.
        OSError
            The disk does not answer.
        """
        if not os.path.samestat(self._file.stat(), self._path.stat()):
            raise FileExistsError(errno.EEXIST, "another file stands in its place", str(self._path))

    def close(self) -> None:
        """Close the file without syncing."""
        self._file.close()


def checksum(pixels: NDArray[Any]) -> int:
    """Return the CRC-32C of every 64th row of a plane, little endian as stored.

    It tells whether a plane belongs to its line. Damage is found by the sums that tensorstore puts behind every chunk,
    of what it has just compressed; one of all pixels here would cost an eighth of all that it takes to store a frame.
    zlib.crc32 hands over the GIL, which a busy Python thread gives back only after 5 ms.
    """
    view = np.ascontiguousarray(pixels[::SUMMED_ROW]).view()
    view.flags.writeable = False
    return int(google_crc32c.value(view))


@dataclass(slots=True)
class Bookmark:
    """How far a journal was read, and the lines by which it is known again.

    Attributes
    ----------
    end
        Bytes of the lines that were read.
    first, last
        The first and the last of them.
    """

    end: int = 0
    first: bytes = b""
    last: bytes = b""

    def move(self, line: bytes) -> None:
        """Go behind a line."""
        self.first, self.last, self.end = self.first or line, line, self.end + len(line)

    def is_in(self, file: IO[bytes]) -> bool:
        """Return True if what was read still stands there: no other journal, none that was cut off before."""
        file.seek(0)
        if file.read(len(self.first)) != self.first:
            return False
        file.seek(self.end - len(self.last))
        return file.read(len(self.last)) == self.last


def read_journal(path: Path, mark: Bookmark | None = None) -> Iterator[dict[str, Any]]:
    """Yield all whole lines; a last line that was cut off by a crash, or is just being written, is left out.

    Parameters
    ----------
    path
        The file.
    mark
        Where an earlier reading ended: only lines behind it are read, and it moves on. Where another journal stands by
        now, or lines were taken back, it goes to the start, and all is read anew.
    """
    mark = Bookmark() if mark is None else mark
    with path.open("rb") as file:
        if not mark.is_in(file):
            mark.end, mark.first, mark.last = 0, b"", b""
        file.seek(mark.end)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                told = json.loads(line)
            except ValueError:  # blocks lost by a power failure read as zeros: nothing after them can be trusted
                return
            mark.move(line)
            yield told
