"""Label images against label images: how many cells are outlined as well as a scorer asks.

Owns the overlap of two label images and the F1 of instances. Centres and states are scored in `scoring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from skimage.draw import polygon

from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle
from livescope.detect.refine import Outliner
from livescope.frames import Frame
from livescope.train.data import Field
from livescope.train.scoring import bootstrap_interval

__all__ = ["Instances", "match_instances", "outline_scores", "painted"]

_RESAMPLES = 1000


@dataclass(slots=True, frozen=True)
class Instances:
    """Cells of two label images that were matched one to one; add those of several fields up.

    Attributes
    ----------
    matched
        Pairs with at least the asked overlap.
    marked, called
        Cells of the truth, and of the calls.
    """

    matched: int = 0
    marked: int = 0
    called: int = 0

    def __add__(self, other: Instances) -> Instances:
        return Instances(self.matched + other.matched, self.marked + other.marked, self.called + other.called)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where neither image holds a cell."""
        both = self.marked + self.called
        return 2 * self.matched / both if both else float("nan")


def match_instances(truth: NDArray[np.integer], called: NDArray[np.integer], least_iou: float = 0.5) -> Instances:
    """Match the cells of two label images (0 is background) where intersection over union is at least `least_iou`.

    Parameters
    ----------
    truth, called
        (H, W) of integers; values need not be consecutive.
    least_iou
        Above 0.5 a pair is unique by itself; at or below it, the pairing with most matches counts.
    """
    true_ids, true_flat = np.unique(truth, return_inverse=True)
    ids, flat = np.unique(called, return_inverse=True)
    both = np.bincount(true_flat.ravel() * len(ids) + flat.ravel(), minlength=len(true_ids) * len(ids))
    both = both.reshape(len(true_ids), len(ids))
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    iou = (both / union)[np.ix_(true_ids != 0, ids != 0)]
    good = iou >= least_iou
    rows, columns = linear_sum_assignment(good, maximize=True)
    return Instances(int(good[rows, columns].sum()), *iou.shape)


def painted(contours_yx: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Fill closed outlines (n, v, 2) into a label image (H, W): row k has value k + 1, later rows lie on top."""
    labels = np.zeros(shape, np.int32)
    for value, contour in enumerate(contours_yx, 1):
        labels[polygon(contour[:, 0], contour[:, 1], shape)] = value
    return labels


def outline_scores(
    bundle: Bundle, fields: Sequence[Field], calls: Sequence[CellCalls], pixel_um: float | None
) -> dict[str, Any] | None:
    """Score the outlines of fields' calls, those of the rays and the refined ones, at an IoU of 0.5.

    Parameters
    ----------
    bundle
        The model that called them.
    fields, calls
        Fields whose contours are those of cells (not boxes, not nuclei), and their calls.
    pixel_um
        Micrometres a pixel of the fields.

    Returns
    -------
    ``{"rays": {"value": F1, "interval": (low, high)}, "refined": ...}``, intervals (95 %) or None by resampling groups,
    see `livescope.train.scoring.bootstrap_interval`; None where no field is wholly labelled, and without ``refined``
    for a model made elsewhere.
    """
    outliner = Outliner(bundle) if bundle.card.adapter is None else None
    counts: dict[str, dict[str, Instances]] = {}
    for field, found in zip(fields, calls, strict=True):
        if field.visible_only or field.known is not None:
            continue
        shape = field.pixels.shape
        truth = painted(field.contours_yx, shape)
        drawn = {"rays": painted(found.outlines_yx()[::-1], shape)}  # the surest, which come first, on top
        if outliner is not None:
            bit_depth = 8 * field.pixels.dtype.itemsize
            drawn["refined"] = outliner(
                Frame(field.pixels, 0, 0, "field", 0.0, 0.0, bit_depth, pixel_um=pixel_um), found
            )
        for kind, labels in drawn.items():
            by_group = counts.setdefault(kind, {})
            by_group[field.group] = by_group.get(field.group, Instances()) + match_instances(truth, labels)
    return {kind: _with_interval(list(by_group.values())) for kind, by_group in counts.items()} or None


def _with_interval(groups: Sequence[Instances]) -> dict[str, Any]:
    rows = np.array([[one.matched, one.marked + one.called] for one in groups])
    value = float(2 * rows[:, 0].sum() / max(rows[:, 1].sum(), 1))
    drawn = rows[np.random.default_rng(0).integers(0, len(rows), (_RESAMPLES, len(rows)))].sum(axis=1)
    f1 = 2 * drawn[:, 0] / np.where(drawn[:, 1], drawn[:, 1], np.nan)
    return {"value": value, "interval": bootstrap_interval(value, f1, len(rows))}
