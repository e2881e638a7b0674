"""How well calls agree with a truth: cells found, states right.

Owns the matching of calls to true cells and the figures that follow. The truth may come from the simulator or a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.stats import rankdata

from livescope.calls import CellCalls, State

__all__ = ["Agreement", "Tally", "TrueCells", "agreement", "auc", "match"]


class TrueCells(Protocol):
    """Cells that are known to be there; `livescope.simulate.truth.Truth` is one.

    Attributes
    ----------
    y_px, x_px
        (n,) float, centres in pixels, convention of `CellCalls`.
    radii_px
        (n, m) float, distances from the centre to the outline in pixels.
    state
        (n,) uint8 of `State`; `State.UNCERTAIN` counts in detection only.
    """

    @property
    def y_px(self) -> NDArray[Any]: ...  # noqa: D102 - documented by the class
    @property
    def x_px(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def radii_px(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def state(self) -> NDArray[np.uint8]: ...  # noqa: D102


@dataclass(slots=True, frozen=True)
class Agreement:
    """Figures of agreement; NaN where there is nothing to count.

    Attributes
    ----------
    n_true, n_called, n_matched
        Cells in the truth, calls, and pairs of them.
    precision, recall, f1
        Detection.
    recall_live, recall_dead
        Parts of the true live and dead cells that were found, whatever they were called; unequal parts bias the
        viability.
    live_called_live, dead_called_dead
        Of matched cells that were given a call: the part that was called right, i.e. sensitivity and specificity.
    balanced_accuracy
        Mean of the parts of matched live and dead cells that lie on the right side of p_dead = 0.5, uncertain ones too.
    balanced_accuracy_decided
        The same of the cells that were given a call.
    uncertain
        Part of the matched cells called uncertain.
    same_state
        Part of the matched cells whose call is the truth's state, uncertain ones included.
    auc_dead
        Chance that a matched dead cell has a higher p_dead than a matched live one.
    """

    n_true: int
    n_called: int
    n_matched: int
    precision: float
    recall: float
    f1: float
    recall_live: float
    recall_dead: float
    live_called_live: float
    dead_called_dead: float
    balanced_accuracy: float
    balanced_accuracy_decided: float
    uncertain: float
    same_state: float
    auc_dead: float


def match(calls: CellCalls, truth: TrueCells, reach: float = 0.5) -> NDArray[np.intp]:
    """Pair calls with true cells, one to one, so that as many as possible are paired and their distances are least.

    Parameters
    ----------
    calls, truth
        Cells of the same frame.
    reach
        A pair's centres lie within this part of the true cell's median radius.

    Returns
    -------
    (pairs, 2) of (row in calls, row in truth).
    """
    if len(calls) == 0 or len(truth.y_px) == 0:
        return np.empty((0, 2), np.intp)
    called = np.stack([calls.y_px, calls.x_px], axis=1)
    true = np.stack([truth.y_px, truth.x_px], axis=1)
    limits = reach * np.median(truth.radii_px, axis=1)
    near = KDTree(called).query_ball_point(true, limits)
    rows = np.array([row for found in near for row in found], np.intp)
    columns = np.repeat(np.arange(len(true)), [len(found) for found in near])
    if rows.size == 0:
        return np.empty((0, 2), np.intp)
    # only calls and cells with a partner at all enter the assignment
    called_rows, row_of = np.unique(rows, return_inverse=True)
    true_rows, column_of = np.unique(columns, return_inverse=True)
    none = 1e6  # no true distance comes near it, so that it is taken only where there is no pair
    cost = np.full((len(called_rows), len(true_rows)), none)
    cost[row_of, column_of] = np.hypot(*(called[rows] - true[columns]).T)
    chosen_rows, chosen_columns = linear_sum_assignment(cost)
    real = cost[chosen_rows, chosen_columns] < none
    return np.stack([called_rows[chosen_rows[real]], true_rows[chosen_columns[real]]], axis=1)


def agreement(calls: CellCalls, truth: TrueCells) -> Agreement:
    """Compare the calls of one frame with its truth."""
    tally = Tally()
    tally.add(calls, truth)
    return tally.agreement()


@dataclass(slots=True)
class Tally:
    """Agreement over many frames: every cell counts the same, whichever frame it is in."""

    frames: int = 0
    _n_called: int = 0
    _true_state: list[NDArray[np.uint8]] = field(default_factory=list)
    _found_state: list[NDArray[np.uint8]] = field(default_factory=list)
    _called_state: list[NDArray[np.uint8]] = field(default_factory=list)
    _p_dead: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, calls: CellCalls, truth: TrueCells) -> None:
        """Count one frame in."""
        pairs = match(calls, truth)
        self.frames += 1
        self._n_called += len(calls)
        self._true_state.append(truth.state)
        self._found_state.append(truth.state[pairs[:, 1]])
        self._called_state.append(calls.state[pairs[:, 0]])
        self._p_dead.append(calls.p_dead[pairs[:, 0]])

    def agreement(self) -> Agreement:
        """Return the figures over all frames so far."""
        empty = np.empty(0, np.uint8)
        true, found, called = (
            np.concatenate([empty, *parts]) for parts in (self._true_state, self._found_state, self._called_state)
        )
        p_dead = np.concatenate([empty, *self._p_dead])
        live, dead = found == State.LIVE, found == State.DEAD
        decided = called != State.UNCERTAIN
        right_live = _part(called[live & decided] == State.LIVE)
        right_dead = _part(called[dead & decided] == State.DEAD)
        return Agreement(
            n_true=len(true),
            n_called=self._n_called,
            n_matched=len(found),
            precision=_ratio(len(found), self._n_called),
            recall=_ratio(len(found), len(true)),
            f1=_ratio(2 * len(found), len(true) + self._n_called),
            recall_live=_ratio(int(live.sum()), int((true == State.LIVE).sum())),
            recall_dead=_ratio(int(dead.sum()), int((true == State.DEAD).sum())),
            live_called_live=right_live,
            dead_called_dead=right_dead,
            balanced_accuracy=(_part(p_dead[live] < 0.5) + _part(p_dead[dead] >= 0.5)) / 2,
            balanced_accuracy_decided=(right_live + right_dead) / 2,
            uncertain=_part(~decided),
            same_state=_part(called == found),
            auc_dead=auc(p_dead[dead], p_dead[live]),
        )

    def summary(self) -> dict[str, float | int]:
        """Return `agreement` as a flat dict with the number of frames, for a run's summary."""
        figures = self.agreement()
        return {"frames": self.frames, **{name: getattr(figures, name) for name in Agreement.__slots__}}


def auc(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """Chance that a positive's score is above a negative's (ties count half); NaN without one of each."""
    n_positive, n_negative = len(positive), len(negative)
    if n_positive == 0 or n_negative == 0:
        return math.nan
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _part(true: NDArray[np.bool_]) -> float:
    return float(true.mean()) if true.size else math.nan
