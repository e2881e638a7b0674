from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kit import Error, FakeCuda, FakeTrt
from network_kit import as_frame, blob_network, disc_frame, make_bundle

from livescope.detect import tensorrt
from livescope.detect.bundle import Bundle
from livescope.detect.cuda import import_cuda
from livescope.detect.detector import open_detector
from livescope.detect.engine_cache import EngineCache
from livescope.detect.fallback import FallbackDetector
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.detect.tensorrt import SLOTS, TensorRtDetector
from livescope.errors import BackendError
from livescope.frames import Frame
from livescope.settings import DetectorSettings

K = 20


@pytest.fixture
def blobs(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, blob_network())


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def trt(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTrt:
    fake = FakeTrt(cuda)
    monkeypatch.setattr(tensorrt, "build_plan", lambda trt, graph, tell: tell("tactics", 1, 2) or trt.plan(graph))
    monkeypatch.setattr(tensorrt, "logger_of", lambda trt: type("Log", (), {"lines": ["the log's last line"]}))
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def make(blobs: Bundle, trt: FakeTrt, cuda: FakeCuda, cache: EngineCache) -> Callable[[], TensorRtDetector]:
    return lambda: TensorRtDetector(blobs, K, "fp32", cache=cache, trt=trt, cuda=cuda)


def frames(count: int, shape: tuple[int, int] = (64, 80)) -> list[Frame]:
    return [as_frame(disc_frame([(20 + 3 * n, 20)], [(40, 60 - 2 * n)], shape), n) for n in range(count)]


def expected(blobs: Bundle, frame: Frame) -> np.ndarray:
    detector = OnnxDetector(blobs, K, 1)
    detector.prepare(frame.spec)
    return detector.poll(detector.submit(frame)).rows


def test_frames_in_flight_come_back_whole_and_in_order(make: Any, blobs: Bundle, cuda: FakeCuda) -> None:
    detector = make()
    some = frames(3 * SLOTS)
    detector.prepare(some[0].spec)
    for begin in range(0, len(some), SLOTS):
        batch = some[begin : begin + SLOTS]
        tickets = [detector.submit(frame) for frame in batch]
        for frame, ticket in zip(batch, tickets, strict=True):
            table = detector.poll(ticket)
            assert table.frame_index == frame.index
            np.testing.assert_array_equal(table.rows, expected(blobs, frame))
    cuda.calls.clear()
    detector.close()
    assert cuda.calls.count("cudaStreamDestroy") == SLOTS
    per_slot = len(cuda.calls) // SLOTS
    for end in range(per_slot, len(cuda.calls) + 1, per_slot):  # what uses a stream goes before it
        assert cuda.calls[end - 1] == "cudaStreamDestroy"
    detector.close()
    assert cuda.alive == 0


def test_a_frame_in_flight_is_one_graph_launch(make: Any, cuda: FakeCuda) -> None:
    detector = make()
    frame = frames(1)[0]
    detector.prepare(frame.spec)
    assert len(cuda.streams) == len(cuda.executables) == SLOTS
    assert not cuda.graphs  # the templates are freed
    cuda.calls.clear()
    detector.poll(detector.submit(frame))
    assert cuda.calls == ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]


def test_a_table_is_not_overwritten_by_the_next_frame(make: Any, blobs: Bundle) -> None:
    detector = make()
    first, *rest = frames(SLOTS + 1)
    detector.prepare(first.spec)
    table = detector.poll(detector.submit(first))
    for frame in rest:
        detector.poll(detector.submit(frame))
    np.testing.assert_array_equal(table.rows, expected(blobs, first))


def test_a_new_shape_has_graphs_of_its_own_and_the_third_frees_the_first(
    make: Any, blobs: Bundle, cuda: FakeCuda, trt: FakeTrt
) -> None:
    detector = make()
    first = frames(1)[0]
    detector.prepare(first.spec)
    alive = cuda.alive
    wide = frames(1, (70, 99))[0]
    with pytest.raises(BackendError, match=r"\(70, 99\).*prepared for \(\(64, 80\)"):
        detector.submit(wide)
    for frame in (wide, first, wide):  # of two cameras in turn: nothing is loaded again
        detector.prepare(frame.spec)
        np.testing.assert_array_equal(detector.poll(detector.submit(frame)).rows, expected(blobs, frame))
        assert cuda.alive == 2 * alive
    cuda.calls.clear()
    detector.prepare(first.spec)
    assert cuda.calls == []
    third = frames(1, (32, 50))[0]
    detector.prepare(third.spec)
    assert cuda.alive == 2 * alive
    np.testing.assert_array_equal(detector.poll(detector.submit(third)).rows, expected(blobs, third))
    detector.close()
    assert cuda.alive == 0


def test_a_full_device_is_emptied_of_other_shapes_first(make: Any, cuda: FakeCuda) -> None:
    detector = make()
    detector.prepare(frames(1)[0].spec)
    alive, room = cuda.alive, cuda.cudaMalloc
    cuda.cudaMalloc = lambda size: room(size) if cuda.alive < alive else (Error.cudaErrorMemoryAllocation, None)  # type: ignore[method-assign]
    wide = frames(1, (70, 99))[0]
    detector.prepare(wide.spec)
    detector.poll(detector.submit(wide))
    assert cuda.alive == alive
    detector.close()
    assert cuda.alive == 0


def test_more_frames_than_slots_are_refused(make: Any) -> None:
    detector = make()
    some = frames(SLOTS + 1)
    detector.prepare(some[0].spec)
    tickets = [detector.submit(frame) for frame in some[:SLOTS]]
    with pytest.raises(BackendError, match="3 slots hold frames in flight; poll"):
        detector.submit(some[SLOTS])
    detector.poll(tickets[0])
    detector.submit(some[SLOTS])


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost", "cudaGraphInstantiate", "cudaStreamBeginCapture"])
def test_a_device_that_is_full_leaves_nothing_behind(make: Any, cuda: FakeCuda, call: str) -> None:
    detector = make()
    cuda.fail[call] = Error.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match=f"{call} failed: cudaErrorMemoryAllocation"):
        detector.prepare(frames(1)[0].spec)
    detector.close()
    assert cuda.alive == 0


def test_an_engine_is_built_once(make: Any, trt: FakeTrt, cuda: FakeCuda) -> None:
    spec = frames(1)[0].spec
    for _ in range(2):
        make().prepare(spec)
    assert trt.builds == 1
    make().prepare(frames(1, (64, 81))[0].spec)
    assert trt.builds == 2
    trt.__version__ = "1.1"
    make().prepare(spec)
    assert trt.builds == 3


def test_a_stored_engine_that_does_not_load_is_built_again_once(make: Any, trt: FakeTrt, cache: EngineCache) -> None:
    spec = frames(1)[0].spec
    make().prepare(spec)
    (path,) = cache.folder.glob("*.engine")
    content = path.read_bytes()
    path.write_bytes(content[:-1])  # cut short
    make().prepare(spec)
    path.write_bytes(b"of another program")
    make().prepare(spec)
    assert trt.builds == 3
    assert path.read_bytes() == content
    trt.loads = "plans of a new driver"  # the stored one is whole, and does not load
    make().prepare(spec)
    assert trt.builds == 4
    trt.loads = "plans of version 1"


def test_an_engine_that_was_just_built_and_does_not_load_is_not_built_again(make: Any, trt: FakeTrt) -> None:
    plans: list[bytes] = []
    trt.plan = lambda graph: plans.append(b"of another device") or plans[-1]  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(BackendError, match="does not load: the log's last line"):
        make().prepare(frames(1)[0].spec)
    assert len(plans) == 1


def test_kernels_are_compiled_once_for_all_slots_and_starts(make: Any, trt: FakeTrt, cache: EngineCache) -> None:
    """TensorRT-RTX compiles on the device, for seconds, what it does not find in its cache."""
    trt.rtx = True
    frame = frames(1)[0]
    for _ in range(2):
        detector = make()
        detector.prepare(frame.spec)
        assert detector.poll(detector.submit(frame)).rows[0, 0] > 0.5
        assert trt.compilations == 1
    trt.device = "driver 14"  # refuses what the old one compiled
    for _ in range(2):
        make().prepare(frame.spec)
        assert trt.compilations == 2
    for path in cache.folder.glob("*.engine"):
        path.write_bytes(path.read_bytes()[:-1])
    make().prepare(frame.spec)
    assert trt.compilations == 3
    assert trt.builds == 2


def test_a_tensorrt_that_does_not_start_is_said(blobs: Bundle, trt: FakeTrt, cuda: FakeCuda) -> None:
    def nullptr(log: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Runtime = nullptr  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"fake_tensorrt 1\.0 does not start: .*driver"):
        TensorRtDetector(blobs, K, trt=trt, cuda=cuda)


def test_a_build_tells_its_steps(blobs: Bundle, trt: FakeTrt, cuda: FakeCuda, cache: EngineCache) -> None:
    told: list[str] = []
    TensorRtDetector(blobs, K, "fp32", cache=cache, on_progress=told.append, trt=trt, cuda=cuda).prepare(
        frames(1)[0].spec
    )
    assert told == ["building the engine, once: tactics 1/2", "loading the engine on Fake GPU"]


def test_no_gpu_is_said(blobs: Bundle, trt: FakeTrt) -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA GPU .*cudaErrorInsufficientDriver"):
        TensorRtDetector(blobs, K, trt=trt, cuda=FakeCuda(gpus=0))


@pytest.mark.parametrize("call", ["cudaGraphLaunch", "cudaEventSynchronize"])
def test_a_lost_gpu_is_counted_and_the_run_goes_on(make: Any, blobs: Bundle, cuda: FakeCuda, call: str) -> None:
    detector = FallbackDetector(make, lambda: OnnxDetector(blobs, K, 1))
    some = frames(6)
    detector.prepare(some[0].spec)
    assert detector.describe().device.startswith("Fake GPU")
    tables = [detector.poll(detector.submit(some[0]))]
    tickets = [detector.submit(frame) for frame in some[1:3]]
    cuda.fail[call] = Error.cudaErrorIllegalAddress
    tickets += [detector.submit(frame) for frame in some[3:4]]
    tables += [detector.poll(ticket) for ticket in tickets]
    tables += [detector.poll(detector.submit(frame)) for frame in some[4:]]
    for frame, table in zip(some, tables, strict=True):
        assert table.frame_index == frame.index
        np.testing.assert_array_equal(table.rows, expected(blobs, frame))
    assert detector.failures == 1
    assert detector.describe().backend.startswith("onnxruntime")
    assert detector.describe().backend.endswith(" (standing in, 1 failure of the first choice)")
    assert detector.warnings == (
        f"another backend stands in: {call} failed: cudaErrorIllegalAddress. Using another backend may do.",
    )
    detector.close()
    assert cuda.alive == 0


def test_asking_for_tensorrt_without_a_gpu_is_an_error(blobs: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx")
    if not int(import_cuda().cudaGetDeviceCount()[0]):
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        open_detector(DetectorSettings(backend="tensorrt-rtx"), blobs)


def test_a_missing_tensorrt_says_how_to_install_it(blobs: Bundle) -> None:
    with pytest.raises(BackendError, match=r"'tensorrt' is not usable: .*pip install .*detector\.backend onnx"):
        open_detector(DetectorSettings(backend="tensorrt"), blobs)


def test_the_fake_runtime_has_the_real_one_s_functions_and_arguments() -> None:
    """What the fake takes, `cuda.bindings` takes: names, and as many arguments as its documentation counts."""
    pytest.importorskip("cuda.bindings", reason="pip install 'livescope[tensorrt-rtx]'")
    runtime = import_cuda()
    names = [name for name in vars(FakeCuda) if name.startswith("cuda") and callable(vars(FakeCuda)[name])]
    assert len(names) > 20
    for name in names:
        head = getattr(runtime, name).__doc__.splitlines()[0]  # e.g. cudaMemcpyAsync(dst, src, size_t count, ...)
        taken = head.removeprefix(f"{name}(").removesuffix(")")
        assert head.startswith(f"{name}("), head
        count = len([argument for argument in taken.split(",") if argument.strip()])
        assert count == vars(FakeCuda)[name].__code__.co_argcount - 1, head
    assert runtime.cudaStreamNonBlocking == FakeCuda.cudaStreamNonBlocking
    assert runtime.cudaEventBlockingSync == FakeCuda.cudaEventBlockingSync
    assert runtime.cudaEventDisableTiming == FakeCuda.cudaEventDisableTiming
    assert int(runtime.cudaMemcpyKind.cudaMemcpyHostToDevice) == FakeCuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    assert int(runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost) == FakeCuda.cudaMemcpyKind.cudaMemcpyDeviceToHost


def test_the_fake_tensorrt_has_the_real_one_s_names() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'livescope[tensorrt-rtx]'", exc_type=ImportError)
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    for kind, names in {
        trt.ICudaEngine: ("create_execution_context", "create_runtime_config"),
        trt.IExecutionContext: ("set_tensor_address", "execute_async_v3"),
        trt.IRuntimeConfig: ("create_runtime_cache", "set_runtime_cache"),
        trt.IRuntimeCache: ("serialize", "deserialize"),
    }.items():
        for name in names:
            assert hasattr(kind, name)
