"""Whole fields and abstention: does the viability agree, and what is gained by leaving calls open.

Owns Bland-Altman, Lin's concordance and the risk-coverage curve. Single cells are scored in `scoring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from livescope.assay.viability import corrected_fraction
from livescope.calls import State
from livescope.detect.bundle import Card
from livescope.train.scoring import Matched

__all__ = ["risk_coverage", "viability_agreement"]

_LEAST_CELLS = 10
"""A field or group of fewer cells has no viability worth comparing."""


def risk_coverage(matched: Sequence[Matched], steps: int = 20) -> list[dict[str, float]]:
    """Part of wrong calls among the surest cells, by the part of cells that are called at all."""
    p = np.concatenate([m.p_dead for m in matched]).astype(np.float64)
    marked = np.concatenate([m.marked for m in matched])
    known = (marked == State.LIVE) | (marked == State.DEAD)
    p, dead = p[known], marked[known] == State.DEAD
    if not len(p):
        return []
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    risk = np.cumsum(((p >= 0.5) != dead)[order]) / np.arange(1, len(p) + 1)
    at = np.unique(np.ceil(np.linspace(1 / steps, 1, steps) * len(p)).astype(int))
    return [{"coverage": float(k / len(p)), "risk": float(risk[k - 1])} for k in at]


def viability_agreement(matched: Sequence[Matched], card: Card) -> dict[str, Any] | None:
    """Compare called with true viability, field by field, or group by group where fields hold too few cells.

    Returns
    -------
    `bias`, `low`, `high` (limits of agreement, mean +- 1.96 deviations; Bland and Altman 1986), `ccc` (Lin 1989),
    `corrected_bias` with the card's sensitivity and specificity, and the pairs; None where there are fewer than three.
    """
    rows = _rows(matched, "name", card)
    unit = "field"
    if len(rows) < 3:
        rows, unit = _rows(matched, "group", card), "group"
    if len(rows) < 3:
        return None
    true, called = (np.array([row[k] for row in rows], float) for k in ("true", "called"))
    difference = called - true
    spread = 1.96 * float(difference.std(ddof=1))
    scale = float(true.var() + called.var() + (true.mean() - called.mean()) ** 2)
    corrected = [row["corrected"] - row["true"] for row in rows if row["corrected"] is not None]
    return {
        "unit": unit,
        "bias": float(difference.mean()),
        "low": float(difference.mean()) - spread,
        "high": float(difference.mean()) + spread,
        "ccc": 2 * float(np.mean((true - true.mean()) * (called - called.mean()))) / scale if scale else None,
        "corrected_bias": float(np.mean(corrected)) if corrected else None,
        "pairs": rows,
    }


def _rows(matched: Sequence[Matched], by: str, card: Card) -> list[dict[str, Any]]:
    units: dict[str, list[Matched]] = {}
    for one in matched:
        units.setdefault(getattr(one, by), []).append(one)
    stated = None if card.sensitivity is None or card.specificity is None else (card.sensitivity, card.specificity)
    rows = []
    for name, ones in units.items():
        truth = np.concatenate([part for m in ones for part in (m.marked[m.marked >= 0], m.missed)])
        call = np.concatenate([m.call for m in ones])
        live, dead = int(np.sum(truth == State.LIVE)), int(np.sum(truth == State.DEAD))
        called_live, called_dead = (int(np.sum(call == state)) for state in (State.LIVE, State.DEAD))
        if live + dead < _LEAST_CELLS or not called_live + called_dead:
            continue
        called = called_live / (called_live + called_dead)
        rows.append(
            {
                "name": name,
                "n": live + dead,
                "true": live / (live + dead),
                "called": called,
                "corrected": None if stated is None else corrected_fraction(called, *stated),
            }
        )
    return rows
