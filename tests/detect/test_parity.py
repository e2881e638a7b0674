"""The same frame through every backend and precision that is installed: the same cells, the same calls."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from golden_kit import picture_for
from network_kit import as_frame, blob_network, disc_frame, make_bundle
from scipy.special import expit

from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle, bundled_names, load_bundle
from livescope.detect.decode import decode
from livescope.detect.detector import Detector, open_detector
from livescope.detect.network import read_network
from livescope.detect.normalise import levels
from livescope.errors import BackendError
from livescope.frames import Frame
from livescope.settings import DetectorSettings
from livescope.train.data import simulated_fields

BACKENDS = [
    "onnx",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed"),
    ),
]


def opened(bundle: Bundle, backend: str, precision: str) -> Detector:
    settings = DetectorSettings.model_validate({"backend": backend, "precision": precision, "threads": 1})
    return open_detector(settings, bundle)


def calls_of(bundle: Bundle, backend: str, precision: str, frame: Frame | None = None) -> CellCalls:
    frame = frame or as_frame(picture_for(bundle.name), pixel_um=bundle.card.pixel_um)
    detector = opened(bundle, backend, precision)
    detector.prepare(frame.spec)
    return decode(detector.poll(detector.submit(frame)), frame.spec, bundle.card, DetectorSettings())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "p_dead", "pixels"), [("fp32", 1e-3, 0.01), ("fp16", 1e-2, 0.1)])
@pytest.mark.parametrize("name", bundled_names())
def test_same_cells_same_calls(name: str, precision: str, p_dead: float, pixels: float, backend: str) -> None:
    bundle = load_bundle(name)
    truth, found = calls_of(bundle, "onnx", "fp32"), calls_of(bundle, backend, precision)
    assert len(found) == len(truth) >= 3
    order = [np.lexsort((c.x_px.round(), c.y_px.round())) for c in (truth, found)]
    for key, tolerance in {"y_px": pixels, "x_px": pixels, "p_cell": p_dead, "p_dead": p_dead}.items():
        a, b = (getattr(c, key)[rows] for c, rows in zip((truth, found), order, strict=True))
        np.testing.assert_allclose(b, a, atol=tolerance, err_msg=key)
    np.testing.assert_allclose(found.radii_px[order[1]], truth.radii_px[order[0]], atol=10 * pixels)


@pytest.mark.parametrize("name", bundled_names())
def test_torch_says_the_same(name: str) -> None:
    """The network as it was trained, with the weights of the file, on what the frame graph's normalisation gives."""
    torch = pytest.importorskip("torch", reason="needs livescope[train]")
    from livescope.train.network import from_weights

    bundle = load_bundle(name)
    pixels = picture_for(name)
    black, inv_gain = levels(pixels, bundle.card.normalisation)
    image = ((pixels.astype(np.float32) - np.float32(black)) * np.float32(inv_gain))[None, None]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in read_network(bundle, "fp32").graph.initializer}
    with torch.inference_mode():
        maps = from_weights(weights).eval()(torch.from_numpy(image))
    session = onnxruntime.InferenceSession(bundle.onnx_path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, {"image": image}), strict=True))
    found = {key: getattr(maps, key).numpy() for key in names}
    cells = expit(expected["object_logit"]) > 0.3
    assert cells.any()
    for key in ("object_logit", "dead_logit"):
        assert np.abs(expit(found[key]) - expit(expected[key]))[cells].max() < 1e-3, key
    np.testing.assert_allclose(found["offset_yx"], expected["offset_yx"], atol=0.01)
    where = np.broadcast_to(cells, expected["radii"].shape)
    np.testing.assert_allclose(found["radii"][where], expected["radii"][where], atol=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(1, 1), (33, 70), (128, 208)])
def test_tables_agree_on_any_shape(tmp_path: Path, shape: tuple[int, int], dtype: str, backend: str) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    frame = as_frame(disc_frame([(20, 30), (90, 150)], [(60, 60)], shape, dtype), 3)
    tables = []
    for name in ("onnx", backend):
        detector = opened(bundle, name, "fp32")
        detector.prepare(frame.spec)
        tables.append(detector.poll(detector.submit(frame)))
    found = tables[0].rows[:, 0] > 0.01
    np.testing.assert_allclose(tables[1].rows[found], tables[0].rows[found], atol=1e-3)
    assert (tables[1].rows[~found, 0] <= 0.01).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_describe_tells_the_backend_and_precision_in_use(tmp_path: Path, backend: str) -> None:
    detector = opened(make_bundle(tmp_path, blob_network()), backend, "fp16")
    info = detector.describe()
    assert info.backend.startswith({"onnx": "onnxruntime 1", "openvino": "openvino 2"}[backend])
    assert info.device == "CPU, 1 thread"
    assert info.precision == "fp16"
    assert detector.warnings == ()


def test_eight_bits_in_onnx_runtime_are_advised_against(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    assert "int8 is slower than fp32 with ONNX Runtime on a CPU" in opened(bundle, "onnx", "int8").warnings[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_is_refused_is_named(tmp_path: Path, backend: str) -> None:
    network = blob_network()
    six = next(tensor for tensor in network.graph.initializer if tensor.name == "six")
    six.CopyFrom(onnx.numpy_helper.from_array(np.ones(7, np.float32), "six"))  # fits no map
    detector = opened(make_bundle(tmp_path, network), backend, "fp32")
    with pytest.raises(BackendError, match=r"(ONNX Runtime|OpenVINO) refuses model 'kit'"):
        detector.prepare(as_frame(disc_frame([], [], (64, 64))).spec)


def test_a_provider_that_is_not_there_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    for backend, provider in (("coreml", "CoreML"), ("directml", "Dml")):
        try:
            detector = opened(bundle, backend, "fp32")
        except BackendError as error:
            assert f"this ONNX Runtime has no {provider}ExecutionProvider; it has" in str(error)  # noqa: PT017
        else:  # this machine has it
            assert provider in detector.describe().device


def test_the_stored_eight_bit_version_is_used_where_it_passed() -> None:
    # cells as two of the networks know them: at its gate the third was compared on tiles that are not in the project
    (field,) = simulated_fields(1, seed=4000)
    drawn = as_frame(field.pixels, pixel_um=0.65)
    for name in bundled_names():
        bundle = load_bundle(name)
        if bundle.card.int8 is not None and bundle.card.int8.passed:
            frame = None if name == "suspension" else drawn
            whole, eight = (len(calls_of(bundle, "onnx", precision, frame)) for precision in ("fp32", "int8"))
            assert eight == pytest.approx(whole, abs=max(1, 0.05 * whole))
            operators = {node.op_type for node in read_network(bundle, "int8").graph.node}
            assert "QuantizeLinear" in operators


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_reports_nothing_to_anyone(root: Path) -> None:
    """Its import would send an event to Google Analytics unless its telemetry module is kept out."""
    code = (
        "import socket, sys\n"
        "def refuse(*args): raise AssertionError('somebody is called')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "import livescope.detect.openvino\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, 'openvino_telemetry' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "openvino.tools.ovc.telemetry_stub False\n", done.stderr
