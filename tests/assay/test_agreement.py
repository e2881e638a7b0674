from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livescope.assay.agreement import Tally, agreement, auc, match
from livescope.calls import CellCalls, State

L, D, U = State.LIVE, State.DEAD, State.UNCERTAIN


@dataclass
class Cells:
    y_px: np.ndarray
    x_px: np.ndarray
    radii_px: np.ndarray
    state: np.ndarray


def cells(*rows: tuple[float, float, int], radius: float = 10) -> Cells:
    y, x, state = np.array(rows, float).reshape(-1, 3).T
    return Cells(y, x, np.full((len(y), 32), radius), state.astype(np.uint8))


def called(*rows: tuple[float, float, int], p_dead: list[float] | None = None) -> CellCalls:
    c = cells(*rows)
    n = len(c.y_px)
    p = np.array(p_dead if p_dead is not None else [0.5] * n, np.float32)
    y, x, radii = (a.astype(np.float32) for a in (c.y_px, c.x_px, c.radii_px))
    return CellCalls(0, y, x, radii, p, p, c.state, y, np.zeros(n, bool), np.zeros(n, np.int64))


def test_a_pair_lies_within_half_a_radius() -> None:
    truth = cells((50, 50, L))
    assert match(called((50, 54.9, L)), truth).tolist() == [[0, 0]]
    assert len(match(called((50, 55.1, L)), truth)) == 0
    assert len(match(called(), truth)) == len(match(called((1, 1, L)), cells())) == 0


def test_one_call_is_one_cell_and_as_many_pairs_as_possible() -> None:
    # the greedy choice (call 0 with cell 1, 1 px off) would leave cell 0 without a call
    truth = cells((0, 0, L), (0, 5, L))
    calls = called((0, 4, L), (0, 9, L))
    assert sorted(match(calls, truth).tolist()) == [[0, 0], [1, 1]]
    assert len(match(called((0, 1, L), (0, 2, L), (0, -1, L)), cells((0, 0, L)))) == 1


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4),
)
def test_matching_is_the_best_of_all(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    calls, truth = called(*[(y, x, L) for y, x in a]), cells(*[(y, x, L) for y, x in b])
    short, long = sorted((a, b), key=len)
    best = max(
        sum(math.dist(p, q) <= 5 for p, q in zip(short, order, strict=True)) for order in permutations(long, len(short))
    )
    pairs = match(calls, truth)
    assert len(pairs) == best
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == best


def test_figures() -> None:
    truth = cells((0, 0, L), (0, 50, L), (0, 100, D), (0, 150, D), (0, 200, L))
    calls = called((0, 1, L), (0, 50, D), (0, 100, D), (0, 200, U), (90, 90, L), p_dead=[0.1, 0.7, 0.8, 0.5, 0.0])
    a = agreement(calls, truth)
    assert (a.n_true, a.n_called, a.n_matched) == (5, 5, 4)
    assert (a.precision, a.recall, a.f1) == pytest.approx((0.8, 0.8, 0.8))
    assert (a.recall_live, a.recall_dead) == pytest.approx((1.0, 0.5))
    assert (a.live_called_live, a.dead_called_dead) == pytest.approx((0.5, 1.0))
    assert (a.balanced_accuracy, a.balanced_accuracy_decided) == pytest.approx(((1 / 3 + 1) / 2, 0.75))
    assert a.uncertain == pytest.approx(0.25)
    assert a.same_state == pytest.approx(0.5)
    assert a.auc_dead == 1.0


def test_a_tally_counts_cells_not_frames() -> None:
    tally = Tally()
    tally.add(called((0, 0, L)), cells((0, 0, L)))
    tally.add(called(), cells((0, 0, L), (0, 50, D), (0, 90, D)))
    summary = tally.summary()
    assert summary["frames"] == 2
    assert summary["recall"] == 0.25
    assert summary["recall_live"] == 0.5
    assert math.isnan(summary["dead_called_dead"])
    assert math.isnan(Tally().summary()["f1"])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_auc_is_the_part_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(np.array(positive), np.array(negative)) == pytest.approx(np.mean(wins))
    assert math.isnan(auc(np.array(positive), np.array([])))
