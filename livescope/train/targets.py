"""What the network should answer: maps and sparse positives computed from marked cells.

Owns the encoding of centres, contours and states at the network's stride. The losses that compare lie in `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.draw import polygon
from torch import Tensor

from livescope.calls import N_RAYS, State, ray_angles
from livescope.train.examples import Cells
from livescope.train.network import STRIDE

__all__ = ["Targets", "encode", "radii_from"]

_FIRST = (STRIDE - 1) / 2
"""Pixel coordinate of the centre of stride cell 0."""
_SIGMA = 0.16
"""Width of a centre's Gaussian as a part of the square root of the cell's area (first trial, facts of the project)."""
_POSITIVE = 0.35
"""Positions with a Gaussian above this learn state, offset and radii; the decoder reads only at the peak."""


@dataclass(slots=True, frozen=True)
class Targets:
    """Targets of a batch.

    Attributes
    ----------
    heat
        (N, 1, h, w), 1 at a cell's centre, Gaussian around it.
    foreground
        (N, 1, h, w), 1 where a cell covers the stride cell's centre.
    known
        (N, 1, h, w), 0 where labels say nothing (cells centred outside, places where not every cell is marked).
    where
        (m, 3) int64: sample, row, column of each positive position.
    share
        (m,) weight; the positions of one cell sum to 1.
    offset_yx, radii
        (m, 2) and (m, 32) pixels.
    dead
        (m,) 1 dead, 0 live, -1 unknown.
    state_weight
        (m,) what the position's cell counts in the state's loss.
    cells
        Number of cells centred on the canvases.
    """

    heat: Tensor
    foreground: Tensor
    known: Tensor
    where: Tensor
    share: Tensor
    offset_yx: Tensor
    radii: Tensor
    dead: Tensor
    state_weight: Tensor
    cells: int

    def to(self, device: torch.device) -> Targets:
        """Return the same on a device."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "cells"}
        return replace(self, **moved)


def radii_from(points_yx: NDArray[np.float32], contours_yx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances from points to the first crossing of their contours along the rays.

    Parameters
    ----------
    points_yx
        (m, 2) pixels, each inside its contour.
    contours_yx
        (m, v, 2) pixels, one contour a point.

    Returns
    -------
    (m, 32) float32; NaN where a ray meets no edge (the point lies outside).
    """
    start = contours_yx - points_yx[:, None]
    edge = np.roll(start, -1, axis=1) - start
    angles = ray_angles()
    ray_y, ray_x = (f(angles).astype(np.float32)[None, :, None] for f in (np.sin, np.cos))
    start_y, start_x, edge_y, edge_x = (
        a[:, None, :] for a in (start[..., 0], start[..., 1], edge[..., 0], edge[..., 1])
    )
    # t * ray = start + u * edge, by Cramer's rule
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = ray_x * edge_y - ray_y * edge_x
        t = (start_x * edge_y - start_y * edge_x) / determinant
        u = (start_x * ray_y - start_y * ray_x) / determinant
    t = np.where((u >= -1e-5) & (u <= 1 + 1e-5) & (t > 0), t, np.inf)
    nearest = t.min(axis=2)
    return np.where(np.isfinite(nearest), nearest, np.nan).astype(np.float32)


def _area(contours_yx: NDArray[np.float32]) -> NDArray[np.float32]:
    y, x = contours_yx[..., 0], contours_yx[..., 1]
    area: NDArray[np.float32] = np.abs((y * np.roll(x, -1, 1) - x * np.roll(y, -1, 1)).sum(1)) / 2
    return area


@dataclass(slots=True, frozen=True)
class _One:
    heat: NDArray[np.float32]
    foreground: NDArray[np.float32]
    known: NDArray[np.float32]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    owner: NDArray[np.int64]
    share: NDArray[np.float32]


def _maps(cells: Cells, speaks: NDArray[np.float32] | None, height: int, width: int) -> _One:
    n = len(cells.centres_yx)
    foreground = np.zeros((height, width), np.float32)
    known = np.ones((height, width), np.float32)
    if speaks is not None:
        known = (speaks.reshape(height, STRIDE, width, STRIDE).min(axis=(1, 3)) > 0.5).astype(np.float32)
    index = np.rint((cells.centres_yx - _FIRST) / STRIDE).astype(np.int64)
    inside = np.all((index >= 0) & (index < (height, width)), axis=1)
    coarse = (cells.contours_yx - _FIRST) / STRIDE
    for k in range(n):
        covered = polygon(coarse[k, :, 0], coarse[k, :, 1], (height, width))
        foreground[covered] = 1.0
        known[covered] = float(inside[k])
    sigma = np.maximum(_SIGMA * np.sqrt(_area(cells.contours_yx)) / STRIDE, 0.6)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    square = (y - index[:, 0, None, None]) ** 2 + (x - index[:, 1, None, None]) ** 2
    gauss = np.exp(-square / (2 * sigma[:, None, None] ** 2)) * inside[:, None, None]
    owner = gauss.argmax(axis=0) if n else np.zeros((height, width), np.int64)
    heat = gauss.max(axis=0) if n else np.zeros((height, width), np.float32)
    rows, columns = np.nonzero(heat > _POSITIVE)
    owner, share = owner[rows, columns], heat[rows, columns]
    total = np.bincount(owner, share, minlength=max(n, 1))
    return _One(heat, foreground, known, rows, columns, owner, (share / total[owner]).astype(np.float32))


def encode(
    batch: Sequence[Cells],
    height_px: int,
    width_px: int,
    known: Sequence[NDArray[np.float32] | None] | None = None,
) -> Targets:
    """Compute the targets of a batch of canvases.

    Parameters
    ----------
    batch
        Marked cells of each canvas, in pixels of the network's input.
    height_px, width_px
        Size of the canvases, multiples of 16.
    known
        (height_px, width_px) of each canvas, above 0.5 where labels speak; None: everywhere.
    """
    height, width = height_px // STRIDE, width_px // STRIDE
    speaks = known or [None] * len(batch)
    ones = [_maps(cells, one, height, width) for cells, one in zip(batch, speaks, strict=True)]
    where, offsets, radii, dead, state_weight = [], [], [], [], []
    for number, (one, cells) in enumerate(zip(ones, batch, strict=True)):
        points = np.stack([one.rows, one.columns], axis=1) * STRIDE + np.float32(_FIRST)
        where.append(np.stack([np.full_like(one.rows, number), one.rows, one.columns], axis=1))
        offsets.append(cells.centres_yx[one.owner] - points if len(points) else np.zeros((0, 2)))
        radii.append(
            radii_from(points.astype(np.float32), cells.contours_yx[one.owner])
            if len(points)
            else np.zeros((0, N_RAYS))
        )
        code = np.full(256, -1.0, np.float32)
        code[State.LIVE], code[State.DEAD] = 0.0, 1.0
        dead.append(code[cells.state[one.owner]] if len(points) else np.zeros(0))
        weight = np.ones(len(cells.state)) if cells.state_weight is None else cells.state_weight
        state_weight.append(weight[one.owner] if len(points) else np.zeros(0))
    return Targets(
        heat=_stack(one.heat for one in ones),
        foreground=_stack(one.foreground for one in ones),
        known=_stack(one.known for one in ones),
        where=torch.from_numpy(np.concatenate(where)),
        share=torch.from_numpy(np.concatenate([one.share for one in ones])),
        offset_yx=torch.from_numpy(np.concatenate(offsets).astype(np.float32)),
        radii=torch.from_numpy(np.concatenate(radii).astype(np.float32)),
        dead=torch.from_numpy(np.concatenate(dead).astype(np.float32)),
        state_weight=torch.from_numpy(np.concatenate(state_weight).astype(np.float32)),
        cells=sum(len(np.unique(one.owner)) for one in ones),
    )


def _stack(maps: object) -> Tensor:
    return torch.from_numpy(np.stack(list(maps))[:, None].astype(np.float32))  # type: ignore[call-overload]
