"""Files that a command writes at its end: whether they can be written is known before it begins.

Owns that check. What is written lies with each command.
"""

from __future__ import annotations

import os
from pathlib import Path

from livescope.errors import SettingsError
from livescope.record.place import record_around

__all__ = ["make_room"]


def make_room(option: str, path: Path) -> None:
    """Make the folder of a file that is to be written, so that a path that cannot be is told before hours of work.

    Parameters
    ----------
    option
        What the user gave the path with, e.g. ``--out``.
    path
        The file; one that exists will be replaced.

    Raises
    ------
    SettingsError
        The folder cannot be made or written to, the path is a folder, or it lies in a record.
    """
    if (record := record_around(path)) is not None:
        raise SettingsError(_refusal(option, path, f"it lies in the record {record.name!r}, whose own files stay"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise SettingsError(_refusal(option, path, "it is a folder"))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise SettingsError(_refusal(option, path, "no permission"))
    except OSError as error:  # also of a folder that may not be looked into
        raise SettingsError(_refusal(option, path, error.strerror)) from None


def _refusal(option: str, path: Path, why: str | None) -> str:
    return f"{option} {str(path)!r} cannot be written: {why}. Choose another path."
