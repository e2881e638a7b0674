"""What a network made elsewhere said, as rows of a table: from a class map, or from boxes.

Owns that arithmetic. Running the network is `adapted`, thresholds and states are `decode`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import softmax
from skimage.feature import peak_local_max
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from livescope.calls import ray_angles
from livescope.detect.adapter import Boxes, ClassMap
from livescope.detect.detector import TABLE_COLUMNS
from livescope.detect.refine import rays_within
from livescope.errors import ModelError

__all__ = ["box_rows", "map_rows"]

Rows = NDArray[np.float32]
Outputs = dict[str, NDArray[Any]]
_SLACK = 0.01
"""So far beyond 0 and 1 a chance may lie, from rounding."""
_SUM_SLACK = 1e-3
"""So far from 1 chances may sum."""
_SURE = 1e-4
"""Chances are kept this far from 0 and 1, so that their logits are finite."""


def map_rows(
    adapter: ClassMap,
    output: NDArray[Any],
    size: tuple[int, int],
    shape: tuple[int, int],
    diameter_px: float,
    channels_last: bool = False,
) -> Rows:
    """Find the cells of a class map.

    Parameters
    ----------
    adapter
        What the map means.
    output
        As `ClassMap` describes it.
    size, shape
        (H, W) of the network's input, and of the frame within it: beyond that is padding.
    diameter_px
        Diameter of the smallest usual cells, pixels of the network's input; pieces under a quarter of that cell's area
        are none.
    channels_last
        True where the output is (1, h, w, C).

    Returns
    -------
    (n, 36) float32 rows of `detector.Table`, in pixels of the network's input, in no order.

    Raises
    ------
    ModelError
        The output is of another shape, has too few classes, or holds no such values as the card says.
    """
    if not np.isfinite(output).all():
        return np.full((1, TABLE_COLUMNS), np.nan, np.float32)
    live, dead, other = _class_chances(adapter, output, channels_last)
    pitch = size[0] / max(live.shape[0], 1)
    if pitch != int(pitch) or pitch * live.shape[1] != size[1]:
        raise ModelError(
            f"a class map of {live.shape[0]} x {live.shape[1]} does not fit an input of {size[0]} x {size[1]}; each of "
            "its pixels must stand for a whole number of the input's."
        )
    rows_seen, columns_seen = (math.ceil(n / pitch) for n in shape)
    live, dead, other = (chance[:rows_seen, :columns_seen] for chance in (live, dead, other))
    covered = live + dead + other
    labels = _parted(covered >= 0.5, diameter_px / pitch)
    rows = []
    for region in regionprops(labels):
        y, x = region.coords.T
        n_live, n_dead = float(live[y, x].sum()), float(dead[y, x].sum())
        state = n_dead / (n_live + n_dead) if n_live + n_dead > 0 else 0.5
        centre = np.array(region.centroid)
        if labels[tuple(np.rint(centre).astype(int))] != region.label:  # a crescent: its deepest point
            inside = distance_transform_edt(np.pad(region.image, 1))[1:-1, 1:-1]
            centre = np.array(np.unravel_index(inside.argmax(), inside.shape)) + region.bbox[:2]
        radii = rays_within(labels, region.label, centre.astype(np.float64)) * pitch
        rows.append([float(covered[y, x].mean()), _logit(state), *(centre * pitch + (pitch - 1) / 2), *radii])
    return np.asarray(rows, np.float32).reshape(-1, TABLE_COLUMNS)


def _class_chances(adapter: ClassMap, output: NDArray[Any], channels_last: bool) -> list[NDArray[np.float32]]:
    """Chance of live, dead, and cell of unknown state at each pixel, (h, w) each."""
    classes = adapter.classes
    wanted = (classes.live, classes.dead, classes.cell)
    if adapter.values == "classes":
        numbers = output[..., 0] if channels_last and output.ndim == 4 and output.shape[3] == 1 else output
        if numbers.ndim < 2 or math.prod(numbers.shape[:-2]) != 1:
            raise ModelError(
                f"class numbers of shape {output.shape} were given; livescope needs (1, h, w) or (1, 1, h, w). For "
                "(1, C, h, w) set adapter.values in the card to logits or chances."
            )
        numbers = numbers.reshape(numbers.shape[-2:])
        return [(numbers == index).astype(np.float32) if index is not None else _none(numbers) for index in wanted]
    if output.ndim != 4 or output.shape[0] != 1:
        raise ModelError(f"a class map of shape {output.shape} was given; livescope needs (1, C, h, w).")
    scores = np.moveaxis(output[0], -1, 0) if channels_last else output[0]
    scores = scores.astype(np.float32)
    highest = max(index for index in wanted if index is not None)
    if highest >= len(scores):
        raise ModelError(
            f"adapter.classes names class {highest}, but the network's map has {len(scores)}, counted from 0. "
            "Mend the card."
        )
    _check_values(adapter, scores)
    if adapter.values == "logits":
        # of one logit alone the other class is its absence, of logit 0
        others = np.zeros_like(scores) if len(scores) == 1 else scores[:0]
        scores = softmax(np.concatenate([scores, others]), axis=0)
    return [scores[index] if index is not None else _none(scores[0]) for index in wanted]


def _check_values(adapter: ClassMap, scores: NDArray[np.float32]) -> None:
    """Refuse chances where the card says logits, and logits where it says chances: both would give wrong numbers."""
    low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
    if adapter.values == "chances" and (low < -_SLACK or high > 1 + _SLACK):
        raise ModelError(
            f"the class map holds values from {low:.3g} to {high:.3g}, but chances lie between 0 and 1. Mend the card: "
            "adapter.values: logits, or export the network with its softmax or sigmoid."
        )
    sums_to_one = len(scores) > 1 and scores.size > 0 and bool((np.abs(scores.sum(axis=0) - 1) <= _SUM_SLACK).all())
    if adapter.values == "logits" and low >= 0 and high <= 1 and sums_to_one:
        raise ModelError(
            "the class map holds chances (0 to 1, together 1 at each pixel), but the card says logits. Mend the card: "
            "adapter.values: chances."
        )


def _none(like: NDArray[Any]) -> NDArray[np.float32]:
    return np.zeros(like.shape, np.float32)


def _parted(covered: NDArray[np.bool_], diameter: float) -> NDArray[np.int32]:
    """Label the cells of a mask: pieces, parted where they are wide at several places; small pieces are left out."""
    depth = distance_transform_edt(np.pad(covered, 1, mode="edge"))[1:-1, 1:-1]
    reach = max(1, round(diameter / 3))
    peaks = peak_local_max(depth, min_distance=reach, labels=label(covered), exclude_border=False)
    is_peak = np.zeros(covered.shape, bool)
    is_peak[tuple(peaks.T)] = True
    seeds = label(is_peak, connectivity=2)  # a flat top is one peak
    labels: NDArray[np.int32] = watershed(-depth, seeds, mask=covered).astype(np.int32)
    area = np.bincount(labels.ravel())
    labels[(area < math.pi * diameter**2 / 16)[labels]] = 0
    return labels


def box_rows(adapter: Boxes, outputs: Outputs, size: tuple[int, int]) -> Rows:
    """Turn boxes into rows: the outline is the ellipse of the box, the score is that of the network.

    A box of class live or dead with score s has the chance (1 + s) / 2 of its class, so that weak ones end up between
    the card's lines for uncertain.

    Parameters
    ----------
    adapter
        What the outputs mean.
    outputs
        Of the network, by name.
    size
        (H, W) of the network's input.

    Returns
    -------
    (n, 36) float32 rows of `detector.Table`, in pixels of the network's input, in no order.

    Raises
    ------
    ModelError
        The outputs are of other shapes, or scores of cells are no chances.
    """
    if adapter.detections:
        table = _columns(outputs[adapter.detections], 6)
        boxes, scores, numbers = table[:, :4], table[:, 4], table[:, 5]
    else:
        names = [str(name) for name in (adapter.boxes, adapter.scores, adapter.labels)]
        boxes = _columns(outputs[names[0]], 4)
        scores, numbers = (outputs[name].reshape(-1).astype(np.float32) for name in names[1:])
        if not len(boxes) == len(scores) == len(numbers):
            raise ModelError(f"the network gave {len(boxes)} boxes, {len(scores)} scores and {len(numbers)} classes.")
    classes = adapter.classes
    known = [index for index in (classes.live, classes.dead, classes.cell) if index is not None]
    kept = np.isin(numbers, known) | ~np.isfinite(numbers)
    boxes, scores, numbers = boxes[kept], scores[kept], numbers[kept]
    finite = scores[np.isfinite(scores)]
    if len(finite) and not -_SLACK <= finite.min() <= finite.max() <= 1 + _SLACK:
        raise ModelError(
            f"the boxes have scores from {finite.min():.3g} to {finite.max():.3g}; livescope needs chances, 0 to 1. "
            "Export the network with its softmax or sigmoid, or divide percentages by 100 in it."
        )
    if adapter.unit == "parts":
        boxes = boxes * np.array([size[1], size[0], size[1], size[0]], np.float32)
    half = np.maximum((boxes[:, [3, 2]] - boxes[:, [1, 0]]) / 2, 0.5)
    centres = (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2 - 0.5  # from edges of pixels to their middles
    sure = np.zeros(len(boxes), np.float32)
    for sign, index in ((-1, classes.live), (1, classes.dead)):
        if index is not None:
            sure[numbers == index] = sign
    logits = _logit(0.5 + sure * np.clip(scores, 0, 1) / 2)
    angles = ray_angles()
    radii = 1 / np.hypot(np.sin(angles) / half[:, :1], np.cos(angles) / half[:, 1:])
    return np.concatenate([scores[:, None], logits[:, None], centres, radii], axis=1).astype(np.float32)


def _columns(output: NDArray[Any], columns: int) -> NDArray[np.float32]:
    table = output[0] if output.ndim == 3 and len(output) == 1 else output
    if table.ndim != 2 or table.shape[1] != columns:
        raise ModelError(
            f"boxes of shape {output.shape} were given; livescope needs (n, {columns}) or (1, n, {columns})."
        )
    return table.astype(np.float32)


def _logit(chance: Any) -> Any:
    chance = np.clip(chance, _SURE, 1 - _SURE)
    return np.log(chance / (1 - chance))
