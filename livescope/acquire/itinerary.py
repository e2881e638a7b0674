"""A plan as it stands now: the planned events, and what rules made of them since.

Owns which event comes next, when it is due and at which exposure: positions left out, added or visited once more,
another interval between rounds. An event that is drawn and waits for its time is not taken yet: what rules change,
changes it too. Executes nothing (`planned.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from livescope.errors import AcquisitionError, one_of
from livescope.frames import REASON, field_name

if TYPE_CHECKING:
    import useq

__all__ = ["Itinerary", "has_rounds", "position_of", "site_of", "without_place"]


@dataclass(slots=True)
class _Pace:
    """Rounds from `round` on begin `seconds` apart; that one is due at `due_s`."""

    seconds: float
    round: int
    due_s: float


@dataclass(slots=True)
class _Visit:
    """The events of one visit of a position."""

    round: int
    events: list[useq.MDAEvent] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Neighbour:
    """A place beside a position, visited after it from round `first_round` on."""

    name: str
    dx_um: float
    dy_um: float
    first_round: int


class Itinerary:
    """Gives one event after the other: `draw`, look at the `upcoming` one, and `take` it when it is due.

    Its methods may be called from any thread; `draw` and `take` from the plan's only.

    Parameters
    ----------
    plan
        Events; they are drawn one by one, so that an endless iterator is possible.
    now_s
        Tells the seconds since the plan's timer began.
    """

    def __init__(self, plan: Iterable[useq.MDAEvent], now_s: Callable[[], float] = lambda: 0.0) -> None:
        self._planned = iter(plan)
        self._now_s = now_s
        self._guard = threading.Lock()
        self._ended = False
        self._drawn: useq.MDAEvent | None = None
        """The plan's own next event."""
        self._beside: deque[useq.MDAEvent] = deque()
        """Goes before it: visits of places that rules have added."""
        self._again: deque[useq.MDAEvent] = deque()
        """Goes before both: visits that rules want once more."""
        self._wanted_again: list[tuple[str | None, str]] = []
        self._left_out: set[str | None] = set()
        self._neighbours: dict[str | None, list[_Neighbour]] = {}
        self._visits: dict[str | None, _Visit] = {}
        """The newest one of each position."""
        self._in_work: dict[str | None, _Visit] = {}
        """Those of them of which more may come."""
        self._pace: _Pace | None = None
        self._exposures_ms: dict[str | None, float] = {}
        """What rules made of the exposures that the plan states, by channel."""
        self._newest: tuple[int, float] | None = None
        """Round of the event taken last, and when it was due."""

    # ------------------------------------------------------------------ the plan's thread

    def draw(self) -> bool:
        """Have the next event at hand, and wait for the plan to give it; False at the end of the plan."""
        while True:
            with self._guard:
                if self._first() is not None:
                    return True
                if self._ended:
                    return False
            event = next(self._planned, None)
            with self._guard:
                self._drawn, self._ended = event, event is None

    @property
    def upcoming(self) -> useq.MDAEvent | None:
        """The event that comes next as things stand now, None where the plan has to be asked for it."""
        with self._guard:
            return self._first()

    def take(self, event: useq.MDAEvent) -> useq.MDAEvent | None:
        """Go on to the upcoming event, and return it as it is to be executed now.

        None if another comes first since it was looked at.
        """
        with self._guard:
            if event is not self._first():
                return None
            if self._again:
                self._again.popleft()
            else:
                if "t" in event.index and event.min_start_time is not None:
                    self._newest = _round(event), self.due_s(event)
                self._pass(event)
            exposure_ms = self._exposures_ms.get(_channel(event))
            if exposure_ms is None or event.exposure is None:
                return event
            return event.model_copy(update={"exposure": exposure_ms})

    def due_s(self, event: useq.MDAEvent) -> float:
        """Return when an event is due, in seconds since the plan's timer began."""
        planned_s = float(event.min_start_time or 0.0)
        pace = self._pace
        if pace is None or event.min_start_time is None or _round(event) < pace.round:
            return planned_s
        return pace.due_s + (_round(event) - pace.round) * pace.seconds

    # ------------------------------------------------------------------ what rules change

    def set_interval(self, seconds: float) -> None:
        """Let rounds after the one in work begin `seconds` apart; their number stays.

        Raises
        ------
        AcquisitionError
            The plan has no rounds in time.
        """
        with self._guard:
            if self._newest is None:
                raise AcquisitionError("the plan has no time_plan, so there is no interval to change.")
            number, due_s = self._newest
            # after a long wait only the next round is due at once: the ones after it are no backlog
            self._pace = _Pace(seconds, number, max(due_s, self._now_s() - seconds))

    def set_exposure(self, channel: str | None, exposure_ms: float) -> None:
        """Take later events of a channel at another exposure, where the plan states one for them."""
        with self._guard:
            self._exposures_ms[channel] = exposure_ms

    def skip(self, position: str | None) -> None:
        """Leave a position out from now on."""
        with self._guard:
            self._known(position)
            self._left_out.add(position)

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> str:
        """Visit a place beside a position after each of its later visits, in the same channels; return its name.

        Raises
        ------
        AcquisitionError
            The plan was not there yet, does not say where it is, or has no rounds in time.
        """
        with self._guard:
            visit = self._known(beside)
            if any(event.x_pos is None or event.y_pos is None for event in visit.events):
                raise AcquisitionError(f"position {beside!r} has no x and y in the plan, so nothing lies beside it.")
            if any("t" not in event.index for event in visit.events):
                raise AcquisitionError("the plan has no time_plan, so there is no later visit to add a place to.")
            neighbours = self._neighbours.setdefault(beside, [])
            name = f"{beside}+{len(neighbours) + 1}"
            neighbours.append(_Neighbour(name, dx_um, dy_um, visit.round + 1))
            return name

    def revisit(self, position: str | None, why: str) -> None:
        """Visit a position once more, with the reason in the frames' metadata.

        It is done before anything else, but after a visit of it that is in work: half a visit, or one between the
        channels of another, would set the channels of the record against each other.
        """
        with self._guard:
            self._known(position)
            self._wanted_again.append((position, why))

    # ------------------------------------------------------------------ inside; the guard is held

    def _first(self) -> useq.MDAEvent | None:
        """What comes next of what is drawn, without what is left out."""
        while True:
            if self._drawn is not None or self._ended:
                self._end_visits()
            if self._again:
                return self._again[0]  # asked for by name, left out or not
            event = self._beside[0] if self._beside else self._drawn
            if event is None or position_of(event) not in self._left_out:
                return event
            self._pass(event)

    def _pass(self, event: useq.MDAEvent) -> None:
        """Go on from an event, which is taken or left out."""
        if self._beside:
            self._beside.popleft()
            return
        self._drawn = None
        name = position_of(event)
        visit = self._in_work.get(name)
        if visit is None:
            visit = self._visits[name] = self._in_work[name] = _Visit(_round(event))
        visit.events.append(event)

    def _end_visits(self) -> None:
        """See which visits are over, now that the plan's next event is known, and let follow what rules want."""
        for name, visit in list(self._in_work.items()):
            if self._is_over(name, visit):
                del self._in_work[name]
                self._visit_beside(name, visit)
        for name, why in self._wanted_again:
            if name not in self._in_work:
                self._again += [_once_more(event, why) for event in self._visits[name].events]
        self._wanted_again = [wanted for wanted in self._wanted_again if wanted[0] in self._in_work]

    def _is_over(self, name: str | None, visit: _Visit) -> bool:
        """True where the plan's next event is no part of this visit, nor comes before the rest of it."""
        event = self._drawn
        if event is None or _round(event) != visit.round:
            return True
        return position_of(event) != name and not _channel_by_channel(event)

    def _visit_beside(self, name: str | None, visit: _Visit) -> None:
        for neighbour in self._neighbours.get(name, []):
            if visit.round >= neighbour.first_round:
                events = [_moved(event, neighbour) for event in visit.events]
                self._beside += events
                self._visits[neighbour.name] = moved = _Visit(visit.round, events)
                self._visit_beside(neighbour.name, moved)

    def _known(self, position: str | None) -> _Visit:
        if position not in self._visits:
            known = one_of(sorted(map(str, self._visits))) or "none yet"
            raise AcquisitionError(f"the plan has not been at a position {position!r}; it was at {known}.")
        return self._visits[position]


def has_rounds(plan: Iterable[useq.MDAEvent]) -> bool:
    """Whether a plan has rounds in time; events that are drawn one by one may yet have them."""
    own = [position.sequence for position in _positions(plan)]
    return any("t" in getattr(part, "used_axes", "t") for part in (plan, *own) if part is not None)


def without_place(plan: Iterable[useq.MDAEvent]) -> list[str]:
    """Names of the positions of which a plan does not say where in x and y they are, neither itself nor by a grid."""
    return [
        position.name or f"p{number}"
        for number, position in enumerate(_positions(plan))
        if None in (position.x, position.y)
        and getattr(position.sequence, "grid_plan", None) is None
        and getattr(plan, "grid_plan", None) is None
    ]


def site_of(event: useq.MDAEvent) -> str | None:
    """Name of the plan's position that an event belongs to, with all its tiles: its own, else p0, p1 ..."""
    return event.pos_name or (f"p{event.index['p']}" if "p" in event.index else None)


def position_of(event: useq.MDAEvent) -> str | None:
    """Name of the field that an event looks at: its position's, with the tile of a grid and the plane of a stack."""
    return field_name(site_of(event), event.index.get("g"), event.index.get("z"))


def _positions(plan: Iterable[useq.MDAEvent]) -> Iterable[useq.Position]:
    return getattr(plan, "stage_positions", ())


def _channel(event: useq.MDAEvent) -> str | None:
    return None if event.channel is None else event.channel.config


def _round(event: useq.MDAEvent) -> int:
    return int(event.index.get("t", 0))


def _channel_by_channel(event: useq.MDAEvent) -> bool:
    """True where the plan goes to all fields in one channel before it takes the next channel."""
    axes = "" if event.sequence is None else event.sequence.used_axes
    return "c" in axes and not axes.endswith("c")


def _once_more(event: useq.MDAEvent, why: str) -> useq.MDAEvent:
    """Return the same event, due at once, with the reason in its metadata."""
    now = {"min_start_time": None, "reset_event_timer": False}
    return event.model_copy(update={**now, "metadata": {**event.metadata, REASON: why}})


def _moved(event: useq.MDAEvent, to: _Neighbour) -> useq.MDAEvent:
    """Return the same event at a place beside, which is no tile of a grid."""
    assert event.x_pos is not None  # seen to when the place was added
    assert event.y_pos is not None
    place = {"pos_name": to.name, "x_pos": event.x_pos + to.dx_um, "y_pos": event.y_pos + to.dy_um}
    index = {axis: k for axis, k in event.index.items() if axis not in ("g", "z")}
    return event.model_copy(update={**place, "index": index, "reset_event_timer": False})
