"""A session without a microscope for the window, and the guard against windows, timers and threads left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt is imported

from livescope.view.display import choose_binding

choose_binding()

from qtpy.QtCore import QEvent, QTimer  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from livescope.acquire.changes import Change  # noqa: E402
from livescope.calls import N_RAYS, Analysis, CellCalls, State, Viability  # noqa: E402
from livescope.detect.detector import BackendInfo  # noqa: E402
from livescope.frames import Frame  # noqa: E402
from livescope.places import Place  # noqa: E402
from livescope.settings import Settings  # noqa: E402
from livescope.status import SessionState, Status  # noqa: E402


@pytest.fixture(autouse=True)
def _plain_signals() -> None:
    """A window's cores have Qt's signals, as pymmcore-plus chooses where a QApplication is."""


def make_frame(index: int = 0, height: int = 192, width: int = 256, pixel_um: float | None = 0.65) -> Frame:
    """A frame whose pixel (y, x) has the grey value 400 + 2 x + index."""
    row = (400 + 2 * np.arange(width) + index).astype(np.uint16)
    pixels = np.ascontiguousarray(np.broadcast_to(row, (height, width)))
    return Frame(pixels, index, 0, "Camera", time.perf_counter(), time.time(), 12, pixel_um=pixel_um)


def make_analysis(frame: Frame, states: list[State]) -> Analysis:
    """Cells of 10 pixels' radius in a row, 40 pixels apart, the first at (y 50, x 30)."""
    n = len(states)
    radii = np.full((n, N_RAYS), 10.0, np.float32)
    state = np.array([int(s) for s in states], np.uint8)
    calls = CellCalls(
        frame_index=frame.index,
        y_px=np.full(n, 50.0, np.float32),
        x_px=(30.0 + 40.0 * np.arange(n)).astype(np.float32),
        radii_px=radii,
        p_cell=np.full(n, 0.9, np.float32),
        p_dead=np.where(state == State.DEAD, 0.97, np.where(state == State.LIVE, 0.03, 0.5)).astype(np.float32),
        state=state,
        area_px=np.full(n, np.pi * 100, np.float32),
        edge=np.zeros(n, bool),
        track=np.arange(1, n + 1),
        pixel_um=frame.pixel_um,
    )
    live, dead = calls.count(State.LIVE), calls.count(State.DEAD)
    fraction = live / (live + dead) if live + dead else float("nan")
    spread = 0.1 if live + dead else float("nan")
    low, high = max(fraction - spread, 0.0), min(fraction + spread, 1.0)
    return Analysis(frame, calls, Viability(live, dead, calls.count(State.UNCERTAIN), fraction, low, high))


class ScriptedBook:
    """What of a run's book the window reads."""

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[float, Viability]]] = {}
        self.places: dict[str, Place] = {}

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        return self.curves


class ScriptedSession:
    """The face that a session shows to a window: what is asked of it is written down, what it shows the test sets."""

    def __init__(self, **view: object) -> None:
        self.settings = Settings.model_validate({"view": view})
        self.asked: list[tuple[object, ...]] = []
        self.shown: list[Frame] = []
        self.frame: Frame | None = None
        self.analysis: Analysis | None = None
        self.curve: list[tuple[float, Viability]] = []
        self.fields: dict[str, object] = {}
        self.book = ScriptedBook()
        self.records: dict[float, Path] = {}
        """Records of frames that are not in the one of `status`, by `Frame.time_s`."""

    core: object | None = None

    def start(self) -> None:
        self.asked.append(("start",))

    def stop(self) -> None:
        self.asked.append(("stop",))

    def snap(self) -> None:
        self.asked.append(("snap",))

    def change(self, change: Change) -> Future[None]:
        self.asked.append(("change", change))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def burst(self, frames: int) -> None:
        self.asked.append(("burst", frames))

    def set_plan(self, plan: Path | None) -> None:
        if plan is not None:
            self.asked.append(("plan", plan))

    def pause(self) -> None:
        self.asked.append(("pause",))

    def resume(self) -> None:
        self.asked.append(("resume",))

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()

    def set_exposure(self, exposure_ms: float) -> None:
        self.asked.append(("exposure", exposure_ms))

    def start_recording(self) -> None:
        self.asked.append(("record", True))

    def stop_recording(self) -> None:
        self.asked.append(("record", False))

    def latest_frame(self) -> Frame | None:
        return self.frame

    def latest_analysis(self) -> Analysis | None:
        return self.analysis

    def record_of(self, frame: Frame) -> Path | None:
        return self.records.get(frame.time_s, self.status().record) if self.status().recording else None

    def viability_curve(self) -> list[tuple[float, Viability]]:
        return self.curve

    def mark_shown(self, frame: Frame) -> None:
        self.shown.append(frame)

    def status(self) -> Status:
        fields: dict[str, object] = {
            "state": SessionState.IDLE,
            "reason": None,
            "delivered": 1200,
            "recorded": 1100,
            "analysed": 300,
            "shown": len(self.shown),
            "lost": dict.fromkeys(("core", "camera", "recorder", "analysis", "display"), 0),
            "fps_acquired": 30.0,
            "fps_analysed": 7.5,
            "fps_shown": 29.9,
            "latency_ms": (12.0, 31.0, 40.0),
            "recording": False,
            "record": None,
            "queue_fill": 0.0,
            "disk_free_bytes": 500_000_000_000,
            "backend": BackendInfo("onnx", "CPU", "float32", "simulated", "0" * 64),
            "model": "simulated",
            "exposure_ms": 20.0,
            "busy": None,
            "warnings": (),
            "errors": (),
        }
        return Status(**(fields | self.fields))  # type: ignore[arg-type]


@pytest.fixture
def scripted() -> ScriptedSession:
    """A session that is idle and has no frame."""
    return ScriptedSession()


def left_behind(before: set[int]) -> list[str]:
    """What of windows, timers and threads is alive; `before` holds ids of threads that were there already."""
    application = QApplication.instance()
    windows = [] if application is None else [w for w in application.topLevelWidgets() if w.isVisible()]
    # by type, since isinstance asks the object, and torch's deprecated ones answer with a warning
    timers = [o for o in gc.get_objects() if issubclass(type(o), QTimer) and _active(o)]
    # zarr keeps its event loop and its pool as long as the process lives, and openvino_telemetry one worker
    pools = ("zarr_io", "asyncio_", "ThreadPoolExecutor-")
    ours = [t for t in threading.enumerate() if not t.name.startswith(pools)]
    threads = [t for t in ours if t.ident not in before]
    return [f"window {w!r}" for w in windows] + [f"timer {t!r}" for t in timers] + [f"thread {t!r}" for t in threads]


def _active(timer: QTimer) -> bool:
    try:
        return bool(timer.isActive())
    except RuntimeError:  # the C++ object is gone: it cannot tick any more
        return False


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a visible window, an active timer or a thread."""
    before = {t.ident for t in threading.enumerate() if t.ident is not None}
    yield
    if QApplication.instance() is not None:  # windows that were given back are deleted now, not at the next event loop
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    left, end_s = left_behind(before), time.monotonic() + 20
    while left and all(text.startswith("thread") for text in left) and time.monotonic() < end_s:
        time.sleep(0.01)  # one that was told to end may need a moment
        left = left_behind(before)
    assert not left, f"left behind: {left}"


@pytest.fixture
def qtbot(qtbot: Any) -> Any:
    """pytest-qt's, which waits a minute instead of 5 s: a loaded machine is slow, not wrong."""
    until, signal = qtbot.waitUntil, qtbot.waitSignal
    qtbot.waitUntil = lambda done, *, timeout=60_000: until(done, timeout=timeout)
    qtbot.waitSignal = lambda sent, *, timeout=60_000, **more: signal(sent, timeout=timeout, **more)
    return qtbot


@pytest.fixture
def new_frame() -> Callable[..., Frame]:
    """`make_frame`."""
    return make_frame


@pytest.fixture
def new_analysis() -> Callable[[Frame, list[State]], Analysis]:
    """`make_analysis`."""
    return make_analysis


@pytest.fixture
def leavings() -> Callable[[set[int]], list[str]]:
    """`left_behind`."""
    return left_behind
