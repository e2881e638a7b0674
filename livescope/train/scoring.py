"""Calls against marked cells: who was found, and how well the state was told.

Owns matching and the scores of a set of fields, with intervals by resampling whole groups. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from livescope.assay.agreement import auc, match
from livescope.calls import CellCalls, State
from livescope.train.data import Field

__all__ = ["Matched", "Scores", "bootstrap", "match_field", "score"]


@dataclass(slots=True, frozen=True)
class Matched:
    """One field's calls laid beside its marked cells.

    Attributes
    ----------
    group
        Resampling unit of the field.
    p_cell, p_dead, call
        (n,) of every call: score, chance of dead, `State`.
    marked
        (n,) state of the marked cell that each call was matched with (0 where that is unknown), -1 where it met none.
    missed
        (k,) states of the marked cells that no call met.
    """

    group: str
    p_cell: NDArray[np.float32]
    p_dead: NDArray[np.float32]
    call: NDArray[np.uint8]
    marked: NDArray[np.int64]
    missed: NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Scores:
    """Figures of a set of fields; NaN where there is nothing to measure.

    `f1`, `precision`, `recall` are of detection; `recall_live` and `recall_dead` of the marked cells found, whatever
    they were called; `auc_dead` and `balanced_accuracy` (p_dead above or below 0.5) of found cells; `sensitivity` and
    `specificity` of live and dead among found cells that were given a call; `uncertain` is the part that was not.
    """

    n_live: int
    n_dead: int
    f1: float
    precision: float
    recall: float
    recall_live: float
    recall_dead: float
    auc_dead: float
    balanced_accuracy: float
    sensitivity: float
    specificity: float
    uncertain: float
    ece: float


class _Marked:
    """The marked cells of a field as `livescope.assay.agreement.TrueCells`."""

    def __init__(self, field: Field) -> None:
        self.y_px, self.x_px = field.centres_yx.T
        self.radii_px = np.linalg.norm(field.contours_yx - field.centres_yx[:, None], axis=-1)
        self.state = field.state


def match_field(field: Field, calls: CellCalls, reach: float, border_px: float = 0.0) -> Matched:
    """Match calls one to one with marked cells, least total distance first.

    Parameters
    ----------
    field
        The truth. Cells centred outside the frame are not asked for; calls that meet one are not counted.
    calls
        What was called, in the same pixels.
    reach
        Largest distance of the centres, in parts of the marked cell's median radius.
    border_px
        Calls and cells centred nearer than this to the frame's edge are left out.
    """
    height, width = field.pixels.shape
    centres = np.stack([calls.y_px, calls.x_px], axis=-1)
    pairs = match(calls, _Marked(field), reach)
    partner = np.full(len(centres), -1)
    partner[pairs[:, 0]] = pairs[:, 1]
    inner = np.array([border_px - 0.5, border_px - 0.5]), np.array([height, width]) - 0.5 - border_px
    asked, inside = (np.all((yx >= inner[0]) & (yx < inner[1]), axis=1) for yx in (field.centres_yx, centres))
    # a pair counts by its marked cell, a call without a partner by its own place
    counted = np.where(partner >= 0, asked[partner] if len(asked) else False, inside)
    state = field.state.astype(np.int64)
    marked = np.where(partner >= 0, state[partner] if len(state) else -1, -1)
    missed = asked.copy()
    missed[partner[partner >= 0]] = False
    return Matched(
        field.group, calls.p_cell[counted], calls.p_dead[counted], calls.state[counted], marked[counted], state[missed]
    )


def score(matched: Sequence[Matched]) -> Scores:
    """Compute the figures of some fields."""
    marked = np.concatenate([m.marked for m in matched])
    missed = np.concatenate([m.missed for m in matched])
    p_dead = np.concatenate([m.p_dead for m in matched])
    call = np.concatenate([m.call for m in matched])
    hit, live, dead = marked >= 0, marked == State.LIVE, marked == State.DEAD
    n_live, n_dead = (int(np.sum(f)) + int(np.sum(missed == s)) for f, s in ((live, State.LIVE), (dead, State.DEAD)))
    called = call != State.UNCERTAIN
    known = live | dead
    return Scores(
        n_live=n_live,
        n_dead=n_dead,
        f1=_ratio(2 * hit.sum(), len(marked) + hit.sum() + len(missed)),
        precision=_ratio(hit.sum(), len(marked)),
        recall=_ratio(hit.sum(), hit.sum() + len(missed)),
        recall_live=_ratio(live.sum(), n_live),
        recall_dead=_ratio(dead.sum(), n_dead),
        auc_dead=auc(p_dead[dead], p_dead[live]),
        balanced_accuracy=(
            _ratio((p_dead[live] < 0.5).sum(), live.sum()) + _ratio((p_dead[dead] >= 0.5).sum(), dead.sum())
        )
        / 2,
        sensitivity=_ratio((call[live] == State.LIVE).sum(), (live & called).sum()),
        specificity=_ratio((call[dead] == State.DEAD).sum(), (dead & called).sum()),
        uncertain=_ratio((~called & known).sum(), known.sum()),
        ece=_calibration_error(p_dead[known], dead[known]),
    )


def bootstrap(
    matched: Sequence[Matched], statistic: Callable[[Sequence[Matched]], Scores], rounds: int = 500, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of every figure by resampling whole groups, never cells."""
    groups: dict[str, list[Matched]] = {}
    for one in matched:
        groups.setdefault(one.group, []).append(one)
    names, rng = sorted(groups), np.random.default_rng(seed)
    draws = []
    for _ in range(rounds):
        picked = rng.integers(0, len(names), len(names))
        draws.append(statistic([one for k in picked for one in groups[names[k]]]))
    table = {name: np.array([getattr(draw, name) for draw in draws], float) for name in Scores.__dataclass_fields__}
    return {
        name: (float(np.nanpercentile(values, 2.5)), float(np.nanpercentile(values, 97.5)))
        for name, values in table.items()
        if np.isfinite(values).any()
    }


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _calibration_error(p: NDArray[np.float32], truth: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error of p_dead in equally wide bins (Guo et al. 2017)."""
    if not len(p):
        return float("nan")
    which = np.minimum((p * bins).astype(int), bins - 1)
    off = np.bincount(which, p, bins) - np.bincount(which, truth, bins)
    return float(np.abs(off).sum() / len(p))
