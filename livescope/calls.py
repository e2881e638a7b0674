"""What livescope says of the cells in a frame: one row a cell, and the viability that follows.

Owns `State`, `CellCalls` and `Viability` as data. How they are computed lies in `detect` and `assay`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from livescope.frames import Frame

__all__ = ["N_RAYS", "Analysis", "CellCalls", "ErrorRates", "Fates", "State", "Viability", "ray_angles"]

N_RAYS = 32
"""Rays of an outline."""

Floats = NDArray[np.float32]


class State(IntEnum):
    """The call for one cell. The numbers are the pixel values of `labels/viability` in the record (0 = background)."""

    LIVE = 1
    DEAD = 2
    UNCERTAIN = 3

    @property
    def label(self) -> str:
        """``"live"``, ``"dead"`` or ``"uncertain"``: the word used in tables and windows."""
        return self.name.lower()


def ray_angles(n_rays: int = N_RAYS) -> NDArray[np.float64]:
    """Angles of an outline's rays, (n,) radians: ray k points to (x + r cos a, y + r sin a), y downwards."""
    return 2.0 * np.pi * np.arange(n_rays) / n_rays


@dataclass(slots=True, frozen=True)
class CellCalls:
    """The cells of one analysed frame, n rows.

    An analysed frame with no cell has n = 0; a frame that was not analysed has no CellCalls.

    Attributes
    ----------
    frame_index
        `Frame.index` of the frame.
    y_px, x_px
        (n,) float32, cell centres in pixels of the raw frame; (0, 0) is the centre of the top left pixel.
    radii_px
        (n, 32) float32, distance from the centre to the outline along `ray_angles`, pixels of the raw frame.
    p_cell, p_dead
        (n,) float32 in 0..1: that it is a cell, and (calibrated) that it is dead.
    state
        (n,) uint8 of `State`.
    area_px
        (n,) float32, area of the star-convex outline, square pixels.
    pixel_um
        Micrometres a pixel, None where unknown; `area_um2` follows.
    edge
        (n,) bool, True where the outline touches the frame's border: its area is not whole.
    track
        (n,) int64, identity over frames; -1 where cells were not linked.
    saturated
        True if the table was full: there were as many cells as rows, or more, and the counts are a lower bound.
    """

    frame_index: int
    y_px: Floats
    x_px: Floats
    radii_px: Floats
    p_cell: Floats
    p_dead: Floats
    state: NDArray[np.uint8]
    area_px: Floats
    edge: NDArray[np.bool_]
    track: NDArray[np.int64]
    pixel_um: float | None = None
    saturated: bool = False

    def __len__(self) -> int:
        return len(self.y_px)

    @property
    def area_um2(self) -> Floats:
        """(n,) float32, area in square micrometres; NaN where the pixel size is unknown."""
        scale = np.nan if self.pixel_um is None else self.pixel_um**2
        return (self.area_px * np.float32(scale)).astype(np.float32)

    def count(self, state: State) -> int:
        """Cells called `state`."""
        return int(np.count_nonzero(self.state == state))

    def select(self, rows: NDArray[np.bool_]) -> Self:
        """Return the calls of some rows only."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: v[rows] if isinstance(v, np.ndarray) else v for name, v in columns.items()}
        return type(self)(**chosen)

    def outlines_yx(self) -> Floats:
        """(n, 32, 2) float32, vertices (y, x) of the outlines in pixels of the raw frame."""
        angles = ray_angles(self.radii_px.shape[1])
        y = self.y_px[:, None] + self.radii_px * np.sin(angles)
        x = self.x_px[:, None] + self.radii_px * np.cos(angles)
        return np.stack([y, x], axis=-1).astype(np.float32)


@dataclass(slots=True, frozen=True)
class Fates:
    """What is known of the cells of one frame after all frames so far; n rows, those of the calls.

    Attributes
    ----------
    p_dead
        (n,) float32, posterior.
    state
        (n,) uint8 of `State`, from the posterior.
    death_s, death_low_s, death_high_s
        (n,) float64, time of death on the frames' clock (`Frame.time_s`): median and 90 % interval, NaN where the
        cell lives or was dead when first seen.
    death_frame, death_low_frame, death_high_frame
        The same as (fractional) `Frame.index`.
    arrived_dead
        (n,) bool, dead when first seen: its time of death is unknown.
    declared
        (n,) bool, declared dead, in this frame or before, and not taken back since: what rules and the live view count.
    resurrected
        (n,) bool, declared dead before and now alive again: the model or the linking erred.
    died
        Tracks declared dead in this frame that were seen alive.
    """

    p_dead: NDArray[np.float32]
    state: NDArray[np.uint8]
    death_s: NDArray[np.float64]
    death_low_s: NDArray[np.float64]
    death_high_s: NDArray[np.float64]
    death_frame: NDArray[np.float64]
    death_low_frame: NDArray[np.float64]
    death_high_frame: NDArray[np.float64]
    arrived_dead: NDArray[np.bool_]
    declared: NDArray[np.bool_]
    resurrected: NDArray[np.bool_]
    died: tuple[int, ...]

    def apply(self, calls: CellCalls) -> CellCalls:
        """Return the calls with p_dead and state of all frames so far in place of those of one frame."""
        return replace(calls, p_dead=self.p_dead, state=self.state)


class ErrorRates(NamedTuple):
    """How often a model calls the state right, and how many cells that was measured on.

    Attributes
    ----------
    sensitivity, n_live
        Chance that a live cell is called live, and the live cells it was estimated from.
    specificity, n_dead
        Chance that a dead cell is called dead, and the dead cells it was estimated from.
    """

    sensitivity: float
    n_live: int
    specificity: float
    n_dead: int


@dataclass(slots=True, frozen=True)
class Viability:
    """How many cells live, with its uncertainty: never a bare percentage.

    Attributes
    ----------
    n_live, n_dead, n_uncertain
        Counts of calls.
    fraction, low, high
        Live / (live + dead) with its 95 % interval, NaN where no cell was called. Uncertain cells are left out.
    corrected, corrected_low, corrected_high
        The fraction corrected for the model's own sensitivity and specificity (Rogan and Gladen 1978), and its 95 %
        interval, which has their uncertainty in it (Lang and Reiczigel 2014). None where the model's card does not
        state them, where it is no better than chance, or where no cell was called.
    """

    n_live: int
    n_dead: int
    n_uncertain: int
    fraction: float
    low: float
    high: float
    corrected: float | None = None
    corrected_low: float | None = None
    corrected_high: float | None = None


@dataclass(slots=True, frozen=True)
class Analysis:
    """One analysed frame: the picture, its cells, and what follows for the culture.

    Attributes
    ----------
    frame, calls
        The frame and its cells, called from this frame alone.
    viability
        Of these calls.
    fates
        What all frames so far say of the same cells, None where cells are not followed.
    shift
        How far the newest frame looked at is from the model's training, parts of what is usual there: above 1 it does
        not look like it. None where nobody looks, or the model's card does not say how its training looked.
    """

    frame: Frame
    calls: CellCalls
    viability: Viability
    fates: Fates | None = None
    shift: float | None = None
