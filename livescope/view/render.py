"""The render thread: the newest frame and the newest calls, made ready to paint.

Owns everything that is too slow for the GUI thread: levels, 8-bit conversion, outlines as segments. It polls the
session's newest-only mailboxes and holds at most one finished picture: what the window has not taken yet is replaced,
never queued (a queued signal per frame grew to 800 MB and 1.1 s of delay in 6 s).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from livescope.calls import Analysis, State
from livescope.frames import Frame
from livescope.view.geometry import outline_segments
from livescope.view.grey import AutoLevels, Grey8Converter, Histogram, grey_histogram
from livescope.view.trails import Trails

__all__ = ["Contrast", "Drawing", "FrameFeed", "Picture", "RenderThread", "Renderer", "draw_calls"]

_POLL_S = 0.003
"""How often the mailboxes are looked at while nothing new is there; a look takes 2 us."""
_HISTOGRAM_S = 0.2
"""The histogram is made anew five times a second: the eye does not follow more, and the frame rate is left alone."""


_STILL_PX = 5.0
"""A stage that moved by less still shows the same cells."""


class FrameFeed(Protocol):
    """What the render thread needs of a session."""

    def latest_frame(self) -> Frame | None:
        """Newest frame, None before the first."""

    def latest_analysis(self) -> Analysis | None:
        """Newest analysed frame with its calls, None before the first."""


@dataclass(slots=True, frozen=True)
class Contrast:
    """How grey values become 8 bits: by the picture itself, or between two fixed grey values."""

    auto: bool = True
    black: float = 0.0
    white: float = 65_535.0


@dataclass(slots=True, frozen=True)
class Drawing:
    """Calls as shapes, per state: centres (n, 2) x, y and outline segments (m, 4), in pixels of the raw frame.

    `coarse` are the outlines with half the rays, for cells that are small on the screen; `radius_px` says how small.
    `trails` are where the cells have been.
    """

    analysis: Analysis
    centres: dict[State, NDArray[np.float64]]
    outlines: dict[State, NDArray[np.float64]]
    coarse: dict[State, NDArray[np.float64]]
    radius_px: float
    trails: dict[State, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Picture:
    """What is painted next.

    `grey8` holds every `step`-th pixel of every `step`-th row: more are not seen when the view is zoomed out. `levels`
    are the grey values shown as black and white; the histogram may be older than the frame.
    """

    frame: Frame
    grey8: NDArray[np.uint8]
    levels: tuple[float, float]
    drawing: Drawing | None
    histogram: Histogram | None
    step: int = 1


def draw_calls(analysis: Analysis) -> Drawing:
    """Turn calls into shapes."""
    calls = analysis.calls
    centres, outlines, coarse = {}, {}, {}
    yx = calls.outlines_yx()
    for state in State:
        chosen = calls.state == state
        centres[state] = np.stack([calls.x_px[chosen], calls.y_px[chosen]], axis=-1).astype(np.float64)
        outlines[state] = outline_segments(yx[chosen], state)
        coarse[state] = outline_segments(yx[chosen, ::2], state)
    radius_px = float(np.median(calls.radii_px)) if len(calls) else 0.0
    return Drawing(analysis, centres, outlines, coarse, radius_px)


class Renderer:
    """Turn a frame and the newest calls into a picture; keeps what did not change since the last one."""

    def __init__(self) -> None:
        self._trails = Trails()
        self._levels = AutoLevels()
        self._convert = Grey8Converter()
        self._picture: Picture | None = None
        self._contrast: Contrast | None = None
        self._histogram: Histogram | None = None
        self._histogram_due_s = 0.0

    def __call__(self, frame: Frame, analysis: Analysis | None, contrast: Contrast, step: int = 1) -> Picture:
        """Make the picture, of every `step`-th pixel."""
        old = self._picture
        drawing = None if old is None else old.drawing
        if analysis is None or not _same_view(analysis.frame, frame):
            drawing = None  # calls of another place over this picture would lie
        elif drawing is None or drawing.analysis is not analysis:
            drawing = replace(draw_calls(analysis), trails=self._trails(analysis))
        if old is not None and old.frame is frame and old.step == step and contrast is self._contrast:
            self._picture = replace(old, drawing=drawing)
            return self._picture
        self._contrast = contrast
        levels = self._levels(frame.pixels) if contrast.auto else (contrast.black, contrast.white)
        now_s = time.perf_counter()
        if now_s >= self._histogram_due_s:
            self._histogram, self._histogram_due_s = grey_histogram(frame.pixels), now_s + _HISTOGRAM_S
        grey8 = self._convert(frame.pixels[::step, ::step], *levels)
        self._picture = Picture(frame, grey8, levels, drawing, self._histogram, step)
        return self._picture


def _same_view(called: Frame, shown: Frame) -> bool:
    """Whether two frames look at the same piece of the sample, as far as their stage and camera say."""
    if called.pixels.shape != shown.pixels.shape or called.position != shown.position:
        return False
    moved_um = (
        abs(a - b) for a, b in ((called.x_um, shown.x_um), (called.y_um, shown.y_um)) if a is not None and b is not None
    )
    return max(moved_um, default=0.0) <= _STILL_PX * (shown.pixel_um or 1.0)


class RenderThread(threading.Thread):
    """Make pictures of the newest frame, at most `rate_hz` a second, and wake the window once for each.

    Parameters
    ----------
    feed
        Where frames and calls come from.
    wake
        Called in this thread when a picture lies ready and the window has taken the one before.
    rate_hz
        Most pictures a second.
    """

    def __init__(self, feed: FrameFeed, wake: Callable[[], None], rate_hz: float) -> None:
        super().__init__(name="livescope-render", daemon=True)
        self.feed = feed
        self.contrast = Contrast()
        self.step = 1
        """Make pictures of every `step`-th pixel; the canvas says how many of them can be seen."""
        self.failure: str | None = None
        """What went wrong with the newest frame; the window shows it."""
        self._wake = wake
        self._interval_s = 1.0 / rate_hz
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._ready: Picture | None = None
        self._render = Renderer()
        self._last: tuple[Frame | None, Analysis | None, Contrast, int] = (None, None, self.contrast, 1)

    def take(self) -> Picture | None:
        """Take the newest picture, None if it was taken before. GUI thread."""
        with self._lock:
            picture, self._ready = self._ready, None
        return picture

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Poll, render, wake; until `stop`."""
        due_s = time.perf_counter()
        while not self._stopping.is_set():
            wanted = (self.feed.latest_frame(), self.feed.latest_analysis(), self.contrast, self.step)
            if wanted[0] is None or all(new is old for new, old in zip(wanted, self._last, strict=True)):
                self._stopping.wait(_POLL_S)
                continue
            self._last = wanted
            try:
                picture = self._render(wanted[0], *wanted[1:])
                self.failure = None
            except Exception as error:  # noqa: BLE001 - boundary of the render thread: the next frame may be fine
                self.failure = f"frame {wanted[0].index} cannot be drawn: {type(error).__name__}: {error}"
                continue
            self._leave(picture)
            # paced by deadline; a late picture does not make the next ones come faster
            due_s = max(due_s + self._interval_s, time.perf_counter() - self._interval_s)
            self._stopping.wait(max(0.0, due_s - time.perf_counter()))

    def _leave(self, picture: Picture) -> None:
        with self._lock:
            asleep = self._ready is None
            self._ready = picture
        if asleep:
            self._wake()
