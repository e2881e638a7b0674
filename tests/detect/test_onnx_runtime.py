from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_kit import as_frame, blob_network, disc_frame, make_bundle
from onnx import helper

from livescope.calls import CellCalls, State
from livescope.detect.bundle import Bundle, load_bundle
from livescope.detect.decode import decode
from livescope.detect.detector import Detector, open_detector
from livescope.detect.graph_detector import Runner, default_threads
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.errors import BackendError, ModelError
from livescope.frames import Frame
from livescope.settings import DetectorSettings

LIVE = [(30, 40), (90, 150), (12, 190)]
DEAD = [(60, 60), (100, 20)]
SETTINGS = DetectorSettings(threads=1)


@pytest.fixture
def blobs(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, blob_network())


def calls_of(detector: Detector, bundle: Bundle, frame: Frame, settings: DetectorSettings = SETTINGS) -> CellCalls:
    detector.prepare(frame.spec)
    return decode(detector.poll(detector.submit(frame)), frame.spec, bundle.card, settings)


def centres(calls: CellCalls, state: State) -> list[tuple[int, int]]:
    rows = calls.state == state
    return sorted(zip(calls.y_px[rows].round().astype(int), calls.x_px[rows].round().astype(int), strict=True))


def near(found: list[tuple[int, int]], true: list[tuple[int, int]], tolerance: float) -> bool:
    return len(found) == len(true) and all(np.abs(np.subtract(found, sorted(true))).max(axis=1) <= tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(128, 208), (117, 203)])
def test_discs_are_found_and_called(blobs: Bundle, shape: tuple[int, int], dtype: str) -> None:
    frame = as_frame(disc_frame(LIVE, DEAD, shape, dtype), index=7)
    detector = open_detector(SETTINGS, blobs)
    calls = calls_of(detector, blobs, frame)
    assert calls.frame_index == 7
    assert near(centres(calls, State.LIVE), LIVE, 2.5)  # half a stride: this network gives no offsets
    assert near(centres(calls, State.DEAD), DEAD, 2.5)
    assert calls.count(State.UNCERTAIN) == 0
    np.testing.assert_allclose(calls.radii_px, 6)
    detector.close()


def test_binned_frames_give_cells_in_raw_pixels(blobs: Bundle) -> None:
    pixels = disc_frame(LIVE, DEAD, (128, 208)).repeat(2, axis=0).repeat(2, axis=1)
    calls = calls_of(open_detector(SETTINGS, blobs), blobs, as_frame(pixels, pixel_um=0.5))
    assert near(centres(calls, State.LIVE), [(2 * y, 2 * x) for y, x in LIVE], 5)
    np.testing.assert_allclose(calls.radii_px, 12)


def test_shapes_can_change_back_and_forth(blobs: Bundle) -> None:
    detector = open_detector(SETTINGS, blobs)
    frames = [
        as_frame(disc_frame([(30, 30)], [], shape)) for shape in ((64, 64), (64, 80), (70, 70), (48, 99), (50, 50))
    ]
    for frame in [*frames, *reversed(frames)]:
        assert near(centres(calls_of(detector, blobs, frame), State.LIVE), [(30, 30)], 2.5)


def test_the_shapes_used_last_are_kept(blobs: Bundle) -> None:
    compiled = []

    class Counting(OnnxDetector):
        def _compile(self, graph: onnx.ModelProto) -> Runner:
            compiled.append(graph)
            return super()._compile(graph)

    detector = Counting(blobs, 10, 1)
    frames = [as_frame(disc_frame([(30, 30)], [], (64, 64 + n))) for n in range(6)]
    for frame in frames:
        detector.prepare(frame.spec)
    assert len(compiled) == 6
    for _ in range(2):
        for frame in frames[-4:]:
            calls_of(detector, blobs, frame)
    assert len(compiled) == 6
    detector.prepare(frames[0].spec)
    assert len(compiled) == 7


@pytest.mark.parametrize("value", [0, 1, 65535])
@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (64, 64)])
def test_flat_frames_hold_no_cells(blobs: Bundle, shape: tuple[int, int], value: int) -> None:
    frame = as_frame(np.full(shape, value, np.uint16))
    assert len(calls_of(open_detector(SETTINGS, blobs), blobs, frame)) == 0


def test_more_cells_than_rows_is_said(blobs: Bundle) -> None:
    settings = SETTINGS.model_copy(update={"max_cells": 3})
    frame = as_frame(disc_frame(LIVE, DEAD, (128, 208)))
    calls = calls_of(open_detector(settings, blobs), blobs, frame, settings)
    assert calls.saturated
    assert len(calls) == 3
    assert not calls_of(open_detector(SETTINGS, blobs), blobs, frame).saturated


def test_a_frame_of_another_shape_is_refused(blobs: Bundle) -> None:
    detector = open_detector(SETTINGS, blobs)
    frame = as_frame(disc_frame([], [], (64, 64)))
    with pytest.raises(BackendError, match="prepared for None"):
        detector.submit(frame)
    detector.prepare(frame.spec)
    with pytest.raises(BackendError, match=r"\(64, 64\), 'uint8'.*prepared for \(\(64, 64\), 'uint16'\)"):
        detector.submit(as_frame(disc_frame([], [], (64, 64), "uint8")))


def test_a_wrong_pixel_size_is_refused(blobs: Bundle) -> None:
    frame = as_frame(disc_frame([], [], (64, 64)), pixel_um=3.0)
    with pytest.raises(ModelError, match="pixels of 3 um do not fit"):
        open_detector(SETTINGS, blobs).prepare(frame.spec)


def test_a_graph_that_the_runtime_refuses_is_named(tmp_path: Path) -> None:
    network = blob_network()
    # a kernel of another size than its weights: the checker lets it pass, the runtime does not
    network.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("kernel_shape", [5, 5]))
    bundle = make_bundle(tmp_path, network)
    frame = as_frame(disc_frame([], [], (64, 64)))
    with pytest.raises(BackendError, match=r"ONNX Runtime refuses model 'kit'|ONNX Runtime failed on frame 0"):
        calls_of(OnnxDetector(bundle, 10, 1), bundle, frame)


def test_describe_tells_what_is_used(blobs: Bundle) -> None:
    detector = open_detector(DetectorSettings(), blobs)
    assert isinstance(detector, Detector)
    info = detector.describe()
    assert info.backend == f"onnxruntime {ort.__version__}"
    assert info.device == f"CPU, {default_threads()} thread{'s' if default_threads() > 1 else ''}"
    assert (info.precision, info.model, info.model_sha256) == ("fp32", "kit", blobs.sha256)
    detector.close()
    detector.close()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_frame_through_a_real_network_gives_sound_calls(data: st.DataObject) -> None:
    """Sizes that no stride divides, any content, any rows: calls inside the frame, or the table said to be full."""
    bundle = load_bundle("simulated")
    shape = data.draw(st.tuples(st.integers(1, 140), st.integers(1, 140)), "shape")
    dtype = np.dtype(data.draw(st.sampled_from(["uint8", "uint16"]), "dtype"))
    content = data.draw(st.sampled_from(["empty", "saturated", "noise", "steps", "discs"]), "content")
    max_cells = data.draw(st.integers(1, 200), "max_cells")
    top = np.iinfo(dtype).max
    rng = np.random.default_rng(data.draw(st.integers(0, 9), "seed"))
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = {
        "empty": lambda: np.zeros(shape, dtype),
        "saturated": lambda: np.full(shape, top, dtype),
        "noise": lambda: rng.integers(0, top, shape, dtype, endpoint=True),
        "steps": lambda: (top * ((y // 9 + x // 7) % 2)).astype(dtype),
        "discs": lambda: disc_frame([(20, 30), (80, 90)], [(60, 20)], shape, dtype.name),
    }[content]()
    chosen = DetectorSettings(threads=1, max_cells=max_cells)
    frame = as_frame(pixels, pixel_um=data.draw(st.sampled_from([None, 1.3, 0.65, 0.4]), "pixel_um"))
    calls = calls_of(OnnxDetector(bundle, max_cells, 1), bundle, frame, chosen)
    assert len(calls) <= max_cells
    assert calls.saturated or len(calls) < max_cells
    assert ((calls.y_px >= -0.5) & (calls.y_px < shape[0] - 0.5)).all()
    assert ((calls.x_px >= -0.5) & (calls.x_px < shape[1] - 0.5)).all()
    assert (calls.radii_px > 0).all()
    assert ((calls.p_dead >= 0) & (calls.p_dead <= 1)).all()
    assert np.isfinite(calls.outlines_yx()).all()
