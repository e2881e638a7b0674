"""Where each cell has been: the way of every track over the newest analysed frames.

Owns the ways. They are joined in the render thread, once for each analysis, and painted as segments like outlines.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from livescope.calls import Analysis, CellCalls, State

__all__ = ["Trails"]

_STEPS = 30
"""Analysed frames that a trail reaches back."""
_MOST_MISSED = 10
"""A cell that was not seen for so many analysed frames has no trail any more; the linker gives it up as well."""

Segments = NDArray[np.float64]


class Trails:
    """Follows the analyses of a run in their order; another place, camera or region, or a step back, begins anew."""

    def __init__(self) -> None:
        self._steps: deque[tuple[NDArray[np.int64], Segments]] = deque(maxlen=_STEPS)
        self._track = np.empty(0, np.int64)
        self._xy = np.empty((0, 2))
        self._missed = np.empty(0, np.int64)
        self._scene: tuple[object, ...] = ()
        self._index = -1

    def __call__(self, analysis: Analysis) -> dict[State, Segments]:
        """Take an analysis in and return the trails of its cells.

        Returns
        -------
        dict of (m, 4) float64
            x0, y0, x1, y1 in pixels of the frame, by the state that the cell has now.
        """
        frame, calls = analysis.frame, analysis.calls
        scene = (frame.segment, frame.camera, frame.position, frame.pixels.shape)
        if scene != self._scene or frame.index < self._index:
            self._steps.clear()
            self._track, self._xy, self._missed = np.empty(0, np.int64), np.empty((0, 2)), np.empty(0, np.int64)
        if scene != self._scene or frame.index != self._index:  # else the same frame anew, with a correction
            self._take(calls)
        self._scene, self._index = scene, frame.index
        return self._by_state(calls)

    def _take(self, calls: CellCalls) -> None:
        followed = calls.track >= 0
        track = calls.track[followed]
        xy = np.stack([calls.x_px[followed], calls.y_px[followed]], axis=-1).astype(np.float64)
        common, now, before = np.intersect1d(track, self._track, return_indices=True)
        self._steps.append((common, np.concatenate([self._xy[before], xy[now]], axis=1)))
        left = ~np.isin(self._track, track) & (self._missed < _MOST_MISSED)
        self._track = np.concatenate([track, self._track[left]])
        self._xy = np.concatenate([xy, self._xy[left]])
        self._missed = np.concatenate([np.zeros(len(track), np.int64), self._missed[left] + 1])

    def _by_state(self, calls: CellCalls) -> dict[State, Segments]:
        track = np.concatenate([step[0] for step in self._steps])
        segments = np.concatenate([step[1] for step in self._steps])
        return {state: segments[np.isin(track, calls.track[calls.state == state])] for state in State}
