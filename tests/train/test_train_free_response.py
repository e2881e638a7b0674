from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from field_kit import calls, field

from livescope.calls import State
from livescope.train.free_response import free_response, marked_cells, threshold_of
from livescope.train.scoring import match_field

TRUTH = field([(20, 20), (20, 80), (80, 20), (80, 80)], [State.LIVE, State.LIVE, State.DEAD, State.DEAD])
CALLED = calls(
    [(20, 20), (50, 50), (80, 20), (20, 80), (50, 10), (80, 80), (50, 90), (5, 50)],
    chances=[0.1, 0.5, 0.9, 0.95, 0.5, 0.8, 0.5, 0.5],
    scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
)


def test_the_curve_says_what_each_threshold_finds() -> None:
    rows = {row["calls_per_cell"]: row for row in free_response([TRUTH], [CALLED], reach=1.0)}
    assert list(rows) == [0.5, 0.75, 1.0, 1.25, 1.5, 2.0]  # of 2.5 for each marked cell there are not enough
    assert rows[0.5]["p_cell"] == pytest.approx(0.8)
    assert (rows[0.5]["recall"], rows[0.5]["recall_live"], rows[0.5]["recall_dead"]) == (0.25, 0.5, 0.0)
    assert (rows[1.0]["recall"], rows[1.0]["recall_live"], rows[1.0]["recall_dead"]) == (0.75, 1.0, 0.5)
    assert rows[1.0]["auc_dead"] == pytest.approx(0.5)
    assert rows[2.0]["recall"] == 1.0
    assert rows[2.0]["auc_dead"] == pytest.approx(0.5)


def test_every_call_counts_also_where_labels_are_silent() -> None:
    silent = replace(TRUTH, known=np.zeros((100, 100), bool))
    assert len(match_field(silent, CALLED, reach=1.0).marked) == 4
    assert free_response([silent], [CALLED], reach=1.0) == free_response([TRUTH], [CALLED], reach=1.0)


def test_picked_cells_and_none_say_nothing() -> None:
    assert free_response([replace(TRUTH, picked=True)], [CALLED], reach=1.0) == []
    assert free_response([field([(-20, 20)], [State.LIVE])], [CALLED], reach=1.0) == []


def test_cells_found_and_missed_are_marked_ones() -> None:
    assert marked_cells([match_field(TRUTH, CALLED.select(CALLED.p_cell > 0.75), reach=1.0)]) == 4


@pytest.mark.parametrize(("number", "expected"), [(1, 0.9), (8, 0.2), (9, None), (0, None)])
def test_a_number_of_calls_has_a_threshold(number: int, expected: float | None) -> None:
    found = threshold_of([CALLED.select(CALLED.x_px > 50), CALLED.select(CALLED.x_px <= 50)], number)
    assert found == (None if expected is None else pytest.approx(expected))


def test_calls_of_one_score_are_not_parted_by_chance() -> None:
    """A network that says 1 of every cell has one threshold, and no curve below what it calls."""
    assert threshold_of([replace(CALLED, p_cell=np.ones(8, np.float32))], 4) is None
    tied = replace(CALLED, p_cell=np.array([0.9, 0.8, 0.7, 0.5, 0.5, 0.5, 0.3, 0.2], np.float32))
    assert threshold_of([tied], 5) == pytest.approx(0.7)
    assert threshold_of([tied], 6) == pytest.approx(0.5)
    rows = free_response([TRUTH], [replace(CALLED, p_cell=np.ones(8, np.float32))], reach=1.0)
    assert [(row["calls_per_cell"], row["recall"]) for row in rows] == [(2.0, 1.0)]
