"""Out-of-fold calls and the figures that issue a verdict on them: what `cross_validate` keeps and prints.

Owns the file of a fold's calls, each set's table of figures with its bars, and the intervals (95 %, whole groups
resampled). Trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.io import imread

from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle, load_bundle
from livescope.detect.refine import Outliner
from livescope.frames import Frame
from livescope.train.agreement import viability_agreement
from livescope.train.data import Field
from livescope.train.evaluate import call_fields
from livescope.train.free_response import FAINTEST, marked_cells, threshold_of
from livescope.train.instances import Instances, match_instances, painted
from livescope.train.scoring import Matched, bootstrap, bootstrap_interval, match_field, score
from livescope.train.sources import Dataset

ROUNDS = 1000
_COLUMNS = ("y_px", "x_px", "p_cell", "p_dead", "state", "radii_px", "area_px", "edge")


@dataclass(frozen=True)
class Fold:
    """Calls of the test fields of one network, down to scores of `FAINTEST`.

    Attributes
    ----------
    names
        The test fields, in the order of `calls`.
    calls
        Of each field.
    p_cell
        The threshold that the training has chosen.
    instances
        (fields, 2, 3) matched, marked and called cells at an IoU of 0.5, from the rays and refined; empty where the set
        has no instance masks.
    """

    names: list[str]
    calls: list[CellCalls]
    p_cell: float
    instances: NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One figure: value, 95 % interval, and the bar it has to clear (`at_most`: stay under)."""

    metric: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    groups: int = 0
    bar: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        """True where the bar is cleared, None where there is none."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        tree = {**self.__dict__, "holds": self.holds}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in tree.items()}


def predict(bundle: Bundle, dataset: Dataset, fields: Sequence[Field], masks: Path | None = None) -> Fold:
    """Call the cells of fields that a network has not seen; `masks` is the folder of the fields' instance masks."""
    calls = call_fields(bundle, fields, dataset.pixel_um, p_cell=FAINTEST)
    instances = np.zeros((0, 2, 3), np.int64)
    if masks is not None:
        kept = [one.select(one.p_cell >= bundle.card.p_cell) for one in calls]
        instances = np.stack([_instances(bundle, dataset, masks, f, c) for f, c in zip(fields, kept, strict=True)])
    return Fold([field.name for field in fields], calls, bundle.card.p_cell, instances)


def _instances(bundle: Bundle, dataset: Dataset, masks: Path, field: Field, calls: CellCalls) -> NDArray[np.int64]:
    truth = imread(next(masks.glob(f"{field.name}.*")))
    frame = Frame(field.pixels, 0, 0, "field", 0.0, 0.0, 16, pixel_um=dataset.pixel_um)
    # the surest is painted last, on top
    rays = painted(calls.outlines_yx()[::-1], truth.shape)
    refined = Outliner(bundle)(frame, calls)
    found = [match_instances(truth, labels) for labels in (rays, refined)]
    return np.array([[one.matched, one.marked, one.called] for one in found])


def save_fold(fold: Fold, path: Path) -> None:
    """Keep a fold: one NPZ, calls of all fields one after the other."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in fold.calls]) for name in _COLUMNS}
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        names=np.array(fold.names),
        counts=np.array([len(one) for one in fold.calls]),
        p_cell_threshold=fold.p_cell,
        instances=fold.instances,
        **columns,
    )
    partial.replace(path)


def load_fold(path: Path) -> Fold:
    """Read a file of `save_fold`."""
    with np.load(path) as kept:
        ends = np.cumsum(kept["counts"])[:-1]
        columns: dict[str, Any] = {name: np.split(kept[name], ends) for name in _COLUMNS}
        calls = [
            CellCalls(frame_index=k, track=np.full(int(n), -1, np.int64), **{c: columns[c][k] for c in _COLUMNS})
            for k, n in enumerate(kept["counts"])
        ]
        return Fold(kept["names"].tolist(), calls, float(kept["p_cell_threshold"]), kept["instances"])


def matched_of(dataset: Dataset, folds: Sequence[Fold], border_px: float = 0.0) -> list[Matched]:
    """Lay the calls above each fold's threshold beside the marked cells."""
    fields = {field.name: field for field in dataset.fields}
    return [
        match_field(fields[name], calls.select(calls.p_cell >= fold.p_cell), dataset.reach, border_px)
        for fold in folds
        for name, calls in zip(fold.names, fold.calls, strict=True)
    ]


def _rows(matched: Sequence[Matched], wanted: dict[str, tuple[str, float | None, bool]]) -> list[Row]:
    """Make rows of some figures of `Scores`: name to (metric, bar, at most)."""
    values, intervals = score(matched), bootstrap(matched, score, ROUNDS)
    groups = len({one.group for one in matched})
    return [
        Row(metric, float(getattr(values, name)), *intervals.get(name, (np.nan, np.nan)), groups, bar, at_most)
        for name, (metric, bar, at_most) in wanted.items()
    ]


def resampled(
    units: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a statistic of units (one a group) by resampling them; NaN where there is none."""
    rng = np.random.default_rng(seed)
    draws = [statistic([units[k] for k in rng.integers(0, len(units), len(units))]) for _ in range(ROUNDS)]
    return bootstrap_interval(statistic(list(units)), np.array(draws, float), len(units), bounds) or (np.nan, np.nan)


def _live_less_dead(units: Sequence[Sequence[Matched]]) -> float:
    """How much more of the live than of the dead cells of some groups is found."""
    scores = score([one for unit in units for one in unit])
    return scores.recall_live - scores.recall_dead


_STATE: dict[str, tuple[str, float | None, bool]] = {
    "balanced_accuracy": ("balanced accuracy", None, False),
    "average_precision_dead": ("average precision, dead", None, False),
    "f1_dead": ("F1, dead", None, False),
    "mcc": ("Matthews correlation", None, False),
    "brier": ("Brier score", None, True),
    "ece": ("expected calibration error", None, True),
    "error_at_90": ("error among the surest 90 %", None, True),
    "uncertain": ("left uncertain", None, True),
    "recall_live": ("live cells found", None, False),
    "recall_dead": ("dead cells found", None, False),
}


def ldc(dataset: Dataset, folds: Sequence[Fold]) -> list[Row]:
    """Boxes with states, by series."""
    whole, inner = matched_of(dataset, folds), matched_of(dataset, folds, 12)
    rows = _rows(inner, {"f1": ("detection F1 without a 12 px border", 0.97, False)})
    rows += _rows(
        whole,
        {
            "f1": ("detection F1, whole tiles", 0.945, False),
            "auc_dead": ("AUC of dead", 0.993, False),
            **_STATE,
            "balanced_accuracy": ("balanced accuracy", 0.95, False),
            "ece": ("expected calibration error", 0.03, True),
            "error_at_90": ("error among the surest 90 %", 0.02, True),
        },
    )
    by_group = _by_group(whole)
    worst = min(s.auc_dead for s in (score(ones) for ones in by_group.values()) if s.n_dead >= 30)
    return [*rows, Row("AUC of dead, worst series of 30 dead or more", worst, groups=len(by_group), bar=0.97)]


DETECTIONS = 2.0
"""Detections for each marked nucleus, where not every cell is marked: precision would say nothing."""


def mcf7(dataset: Dataset, folds: Sequence[Fold]) -> list[Row]:
    """Dye pairs, by experiment; cells are found in bright-field alone and only some are marked.

    What is found is measured at one threshold for all networks, at which they call two cells for each marked nucleus,
    the state there and at the threshold that each network's training has chosen; so are all other figures.
    """
    even, own = matched_of(dataset, _at_ratio(dataset, folds)), matched_of(dataset, folds)
    rows = _rows(
        even,
        {
            "recall": ("marked nuclei found, at two detections each", 0.85, False),
            "auc_dead": ("AUC of dead, all folds together, at two detections each", 0.92, False),
            "recall_live": ("live cells found, at two detections each", None, False),
            "recall_dead": ("dead cells found, at two detections each", None, False),
        },
    )
    units = [[one for one in even if one.group == group] for group in sorted({one.group for one in even})]
    apart = _live_less_dead(units)
    interval = resampled(units, _live_less_dead, None)
    rows += [
        Row("live less dead found, at two detections each", apart, *interval, len(units)),
        Row("live less dead found, size of that", abs(apart), groups=len(units), bar=0.05, at_most=True),
    ]
    aucs = [score(matched_of(dataset, [fold])).auc_dead for fold in folds]
    rows.append(
        Row("AUC of dead, mean of the folds", float(np.nanmean(aucs)), float(np.nanmin(aucs)), float(np.nanmax(aucs)))
    )
    rows += _rows(
        own,
        {
            "auc_dead": ("AUC of dead, all folds together", 0.92, False),
            "recall": ("marked nuclei found", None, False),
            **_STATE,
        },
    )
    called = sum(int((one.p_cell >= fold.p_cell).sum()) for fold in folds for one in fold.calls)
    return [*rows, Row("detections for each marked nucleus", called / marked_cells(own))]


def _at_ratio(dataset: Dataset, folds: Sequence[Fold]) -> list[Fold]:
    """Give all folds the one threshold at which they call `DETECTIONS` cells for each marked one."""
    calls = [one for fold in folds for one in fold.calls]
    p_cell = threshold_of(calls, int(DETECTIONS * marked_cells(matched_of(dataset, folds))))
    return [replace(fold, p_cell=FAINTEST if p_cell is None else p_cell) for fold in folds]


def usiigaci(dataset: Dataset, folds: Sequence[Fold]) -> list[Row]:
    """Instance masks, by field."""
    rows = _rows(matched_of(dataset, folds), {"f1": ("detection F1 (centres)", None, False)})
    counts = np.concatenate([fold.instances for fold in folds])
    for which, metric, bar in ((0, "instance F1 at IoU 0.5, rays", 0.82), (1, "instance F1 at IoU 0.5, refined", 0.88)):
        units = [Instances(*(int(n) for n in one)) for one in counts[:, which]]

        def f1(some: list[Instances]) -> float:
            return sum(some, Instances()).f1

        rows.append(Row(metric, f1(units), *resampled(units, f1), len(units), bar))
    return rows


def simulated(dataset: Dataset, folds: Sequence[Fold]) -> list[Row]:
    """Cultures of the simulator, a group each."""
    matched = matched_of(dataset, folds)
    rows = _rows(
        matched,
        {
            "f1": ("detection F1", 0.97, False),
            "auc_dead": ("AUC of dead", None, False),
            **_STATE,
            "balanced_accuracy": ("balanced accuracy", 0.97, False),
        },
    )
    agreement = viability_agreement(matched, load_bundle("simulated").card)
    assert agreement is not None
    gaps = [100 * (pair["called"] - pair["true"]) for pair in agreement["pairs"]]
    bias = float(np.mean(gaps))
    low, high = 100 * agreement["low"], 100 * agreement["high"]
    return [
        *rows,
        Row("viability, bias of a field, points", bias, *resampled(gaps, lambda g: float(np.mean(g)), None), len(gaps)),
        Row("viability, size of that bias, points", abs(bias), groups=len(gaps), bar=1.0, at_most=True),
        Row("viability, farther limit of agreement, points", max(-low, high), groups=len(gaps), bar=4.0, at_most=True),
    ]


FIGURES: dict[str, Callable[[Dataset, Sequence[Fold]], list[Row]]] = {
    "ldc": ldc,
    "usiigaci": usiigaci,
    "mcf7": mcf7,
    "simulated": simulated,
}


def _by_group(matched: Sequence[Matched]) -> dict[str, list[Matched]]:
    by_group: dict[str, list[Matched]] = {}
    for one in matched:
        by_group.setdefault(one.group, []).append(one)
    return dict(sorted(by_group.items()))


def group_table(dataset: Dataset, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Detection and state of each group."""
    names = ("n_live", "n_dead", "f1", "recall", "recall_live", "recall_dead", "auc_dead", "balanced_accuracy", "ece")
    table = []
    for group, ones in _by_group(matched_of(dataset, folds)).items():
        scores = score(ones)
        figures = {name: getattr(scores, name) for name in names}
        table.append({"group": group, **{k: v if np.isfinite(v) else None for k, v in figures.items()}})
    return table


def as_markdown(rows: Sequence[Row], groups: Sequence[dict[str, Any]]) -> str:
    """Two tables: the figures, and each group's where there are not too many."""
    lines = ["| figure | value | 95 % | groups | bar | holds |", "|---|---|---|---|---|---|"]
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}" if np.isfinite(row.low) else ""
        bar = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {row.bar:g}"
        holds = {None: "", True: "yes", False: "**no**"}[row.holds]
        lines.append(f"| {row.metric} | {row.value:.4f} | {interval} | {row.groups or ''} | {bar} | {holds} |")
    if len(groups) <= 40:
        lines += ["", "| " + " | ".join(groups[0]) + " |", "|---" * len(groups[0]) + "|"]
        cells = ([f"{v:.3f}" if isinstance(v, float) else str(v) for v in one.values()] for one in groups)
        lines += ["| " + " | ".join(one) + " |" for one in cells]
    return "\n".join(lines)
