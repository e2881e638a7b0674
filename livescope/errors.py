"""Every failure that livescope names itself: one class each, with the user's next step.

Owns the exceptions and nothing else. A message carries the value that was refused, the allowed set, and what to do
next. The command line prints the message without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AcquisitionError",
    "AssayError",
    "BackendError",
    "CoreError",
    "DisplayError",
    "FrameError",
    "LivescopeError",
    "ModelError",
    "RecordError",
    "SettingsError",
    "SourceError",
    "one_of",
]


def one_of(allowed: Iterable[object]) -> str:
    """Join an allowed set for an error message, e.g. ``'demo', 'replay'``."""
    return ", ".join(repr(item) for item in allowed)


class LivescopeError(Exception):
    """Base of every failure that livescope explains to its user; catch it to catch them all."""

    exit_code = 1


class SettingsError(LivescopeError):
    """A config or ``--set`` has an unknown key or a value out of range.

    Mend the named key; `configs/` shows every key.
    """

    exit_code = 2


class CoreError(LivescopeError):
    """Micro-Manager could not be found, opened or configured. `livescope doctor` shows what was found and why."""

    exit_code = 3


class SourceError(LivescopeError):
    """A replay source is missing, empty or unreadable. Check the path and the kind of its files."""

    exit_code = 3


class AcquisitionError(LivescopeError):
    """A camera was lost, stalled or refused a command.

    The run keeps all that was recorded; the message names the command.
    """

    exit_code = 4


class FrameError(LivescopeError):
    """A frame has a shape or a pixel type that livescope cannot use.

    Change the camera's pixel type or ROI as the message says.
    """

    exit_code = 4


class ModelError(LivescopeError):
    """A model bundle is missing, damaged, or made for another pixel size.

    Choose another model or give the true pixel size.
    """

    exit_code = 5


class BackendError(LivescopeError):
    """An inference backend is not installed or has failed. The message names the backends that work on this machine."""

    exit_code = 5


class AssayError(LivescopeError):
    """A plate map, a curve or a survival analysis cannot be made of the data. The message names what is missing."""

    exit_code = 8


class RecordError(LivescopeError):
    """A record cannot be written or read.

    Free space, choose another path, or run `livescope recover` as the message says.
    """

    exit_code = 6


class DisplayError(LivescopeError):
    """There is no display for a window. Run with ``--headless``, or start from a desktop session."""

    exit_code = 7
