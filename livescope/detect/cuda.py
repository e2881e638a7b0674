"""The few CUDA calls that a TensorRT loop takes, each checked, and the memory and streams that they own.

Owns every device resource; `close` frees each exactly once. Written against the CUDA 13 runtime through
`cuda.bindings`; any object with the same functions does (the tests bring one that keeps accounts).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from livescope.errors import BackendError

if TYPE_CHECKING:
    import tensorrt  # the enterprise bindings' types, also right for tensorrt_rtx; checked by tests/detect

__all__ = ["Gpu", "Slot", "check", "import_cuda", "open_gpu"]

_ALIGNMENT = 256
"""Bytes; TensorRT wants the addresses of its tensors aligned so."""


@dataclass(slots=True, frozen=True)
class Gpu:
    """The device in use."""

    name: str
    compute_capability: str
    driver: str


def import_cuda() -> Any:
    """Import the CUDA runtime bindings.

    Raises
    ------
    BackendError
        They are not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(f"the CUDA bindings are missing ({error}): pip install 'livescope[tensorrt-rtx]'.") from None
    return runtime


def check(cuda: Any, call: str, *arguments: Any) -> Any:
    """Call a CUDA function by name and return its result.

    Raises
    ------
    BackendError
        With the name of the call and of the error, e.g. ``cudaErrorMemoryAllocation``.
    """
    error, *results = getattr(cuda, call)(*arguments)
    if int(error) != 0:
        raise BackendError(f"{call} failed: {getattr(error, 'name', error)}. Using another backend may do.")
    return results[0] if results else None


def open_gpu(cuda: Any) -> Gpu:
    """Select GPU 0 and say what it is.

    Raises
    ------
    BackendError
        There is no NVIDIA GPU, or no driver for it.
    """
    error, count = cuda.cudaGetDeviceCount()
    if int(error) != 0 or not count:
        raise BackendError(
            f"no NVIDIA GPU is to be had here ({getattr(error, 'name', error)}). Install NVIDIA's driver, or choose "
            "detector.backend onnx."
        )
    check(cuda, "cudaSetDevice", 0)
    properties = check(cuda, "cudaGetDeviceProperties", 0)
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    version = check(cuda, "cudaDriverGetVersion")
    return Gpu(name, f"{properties.major}.{properties.minor}", str(version))


class Slot:
    """One frame in flight: pinned and device memory, a context, a stream, and the graph {copy in, run, copy out}.

    Parameters
    ----------
    cuda, make_context
        The runtime, and what makes an execution context of the engine.
    inputs
        Name to (shape, dtype) of the engine's inputs; they lie one after the other in one block and take one copy.
    table
        Name and shape of the float32 output that comes back.
    others
        Bytes of the outputs that stay on the device, by name.

    Raises
    ------
    BackendError
        Out of memory, or any other failure of the device.
    """

    def __init__(
        self,
        cuda: Any,
        make_context: Callable[[], tensorrt.IExecutionContext | None],
        inputs: dict[str, tuple[tuple[int, ...], type]],
        table: tuple[str, tuple[int, ...]],
        others: dict[str, int],
    ) -> None:
        self._cuda = cuda
        self._closers: list[tuple[str, Any]] = []
        self._inputs: dict[str, NDArray[Any]] = {}
        self._context: tensorrt.IExecutionContext | None = None
        self._stream: Any = None
        self._host_in: Any = None
        self._host_out: Any = None
        self._device_in: Any = None
        self._device_out: Any = None
        self._in_bytes = self._out_bytes = 0
        try:
            self._allocate(make_context, inputs, table, others)
            self._capture()
        except BaseException:
            self.close()
            raise

    def launch(self, values: dict[str, NDArray[Any]]) -> None:
        """Copy the inputs into pinned memory and start the graph; returns at once."""
        for name, view in self._inputs.items():
            np.copyto(view, values[name])
        check(self._cuda, "cudaGraphLaunch", self._graph, self._stream)
        check(self._cuda, "cudaEventRecord", self._done, self._stream)

    def wait(self) -> NDArray[np.float32]:
        """Wait for the graph and return a copy of the table."""
        check(self._cuda, "cudaEventSynchronize", self._done)
        return self._table.copy()

    def close(self) -> None:
        """Free everything, last made first. May be called twice."""
        if self._closers:
            self._cuda.cudaStreamSynchronize(self._stream)  # a failed device is freed all the same
        self._inputs, self._context = {}, None
        while self._closers:
            call, handle = self._closers.pop()
            getattr(self._cuda, call)(handle)

    def _make(self, call: str, closer: str, *arguments: Any) -> Any:
        handle = check(self._cuda, call, *arguments)
        self._closers.append((closer, handle))
        return handle

    def _allocate(
        self,
        make_context: Callable[[], tensorrt.IExecutionContext | None],
        inputs: dict[str, tuple[tuple[int, ...], type]],
        table: tuple[str, tuple[int, ...]],
        others: dict[str, int],
    ) -> None:
        cuda = self._cuda
        self._stream = self._make("cudaStreamCreateWithFlags", "cudaStreamDestroy", cuda.cudaStreamNonBlocking)
        # a blocking event lets the thread sleep; a spinning one takes the core that acquisition needs
        flags = cuda.cudaEventBlockingSync | cuda.cudaEventDisableTiming
        self._done = self._make("cudaEventCreateWithFlags", "cudaEventDestroy", flags)
        self._context = make_context()
        if self._context is None:
            raise BackendError("TensorRT could not make an execution context: the GPU's memory may be full.")
        offsets: dict[str, int] = {}
        for name, (shape, dtype) in inputs.items():
            offsets[name] = self._in_bytes
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self._in_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._host_in = self._make("cudaMallocHost", "cudaFreeHost", self._in_bytes)
        self._device_in = self._make("cudaMalloc", "cudaFree", self._in_bytes)
        self._inputs = {
            name: _view(int(self._host_in) + offsets[name], shape, dtype) for name, (shape, dtype) in inputs.items()
        }
        name, shape = table
        self._out_bytes = int(np.prod(shape)) * 4
        self._host_out = self._make("cudaMallocHost", "cudaFreeHost", self._out_bytes)
        self._device_out = self._make("cudaMalloc", "cudaFree", self._out_bytes)
        self._table: NDArray[np.float32] = _view(int(self._host_out), shape, np.float32)
        addresses = {key: int(self._device_in) + offset for key, offset in offsets.items()}
        addresses[name] = int(self._device_out)
        for other, size in others.items():
            addresses[other] = int(self._make("cudaMalloc", "cudaFree", size))
        for tensor, address in addresses.items():
            if not self._context.set_tensor_address(tensor, address):
                raise BackendError(
                    f"TensorRT has no tensor {tensor!r} in this engine: it was built from another graph."
                )

    def _enqueue(self) -> None:
        kind = self._cuda.cudaMemcpyKind
        stream = self._stream
        to_device, to_host = kind.cudaMemcpyHostToDevice, kind.cudaMemcpyDeviceToHost
        check(self._cuda, "cudaMemcpyAsync", self._device_in, self._host_in, self._in_bytes, to_device, stream)
        if self._context is None or not self._context.execute_async_v3(int(stream)):
            raise BackendError("TensorRT could not enqueue the network.")
        check(self._cuda, "cudaMemcpyAsync", self._host_out, self._device_out, self._out_bytes, to_host, stream)

    def _capture(self) -> None:
        """Record the graph. One plain run before it lets TensorRT allocate and compile what it defers."""
        for view in self._inputs.values():
            view.fill(0)
        self._enqueue()
        check(self._cuda, "cudaStreamSynchronize", self._stream)
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(self._cuda, "cudaStreamBeginCapture", self._stream, mode)
        try:
            self._enqueue()
        finally:  # a stream that is left capturing refuses everything
            graph = check(self._cuda, "cudaStreamEndCapture", self._stream)
        try:
            self._graph = self._make("cudaGraphInstantiate", "cudaGraphExecDestroy", graph, 0)
        finally:
            check(self._cuda, "cudaGraphDestroy", graph)


def _view(address: int, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    return memory.view(dtype).reshape(shape)
