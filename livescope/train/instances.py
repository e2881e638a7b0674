"""Label images against label images: how many cells are outlined as well as a scorer asks.

Owns the overlap of two label images and the F1 of instances. Centres and states are scored in `scoring`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from skimage.draw import polygon

__all__ = ["Instances", "match_instances", "painted"]


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
