"""The validation sheet as one HTML file that needs nothing beside it.

Owns the page; every number comes from the sheet.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["WORDS", "write_page"]

WORDS = {
    "n_live": "cells marked live",
    "n_dead": "cells marked dead",
    "f1": "detection F1",
    "precision": "detection precision",
    "recall": "detection recall",
    "recall_live": "live cells found",
    "recall_dead": "dead cells found",
    "auc_dead": "AUC of dead",
    "average_precision_dead": "average precision of dead",
    "balanced_accuracy": "balanced accuracy at 0.5",
    "f1_dead": "F1 of dead at 0.5",
    "mcc": "Matthews correlation at 0.5",
    "sensitivity": "live called live (of calls given)",
    "specificity": "dead called dead (of calls given)",
    "uncertain": "left uncertain",
    "error_at_90": "wrong among the surest 90 %",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}.limits{background:#fff4d6;padding:.6em 1em}"
)


def write_page(sheet: dict[str, Any], figures: Sequence[tuple[str, Path]], path: Path) -> None:
    """Write the page.

    Parameters
    ----------
    sheet
        Of `livescope.train.evaluate.sheet_of`.
    figures
        (caption, PNG file); they are embedded.
    path
        The HTML file.
    """
    model, data = sheet["model"], sheet["data"]
    seen = data.get("fields_left_out_as_seen", 0)
    parts = [
        f"<h1>Validation of {escape(model['name'])} {escape(model['version'])}</h1>",
        f"<p class=limits><b>Limits.</b> {escape(model['limits'])}</p>",
        f"<p>{data['fields']} fields with {data['cells']} marked cells in {data['groups']} independent groups "
        f"({escape(data['described'])}). {seen} fields were left out because the model had seen their group. "
        f"A call is right within {data['reach']:g} of the marked cell's radius. Intervals: 95 %, groups resampled; "
        "none where fewer than three groups tell of a figure, or where it is exactly 0 or 1. "
        f"Network sha256 {model['sha256'][:16]}.</p>",
    ]
    parts += [f"<p class=limits><b>Warning.</b> {escape(one)}</p>" for one in sheet["warnings"]]
    if not data["every_cell_marked"]:
        parts.append("<p>Not every cell is marked: precision, F1 and viability of whole fields mean nothing here.</p>")
    rows = [
        [WORDS[name], _cell(one["value"]), _interval(one["interval"])]
        for name, one in sheet["figures"].items()
        if one["value"] is not None
    ]
    if sheet["calls_per_cell"] is not None:
        rows.append(["calls for each marked cell", _cell(sheet["calls_per_cell"]), ""])
    for unit, off in (("pixels", sheet["localisation_px"]), ("um", sheet["localisation_um"])):
        if off:
            row = f"distance of found centres, {unit}"
            rows.append([row, f"{off['median']:.2f}", f"95th percentile {off['p95']:.2f}"])
    for kind, one in (sheet["outlines"] or {}).items():
        rows.append([f"F1 of outlines at IoU 0.5, {kind}", _cell(one["value"]), _interval(one["interval"])])
    parts.append(_table(["figure", "value", "95 % interval"], rows))
    if agreement := sheet["viability"]:
        corrected = agreement["corrected_bias"]
        parts.append(
            f"<h2>Viability by {agreement['unit']}</h2><p>Bias {agreement['bias']:+.3f}, limits of agreement "
            f"{agreement['low']:+.3f} to {agreement['high']:+.3f}, Lin's concordance {_cell(agreement['ccc'])}; bias "
            f"after correction for sensitivity and specificity (Rogan and Gladen) {_cell(corrected)}.</p>"
        )
    for caption, file in figures:
        png = base64.b64encode(file.read_bytes()).decode("ascii")
        parts.append(
            f'<figure><img src="data:image/png;base64,{png}"><figcaption>{escape(caption)}</figcaption></figure>'
        )
    for title, name in (
        ("Found, by calls for each marked cell", "free_response"),
        ("Disturbed fields", "shift"),
        ("By group", "groups"),
    ):
        if sheet[name]:
            head = list(sheet[name][0])
            parts += [f"<h2>{title}</h2>", _table(head, [[_cell(row[k]) for k in head] for row in sheet[name]])]
    body = "\n".join(parts)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(model['name'])}</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>",
        encoding="utf-8",
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"
