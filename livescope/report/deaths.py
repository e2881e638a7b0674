"""The part of a report that tells when cells died, and whether conditions differ in it.

Owns its words, and which tests are made of what. The estimates are `livescope.assay.survival`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from livescope.assay.survival import (
    BetweenWells,
    Lives,
    Survival,
    between_wells,
    death_rate,
    fit_lag_death,
    kaplan_meier,
    log_rank,
)
from livescope.errors import AssayError
from livescope.report import figures
from livescope.report.gather import RunFacts
from livescope.report.page import note, paragraph, table

__all__ = ["compared_survival", "deaths_section", "tests_done"]


def deaths_section(run: RunFacts) -> str:
    """Return survival by condition, rates and lags of death, and tests.

    Raises
    ------
    AssayError
        Cells were not followed, or none of them alive.
    """
    if not run.followed:
        raise AssayError("cells were not followed in this run, so nothing is known of when they died.")
    lives = {name: group for name, group in run.lives.items() if len(group)}
    if not lives:
        raise AssayError("no cell was seen alive and followed, so there is no survival to estimate.")
    survivals = {name: kaplan_meier(group) for name, group in lives.items()}
    rows = []
    for name, survival in survivals.items():
        rate = death_rate(lives[name])
        per_h = f"{rate.per_h:.3g} ({rate.low:.3g} to {rate.high:.3g})"
        lag = _lag(run, name) if survival.deaths else ""
        rows.append((name, str(survival.n), str(survival.deaths), _median(survival), per_h, lag))
    text = figures.survival_curves(survivals)
    head = ("condition", "watched", "died", "median survival", "deaths an hour and cell")
    text += table((*head, "onset and rate (95 % intervals)"), rows)
    if run.undeclared:
        were, them = ("was", "it") if run.undeclared == 1 else ("were", "them")
        text += paragraph(
            f"{run.undeclared} of these deaths {were} likelier than not when the cell was last seen, but not declared "
            f"(a posterior of 0.999): rules and the live view did not count {them}."
        )
    if run.resurrected:
        text += note(
            f"{run.resurrected} of {run.tracks} tracks {'was' if run.resurrected == 1 else 'were'} declared dead and "
            "later seen alive: there the model or the tracking erred."
        )
    return text + _compared(lives)


def compared_survival(lives: Mapping[str, Lives]) -> str:
    """Return survival curves beside each other, and tests."""
    return figures.survival_curves({name: kaplan_meier(group) for name, group in lives.items()}) + _compared(lives)


def tests_done(lives: Mapping[str, Lives]) -> str:
    """Name the tests by which these are compared, for a methods paragraph; empty where there is nothing to compare."""
    if sum(len(group) > 0 for group in lives.values()) < 2:
        return ""
    if isinstance(_by_wells(lives), str):
        return "by the log-rank test"
    return "with wells for replicates (deaths over those expected, analysis of variance) and by the log-rank test"


def _median(survival: Survival) -> str:
    end = f"not reached in {survival.hours[-1]:.3g} h"
    return f"{survival.median_h:.3g} h" if math.isfinite(survival.median_h) else end


def _compared(lives: Mapping[str, Lives]) -> str:
    """Say whether all die alike: by wells where there are enough of them, and by cells."""
    if len(lives) < 2:
        return ""
    wells = _by_wells(lives)
    if isinstance(wells, str):
        by_wells = f"Wells could not be taken for replicates: {wells}"
    else:
        by_wells = (
            "Test that all die alike, with wells for replicates (deaths of a well over those expected, analysis of "
            f"variance): F({wells.between}, {wells.within}) = {wells.f:.2f}, p = {wells.p:.2g}."
        )
        if wells.left_out:
            by_wells += f" Left out, for they are of one well: {', '.join(wells.left_out)}."
    statistic, p = log_rank(lives)
    by_cells = (
        f"Log-rank test: {statistic:.2f}, p = {p:.2g}. It takes cells as independent: where wells of one condition "
        "differ its p is too small."
    )
    return paragraph(by_wells) + paragraph(by_cells)


def _by_wells(lives: Mapping[str, Lives]) -> BetweenWells | str:
    """Compare by wells, or say why not."""
    try:
        return between_wells(lives)
    except AssayError as error:
        return str(error)


def _lag(run: RunFacts, name: str) -> str:
    curve = run.curves.get(name)
    if curve is None:
        return ""
    cells = float(np.mean([v.n_live + v.n_dead for v in curve.viability]))
    try:
        fit = fit_lag_death(curve.hours, [1 - v.fraction for v in curve.viability], cells)
    except AssayError as error:
        return str(error)
    onset, rate = (f"{low:.3g} to {high:.3g}" for low, high in (fit.onset_interval_h, fit.rate_interval_per_h))
    return f"{fit.onset_h:.3g} h ({onset}), {fit.rate_per_h:.3g} ({rate}) an hour"
