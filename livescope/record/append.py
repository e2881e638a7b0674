"""A file that only grows, by whole pieces: what a full disk took a part of is taken back.

Owns `AppendOnlyFile`, which the journal and the tables are written through. What the pieces are is their business; one
that is torn would hide all that is appended behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

__all__ = ["AppendOnlyFile"]


class AppendOnlyFile:
    """Takes a piece as a whole or not at all. For one thread at a time.

    Parameters
    ----------
    path
        The file; it must not exist.

    Raises
    ------
    OSError
        The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb", buffering=0)  # a buffer would hold back what the disk refused, and try it again
        self.size = 0
        """Bytes of whole pieces."""

    def append(self, data: bytes) -> None:
        """Hand a piece to the operating system: it survives the death of this process, not yet of the machine.

        Raises
        ------
        OSError
            The disk refused; the file is as it was before, at the latest when the next piece has been taken.
        """
        if self._file.tell() != self.size:
            self._take_back()
        try:
            rest = memoryview(data)
            while rest:  # a disk that gets full takes a part, and refuses the next one
                taken = self._file.write(rest)
                if not taken:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
                rest = rest[taken:]
        except OSError:
            with contextlib.suppress(OSError):  # else before the next piece
                self._take_back()
            raise
        self.size += len(data)

    def _take_back(self) -> None:
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def sync(self) -> None:
        """Force all pieces to the disk itself."""
        os.fsync(self._file.fileno())

    def stat(self) -> os.stat_result:
        """Return what the operating system knows of the open file, wherever it lies by now."""
        return os.fstat(self._file.fileno())

    def close(self) -> None:
        """Close the file without syncing."""
        self._file.close()
