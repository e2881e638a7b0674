"""The frame graph on OpenVINO: the faster CPU backend on many Intel machines, and the way to their GPUs and NPUs.

Owns compiled models and their threads. An extra: ``pip install livescope[openvino]``. Nothing is sent anywhere.
"""

from __future__ import annotations

import sys

import onnx

from livescope.detect.bundle import Bundle, Precision
from livescope.detect.graph_detector import GraphDetector, GraphInputs, Rows, Runner, default_threads
from livescope.errors import BackendError

_telemetry = sys.modules.get("openvino_telemetry")
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import would report itself, unasked
try:
    import openvino
finally:
    del sys.modules["openvino_telemetry"]
    if _telemetry is not None:
        sys.modules["openvino_telemetry"] = _telemetry

__all__ = ["OpenVinoDetector"]


class OpenVinoDetector(GraphDetector):
    """Implements `livescope.detect.detector.Detector` with OpenVINO on the CPU.

    Parameters
    ----------
    bundle, max_cells, precision
        As in `GraphDetector`.
    threads
        CPU threads; None leaves one core free.
    """

    _sums_by_convolution = True

    def __init__(
        self, bundle: Bundle, max_cells: int, threads: int | None = None, precision: Precision = "fp32"
    ) -> None:
        super().__init__(bundle, max_cells, precision)
        self._threads = threads or default_threads()
        self._core = openvino.Core()

    @property
    def backend(self) -> str:
        """Name and version."""
        return f"openvino {openvino.__version__.partition('-')[0]}"

    @property
    def device(self) -> str:
        """The CPU with its threads."""
        return f"CPU, {self._threads} thread{'s' if self._threads > 1 else ''}"

    def _compile(self, graph: onnx.ModelProto) -> Runner:
        options = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            # else it takes bfloat16 by itself where the CPU has it: p_dead then moves in steps of 1/64
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            model = self._core.read_model(graph.SerializeToString())
            request = self._core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO refuses model {self._bundle.name!r}: {error}") from error

        def run(inputs: GraphInputs) -> Rows:
            try:
                rows: Rows = request.infer(dict(inputs), share_inputs=True)["table"]
            except RuntimeError as error:
                raise BackendError(f"OpenVINO failed: {error}") from error
            return rows.copy()  # its memory is the request's, which the next frame overwrites

        return run
