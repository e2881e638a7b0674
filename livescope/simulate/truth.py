"""The ground truth of a simulated frame, in the conventions of `livescope.calls.CellCalls`.

Owns `Truth` and how a culture seen through a view becomes one. Does not draw (`optics`) and does not know cores
(`camera`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from livescope.calls import State, ray_angles
from livescope.simulate.culture import REACH_UM, Appearance, Culture

__all__ = ["Truth", "View", "cells_near_view", "truth_of_view"]

Floats = NDArray[np.float32]


@dataclass(slots=True, frozen=True)
class View:
    """The rectangle of the culture that a frame shows, on the grid of camera pixels.

    Attributes
    ----------
    y_px, x_px
        Row and column of the culture's pixel grid that lies under the frame's top left pixel.
    height, width
        Rows and columns.
    """

    y_px: int
    x_px: int
    height: int
    width: int


@dataclass(slots=True, frozen=True)
class Truth:
    """What is really in a frame: every cell of which some part lies in it, n rows.

    Attributes
    ----------
    minute
        Simulated time of the frame.
    y_px, x_px
        (n,) float32, centres; (0, 0) is the centre of the top left pixel. A centre may lie outside the frame: see
        `in_frame`.
    radii_px
        (n, 32) float32 along `livescope.calls.ray_angles`.
    state
        (n,) uint8, `State.LIVE` or `State.DEAD`.
    death_minutes
        (n,) float32, simulated time of death, NaN for a living cell. Negative: dead before the start.
    cell_id
        (n,) int64, the same cell in every frame; daughters get new ones.
    visible
        (n,) float32, part of the cell's area that lies in the frame, 0..1.
    """

    minute: float
    y_px: Floats
    x_px: Floats
    radii_px: Floats
    state: NDArray[np.uint8]
    death_minutes: Floats
    cell_id: NDArray[np.int64]
    visible: Floats
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.y_px)

    def select(self, rows: NDArray[np.bool_]) -> Self:
        """Return the truth of some rows only."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: v[rows] if isinstance(v, np.ndarray) else v for name, v in values.items()}
        return type(self)(**chosen)

    def in_frame(self) -> Self:
        """Return the cells whose centre lies on a pixel of the frame: those that a detector is asked to find."""
        inside = (self.y_px >= -0.5) & (self.y_px < self.height - 0.5)
        return self.select(inside & (self.x_px >= -0.5) & (self.x_px < self.width - 0.5))


def cells_near_view(
    culture: Culture, minute: float, view: View, pixel_um: float
) -> tuple[Appearance, NDArray[np.float64], NDArray[np.float64]]:
    """Return the cells that may reach into a view, and their centres (n,) y and x in pixels of the view."""
    shown = culture.shown(minute)
    reach = REACH_UM / pixel_um
    near = np.ones(len(shown), bool)
    placed = []
    for centre_um, origin_px, size in ((shown.y_um, view.y_px, view.height), (shown.x_um, view.x_px, view.width)):
        middle = (size - 1) / 2
        offset = centre_um / pixel_um - origin_px - middle
        # of a cell's images on the joined square the one nearest the view
        placed.append(offset - culture.side_px * np.round(offset / culture.side_px) + middle)
        near &= (placed[-1] > -reach) & (placed[-1] < size - 1 + reach)
    return shown.select(near), placed[0][near], placed[1][near]


def truth_of_view(culture: Culture, minute: float, view: View, pixel_um: float) -> Truth:
    """Return the truth of a view of a culture at a simulated minute."""
    shown, y, x = cells_near_view(culture, minute, view, pixel_um)
    radii = culture.radii_um(shown, ray_angles()) / pixel_um
    visible = _visible(y, x, radii, view)
    truth = Truth(
        minute=minute,
        y_px=y.astype(np.float32),
        x_px=x.astype(np.float32),
        radii_px=radii.astype(np.float32),
        state=np.where(shown.dead, State.DEAD, State.LIVE).astype(np.uint8),
        death_minutes=shown.death_minute.astype(np.float32),
        cell_id=shown.cell,
        visible=visible,
        height=view.height,
        width=view.width,
    )
    return truth.select(visible > 0)


def _visible(y: NDArray[np.float64], x: NDArray[np.float64], radii: NDArray[np.float64], view: View) -> Floats:
    """Part of each star-convex outline inside the frame, from 8 points a ray that share its sector's area equally."""
    part = np.sqrt((np.arange(8) + 0.5) / 8)[None, None, :]
    angles = ray_angles()[None, :, None]
    at_y = y[:, None, None] + radii[:, :, None] * part * np.sin(angles)
    at_x = x[:, None, None] + radii[:, :, None] * part * np.cos(angles)
    inside = (at_y >= -0.5) & (at_y < view.height - 0.5) & (at_x >= -0.5) & (at_x < view.width - 0.5)
    weight = radii**2
    fraction: Floats = ((inside.mean(axis=2) * weight).sum(axis=1) / weight.sum(axis=1)).astype(np.float32)
    return fraction
