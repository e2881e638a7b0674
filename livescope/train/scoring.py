"""Calls against marked cells: who was found, and how well the state was told.

Owns matching and the scores of a set of fields, and the rule of intervals by resampling whole groups. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student_t

from livescope.assay.agreement import auc, match
from livescope.calls import CellCalls, State
from livescope.detect.calibrate import calibration_error
from livescope.train.data import Field

__all__ = ["Matched", "Scores", "bootstrap", "bootstrap_interval", "match_field", "reliability", "score"]

_LEAST_GROUPS = 3
"""Two groups have one degree of freedom: their interval would be 12.7 standard errors each way."""

_COUNTS = ("n_live", "n_dead")


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
    """Intervals of every figure (95 %) by resampling whole groups, never cells; see `bootstrap_interval`.

    Figures that have none are left out, and so are the numbers of cells, which are what they are.
    """
    groups: dict[str, list[Matched]] = {}
    for one in matched:
        groups.setdefault(one.group, []).append(one)
    names, rng = sorted(groups), np.random.default_rng(seed)
    if len(names) < _LEAST_GROUPS:
        return {}
    draws = []
    for _ in range(rounds):
        picked = rng.integers(0, len(names), len(names))
        draws.append(statistic([one for k in picked for one in groups[names[k]]]))
    values, intervals = statistic(matched), {}
    for name in (name for name in Scores.__dataclass_fields__ if name not in _COUNTS):
        drawn = np.array([getattr(draw, name) for draw in draws], float)
        bounds = (-1.0, 1.0) if name == "mcc" else (0.0, 1.0)
        if (ends := bootstrap_interval(getattr(values, name), drawn, len(names), bounds)) is not None:
            intervals[name] = ends
    return intervals


def bootstrap_interval(
    value: float, draws: NDArray[np.float64], groups: int, bounds: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[float, float] | None:
    """95 % interval of a figure from resamples of whole groups: the resamples' standard error with Student's t.

    The bootstrap's error of m groups is too small by sqrt((m - 1) / m), and its percentiles have the tails of a normal
    where those of t are due (Hesterberg 2015, The American Statistician 69:371): the error is made good and taken with
    the t of m - 1 degrees of freedom. For a figure between bounds that is done on the logit scale, where it is spread
    more evenly and the ends stay inside. Of two errors there, by the logit's slope at the value and of the logits of
    resamples, the larger counts: the first is too small where a few groups fail, the second lacks resamples at a bound.

    A figure is undefined in resamples without, say, a dead cell. Where k of m groups have any, (1 - k / m)^m of all are
    so, which tells k, and k stands for m: where 3 of 30 have, 0.98 are covered instead of 0.86.

    Coverage of recall 0.85 and 0.95, AUC 0.93 (six dead a group), F1 and a bias of viability, correlation within groups
    0.02 and 0.1, 40 to 160 cells a group: 0.947 to 0.975 with 3 and 4 groups, 0.932 to 0.975 with 5 to 30, where plain
    percentiles have 0.65 to 0.80 and 0.75 to 0.93, those that Hesterberg expands 0.66 to 0.87 and 0.82 to 0.94. With 4
    to 16 cells a group 0.947 to 0.991 (a bias: 0.68 to 0.88 up to 5 groups). Where one group in ten holds most cells
    0.907 to 0.970 from 5 groups on; of the calibration error, which is too large in any sample, 0.912 to 0.953.

    Parameters
    ----------
    value
        The figure of all groups.
    draws
        (rounds,) the figure of each resample; NaN where it is not defined.
    groups
        Groups that were resampled.
    bounds
        Least and largest value that the figure can have; None for one without, as a difference.

    Returns
    -------
    Low and high end; of no width where groups agree. None with fewer than three groups that tell of the figure, where
    the figure is undefined, and where it lies at a bound: every resample then lies there too, which says nothing of
    groups to come.
    """
    drawn = draws[np.isfinite(draws)]
    telling = round(groups * (1 - (1 - len(drawn) / len(draws)) ** (1 / groups)))
    if telling < _LEAST_GROUPS or not np.isfinite(value):
        return None
    errors = float(student_t.ppf(0.975, telling - 1)) * float(np.sqrt(telling / (telling - 1)))
    spread = float(drawn.std(ddof=1))
    if bounds is None:
        return value - errors * spread, value + errors * spread
    low, width = bounds[0], bounds[1] - bounds[0]
    part, parts = (value - low) / width, (drawn - low) / width
    if min(part, 1 - part) < 1e-9:
        return None
    inside = parts[(parts > 0) & (parts < 1)]
    by_slope = spread / width / (part * (1 - part))
    of_logits = float(logit(inside).std(ddof=1)) if len(inside) > 1 else 0.0
    reach = errors * max(by_slope, of_logits)
    return low + width * float(expit(logit(part) - reach)), low + width * float(expit(logit(part) + reach))


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
