"""From a backend's table to calls: threshold, suppression, calibration, states, areas.

Owns every decision that is not the network's. Knows no backend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from livescope.calls import N_RAYS, CellCalls, State
from livescope.detect.bundle import Card
from livescope.detect.detector import Table
from livescope.errors import BackendError
from livescope.frames import FrameSpec
from livescope.settings import DetectorSettings

__all__ = ["decode"]


def decode(table: Table, spec: FrameSpec, card: Card, settings: DetectorSettings) -> CellCalls:
    """Turn a table into the calls of one frame.

    Parameters
    ----------
    table
        What the backend returned.
    spec
        Shape and pixel size of the frame.
    card
        Thresholds and temperature of the model.
    settings
        May override the card's thresholds.

    Raises
    ------
    BackendError
        The table holds numbers that are not finite: the network or the device has failed.
    """
    threshold = card.p_cell if settings.p_cell is None else settings.p_cell
    # a row without a peak has score 0, also where the threshold is 0
    wanted = (table.rows[:, 0] >= threshold) & (table.rows[:, 0] > 0)
    rows = table.rows[wanted | ~np.isfinite(table.rows[:, 0])]
    if not np.isfinite(rows).all():
        raise BackendError(
            f"model {card.name!r} returned numbers that are not finite for frame {table.frame_index}; another "
            "precision or backend may do (detector.backend)."
        )
    y, x = rows[:, 2], rows[:, 3]
    # a centre in the padding or beyond the border is a cell of the neighbouring field
    rows = rows[(y >= -0.5) & (y < spec.height - 0.5) & (x >= -0.5) & (x < spec.width - 0.5)]
    rows = rows[_strongest(rows)]
    p_dead = _sigmoid(rows[:, 1] / np.float32(card.temperature))
    radii = rows[:, 4 : 4 + N_RAYS]
    calls = CellCalls(
        frame_index=table.frame_index,
        y_px=rows[:, 2].copy(),
        x_px=rows[:, 3].copy(),
        radii_px=radii.copy(),
        p_cell=rows[:, 0].copy(),
        p_dead=p_dead,
        state=_states(p_dead, settings.uncertain or card.uncertain),
        area_px=_areas(radii),
        edge=np.zeros(len(rows), bool),
        track=np.full(len(rows), -1, np.int64),
        pixel_um=spec.pixel_um,
        saturated=bool(wanted.all()),
    )
    _mark_edge(calls, spec)
    return calls


def _strongest(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark rows that lie in no stronger kept one; rows come sorted by falling score.

    A peak nearer to a stronger one than that one's median radius lies in it, and is the same cell. (Nearer than 0.8 of
    it was the rule once: of the calls on MCF-7, whose nuclei are large, 7 % were second ones of a nucleus.)
    """
    kept = np.ones(len(rows), bool)
    if len(rows) < 2:
        return kept
    centres = rows[:, 2:4]
    reach = np.median(rows[:, 4:], axis=1)
    tree = KDTree(centres)
    crowded = tree.query_ball_point(centres, reach, return_length=True) > 1
    for strong in np.flatnonzero(crowded):
        if kept[strong]:
            near = np.asarray(tree.query_ball_point(centres[strong], reach[strong]))
            kept[near[near > strong]] = False
    return kept


def _states(p_dead: NDArray[np.float32], uncertain: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = uncertain
    state = np.full(len(p_dead), State.UNCERTAIN, np.uint8)
    # a band that begins at 0 or ends at 1 has nothing beyond it, also where a chance is rounded to 0 or 1
    state[(p_dead <= low) & (low > 0)] = State.LIVE
    state[(p_dead >= high) & (high < 1)] = State.DEAD
    return state


def _areas(radii: NDArray[np.float32]) -> NDArray[np.float32]:
    """Area of the polygon of ray ends: triangles between neighbouring rays."""
    wedge = 0.5 * np.sin(2 * np.pi / radii.shape[1])
    areas: NDArray[np.float32] = (wedge * (radii * np.roll(radii, -1, axis=1)).sum(axis=1)).astype(np.float32)
    return areas


def _mark_edge(calls: CellCalls, spec: FrameSpec) -> None:
    outlines = calls.outlines_yx()
    last = np.array([spec.height - 1, spec.width - 1], np.float32)
    calls.edge[:] = ((outlines <= 0) | (outlines >= last)).any(axis=(1, 2))


def _sigmoid(logit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the logistic function; written with tanh, which does not overflow."""
    chance: NDArray[np.float32] = (0.5 * (1.0 + np.tanh(0.5 * logit))).astype(np.float32)
    return chance
