"""What a core must offer to run in the live loop: a small part of MMCore, with MMCore's names and units.

Owns the protocols. `CMMCorePlus`, `UniMMCore`, `livescope.simulate.FakeCore` and `ReplayCore` satisfy them.
"""

# ruff: noqa: N802 - the protocol keeps the names of MMCore
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

__all__ = [
    "FiniteSource",
    "MayRest",
    "NoShutter",
    "StreamCore",
    "Taken",
    "TellsOfPlaces",
    "TellsOfSnaps",
    "camera_labels",
]


class StreamCore(Protocol):
    """The part of MMCore that livescope's loop uses, with MMCore's names and units."""

    def getCameraDevice(self) -> str:
        """Label of the camera, empty where there is none."""

    def getImageWidth(self) -> int:
        """Columns of a frame."""

    def getImageHeight(self) -> int:
        """Rows of a frame."""

    def getBytesPerPixel(self) -> int:
        """Bytes a pixel over all components."""

    def getImageBitDepth(self) -> int:
        """Bits in use."""

    def getPixelSizeUm(self) -> float:
        """Micrometres a pixel with binning and objective; 0.0 where no preset matches."""

    def getExposure(self) -> float:
        """Exposure in milliseconds."""

    def setExposure(self, exposure_ms: float, /) -> None:
        """Set the exposure in milliseconds."""

    def hasProperty(self, label: str, name: str, /) -> bool:
        """True if the device has the property."""

    def getProperty(self, label: str, name: str, /) -> str:
        """Value of a device property."""

    def getAutoShutter(self) -> bool:
        """True if the shutter opens and closes with the camera."""

    def setAutoShutter(self, on: bool, /) -> None:
        """Let the shutter open and close with the camera."""

    def getShutterDevice(self) -> str:
        """Label of the shutter, empty where there is none."""

    def getShutterOpen(self) -> bool:
        """True if light falls on the sample."""

    def setShutterOpen(self, is_open: bool, /) -> None:
        """Open or close the shutter."""

    def getXYStageDevice(self) -> str:
        """Label of the XY stage, empty where there is none."""

    def getFocusDevice(self) -> str:
        """Label of the focus drive, empty where there is none."""

    def getXYPosition(self) -> Any:
        """(x, y) of the stage in micrometres."""

    def getPosition(self) -> float:
        """Z of the focus drive in micrometres."""

    def getCircularBufferMemoryFootprint(self) -> int:
        """Megabytes of the ring."""

    def setCircularBufferMemoryFootprint(self, megabytes: int, /) -> None:
        """Set the size of the ring; only while nothing runs."""

    def startContinuousSequenceAcquisition(self, interval_ms: float, /) -> None:
        """Stream until stopped; on overflow the whole ring is cleared silently."""

    def startSequenceAcquisition(self, frames: int, interval_ms: float, stop_on_overflow: bool, /) -> None:
        """Stream exactly `frames` frames."""

    def stopSequenceAcquisition(self) -> None:
        """Stop; blocks for about one exposure. Frames in the ring stay there."""

    def isSequenceRunning(self) -> bool:
        """True while the camera makes frames."""

    def getRemainingImageCount(self) -> int:
        """Frames in the ring."""

    def popNextImageAndMD(self) -> Any:
        """Take the oldest frame: (pixels, metadata)."""

    def isBufferOverflowed(self) -> bool:
        """True if a sequence stopped because its ring was full; says nothing of continuous sequences."""

    def snapImage(self) -> None:
        """Take one picture, blocking."""

    def getImage(self) -> Any:
        """Pixels of the last snap."""


@runtime_checkable
class FiniteSource(Protocol):
    """A core that knows its own end, such as recorded files; a camera does not."""

    def remaining_frames(self) -> int | None:
        """Frames still to come, None if without end."""


@runtime_checkable
class TellsOfSnaps(Protocol):
    """A core whose camera says more of a snap than MMCore does, such as the simulated one."""

    def snap_metadata(self) -> Mapping[str, str]:
        """What the camera says of its newest picture."""


@runtime_checkable
class MayRest(Protocol):
    """A core whose camera somebody else starts and stops: that no frame comes need not be a fault."""

    def rests(self) -> bool:
        """True while no frame is to be expected from the camera."""


class Taken(NamedTuple):
    """Where and how a frame was taken, as far as is known of this one frame; None where it is not.

    Attributes
    ----------
    position, channel
        Names of field and channel.
    x_um, y_um, z_um
        Place of the stage.
    exposure_ms
        Exposure.
    """

    position: str | None = None
    channel: str | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    exposure_ms: float | None = None


@runtime_checkable
class TellsOfPlaces(Protocol):
    """A core whose stage somebody else moves: what it says of a frame tells where the frame was taken."""

    def taken(self, tags: Mapping[str, Any]) -> Taken:
        """Where and how a frame with these tags was taken."""


class NoShutter:
    """The light as seen by a core that has none, or whose light is somebody else's."""

    def getAutoShutter(self) -> bool:
        """No."""
        return False

    def setAutoShutter(self, on: bool, /) -> None:
        """Nothing."""

    def getShutterDevice(self) -> str:
        """None."""
        return ""

    def getShutterOpen(self) -> bool:
        """No."""
        return False

    def setShutterOpen(self, is_open: bool, /) -> None:
        """Nothing."""


def camera_labels(core: Any) -> tuple[str, ...]:
    """Labels of the cameras behind the chosen one, in the order in which they deliver; its own where it is one."""
    count = core.getNumberOfCameraChannels() if hasattr(core, "getNumberOfCameraChannels") else 1
    return tuple(core.getCameraChannelName(k) for k in range(count)) if count > 1 else (core.getCameraDevice(),)
