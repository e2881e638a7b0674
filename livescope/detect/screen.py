"""What a network's file must be before anything is built or run of it: files from strangers run no code here.

Owns the limits on size, operators and data, and reading an ONNX file within them. What a livescope network takes and
gives is checked in `network`, what an adapted one does in `adapter`.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from livescope.errors import ModelError, one_of

__all__ = ["MAX_NETWORK_BYTES", "OPERATORS", "OPSETS", "read_screened", "screened"]

MAX_NETWORK_BYTES = 512 * 2**20
"""Largest file of a network; the bundled ones have 1 MB, Cellpose-SAM (312 M parameters) 1.2 GB."""
_MAX_NODES = 20_000
_MAX_VALUES = 2**28
"""Largest tensor on the way through a network, in numbers (1 GB of float32), for a frame of `_SIDE` pixels each way."""
_SIDE = 1024
_CHANNELS = (1, 3)
OPSETS = (13, 24)
"""Oldest and newest operator set: older ones write ReduceSum and Squeeze in another way."""
_DOMAINS = ("", "ai.onnx")

_TYPES = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.BOOL),
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
)
"""Types of stored tensors."""

_ELEMENTWISE = (
    "Abs Add And BitShift Cast CastLike Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or "
    "PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu "
    "Where Xor"
)
_LAYERS = (
    "Attention AveragePool BatchNormalization Conv ConvInteger ConvTranspose DequantizeLinear Dropout "
    "DynamicQuantizeLinear Einsum Gemm GlobalAveragePool GlobalMaxPool GridSample GroupNormalization "
    "InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization MatMul MatMulInteger MaxPool "
    "MeanVarianceNormalization QLinearConv QLinearMatMul QuantizeLinear RMSNormalization Resize Softmax Upsample"
)
_SHAPES = (
    "ArgMax ArgMin Compress Concat Constant ConstantOfShape CumSum DepthToSpace Expand Flatten Gather GatherElements "
    "GatherND NonMaxSuppression NonZero OneHot Pad Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape RoiAlign ScatterElements ScatterND Shape Size "
    "Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unsqueeze"
)
OPERATORS = frozenset(f"{_ELEMENTWISE} {_LAYERS} {_SHAPES}".split())
"""Operators of picture networks. None holds a graph of its own (If, Loop, Scan), decodes or draws lots."""

_NOT_ONNX = {
    b"PK\x03\x04": "a zip archive, as PyTorch saves its pickles",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file, as Keras saves",
    b"GIF8": "a picture",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not fetched",
}
"""First bytes -> what the file is instead."""


def read_screened(path: Path, sha256: str | None = None) -> ModelProto:
    """Read a network's file, if it is small, whole, its own, and made of known parts only.

    Parameters
    ----------
    path
        The ONNX file.
    sha256
        What its bytes must hash to; None where nothing is known of them yet.

    Raises
    ------
    ModelError
        It cannot be read, is too large, is not the file it should be, or `screened` refuses it.
    """
    try:
        size = path.stat().st_size
        if size > MAX_NETWORK_BYTES:
            raise ModelError(
                f"network {str(path)!r} has {size / 2**20:.0f} MB; livescope takes up to "
                f"{MAX_NETWORK_BYTES / 2**20:.0f} MB. Choose a smaller network."
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"network {str(path)!r} cannot be read: {error.strerror}. Check the path.") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"network {str(path)!r} is damaged or not the one its card describes: its sha256 is {found}, the card "
            f"says {sha256}. Get the bundle again, or export it again with its card."
        )
    return screened(content, str(path))


def screened(content: bytes, name: str) -> ModelProto:
    """Parse a network and check all of it that could harm: nothing has been run or allocated for it before.

    Parameters
    ----------
    content
        The file's bytes.
    name
        How messages call it.

    Raises
    ------
    ModelError
        It is no ONNX; it holds foreign operators, functions, or data outside the file; a tensor claims another size
        than it has, or would grow without measure.
    """
    model = _parsed(content, name)
    _check_versions(model, name)
    if len(model.graph.node) > _MAX_NODES:
        raise ModelError(f"network {name!r} has {len(model.graph.node)} operators; livescope takes up to {_MAX_NODES}.")
    if len(model.graph.sparse_initializer):
        raise ModelError(f"network {name!r} holds sparse tensors, which livescope does not take; store them dense.")
    for node in model.graph.node:
        _check_node(node, name)
    for tensor in model.graph.initializer:
        _check_tensor(tensor, name)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(
            f"network {name!r} is not valid ONNX: {_short(error)}. Get it again, or export it anew."
        ) from None
    _check_growth(model, name)
    return model


def _parsed(content: bytes, name: str) -> ModelProto:
    other = next((what for magic, what in _NOT_ONNX.items() if content.startswith(magic)), None)
    model = ModelProto()
    try:
        if other is None:
            model.ParseFromString(content)
    except (DecodeError, RecursionError):
        other = "damaged, or of another kind"
    if other is None and not (model.ir_version and model.graph.node):
        other = "empty, or of another kind"
    if other is not None:
        raise ModelError(
            f"{name!r} is no readable ONNX model but {other}. livescope loads networks as ONNX only, never as code or "
            "pickles; export the network as ONNX (torch.onnx.export), or get the file again."
        )
    return model


def _check_versions(model: ModelProto, name: str) -> None:
    sets = {entry.domain: entry.version for entry in model.opset_import}
    if foreign := sorted(set(sets) - set(_DOMAINS)):
        raise ModelError(
            f"network {name!r} uses operators of {one_of(foreign)}; livescope takes those of ONNX itself only. Export "
            "it without custom operators."
        )
    if len(model.functions):
        raise ModelError(
            f"network {name!r} defines functions of its own ({one_of(f.name for f in model.functions[:3])}); "
            "inline them with onnx.inliner.inline_local_functions and save it again."
        )
    version = max(sets.values(), default=0)
    if not OPSETS[0] <= version <= OPSETS[1]:
        raise ModelError(
            f"network {name!r} is of operator set {version}; livescope takes {OPSETS[0]} to {OPSETS[1]}. Export it "
            "anew, or convert it with onnx.version_converter."
        )


def _check_node(node: NodeProto, name: str) -> None:
    if node.domain not in _DOMAINS or node.op_type not in OPERATORS:
        what = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        raise ModelError(
            f"network {name!r} uses operator {what!r}, which livescope does not run. It runs these: "
            f"{', '.join(sorted(OPERATORS))}. Export the network without it."
        )
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
            raise ModelError(f"network {name!r} holds sparse tensors, which livescope does not take; store them dense.")
        for tensor in (*attribute.tensors, *([attribute.t] if attribute.type == AttributeProto.TENSOR else [])):
            _check_tensor(tensor, name)


def _check_tensor(tensor: TensorProto, name: str) -> None:
    """Compare the size that a stored tensor claims with the bytes that it brought."""
    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        raise ModelError(
            f"network {name!r} keeps tensor {tensor.name!r} in another file ({where!r}); a bundle's network is one "
            "file, so that its hash covers it all. Store the weights inside: onnx.save(onnx.load(PATH), PATH), or "
            "torch.onnx.export(..., external_data=False)."
        )
    if tensor.data_type not in _TYPES:
        raise ModelError(
            f"network {name!r}: tensor {tensor.name!r} is of ONNX type {tensor.data_type}; livescope takes "
            f"{', '.join(TensorProto.DataType.Name(one) for one in _TYPES)}. Convert it."
        )
    claimed = math.prod(tensor.dims) if min(tensor.dims, default=0) >= 0 else -1
    if tensor.HasField("raw_data"):
        brought = len(tensor.raw_data) / helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    else:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        brought = sum(len(getattr(tensor, field)) for field in fields)
    if claimed != brought:
        raise ModelError(
            f"network {name!r}: tensor {tensor.name!r} claims the shape {tuple(tensor.dims)} but brings {brought:g} "
            "numbers. The file is damaged or was made to harm; get it again from its source."
        )


def _check_growth(model: ModelProto, name: str) -> None:
    """Infer the shape of every value for a large frame: a kilobyte of ConstantOfShape or Tile can ask for terabytes.

    Shapes that depend on what is computed cannot be known beforehand; the runtime refuses those that do not fit.
    """
    sized = ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]  # what the file itself says of its values is no evidence
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        # channels last, as an adapted network may have them: the sides come before them
        last = len(dims) == 4 and dims[1].dim_value not in _CHANNELS and dims[3].dim_value in _CHANNELS
        end = len(dims) - last
        for place, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                dim.dim_value = _SIDE if len(dims) >= 3 and end - 2 <= place < end else 1
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(sized, check_type=True, data_prop=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelError(f"network {name!r} does not fit together: {_short(error)}. Export it anew.") from None
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if math.prod(max(size, 1) for size in sizes) > _MAX_VALUES:
            raise ModelError(
                f"network {name!r}: value {value.name!r} would have the shape {tuple(sizes)} for a frame of {_SIDE} x "
                f"{_SIDE}; livescope takes up to {_MAX_VALUES} numbers. Choose a smaller network."
            )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
