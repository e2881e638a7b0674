from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from livescope.acquire import stream
from livescope.acquire.core import close_core, open_core
from livescope.acquire.stream import LiveStream
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings, SimulationSettings, SourceSettings
from livescope.simulate import FakeCore


@dataclass
class Sink:
    """What a test receives."""

    ledger: LossLedger = field(default_factory=LossLedger)
    frames: list[Frame] = field(default_factory=list)
    health: list[Any] = field(default_factory=list)

    def stream(self, core: Any, camera: CameraSettings | None = None, **more: Any) -> LiveStream:
        more.setdefault("on_health", self.health.append)
        return LiveStream(core, more.pop("on_frame", self.frames.append), self.ledger, camera, **more)

    @property
    def told_lost(self) -> int:
        """Times that the camera was said to be lost. On a slow machine it may be said to have stalled before."""
        return sum(event.health == "lost" for event in self.health)

    @property
    def lost_in_core(self) -> int:
        return self.ledger.by_cause()["core"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a snap waits for its frame."""
    monkeypatch.setattr(stream, "SNAP_PATIENCE_S", 60.0)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def _demo() -> Any:
    pytest.importorskip("mm_test_adapters", reason="the demo configuration needs mm-test-adapters")
    return open_core(SourceSettings(kind="demo"), CameraSettings(exposure_ms=2))


def _python_camera() -> Any:
    if importlib.util.find_spec("livescope.simulate.camera") is None:
        pytest.skip("no simulated camera in this tree")
    from livescope.simulate.camera import open_simulated_core

    return open_simulated_core(SimulationSettings(width=160, height=128, rate_fps=100), CameraSettings(exposure_ms=2))


OPENERS: dict[str, Callable[[], Any]] = {
    "fake": lambda: FakeCore(shape=(128, 160)),
    "demo": _demo,
    "python-camera": _python_camera,
}


@pytest.fixture(params=list(OPENERS))
def any_core(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every kind of camera core, one after the other."""
    core = OPENERS[request.param]()
    yield core
    close_core(core)


@pytest.fixture
def demo_core() -> Iterator[Any]:
    core = _demo()
    yield core
    close_core(core)


@pytest.fixture
def core_of() -> Iterator[Callable[[str], Any]]:
    """Opens a core by its name in `OPENERS`; all are closed at the end."""
    opened: list[Any] = []

    def open_one(name: str) -> Any:
        opened.append(OPENERS[name]())
        return opened[-1]

    yield open_one
    for core in opened:
        close_core(core)
