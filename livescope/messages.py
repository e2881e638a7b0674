"""What a session tells its user: warnings and errors, one text a kind, in the order in which the kinds first came.

Owns the two lists; any thread may add to them and read them. What is worth a message is for the rooms to say.
"""

from __future__ import annotations

import re

from livescope.errors import LivescopeError

__all__ = ["Messages"]

_KEPT = 1000
"""Kinds of errors that are kept; what fails a thousand ways will not become clearer."""
_COUNT = re.compile(r"(?<![\w'-])\d+(?![\w'])")
"""A number that is no part of a name: of frames lost, of a file, of seconds."""


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

    def warn(self, text: str) -> None:
        """Add a warning."""
        _keep(self._warnings, text)

    def fail(self, where: str, error: Exception) -> None:
        """Add an error and where it happened; ours say what to do, of others the class is told as well."""
        text = str(error) if isinstance(error, LivescopeError) else f"{type(error).__name__}: {error}"
        _keep(self._errors, f"{where}: {text}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return tuple(self._warnings.copy().values())

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors."""
        return tuple(self._errors.copy().values())


def _keep(kept: dict[str, str], text: str) -> None:
    """Put a text in the place of the one of its kind, or at the end while there is room."""
    kind = _COUNT.sub("0", text)
    if kind in kept or len(kept) < _KEPT:
        kept[kind] = text
