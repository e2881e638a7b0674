"""A frame taken aside: under other conditions than the run's, into the run, and back again.

Owns the conditions and the way back. When it is taken is up to the stream (`stream.py`, `planned.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from livescope.acquire.camera_state import CameraState
from livescope.acquire.changes import Change, Exposure, Move, Preset, Property
from livescope.errors import AcquisitionError, LivescopeError
from livescope.frames import ASIDE, REASON

__all__ = ["Aside"]


@dataclass(slots=True, frozen=True)
class Aside:
    """One frame to be taken aside.

    Attributes
    ----------
    changes
        What is other about it, in the order in which it is done: exposure, preset, place.
    what, why
        In words, for the frame's metadata and the segment's note.
    """

    changes: tuple[Exposure | Preset | Move, ...]
    what: str
    why: str

    @property
    def reason(self) -> str:
        """Why the segment of this frame began."""
        return f"{self.what} ({self.why})"

    @contextlib.contextmanager
    def on(self, core: Any, camera: CameraState, apply: Callable[[Change], None]) -> Iterator[None]:
        """Bring the conditions about, and go back at the end.

        Raises
        ------
        AcquisitionError
            There was no way back; later frames go on saying that they are not the run's own.
        """
        channel, position, back = camera.channel, camera.position, list[Change]()
        camera.tags = {ASIDE: self.what, REASON: self.why}
        try:
            for change in self.changes:
                back = [*_way_back(core, change), *back]
                apply(change)
            yield
        finally:
            refused = [error for change in back if (error := _refusal(change, apply)) is not None]
            if refused:
                raise AcquisitionError(
                    f"there was no way back from {self.what}: {refused[0]} Frames from now on are stored but not "
                    "called. Set the microscope right by hand and start the run anew."
                )
            camera.tags, camera.channel, camera.position = {}, channel, position


def _way_back(core: Any, change: Exposure | Preset | Move) -> list[Change]:
    """Return what undoes a change, from how things are now: a preset's devices need not be in any preset before."""
    if isinstance(change, Exposure):
        return [Exposure(float(core.getExposure()))]
    if isinstance(change, Preset):
        return [Property(device, name, core.getProperty(device, name)) for device, name in change.settings(core)]
    xy = (change.x_um is not None or change.y_um is not None) and core.getXYStageDevice()
    x_um, y_um = core.getXYPosition() if xy else (None, None)
    z_um = core.getPosition() if change.z_um is not None and core.getFocusDevice() else None
    return [Move(x_um, y_um, z_um)]


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
