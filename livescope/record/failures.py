"""What a recorder tells of a disk that refuses: one message a kind of failure, with counts that grow while it lasts.

Owns the words, what counts as the same failure, and how often it is told. What a failure costs is `writer`'s.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from livescope.errors import RecordError

__all__ = ["Failures", "reason_of"]

REPEAT_S = 5.0
"""The same failure is told again after this many seconds."""
KINDS = 100
"""Kinds of failures that are told apart; all beyond count as one."""
_VARYING = re.compile(r'"[^"]*"|\d+')
"""What differs between failures of one kind: tensorstore names the file, the bytes, the handle."""


class Failures:
    """The failures of one record. Any thread may tell one.

    Parameters
    ----------
    record
        Its folder.
    on_error
        Called with each message, on the thread that tells; it must return at once.
    """

    def __init__(self, record: Path, on_error: Callable[[RecordError], None]) -> None:
        self._record, self._on_error = record, on_error
        self._guard = threading.Lock()
        self._reasons: dict[str, str] = {}
        """The first reason of each kind."""
        self._told_s: dict[tuple[str, bool], float] = {}
        self._messages: dict[str, str] = {}
        """The newest message of each kind."""

    @property
    def messages(self) -> list[str]:
        """The newest message of each kind, in the order in which the kinds first came."""
        return list(self._messages.copy().values())

    def tell(self, reason: str, lost: int, recorded: int) -> None:
        """Tell a failure once, again when it has cost the first frame, and every few seconds while it lasts.

        Parameters
        ----------
        reason
            What failed and the next step; of reasons that differ in files and numbers only, the first is told.
        lost, recorded
            Frames so far.
        """
        now_s = time.monotonic()
        with self._guard:
            reason = self._first_alike(reason)
            known = reason, lost > 0
            if now_s - self._told_s.get(known, -REPEAT_S) < REPEAT_S:
                return
            self._told_s[known] = now_s
            message = f"record {str(self._record)!r}: {reason}. {lost} frames lost so far, {recorded} recorded."
            self._messages[reason] = message
        self._on_error(RecordError(message))

    def _first_alike(self, reason: str) -> str:
        kind = _VARYING.sub("", reason)
        if kind not in self._reasons and len(self._reasons) >= KINDS:
            kind = ""
        return self._reasons.setdefault(kind, reason)


def reason_of(error: Exception) -> str:
    """Return what the disk or tensorstore said, with the next step where it is known; stopping the run always is."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "it is out of reach (moved, deleted, or its disk has gone); bring it back"
    if "No space left" in text or "RESOURCE_EXHAUSTED" in text:
        return "the disk is full; free space"
    if "PERMISSION_DENIED" in text or "Permission denied" in text:
        return f"permission was lost; give it back ({text})"
    return text
