"""The part of a report that tells how viability hangs on the dose of each compound.

Owns which wells a compound's curve is fitted to, and its words. The fit is `livescope.assay.dose`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from livescope.assay.dose import DoseResponse, fit_dose_response
from livescope.assay.plate import Plate
from livescope.calls import Viability
from livescope.errors import AssayError
from livescope.report import figures
from livescope.report.page import table

__all__ = ["DoseFit", "dose_fits", "doses_section"]

Floats = NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class DoseFit:
    """Wells of one compound and of none, and their curve; `why` says why there is none."""

    compound: str
    unit: str
    dose: Floats
    response: Floats
    fit: DoseResponse | None
    why: str = ""


def dose_fits(wells: Mapping[str, Viability], plate: Plate) -> list[DoseFit]:
    """Fit a curve to each compound of the plate map whose wells were seen."""
    seen = [well for well in plate.wells if well.well in wells]
    untreated = [well for well in seen if well.control == "negative" or (not well.compound and well.dose == 0)]
    fits = []
    for compound in dict.fromkeys(
        well.compound for well in seen if well.compound and well.dose > 0 and not well.control
    ):
        own = [well for well in seen if well.compound == compound and well not in untreated]
        # what dose a control has is its vehicle's, not this compound's
        dose = np.array([well.dose for well in own] + [0.0] * len(untreated))
        response = np.array([wells[well.well].fraction for well in own + untreated])
        unit = next(well.unit for well in own if well.dose > 0)
        try:
            fits.append(DoseFit(compound, unit, dose, response, fit_dose_response(dose, response)))
        except AssayError as error:
            fits.append(DoseFit(compound, unit, dose, response, None, str(error)))
    return fits


def doses_section(fits: Sequence[DoseFit], when: str) -> str:
    """Return curves and half effects; `when` says of what time the viability is.

    Raises
    ------
    AssayError
        There is no compound with a dose.
    """
    if not fits:
        raise AssayError("the plate map has no compound with a dose.")
    told = "<p>The interval is that of the profile likelihood.</p>" if any(one.fit is not None for one in fits) else ""
    return (
        f"<p>Viability {when}.</p>"
        + "".join(figures.dose_curve(one.compound, one.unit, one.dose, one.response, one.fit) for one in fits)
        + table(("compound", "half effect (95 % interval)", "slope", "plateaus", "wells"), map(_row, fits))
        + told
    )


def _row(one: DoseFit) -> tuple[str, ...]:
    if one.fit is None:
        return one.compound, one.why, "", "", ""
    plateaus = f"{one.fit.top.value:.2f} to {one.fit.bottom.value:.2f}"
    return one.compound, _half_effect(one.fit, one.unit), f"{one.fit.slope.value:.2f}", plateaus, str(one.fit.n)


def _half_effect(fit: DoseResponse, unit: str) -> str:
    """Say what the doses tell of the half effect: a dose, or only which side of one it lies on."""
    low, high = fit.ec50.low, fit.ec50.high
    if fit.determined:
        beyond = "" if fit.bounded else " (outside the doses: an extrapolation)"
        return f"{fit.ec50.value:.3g} ({low:.3g} to {high:.3g}) {unit}{beyond}"
    if low > 0:
        return f"above {low:.3g} {unit}; how far, these doses do not tell"
    if math.isfinite(high):
        return f"below {high:.3g} {unit}; how far, these doses do not tell"
    return "not determined by these doses"
