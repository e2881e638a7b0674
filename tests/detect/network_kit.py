"""Small real networks, written as ONNX text, whose answers are known exactly; and frames to look at with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import parser

from livescope.detect.bundle import Bundle, Card, load_bundle, write_card
from livescope.detect.normalise import Background, Normalisation
from livescope.frames import Frame

ECHO = """
<ir_version: 10, opset_import: ["": 20]>
echo (float[1, 1, H, W] image) => (
    float[1, 1, h, w] object_logit, float[1, 1, h, w] foreground_logit, float[1, 1, h, w] dead_logit,
    float[1, 2, h, w] offset_yx, float[1, 32, h, w] radii
) <
    int64[2] p0 = {0, 0}, int64[2] p1 = {1, 1}, int64[2] p2 = {2, 2}, int64[2] p3 = {3, 3},
    int64[2] end = {99999, 99999}, int64[2] yx = {2, 3}, int64[2] step = {4, 4},
    float half = {0.5}, int64[4] rays = {1, 32, 1, 1}
> {
    object_logit = Slice (image, p0, end, yx, step)
    foreground_logit = Slice (image, p1, end, yx, step)
    dead_logit = Slice (image, p2, end, yx, step)
    corner = Slice (image, p3, end, yx, step)
    offset_y = Mul (corner, half)
    offset_x = Neg (offset_y)
    offset_yx = Concat <axis = 1> (offset_y, offset_x)
    size = Abs (corner)
    radii = Tile (size, rays)
}
"""
"""Echoes pixels of each 4 x 4 block: (0, 0) object logit, (1, 1) foreground, (2, 2) dead, (3, 3) offset and radii."""

BLOBS = """
<ir_version: 10, opset_import: ["": 20]>
blobs (float[1, 1, H, W] image) => (
    float[1, 1, h, w] object_logit, float[1, 1, h, w] foreground_logit, float[1, 1, h, w] dead_logit,
    float[1, 2, h, w] offset_yx, float[1, 32, h, w] radii
) <
    float[1] gain = {20}, float[1] bias = {-7}, float[1] one = {1}, float[1] six = {6},
    int64[4] pair = {1, 2, 1, 1}, int64[4] rays = {1, 32, 1, 1}, float[1] zero = {0}
> {
    matched = Conv <kernel_shape = [17, 17], pads = [7, 7, 8, 8], strides = [4, 4]> (image, filter)
    strength = Abs (matched)
    scaled = Mul (strength, gain)
    object_logit = Add (scaled, bias)
    foreground_logit = Add (scaled, bias)
    negative = Neg (matched)
    dead_logit = Mul (negative, gain)
    nothing = Mul (matched, zero)
    offset_yx = Tile (nothing, pair)
    flat = Add (nothing, six)
    radii = Tile (flat, rays)
}
"""
"""A matched filter for discs of radius 6: bright ones are live, dark ones dead."""


def blob_network() -> onnx.ModelProto:
    """`BLOBS` with its filter: zero mean, so that flat light gives nothing; centred on the stride cell's middle."""
    model = parser.parse_model(BLOBS)
    y, x = np.mgrid[:17, :17] - 8.5
    disc = (np.hypot(y, x) < 6).astype(np.float32)
    disc = (disc - disc.mean()) / disc.sum()
    model.graph.initializer.append(onnx.numpy_helper.from_array(disc[None, None], "filter"))
    return model


def make_bundle(
    folder: Path, network: onnx.ModelProto, normalisation: Normalisation | None = None, **card: object
) -> Bundle:
    """Store a network with its card, and load it as a user would."""
    path = folder / "kit.onnx"
    path.write_bytes(network.SerializeToString())
    entries: dict[str, object] = {
        "name": "kit",
        "version": "1",
        "licence": "BSD-3-Clause",
        "trained_on": "nothing: written by hand",
        "modality": "synthetic",
        "pixel_um": 1.0,
        "cell_diameter_px": (10.0, 14.0),
        "normalisation": (normalisation or Background(contrast=0.5)).model_dump(),
        "p_cell": 0.5,
        "uncertain": (0.4, 0.6),
        "validation": (),
        "limits": "discs of radius 6 only",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_card(Card.model_validate(entries | card), path)
    return load_bundle(path)


def disc_frame(
    live_yx: list[tuple[int, int]], dead_yx: list[tuple[int, int]], shape: tuple[int, int], dtype: str = "uint16"
) -> np.ndarray:
    """Bright and dark discs of radius 6 on a flat field."""
    level = 1000 if dtype == "uint16" else 100
    frame = np.full(shape, level, np.float64)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for centres, factor in ((live_yx, 1.5), (dead_yx, 0.5)):
        for cy, cx in centres:
            frame[np.hypot(y - cy, x - cx) < 6] = factor * level
    return frame.astype(dtype)


def as_frame(pixels: np.ndarray, index: int = 0, pixel_um: float | None = 1.0) -> Frame:
    """Wrap pixels as a camera would: nobody may write into them any more."""
    pixels = pixels.view()
    pixels.flags.writeable = False
    return Frame(pixels, index, 0, "Camera", 0.0, 0.0, 8 * pixels.dtype.itemsize, pixel_um=pixel_um)
