"""The fastest backend that works on this machine: measured once for a frame shape, then remembered.

Owns the measurement and its memory. Which backends there are to choose from is `detector.open_detector`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from livescope.detect.detector import BackendInfo, Detector, Progress, Table
from livescope.detect.fallback import FallbackDetector
from livescope.errors import BackendError
from livescope.frames import Frame, FrameSpec

__all__ = ["AutoDetector", "milliseconds"]

_RUNS = 5


def milliseconds(detector: Detector, frame: Frame) -> float:
    """Median time from a frame to its table, after a run that warms up."""
    times = []
    for _ in range(_RUNS + 1):
        begin = time.perf_counter()
        detector.poll(detector.submit(frame))
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times[1:])


class AutoDetector:
    """Implements `livescope.detect.detector.Detector` by the fastest of several.

    Parameters
    ----------
    candidates
        Name to maker of a detector; before `prepare` the first speaks for all. A maker that raises `BackendError` is
        no candidate on this machine.
    asked
        What, besides machine and frame shape, a choice depends on: model, precision, threads.
    on_progress
        Told what is measured.
    memory
        JSON file of the choices made; None takes one in the user's cache folder.
    measure
        Milliseconds of a prepared detector for a frame.
    """

    def __init__(
        self,
        candidates: Mapping[str, Callable[[], Detector]],
        asked: str,
        on_progress: Progress = lambda _: None,
        memory: Path | None = None,
        measure: Callable[[Detector, Frame], float] = milliseconds,
    ) -> None:
        self._candidates = candidates
        self._asked = asked
        self._on_progress = on_progress
        self._memory = memory or user_cache_path("livescope") / "backends.json"
        self._measure = measure
        self._open: dict[str, Detector] = {}
        self._chosen = next(iter(candidates))
        self._settled = False
        self._gone: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the chosen one says, and why it is not the one of the last time."""
        return (*self._gone, *self._detector(self._chosen).warnings)

    def prepare(self, spec: FrameSpec) -> None:
        """Take the backend remembered for such frames, or measure all, for some seconds; then prepare it.

        A later shape (an ROI changed during a run) stays with the first choice: nobody waits for a measurement then.
        """
        key = self._key(spec)
        chosen = self._chosen if self._settled else self._recall().get(key, "")
        self._settled = True
        if chosen in self._candidates:
            try:
                self._detector(chosen).prepare(spec)
            except BackendError as error:  # it has gone since: measure again
                self._gone = (f"backend {chosen!r}, the fastest here so far, does not work now: {error}",)
                self._forget(chosen)
            else:
                self._chosen = chosen
                return
        self._chosen = self._fastest(spec)
        self._remember(key, self._chosen)

    def submit(self, frame: Frame) -> int:
        """Begin the analysis of a frame."""
        return self._detector(self._chosen).submit(frame)

    def poll(self, ticket: int) -> Table:
        """Return the result of a ticket."""
        return self._detector(self._chosen).poll(ticket)

    def close(self) -> None:
        """Free all devices. May be called twice."""
        for name in list(self._open):
            self._forget(name)

    def describe(self) -> BackendInfo:
        """Say what is in use; before `prepare`, what will be if nothing is measured."""
        return self._detector(self._chosen).describe()

    def _detector(self, name: str) -> Detector:
        if name not in self._open:
            self._open[name] = self._candidates[name]()
        return self._open[name]

    def _forget(self, name: str) -> None:
        detector = self._open.pop(name, None)
        if detector is not None:
            detector.close()

    def _fastest(self, spec: FrameSpec) -> str:
        """Measure every candidate on a frame of noise; the losers are closed.

        Raises
        ------
        BackendError
            No candidate works; the message holds every reason.
        """
        top = 2 ** min(spec.bit_depth, 8 * np.dtype(spec.dtype).itemsize)
        noise = np.random.default_rng(0).integers(0, top, spec.shape, np.uint32).astype(spec.dtype)
        frame = Frame(noise, 0, 0, "noise", 0.0, 0.0, spec.bit_depth, pixel_um=spec.pixel_um)
        times: dict[str, float] = {}
        reasons = {}
        for name in self._candidates:
            try:
                self._on_progress(f"measuring backend {name}")
                detector = self._detector(name)
                detector.prepare(spec)
                taken_ms = self._measure(detector, frame)
                if isinstance(detector, FallbackDetector) and detector.failures:  # another's speed was measured
                    raise BackendError("; ".join(detector.warnings))
                times[name] = taken_ms
            except BackendError as error:
                reasons[name] = str(error)
                self._forget(name)
        if not times:
            raise BackendError("no backend works: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
        best = min(times, key=lambda name: times[name])
        for name in times:
            if name != best:
                self._forget(name)
        return best

    def _key(self, spec: FrameSpec) -> str:
        machine = [platform.node(), platform.machine(), os.cpu_count(), platform.version()]
        text = json.dumps([machine, self._asked, list(self._candidates), asdict(spec)])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _recall(self) -> dict[str, str]:
        try:
            choices = json.loads(self._memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or not ours: measured again and written anew
            return {}
        return choices if isinstance(choices, dict) else {}

    def _remember(self, key: str, name: str) -> None:
        temporary = self._memory.with_suffix(f".{os.getpid()}.part")
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._recall() | {key: name}, indent=1), encoding="utf-8")
            temporary.replace(self._memory)
        except OSError:  # a folder that cannot be written costs a measurement at each start, no more
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
