"""Real TensorRT-RTX builds of every bundled network: no GPU is needed. Skipped where the extra is not installed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from golden_kit import golden_frame
from network_kit import blob_network, make_bundle

from livescope.detect.bundle import Precision, bundled_names, load_bundle
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.network import quantised, read_network
from livescope.detect.normalise import levels
from livescope.detect.tensorrt_build import build_plan, import_tensorrt, logger_of, parse_network
from livescope.errors import BackendError
from livescope.frames import FrameSpec

trt: Any = pytest.importorskip("tensorrt_rtx", reason="pip install 'livescope[tensorrt-rtx]'", exc_type=ImportError)

SHAPES = [
    (FrameSpec(2048, 2048, "uint16", 12), 2),
    (FrameSpec(512, 512, "uint8", 8), 1),
    (FrameSpec(1021, 517, "uint16", 16), 3),
]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
K = 1024


def frame_graph(name: str, precision: Precision, spec: FrameSpec, factor: int) -> onnx.ModelProto:
    bundle = load_bundle(name)
    if precision == "int8":  # as `livescope.quantise` makes it, whether a stored one passed its gate or not
        black, inv_gain = levels(golden_frame(), bundle.card.normalisation)
        network = quantised(read_network(bundle), [((golden_frame() - black) * inv_gain).astype("float32")])
    else:
        network = read_network(bundle, precision)
    return build_frame_graph(network, spec, K, factor)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("spec", "factor"), SHAPES, ids=lambda v: str(getattr(v, "shape", v)))
@pytest.mark.parametrize("name", bundled_names())
def test_every_network_builds(name: str, spec: FrameSpec, factor: int, precision: Precision) -> None:
    graph = frame_graph(name, precision, spec, factor)
    assert trt.OnnxParser(
        trt.Builder(logger_of(trt)).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
        logger_of(trt),
    ).supports_model_v2(graph.SerializeToString())
    _, network = parse_network(trt, graph)
    inputs = {t.name: (t.dtype, tuple(t.shape)) for t in map(network.get_input, range(network.num_inputs))}
    size = 2 if spec.dtype == "uint16" else 1
    assert inputs == {
        "frame": (trt.DataType.UINT8, (1, *spec.shape, size)),
        "black": (trt.DataType.FLOAT, (1,)),
        "inv_gain": (trt.DataType.FLOAT, (1,)),
    }
    outputs = {t.name: (t.dtype, tuple(t.shape)) for t in map(network.get_output, range(network.num_outputs))}
    maps = tuple(math.ceil(math.ceil(n / factor) / 4) for n in spec.shape)
    assert outputs == {"table": (trt.DataType.FLOAT, (K, 36)), "foreground": (trt.DataType.FLOAT, maps)}

    layers = [network.get_layer(k) for k in range(network.num_layers)]
    kinds = Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers)
    body = "HALF" if precision == "fp16" else "FLOAT"
    assert kinds["CONVOLUTION", body] == sum(n for (kind, _), n in kinds.items() if kind == "CONVOLUTION") > 6
    # counts, peaks and geometry stay in float32 whatever the network's arithmetic
    assert kinds["MATRIX_MULTIPLY", "FLOAT"] == (size * factor > 1)
    assert kinds["POOLING", "FLOAT"] == 2
    assert kinds["TOPK", "FLOAT"] == 1
    quantise = {layer.get_output(0).dtype.name for layer in layers if layer.type.name == "QUANTIZE"}
    assert quantise == ({"INT8"} if precision == "int8" else set())

    seen: list[tuple[str, int, int]] = []
    plan = build_plan(trt, graph, lambda *step: seen.append(step))
    assert len(plan) > 100_000
    assert all(0 <= step <= steps for _, step, steps in seen)


def test_what_the_builder_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32; 0 * x is not 0 where x is not finite; no allocation at run time, which a CUDA graph does not allow."""
    seen: dict[str, bool] = {}
    build = trt.Builder.build_serialized_network

    def spy(builder: Any, network: Any, config: Any) -> Any:
        flags = ("TF32", "STRICT_NANS", "REQUIRE_USER_ALLOCATION")
        seen.update({flag: config.get_flag(getattr(trt.BuilderFlag, flag)) for flag in flags})
        return build(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", spy)
    build_plan(trt, build_frame_graph(read_network(make_bundle(tmp_path, blob_network())), SHAPES[1][0], K, 1))
    assert seen == {"TF32": False, "STRICT_NANS": True, "REQUIRE_USER_ALLOCATION": True}


def test_a_plan_without_a_gpu_is_none_and_not_an_error() -> None:
    """The fact that the engine cache builds on: deserialising returns None and raises nothing."""
    runtime = trt.Runtime(logger_of(trt))
    assert runtime.deserialize_cuda_engine(b"not a plan") is None


def test_a_node_that_is_not_supported_is_named(tmp_path: Path) -> None:
    graph = build_frame_graph(read_network(make_bundle(tmp_path, blob_network())), SHAPES[1][0], K, 1)
    node = next(node for node in graph.graph.node if node.op_type == "TopK")
    node.op_type, node.name = "Abacus", "counter"
    with pytest.raises(BackendError, match=r"does not take this graph: .*Abacus"):
        parse_network(trt, graph)


def test_more_rows_than_topk_takes_fail_at_the_build(tmp_path: Path) -> None:
    """Why `max_cells` ends at 3840."""
    network = read_network(make_bundle(tmp_path, blob_network()))
    assert build_plan(trt, build_frame_graph(network, SHAPES[1][0], 3840, 1))
    with pytest.raises(BackendError, match="could not build"):
        build_plan(trt, build_frame_graph(network, SHAPES[1][0], 3841, 1))


def test_the_bindings_are_found_by_the_backend_s_name() -> None:
    assert import_tensorrt("tensorrt-rtx") is trt
