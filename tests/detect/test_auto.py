from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cuda_kit import FakeCuda
from network_kit import as_frame, blob_network, disc_frame, make_bundle

from livescope.detect.auto import AutoDetector, milliseconds
from livescope.detect.bundle import Bundle
from livescope.detect.detector import Detector, open_detector
from livescope.detect.fallback import FallbackDetector
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.errors import BackendError, ModelError
from livescope.frames import Frame, FrameSpec
from livescope.settings import DetectorSettings

FRAME = as_frame(disc_frame([(30, 30)], [], (64, 64)))


class Lab:
    """Makers of detectors with given speeds; remembers what was made, measured, closed."""

    def __init__(self, bundle: Bundle, memory: Path) -> None:
        self.bundle, self.memory = bundle, memory
        self.speeds: dict[str, float] = {"a": 3.0, "b": 1.0, "c": 2.0}
        self.absent: set[str] = set()
        self.measured: list[str] = []
        self.told: list[str] = []
        self.live: dict[int, str] = {}

    def auto(self, asked: str = "model 1") -> AutoDetector:
        return AutoDetector(
            {name: self.maker(name) for name in self.speeds}, asked, self.told.append, self.memory, self.measure
        )

    def maker(self, name: str) -> Callable[[], Detector]:
        def make() -> Detector:
            if name in self.absent:
                raise BackendError(f"{name} is not here")
            detector = OnnxDetector(self.bundle, 10, 1)
            close = detector.close
            self.live[id(detector)] = name

            def closing() -> None:
                self.live.pop(id(detector), None)
                close()

            detector.close = closing  # type: ignore[method-assign]
            return detector

        return make

    def measure(self, detector: Detector, frame: Frame) -> float:
        assert milliseconds(detector, frame) > 0  # it truly runs
        name = self.live[id(detector)]
        self.measured.append(name)
        return self.speeds[name]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(make_bundle(tmp_path, blob_network()), tmp_path / "cache" / "backends.json")


def test_the_fastest_is_taken_and_the_others_are_closed(lab: Lab) -> None:
    auto = lab.auto()
    auto.prepare(FRAME.spec)
    assert lab.measured == ["a", "b", "c"]
    assert lab.told == ["measuring backend a", "measuring backend b", "measuring backend c"]
    assert list(lab.live.values()) == ["b"]
    assert auto.poll(auto.submit(FRAME)).rows[0, 0] > 0.5
    auto.close()
    auto.close()
    assert lab.live == {}


def test_it_is_measured_once_and_remembered(lab: Lab) -> None:
    lab.auto().prepare(FRAME.spec)
    lab.measured.clear()
    lab.live.clear()
    again = lab.auto()
    again.prepare(FRAME.spec)
    assert lab.measured == []
    assert list(lab.live.values()) == ["b"]
    wide = FrameSpec(64, 65, "uint16", 16, 1.0)
    again.prepare(wide)  # during a run nobody waits for a measurement
    assert lab.measured == []
    lab.auto().prepare(wide)  # another shape is another choice
    assert lab.measured == ["a", "b", "c"]
    lab.auto("model 2").prepare(FRAME.spec)
    assert len(lab.measured) == 6
    assert len(json.loads(lab.memory.read_text())) == 3


def test_what_does_not_work_is_no_candidate(lab: Lab) -> None:
    lab.absent = {"b"}
    auto = lab.auto()
    auto.prepare(FRAME.spec)
    assert list(lab.live.values()) == ["c"]
    lab.absent = {"a", "b", "c"}
    with pytest.raises(BackendError, match=r"no backend works: a: a is not here; b: .*; c: "):
        lab.auto("model 3").prepare(FRAME.spec)


def test_a_remembered_backend_that_has_gone_is_measured_again(lab: Lab) -> None:
    lab.auto().prepare(FRAME.spec)
    lab.absent = {"b"}
    lab.measured.clear()
    auto = lab.auto()
    auto.prepare(FRAME.spec)
    assert lab.measured == ["a", "c"]
    auto.poll(auto.submit(FRAME))
    assert auto.warnings == ("backend 'b', the fastest here so far, does not work now: b is not here",)


def test_a_backend_for_which_another_stands_in_is_no_candidate(lab: Lab) -> None:
    real = lab.maker("b")

    class Full(OnnxDetector):
        def prepare(self, spec: FrameSpec) -> None:
            raise BackendError("the GPU is full")

    lab.maker = lambda name: (  # type: ignore[method-assign]
        (lambda: FallbackDetector(lambda: Full(lab.bundle, 10, 1), real)) if name == "b" else Lab.maker(lab, name)
    )
    lab.measure = lambda detector, frame: 3.0 - isinstance(detector, FallbackDetector)  # type: ignore[method-assign]
    auto = lab.auto()
    auto.prepare(FRAME.spec)
    assert set(json.loads(lab.memory.read_text()).values()) == {"a"}
    assert auto.describe().backend.startswith("onnxruntime")


def test_a_gpu_that_came_since_is_measured(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livescope.detect.auto.user_cache_path", lambda _: lab.memory.parent)
    monkeypatch.setattr("livescope.detect.detector._OPTIONAL", {"tensorrt-rtx": "json"})  # a module that is there
    for gpus in (0, 0, 1):
        monkeypatch.setattr("livescope.detect.cuda.import_cuda", lambda n=gpus: FakeCuda(n))
        open_detector(DetectorSettings(threads=1), lab.bundle).prepare(FRAME.spec)
        assert len(json.loads(lab.memory.read_text())) == gpus + 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 5}'])
def test_a_damaged_memory_is_written_anew(lab: Lab, content: str) -> None:
    lab.memory.parent.mkdir()
    lab.memory.write_text(content)
    lab.auto().prepare(FRAME.spec)
    assert "b" in json.loads(lab.memory.read_text()).values()


def test_a_memory_that_cannot_be_written_does_not_stop_a_run(lab: Lab) -> None:
    lab.memory.parent.write_text("a file where the folder should be")
    auto = lab.auto()
    auto.prepare(FRAME.spec)
    auto.poll(auto.submit(FRAME))


def test_a_wrong_pixel_size_is_not_taken_for_a_broken_backend(lab: Lab) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        lab.auto().prepare(FrameSpec(64, 64, "uint8", 8, 5.0))


def test_auto_is_what_the_settings_choose(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livescope.detect.auto.user_cache_path", lambda _: lab.memory.parent)
    detector = open_detector(DetectorSettings(threads=1), lab.bundle)
    detector.prepare(FRAME.spec)
    assert detector.poll(detector.submit(FRAME)).rows[0, 0] > 0.5
    assert detector.describe().device == "CPU, 1 thread"  # here, without a GPU
    monkeypatch.setattr("livescope.detect.detector.importlib.util.find_spec", lambda _: None)
    assert isinstance(open_detector(DetectorSettings(), lab.bundle), OnnxDetector)
