"""Figures of a validation sheet and of a training, as PNG.

Owns the drawing; every number comes from the sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from livescope.train.dye import Measured, Thresholds

if TYPE_CHECKING:
    from livescope.train.fit import History

__all__ = ["draw_dye", "draw_figures", "draw_history"]


def draw_figures(sheet: dict[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Draw what the sheet holds; returns (caption, path) of each figure."""
    drawn = []
    if sheet["free_response"]:
        drawn.append(_free_response(sheet, folder / "free_response.png"))
    if sheet["reliability"]:
        figure, axes = _axes("chance of dead that was called", "part that was dead")
        axes.plot([0, 1], [0, 1], color="0.7")
        rows = sheet["reliability"]
        axes.plot([row["called"] for row in rows], [row["dead"] for row in rows], marker="o")
        for row in rows:
            axes.annotate(
                str(row["n"]), (row["called"], row["dead"]), fontsize=7, xytext=(3, -9), textcoords="offset points"
            )
        drawn.append(
            _save(figure, folder / "reliability.png", "Reliability: called chances against counts (numbers: cells)")
        )
    if sheet["risk_coverage"]:
        figure, axes = _axes("part of the cells that are called", "part of the calls that are wrong")
        rows = sheet["risk_coverage"]
        axes.plot([row["coverage"] for row in rows], [row["risk"] for row in rows], marker=".")
        axes.set_ylim(bottom=0)
        drawn.append(_save(figure, folder / "risk_coverage.png", "Risk and coverage: what abstention gains"))
    if sheet["viability"]:
        drawn.append(_bland_altman(sheet["viability"], folder / "viability.png"))
    if sheet["shift"]:
        figure, axes = _axes("", "figure", width=8)
        rows = sheet["shift"]
        for name in ("f1", "auc_dead", "balanced_accuracy"):
            axes.plot(range(len(rows)), [_number(row[name]) for row in rows], marker="o", label=name)
        axes.set_xticks(range(len(rows)), [row["case"] for row in rows], rotation=60, ha="right", fontsize=8)
        axes.legend()
        drawn.append(_save(figure, folder / "shift.png", "Disturbed fields: focus, lamp, gain, noise, pixel size"))
    return drawn


def draw_history(history: History, path: Path) -> None:
    """Draw the losses of a training, its parts apart, validation dashed."""
    figure, axes = _axes("step", "loss", width=7)
    for name in history.train[-1][1] if history.train else ():
        (line,) = axes.plot([s for s, _ in history.train], [parts[name] for _, parts in history.train], label=name)
        valid = [(s, parts[name]) for s, parts in history.valid if name in parts]
        axes.plot([s for s, _ in valid], [v for _, v in valid], color=line.get_color(), linestyle="--")
    axes.set_yscale("log")
    axes.legend(title="dashed: validation", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path, "")


def draw_dye(measured: Sequence[Measured], thresholds: Thresholds, path: Path) -> tuple[str, Path]:
    """Draw the dead dye of every nucleus with the lines between live, ambiguous and dead; returns (caption, path)."""
    in_field, in_ring = (np.concatenate([getattr(m, name) for m in measured]) for name in ("field", "ring"))
    # one above the other: legible in the narrow column of the training wizard
    figure = Figure(figsize=(5, 6), layout="constrained")
    FigureCanvasAgg(figure)
    bars, dots = figure.subplots(2, 1)
    bars.hist(np.log2(np.maximum(in_field, 1e-2)), bins=60, color="0.6")
    dots.scatter(in_field, in_ring, s=5, color="0.4")
    dots.set_xscale("log")
    dots.set_yscale("log")
    # blue solid and orange dashed, as on every picture: told apart with every kind of colour vision
    for in_middle, in_surroundings, line, name in (
        (thresholds.live_field, thresholds.live_ring, {"color": "#0072B2"}, "live below"),
        (thresholds.dead_field, thresholds.dead_ring, {"color": "#E69F00", "linestyle": "--"}, "dead above"),
    ):
        bars.axvline(np.log2(in_middle), label=f"{name} {in_middle:g}", **line)
        dots.axvline(in_middle, **line)
        dots.axhline(in_surroundings, **line)
    bars.set_xlabel("log2 of dead dye / field median")
    bars.set_ylabel("nuclei")
    bars.legend()
    dots.set_xlabel("dead dye / field median")
    dots.set_ylabel("dead dye / local ring")
    return _save(figure, path, "Truth of the states: dead dye of every nucleus, live below both lines, dead above both")


def _free_response(sheet: dict[str, Any], path: Path) -> tuple[str, Path]:
    figure, axes = _axes("calls for each marked cell", "part of the marked cells that are found")
    rows, figures = sheet["free_response"], sheet["figures"]
    for name, word, colour, dash in (
        ("recall", "all", "0.3", "-"),
        ("recall_live", "live", "#0072B2", "-"),
        ("recall_dead", "dead", "#E69F00", "--"),
    ):
        values = [_number(row[name]) for row in rows]
        if np.isfinite(values).any():
            axes.plot([row["calls_per_cell"] for row in rows], values, dash, marker=".", color=colour, label=word)
    axes.plot(
        [_number(sheet["calls_per_cell"])], [_number(figures["recall"]["value"])], "k*", ms=11, label="as it calls"
    )
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right")
    return _save(figure, path, "Found, by calls for each marked cell: what a lower or a higher threshold would give")


def _bland_altman(agreement: dict[str, Any], path: Path) -> tuple[str, Path]:
    figure, axes = _axes("mean of called and true viability", "called - true")
    called, true = ([row[k] for row in agreement["pairs"]] for k in ("called", "true"))
    axes.scatter(
        [(c + t) / 2 for c, t in zip(called, true, strict=True)], [c - t for c, t in zip(called, true, strict=True)]
    )
    for name, style in (("bias", "-"), ("low", "--"), ("high", "--")):
        axes.axhline(agreement[name], linestyle=style, color="0.4")
    return _save(
        figure, path, f"Viability by {agreement['unit']} (Bland and Altman): bias and 95 % limits of agreement"
    )


def _axes(x: str, y: str, width: float = 5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path, caption: str) -> tuple[str, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return caption, path


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
