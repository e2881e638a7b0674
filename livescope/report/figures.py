"""The figures of a run's report, as SVG text and PNG data that stand inside the page.

Owns how things are drawn. What is drawn comes from `gather` and `livescope.assay`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from livescope.assay.dose import DoseResponse
from livescope.assay.dye import BlandAltman
from livescope.assay.plate import Well
from livescope.assay.survival import Survival
from livescope.calls import State, Viability
from livescope.errors import AssayError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from livescope.report.gather import Crop, Curve

__all__ = [
    "bland_altman_plot",
    "count_curves",
    "crop_png",
    "dose_curve",
    "plate_map",
    "shift_curve",
    "survival_curves",
    "time_unit",
    "viability_curves",
]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
_STATE_COLOURS = {State.LIVE: "#009e73", State.DEAD: "#d55e00", State.UNCERTAIN: "#888888"}


def viability_curves(curves: Mapping[str, Curve]) -> str:
    """Draw the viability over time with its intervals, a line a condition."""
    figure, axes = _figure(7.2, 3.2)
    scale, unit = time_unit(max((float(curve.hours.max()) for curve in curves.values()), default=0.0))
    for colour, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        axes.plot(scale * curve.hours, [v.fraction for v in curve.viability], color=colour, label=name, lw=1.6)
        low, high = ([getattr(v, end) for v in curve.viability] for end in ("low", "high"))
        axes.fill_between(scale * curve.hours, low, high, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel=unit, ylabel="viability", ylim=(0, 1.02))
    _legend(axes, len(curves))
    return _svg(figure)


def count_curves(curve: Curve) -> str:
    """Draw the cells of each state over time."""
    figure, axes = _figure(7.2, 2.6)
    scale, unit = time_unit(float(curve.hours.max()))
    for state, colour in _STATE_COLOURS.items():
        axes.plot(
            scale * curve.hours,
            [getattr(v, f"n_{state.label}") for v in curve.viability],
            color=colour,
            label=state.label,
        )
    axes.set(xlabel=unit, ylabel="cells in view", ylim=(0, None))
    _legend(axes, 3)
    return _svg(figure)


def survival_curves(survivals: Mapping[str, Survival]) -> str:
    """Draw Kaplan-Meier curves with their intervals."""
    figure, axes = _figure(7.2, 3.2)
    scale, unit = time_unit(max(float(curve.hours.max()) for curve in survivals.values()))
    for colour, (name, curve) in zip(_cycle(len(survivals)), survivals.items(), strict=True):
        axes.step(scale * curve.hours, curve.alive, where="post", color=colour, label=f"{name} (n = {curve.n})", lw=1.6)
        axes.fill_between(scale * curve.hours, curve.low, curve.high, step="post", color=colour, alpha=0.2, lw=0)
    axes.set(xlabel=unit, ylabel="alive", ylim=(0, 1.02))
    _legend(axes, 1 + len(survivals))
    return _svg(figure)


def dose_curve(
    compound: str, unit: str, dose: NDArray[np.float64], response: NDArray[np.float64], fit: DoseResponse | None
) -> str:
    """Draw a dose response: wells, the fitted curve and its band; dose 0 stands at the left edge."""
    figure, axes = _figure(4.6, 3.2)
    positive = dose[dose > 0]
    edge = float(positive.min()) / 10
    axes.plot(np.where(dose > 0, dose, edge), response, "o", color=_COLOURS[0], ms=4, alpha=0.8)
    if fit is not None:
        grid = np.geomspace(edge, float(positive.max()) * 1.5, 200)
        axes.plot(grid, fit.predict(grid), color=_COLOURS[1])
        axes.fill_between(grid, *fit.band(grid), color=_COLOURS[1], alpha=0.2, lw=0)
        axes.axvline(fit.ec50.value, color="#888888", lw=0.8, ls=":")
    axes.set(xscale="log", xlabel=f"{compound}, {unit} (left edge: none)", ylabel="viability", ylim=(0, 1.05))
    return _svg(figure)


def shift_curve(points: Sequence[tuple[float, float]]) -> str:
    """Draw the distance from the model's training over hours, with the limit."""
    figure, axes = _figure(7.2, 2.2)
    hours, distances = np.array(points).T
    scale, unit = time_unit(float(hours.max()))
    axes.plot(scale * hours, distances, color=_COLOURS[0], lw=1.2)
    axes.axhline(1.0, color=_COLOURS[1], lw=0.9, ls=":")
    axes.set(xlabel=unit, ylabel="distance", ylim=(0, None))
    return _svg(figure)


def bland_altman_plot(first: Sequence[float], second: Sequence[float], limits: BlandAltman) -> str:
    """Draw differences of paired viabilities against their means, with bias and limits of agreement."""
    figure, axes = _figure(4.6, 3.0)
    a, b = np.asarray(first, float), np.asarray(second, float)
    axes.plot((a + b) / 2, a - b, "o", color=_COLOURS[0], ms=4, alpha=0.8)
    for value, style in ((limits.bias, "-"), (limits.low, ":"), (limits.high, ":")):
        axes.axhline(value, color="#888888", lw=0.9, ls=style)
    axes.set(xlabel="mean of model and dye", ylabel="model minus dye")
    return _svg(figure)


def plate_map(wells: Sequence[Well], viability: Mapping[str, Viability]) -> str:
    """Draw the plate as a heat map of the viability at the end."""
    rows, columns = (1 + max(well.row_column[axis] for well in wells) for axis in (0, 1))
    grid = np.full((rows, columns), np.nan)
    for well in wells:
        if well.well in viability:
            grid[well.row_column] = viability[well.well].fraction
    figure, axes = _figure(max(3.0, 0.55 * columns + 1.2), max(2.0, 0.45 * rows + 0.8))
    picture = axes.imshow(grid, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(picture, ax=axes, label="viability")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="w" if value < 0.6 else "k"
            )
    axes.set_xticks(range(columns), [str(k + 1) for k in range(columns)])
    letters = {well.row_column[0]: well.well.rstrip("0123456789") for well in wells}
    axes.set_yticks(range(rows), [letters.get(k, "") for k in range(rows)])
    return _svg(figure)


def crop_png(crop: Crop, low: float, high: float) -> str:
    """Return a cell's picture as a data URL; `low` and `high` are the grey levels of black and white."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, crop.pixels, vmin=low, vmax=max(high, low + 1), cmap="gray", format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def time_unit(hours: float) -> tuple[float, str]:
    """Return the unit that suits a length of time, as (units an hour, name).

    >>> time_unit(0.01), time_unit(1.5), time_unit(20)
    ((3600.0, 'seconds'), (60.0, 'minutes'), (1.0, 'hours'))
    """
    return (3600.0, "seconds") if hours < 0.05 else (60.0, "minutes") if hours < 2 else (1.0, "hours")


def _figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AssayError("a report draws with matplotlib: pip install livescope[assay].") from None
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # text stays text, ids do not change from one report to the next
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "livescope"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _cycle(n: int) -> list[str]:
    return [_COLOURS[k % len(_COLOURS)] for k in range(n)]


def _legend(axes: Axes, n: int) -> None:
    if n > 1:
        axes.legend(frameon=False, fontsize=8, ncols=1 + n // 9, loc="best")
