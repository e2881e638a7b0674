"""What a camera delivers: a frame, the shape of frames, and the account of frames that were lost or skipped.

Owns `Frame`, `FrameSpec`, `LossCause` and `LossLedger`. Knows nothing of cores, files, networks or windows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.errors import FrameError

__all__ = [
    "ASIDE",
    "CULTURE_MINUTES",
    "PIXEL_DTYPES",
    "REASON",
    "Frame",
    "FrameSpec",
    "LossCause",
    "LossLedger",
    "Pixels",
    "field_name",
]

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
PIXEL_DTYPES = ("uint8", "uint16")
ASIDE = "aside"
"""Key in `Frame.metadata` of what was other about a frame than about the run's, e.g. ``channel Cy5``."""
CULTURE_MINUTES = "CultureMinutes"
"""Key in `Frame.metadata` of a simulated culture's own time."""
REASON = "reason"
"""Key in `Frame.metadata` of why a rule had the frame taken."""


class LossCause(StrEnum):
    """Why a frame that the camera made did not arrive somewhere. Each cause is counted apart, none is ever merged."""

    CORE = "core"
    """Lost in Micro-Manager's ring: the camera's `ImageNumber` jumped."""
    CAMERA = "camera"
    """Suspected lost in the camera or its driver: the camera's clock jumped by whole frame intervals."""
    RECORDER = "recorder"
    """Delivered, but refused by the recorder's full queue or lost to a failed write."""
    ANALYSIS = "analysis"
    """Delivered, but not analysed: a newer frame came first."""
    DISPLAY = "display"
    """Delivered, but not shown: a newer frame came first."""


@dataclass(slots=True, frozen=True)
class FrameSpec:
    """The shape of the frames of one segment: what a detector or a recorder prepares for.

    Attributes
    ----------
    height, width
        Rows and columns in pixels.
    dtype
        ``"uint8"`` or ``"uint16"``.
    bit_depth
        Bits the camera really uses (12 in a uint16 is common): full scale is ``2**bit_depth - 1``.
    pixel_um
        Micrometres a pixel on the sample, or None where nobody knows.
    """

    height: int
    width: int
    dtype: str
    bit_depth: int
    pixel_um: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in PIXEL_DTYPES:
            raise FrameError(
                f"pixel type {self.dtype!r} is not supported; livescope takes 8 or 16 bit grey frames "
                f"({', '.join(PIXEL_DTYPES)}). Set the camera's PixelType to 8bit or 16bit."
            )
        if self.height < 1 or self.width < 1:
            raise FrameError(f"a frame of {self.height} x {self.width} pixels is empty; enlarge the camera's ROI.")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


@dataclass(slots=True, frozen=True)
class Frame:
    """One picture with all that is known of how it was taken.

    Attributes
    ----------
    pixels
        (H, W) uint8 or uint16, C-contiguous, read-only.
    index
        Number of the frame in the run: 0, 1, 2 ... over every delivered frame, without a gap.
    segment
        Number of the uninterrupted stretch it belongs to; a restart or a new ROI begins the next.
    camera
        Label of the camera device.
    time_s
        Arrival on this machine's monotonic clock (`time.perf_counter`), seconds.
    wall_time
        Arrival as seconds since the epoch.
    bit_depth
        Bits in use; full scale is ``2**bit_depth - 1``.
    lost_before
        Frames of the same camera known lost between the previous delivered frame and this one.
    elapsed_ms
        The camera's own clock, milliseconds since its segment began, or None.
    pixel_um
        Micrometres a pixel on the sample, or None where unknown.
    position, x_um, y_um, z_um
        Name and place of the stage position, None where unknown.
    channel, exposure_ms
        Preset name and exposure, None where unknown.
    metadata
        What else the camera or source said, e.g. its raw `ImageNumber`.
    """

    pixels: Pixels
    index: int
    segment: int
    camera: str
    time_s: float
    wall_time: float
    bit_depth: int
    lost_before: int = 0
    elapsed_ms: float | None = None
    pixel_um: float | None = None
    position: str | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    channel: str | None = None
    exposure_ms: float | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def aside(self) -> bool:
        """True if it was taken aside, under other conditions: stored and shown, but never called."""
        return self.metadata is not None and ASIDE in self.metadata

    @property
    def culture_s(self) -> float:
        """Time of the culture in seconds: a simulated one's own where the source tells it, else `time_s`."""
        minutes = None if self.metadata is None else self.metadata.get(CULTURE_MINUTES)
        return self.time_s if minutes is None else 60.0 * float(minutes)

    @property
    def spec(self) -> FrameSpec:
        """The shape of this frame."""
        height, width = self.pixels.shape
        return FrameSpec(height, width, self.pixels.dtype.name, self.bit_depth, self.pixel_um)


class LossLedger:
    """Counts of delivered, lost and skipped frames by (segment, camera). Safe to use from any thread.

    >>> ledger = LossLedger()
    >>> ledger.deliver(0, "Camera", 10)
    >>> ledger.lose(LossCause.CORE, 0, "Camera", 3)
    >>> ledger.delivered, ledger.total(LossCause.CORE), ledger.by_cause()["core"]
    (10, 3, 3)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delivered: dict[tuple[int, str], int] = {}
        self._lost: dict[tuple[LossCause, int, str], int] = {}

    def deliver(self, segment: int, camera: str, count: int = 1) -> None:
        """Count frames that the acquisition loop handed on."""
        with self._lock:
            key = (segment, camera)
            self._delivered[key] = self._delivered.get(key, 0) + count

    def lose(self, cause: LossCause, segment: int, camera: str, count: int = 1) -> None:
        """Count frames that were lost or skipped, by cause."""
        with self._lock:
            key = (cause, segment, camera)
            self._lost[key] = self._lost.get(key, 0) + count

    @property
    def delivered(self) -> int:
        """Frames handed on by the acquisition loop, over all segments and cameras."""
        with self._lock:
            return sum(self._delivered.values())

    def total(self, cause: LossCause) -> int:
        """Frames lost by one cause, over all segments and cameras."""
        with self._lock:
            return sum(n for (c, _, _), n in self._lost.items() if c is cause)

    def by_cause(self) -> dict[str, int]:
        """Frames lost, by cause; every cause is present."""
        return {cause.value: self.total(cause) for cause in LossCause}

    def rows(self) -> list[dict[str, int | str]]:
        """One row a (segment, camera) with `delivered` and `lost_CAUSE` for each cause, for the record."""
        with self._lock:
            keys = sorted(set(self._delivered) | {(s, c) for _, s, c in self._lost})
            return [
                {
                    "segment": segment,
                    "camera": camera,
                    "delivered": self._delivered.get((segment, camera), 0),
                    **{f"lost_{cause.value}": self._lost.get((cause, segment, camera), 0) for cause in LossCause},
                }
                for segment, camera in keys
            ]


def field_name(position: str | None, tile: int | None = None, plane: int | None = None) -> str | None:
    """Name of one field of view, which is what frames are followed, stored and reported by (`Frame.position`).

    Parameters
    ----------
    position
        Name of the stage position.
    tile, plane
        Number in a grid of tiles around it and in a stack of planes, where there is one. Four digits, as useq numbers
        the points of a well: a name that tells of a well goes on doing so, and ``z2`` would be well Z2.

    >>> field_name("A1"), field_name("A1", 3), field_name("A1", 0, 12), field_name(None)
    ('A1', 'A1_0003', 'A1_0000_z0012', None)
    """
    tile_name = None if tile is None else f"{tile:04d}"
    plane_name = None if plane is None else f"z{plane:04d}"
    return "_".join(filter(None, (position, tile_name, plane_name))) or None
