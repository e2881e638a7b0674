"""How many cells count as live, dead and uncertain in each analysed frame of a record, by its rule for the border.

Owns the counting of stored calls. The rules for the border are `livescope.assay.pooled`'s.
"""

from __future__ import annotations

from livescope.assay.pooled import BorderRule, counting_rows
from livescope.calls import State
from livescope.record.reader import Record

__all__ = ["Counts", "counts_of"]

Counts = tuple[int, int, int]
"""Live, dead, uncertain."""


def counts_of(record: Record, border: BorderRule | None = None) -> dict[int, Counts]:
    """Count the cells of each analysed frame, by `Frame.index`.

    Parameters
    ----------
    record
        The record.
    border
        Which cells at the border count; None takes what the run was told (`detector.border`).
    """
    rule = border or record.settings.detector.border
    if rule == "all":
        return {index: (told["n_live"], told["n_dead"], told["n_uncertain"]) for index, told in record.analyses.items()}
    shapes = {path: (about["height"], about["width"]) for path in record.images for about in [record.image(path)]}
    shape_of = {int(index): shapes[path] for index, path in _images(record)}
    counts = {}
    for index in record.analysed & shape_of.keys():
        calls = record.calls_of(index)
        if calls is not None:
            state = calls.state[counting_rows(calls, shape_of[index], rule)]
            live, dead, uncertain = (int((state == one).sum()) for one in (State.LIVE, State.DEAD, State.UNCERTAIN))
            counts[index] = live, dead, uncertain
    return counts


def _images(record: Record) -> zip[tuple[int, str]]:
    table = record.frame_table
    return zip(table["frame"].to_pylist(), table["image"].to_pylist(), strict=True)
