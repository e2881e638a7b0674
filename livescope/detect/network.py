"""A bundle's network, as it is and in less arithmetic: half precision, or 8 bit.

Owns reading and converting a network's ONNX. The frame graph around it stays in float32: counts, peaks and geometry
lose nothing. Whether an 8-bit network is good enough is decided in `quantise`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from livescope.detect.bundle import Bundle, Precision
from livescope.detect.screen import read_screened
from livescope.errors import ModelError, one_of

__all__ = ["NETWORK_OUTPUTS", "quantised", "read_network", "to_half"]

NETWORK_OUTPUTS = ("object_logit", "foreground_logit", "dead_logit", "offset_yx", "radii")


def read_network(bundle: Bundle, precision: Precision = "fp32") -> onnx.ModelProto:
    """Read a bundle's network in one precision and check that it is one.

    Raises
    ------
    ModelError
        The file is no ONNX model, has other inputs and outputs, or there is no 8-bit version.
    """
    if bundle.card.adapter is not None:
        raise ModelError(
            f"model {bundle.name!r} has an adapter: it runs on ONNX Runtime as it is, and has no maps for engines, "
            "8 bit, further training or refined outlines. Choose a livescope network for those."
        )
    path = bundle.int8_path() if precision == "int8" else bundle.onnx_path
    small = bundle.card.int8 if precision == "int8" else None
    network = read_screened(path, bundle.sha256 if small is None else small.sha256)
    inputs = [value.name for value in network.graph.input]
    outputs = [value.name for value in network.graph.output]
    if inputs != ["image"] or sorted(outputs) != sorted(NETWORK_OUTPUTS):
        raise ModelError(
            f"network {str(path)!r} takes {one_of(inputs)} and gives {one_of(outputs)}; a livescope "
            f"network takes 'image' and gives {one_of(NETWORK_OUTPUTS)}. Export it with `livescope train`."
        )
    del network.graph.value_info[:]  # sizes of its own dynamic input, which the frame's shape now fixes
    return to_half(network) if precision == "fp16" else network


def to_half(network: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 network to float16 arithmetic; its input and outputs stay float32.

    All weights and constants become float16, except what an operator needs as float32 (the scales of a Resize).
    """
    half = onnx.ModelProto()
    half.CopyFrom(network)
    graph = half.graph
    del graph.value_info[:]
    kept = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and node.output[0] not in kept:
                _halve(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    inputs = {value.name: f"{value.name}_half" for value in graph.input}
    outputs = {value.name: f"{value.name}_half" for value in graph.output}
    _rename(graph, inputs | outputs)
    before = [helper.make_node("Cast", [name], [new], to=TensorProto.FLOAT16) for name, new in inputs.items()]
    after = [helper.make_node("Cast", [new], [name], to=TensorProto.FLOAT) for name, new in outputs.items()]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(half)
    return half


def quantised(network: onnx.ModelProto, images: Iterable[NDArray[np.float32]]) -> onnx.ModelProto:
    """Quantise the inner convolutions to signed 8 bit with QuantizeLinear/DequantizeLinear pairs.

    Symmetric, weights per channel, float bias: what ONNX Runtime, OpenVINO and TensorRT all take. The first convolution
    and those of the heads stay in float.

    Parameters
    ----------
    network
        The float32 network.
    images
        (H, W) normalised images, H and W multiples of 16: what the network will see, some tens of them; they set
        the ranges.

    Raises
    ------
    ModelError
        There are no images.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    listed = list(images)
    if not listed:
        raise ModelError(
            "an 8-bit network needs images to set its ranges, and none was given. Give some tens of frames."
        )
    convolutions = [node for node in network.graph.node if node.op_type == "Conv"]
    names = [node.name for node in convolutions]
    if len(set(names)) != len(names):
        raise ModelError(f"a network with convolutions {names} cannot be quantised: each needs a name of its own.")
    with tempfile.TemporaryDirectory() as folder:
        # by file, since the quantiser moves the weights out of a model that it is given in memory
        source, inferred, target = (Path(folder) / f"{step}.onnx" for step in ("float", "inferred", "int8"))
        source.write_bytes(network.SerializeToString())
        quant_pre_process(source, inferred, skip_symbolic_shape=True, skip_optimization=True)
        quantize_static(
            inferred,
            target,
            _Reader(listed),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[names[0], *_head_names(network)],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,  # TensorRT refuses 32-bit integer biases
                "OpTypesToExcludeOutputQuantization": ["Conv"],  # after its ReLU, not before: twice the resolution
            },
        )
        small = onnx.load(target)
    del small.graph.value_info[:]
    return small


class _Reader:
    """What ONNX Runtime's quantiser reads images from: its `CalibrationDataReader` by shape."""

    def __init__(self, images: Iterable[NDArray[np.float32]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None, None]}

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return iter(self.get_next, None)


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]


def _head_names(network: onnx.ModelProto) -> list[str]:
    """Names of the convolutions from which an output is reached without another one: in float with the first.

    On a toy set F1 was .989 so, as in float32, and .979 to .983 with every convolution in 8 bit.
    """
    made_by = {output: node for node in network.graph.node for output in node.output}
    heads, waiting = [], [value.name for value in network.graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "Conv":
            heads.append(node.name)
        else:
            waiting.extend(node.input)
    return heads
