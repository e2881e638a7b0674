"""A CUDA runtime and a TensorRT without a GPU, which keep accounts of what lives, is captured, and may be touched.

Memory is real (numpy), copies are real, and the engine runs the frame graph in ONNX Runtime, so that wrong order, wrong
size or freed memory gives a wrong table or an error.
"""
# ruff: noqa: N802, N815 - the names are CUDA's

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700


@dataclass
class Stream:
    handle: int
    capturing: list[Any] | None = None
    pending: list[Any] = field(default_factory=list)

    def __int__(self) -> int:
        return self.handle


class FakeCuda:
    """Functions of `cuda.bindings.runtime` that livescope uses; work on a stream happens when somebody waits for it."""

    cudaStreamNonBlocking, cudaEventBlockingSync, cudaEventDisableTiming = 1, 1, 2
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.host: dict[int, np.ndarray] = {}
        self.device: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Stream | None] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.executables: dict[int, list[Any]] = {}
        self.calls: list[str] = []
        self.fail: dict[str, Error] = {}
        self._next = 1

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("cuda") or not callable(value):
            return value

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if name in self.fail:
                return (self.fail[name], None)
            return value(*arguments)

        return call

    @property
    def alive(self) -> int:
        """Resources not freed."""
        kinds = (self.host, self.device, self.streams, self.events, self.graphs, self.executables)
        return sum(len(kind) for kind in kinds)

    def stream(self, handle: int) -> Stream:
        return self.streams[handle]

    def memory(self, address: int, size: int, where: dict[int, np.ndarray]) -> np.ndarray:
        """A view on allocated memory; an error where it is not."""
        for start, block in where.items():
            if start <= address and address + size <= start + block.size:
                return block[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address} are not allocated there")

    def do(self, stream: Stream, work: Any) -> None:
        (stream.pending if stream.capturing is None else stream.capturing).append(work)

    def _handle(self) -> int:
        self._next += 1
        return self._next

    def _allocate(self, where: dict[int, np.ndarray], size: int) -> tuple[Error, int]:
        block = np.full(size + 256, 0xCD, np.uint8)
        start = -(-block.ctypes.data // 256) * 256
        where[start] = block[start - block.ctypes.data :][:size]
        return Error.cudaSuccess, start

    def cudaGetDeviceCount(self) -> Any:
        return (Error.cudaSuccess, self.gpus) if self.gpus else (Error.cudaErrorInsufficientDriver, None)

    def cudaSetDevice(self, device: int) -> Any:
        return (Error.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return Error.cudaSuccess, SimpleNamespace(name=b"Fake GPU", major=8, minor=9)

    def cudaDriverGetVersion(self) -> Any:
        return Error.cudaSuccess, 13000

    def cudaMallocHost(self, size: int) -> Any:
        return self._allocate(self.host, size)

    def cudaMalloc(self, size: int) -> Any:
        return self._allocate(self.device, size)

    def cudaFreeHost(self, address: int) -> Any:
        del self.host[address]
        return (Error.cudaSuccess,)

    def cudaFree(self, address: int) -> Any:
        del self.device[address]
        return (Error.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking  # the default stream waits for everybody
        stream = Stream(self._handle())
        self.streams[stream.handle] = stream
        return Error.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: Stream) -> Any:
        del self.streams[stream.handle]
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Stream) -> Any:
        return self._work_off(stream)

    def _work_off(self, stream: Stream) -> Any:
        assert self.streams[stream.handle].capturing is None
        while stream.pending:
            stream.pending.pop(0)()
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> Any:
        assert mode == 1
        assert stream.capturing is None
        assert not stream.pending
        stream.capturing = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        assert stream.capturing is not None
        graph = self._handle()
        self.graphs[graph], stream.capturing = stream.capturing, None
        return Error.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        executable = self._handle()
        self.executables[executable] = self.graphs[graph]
        return Error.cudaSuccess, executable

    def cudaGraphDestroy(self, graph: int) -> Any:
        del self.graphs[graph]
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: int) -> Any:
        del self.executables[executable]
        return (Error.cudaSuccess,)

    def cudaGraphLaunch(self, executable: int, stream: Stream) -> Any:
        for work in self.executables[executable]:
            self.do(self.streams[stream.handle], work)
        return (Error.cudaSuccess,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: Stream) -> Any:
        to, of = (self.device, self.host) if kind == 1 else (self.host, self.device)

        def copy() -> None:
            self.memory(target, size, to)[:] = self.memory(source, size, of)

        self.do(self.streams[stream.handle], copy)
        return (Error.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        assert flags & self.cudaEventBlockingSync
        event = self._handle()
        self.events[event] = None
        return Error.cudaSuccess, event

    def cudaEventRecord(self, event: int, stream: Stream) -> Any:
        assert event in self.events
        self.events[event] = self.streams[stream.handle]
        return (Error.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> Any:
        stream = self.events[event]
        assert stream is not None
        return self._work_off(stream)

    def cudaEventDestroy(self, event: int) -> Any:
        del self.events[event]
        return (Error.cudaSuccess,)


class _Context:
    def __init__(self, cuda: FakeCuda, session: ort.InferenceSession) -> None:
        self._cuda, self._session = cuda, session
        self._addresses: dict[str, int] = {}
        self.runs = 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        known = {value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._addresses[name] = address
        return name in known

    def execute_async_v3(self, handle: int) -> bool:
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        assert set(self._addresses) == {value.name for value in values}
        self._cuda.calls.append("execute_async_v3")

        def run() -> None:
            inputs = {value.name: self._tensor(value) for value in self._session.get_inputs()}
            outputs = self._session.get_outputs()
            for value, result in zip(outputs, self._session.run(None, inputs), strict=True):
                self._tensor(value)[...] = result

        self._cuda.do(self._cuda.stream(handle), run)
        return True

    def _tensor(self, value: Any) -> np.ndarray:
        dtype = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[value.type]
        size = int(np.prod(value.shape)) * np.dtype(dtype).itemsize
        return self._cuda.memory(self._addresses[value.name], size, self._cuda.device).view(dtype).reshape(value.shape)


class _Kernels:
    """What TensorRT-RTX compiles on a device, and whether it was compiled for this one."""

    def __init__(self, device: str) -> None:
        self.device, self.compiled = device, False

    def serialize(self) -> bytes:
        return self.device.encode()

    def deserialize(self, blob: bytes) -> bool:
        self.compiled = blob == self.device.encode()
        return self.compiled


class _RtxConfig:
    """TensorRT-RTX's runtime config; the enterprise one has no cache."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.kernels: _Kernels | None = None

    def create_runtime_cache(self) -> _Kernels:
        return _Kernels(self._device)

    def set_runtime_cache(self, kernels: _Kernels) -> bool:
        self.kernels = kernels
        return True


class _Engine:
    def __init__(self, trt: FakeTrt, session: ort.InferenceSession) -> None:
        self._trt, self._session = trt, session

    def create_runtime_config(self) -> Any:
        return _RtxConfig(self._trt.device) if self._trt.rtx else SimpleNamespace()

    def create_execution_context(self, config: _RtxConfig | None = None) -> _Context:
        kernels = None if config is None else config.kernels
        if self._trt.rtx and (kernels is None or not kernels.compiled):
            self._trt.compilations += 1
        if kernels is not None:
            kernels.compiled = True
        return _Context(self._trt.cuda, self._session)


class FakeTrt:
    """The runtime half of TensorRT: a plan is an ONNX model behind a stamp of version and device."""

    __name__ = "fake_tensorrt"
    __version__ = "1.0"

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.rtx = False
        self.device = "driver 13"
        self.builds = self.compilations = 0
        self.loads = "plans of version 1"

    def Runtime(self, log: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=self._deserialise)

    def plan(self, graph: onnx.ModelProto) -> bytes:
        self.builds += 1
        return self._stamp + graph.SerializeToString()

    @property
    def _stamp(self) -> bytes:
        return f"{self.loads}\n".encode()

    def _deserialise(self, plan: bytes) -> Any:
        if not plan.startswith(self._stamp):
            return None
        session = ort.InferenceSession(plan.removeprefix(self._stamp), providers=["CPUExecutionProvider"])
        return _Engine(self, session)
