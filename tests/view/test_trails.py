"""Trails: where cells have been."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from livescope.calls import State
from livescope.view.trails import Trails

LIVE, DEAD = State.LIVE, State.DEAD


@pytest.fixture
def at(new_frame: Any, new_analysis: Any) -> Any:
    """Make the analysis of a frame with cells at places: track -> (x, y)."""

    def make(index: int, places: dict[int, tuple[float, float]], **frame: Any) -> Any:
        analysis = new_analysis(dataclasses.replace(new_frame(index), **frame), [LIVE] * len(places))
        xy = np.array(list(places.values()), np.float32).reshape(-1, 2)
        calls = dataclasses.replace(analysis.calls, track=np.array(list(places)), x_px=xy[:, 0], y_px=xy[:, 1])
        return dataclasses.replace(analysis, calls=calls)

    return make


def test_ways_are_joined_over_a_gap(at: Any) -> None:
    trails = Trails()
    assert len(trails(at(0, {1: (0, 0), 2: (9, 9)}))[LIVE]) == 0
    trails(at(1, {2: (10, 9)}))
    segments = trails(at(2, {1: (4, 2), 2: (11, 9)}))[LIVE].tolist()
    assert sorted(segments) == [[0, 0, 4, 2], [9, 9, 10, 9], [10, 9, 11, 9]]


def test_only_cells_that_are_there_have_trails_in_the_state_of_now(at: Any) -> None:
    trails = Trails()
    trails(at(0, {1: (0, 0), 2: (9, 9)}))
    trails(at(1, {1: (1, 0), 2: (10, 9)}))
    now = at(2, {1: (2, 0)})
    now.calls.state[:] = DEAD
    found = trails(now)
    assert len(found[LIVE]) == 0
    assert found[DEAD].tolist() == [[0, 0, 1, 0], [1, 0, 2, 0]]


def test_a_correction_of_the_same_frame_adds_no_step(at: Any) -> None:
    trails = Trails()
    trails(at(0, {1: (0, 0)}))
    first = trails(at(1, {1: (5, 0)}))[LIVE]
    again = trails(at(1, {1: (5, 0)}))[LIVE]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("change", [{"segment": 1}, {"position": "B"}, {"camera": "other"}, {"index": 0}], ids=str)
def test_another_scene_begins_anew(at: Any, change: dict[str, Any]) -> None:
    trails = Trails()
    trails(at(5, {1: (0, 0)}))
    assert len(trails(at(6, {1: (1, 0)}))[LIVE]) == 1
    last = {"index": 7} | change
    assert len(trails(at(last.pop("index"), {1: (2, 0)}, **last))[LIVE]) == 0


def test_trails_are_bounded(at: Any) -> None:
    trails = Trails()
    for index in range(100):
        found = trails(at(index, {1: (index, 0)}))[LIVE]
    assert 20 <= len(found) <= 40


def test_cells_that_are_not_followed_have_none(at: Any) -> None:
    trails = Trails()
    for index in range(3):
        assert len(trails(at(index, {-1: (index, 0)}))[LIVE]) == 0
