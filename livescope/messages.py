"""What a session tells its user: warnings and errors, one text a kind, in the order in which those texts came.

Owns the two lists; any thread may add to them and read them. What is worth a message is for the rooms to say.
"""

from __future__ import annotations

import re
import threading

from livescope.errors import LivescopeError

__all__ = ["Messages"]

_KEPT = 1000
"""Kinds of errors that are kept; what fails a thousand ways will not become clearer."""
_COUNT = re.compile(r"((?<!\w)'[^']*'(?!\w))|(?<![\w'-])\d+(?![\w'])")
"""A number that is no part of a name, nor in one that is quoted: of frames lost, of a file, of seconds."""


class Messages:
    """Warnings and errors of a session; of texts that differ in counts only the newest is kept.

    >>> messages = Messages()
    >>> messages.warn("the light is dim")
    >>> messages.warn("the light is dim")
    >>> messages.fail("recording", OSError("disk full"))
    >>> messages.warnings, messages.errors
    (('the light is dim',), ('recording: OSError: disk full',))
    >>> for lost in (1, 30):
    ...     messages.warn(f"{lost} frames lost so far")
    >>> messages.warnings
    ('the light is dim', '30 frames lost so far')
    """

    def __init__(self) -> None:
        self._warnings: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._guard = threading.Lock()

    def warn(self, text: str) -> None:
        """Add a warning."""
        self._keep(self._warnings, text)

    def fail(self, where: str, error: Exception) -> None:
        """Add an error and where it happened; ours say what to do, of others the class is told as well."""
        text = str(error) if isinstance(error, LivescopeError) else f"{type(error).__name__}: {error}"
        self._keep(self._errors, f"{where}: {text}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        with self._guard:
            return tuple(self._warnings.values())

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors."""
        with self._guard:
            return tuple(self._errors.values())

    def _keep(self, kept: dict[str, str], text: str) -> None:
        """Put a text at the end, in place of an older one of its kind, while there is room; one that is there stays."""
        kind = _COUNT.sub(lambda found: found[1] or "0", text)
        with self._guard:
            if kept.get(kind) != text and (kept.pop(kind, None) is not None or len(kept) < _KEPT):
                kept[kind] = text
