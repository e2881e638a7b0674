from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from golden_kit import golden_frame
from network_kit import as_frame, blob_network, make_bundle

from livescope.detect.bundle import Bundle, bundled_names, load_bundle
from livescope.detect.network import NETWORK_OUTPUTS, quantised, read_network, to_half
from livescope.detect.normalise import levels
from livescope.errors import ModelError


def maps(network: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(NETWORK_OUTPUTS, session.run(list(NETWORK_OUTPUTS), {"image": image[None, None]}), strict=True))


def golden_image(bundle: Bundle) -> np.ndarray:
    black, inv_gain = levels(golden_frame(), bundle.card.normalisation)
    return ((golden_frame() - black) * inv_gain).astype(np.float32)


@pytest.fixture(params=bundled_names())
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(request.param)


def test_half_precision_is_half_and_close(bundle: Bundle) -> None:
    network = read_network(bundle)
    half = read_network(bundle, "fp16")
    kinds = {t.data_type for t in half.graph.initializer if t.name.endswith((".weight", ".bias"))}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert {v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)} == {onnx.TensorProto.FLOAT}
    assert half.ByteSize() < 0.6 * network.ByteSize()
    whole, less = maps(network, golden_image(bundle)), maps(half, golden_image(bundle))
    for name in NETWORK_OUTPUTS:
        scale = max(1.0, float(np.abs(whole[name]).max()))
        assert whole[name].dtype == less[name].dtype == np.float32
        assert 0 < np.abs(whole[name] - less[name]).max() < 0.02 * scale
    assert network == read_network(bundle)  # the original is untouched


def test_eight_bits_inside_and_float_at_both_ends(bundle: Bundle) -> None:
    network = read_network(bundle)
    small = quantised(network, [golden_image(bundle)])
    made_by = {output: node for node in small.graph.node for output in node.output}
    convolutions = [node for node in small.graph.node if node.op_type == "Conv"]
    in_float = [n for n in convolutions if made_by.get(n.input[0]) is None or made_by[n.input[0]].op_type == "Relu"]
    in_int8 = [n for n in convolutions if n not in in_float]
    assert len(in_float) == 6  # the stem and the five heads
    assert all(made_by[node.input[k]].op_type == "DequantizeLinear" for node in in_int8 for k in (0, 1))
    weights = {t.name: t for t in small.graph.initializer}
    types = {weights[made_by[node.input[1]].input[0]].data_type for node in in_int8}
    assert types == {onnx.TensorProto.INT8}
    assert all(weights[node.input[2]].data_type == onnx.TensorProto.FLOAT for node in convolutions)  # TensorRT's wish
    zero_points = [weights[n.input[2]] for n in small.graph.node if n.op_type.endswith("Linear")]
    assert not any(onnx.numpy_helper.to_array(tensor).any() for tensor in zero_points)
    whole, less = maps(network, golden_image(bundle)), maps(small, golden_image(bundle))
    peak = np.unravel_index(whole["object_logit"].argmax(), whole["object_logit"].shape)
    assert less["object_logit"][peak] == pytest.approx(whole["object_logit"][peak], abs=1.0)


def test_eight_bits_need_images(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="needs images to set its ranges"):
        quantised(read_network(bundle), [])


def test_no_eight_bit_version_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no 8-bit version.*livescope int8 kit --frames FRAMES"):
        read_network(make_bundle(tmp_path, blob_network()), "int8")


def test_half_of_a_network_with_constants_and_casts_runs(tmp_path: Path) -> None:
    network = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> g (float[1, 1, H, W] image) => (float[1, 1, h, w] out) {
            two = Constant <value = float {2}> ()
            sizes = Constant <value = float[4] {1, 1, 2, 2}> ()
            twice = Mul (image, two)
            whole = Cast <to = 7> (twice)
            back = Cast <to = 1> (whole)
            none = Constant <value = float[0] {}> ()
            out = Resize <mode = "nearest"> (back, none, sizes)
        }"""
    )
    image = as_frame(np.arange(12, dtype=np.uint8).reshape(3, 4)).pixels.astype(np.float32)[None, None]
    session = ort.InferenceSession(to_half(network).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"image": image})[0][0, 0, ::2, ::2], 2 * image[0, 0])
