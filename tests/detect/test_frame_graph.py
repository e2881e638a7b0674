from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_kit import ECHO, as_frame, blob_network, make_bundle
from onnx import parser

from livescope.detect.bundle import Bundle
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.graph_detector import frame_bytes
from livescope.detect.network import read_network
from livescope.detect.normalise import Spread, levels
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.errors import ModelError


@pytest.fixture
def echo(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, parser.parse_model(ECHO), Spread())


def padded(plane: np.ndarray, multiple: int) -> np.ndarray:
    return np.pad(plane, [(0, -n % multiple) for n in plane.shape], mode="edge")


def reference(
    pixels: np.ndarray, black: float, inv_gain: float, k: int, max_cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the echo network's frame graph must return, in plain numpy, peak by peak."""
    raw = padded(pixels.astype(np.float32), k)
    h, w = raw.shape[0] // k, raw.shape[1] // k
    counts = raw.reshape(h, k, w, k).sum((1, 3)) * np.float32(1 / k**2)
    image = padded((counts - np.float32(black)) * np.float32(inv_gain), 16)
    logit, dead, corner = image[::4, ::4], image[2::4, 2::4], image[3::4, 3::4]
    rows, columns = -(-h // 4), -(-w // 4)
    peaks = []
    for i in range(rows):
        for j in range(columns):
            around = logit[max(i - 1, 0) : min(i + 2, rows), max(j - 1, 0) : min(j + 2, columns)]
            if logit[i, j] == around.max():
                peaks.append((i, j))
    kept = [
        (i, j) for i, j in peaks if not any((y, x) < (i, j) and abs(y - i) <= 1 and abs(x - j) <= 1 for y, x in peaks)
    ]
    kept.sort(key=lambda p: -logit[p])  # stable: equal scores stay in reading order
    table = np.zeros((max_cells, 36), np.float32)
    for row, (i, j) in zip(table, kept[:max_cells], strict=False):
        half = np.float32(0.5) * corner[i, j]
        row[0] = 1 / (1 + np.exp(-np.float64(logit[i, j])))
        row[1] = dead[i, j]
        row[2] = 4 * k * i + (1.5 * k + (k - 1) / 2) + k * half
        row[3] = 4 * k * j + (1.5 * k + (k - 1) / 2) - k * half
        row[4:] = k * abs(corner[i, j])
    foreground = 1 / (1 + np.exp(-image[1::4, 1::4].astype(np.float64)))
    return table, foreground[:rows, :columns]


def run(
    bundle: Bundle, pixels: np.ndarray, k: int, max_cells: int, by_convolution: bool = False
) -> tuple[np.ndarray, np.ndarray, float, float]:
    graph = build_frame_graph(read_network(bundle), as_frame(pixels).spec, max_cells, k, by_convolution)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    black, inv_gain = levels(pixels, bundle.card.normalisation)
    one = np.ones(1, np.float32)
    inputs = {"frame": frame_bytes(pixels), "black": one * np.float32(black), "inv_gain": one * np.float32(inv_gain)}
    table, foreground = session.run(["table", "foreground"], inputs)
    return table, foreground, black, inv_gain


def check(bundle: Bundle, pixels: np.ndarray, k: int, max_cells: int) -> None:
    for by_convolution in (False, True):
        _check(bundle, pixels, k, max_cells, by_convolution)


def _check(bundle: Bundle, pixels: np.ndarray, k: int, max_cells: int, by_convolution: bool) -> None:
    table, foreground, black, inv_gain = run(bundle, pixels, k, max_cells, by_convolution)
    expected, expected_foreground = reference(pixels, black, inv_gain, k, max_cells)
    found = table[:, 0] > 0
    np.testing.assert_array_equal(found, expected[:, 0] > 0)
    np.testing.assert_allclose(table[:, 0], expected[:, 0], atol=1e-6)
    np.testing.assert_array_equal(table[found, 1:], expected[found, 1:])
    np.testing.assert_allclose(foreground, expected_foreground, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 16), (64, 48), (61, 67), (130, 97)])
def test_graph_is_the_numpy_reference(echo: Bundle, shape: tuple[int, int], k: int, dtype: str) -> None:
    # few levels, so that plateaus of equal scores are everywhere
    rng = np.random.default_rng(7)
    top = 9 if dtype == "uint8" else 5000
    pixels = rng.choice(np.linspace(0, top, 6).astype(dtype), shape)
    check(echo, pixels, k, max_cells=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_graph_is_the_numpy_reference_on_any_frame(echo: Bundle, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    dtype = data.draw(st.sampled_from(["uint8", "uint16"]))
    values = data.draw(st.integers(1, np.iinfo(dtype).max))
    pixels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, values, shape, dtype, endpoint=True)
    check(echo, pixels, data.draw(st.sampled_from([1, 2, 3, 4])), data.draw(st.integers(1, 300)))


def test_a_plateau_is_one_peak_and_order_is_stable(echo: Bundle) -> None:
    pixels = np.zeros((64, 64), np.uint16)
    pixels[16:24, 16:28] = 500  # six map cells of one value
    pixels[48, 48] = pixels[48, 8] = 500
    table, *_ = run(echo, pixels, 1, 50)
    flat = [tuple(row[2:4]) for row in table[:3]]
    expected, _ = reference(pixels, *levels(pixels, echo.card.normalisation), 1, 50)
    assert flat == [tuple(row[2:4]) for row in expected[:3]]
    np.testing.assert_array_equal((table[:3, 2:4] // 4).astype(int), [[4, 4], [12, 2], [12, 12]])


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_saturated_frames_are_one_flat_plateau(echo: Bundle, value: int) -> None:
    table, *_ = run(echo, np.full((40, 40), value, np.uint8), 1, 10)
    assert (table[:, 0] > 0).tolist() == [True] + [False] * 9
    assert table[0, 0] == 0.5


@pytest.mark.parametrize("side", [512, 4096])
def test_large_frames(echo: Bundle, side: int) -> None:
    pixels = np.zeros((side, side), np.uint16)
    pixels[side - 4, side - 4] = 65535
    table, *_ = run(echo, pixels, 1, 3)
    np.testing.assert_array_equal(table[0, 2:4], [side - 2.5, side - 2.5])


def test_a_network_that_is_not_finite_does_not_look_like_an_empty_field(tmp_path: Path) -> None:
    network = blob_network()
    weights = onnx.numpy_helper.to_array(network.graph.initializer[-1]).copy()
    weights[0, 0, 0, 0] = np.nan
    network.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(weights, "filter"))
    bundle = make_bundle(tmp_path, network)
    frame = as_frame(np.full((64, 64), 100, np.uint16))
    detector = OnnxDetector(bundle, 10, 1)
    detector.prepare(frame.spec)
    assert np.isnan(detector.poll(detector.submit(frame)).rows[:, 0]).all()


def test_another_network_is_refused(tmp_path: Path) -> None:
    other = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[1,1,H,W] x) => (float[1,1,H,W] y) { y = Relu (x) }'
    )
    with pytest.raises(ModelError, match=r"takes 'x' and gives 'y'.*'object_logit'"):
        read_network(make_bundle(tmp_path, other))


def test_a_file_that_changed_since_its_bundle_was_loaded_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    bundle.onnx_path.write_bytes(b"\x08" * 1000)
    with pytest.raises(ModelError, match="is damaged or not the one its card describes"):
        read_network(bundle)
