"""The shared GPU server's protocol, over real gRPC, against a small KServe v2 server in this process."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from network_kit import as_frame, blob_network, disc_frame, make_bundle
from typer.testing import CliRunner

from livescope.cli import app
from livescope.detect.bundle import Bundle
from livescope.detect.detector import open_detector
from livescope.detect.fallback import FallbackDetector
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.network import read_network
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.detect.triton import TritonDetector, export_repository
from livescope.errors import BackendError
from livescope.settings import DetectorSettings

grpc: Any = pytest.importorskip("grpc", reason="pip install 'livescope[triton]'")
pytest.importorskip("tritonclient.grpc", reason="pip install 'livescope[triton]'")
from tritonclient.grpc import service_pb2 as messages  # noqa: E402
from tritonclient.grpc import service_pb2_grpc as service  # noqa: E402

K = 20
FRAME = as_frame(disc_frame([(20, 30)], [(40, 70)], (64, 96)), 4)


class Server(service.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves a model repository folder with ONNX Runtime."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.broken: str | None = None
        self.served = 0

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.ServerMetadataResponse(name="kit", version="1.0")

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.ModelReadyResponse(ready=(self.repository / request.name / "1" / "model.onnx").exists())

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.broken:
            context.abort(grpc.StatusCode.INTERNAL, self.broken)
        self.served += 1
        types = {"UINT8": np.uint8, "FP32": np.float32}
        inputs = {
            tensor.name: np.frombuffer(raw, types[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        model = self.repository / request.model_name / "1" / "model.onnx"
        wanted = [output.name for output in request.outputs]
        results = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(wanted, inputs)
        answer = messages.ModelInferResponse(model_name=request.model_name)
        for name, result in zip(wanted, results, strict=True):
            answer.outputs.add(name=name, datatype="FP32", shape=result.shape)
            answer.raw_output_contents.append(result.tobytes())
        return answer


class Host:
    """A server that can be started, stopped and started again at one address."""

    def __init__(self, repository: Path) -> None:
        self.servicer = Server(repository)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"127.0.0.1:{probe.getsockname()[1]}"
        self._server: Any = None

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
        service.add_GRPCInferenceServiceServicer_to_server(self.servicer, self._server)
        assert self._server.add_insecure_port(self.url)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def blobs(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, blob_network())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "repository")
    host.start()
    yield host
    host.stop()


@pytest.fixture
def exported(blobs: Bundle, host: Host) -> Path:
    graph = build_frame_graph(read_network(blobs), FRAME.spec, K, 1)
    return export_repository("kit", graph, host.servicer.repository)


def expected(blobs: Bundle) -> np.ndarray:
    detector = OnnxDetector(blobs, K, 1)
    detector.prepare(FRAME.spec)
    return detector.poll(detector.submit(FRAME)).rows


@pytest.mark.usefixtures("exported")
def test_a_server_gives_the_same_table(blobs: Bundle, host: Host) -> None:
    detector = TritonDetector(blobs, K, host.url)
    detector.prepare(FRAME.spec)
    table = detector.poll(detector.submit(FRAME))
    assert table.frame_index == 4
    np.testing.assert_array_equal(table.rows, expected(blobs))
    assert detector.describe().backend == "triton (kit 1.0)"
    assert detector.describe().device == f"server {host.url}"
    detector.close()
    detector.close()


def test_the_repository_is_triton_s(exported: Path) -> None:
    text = (exported / "config.pbtxt").read_text()
    assert f'name: "{exported.name}"' in text
    assert 'input [{ name: "frame" data_type: TYPE_UINT8 dims: [1, 64, 96, 2] }]' in text
    assert 'output [{ name: "table" data_type: TYPE_FP32 dims: [20, 36] }]' in text
    model = onnx.load(exported / "1" / "model.onnx")
    named = re.findall(r'\{ name: "(\w+)"', text)
    assert named == [value.name for value in (*model.graph.input, *model.graph.output)]


def test_a_model_that_is_not_served_says_how_to_export_it(blobs: Bundle, host: Host) -> None:
    detector = TritonDetector(blobs, K, host.url)
    with pytest.raises(
        BackendError, match=r"has no model 'livescope_kit_\w{16}'.*`livescope engine kit --triton"
    ) as caught:
        detector.prepare(FRAME.spec)
    # what it says to do is what makes it work
    options = re.search(r"REPOSITORY (.*)`, and --pixel-um", str(caught.value))
    assert options is not None
    command = ["engine", str(blobs.onnx_path), "--triton", str(host.servicer.repository), *options[1].split()]
    done = CliRunner().invoke(app, [*command, "--pixel-um", str(FRAME.pixel_um)])
    assert done.exit_code == 0, done.output
    detector.prepare(FRAME.spec)
    np.testing.assert_array_equal(detector.poll(detector.submit(FRAME)).rows, expected(blobs))


def test_no_server_is_said(blobs: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no GPU server answers at '127\.0\.0\.1:\d+'.*detector\.triton_url"):
        TritonDetector(blobs, K, Host(tmp_path).url)


@pytest.mark.usefixtures("exported")
def test_the_run_goes_on_while_the_server_is_away_and_comes_back_to_it(blobs: Bundle, host: Host) -> None:
    now = 0.0
    detector = FallbackDetector(
        lambda: TritonDetector(blobs, K, host.url), lambda: OnnxDetector(blobs, K, 1), retry_s=1.0, clock=lambda: now
    )
    detector.prepare(FRAME.spec)

    def backend_after_a_frame() -> str:
        np.testing.assert_array_equal(detector.poll(detector.submit(FRAME)).rows, expected(blobs))
        return detector.describe().backend.split()[0]

    assert backend_after_a_frame() == "triton"
    host.servicer.broken = "out of memory"
    assert backend_after_a_frame() == "onnxruntime"
    assert "out of memory" in detector.warnings[0]
    host.stop()
    now = 1.5  # it is tried again after one second, is away, and next after two
    assert backend_after_a_frame() == "onnxruntime"
    assert detector.failures == 2
    host.servicer.broken = None
    host.start()
    now = 3.0
    assert backend_after_a_frame() == "onnxruntime"
    now = 3.6
    assert backend_after_a_frame() == "triton"
    assert detector.describe().backend == "triton (kit 1.0) (2 failures of the first choice)"
    detector.close()


@pytest.mark.usefixtures("exported")
def test_triton_by_setting_falls_back_to_the_cpu(blobs: Bundle, host: Host) -> None:
    settings = DetectorSettings(backend="triton", precision="fp32", triton_url=host.url, max_cells=K, threads=1)
    detector = open_detector(settings, blobs)
    detector.prepare(FRAME.spec)
    detector.poll(detector.submit(FRAME))
    assert host.servicer.served == 1
    detector.close()
    away = open_detector(settings.model_copy(update={"triton_url": "127.0.0.1:9"}), blobs)
    away.prepare(FRAME.spec)
    np.testing.assert_array_equal(away.poll(away.submit(FRAME)).rows, expected(blobs))
    assert away.describe().backend.startswith("onnxruntime")
    assert "no GPU server answers" in away.warnings[0]
