"""From a frame graph to a TensorRT plan. Needs no GPU with TensorRT-RTX, whose plans are portable from Ampere on.

Owns the parser, the builder and their log. `tensorrt` (enterprise, 10.x or later API) and `tensorrt_rtx` have the same
interface; which of the two is a parameter.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import onnx

from livescope.detect.bundle import TensorRt
from livescope.errors import BackendError

if TYPE_CHECKING:
    import tensorrt  # the enterprise bindings' types, also right for tensorrt_rtx; checked by tests/detect

__all__ = ["FLAGS", "build_plan", "import_tensorrt", "logger_of", "parse_network", "start"]

FLAGS = "no-tf32 strict-nans user-allocation"
"""What `build_plan` asks of the builder, for the key of a stored plan."""

_INSTALL = {
    "tensorrt": "pip install --extra-index-url https://pypi.nvidia.com 'livescope[tensorrt]'",
    "tensorrt-rtx": "pip install 'livescope[tensorrt-rtx]'",
}
_loggers: dict[str, Any] = {}


def import_tensorrt(backend: TensorRt) -> ModuleType:
    """Import the bindings of one of the two TensorRTs.

    Raises
    ------
    BackendError
        It is not installed, or its libraries do not load.
    """
    try:
        return importlib.import_module(backend.replace("-", "_"))
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend {backend!r} is not usable: {error}. Install it with {_INSTALL[backend]}, or choose "
            "detector.backend onnx, which works everywhere."
        ) from None


def logger_of(trt: ModuleType) -> Any:
    """Return the process's logger of a TensorRT: the first one made is the only one that it ever uses.

    It keeps the last warnings and errors in `lines`, for messages.
    """
    if trt.__name__ not in _loggers:

        class Log(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: deque[str] = deque(maxlen=8)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                    self.lines.append(text)

        _loggers[trt.__name__] = Log()
    return _loggers[trt.__name__]


def start(trt: ModuleType, kind: str) -> Any:
    """Make a ``Builder`` or a ``Runtime``.

    Raises
    ------
    BackendError
        TensorRT makes none: there is no GPU, or its driver is missing or too old.
    """
    try:
        return getattr(trt, kind)(logger_of(trt))
    except TypeError:  # what the bindings make of a null pointer
        raise BackendError(
            f"{trt.__name__} {trt.__version__} does not start: {_last(logger_of(trt))}. Install NVIDIA's driver for "
            "it, or choose detector.backend onnx."
        ) from None


def parse_network(trt: ModuleType, graph: onnx.ModelProto) -> tuple[tensorrt.Builder, tensorrt.INetworkDefinition]:
    """Parse a frame graph into a strongly typed network; returns (builder, network).

    Raises
    ------
    BackendError
        TensorRT does not support some node; all of them are named.
    """
    log = logger_of(trt)
    builder: tensorrt.Builder = start(trt, "Builder")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser: tensorrt.OnnxParser = trt.OnnxParser(network, log)
    if not parser.parse(graph.SerializeToString()):
        errors = [parser.get_error(k) for k in range(parser.num_errors)]
        faults = "; ".join(f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in errors)
        raise BackendError(f"{trt.__name__} {trt.__version__} does not take this graph: {faults or _last(log)}")
    return builder, network


def build_plan(
    trt: ModuleType, graph: onnx.ModelProto, on_progress: Callable[[str, int, int], None] | None = None
) -> bytes:
    """Build the plan of a frame graph: some tenths of a second with TensorRT-RTX, minutes with enterprise TensorRT.

    Parameters
    ----------
    trt
        From `import_tensorrt`.
    graph
        From `build_frame_graph`; its types are the engine's precision.
    on_progress
        Called with the name of a phase, its step, and the number of steps.

    Raises
    ------
    BackendError
        A node is not supported, or the build fails.
    """
    builder, network = parse_network(trt, graph)
    config = builder.create_builder_config()
    # a float32 network means float32: TF32 has 10 bits
    config.clear_flag(trt.BuilderFlag.TF32)
    # else 0 * x is taken for 0, and a network that is not finite looks like an empty field: see `frame_graph`
    config.set_flag(trt.BuilderFlag.STRICT_NANS)
    # TensorRT-RTX only: no memory is allocated while it runs, or the build fails. A CUDA graph allows none
    capturable = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if capturable is not None:
        config.set_flag(capturable)
    monitor = None
    if on_progress is not None:
        monitor = _monitor(trt, on_progress)
        config.progress_monitor = monitor
    # Any: it has the buffer protocol, which its signatures do not tell
    plan: Any = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"{trt.__name__} {trt.__version__} could not build this graph: {_last(logger_of(trt))}")
    return bytes(plan)


def _monitor(trt: ModuleType, on_progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            on_progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name)
            on_progress(phase_name, steps, steps)

    return Monitor()


def _last(log: Any) -> str:
    return " | ".join(log.lines) or "it gives no reason"
