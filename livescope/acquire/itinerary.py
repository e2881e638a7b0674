"""A plan as it stands now: the planned events, and what rules made of them since.

Owns which event comes next and when it is due: positions left out, added or visited once more, another interval
between rounds. Executes nothing (`planned.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from livescope.errors import AcquisitionError, one_of
from livescope.frames import REASON

if TYPE_CHECKING:
    import useq

__all__ = ["Itinerary", "position_of"]


@dataclass(slots=True)
class _Pace:
    """Rounds from `round` on begin `seconds` apart; that one is due at `due_s`."""

    seconds: float
    round: int
    due_s: float


@dataclass(slots=True)
class _Visit:
    """The events of the newest visit of a position."""

    round: int
    events: list[useq.MDAEvent] = field(default_factory=list)


class Itinerary:
    """Gives one event after the other. Its methods may be called from any thread, `next` from the plan's only.

    Parameters
    ----------
    plan
        Events; they are drawn one by one, so that an endless iterator is possible.
    """

    def __init__(self, plan: Iterable[useq.MDAEvent]) -> None:
        self._planned = iter(plan)
        self._guard = threading.Lock()
        self._left_out: set[str | None] = set()
        self._neighbours: dict[str | None, list[tuple[str, float, float]]] = {}
        self._visits: dict[str | None, _Visit] = {}
        self._waiting: list[useq.MDAEvent] = []
        self._pace: _Pace | None = None
        self._newest: useq.MDAEvent | None = None

    def next(self) -> useq.MDAEvent | None:
        """Return the next event, None at the end of the plan."""
        while True:
            with self._guard:
                event = self._waiting.pop(0) if self._waiting else None
            if event is None:
                event = next(self._planned, None)
                if event is None:
                    return None
                with self._guard:
                    self._waiting += _beside(event, self._neighbours.get(position_of(event), []))
            with self._guard:
                if position_of(event) in self._left_out:
                    continue
                self._note(event)
                return event

    def due_s(self, event: useq.MDAEvent) -> float:
        """Return when an event is due, in seconds since the plan's timer began."""
        planned_s = float(event.min_start_time or 0.0)
        pace = self._pace
        if pace is None or event.min_start_time is None or _round(event) < pace.round:
            return planned_s
        return pace.due_s + (_round(event) - pace.round) * pace.seconds

    def set_interval(self, seconds: float) -> None:
        """Let later rounds begin `seconds` apart; their number stays.

        Raises
        ------
        AcquisitionError
            The plan has no rounds in time.
        """
        with self._guard:
            newest = self._newest
            if newest is None or newest.min_start_time is None or "t" not in newest.index:
                raise AcquisitionError("the plan has no time_plan, so there is no interval to change.")
            due_s = self.due_s(newest)
            self._pace = _Pace(seconds, _round(newest), due_s)

    def skip(self, position: str | None) -> None:
        """Leave a position out from now on."""
        with self._guard:
            self._known(position)
            self._left_out.add(position)

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> str:
        """Visit, from the next round on, a place beside a position each time it is visited; return its name."""
        with self._guard:
            visit = self._known(beside)
            if any(event.x_pos is None or event.y_pos is None for event in visit.events):
                raise AcquisitionError(f"position {beside!r} has no x and y in the plan, so nothing lies beside it.")
            neighbours = self._neighbours.setdefault(beside, [])
            name = f"{beside}+{len(neighbours) + 1}"
            neighbours.append((name, dx_um, dy_um))
            return name

    def again(self, position: str | None, why: str) -> list[useq.MDAEvent]:
        """Return the events of a position's newest visit, due at once, with the reason in their metadata."""
        with self._guard:
            return [
                event.model_copy(update={"min_start_time": None, "metadata": {**event.metadata, REASON: why}})
                for event in self._known(position).events
            ]

    def _known(self, position: str | None) -> _Visit:
        if position not in self._visits:
            known = one_of(sorted(map(str, self._visits))) or "none yet"
            raise AcquisitionError(f"the plan has not been at a position {position!r}; it was at {known}.")
        return self._visits[position]

    def _note(self, event: useq.MDAEvent) -> None:
        self._newest = event
        name, number = position_of(event), _round(event)
        visit = self._visits.get(name)
        if visit is None or visit.round != number:
            visit = self._visits[name] = _Visit(number)
        visit.events.append(event)


def position_of(event: useq.MDAEvent) -> str | None:
    """Name of the event's position: its own, else p0, p1 ..."""
    if event.pos_name:
        return event.pos_name
    return f"p{event.index['p']}" if "p" in event.index else None


def _round(event: useq.MDAEvent) -> int:
    return int(event.index.get("t", 0))


def _beside(event: useq.MDAEvent, neighbours: Iterable[tuple[str, float, float]]) -> Iterator[useq.MDAEvent]:
    """Yield the same event at the places beside it."""
    x_um, y_um = event.x_pos, event.y_pos
    for name, dx_um, dy_um in neighbours:
        if x_um is not None and y_um is not None:
            place = {"x_pos": x_um + dx_um, "y_pos": y_um + dy_um}
            yield event.model_copy(update={"pos_name": name, **place})
