"""A frame taken aside: under other conditions than the run's, into the run, and back again.

Owns the conditions and the way back. When it is taken is up to the stream (`stream.py`, `planned.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from livescope.acquire.camera_state import CameraState
from livescope.acquire.changes import Change
from livescope.errors import AcquisitionError, LivescopeError

__all__ = ["ASIDE", "REASON", "Aside"]

ASIDE = "aside"
"""Key in `Frame.metadata` of what was other. A frame that has it is not called: no model knows such pictures."""
REASON = "reason"
"""Key in `Frame.metadata` of why a rule had the frame taken."""


@dataclass(slots=True, frozen=True)
class Aside:
    """One frame to be taken aside.

    Attributes
    ----------
    changes
        What is other about it, in the order in which it is done.
    back
        What leads back to the run's own conditions, in order; all of it is tried whatever fails.
    what, why
        In words, for the frame's metadata and the segment's note.
    """

    changes: tuple[Change, ...]
    back: tuple[Change, ...]
    what: str
    why: str

    @property
    def reason(self) -> str:
        """Why the segment of this frame began."""
        return f"{self.what} ({self.why})"

    @contextlib.contextmanager
    def on(self, camera: CameraState, apply: Callable[[Change], None]) -> Iterator[None]:
        """Bring the conditions about, and go back at the end.

        Raises
        ------
        AcquisitionError
            There was no way back; later frames go on saying that they are not the run's own.
        """
        channel, position = camera.channel, camera.position
        camera.tags = {ASIDE: self.what, REASON: self.why}
        try:
            for change in self.changes:
                apply(change)
            yield
        finally:
            refused = [error for change in self.back if (error := _refusal(change, apply)) is not None]
            if refused:
                raise AcquisitionError(
                    f"there was no way back from {self.what}: {refused[0]} Frames from now on are stored but not "
                    "called. Set the microscope right by hand and start the run anew."
                )
            camera.tags, camera.channel, camera.position = {}, channel, position


def _refusal(change: Change, apply: Callable[[Change], None]) -> LivescopeError | None:
    """Apply a change; return what refused it twice."""
    for _ in range(2):
        try:
            apply(change)
        except LivescopeError as error:
            refused = error
        else:
            return None
    return refused
