"""A bundle on labelled fields, through the code that calls cells at the microscope, and its validation sheet.

Owns running a model over data and the order of the sheet. Scores lie in `scoring`, disturbances in `shifts`, pictures
and page in `figures` and `page`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import Bundle, load_bundle
from livescope.errors import SourceError
from livescope.frames import Frame
from livescope.outputs import make_room
from livescope.settings import MAX_CELLS, DetectorSettings
from livescope.train.agreement import risk_coverage, viability_agreement
from livescope.train.data import Field
from livescope.train.free_response import FAINTEST, free_response, marked_cells
from livescope.train.instances import outline_scores
from livescope.train.scoring import Matched, Scores, bootstrap, match_field, reliability, score
from livescope.train.seen import unknown_training, unseen
from livescope.train.shifts import SHIFTS
from livescope.train.sources import Dataset, OneOf, entries_of, read, settings_of, with_group

__all__ = [
    "call_fields",
    "evaluate",
    "evaluate_all",
    "sheet_of",
    "write_sheet",
]

_SHIFT_FIELDS = 60
"""Fields that the disturbances are tried on, evenly chosen: fourteen disturbances are fourteen passes."""

_NOTHING: dict[str, Any] = {
    "figures": {name: {"value": None, "interval": None} for name in Scores.__dataclass_fields__},
    **dict.fromkeys(("localisation_px", "localisation_um", "outlines", "viability", "calls_per_cell")),
    **{name: [] for name in ("free_response", "reliability", "risk_coverage", "groups", "shift")},
}
"""The figures of cells that were picked by what a model had called wrong."""


def call_fields(
    bundle: Bundle,
    fields: Sequence[Field],
    pixel_um: float | None = None,
    p_cell: float | None = None,
    threads: int = 2,
    tell: Callable[[str], None] = lambda _warning: None,
) -> list[CellCalls]:
    """Call the cells of fields as `livescope analyze` does, with a table of as many rows as there can be.

    Parameters
    ----------
    bundle
        The model.
    fields
        Labelled pictures; the labels are not looked at.
    pixel_um
        Micrometres a pixel of the fields, None where unknown.
    p_cell
        Least score of a detection; None takes the card's.
    threads
        CPU threads of the network.
    tell
        Told each warning of the calls once, e.g. of a full table or an unknown pixel size.
    """
    settings = DetectorSettings(threads=threads, p_cell=p_cell, max_cells=MAX_CELLS)
    analyser = FrameAnalyser(bundle, settings, watch=None)
    try:
        calls = []
        for index, field in enumerate(fields):
            bit_depth = 8 * field.pixels.dtype.itemsize
            frame = Frame(
                field.pixels, index, 0, "field", time.perf_counter(), time.time(), bit_depth, pixel_um=pixel_um
            )
            calls.append(analyser(frame).calls)
        for warning in analyser.warnings:
            if warning not in bundle.card.cautions:  # those are of the model alone
                tell(warning)
        return calls
    finally:
        analyser.close()


def evaluate_all(
    model: str,
    data: Path,
    out: Path,
    split: str = "group",
    pixel_um: float | None = None,
    report: Callable[[str], None] = lambda _what: None,
) -> dict[Path, dict[str, Any]]:
    """Write a sheet of each data set that is named; arguments as `evaluate`.

    Parameters
    ----------
    data
        As for `evaluate`, or a training config (YAML): each entry of its `data` gets a sheet, in `out` itself where it
        is the only one, else in a folder ``1-KIND``, ``2-KIND`` ... of it.

    Returns
    -------
    Folder of each sheet, and the sheet.
    """
    entries = entries_of(data)
    sheets = {}
    for number, entry in enumerate(entries, 1):
        folder = out if len(entries) == 1 else out / f"{number}-{entry.kind}"
        sheets[folder] = _evaluate(model, entry, folder, split, pixel_um, report)
    return sheets


def evaluate(
    model: str,
    data: Path,
    out: Path,
    split: str = "group",
    pixel_um: float | None = None,
    report: Callable[[str], None] = lambda _what: None,
) -> dict[str, Any]:
    """Score a model on labelled data and write its validation sheet: `sheet.json`, PNG figures and `sheet.html`.

    Parameters
    ----------
    model
        Name of a bundled model or path of a bundle's .onnx file.
    data
        Folder of labelled data (`livescope.train.sources.settings_of`), or the word ``simulated``.
    out
        Folder for the sheet; made if need be.
    split
        What counts as one independent group, for intervals and for leaving out what the model has seen: ``group`` (the
        kind's own: near-duplicates, experiment, field), another key or regular expression of the kind, or ``none``:
        score every field, also those of the training.
    pixel_um
        Micrometres a raw pixel, where the data do not say.
    report
        Told each step.

    Returns
    -------
    The sheet, as written to `sheet.json`.

    Raises
    ------
    SourceError
        No labelled data there, or all of it was in the model's training.
    """
    return _evaluate(model, settings_of(data), out, split, pixel_um, report)


def _evaluate(
    model: str, settings: OneOf, out: Path, split: str, pixel_um: float | None, report: Callable[[str], None]
) -> dict[str, Any]:
    bundle = load_bundle(model)
    make_room("--out", out / "sheet.json")
    if split not in ("group", "none"):
        settings = with_group(settings, split)
    if pixel_um is not None:
        settings = settings.model_copy(update={"pixel_um": pixel_um})
    report(f"reading {settings.place}")
    dataset = read(settings)
    kept, left_out = (dataset.fields, 0) if split == "none" else unseen(bundle, dataset.fields)
    if not kept:
        raise SourceError(
            f"model {bundle.name!r} was trained or calibrated on every group of {settings.place!r}; give other fields, "
            "or --split none to see figures that are too good."
        )
    if left_out:
        report(
            f"{left_out} of {len(dataset.fields)} fields are left out: the model has seen pictures of their groups "
            "(--split none scores them too, too well)"
        )
    sheet = sheet_of(bundle, dataset, kept, report)
    sheet["warnings"] += [] if split == "none" else unknown_training(bundle)
    sheet["data"] |= {"path": settings.place, "split": split, "fields_left_out_as_seen": left_out}
    write_sheet(sheet, out, dataset)
    return sheet


def write_sheet(sheet: dict[str, Any], out: Path, dataset: Dataset) -> None:
    """Write a validation sheet of a data set into a folder: `sheet.json`, PNG figures, `sheet.html`."""
    from livescope.train.figures import draw_dye, draw_figures
    from livescope.train.page import write_page

    out.mkdir(parents=True, exist_ok=True)
    (out / "sheet.json").write_text(json.dumps(sheet, indent=1, allow_nan=False), encoding="utf-8")
    figures = draw_figures(sheet, out)
    if dataset.thresholds is not None:
        figures = [draw_dye(dataset.measured, dataset.thresholds, out / "dye.png"), *figures]
    write_page(sheet, figures, out / "sheet.html")


def sheet_of(
    bundle: Bundle, dataset: Dataset, fields: Sequence[Field], report: Callable[[str], None] = lambda _what: None
) -> dict[str, Any]:
    """Compute a validation sheet as plain numbers; those that the data cannot give are None."""
    warnings = list(dataset.notes)
    sheet = {
        "model": {
            "name": bundle.name,
            "version": bundle.card.version,
            "sha256": bundle.sha256,
            "limits": bundle.card.limits,
        },
        "data": {
            "described": dataset.described,
            "fields": len(fields),
            "groups": len({field.group for field in fields}),
            "cells": sum(len(field.state) for field in fields),
            "pixel_um": dataset.pixel_um,
            "reach": dataset.reach,
            "every_cell_marked": dataset.complete,
            "thresholds": None if dataset.thresholds is None else dataset.thresholds.model_dump(),
        },
        "warnings": warnings,
        **(
            _NOTHING
            if all(field.picked for field in fields)
            else _measured(bundle, dataset, fields, report, warnings.append)
        ),
    }
    clean: dict[str, Any] = _plain(sheet)
    return clean


def _measured(
    bundle: Bundle,
    dataset: Dataset,
    fields: Sequence[Field],
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Call the cells of fields and score them."""
    report(f"calling cells of {len(fields)} fields")
    calls = call_fields(bundle, fields, dataset.pixel_um, tell=warn)
    matched = [match_field(f, c, dataset.reach) for f, c in zip(fields, calls, strict=True)]
    called = sum(len(c) for f, c in zip(fields, calls, strict=True) if not f.picked)
    # apart, since a table full of faint calls is not one at the card's threshold
    faint = call_fields(bundle, fields, dataset.pixel_um, p_cell=FAINTEST)
    outlined = dataset.complete and dataset.reach < 1  # of boxes and nuclei the outlines are not those of cells
    report("intervals")
    figures, intervals = asdict(score(matched)), bootstrap(matched, score)
    by_group: dict[str, list[Matched]] = {}
    for one in matched:
        by_group.setdefault(one.group, []).append(one)
    distance = np.concatenate([m.distance_px for m in matched])
    return {
        "figures": {k: {"value": v, "interval": intervals.get(k)} for k, v in figures.items()},
        "localisation_px": _off(distance, 1.0),
        "localisation_um": _off(distance, dataset.pixel_um),
        "outlines": outline_scores(bundle, fields, calls, dataset.pixel_um) if outlined else None,
        "calls_per_cell": called / cells if (cells := marked_cells(matched)) else None,
        "free_response": free_response(fields, faint, dataset.reach),
        "reliability": reliability(matched),
        "risk_coverage": risk_coverage(matched),
        "viability": viability_agreement(matched, bundle.card) if dataset.complete else None,
        "groups": [{"group": name, **_short(score(ones))} for name, ones in sorted(by_group.items())]
        if len(by_group) <= 40
        else [],
        "shift": _shifted(bundle, dataset, fields, report),
    }


def _matched(bundle: Bundle, dataset: Dataset, fields: Sequence[Field]) -> list[Matched]:
    calls = call_fields(bundle, fields, dataset.pixel_um)
    return [match_field(f, c, dataset.reach) for f, c in zip(fields, calls, strict=True)]


def _shifted(
    bundle: Bundle, dataset: Dataset, fields: Sequence[Field], report: Callable[[str], None]
) -> list[dict[str, Any]]:
    chosen = [fields[k] for k in np.unique(np.linspace(0, len(fields) - 1, _SHIFT_FIELDS).astype(int))]
    rows = []
    for name, disturb in SHIFTS.items():
        report(f"shift: {name}")
        matched = _matched(bundle, dataset, [disturb(field) for field in chosen])
        live, dead = (sum(int(np.sum(m.call == state)) for m in matched) for state in (State.LIVE, State.DEAD))
        viability = live / (live + dead) if live + dead else None
        rows.append({"case": name, **_short(score(matched)), "viability_called": viability})
    return rows


def _off(distance_px: NDArray[np.float64], unit: float | None) -> dict[str, float] | None:
    """How far found centres are off, in units of `unit` a pixel; None where none was found or the unit is unknown."""
    if unit is None or not np.isfinite(distance_px).any():
        return None
    median, p95 = (float(q) * unit for q in np.nanpercentile(distance_px, (50, 95)))
    return {"median": median, "p95": p95}


def _short(scores: Any) -> dict[str, Any]:
    names = ("n_live", "n_dead", "f1", "recall_live", "recall_dead", "auc_dead", "balanced_accuracy", "uncertain")
    return {name: getattr(scores, name) for name in names}


def _plain(value: Any) -> Any:
    """Make numbers that JSON knows: NaN becomes None, arrays lists."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
