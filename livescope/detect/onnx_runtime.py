"""The frame graph on ONNX Runtime: on the CPU everywhere, on Apple and Windows devices through its providers.

Owns sessions and their threads. Cores are left to acquisition and window, and idle threads sleep instead of spinning.
"""

from __future__ import annotations

import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from livescope.detect.bundle import Bundle, Precision
from livescope.detect.graph_detector import GraphDetector, GraphInputs, Rows, Runner, default_threads
from livescope.errors import BackendError, one_of

__all__ = ["FAILURES", "OnnxDetector", "open_session"]

_CPU = "CPUExecutionProvider"
FAILURES = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    MemoryError,
)
"""What ONNX Runtime raises; its exceptions have no common base."""


def check_provider(provider: str) -> None:
    """Raise `BackendError` where this ONNX Runtime has no such provider."""
    known = ort.get_available_providers()
    if provider not in known:
        raise BackendError(
            f"this ONNX Runtime has no {provider}; it has {one_of(known)}. Install the onnxruntime package of your "
            "device, or choose detector.backend onnx."
        )


def open_session(content: bytes, threads: int, provider: str, name: str) -> ort.InferenceSession:
    """Open a session that leaves cores to acquisition and window.

    Parameters
    ----------
    content
        The ONNX model.
    threads, provider
        As in `OnnxDetector`.
    name
        How messages call the model.

    Raises
    ------
    BackendError
        ONNX Runtime refuses it, or has no such provider.
    """
    check_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # a spinning pool burns the core that acquisition and window need between two frames
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=[provider])
    except FAILURES as error:
        raise BackendError(f"ONNX Runtime refuses model {name!r}: {error}") from error


class OnnxDetector(GraphDetector):
    """Implements `livescope.detect.detector.Detector` with ONNX Runtime.

    Parameters
    ----------
    bundle, max_cells, precision
        As in `GraphDetector`.
    threads
        CPU threads; None leaves one core free.
    provider
        Execution provider, e.g. ``"CoreMLExecutionProvider"``. Operators that it does not take run on the CPU, and
        `describe` says so.

    Raises
    ------
    BackendError
        This ONNX Runtime has no such provider.
    """

    def __init__(
        self,
        bundle: Bundle,
        max_cells: int,
        threads: int | None = None,
        precision: Precision = "fp32",
        provider: str = _CPU,
    ) -> None:
        super().__init__(bundle, max_cells, precision)
        check_provider(provider)
        self._provider = provider
        self._threads = threads or default_threads()
        self._used = [provider]

    @property
    def backend(self) -> str:
        """Name and version."""
        return f"onnxruntime {ort.__version__}"

    @property
    def device(self) -> str:
        """The providers in use, with the threads of the CPU's."""
        names = [name.removesuffix("ExecutionProvider") for name in self._used]
        return f"{' + '.join(names)}, {self._threads} thread{'s' if self._threads > 1 else ''}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say that 8 bit is no gain here: 0.70 of the speed of float32 in tools/bench_detect.py."""
        if self._provider != _CPU or self._precision != "int8":
            return ()
        return (
            "detector.precision int8 is slower than fp32 with ONNX Runtime on a CPU; choose fp32, or detector.backend "
            "openvino, where it is faster.",
        )

    def _compile(self, graph: onnx.ModelProto) -> Runner:
        content = graph.SerializeToString()
        session = open_session(content, self._threads, self._provider, self._bundle.name)
        self._used = session.get_providers()
        if self._used[0] != self._provider:
            raise BackendError(f"ONNX Runtime took {self._used} where {self._provider} was asked for.")

        def run(inputs: GraphInputs) -> Rows:
            try:
                rows: Rows = session.run(["table"], dict(inputs))[0]
            except FAILURES as error:
                raise BackendError(f"ONNX Runtime failed: {error}") from error
            return rows

        return run
