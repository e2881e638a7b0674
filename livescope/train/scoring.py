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
from livescope.detect.calibrate import calibration_error
from livescope.train.data import Field

__all__ = ["Matched", "Scores", "bootstrap", "match_field", "reliability", "score"]


@dataclass(slots=True, frozen=True)
class Matched:
    """One field's calls laid beside its marked cells.

    Attributes
    ----------
    name, group
        The field, and its resampling unit.
    p_cell, p_dead, call
        (n,) of every call: score, chance of dead, `State`.
    marked
        (n,) state of the marked cell that each call was matched with (0 where that is unknown), -1 where it met none.
    distance_px
        (n,) from the call to its marked cell, NaN where it met none.
    missed
        (k,) states of the marked cells that no call met.
    """

    name: str
    group: str
    p_cell: NDArray[np.float32]
    p_dead: NDArray[np.float32]
    call: NDArray[np.uint8]
    marked: NDArray[np.int64]
    distance_px: NDArray[np.float64]
    missed: NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Scores:
    """Figures of a set of fields; NaN where there is nothing to measure.

    `f1`, `precision`, `recall` are of detection; `recall_live` and `recall_dead` of the marked cells found, whatever
    they were called. Of found cells, by p_dead alone: `auc_dead`, `average_precision_dead`, `brier`, `ece`; with the
    line at 0.5: `balanced_accuracy`, `f1_dead`, `mcc` (Matthews 1975), and `error_at_90`, wrong calls among the surest
    90 %. `sensitivity` and `specificity` are of live and dead among found cells that were given a call; `uncertain` is
    the part that was not.
    """

    n_live: int
    n_dead: int
    f1: float
    precision: float
    recall: float
    recall_live: float
    recall_dead: float
    auc_dead: float
    average_precision_dead: float
    balanced_accuracy: float
    f1_dead: float
    mcc: float
    sensitivity: float
    specificity: float
    uncertain: float
    error_at_90: float
    brier: float
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
        The truth. Cells centred outside the frame are not asked for; calls that meet one are not counted. Nor are calls
        without a partner where the labels say nothing, nor anything of a field whose marked cells were picked.
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
    if field.known is not None:
        # a missing label is missing: what was called there is neither right nor wrong
        row, column = np.rint(centres).astype(int).clip(0, np.array([height, width]) - 1).T
        inside &= field.known[row, column]
    # a pair counts by its marked cell, a call without a partner by its own place
    counted = np.where(partner >= 0, asked[partner] if len(asked) else False, inside) & (not field.picked)
    state = field.state.astype(np.int64)
    marked = np.where(partner >= 0, state[partner] if len(state) else -1, -1)
    missed = asked & (not field.picked)
    missed[partner[partner >= 0]] = False
    distance = np.full(len(centres), np.nan)
    distance[pairs[:, 0]] = np.linalg.norm(centres[pairs[:, 0]] - field.centres_yx[pairs[:, 1]], axis=1)
    return Matched(
        field.name,
        field.group,
        calls.p_cell[counted],
        calls.p_dead[counted],
        calls.state[counted],
        marked[counted],
        distance[counted],
        state[missed],
    )


def score(matched: Sequence[Matched]) -> Scores:
    """Compute the figures of some fields."""
    marked = np.concatenate([m.marked for m in matched])
    missed = np.concatenate([m.missed for m in matched])
    p_dead = np.concatenate([m.p_dead for m in matched])
    call = np.concatenate([m.call for m in matched])
    hit, live, dead = marked >= 0, marked == State.LIVE, marked == State.DEAD
    n_live, n_dead = (int(np.sum(f)) + int(np.sum(missed == s)) for f, s in ((live, State.LIVE), (dead, State.DEAD)))
    called, known = call != State.UNCERTAIN, live | dead
    p, truth = p_dead[known].astype(np.float64), dead[known]
    right = [_ratio(np.sum(p_dead[live] < 0.5), live.sum()), _ratio(np.sum(p_dead[dead] >= 0.5), dead.sum())]
    return Scores(
        n_live=n_live,
        n_dead=n_dead,
        f1=_ratio(2 * hit.sum(), len(marked) + hit.sum() + len(missed)),
        precision=_ratio(hit.sum(), len(marked)),
        recall=_ratio(hit.sum(), hit.sum() + len(missed)),
        recall_live=_ratio(live.sum(), n_live),
        recall_dead=_ratio(dead.sum(), n_dead),
        auc_dead=auc(p_dead[dead], p_dead[live]),
        average_precision_dead=_average_precision(p, truth),
        balanced_accuracy=sum(right) / 2,
        f1_dead=_ratio(2 * np.sum((p >= 0.5) & truth), np.sum(p >= 0.5) + truth.sum()),
        mcc=_matthews(p >= 0.5, truth),
        sensitivity=_ratio((call[live] == State.LIVE).sum(), (live & called).sum()),
        specificity=_ratio((call[dead] == State.DEAD).sum(), (dead & called).sum()),
        uncertain=_ratio((~called & known).sum(), known.sum()),
        error_at_90=_error_at(p, truth, 0.9),
        brier=float(np.mean((p - truth) ** 2)) if len(p) else float("nan"),
        ece=calibration_error(p, truth),
    )


def bootstrap(
    matched: Sequence[Matched], statistic: Callable[[Sequence[Matched]], Scores], rounds: int = 500, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of every figure by resampling whole groups, never cells; none where there are under three."""
    groups: dict[str, list[Matched]] = {}
    for one in matched:
        groups.setdefault(one.group, []).append(one)
    names, rng = sorted(groups), np.random.default_rng(seed)
    if len(names) < 3:
        return {}
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


def _average_precision(p: NDArray[np.float64], dead: NDArray[np.bool_]) -> float:
    if not dead.any():
        return float("nan")
    ranked = dead[np.argsort(-p, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


def _matthews(called: NDArray[np.bool_], dead: NDArray[np.bool_]) -> float:
    if called.all() or dead.all() or not (called.any() and dead.any()):
        return float("nan")
    return float(np.corrcoef(called, dead)[0, 1])


def _error_at(p: NDArray[np.float64], dead: NDArray[np.bool_], coverage: float) -> float:
    if not len(p):
        return float("nan")
    surest = np.argsort(-np.abs(p - 0.5), kind="stable")[: max(round(coverage * len(p)), 1)]
    return float(np.mean((p[surest] >= 0.5) != dead[surest]))


def reliability(matched: Sequence[Matched], bins: int = 10) -> list[dict[str, float]]:
    """Called chance of dead against the part that was dead, in equally wide bins: `called`, `dead`, `n` of each."""
    marked = np.concatenate([m.marked for m in matched])
    known = (marked == State.LIVE) | (marked == State.DEAD)
    p = np.concatenate([m.p_dead for m in matched]).astype(np.float64)[known]
    dead = marked[known] == State.DEAD
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {"called": float(p[which == k].mean()), "dead": float(dead[which == k].mean()), "n": int(np.sum(which == k))}
        for k in range(bins)
        if np.any(which == k)
    ]
