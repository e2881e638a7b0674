"""Watching a core that another program owns, without taking anything from it.

Owns `AttachedCore`, which reads frames where they lie in the ring (a pop would empty the owner's live view), starts and
stops nothing, sets nothing, and hears the owner's planned runs as one more listener.
"""

# ruff: noqa: N802 - MMCore's names
from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from livescope.acquire.camera_state import CameraSetup
from livescope.acquire.itinerary import position_of
from livescope.acquire.stream_core import NoShutter, Taken
from livescope.errors import AcquisitionError

__all__ = ["AttachedCore"]

FIND_ATTEMPTS = 20
"""How often a place in a moving ring is looked up again; a look takes three reads: milliseconds at 4 MB a frame."""
SILENCE_S = 1.0
"""So long without a frame the owner's camera is not asked whether it runs."""
SETUP_POLL_S = 0.25
"""How often the owner's camera is asked how it is set in a live view; it takes 8 us."""


class AttachedCore(NoShutter):
    """A `StreamCore` that follows the live view and the planned runs of somebody else's `CMMCorePlus`.

    `LiveStream.start` begins to watch and `stop` lets go; the owner may start and stop as it likes meanwhile, and each
    of its starts is a new segment. Frames that the owner's ring lost are counted by their numbers, as ever.

    Parameters
    ----------
    core
        The owner's core. Its camera, exposure, ROI, ring, shutter and listeners stay as they are.

    Notes
    -----
    A read takes the camera's module lock while it holds the GIL, so it is made only when the ring has grown.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._watching = False
        self._in_ring = 0
        self._last: int | None = None
        self._last_stamp: object = None
        self._offset: int | None = None
        self._restarted = False
        self._owner_runs: bool | None = None
        """Whether the owner's camera is at work, None until a frame or a signal tells."""
        self._sign_s = float("-inf")
        self._setup: CameraSetup | None = None
        """How the camera was set in the live view when last asked, None if it is to be asked anew."""
        self._setup_s = float("-inf")
        self._plan_has_begun = False
        self._plan_channels: dict[str, None] = {}
        """Channels of the owner's planned run: those that it names, and those that were heard of."""
        self._planned: deque[tuple[Any, dict[str, Any]]] = deque()

    # ------------------------------------------------------------------ frames

    def startContinuousSequenceAcquisition(self, interval_ms: float = 0.0, /) -> None:
        """Begin to watch; the camera is left alone."""
        if self._core.getNumberOfCameraChannels() > 1:
            raise AcquisitionError(
                f"{self.getCameraDevice()!r} is several cameras in one, whose frames cannot be told apart without "
                "taking them; choose one in the program that owns the core."
            )
        self._in_ring = self._core.getRemainingImageCount()  # what lies there was taken before us
        self._last = self._offset = self._owner_runs = None
        self._planned.clear()
        self._setup = None
        self._plan_has_begun = bool(self._core.mda.is_running())
        for signal, slot in self._signals():
            _hear_at_once(signal, slot)
        self._watching = True

    def startSequenceAcquisition(self, frames: int, interval_ms: float, stop_on_overflow: bool, /) -> None:
        """Refuse: how many frames come is the owner's affair."""
        raise AcquisitionError("a core of another program is only watched; run without a number of frames.")

    def stopSequenceAcquisition(self) -> None:
        """Let go; the owner's camera goes on."""
        if self._watching:
            self._watching = False
            for signal, slot in self._signals():
                signal.disconnect(slot)

    def isSequenceRunning(self) -> bool:
        """True while watching, whether or not the owner's camera runs."""
        return self._watching

    def rests(self) -> bool:
        """True while the owner's camera stands still, or waits in a planned run for its next event.

        Only after a silence is the camera asked, which may have ended by itself without a signal: a question while the
        owner starts it breaks the start of a camera in Python (pymmcore-plus 0.18.1).
        """
        if self._owner_runs and time.perf_counter() - self._sign_s > SILENCE_S:
            self._owner_runs = bool(self._core.isSequenceRunning())
        return bool(self._core.mda.is_running()) or not self._owner_runs

    def getRemainingImageCount(self) -> int:
        """Frames that have come and were not read yet."""
        if not self._watching:
            return 0
        return len(self._planned) + (0 if self._ring_is_the_plans() else self._new_in_ring())

    def popNextImageAndMD(self) -> tuple[Any, Mapping[str, Any]]:
        """Read the next frame without removing it; `IndexError` if it is gone again."""
        if self._planned:
            return self._planned.popleft()
        for _ in range(FIND_ATTEMPTS):
            try:
                return self._read()
            except IndexError:  # the ring was emptied while we looked
                if not self._new_in_ring():
                    break
        raise IndexError("no new frame in the ring")

    def taken(self, tags: Mapping[str, Any]) -> Taken:
        """What the owner's plan and engine say of a frame; of a live view nothing is said."""
        return Taken(**{name: tags.get(name) for name in Taken._fields})

    def camera_setup(self, tags: Mapping[str, Any]) -> CameraSetup:
        """How the owner's camera was set for a frame."""
        return CameraSetup(**{name: tags[name] for name in CameraSetup._fields})

    def isBufferOverflowed(self) -> bool:
        """The owner's ring is the owner's affair; losses show in the numbers."""
        return False

    def snapImage(self) -> None:
        """Refuse: a snap would stop the owner's live view."""
        raise AcquisitionError("a core of another program is only watched; snap there.")

    def getImage(self) -> Any:
        """Refuse, as `snapImage` does."""
        raise AcquisitionError("a core of another program is only watched; snap there.")

    def close(self) -> None:
        """Let go. May be called twice."""
        self.stopSequenceAcquisition()

    # ------------------------------------------------------------------ what a core is asked

    def setExposure(self, exposure_ms: float, /) -> None:
        """Refuse: the exposure belongs to the owner."""
        raise AcquisitionError("a core of another program is only watched; set the exposure there.")

    def setCircularBufferMemoryFootprint(self, megabytes: int, /) -> None:
        """Nothing: the ring belongs to the owner, and resizing it while streaming crashes."""

    def getCameraDevice(self) -> str:
        """Label of the owner's camera."""
        return str(self._core.getCameraDevice())

    def getImageWidth(self) -> int:
        """Columns."""
        return int(self._core.getImageWidth())

    def getImageHeight(self) -> int:
        """Rows."""
        return int(self._core.getImageHeight())

    def getBytesPerPixel(self) -> int:
        """Bytes a pixel."""
        return int(self._core.getBytesPerPixel())

    def getImageBitDepth(self) -> int:
        """Bits in use."""
        return int(self._core.getImageBitDepth())

    def getPixelSizeUm(self) -> float:
        """Micrometres a pixel, 0.0 where unknown; from the core's cache: the objective turret is not asked."""
        return float(self._core.getPixelSizeUm(True))

    def getExposure(self) -> float:
        """Exposure, milliseconds."""
        return float(self._core.getExposure())

    def hasProperty(self, label: str, name: str, /) -> bool:
        """True if the device has the property."""
        return bool(self._core.hasProperty(label, name))

    def getProperty(self, label: str, name: str, /) -> str:
        """Value of a property."""
        return str(self._core.getProperty(label, name))

    def getXYStageDevice(self) -> str:
        """Label of the XY stage."""
        return str(self._core.getXYStageDevice())

    def getFocusDevice(self) -> str:
        """Label of the focus drive."""
        return str(self._core.getFocusDevice())

    def getXYPosition(self) -> Any:
        """(x, y), micrometres."""
        return self._core.getXYPosition()

    def getPosition(self) -> float:
        """z, micrometres."""
        return float(self._core.getPosition())

    def getCircularBufferMemoryFootprint(self) -> int:
        """Megabytes of the owner's ring."""
        return int(self._core.getCircularBufferMemoryFootprint())

    # ------------------------------------------------------------------ inside

    def _new_in_ring(self) -> int:
        """Frames in the ring that were not read; all of them after the ring was emptied (overflow, restart)."""
        total = int(self._core.getRemainingImageCount())
        if total < self._in_ring:
            self._in_ring = 0
        return total - self._in_ring

    def _read(self) -> tuple[Any, Mapping[str, Any]]:
        """Pixels and tags of the next frame."""
        new = self._new_in_ring()
        if not new:
            raise IndexError("no new frame in the ring")
        pixels, tags, number = self._peek(new - 1)
        if self._restarted or (self._last is not None and number != self._last + 1):
            self._restarted = False  # or more came in while we looked, or the ring was emptied
            pixels, tags, number = self._find_next()
            self._setup = None
        else:
            self._in_ring += 1
        if self._offset is None:
            self._offset = number  # numbers that we never saw were not lost
        elif self._last is not None and number <= self._last:
            self._offset = 0
        self._last, self._last_stamp, self._sign_s = number, _stamp(tags), time.perf_counter()
        if self._owner_runs is None:
            self._owner_runs = True
        return pixels, {**tags, "ImageNumber": str(number - self._offset), **self._live_setup()._asdict()}

    def _live_setup(self) -> CameraSetup:
        """How the camera is set in a live view, asked for now and then."""
        if self._setup is None or time.perf_counter() - self._setup_s > SETUP_POLL_S:
            self._setup, self._setup_s = CameraSetup.of(self, self.getCameraDevice()), time.perf_counter()
        return self._setup

    def _ring_is_the_plans(self) -> bool:
        """True while a planned run may stream into the ring and take its frames from there.

        It is not yet so while the run is prepared: what the live view has left is read before the plan's first frame.
        """
        return self._plan_has_begun and bool(self._core.mda.is_running())

    def _find_next(self) -> tuple[Any, dict[str, Any], int]:
        """The oldest frame of the ring that was not read, found while no frame came in between."""
        for _ in range(FIND_ATTEMPTS):
            total = int(self._core.getRemainingImageCount())
            read = self._read_of(total)
            if read == total:
                self._in_ring = total
                raise IndexError("no new frame in the ring")
            found = self._peek(total - 1 - read)
            if int(self._core.getRemainingImageCount()) == total:
                break
        self._in_ring = read + 1
        return found

    def _read_of(self, total: int) -> int:
        """How many of the ring's frames were read already: none of them after a restart."""
        if not total or self._last is None:
            return 0
        _, _, oldest = self._peek(total - 1)
        upto = self._last - oldest  # where the frame read last lies, if this is still its run
        if not 0 <= upto < total:
            return 0
        _, tags, number = self._peek(total - 1 - upto)
        return upto + 1 if (number, _stamp(tags)) == (self._last, self._last_stamp) else 0

    def _peek(self, before_last: int) -> tuple[Any, dict[str, Any], int]:
        """Pixels, tags and number of the frame `before_last` places before the newest."""
        try:
            pixels, metadata = self._core.getNBeforeLastImageAndMD(before_last)
        except (IndexError, RuntimeError) as error:  # emptied while we looked
            self._in_ring = 0
            raise IndexError(str(error)) from error
        tags = dict(metadata)
        return pixels, tags, int(tags["ImageNumber"])

    def _signals(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        """The owner's signals, and what hears them."""
        events, plan = self._core.events, self._core.mda.events
        return (
            (events.continuousSequenceAcquisitionStarted, self._owner_started),
            (events.sequenceAcquisitionStarted, self._owner_started),
            (events.sequenceAcquisitionStopped, self._owner_stopped),
            (plan.sequenceStarted, self._plan_started),
            (plan.frameReady, self._frame_ready),
            (plan.sequenceFinished, self._plan_finished),
        )

    def _owner_started(self, *_: object) -> None:
        """The owner began another sequence; on its thread, so only put it down."""
        self._restarted = self._owner_runs = True
        self._sign_s = time.perf_counter()

    def _owner_stopped(self, *_: object) -> None:
        """The owner has stopped its camera."""
        self._owner_runs = False

    def _plan_started(self, sequence: Any, *_: object) -> None:
        """The owner's planned run has stopped the live view and begins."""
        self._plan_has_begun, self._plan_channels = True, _channels_of(sequence)

    def _plan_finished(self, *_: object) -> None:
        """The owner's planned run is over."""
        self._plan_has_begun = False

    def _frame_ready(self, pixels: Any, event: Any, metadata: Mapping[str, Any]) -> None:
        """The owner's planned run has taken a frame; on its thread, so only put it down."""
        tags: dict[str, Any] = {str(axis): k for axis, k in event.index.items()}
        tags["Camera"] = str(metadata.get("camera_device") or self._core.getCameraDevice())
        # the engine says where the stage was only if it was told to, and not within a hardware sequence
        stage = {axis: getattr(event, f"{axis}_pos") for axis in "xyz"} | dict(metadata.get("position") or {})
        tags |= {f"{axis}_um": float(stage[axis]) for axis in "xyz" if stage.get(axis) is not None}
        tags["position"], tags["channel"] = position_of(event), event.channel and event.channel.config
        # asked on this thread, which has the camera at hand: the reader would wait for the end of the next snap
        tags |= CameraSetup.of(self, tags["Camera"])._asdict()
        told = {"exposure_ms": metadata.get("exposure_ms"), "core_pixel_um": metadata.get("pixel_size_um")}
        tags |= {name: value for name, value in told.items() if value is not None}
        tags["channels"] = self._channels_so_far(event)
        self._planned.append((pixels.copy(), tags))

    def _channels_so_far(self, event: Any) -> tuple[str, ...]:
        """Channels of the present run, as far as they are known by this event."""
        if not self._plan_channels:  # we began to listen in the midst of it
            self._plan_channels = _channels_of(event.sequence)
        if event.channel is not None:
            self._plan_channels.setdefault(event.channel.config)
        return tuple(self._plan_channels)


def _channels_of(sequence: Any) -> dict[str, None]:
    """The channels that a plan names, in its order; none where it is a bare iterator of events."""
    return {} if sequence is None else dict.fromkeys(channel.config for channel in sequence.channels)


def _hear_at_once(signal: Any, slot: Callable[..., None]) -> None:
    """Connect so that the emitting thread calls, whichever kind of signals the owner's core has.

    A Qt signal would queue for the event loop instead: late in a busy window, never in a notebook that runs no loop.
    """
    if "QtCore" in type(signal).__module__:
        from qtpy.QtCore import Qt

        signal.connect(slot, Qt.ConnectionType.DirectConnection)
    else:
        signal.connect(slot)


def _stamp(tags: Mapping[str, Any]) -> tuple[object, object]:
    """What tells two frames of one number apart."""
    return tags.get("TimeReceivedByCore"), tags.get("ElapsedTime-ms")
