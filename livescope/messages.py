"""What a session tells its user: warnings and errors, each text once, in the order in which they first came.

Owns the two lists; any thread may add to them and read them. What is worth a message is for the rooms to say.
"""

from __future__ import annotations

from livescope.errors import LivescopeError

__all__ = ["Messages"]

_KEPT = 1000
"""Different errors that are kept; what fails a thousand ways will not become clearer."""


class Messages:
    """Warnings and errors of a session.

    >>> messages = Messages()
    >>> messages.warn("the light is dim")
    >>> messages.warn("the light is dim")
    >>> messages.fail("recording", OSError("disk full"))
    >>> messages.warnings, messages.errors
    (('the light is dim',), ('recording: OSError: disk full',))
    """

    def __init__(self) -> None:
        self._warnings: dict[str, None] = {}
        self._errors: dict[str, None] = {}

    def warn(self, text: str) -> None:
        """Add a warning."""
        if len(self._warnings) < _KEPT:
            self._warnings.setdefault(text)

    def fail(self, where: str, error: Exception) -> None:
        """Add an error and where it happened; ours say what to do, of others the class is told as well."""
        text = str(error) if isinstance(error, LivescopeError) else f"{type(error).__name__}: {error}"
        if len(self._errors) < _KEPT:
            self._errors.setdefault(f"{where}: {text}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return tuple(self._warnings)

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors."""
        return tuple(self._errors)
