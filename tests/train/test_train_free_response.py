from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from livescope.calls import CellCalls, State, ray_angles
from livescope.train.data import Field
from livescope.train.free_response import free_response, marked_cells, threshold_of
from livescope.train.scoring import match_field


def field(centres: Sequence[tuple[float, float]], states: Sequence[State]) -> Field:
    middle = np.asarray(centres, np.float32)
    unit = np.stack([np.sin(ray_angles()), np.cos(ray_angles())], -1)
    contours = (middle[:, None] + 10.0 * unit).astype(np.float32)
    return Field("f", "g", np.zeros((100, 100), np.uint8), middle, contours, np.asarray(states, np.uint8))


def calls(centres: Sequence[tuple[float, float]], scores: Sequence[float], p_dead: Sequence[float]) -> CellCalls:
    middle, n = np.asarray(centres, np.float32), len(centres)
    return CellCalls(
        frame_index=0,
        y_px=middle[:, 0],
        x_px=middle[:, 1],
        radii_px=np.full((n, 32), 10, np.float32),
        p_cell=np.asarray(scores, np.float32),
        p_dead=np.asarray(p_dead, np.float32),
        state=np.full(n, State.UNCERTAIN, np.uint8),
        area_px=np.full(n, 314, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
    )


TRUTH = field([(20, 20), (20, 80), (80, 20), (80, 80)], [State.LIVE, State.LIVE, State.DEAD, State.DEAD])
CALLED = calls(
    [(20, 20), (50, 50), (80, 20), (20, 80), (50, 10), (80, 80), (50, 90), (5, 50)],
    [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
    [0.1, 0.5, 0.9, 0.95, 0.5, 0.8, 0.5, 0.5],
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
