"""The frame graph on a GPU server over the network, by the KServe v2 protocol (NVIDIA Triton and others speak it).

Owns the client and the layout of the server's model repository. What happens when the server is away is `fallback`'s.
An extra: ``pip install 'livescope[triton]'``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto

from livescope.detect.bundle import Bundle, Precision
from livescope.detect.graph_detector import GraphDetector, GraphInputs, Rows, Runner
from livescope.errors import BackendError

__all__ = ["TritonDetector", "export_repository", "served_name"]

_TIMEOUT_S = 5.0
"""For one request: a frame of 2048 x 2048 takes 8.4 MB, 0.1 s at 1 Gbit/s."""
_TYPES = {TensorProto.UINT8: "UINT8", TensorProto.FLOAT: "FP32"}


def served_name(name: str, graph: onnx.ModelProto) -> str:
    """Name of a frame graph on the server: of the model, and a hash of all that it depends on."""
    return f"livescope_{name}_{hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()[:16]}"


def export_repository(name: str, graph: onnx.ModelProto, folder: Path) -> Path:
    """Write a frame graph into a Triton model repository; returns the model's folder in it.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    served = served_name(name, graph)
    model = folder / served
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "1" / "model.onnx").write_bytes(graph.SerializeToString())
    lines = [f'name: "{served}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    for kind, values in (("input", graph.graph.input), ("output", graph.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            dims = ", ".join(str(dim.dim_value) for dim in tensor.shape.dim)
            lines.append(
                f'{kind} [{{ name: "{value.name}" data_type: TYPE_{_TYPES[tensor.elem_type]} dims: [{dims}] }}]'
            )
    (model / "config.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return model


class TritonDetector(GraphDetector):
    """Implements `livescope.detect.detector.Detector` with a KServe v2 server over gRPC.

    Parameters
    ----------
    bundle, max_cells, precision
        As in `GraphDetector`.
    url
        ``host:port`` of the server's gRPC endpoint.

    Raises
    ------
    BackendError
        The client is not installed, or the server does not answer.
    """

    def __init__(self, bundle: Bundle, max_cells: int, url: str, precision: Precision = "fp32") -> None:
        super().__init__(bundle, max_cells, precision)
        try:
            from tritonclient import grpc
            from tritonclient.utils import InferenceServerException
        except ImportError as error:
            raise BackendError(
                f"backend 'triton' is not installed ({error}): pip install 'livescope[triton]', or choose "
                "detector.backend onnx, which works everywhere."
            ) from None
        self._grpc, self._failure = grpc, InferenceServerException
        self._url = url
        self._client = grpc.InferenceServerClient(url)
        try:
            about = self._client.get_server_metadata(client_timeout=_TIMEOUT_S)
        except self._failure as error:
            self._client.close()
            raise BackendError(
                f"no GPU server answers at {url!r} ({error.message()}). Check detector.triton_url and that it runs."
            ) from None
        self._server = f"{about.name} {about.version}"

    @property
    def backend(self) -> str:
        """Name and version of the server."""
        return f"triton ({self._server})"

    @property
    def device(self) -> str:
        """The server's address; which device it uses is its own affair."""
        return f"server {self._url}"

    def close(self) -> None:
        """Free the connection."""
        super().close()
        self._client.close()

    def _compile(self, graph: onnx.ModelProto) -> Runner:
        served = served_name(self._bundle.name, graph)
        try:
            ready = self._client.is_model_ready(served, client_timeout=_TIMEOUT_S)
        except self._failure as error:
            raise BackendError(f"the GPU server at {self._url!r} failed: {error.message()}") from None
        if not ready:
            _, height, width, size = (dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim)
            raise BackendError(
                f"the GPU server at {self._url!r} has no model {served!r}. Write it into the server's model repository "
                f"with `livescope engine {self._bundle.name} --triton REPOSITORY --shape {height}x{width} --dtype "
                f"uint{8 * size} --precision {self._precision} --max-cells {self._max_cells}`, and --pixel-um if the "
                "frames' is known."
            )
        table = [self._grpc.InferRequestedOutput("table")]

        def run(inputs: GraphInputs) -> Rows:
            tensors = []
            for name, values in inputs.items():
                tensor = self._grpc.InferInput(name, list(values.shape), "UINT8" if values.dtype == "uint8" else "FP32")
                tensors.append(tensor.set_data_from_numpy(values))
            try:
                answer = self._client.infer(served, tensors, outputs=table, client_timeout=_TIMEOUT_S)
            except self._failure as error:
                raise BackendError(f"the GPU server at {self._url!r} failed: {error.message()}") from None
            rows: Rows | None = answer.as_numpy("table")
            if rows is None or rows.shape != (self._max_cells, 36):
                raise BackendError(
                    f"the GPU server at {self._url!r} answered without a table of {self._max_cells} rows."
                )
            return rows

        return run
