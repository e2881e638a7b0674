"""The whole way from a raw frame to a table of cells as one ONNX graph, built around a network for one frame shape.

Owns what stands before the network (bytes to counts, bin, normalise, pad) and after it (peaks, top K, geometry in raw
pixels). The same graph feeds every backend. Owns neither the statistics (`normalise`) nor the thresholds (`decode`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import compose, parser

from livescope.calls import N_RAYS
from livescope.detect.detector import TABLE_COLUMNS
from livescope.detect.network import NETWORK_OUTPUTS
from livescope.frames import FrameSpec

__all__ = ["NETWORK_INPUT", "NETWORK_MULTIPLE", "STRIDE", "build_frame_graph"]

STRIDE = 4
"""Pixels of the network's input along each axis for one cell of its output maps."""
NETWORK_MULTIPLE = 16
"""The network's input must be a multiple of this along each axis."""
NETWORK_INPUT = "image"
"""Name, within the frame graph, of the normalised image that enters the network."""
_NO_PEAK = -1e30
"""Logit of what is no peak: far below any real one, and finite, as engines treat infinity differently."""
_PREFIX = "net/"
_PEAKS = """
highest = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (logit)
is_peak = Equal (logit, highest)
rank_line = Range (first_rank, last_rank, step)
rank = Reshape (rank_line, map_plane)
peak_rank = Where (is_peak, rank, zero)
highest_rank = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (peak_rank)
is_first = Equal (rank, highest_rank)
peak_logit = Where (is_first, logit, no_peak)
peak_line = Reshape (peak_logit, line)
top_logit, index = TopK <axis = 0> (peak_line, top)
is_real = Greater (top_logit, half_no_peak)
top_score = Sigmoid (top_logit)
real_score = Where (is_real, top_score, zero)
total = ReduceSum <keepdims = 0> (logit)
nothing = Mul (total, zero)
score = Add (real_score, nothing)
"""
"""A peak is a cell of the map not below its eight neighbours. Where several neighbours are equal (flat tops after
saturation, coarse arithmetic) the first in reading order wins: a second pass of the same filter over the ranks.
A map that is not finite makes every score so."""
_CELLS = """
row = Div (index, width)
row_start = Mul (row, width)
column = Sub (index, row_start)
map_row = Mul (row, map_width)
place = Add (map_row, column)
dead_flat = Reshape (dead_logit, dead_line)
dead = Gather <axis = 1> (dead_flat, place)
offset_flat = Reshape (offset_yx, offset_line)
offset_net = Gather <axis = 1> (offset_flat, place)
offset = Mul (offset_net, raw)
radii_last = Transpose <perm = [0, 2, 3, 1]> (radii)
radii_flat = Reshape (radii_last, radii_line)
radii_cells = Gather <axis = 0> (radii_flat, place)
radii_net = Transpose <perm = [1, 0]> (radii_cells)
radii_raw = Mul (radii_net, raw)

row_1 = Unsqueeze (row, first)
column_1 = Unsqueeze (column, first)
cell_yx = Concat <axis = 0> (row_1, column_1)
cell_yx_float = Cast <to = 1> (cell_yx)
corner_yx = Mul (cell_yx_float, pitch)
middle_yx = Add (corner_yx, middle)
centre_yx = Add (middle_yx, offset)
score_1 = Unsqueeze (score, first)
columns = Concat <axis = 0> (score_1, dead, centre_yx, radii_raw)
found = Transpose <perm = [1, 0]> (columns)
table = Pad (found, fill_rows, zero)
"""
"""Dead logit, centre and radii at the peaks, in raw pixels. Radii are gathered with the rays last, as runtimes hold
them: 5 % of a frame in ONNX Runtime, 13 % in OpenVINO."""


@dataclass(frozen=True)
class _Shapes:
    """Rows and columns at each step: raw, binned, padded for the network, and in its maps."""

    spec: FrameSpec
    bin: int

    @property
    def bytes(self) -> int:
        return 2 if self.spec.dtype == "uint16" else 1

    @property
    def binned(self) -> tuple[int, int]:
        return math.ceil(self.spec.height / self.bin), math.ceil(self.spec.width / self.bin)

    @property
    def padded(self) -> tuple[int, int]:
        h, w = (math.ceil(n / NETWORK_MULTIPLE) * NETWORK_MULTIPLE for n in self.binned)
        return h, w

    @property
    def maps(self) -> tuple[int, int]:
        """Map cells that cover the frame; those that lie wholly in the padding are never looked at."""
        h, w = (math.ceil(n / STRIDE) for n in self.binned)
        return h, w


def build_frame_graph(
    network: onnx.ModelProto, spec: FrameSpec, max_cells: int, bin: int, by_convolution: bool = False
) -> onnx.ModelProto:
    """Build the frame graph for frames of one shape.

    Inputs: ``frame`` uint8 (1, H, W, 1), or (1, H, W, 2) for uint16 as its little-endian bytes (TensorRT takes no
    16-bit integers); ``black`` and ``inv_gain`` float32 (1,) from `normalise.levels`. Outputs: ``table`` float32
    (K, 36) as in `detector.Table`; ``foreground`` float32 (h, w), chance that a pixel belongs to a cell, one value for
    each ``4 * bin`` raw pixels.

    Parameters
    ----------
    network
        From `network.read_network`.
    spec
        Shape and type of the raw frames.
    max_cells
        K, the rows of the table.
    bin
        Raw pixels along each axis that are averaged into one pixel of the network's input.
    by_convolution
        How bytes are joined and pixels summed, which runtimes differ in; the result is the same to the last bit.
    """
    shapes = _Shapes(spec, bin)
    header = f'<ir_version: {network.ir_version}, opset_import: ["": {_opset(network)}]>\n'
    before = parser.parse_model(header + _before(shapes, by_convolution))
    after = parser.parse_model(header + _after(shapes, max_cells))
    network = compose.add_prefix(network, _PREFIX)
    graph = compose.merge_models(before, network, io_map=[(NETWORK_INPUT, f"{_PREFIX}image")])
    graph = compose.merge_models(graph, after, io_map=[(_PREFIX + name, name) for name in NETWORK_OUTPUTS])
    graph.producer_name = "livescope"
    used = {name for node in graph.graph.node for name in node.input}
    unused = [tensor for tensor in graph.graph.initializer if tensor.name not in used]
    for tensor in unused:  # of steps that this shape does not need
        graph.graph.initializer.remove(tensor)
    onnx.checker.check_model(graph)
    return graph


def _opset(network: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in network.opset_import if entry.domain in ("", "ai.onnx"))


def _sums(shapes: _Shapes, by_convolution: bool) -> str:
    """Text of the step that joins the two bytes of a pixel and sums the pixels of a bin.

    In ONNX Runtime as a matrix product, 4 ms for 2048 x 2048 uint16 binned 2 x 2 on one CPU core (splitting, shifting
    and average pooling take 35 ms, the convolution 6 ms); in OpenVINO as a convolution, 5 ms (the product takes 12 ms).
    Sums stay below 2**24 up to bins of 16 x 16: exact in float32.
    """
    if shapes.bin * shapes.bytes == 1:
        return "sums = Reshape (filled, plane)"
    if by_convolution:
        sides = f"{shapes.bin}, {shapes.bin * shapes.bytes}"
        return f"""
        interleaved = Reshape (filled, lines)
        sums = Conv <kernel_shape = [{sides}], strides = [{sides}]> (interleaved, kernel)"""
    return """
        binned = Reshape (filled, in_bins)
        bin_columns = ReduceSum <keepdims = 0> (binned, rows)
        bin_sums = MatMul (bin_columns, join)
        sums = Reshape (bin_sums, plane)"""


def _before(shapes: _Shapes, by_convolution: bool) -> str:
    """Text of the graph from bytes to the network's input."""
    spec, k = shapes.spec, shapes.bin
    (h, w), (padded_h, padded_w) = shapes.binned, shapes.padded
    columns = k * shapes.bytes
    join = ", ".join(["1", "256"][: shapes.bytes] * k)
    return f"""
    read_frame (uint8[1, {spec.height}, {spec.width}, {shapes.bytes}] frame, float[1] black, float[1] inv_gain)
        => (float[1, 1, {padded_h}, {padded_w}] {NETWORK_INPUT})
    <
        int64[8] fill_bins = {{0, 0, 0, 0, 0, {h * k - spec.height}, {w * k - spec.width}, 0}},
        int64[4] in_bins = {{{h}, {k}, {w}, {columns}}},
        int64[1] rows = {{1}},
        float[{columns}, 1] join = {{{join}}},
        int64[4] lines = {{1, 1, {h * k}, {w * columns}}},
        float[1, 1, {k}, {columns}] kernel = {{{", ".join([join] * k)}}},
        int64[4] plane = {{1, 1, {h}, {w}}},
        float[1] share = {{{1 / k**2!r}}},
        int64[8] fill = {{0, 0, 0, 0, 0, 0, {padded_h - h}, {padded_w - w}}}
    >
    {{
        values = Cast <to = 1> (frame)
        {_pad("filled", "values", "fill_bins", (h * k, w * k) != spec.shape)}
        {_sums(shapes, by_convolution)}
        counts = Mul (sums, share)
        above_black = Sub (counts, black)
        normal = Mul (above_black, inv_gain)
        {_pad(NETWORK_INPUT, "normal", "fill", (padded_h, padded_w) != (h, w))}
    }}"""


def _after(shapes: _Shapes, max_cells: int) -> str:
    """Text of the graph from the network's maps to the table."""
    (h, w), (map_h, map_w) = shapes.maps, (n // STRIDE for n in shapes.padded)
    cells, all_cells, k = h * w, map_h * map_w, shapes.bin
    rows = min(max_cells, cells)
    maps = ", ".join(
        f"float[1, {n}, {map_h}, {map_w}] {name}" for name, n in zip(NETWORK_OUTPUTS, (1, 1, 1, 2, N_RAYS), strict=True)
    )
    # the middle of a map's cell in network pixels, then in raw pixels, both counted from the middle of the first pixel
    middle = (STRIDE - 1) / 2 * k + (k - 1) / 2
    return f"""
    pick_cells ({maps}) => (float[{max_cells}, {TABLE_COLUMNS}] table, float[{h}, {w}] foreground)
    <
        int64[2] origin = {{0, 0}}, int64[2] extent = {{{h}, {w}}}, int64[2] yx = {{2, 3}},
        float first_rank = {{{cells}}}, float last_rank = {{0}}, float step = {{-1}}, float zero = {{0}},
        int64[4] map_plane = {{1, 1, {h}, {w}}}, int64[1] line = {{{cells}}}, int64[2] area = {{{h}, {w}}},
        float no_peak = {{{_NO_PEAK!r}}}, float half_no_peak = {{{_NO_PEAK / 2!r}}},
        int64[1] top = {{{rows}}}, int64 width = {{{w}}}, int64 map_width = {{{map_w}}},
        int64[2] dead_line = {{1, {all_cells}}}, int64[2] offset_line = {{2, {all_cells}}},
        int64[2] radii_line = {{{all_cells}, {N_RAYS}}},
        int64[1] first = {{0}}, float pitch = {{{STRIDE * k}}}, float middle = {{{middle!r}}}, float raw = {{{k}}},
        int64[4] fill_rows = {{0, 0, {max_cells - rows}, 0}}
    >
    {{
        {_crop("logit", "object_logit", (map_h, map_w) != (h, w))}
        {_PEAKS}
        {_CELLS}
        {_crop("foreground_seen", "foreground_logit", (map_h, map_w) != (h, w))}
        foreground_area = Reshape (foreground_seen, area)
        foreground = Sigmoid (foreground_area)
    }}"""


def _pad(result: str, value: str, widths: str, needed: bool) -> str:
    return f'{result} = Pad <mode = "edge"> ({value}, {widths})' if needed else f"{result} = Identity ({value})"


def _crop(result: str, value: str, needed: bool) -> str:
    return f"{result} = Slice ({value}, origin, extent, yx)" if needed else f"{result} = Identity ({value})"
