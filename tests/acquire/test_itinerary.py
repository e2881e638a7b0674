"""A plan as rules change it: positions left out, added or visited again, another interval."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import useq

from livescope.acquire.itinerary import Itinerary, has_rounds, position_of, without_place
from livescope.errors import AcquisitionError
from livescope.frames import REASON

PLACES = [{"x": 0, "y": 0, "name": "A1"}, {"x": 100, "y": 0, "name": "A2"}]
CHANNELS = [{"config": "BF", "group": "Channel"}, {"config": "Cy5", "group": "Channel"}]
PLAN = useq.MDASequence(axis_order="tpz", stage_positions=PLACES, time_plan={"interval": 10, "loops": 4})


def in_channels(axis_order: str, n_places: int = 1) -> Itinerary:
    plan = useq.MDASequence(
        axis_order=axis_order,
        stage_positions=PLACES[:n_places],
        channels=CHANNELS,
        time_plan={"interval": 10, "loops": 2},
    )
    return Itinerary(plan)


def taken(itinerary: Itinerary, n: int | None = None) -> list[useq.MDAEvent]:
    """Take `n` events, all that are left for None."""

    def events() -> Any:
        while itinerary.draw():
            event = itinerary.upcoming
            assert event is not None
            due = itinerary.take(event)
            assert due is not None
            yield due

    return list(islice(events(), n))


def places(itinerary: Itinerary, n: int | None = None) -> list[tuple[int, str]]:
    return [(event.index["t"], event.pos_name or "") for event in taken(itinerary, n)]


def stamps(itinerary: Itinerary, n: int | None = None) -> list[str]:
    """Round, place and channel of the next events, and whether a rule wanted them once more."""
    return [
        f"{event.index['t']} {event.pos_name} {event.channel.config}{' again' if REASON in event.metadata else ''}"
        for event in taken(itinerary, n)
        if event.channel is not None
    ]


def test_left_alone_it_is_the_plan() -> None:
    itinerary = Itinerary(PLAN)
    events = taken(itinerary)
    assert events == list(PLAN)
    assert [itinerary.due_s(event) for event in events] == [event.min_start_time for event in events]
    assert (itinerary.draw(), itinerary.upcoming) == (False, None)


def test_a_position_is_left_out_from_now_on() -> None:
    itinerary = Itinerary(PLAN)
    assert places(itinerary, 1) == [(0, "A1")]
    itinerary.skip("A1")
    assert places(itinerary) == [(0, "A2"), (1, "A2"), (2, "A2"), (3, "A2")]


def test_a_position_whose_next_event_waits_is_left_out_too() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 2)
    assert itinerary.draw()
    waits = itinerary.upcoming
    assert waits is not None
    itinerary.skip("A1")
    assert not itinerary.take(waits)
    assert itinerary.upcoming is None  # the plan has to be asked for another
    assert places(itinerary) == [(1, "A2"), (2, "A2"), (3, "A2")]


def test_a_place_beside_is_visited_each_time() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 1)
    assert itinerary.add_position("A1", 5, -7) == "A1+1"
    assert itinerary.add_position("A1", 9, 9) == "A1+2"
    assert places(itinerary, 4) == [(0, "A2"), (1, "A1"), (1, "A1+1"), (1, "A1+2")]
    assert places(itinerary, 2) == [(1, "A2"), (2, "A1")]
    (beside,) = taken(itinerary, 1)
    assert (beside.x_pos, beside.y_pos, beside.min_start_time) == (5, -7, 20)
    itinerary.skip("A1+2")
    assert places(itinerary, 2) == [(2, "A2"), (3, "A1")]
    assert places(itinerary) == [(3, "A1+1"), (3, "A2")]


def test_places_beside_outlive_a_position_and_have_places_beside_them() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 2)
    assert itinerary.draw()  # round 1 waits
    itinerary.add_position("A1", 5, 5)
    assert places(itinerary, 3) == [(1, "A1"), (1, "A1+1"), (1, "A2")]
    assert itinerary.add_position("A1+1", 5, 5) == "A1+1+1"
    itinerary.skip("A1")
    assert places(itinerary, 3) == [(2, "A1+1"), (2, "A1+1+1"), (2, "A2")]
    itinerary.set_interval(60)
    (beside,) = taken(itinerary, 1)
    assert (beside.pos_name, beside.x_pos, itinerary.due_s(beside)) == ("A1+1", 5, 80)


def test_a_place_beside_is_seen_in_every_channel() -> None:
    itinerary = in_channels("tpc")
    assert stamps(itinerary, 1) == ["0 A1 BF"]
    itinerary.add_position("A1", 5, 5)
    assert stamps(itinerary) == ["0 A1 Cy5", "1 A1 BF", "1 A1 Cy5", "1 A1+1 BF", "1 A1+1 Cy5"]


def test_a_place_beside_a_tile_is_no_tile() -> None:
    tiles = {"rows": 1, "columns": 2, "fov_width": 50, "fov_height": 50}
    plan = useq.MDASequence(stage_positions=PLACES[:1], grid_plan=tiles, time_plan={"interval": 1, "loops": 2})
    itinerary = Itinerary(plan)
    assert [position_of(event) for event in taken(itinerary, 2)] == ["A1_0000", "A1_0001"]
    itinerary.add_position("A1_0001", 0, 50)
    assert [position_of(event) for event in taken(itinerary)] == ["A1_0000", "A1_0001", "A1_0001+1"]


def test_a_position_is_visited_again_as_it_was() -> None:
    itinerary = Itinerary(PLAN)
    places(itinerary, 3)
    itinerary.revisit("A2", "rule: few cells")
    assert itinerary.draw()  # the visit of A1 is over, and that of A2 in round 1 waits
    again, then = taken(itinerary, 2)
    assert (again.pos_name, again.x_pos, again.index["t"]) == ("A2", 100, 0)
    assert (again.min_start_time, again.metadata[REASON]) == (None, "rule: few cells")
    assert (then.pos_name, then.index["t"]) == ("A2", 1)


@pytest.mark.parametrize("waits", [False, True])
def test_a_revisit_repeats_all_channels_and_parts_no_visit(waits: bool) -> None:
    itinerary = in_channels("tpc")
    first = stamps(itinerary, 2 if waits else 1)
    if waits:
        assert itinerary.draw()  # round 1 waits
    itinerary.revisit("A1", "why")
    assert first + stamps(itinerary) == [
        "0 A1 BF",
        "0 A1 Cy5",
        "0 A1 BF again",
        "0 A1 Cy5 again",
        "1 A1 BF",
        "1 A1 Cy5",
    ]
    itinerary.revisit("A1", "why")  # also after the plan's end
    assert stamps(itinerary) == ["1 A1 BF again", "1 A1 Cy5 again"]


def test_where_all_places_share_a_channel_a_visit_ends_with_the_round() -> None:
    itinerary = in_channels("tcp", n_places=2)
    assert stamps(itinerary, 1) == ["0 A1 BF"]
    itinerary.revisit("A1", "why")
    assert stamps(itinerary, 5) == ["0 A2 BF", "0 A1 Cy5", "0 A2 Cy5", "0 A1 BF again", "0 A1 Cy5 again"]
    itinerary.add_position("A2", 5, 5)
    assert stamps(itinerary)[-3:] == ["1 A2 Cy5", "1 A2+1 BF", "1 A2+1 Cy5"]


def test_what_is_done_again_neither_sets_the_timer_back_nor_counts_as_a_round() -> None:
    itinerary = Itinerary(PLAN)
    assert [event.reset_event_timer for event in taken(itinerary, 2)] == [True, False]
    itinerary.revisit("A1", "why")
    (again,) = taken(itinerary, 1)
    assert (again.pos_name, again.reset_event_timer) == ("A1", False)
    itinerary.set_interval(60)
    assert [itinerary.due_s(event) for event in taken(itinerary, 2)] == [60, 60]


def test_another_interval_moves_later_rounds_only() -> None:
    itinerary = Itinerary(PLAN)
    taken(itinerary, 3)  # in round 1, which was due at 10 s
    itinerary.set_interval(60)
    due = [itinerary.due_s(event) for event in taken(itinerary)]
    assert due == [10, 70, 70, 130, 130]
    itinerary.set_interval(5)
    assert itinerary.due_s(list(PLAN)[-1]) == 130


def test_another_interval_moves_the_round_that_waits() -> None:
    now_s = 0.0
    itinerary = Itinerary(PLAN, lambda: now_s)
    taken(itinerary, 2)
    assert itinerary.draw()
    waiting = itinerary.upcoming
    assert waiting is not None
    assert itinerary.due_s(waiting) == 10
    itinerary.set_interval(3)
    assert itinerary.due_s(waiting) == 3
    itinerary.set_interval(20)
    assert itinerary.due_s(waiting) == 20  # counted from the round that was taken, as often as it is changed
    now_s = 15.0
    itinerary.set_interval(2)
    due = [itinerary.due_s(event) for event in taken(itinerary)]
    assert due == [15, 15, 17, 17, 19, 19]  # at once, but no rounds that would have been meanwhile


def test_another_exposure_is_that_of_one_channel_where_the_plan_states_it() -> None:
    stated = [{"config": "BF", "exposure": 20}, {"config": "Cy5", "exposure": 30}]
    plan = useq.MDASequence(axis_order="tpc", stage_positions=PLACES[:1], channels=stated, time_plan=PLAN.time_plan)
    itinerary = Itinerary(plan)
    taken(itinerary, 2)
    assert itinerary.draw()  # round 1 waits
    itinerary.set_exposure("BF", 60)
    itinerary.revisit("A1", "why")
    assert [event.exposure for event in taken(itinerary)] == [60, 30] * 4  # the visit once more, and rounds 1 to 3
    unstated = in_channels("tpc")
    unstated.set_exposure("BF", 60)
    assert {event.exposure for event in taken(unstated)} == {None}  # what the camera has holds


def test_what_a_written_plan_lacks_for_rules_is_known_beforehand() -> None:
    tiles = {"rows": 1, "columns": 2, "fov_width": 50, "fov_height": 50}
    often = {"time_plan": {"interval": 1, "loops": 2}}
    at_times = useq.MDASequence(stage_positions=[PLACES[0], {"name": "B", "sequence": often}, {"x": 3}])
    still = useq.MDASequence(stage_positions=PLACES)
    assert [has_rounds(plan) for plan in (PLAN, at_times, still, iter(still))] == [True, True, False, True]
    assert without_place(at_times) == ["B", "p2"]
    assert without_place(PLAN) == without_place(iter(still)) == []
    assert without_place(useq.MDASequence(stage_positions=[{"name": "B"}], grid_plan=tiles)) == []
    assert without_place(useq.MDASequence(stage_positions=[{"name": "B", "sequence": {"grid_plan": tiles}}])) == []


def test_what_the_plan_does_not_have_is_refused() -> None:
    itinerary = Itinerary([useq.MDAEvent(index={"p": 0}), useq.MDAEvent(index={"p": 1}, x_pos=0, y_pos=0)])
    with pytest.raises(AcquisitionError, match="has not been at a position 'B7'; it was at none"):
        itinerary.skip("B7")
    assert itinerary.draw()
    with pytest.raises(AcquisitionError, match="has not been at a position 'p0'"):
        itinerary.revisit("p0", "drawn, and not taken")
    taken(itinerary, 1)
    with pytest.raises(AcquisitionError, match="it was at 'p0'"):
        itinerary.revisit("B7", "")
    with pytest.raises(AcquisitionError, match="no time_plan"):
        itinerary.set_interval(3)
    with pytest.raises(AcquisitionError, match="'p0' has no x and y"):
        itinerary.add_position("p0", 1, 1)
    taken(itinerary)
    with pytest.raises(AcquisitionError, match="no later visit"):
        itinerary.add_position("p1", 1, 1)


def test_fields_are_told_apart_by_name() -> None:
    index = {"t": 3, "p": 2, "c": 1}
    assert position_of(useq.MDAEvent(index=index)) == "p2"
    assert position_of(useq.MDAEvent(index={**index, "g": 4}, pos_name="A1")) == "A1_0004"
    assert position_of(useq.MDAEvent(index={**index, "g": 4, "z": 5})) == "p2_0004_z0005"
    assert position_of(useq.MDAEvent(index={"t": 0})) is None
