from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
from network_kit import as_frame, disc_frame, make_bundle
from onnx import parser
from scipy.special import softmax

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.adapted_rows import box_rows, map_rows
from livescope.detect.adapter import Boxes, Classes, ClassMap
from livescope.detect.bundle import Bundle, load_bundle
from livescope.detect.detector import Detector, open_detector
from livescope.detect.network import read_network
from livescope.detect.normalise import Fixed
from livescope.errors import BackendError, ModelError
from livescope.settings import DetectorSettings
from livescope.stored import analyze

LIVE = [(30, 40), (90, 150), (12, 190)]
DEAD = [(60, 60), (100, 20)]
SETTINGS = DetectorSettings(threads=1)

MAP = """
<ir_version: 10, opset_import: ["": 17]>
segment (float[1, 1, H, W] image) => (float[1, 3, H, W] classes)
<float[3, 1, 1, 1] weight = {0, 10, -10}, float[3] bias = {0, -5, -5}> { classes = Conv (image, weight, bias) }
"""
"""Logits of background, live and dead: bright is live, dark is dead."""

BOXES = """
<ir_version: 10, opset_import: ["": 17]>
detect (float[N, 3, H, W] image) => (float[n, 4] boxes, float[n] scores, int64[n] labels)
<
    float half = {0.5}, float[1, 4] around = {-6, -6, 7, 7}, int64[1] first = {0},
    int64[2] yx = {2, 3}, float zero = {0}, int64[1] line = {-1}, int64[1] axis = {1}
> {
    grey = ReduceMean <axes = [1]> (image)
    blurred = AveragePool <kernel_shape = [9, 9], pads = [4, 4, 4, 4]> (grey)
    strength = Abs (blurred)
    highest = MaxPool <kernel_shape = [13, 13], pads = [6, 6, 6, 6]> (strength)
    is_peak = Equal (strength, highest)
    is_strong = Greater (strength, half)
    is_cell = And (is_peak, is_strong)
    found = NonZero (is_cell)
    places = Transpose <perm = [1, 0]> (found)
    spot_yx = Gather <axis = 0> (found, yx)
    spot_y = Gather <axis = 0> (spot_yx, zero_row)
    spot_x = Gather <axis = 0> (spot_yx, one_row)
    y = Cast <to = 1> (spot_y)
    x = Cast <to = 1> (spot_x)
    y_1 = Unsqueeze (y, axis)
    x_1 = Unsqueeze (x, axis)
    corners = Concat <axis = 1> (x_1, y_1, x_1, y_1)
    boxes = Add (corners, around)
    scores = GatherND (strength, places)
    values = GatherND (blurred, places)
    dark = Less (values, zero)
    labels = Cast <to = 7> (dark)
}
"""
"""Boxes around the middles of discs; class 0 is bright, 1 is dark."""


def box_network(as_one_table: bool = False) -> onnx.ModelProto:
    model = parser.parse_model(BOXES)
    for name, value in (("zero_row", 0), ("one_row", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    if as_one_table:
        nodes = parser.parse_graph(
            """
            more (float[n, 4] boxes, float[n] scores, int64[n] labels, int64[1] axis) => (float[n, 6] table) {
                score_1 = Unsqueeze (scores, axis)
                label_float = Cast <to = 1> (labels)
                label_1 = Unsqueeze (label_float, axis)
                table = Concat <axis = 1> (boxes, score_1, label_1)
            }"""
        )
        model.graph.node.extend(nodes.node)
        del model.graph.output[:]
        model.graph.output.extend(nodes.output)
    return model


CLASS_MAP = {"kind": "class_map", "classes": {"live": 1, "dead": 2}}
THREE = {
    "kind": "boxes",
    "boxes": "boxes",
    "scores": "scores",
    "labels": "labels",
    "classes": {"live": 0, "dead": 1},
}
ONE = {"kind": "boxes", "detections": "table", "classes": {"live": 0, "dead": 1}}
KINDS = {"map": (parser.parse_model(MAP), CLASS_MAP), "three": (box_network(), THREE), "one": (box_network(True), ONE)}


@pytest.fixture(params=list(KINDS))
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    network, adapter = KINDS[request.param]
    return make_bundle(tmp_path, network, adapter=adapter)


def centres(calls: CellCalls, state: State) -> list[tuple[int, int]]:
    rows = calls.state == state
    return sorted(zip(calls.y_px[rows].round().astype(int), calls.x_px[rows].round().astype(int), strict=True))


def near(found: list[tuple[int, int]], true: list[tuple[int, int]], tolerance: float) -> bool:
    return len(found) == len(true) and all(np.abs(np.subtract(found, sorted(true))).max(axis=1) <= tolerance)


def calls_of(bundle: Bundle, pixels: np.ndarray, pixel_um: float = 1.0) -> CellCalls:
    analyser = FrameAnalyser(bundle, SETTINGS)
    calls = analyser(as_frame(pixels, index=3, pixel_um=pixel_um)).calls
    analyser.close()
    return calls


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_discs_are_found_called_and_outlined(bundle: Bundle, dtype: str) -> None:
    calls = calls_of(bundle, disc_frame(LIVE, DEAD, (117, 203), dtype))  # no multiple of anything
    assert calls.frame_index == 3
    assert near(centres(calls, State.LIVE), LIVE, 1)
    assert near(centres(calls, State.DEAD), DEAD, 1)
    assert calls.count(State.UNCERTAIN) == 0
    np.testing.assert_allclose(calls.radii_px, 6, atol=1)
    np.testing.assert_allclose(calls.area_px, np.pi * 36, rtol=0.25)
    assert not calls.saturated


def test_binned_frames_give_cells_in_raw_pixels(bundle: Bundle) -> None:
    pixels = disc_frame(LIVE, DEAD, (128, 208)).repeat(2, axis=0).repeat(2, axis=1)
    calls = calls_of(bundle, pixels, pixel_um=0.5)
    assert near(centres(calls, State.LIVE), [(2 * y, 2 * x) for y, x in LIVE], 2)
    np.testing.assert_allclose(calls.radii_px, 12, atol=2)


def test_flat_frames_hold_no_cells(bundle: Bundle) -> None:
    assert len(calls_of(bundle, np.full((50, 70), 300, np.uint16))) == 0


def test_more_cells_than_rows_is_said(bundle: Bundle) -> None:
    settings = SETTINGS.model_copy(update={"max_cells": 3})
    analyser = FrameAnalyser(bundle, settings)
    calls = analyser(as_frame(disc_frame(LIVE, DEAD, (128, 208)))).calls
    assert calls.saturated
    assert len(calls) <= 3
    assert any("as many cells as the table's 3 rows, or more" in warning for warning in analyser.warnings)


def test_it_is_a_detector_that_says_what_it_uses(bundle: Bundle) -> None:
    detector = open_detector(SETTINGS, bundle)
    assert isinstance(detector, Detector)
    info = detector.describe()
    assert info.backend.startswith("onnxruntime ")
    assert (info.device, info.precision, info.model_sha256) == ("CPU, 1 thread", "fp32", bundle.sha256)
    with pytest.raises(BackendError, match="not prepared"):
        detector.submit(as_frame(disc_frame([], [], (64, 64))))
    detector.close()
    detector.close()


def test_the_command_analyzes_with_it(bundle: Bundle, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "discs.tif", disc_frame(LIVE, DEAD, (128, 208)))
    out = tmp_path / "calls.parquet"
    assert analyze(str(tmp_path / "discs.tif"), str(bundle.onnx_path), out, [], 1.0, labels=tmp_path / "labels") == 0
    states = pq.read_table(out)["state"].to_pylist()
    assert (states.count("live"), states.count("dead")) == (3, 2)
    assert tifffile.imread(tmp_path / "labels" / "discs.tif").max() == 5
    with pytest.raises(ModelError, match=r"has an adapter: .*refined outlines"):
        analyze(str(tmp_path / "discs.tif"), str(bundle.onnx_path), out, [], 1.0, refined=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"backend": "openvino"}, "not 'openvino' in auto"), ({"precision": "int8"}, "not 'auto' in int8")],
)
def test_other_backends_and_precisions_are_refused(bundle: Bundle, settings: dict[str, str], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        open_detector(DetectorSettings.model_validate(settings), bundle)
    with pytest.raises(ModelError, match="has an adapter"):
        read_network(bundle)


def test_a_pixel_size_that_does_not_fit_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="pixels of 3 um do not fit"):
        calls_of(bundle, disc_frame([], [], (64, 64)), pixel_um=3.0)


def test_networks_of_one_size_take_smaller_frames_only(tmp_path: Path) -> None:
    network = onnx.load_model_from_string(KINDS["map"][0].SerializeToString())
    for place, size in ((2, 128), (3, 256)):
        for value in (network.graph.input[0], network.graph.output[0]):
            value.type.tensor_type.shape.dim[place].dim_value = size
    bundle = make_bundle(tmp_path, network, adapter=CLASS_MAP)
    assert near(centres(calls_of(bundle, disc_frame(LIVE, [], (117, 203))), State.LIVE), LIVE, 1)
    with pytest.raises(ModelError, match=r"129 x 203 are too large for model 'kit', which takes 128 x 256"):
        calls_of(bundle, disc_frame([], [], (129, 203)))


def test_pictures_with_channels_last_and_fixed_counts(tmp_path: Path) -> None:
    network = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 17]>
        keras (float[N, H, W, 1] image) => (float[N, H, W, 1] chance)
        <float ten = {10}, float five = {5}> { a = Mul (image, ten) b = Sub (a, five) chance = Sigmoid (b) }""")
    adapter = {"kind": "class_map", "classes": {"cell": 0}, "values": "chances"}
    bundle = make_bundle(tmp_path, network, adapter=adapter, normalisation=Fixed(black=1000, white=1500))
    calls = calls_of(bundle, disc_frame(LIVE, [], (117, 203)))
    assert near(centres(calls, State.UNCERTAIN), LIVE, 1)  # it says nothing of life and death
    np.testing.assert_allclose(calls.p_dead, 0.5)


@pytest.mark.parametrize(
    ("network", "adapter", "message"),
    [
        (MAP, {**CLASS_MAP, "output": "masks"}, "names outputs 'masks', but the network gives 'classes'"),
        (MAP, {**CLASS_MAP, "classes": {"live": 3}}, r"class 3, but the network's map has 3, counted from 0"),
        (MAP.replace("1, 1, H, W] image", "1, 4, H, W] image").replace("3, 1, 1, 1", "3, 4, 1, 1").replace(
            "{0, 10, -10}", "{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}"), CLASS_MAP, "with 1 channel, or 3 equal ones"),
        (MAP.replace("float[1, 1, H, W] image", "float[1, 1, H, W] image, float[1] gain"), CLASS_MAP,
         r"takes image tensor\(float\) .*, gain .*; an adapted network takes one picture"),
        (MAP.replace("classes = Conv", "logits = Conv").replace("}\n", "classes = AveragePool <kernel_shape = [4, 4], "
         "strides = [3, 3]> (logits) }\n", 1), CLASS_MAP, "class map of 21 x 21 does not fit an input of 64 x 64"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_its_network_is_told(
    tmp_path: Path, network: str, adapter: dict[str, object], message: str
) -> None:
    bundle = make_bundle(tmp_path, parser.parse_model(network), adapter=adapter)
    with pytest.raises(ModelError, match=message):
        calls_of(bundle, disc_frame([(30, 30)], [], (64, 64)))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({**CLASS_MAP, "classes": {}}, "name at least one of live, dead and cell"),
        ({**CLASS_MAP, "classes": {"live": 1, "dead": 1}}, "each by a number of its own"),
        ({"kind": "boxes", "boxes": "b", "classes": {"live": 1}}, "either detections, or all of boxes, scores"),
        ({"kind": "yolo", "classes": {"live": 1}}, "'class_map', 'boxes'"),
        ({**CLASS_MAP, "python": "evil.py"}, "python: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_adapter_names_the_entry(tmp_path: Path, adapter: dict[str, object], message: str) -> None:
    path = make_bundle(tmp_path, KINDS["map"][0], adapter=CLASS_MAP).onnx_path
    card = path.with_suffix(".card.yaml")
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "adapter": adapter}))
    with pytest.raises(ModelError, match=message):
        load_bundle(path)


def test_touching_cells_are_parted_and_specks_left_out() -> None:
    y, x = np.mgrid[:60, :80]
    covered = (np.hypot(y - 30, x - 25) < 12) | (np.hypot(y - 30, x - 46) < 12) | (np.hypot(y - 5, x - 70) < 2)
    adapter = ClassMap(classes=Classes(live=1), values="classes")
    rows = map_rows(adapter, covered[None].astype(np.int64), (60, 80), (60, 80), 20.0)
    found = rows[np.argsort(rows[:, 3])]
    assert len(found) == 2
    np.testing.assert_allclose(found[:, 2], 30, atol=1)
    np.testing.assert_allclose(found[:, 3], (25, 46), atol=2.5)


def test_a_map_at_a_quarter_of_the_size_keeps_places_and_padding_out() -> None:
    chances = np.zeros((1, 2, 16, 16), np.float32)
    chances[0, 1, 4:8, 4:8] = 0.9  # pixels 16..31: their middle is 23.5
    chances[0, 1, 12:16, 4:8] = 0.9  # beyond row 47: padding
    adapter = ClassMap(classes=Classes(dead=1), values="chances")
    rows = map_rows(adapter, chances, (64, 64), (48, 64), 12.0)
    assert len(rows) == 1
    np.testing.assert_allclose(rows[0, [0, 2, 3]], [0.9, 23.5, 23.5], rtol=1e-5)
    assert rows[0, 1] > 5
    np.testing.assert_allclose(rows[0, 4:], 8, atol=3.5)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_chances_and_logits_are_not_taken_for_each_other(last: bool) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (1, 3, 16, 16)).astype(np.float32)
    maps = {"logits": logits, "chances": softmax(logits, axis=1)}
    if last:
        maps = {values: np.moveaxis(one, 1, -1) for values, one in maps.items()}
    adapters = {values: ClassMap(classes=Classes(live=1, dead=2), values=values) for values in maps}
    for values, adapter in adapters.items():
        map_rows(adapter, maps[values], (16, 16), (16, 16), 4.0, last)
    with pytest.raises(ModelError, match=r"holds chances .* the card says logits.*values: chances"):
        map_rows(adapters["logits"], maps["chances"], (16, 16), (16, 16), 4.0, last)
    with pytest.raises(ModelError, match=r"holds values from -\d.* chances lie between 0 and 1.*values: logits"):
        map_rows(adapters["chances"], maps["logits"], (16, 16), (16, 16), 4.0, last)


def test_a_single_logit_between_0_and_1_is_a_logit() -> None:
    adapter = ClassMap(classes=Classes(cell=0))
    assert len(map_rows(adapter, np.full((1, 1, 16, 16), 0.5, np.float32), (16, 16), (16, 16), 4.0)) > 0


@pytest.mark.parametrize("shape", [(16,), (2, 1, 16, 16), (1, 3, 16, 16), ()])
def test_class_numbers_of_another_shape_are_told(shape: tuple[int, ...]) -> None:
    adapter = ClassMap(classes=Classes(live=1), values="classes")
    with pytest.raises(ModelError, match=r"class numbers of shape \(.*\) were given; livescope needs"):
        map_rows(adapter, np.ones(shape, np.int64), (16, 16), (16, 16), 4.0)


def test_an_empty_map_is_told() -> None:
    adapter = ClassMap(classes=Classes(live=1), values="classes")
    with pytest.raises(ModelError, match="class map of 0 x 0 does not fit an input of 16 x 16"):
        map_rows(adapter, np.ones((1, 0, 0), np.int64), (16, 16), (16, 16), 4.0)


def test_scores_of_boxes_must_be_chances() -> None:
    adapter = Boxes(detections="t", classes=Classes(live=0))
    table = np.array([[10, 10, 30, 30, 97.0, 0], [50, 10, 70, 30, 3.0, 0]], np.float32)
    with pytest.raises(ModelError, match=r"scores from 3 to 97; livescope needs chances, 0 to 1"):
        box_rows(adapter, {"t": table}, (100, 100))
    table[:, 4:] = (97.0, 5)  # of a class that is no cell
    assert len(box_rows(adapter, {"t": table}, (100, 100))) == 0


@pytest.mark.parametrize(
    ("white", "level", "said"),
    [(255, 200, ""), (255, 2000, "far above"), (255, 30_000, "far above"), (4095, 120, "far below"), (1, 200, "")],
)  # white 1 is a network that takes counts as they are
def test_counts_far_from_fixed_black_and_white_are_told(tmp_path: Path, white: float, level: int, said: str) -> None:
    bundle = make_bundle(tmp_path, KINDS["map"][0], adapter=CLASS_MAP, normalisation=Fixed(white=white))
    analyser = FrameAnalyser(bundle, SETTINGS)
    analyser(as_frame(np.full((64, 64), level, np.uint16)))
    told = [one for one in analyser.warnings if "what model 'kit' takes" in one]
    assert len(told) == bool(said)
    if said:
        assert f"{said} what model 'kit' takes: its median is {level} counts" in told[0]
        assert f"white {white:g}. Set white" in told[0]


def test_what_is_not_finite_is_never_an_empty_field(tmp_path: Path) -> None:
    network = parser.parse_model(MAP.replace("{0, -5, -5}", "{0, -5, 3e38}").replace("{0, 10, -10}", "{0, 10, -3e38}"))
    bundle = make_bundle(tmp_path, network, adapter=CLASS_MAP)
    with pytest.raises(BackendError, match="not finite"):
        calls_of(bundle, disc_frame([], DEAD, (128, 208)))


def test_boxes_in_parts_and_of_other_classes() -> None:
    adapter = Boxes(detections="t", classes=Classes(live=2, dead=5), unit="parts")
    table = np.array(
        [[0.1, 0.2, 0.3, 0.4, 0.9, 2], [0.5, 0.5, 0.6, 0.7, 0.6, 5], [0.5, 0.5, 0.6, 0.7, 0.6, 0]], np.float32
    )
    rows = box_rows(adapter, {"t": table[None]}, (100, 200))
    assert len(rows) == 2
    np.testing.assert_allclose(rows[:, 2], [29.5, 59.5], rtol=1e-5)
    np.testing.assert_allclose(rows[:, 3], [39.5, 109.5], rtol=1e-5)
    np.testing.assert_allclose(rows[0, [4, 12]], [20, 10], rtol=1e-5)  # along x, along y
    chance = 1 / (1 + np.exp(-rows[:, 1]))
    np.testing.assert_allclose(chance, [0.05, 0.8], rtol=1e-4)
    with pytest.raises(ModelError, match=r"boxes of shape \(3, 5\) were given; livescope needs \(n, 6\)"):
        box_rows(adapter, {"t": table[:, :5]}, (100, 200))
