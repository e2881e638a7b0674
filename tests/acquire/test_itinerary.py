"""A plan as rules change it: positions left out, added or visited again, another interval."""

from __future__ import annotations

import pytest
import useq

from livescope.acquire.aside import REASON
from livescope.acquire.itinerary import Itinerary
from livescope.errors import AcquisitionError

PLAN = useq.MDASequence(
    axis_order="tpz",
    stage_positions=[{"x": 0, "y": 0, "name": "A1"}, {"x": 100, "y": 0, "name": "A2"}],
    time_plan={"interval": 10, "loops": 4},
)


def places(itinerary: Itinerary, n: int) -> list[tuple[int, str]]:
    events = (itinerary.next() for _ in range(n))
    return [(event.index["t"], event.pos_name or "") for event in events if event is not None]


def test_left_alone_it_is_the_plan() -> None:
    itinerary = Itinerary(PLAN)
    events = list(iter(itinerary.next, None))
    assert events == list(PLAN)
    assert [itinerary.due_s(event) for event in events] == [event.min_start_time for event in events]


def test_a_position_is_left_out_from_now_on() -> None:
    itinerary = Itinerary(PLAN)
    assert places(itinerary, 1) == [(0, "A1")]
    itinerary.skip("A1")
    assert places(itinerary, 9) == [(0, "A2"), (1, "A2"), (2, "A2"), (3, "A2")]


def test_a_place_beside_is_visited_each_time() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 1)
    assert itinerary.add_position("A1", 5, -7) == "A1+1"
    assert itinerary.add_position("A1", 9, 9) == "A1+2"
    assert places(itinerary, 4) == [(0, "A2"), (1, "A1"), (1, "A1+1"), (1, "A1+2")]
    assert places(itinerary, 2) == [(1, "A2"), (2, "A1")]
    beside = itinerary.next()
    assert beside is not None
    assert (beside.x_pos, beside.y_pos, beside.min_start_time) == (5, -7, 20)
    itinerary.skip("A1+2")
    assert places(itinerary, 2) == [(2, "A2"), (3, "A1")]


def test_a_position_is_visited_again_as_it_was() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 3)
    (again,) = itinerary.again("A2", "rule: few cells")
    assert (again.pos_name, again.x_pos, again.index["t"]) == ("A2", 100, 0)
    assert (again.min_start_time, again.metadata[REASON]) == (None, "rule: few cells")


def test_another_interval_moves_later_rounds_only() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 3)  # in round 1, which was due at 10 s
    itinerary.set_interval(60)
    due = [itinerary.due_s(event) for event in iter(itinerary.next, None)]
    assert due == [10, 70, 70, 130, 130]
    itinerary.set_interval(5)
    assert itinerary.due_s(list(PLAN)[-1]) == 130


def test_what_the_plan_does_not_have_is_refused() -> None:
    itinerary = Itinerary([useq.MDAEvent(index={"p": 0})])
    with pytest.raises(AcquisitionError, match="has not been at a position 'B7'; it was at none"):
        itinerary.skip("B7")
    itinerary.next()
    with pytest.raises(AcquisitionError, match="it was at 'p0'"):
        itinerary.again("B7", "")
    with pytest.raises(AcquisitionError, match="no time_plan"):
        itinerary.set_interval(3)
    with pytest.raises(AcquisitionError, match="'p0' has no x and y"):
        itinerary.add_position("p0", 1, 1)
