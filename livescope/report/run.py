"""The report of one run or several: one HTML page that opens anywhere, and its numbers as CSV and Parquet.

Owns the page and its words. Numbers come from `gather`, drawings from `figures`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from livescope.assay.dose import z_prime
from livescope.assay.plate import Plate, load_plate
from livescope.assay.pooled import BorderRule
from livescope.assay.survival import Lives
from livescope.calls import State, Viability
from livescope.errors import AssayError, RecordError, SettingsError
from livescope.frames import LossCause
from livescope.report import figures
from livescope.report.deaths import compared_survival, deaths_section, tests_done
from livescope.report.doses import DoseFit, dose_fits, doses_section
from livescope.report.dye import dye_section
from livescope.report.gather import EVERYTHING, Crop, RunFacts, gather
from livescope.report.page import STYLE, escaped, number, paragraph, section, table, viability_words

__all__ = ["write_report"]

CITATION = (
    "Pattarone G, Acion L, Simian M, Mertelsmann R, Follo M, Iarussi E. Learning deep features for dead and living "
    "breast cancer cell classification without staining. Scientific Reports 11, 10304 (2021)."
)

_BORDER = {
    "all": "all count",
    "inside": "those that touch it are left out, which favours small (dead) cells",
    "brick": "those at the top and left count, those at the bottom and right do not",
}
_UNPLACED = "no stage position names a well of the plate map, e.g. 'A1' or 'Plate1_B03_field2'."


def write_report(
    records: Sequence[Path],
    out: Path | None = None,
    plate: Path | None = None,
    at_h: float | None = None,
    *,
    border: BorderRule | None = None,
    dye: str | None = None,
    warn: Callable[[str], None] = lambda warning: None,
) -> list[Path]:
    """Write the report of one record, or of several beside each other.

    Parameters
    ----------
    records
        Records; the first gives the name.
    out
        The HTML file; None stands ``NAME.report.html`` beside the first record.
    plate
        Plate map (CSV or YAML) that says which stage position got what.
    at_h
        Time of plate map and dose response, hours since the start of the run; None is its end.
    border
        Which cells at the border count; None takes what each run was told.
    dye
        Preset of a dead-cell dye's channel; None takes the only channel that was not called.
    warn
        Takes what is not in the report though it was asked for.

    Returns
    -------
    The files written: HTML, then for each record a CSV of its frames and a Parquet table of its cells' lives.

    Raises
    ------
    RecordError
        A record cannot be read, or the report not be written.
    SettingsError
        A record is given twice.
    AssayError
        The plate map is wrong, or a package for figures is missing.
    """
    wells = None if plate is None else load_plate(plate)
    names = _names(records)
    runs = [gather(path, wells, at_h, border=border, dye=dye) for path in records]
    page = out or records[0].with_name(_stem(records[0]) + ".report.html")
    named = dict(zip(names, runs, strict=True))
    body = [f"<h1>{escaped(_stem(records[0]) if len(runs) == 1 else f'{len(runs)} runs compared')}</h1>"]
    if len(runs) > 1:
        body.append(_comparison(named))
    for name, run in named.items():
        if run.unplaced:
            warn(f"{name}: {_UNPLACED} All cells are taken together.")
        if run.left_out:
            warn(f"{name}: {_left_out(run)}")
        if at_h is not None and run.at_h is None:
            warn(f"{name}: the run ended after {run.hours:.3g} h, before {at_h:g} h: its wells are shown at the end.")
        if dye is not None and not run.dye.frames:
            warn(f"{name}: nothing was compared with channel {dye!r}; the page says why.")
        if len(runs) > 1:
            body.append(f"<h1>{escaped(name)}</h1>")
        body.extend(_run(run, wells))
    head = f'<meta charset="utf-8"><title>{escaped(_stem(records[0]))}</title><style>{STYLE}</style>'
    text = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'
    try:
        page.write_text(text, encoding="utf-8")
        tables = [path for name, run in named.items() for path in _write_tables(run, page, name.replace("/", "-"))]
    except OSError as error:
        raise RecordError(
            f"report {str(page)!r} cannot be written: {error.strerror}. Give another path with --out."
        ) from None
    return [page, *tables]


def _run(run: RunFacts, plate: Plate | None) -> Iterable[str]:
    fits = [] if plate is None else dose_fits(run.wells, plate)
    yield _summary(run)
    yield section("Viability", lambda: _viability(run))
    if plate is not None:
        yield section("Plate", lambda: _plate(run, plate))
    if plate is not None and run.wells:
        yield section("Dose and response", lambda: doses_section(fits, _when(run)))
    yield section("Deaths", lambda: deaths_section(run))
    if run.dye.channels or run.dye.channel:  # one that was asked for and is not there is told
        yield section("Against the dye", lambda: dye_section(run.dye))
    if run.manifest.get("rules"):
        yield section("Rules", lambda: _rules(run))
    yield section("Cells", lambda: _gallery(run.crops))
    yield section("Shift", lambda: _shift(run))
    yield section("Losses and warnings", lambda: _losses(run))
    yield section("Model", lambda: _model(run))
    yield section("Methods", lambda: _methods(run, fits))
    yield section("Settings", lambda: f"<pre>{escaped(run.settings_yaml)}</pre>")


def _summary(run: RunFacts) -> str:
    backend = run.manifest.get("backend", {})
    scale, unit = figures.time_unit(run.hours)
    rows = [
        ("Record", str(run.path)),
        ("Began", str(run.manifest.get("opened", "not known"))),
        *([("Ended", _unended(run))] if _unended(run) else []),
        ("Length", f"{scale * run.hours:.3g} {unit}, {run.n_frames} frames recorded, {run.n_analysed} analysed"),
        *([("Time", "of the simulated culture, not of the clock")] if run.simulated else []),
        ("Positions", str(run.n_positions)),
        ("Cells at the border", _BORDER[run.border]),
        ("Model", f"{backend.get('model', 'not known')} on {backend.get('backend', 'not known')}"),
        ("Cells followed", f"{run.tracks}, {run.deaths} of them seen to die"),
    ]
    return table(None, rows)


def _unended(run: RunFacts) -> str:
    """Say why a run has no account of its end, empty where it ended in order."""
    if run.manifest.get("recovered"):
        return "it was cut off and recovered"
    return "" if run.manifest.get("closed") else "not yet, or it was cut off: then run livescope recover"


def _viability(run: RunFacts) -> str:
    if not run.curves:
        raise AssayError("no frame was analysed, so there is no viability.")
    rows = []
    for name, curve in run.curves.items():
        rows.append(
            (
                name,
                viability_words(curve.viability[0]),
                viability_words(curve.viability[-1]),
                _corrected(curve.viability[-1], run),
            )
        )
    counts = figures.count_curves(run.curves[EVERYTHING]) if EVERYTHING in run.curves else ""
    return (
        figures.viability_curves(run.curves)
        + counts
        + table(("condition", "first", "last", "last, corrected for the model's errors"), rows)
        + "<p>Viability is live / (live + dead), with its 95 % interval; uncertain cells are left out. A field that "
        "is not visited again counts as it was last seen; a curve begins when all fields of its condition were.</p>"
    )


def _plate(run: RunFacts, plate: Plate) -> str:
    if not run.wells:
        raise AssayError(_UNPLACED if run.unplaced else "no frame of a well was analysed.")
    negative, positive = (
        [run.wells[well.well].fraction for well in plate.controls(kind) if well.well in run.wells]
        for kind in ("negative", "positive")
    )
    quality = z_prime(negative, positive)
    words = "not known: it needs two wells of each control" if math.isnan(quality) else f"{quality:.2f}"
    rows = [
        (well.well, well.compound, f"{well.dose:g} {well.unit}", well.control, viability_words(run.wells[well.well]))
        for well in plate.wells
        if well.well in run.wells
    ]
    return (
        figures.plate_map(plate.wells, run.wells)
        + (paragraph(_left_out(run)) if run.left_out else "")
        + f"<p>Z' of the controls {_when(run)}: {words}.</p>"
        + table(("well", "compound", "dose", "control", f"viability {_when(run)} (95 % interval)"), rows)
    )


def _left_out(run: RunFacts) -> str:
    return f"positions in no condition, for their names are no well of the plate map: {', '.join(run.left_out)}."


def _when(run: RunFacts) -> str:
    return "at the end" if run.at_h is None else f"at {run.at_h:g} h"


def _gallery(crops: Sequence[Crop]) -> str:
    if not crops:
        raise AssayError("no analysed frame with cells away from the border is in the record.")
    low, high = np.percentile(np.stack([crop.pixels for crop in crops]), [0.3, 99.7])
    parts = []
    for state in State:
        chosen = [crop for crop in crops if crop.state == state]
        pictures = "".join(
            f'<figure><img alt="{state.label} cell" src="{figures.crop_png(crop, float(low), float(high))}">'
            f"p dead {crop.p_dead:.2f}</figure>"
            for crop in chosen
        )
        parts.append(f"<h3>Called {state.label}</h3>{pictures or '<p>None among the frames looked at.</p>'}")
    return "".join(parts) + "<p>Chosen at random from the last third of the run, all at the same grey levels.</p>"


def _rules(run: RunFacts) -> str:
    rows = [
        (
            str(one["frame"]),
            one["position"],
            one["rule"],
            one["reason"],
            one["action"],
            "done" if one["ok"] else f"failed: {one['message']}",
        )
        for one in run.manifest.get("firings", [])
    ]
    if not rows:
        return paragraph("No rule fired.")
    return table(("frame", "position", "rule", "why", "action", "what became of it"), rows)


def _shift(run: RunFacts) -> str:
    if not run.shift:
        raise AssayError("the run kept no account of how far its pictures were from those the model was trained on.")
    distances = np.array([distance for _, distance in run.shift])
    beyond = int((distances > 1).sum())
    return figures.shift_curve(run.shift) + paragraph(
        f"Distance of the pictures and their cells from those the model was trained on, parts of what is usual there: "
        f"{beyond} of {len(distances)} analysed frames lay beyond 1, the farthest at {distances.max():.2f}. Calls of "
        "such frames may be wrong; the warnings below say what was other about them."
    )


def _losses(run: RunFacts) -> str:
    rows = run.manifest.get("losses", [])
    text = (
        table(tuple(rows[0]), [tuple(str(v) for v in row.values()) for row in rows]) if rows else "<p>No account.</p>"
    )
    if unended := _unended(run):
        counts = run.manifest.get("losses_before", {})
        lost = ", ".join(f"{cause.value} {counts[cause.value]}" for cause in LossCause if counts.get(cause.value))
        before = f" Lost before, as far as is known: {lost or 'none'}." if "losses_before" in run.manifest else ""
        return text + paragraph(
            f"Of warnings and errors nothing is known, for the run did not end in order: {unended}.{before}"
        )
    for kind in ("warnings", "errors"):
        entries = run.manifest.get(kind, [])
        text += f"<p>{kind.capitalize()}: {'none' if not entries else ''}</p>"
        text += "".join(f'<p class="note">{escaped(str(entry))}</p>' for entry in entries)
    return text


def _model(run: RunFacts) -> str:
    backend = run.manifest.get("backend", {})
    rows = [(name, str(value)) for name, value in backend.items()]
    if run.card is None:
        return table(None, rows) + '<p class="note">The model\'s card is not at hand here, or it has changed since.</p>'
    card = run.card
    rows += [("trained on", card.trained_on), ("licence", card.licence), ("limits", card.limits)]
    sheet = [
        (v.data, str(v.n_live), str(v.n_dead), f"{v.f1:.3f}", *(number(x) for x in (v.balanced_accuracy, v.auc_dead)))
        for v in card.validation
    ]
    return table(None, rows) + table(("validated on", "live", "dead", "F1", "balanced accuracy", "AUC dead"), sheet)


def _methods(run: RunFacts, fits: Sequence[DoseFit]) -> str:
    versions, backend = run.manifest.get("versions", {}), run.manifest.get("backend", {})
    sentences = [
        "Cells were imaged label-free and called live, dead or uncertain with livescope "
        f"{versions.get('livescope', '')} "
        f"(network {backend.get('model', 'unknown')}, SHA-256 {str(backend.get('model_sha256', 'unknown'))[:12]}, "
        f"{backend.get('backend', 'unknown')}).",
        "Viability is the number of live cells over live and dead cells; its 95 % interval is Wilson's, with an "
        "effective sample size from the scatter between wells, or between the fields of one, where there are several "
        "(Dean and Pagano 2015).",
    ]
    if any(v.corrected is not None for curve in run.curves.values() for v in curve.viability):
        sentences.append(
            "It was corrected for the network's sensitivity and specificity (Rogan and Gladen 1978), with the "
            "interval of Lang and Reiczigel (2014)."
        )
    if run.followed:
        sentences.append(
            "Cells were followed from frame to frame, and times of death estimated with a hidden Markov filter "
            "over the network's probabilities, motion and texture."
        )
    if any(map(len, run.lives.values())):
        sentences.append(
            "Survival was estimated after Kaplan and Meier; a cell is at risk from its first sight on (Klein and "
            "Moeschberger 2003)."
        )
    if tests := tests_done(run.lives):
        sentences.append(f"Conditions were compared {tests}.")
    if any(one.fit is not None for one in fits):
        sentences.append("Dose responses were fitted by least squares with a four-parameter logistic curve.")
    return f"<p>{escaped(' '.join(sentences))}</p><p>{escaped(CITATION)}</p>"


def _comparison(runs: Mapping[str, RunFacts]) -> str:
    curves = {f"{of}: {name}": curve for of, run in runs.items() for name, curve in run.curves.items()}
    rows = [
        (name, f"{curve.hours[-1]:.3g} h", viability_words(curve.viability[0]), viability_words(curve.viability[-1]))
        for name, curve in curves.items()
    ]
    text = figures.viability_curves(curves) + table(("run and condition", "length", "first", "last"), rows)
    lives = {f"{of}: {name}": lives for of, run in runs.items() for name, lives in run.lives.items() if len(lives)}
    if len(lives) < 2:
        return text
    return text + section("Survival", lambda: compared_survival(lives))


def _corrected(v: Viability, run: RunFacts) -> str:
    if math.isnan(v.fraction):
        return "no cell called"
    if run.card is None:
        return "the model's card is not at hand"
    if run.rates is None:
        whole = run.card.error_rates(None) is None
        return "the model's card states no error rates" + ("" if whole else " for the run's detector.uncertain")
    if v.corrected is None or v.corrected_low is None or v.corrected_high is None:
        return "the model is no better than chance"
    return f"{100 * v.corrected:.1f} % ({100 * v.corrected_low:.1f} to {100 * v.corrected_high:.1f})"


def _stem(path: Path) -> str:
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def _names(records: Sequence[Path]) -> list[str]:
    """Return the records' names, with as much of their folders as it takes to tell them apart.

    Raises
    ------
    SettingsError
        A record is given twice.
    """
    paths = [record.expanduser().absolute() for record in records]
    for depth in range(max(len(path.parts) for path in paths)):
        names = ["/".join([*(path.parent.parts[-depth:] if depth else ()), _stem(path)]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(str(record) for k, record in enumerate(records) if paths[k] in paths[:k])
    raise SettingsError(f"record {twice!r} is given twice; give each once.")


def _write_tables(run: RunFacts, page: Path, name: str) -> list[Path]:
    frames = page.with_name(f"{name}.viability.csv")
    with frames.open("w", newline="", encoding="utf-8") as file:
        if run.frame_rows:
            writer = csv.DictWriter(file, list(run.frame_rows[0]))
            writer.writeheader()
            writer.writerows(run.frame_rows)
    lives = page.with_name(f"{name}.lives.parquet")
    columns = {
        "condition": [name for name, group in run.lives.items() for _ in range(len(group))],
        "well": [well for group in run.lives.values() for well in _wells_of(group)],
        "entry_h": [float(v) for group in run.lives.values() for v in group.entry_h],
        "exit_h": [float(v) for group in run.lives.values() for v in group.exit_h],
        "died": [bool(v) for group in run.lives.values() for v in group.died],
    }
    hours = [("entry_h", pa.float64()), ("exit_h", pa.float64())]
    schema = pa.schema([("condition", pa.string()), ("well", pa.string()), *hours, ("died", pa.bool_())])
    pq.write_table(pa.table(columns, schema=schema), lives)
    return [frames, lives]


def _wells_of(lives: Lives) -> list[str | None]:
    return [None] * len(lives) if lives.well is None else lives.well.tolist()
