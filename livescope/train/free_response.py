"""How many marked cells are found, by how many are called for each: what a lower or a higher threshold would give.

Owns that curve, a free-response one (FROC) with the calls for each marked cell on its axis. Where not every cell is
marked, a call beside them may be right, and precision says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from livescope.calls import CellCalls
from livescope.train.data import Field
from livescope.train.scoring import Matched, match_field, score

__all__ = ["FAINTEST", "free_response", "marked_cells", "threshold_of"]

FAINTEST = 0.005
"""Score down to which calls are asked for."""
_CALLS_PER_CELL = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)


def threshold_of(calls: Sequence[CellCalls], number: int) -> float | None:
    """Find the score at which `number` cells are called, the surest first, or fewer where more have that score.

    None where there are not so many calls, or where the surest `number` cannot be told from others.
    """
    scores = np.sort(np.concatenate([one.p_cell for one in calls]))[::-1]
    if not 0 < number <= len(scores):
        return None
    within = scores[:number]
    within = within[within > scores[number]] if number < len(scores) else within
    return float(within[-1]) if len(within) else None


def marked_cells(matched: Sequence[Matched]) -> int:
    """Count the marked cells that were asked for, found or missed."""
    return sum(int(np.sum(one.marked >= 0)) + len(one.missed) for one in matched)


def free_response(fields: Sequence[Field], calls: Sequence[CellCalls], reach: float) -> list[dict[str, Any]]:
    """Score calls at several thresholds.

    Parameters
    ----------
    fields
        The truth. Those whose marked cells were picked by what a model had called wrong are left out.
    calls
        Of each field, down to `FAINTEST`. Leaving out the faintest is what a higher threshold gives: they suppress
        nobody.
    reach
        As `livescope.train.scoring.match_field` takes it.

    Returns
    -------
    Of each threshold `calls_per_cell` and `p_cell`; of the marked cells `recall`, `recall_live` and `recall_dead`, and
    `auc_dead` of those found. Every call counts, also where labels say nothing. More calls than there are give no row.
    """
    pairs = [(field, one) for field, one in zip(fields, calls, strict=True) if not field.picked]
    if not pairs:
        return []
    kept = [one for _, one in pairs]
    cells = marked_cells([match_field(field, one, reach) for field, one in pairs])
    rows = []
    for per_cell in _CALLS_PER_CELL:
        p_cell = threshold_of(kept, int(per_cell * cells))
        if p_cell is not None:
            scores = score([match_field(field, one.select(one.p_cell >= p_cell), reach) for field, one in pairs])
            names = ("recall", "recall_live", "recall_dead", "auc_dead")
            rows.append({"calls_per_cell": per_cell, "p_cell": p_cell, **{k: getattr(scores, k) for k in names}})
    return rows
