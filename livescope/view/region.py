"""The camera's region of interest, drawn on the picture.

Owns the way from a box on the picture to a change of the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qtpy.QtCore import QRectF

from livescope.acquire.changes import Change, Roi
from livescope.frames import Frame

__all__ = ["PictureRoi", "roi_of_box"]

_LEAST_PX = 16
"""A smaller box is a slip of the mouse."""


@dataclass(slots=True, frozen=True)
class PictureRoi(Change):
    """A region of interest in pixels of the frames that the camera makes now, which may be of a region themselves."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    restart: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        """What is changed, in words."""
        return Roi(self.x_px, self.y_px, self.width_px, self.height_px).reason

    def apply(self, core: Any) -> None:
        """Set it, from where the region is now."""
        left, top = core.getROI()[:2] if hasattr(core, "getROI") else (0, 0)
        Roi(left + self.x_px, top + self.y_px, self.width_px, self.height_px).apply(core)


def roi_of_box(box: QRectF, frame: Frame) -> PictureRoi | None:
    """Return the region under a box drawn on a frame, None if it is too small to be meant.

    Parameters
    ----------
    box
        In pixels of the frame, (0, 0) the outer corner of the top left one; what lies outside is cut off.
    """
    height, width = frame.pixels.shape
    left, top = max(math.floor(box.left()), 0), max(math.floor(box.top()), 0)
    right, bottom = min(math.ceil(box.right()), width), min(math.ceil(box.bottom()), height)
    if right - left < _LEAST_PX or bottom - top < _LEAST_PX:
        return None
    return PictureRoi(left, top, right - left, bottom - top)
