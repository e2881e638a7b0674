"""The acquisition loop: takes every frame of one segment out of the core's ring and hands it on.

Owns the loop and the account of what was lost on the way. Starting, stopping and changing the camera is `stream.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from livescope.acquire.account import Accounts
from livescope.acquire.camera_state import CameraState, TellsOfSetup
from livescope.acquire.lock import CameraLock
from livescope.acquire.stream_core import MayRest, StreamCore, TellsOfPlaces, camera_labels
from livescope.errors import FrameError, LivescopeError
from livescope.frames import Frame, LossCause, LossLedger

__all__ = ["Counters", "Ending", "Pump"]

EMPTY_POLL_S = 0.001
POSITION_POLL_S = 0.25
POP_ATTEMPTS = 3


class Ending(Enum):
    """Why a loop ended."""

    COMPLETE = auto()
    """All frames that were asked for were made."""
    HALTED = auto()
    """It was told to."""
    GONE = auto()
    """The camera stopped by itself, or a call to it failed."""
    OVERFLOWED = auto()
    """A burst outran the ring; what was delivered has no gap."""


@dataclass(slots=True)
class Counters:
    """What goes on counting over the segments of a stream."""

    index: int = 0
    segment: int = -1
    last_sign_s: float = 0.0


class _Tags(Mapping[str, Any]):
    """What the core said of a frame, read when it is asked for: to read all ten tags takes it 30 us."""

    __slots__ = ("_said",)

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = said

    def __getitem__(self, name: str) -> Any:
        return self._said[name]

    def __contains__(self, name: object) -> bool:
        return name in self._said

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def __repr__(self) -> str:
        return repr(dict(self))


class Pump:
    """One segment's loop.

    Parameters
    ----------
    core, lock, camera
        Where frames come from, the lock for every call to it, and what their stamps say.
    counters
        Shared with the pumps before and after.
    ledger
        Counts delivered and lost frames.
    on_frame
        Receives every frame, on the loop's thread.
    asked
        Frames that the camera was asked for, None for a continuous sequence.
    first
        Number of the first frame, see `livescope.acquire.account.CameraAccount`.
    """

    def __init__(
        self,
        core: StreamCore,
        lock: CameraLock,
        camera: CameraState,
        counters: Counters,
        ledger: LossLedger,
        on_frame: Callable[[Frame], None],
        *,
        asked: int | None,
        first: int | None = 0,
    ) -> None:
        self._core = core
        self._lock = lock
        self._camera = camera
        self._counters = counters
        self._ledger = ledger
        self._on_frame = on_frame
        self._asked = asked
        self._accounts = Accounts(camera_labels(core), first)
        self._may_rest = core if isinstance(core, MayRest) else None
        self._tells_places = core if isinstance(core, TellsOfPlaces) else None
        self._tells_setup = core if isinstance(core, TellsOfSetup) else None
        self._kinds: dict[str | None, tuple[Any, ...]] = {}
        """Shape, pixel type, depth and pixel size of the newest frame in each channel, where others set them."""
        self._newest_kind: tuple[Any, ...] | None = None
        self._drain_left: int | None = None
        self.halt = threading.Event()
        self.error: Exception | None = None
        """The call that failed, where the camera is GONE by one; whoever sets it ends the loop."""

    @property
    def produced(self) -> int:
        """Frames that the camera is known to have made in this segment; of several cameras the least."""
        return self._accounts.produced

    def forget_clock(self) -> None:
        """The frame rate is about to change: no step of the camera's clock is to be taken for a loss."""
        self._accounts.forget_clock()

    def halt_undrained(self) -> None:
        """End although the camera would not stop: take what lies in the ring now, no more."""
        try:
            self._drain_left = self._core.getRemainingImageCount()
        except Exception:  # noqa: BLE001 - a core that says nothing any more has no frame to give
            self._drain_left = 0
        self.halt.set()

    def run(self) -> Ending:
        """Take frames until the camera ends, is gone, or `halt` is set. What the receiver raises comes out of here."""
        failures = 0
        while True:
            halted = self.halt.is_set()  # asked before the ring is: an empty ring is then the end
            try:
                popped, running = self._take()
                if popped is None and self._may_rest is not None and self._may_rest.rests():
                    self._counters.last_sign_s = time.perf_counter()
                failures = 0
            except LivescopeError:
                raise
            except Exception as error:  # noqa: BLE001 - an overflow between count and pop, or whatever a camera raises
                popped, running = None, True
                failures += 1
                if failures >= POP_ATTEMPTS:
                    self.error = error
                    if halted:
                        self._count_tails()
                    return Ending.HALTED if halted else Ending.GONE
            empty = popped is None
            if popped is not None:
                self._deliver(*popped)
                popped = None  # or the next pop needs fresh memory beside it: some per cent at 2048 x 2048
            elif self.error is not None or not running or (halted and not failures):
                self._count_tails()
                return self._how_it_ended()
            if self._drain_left is not None:
                if self._drain_left <= 0:
                    self._count_tails()
                    return Ending.HALTED
                self._drain_left -= 1
            if empty or self._lock.contended:
                time.sleep(EMPTY_POLL_S)
            if time.perf_counter() - self._camera.position_read_s > POSITION_POLL_S:
                self._camera.refresh_position()

    def write_off(self) -> None:
        """Count the frames that nobody will get any more: lost, not forgotten. The camera must have been stopped."""
        while self._core.getRemainingImageCount():
            _, metadata = self._core.popNextImageAndMD()
            camera, number, _ = self._read_tags(_Tags(metadata))
            gap = self._accounts.see(camera, number, None)
            self._ledger.lose(LossCause.CORE, self._counters.segment, camera, gap.core + 1)
        self._count_tails()

    def _count_tails(self) -> None:
        """Count what cameras lost after their last frame, as far as another camera's numbers tell of it."""
        for camera, frames in self._accounts.tails().items():
            self._ledger.lose(LossCause.CORE, self._counters.segment, camera, frames)

    def _take(self) -> tuple[tuple[Any, Mapping[str, Any]] | None, bool]:
        """The oldest frame, or None, and whether the camera still runs."""
        with self._lock:
            running = True
            if not self._core.getRemainingImageCount():
                running = self._core.isSequenceRunning()
                if not self._core.getRemainingImageCount():  # asked again: the last frame may have come in between
                    return None, running
            pixels, metadata = self._core.popNextImageAndMD()
            return (pixels, metadata), running

    def _deliver(self, pixels: Any, metadata: Mapping[str, Any]) -> None:
        tags = _Tags(metadata)
        camera, number, elapsed_ms = self._read_tags(tags)
        gap = self._accounts.see(camera, number, elapsed_ms)
        counters, ledger = self._counters, self._ledger
        if self._tells_places is not None:
            self._camera.hear(self._tells_places.taken(tags))
        if self._tells_setup is not None:
            self._camera.hear_setup(self._tells_setup.camera_setup(tags))
        elif gap.restarted:
            self._camera.read()
        another_kind = self._is_another_kind(pixels)
        if gap.restarted or another_kind:
            counters.segment += 1
        if gap.core:
            ledger.lose(LossCause.CORE, counters.segment, camera, gap.core)
        if gap.camera:
            ledger.lose(LossCause.CAMERA, counters.segment, camera, gap.camera)
        try:
            frame = self._camera.frame(
                pixels,
                tags,
                camera,
                index=counters.index,
                segment=counters.segment,
                lost=gap.core,
                elapsed_ms=elapsed_ms,
            )
        except FrameError:
            ledger.lose(LossCause.CORE, counters.segment, camera)
            raise
        counters.index += 1
        counters.last_sign_s = frame.time_s
        ledger.deliver(counters.segment, camera)
        self._on_frame(frame)

    def _is_another_kind(self, pixels: Any) -> bool:
        """True if somebody else has set the camera or the objective otherwise since the frame before.

        Channels are compared each with itself, since a plan may bin its dye: that would be a segment a frame.
        """
        if self._tells_setup is None:
            return False
        channel, camera = self._camera.channel, self._camera
        kind = pixels.shape, pixels.dtype, camera.bit_depth, camera.pixel_um
        known = self._kinds.get(channel, self._newest_kind or kind)
        self._kinds[channel] = self._newest_kind = kind
        return known != kind

    def _read_tags(self, tags: Mapping[str, Any]) -> tuple[str, int | None, float | None]:
        """Camera label, frame number and clock (ms), as far as the adapter gives them."""
        number, elapsed_ms = tags.get("ImageNumber"), tags.get("ElapsedTime-ms")
        return (
            str(tags.get("Camera") or self._camera.label),
            None if number is None else int(str(number)),
            None if elapsed_ms is None else float(str(elapsed_ms)),
        )

    def _how_it_ended(self) -> Ending:
        if self._asked is not None and self.produced >= self._asked:
            return Ending.COMPLETE
        if self.halt.is_set():
            return Ending.HALTED
        return Ending.OVERFLOWED if self._core.isBufferOverflowed() else Ending.GONE
