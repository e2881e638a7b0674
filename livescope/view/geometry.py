"""The shapes drawn for a cell, as line segments: an outline and a marker for each state, and round scale-bar lengths.

Owns shapes only. Segments are what Qt draws fastest: 500 outlines as antialiased segments take 6 ms where one path of
the same lines takes 127 ms (software rendering, width 2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livescope.calls import State

__all__ = ["marker_segments", "outline_segments", "round_length_um"]

Segments = NDArray[np.float64]

_STROKES: dict[State, tuple[int, ...]] = {State.LIVE: (1,), State.DEAD: (1, 1, 0, 0), State.UNCERTAIN: (1, 0)}
"""Which segments of an outline are drawn, repeated around it: live solid, dead dashed, uncertain dotted."""


def outline_segments(outlines_yx: NDArray[np.float32], state: State) -> Segments:
    """Segments of outlines, in the stroke of a state.

    Parameters
    ----------
    outlines_yx
        (n, rays, 2) vertices, as of `CellCalls.outlines_yx`; every second of them will do for cells that are small on
        the screen.
    state
        Gives the stroke.

    Returns
    -------
    (m, 4) float64
        x0, y0, x1, y1 in the unit of the vertices.
    """
    n, n_rays, _ = outlines_yx.shape
    stroke = np.resize(np.array(_STROKES[state], bool), n_rays)
    segments = np.empty((n, int(stroke.sum()), 4))
    if stroke.all():  # slices are copied three times as fast as what an index picks
        segments[..., 0], segments[..., 1] = outlines_yx[..., 1], outlines_yx[..., 0]
        segments[:, :-1, 2:] = segments[:, 1:, :2]
        segments[:, -1, 2:] = segments[:, 0, :2]
    else:
        drawn = np.flatnonzero(stroke)
        segments[..., :2] = outlines_yx[:, drawn, ::-1]
        segments[..., 2:] = outlines_yx[:, (drawn + 1) % n_rays, ::-1]
    return segments.reshape(-1, 4)


def _closed(points: NDArray[np.float64]) -> Segments:
    return np.concatenate([points, np.roll(points, -1, axis=0)], axis=1)


_ANGLES = np.arange(10) * (2 * np.pi / 10)
_SHAPES: dict[State, Segments] = {
    State.LIVE: _closed(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)),
    State.DEAD: np.array([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]]) * 0.85,
    State.UNCERTAIN: _closed(np.array([[0.0, -1.25], [1.25, 0.0], [0.0, 1.25], [-1.25, 0.0]])),
}


def marker_segments(centres_xy: NDArray[np.float64], state: State, radius: float) -> Segments:
    """Segments of the markers of one state: a ring for live, a cross for dead, a diamond for uncertain.

    Parameters
    ----------
    centres_xy
        (n, 2) centres.
    radius
        Radius of the marker, in the unit of the centres.

    Returns
    -------
    (m, 4) float64
        x0, y0, x1, y1.
    """
    shape = _SHAPES[state] * radius
    return (np.tile(centres_xy, 2)[:, None, :] + shape[None]).reshape(-1, 4).astype(np.float64)


def round_length_um(most_um: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, 50 ... micrometres that is not above `most_um`.

    >>> round_length_um(110.9)
    100.0
    """
    power = 10.0 ** math.floor(math.log10(most_um))
    return max(step for step in (1.0, 2.0, 5.0) if step * power <= most_um * (1 + 1e-9)) * power
