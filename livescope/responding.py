"""Rules on a running session: each analysis is read, what fires is carried out, and what became of it is kept.

Owns the way from an analysis to an action on the stream, and the account of it in the record. Which rule fires is
`livescope.respond.rules`, what an action is `livescope.respond.actions`. Nothing here can end a run but an action that
is told to: what fails is a warning and an outcome in the record.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livescope.calls import Analysis, State
from livescope.errors import AcquisitionError, LivescopeError, SettingsError, one_of
from livescope.messages import Messages
from livescope.recording import Recording
from livescope.respond.actions import (
    TOO_LATE,
    Action,
    ActionRunner,
    AddPosition,
    Outcome,
    SetInterval,
    Snap,
    changes_microscope,
    check_allowed,
    needs_plan,
)
from livescope.respond.focus import FocusMeter
from livescope.respond.readings import Readings
from livescope.respond.rules import Firing, RuleEngine, Rules, load_rules

if TYPE_CHECKING:
    import useq

    from livescope.acquire.planned import PlannedRun
    from livescope.acquire.stream import LiveStream

__all__ = ["FIRINGS", "Responder", "Responding"]

FIRINGS = "firings"
"""Table of the record with one row an action: why it was done, and what became of it."""
_TOLD = 200
"""Newest outcomes that the manifest and a status tell; the table of the record has all."""
_LAST_WAIT_S = 10.0
"""Seconds that actions in work have left when the run ends, e.g. a command that runs."""

Ask = Callable[[str, "Callable[[LiveStream], None]"], Future[None]]
"""Has the session's control thread do something with the stream, and says what it is doing meanwhile."""


class Responding:
    """The rules of a session, run after run. The control thread uses it, but for `outcomes`.

    Parameters
    ----------
    recording
        Takes the account.
    messages
        Told of actions that fail.
    ask, end
        Ways to have the session's control thread do something, and to end the run for a reason.
    allow_actions
        Leave for commands and webhooks, from the person who starts the run.
    """

    def __init__(
        self, recording: Recording, messages: Messages, ask: Ask, end: Callable[[str], None], *, allow_actions: bool
    ) -> None:
        self._recording, self._messages, self._ask, self._end = recording, messages, ask, end
        self._allow_actions = allow_actions
        self._rules: Rules | None = None
        self._responder: Responder | None = None
        self.facts: dict[str, Any] = {}
        """What the manifest of a record is to say of the rules."""

    def load(self, path: Path | None) -> None:
        """Read the rules of the next run; None is none.

        Raises
        ------
        SettingsError
            A rule is wrong, or reaches beyond the microscope without leave.
        """
        self._rules, self._responder, self.facts = None, None, {}
        if path is None:
            return
        rules = load_rules(path.expanduser())
        check_allowed(rules, self._allow_actions)
        told = {"path": str(path), "allow_actions": self._allow_actions}
        self._rules, self.facts = rules, {"rules": told | rules.model_dump(mode="json", exclude_none=True)}

    def begin(self, stream: LiveStream) -> Responder | None:
        """Watch a run that is about to begin, None if it has no rules.

        Raises
        ------
        SettingsError
            A rule asks for what this run cannot do.
        """
        if self._rules is not None:
            self._responder = Responder(
                self._rules,
                stream,
                self._recording,
                self._messages,
                ask=self._ask,
                end=self._end,
                allow_actions=self._allow_actions,
            )
        return self._responder

    def finish(self) -> None:
        """End with the run, while its record is open."""
        if self._responder is not None:
            self._responder.close()

    @property
    def outcomes(self) -> tuple[dict[str, Any], ...]:
        """What became of the newest actions of this run or the last one, oldest first, ready for JSON."""
        return tuple(self._responder.outcomes) if self._responder is not None else ()


class Responder:
    """Watches one run by rules, and is the microscope that their actions see.

    Parameters
    ----------
    rules
        The rules.
    stream
        The run's stream, not yet started.
    recording
        Takes the account.
    messages
        Told of actions that fail.
    ask, end
        Ways to have the session's control thread do something, and to end the run for a reason.
    allow_actions
        Leave for commands and webhooks.

    Raises
    ------
    SettingsError
        A rule asks for what this run cannot do: a channel that is not there, another interval of a live stream or of
        a plan without rounds, anything but watching of a core that another program owns.
    """

    def __init__(
        self,
        rules: Rules,
        stream: LiveStream,
        recording: Recording,
        messages: Messages,
        *,
        ask: Ask,
        end: Callable[[str], None],
        allow_actions: bool,
    ) -> None:
        _check_possible(rules, stream)
        self._stream = stream
        self._recording = recording
        self._messages = messages
        self._ask = ask
        self._end = end
        self._engine = RuleEngine(rules)
        self._readings = Readings()
        self._focus = FocusMeter() if "focus" in rules.metrics else None
        self._places_um: dict[str, tuple[float | None, float | None, float | None]] = {}
        self._called: str | None = None
        """Channel of the frames that are called."""
        self._guard = threading.Lock()
        self._ending = False
        self._pending: Future[None] | None = None
        self._open: list[tuple[Firing, str]] = []
        self._told: deque[dict[str, Any]] = deque(maxlen=_TOLD)
        self._runner = ActionRunner(self, allow_actions=allow_actions, on_outcome=self._note)

    def __call__(self, analysis: Analysis) -> None:
        """Take in an analysis and hand on what fires; never waits (detector thread)."""
        frame = analysis.frame
        self._called = frame.channel
        if frame.position is not None:
            self._places_um[frame.position] = frame.x_um, frame.y_um, frame.z_um
        more = {}
        free_bytes = self._recording.disk_free_lately()
        if free_bytes is not None:
            more["disk_free_gb"] = free_bytes / 1e9
        if self._focus is not None:
            more["focus"] = self._focus.relative(frame.pixels, frame.position, frame.camera)
        if analysis.shift is not None:
            more["shift"] = analysis.shift
        died = len(analysis.fates.died) if analysis.fates is not None else 0
        living = analysis.calls.count(State.LIVE)
        reading = self._readings.make(
            frame.index, frame.culture_s, frame.position, analysis.viability, died, frame.camera, living, **more
        )
        firings = self._engine.update(reading)
        with self._guard:
            self._open += [(firing, action.action) for firing in firings for action in firing.actions]
        self._runner.put(firings)

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """What became of the newest actions, oldest first, ready for JSON; any thread."""
        with self._guard:
            return list(self._told)

    def close(self) -> None:
        """End with the run, while its record is open: what waits for the microscope is refused (control thread)."""
        with self._guard:
            self._ending = True
            if self._pending is not None:
                self._pending.cancel()
        self._runner.close(_LAST_WAIT_S)
        with self._guard:
            left = list(self._open)
        for firing, action in left:
            self._note(Outcome(firing, action, False, "still in work when the run ended", 0.0, 0.0))

    # ---- what actions see (the runner's thread); see `livescope.respond.actions.Microscope`

    def snap_channel(self, position: str | None, channel: str, exposure_ms: float | None, reason: str) -> None:
        """Take one frame of a position in another channel into the run, and go back."""
        from livescope.acquire.aside import Aside
        from livescope.acquire.changes import Exposure, Move, Preset

        changes: list[Move | Preset | Exposure] = [Preset(_channel_group(self._stream.core), channel)]
        if exposure_ms is not None:
            changes.append(Exposure(exposure_ms))
        if position is not None:  # a plan may have gone on to another place meanwhile
            changes.insert(0, Move(*self._places_um[position], position))
        aside = Aside(tuple(changes), f"channel {channel}", reason)
        taken: list[Future[None]] = []
        self._do(f"taking a frame in {aside.what}", lambda stream: taken.append(stream.aside(aside)))
        taken[0].result()

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Change the exposure; where a plan states those of its channels, that of the channel that is called."""
        from livescope.acquire.changes import Exposure
        from livescope.acquire.planned import PlannedRun

        def change(stream: LiveStream) -> None:
            stream.change(Exposure(exposure_ms))

        self._do(f"exposure of {exposure_ms:g} ms", change)  # what the camera refuses is refused here, not in the plan
        if isinstance(self._stream, PlannedRun):
            self._stream.replan(lambda itinerary: itinerary.set_exposure(self._called, exposure_ms))

    def set_interval_s(self, seconds: float) -> None:
        """Change the time between rounds of the plan."""
        self._plan.replan(lambda itinerary: itinerary.set_interval(seconds))

    def revisit(self, position: str | None, reason: str) -> None:
        """Visit a position once more before the others."""
        self._plan.replan(lambda itinerary: itinerary.revisit(position, reason))

    def skip(self, position: str | None) -> None:
        """Leave a position out from now on."""
        self._plan.replan(lambda itinerary: itinerary.skip(position))

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> None:
        """Visit a place beside a position from now on."""

        def add(itinerary: Any) -> None:
            itinerary.add_position(beside, dx_um, dy_um)

        self._plan.replan(add)

    def stop_run(self, reason: str) -> None:
        """Ask for the end of the run."""
        self._end(reason)

    @property
    def _plan(self) -> PlannedRun:
        from livescope.acquire.planned import PlannedRun

        assert isinstance(self._stream, PlannedRun)  # checked before the run began
        return self._stream

    def _do(self, what: str, do: Callable[[LiveStream], None]) -> None:
        """Have the control thread do something, and wait for it; refused once that thread ends the run."""
        refused: list[Exception] = []

        def attempt(stream: LiveStream) -> None:
            try:
                do(stream)
            except Exception as error:  # noqa: BLE001 - raised below: it is the action that fails, not the session
                refused.append(error)

        with self._guard:
            if self._ending:
                raise AcquisitionError(TOO_LATE)
            self._pending = self._ask(what, attempt)
        try:
            self._pending.result()
        except CancelledError:
            raise AcquisitionError(TOO_LATE) from None
        if refused:
            raise refused[0]

    # ---- the account

    def _note(self, outcome: Outcome) -> None:
        """Keep what became of an action (runner's thread; the detector's for what was refused at once)."""
        firing = outcome.firing
        row = {
            "frame": firing.frame_index,
            "culture_s": firing.time_s,
            "position": firing.position or "",
            "rule": firing.rule,
            "reason": firing.reason,
            "action": outcome.action,
            "ok": outcome.ok,
            "message": outcome.message,
            "wait_s": round(outcome.wait_s, 6),
            "took_s": round(outcome.took_s, 6),
        }
        with self._guard:
            if (firing, outcome.action) not in self._open:
                return  # it came to an end after the run had
            self._open.remove((firing, outcome.action))
            self._told.append(row)
            told = list(self._told)
        if not outcome.ok:
            self._messages.warn(f"rule {firing.rule!r}: {outcome.action} failed: {outcome.message}")
        try:
            self._recording.put_table(FIRINGS, {name: [value] for name, value in row.items()})
            self._recording.note(firings=told)
        except LivescopeError as error:
            self._messages.fail("responding", error)


def _check_possible(rules: Rules, stream: LiveStream) -> None:
    """Refuse before the run what would fail in its middle."""
    for rule in rules.rules:
        for action in rule.do:
            if hindrance := _hindrance(action, stream):
                raise SettingsError(f"rule {rule.name!r}: {hindrance}")


def _hindrance(action: Action, stream: LiveStream) -> str:
    """Say why an action cannot work in a run, and what can be done about it; empty where it can."""
    from livescope.acquire.attach import AttachedCore
    from livescope.acquire.planned import PlannedRun

    if changes_microscope(action) and isinstance(stream.core, AttachedCore):
        return (
            f"{action.action} would change the microscope, but a core of another program is only watched. Possible "
            "there are 'stop', 'command' and 'webhook'; let a command tell that program what to do."
        )
    if isinstance(action, Snap):
        group = _channel_group(stream.core)
        presets = stream.core.getAvailableConfigs(group)  # type: ignore[attr-defined]
        if action.channel not in presets:
            return f"there is no channel {action.channel!r}; group {group!r} has: {one_of(presets)}."
    if not needs_plan(action):
        return ""
    if not isinstance(stream, PlannedRun):
        return (
            f"{action.action} needs a planned run; this one is a live stream, without rounds or positions. Give "
            "run.plan, or take the action out."
        )
    return _missing_in_plan(action, stream.plan)


def _missing_in_plan(action: Action, plan: Iterable[useq.MDAEvent]) -> str:
    """Say what an action needs of a plan that the plan does not give; empty for nothing."""
    from livescope.acquire.itinerary import has_rounds, without_place

    if isinstance(action, SetInterval | AddPosition) and not has_rounds(plan):
        return (
            f"{action.action} needs rounds, but the plan has no time_plan. Add one, e.g. time_plan: {{interval: 60, "
            "loops: 100}, or take the action out."
        )
    nowhere = without_place(plan)
    if isinstance(action, AddPosition) and nowhere:
        return (
            f"add_position adds a place beside each position, but the plan gives no x and y to {one_of(nowhere)}. Add "
            "them, or take the action out."
        )
    return ""


def _channel_group(core: Any) -> str:
    """Return the core's group of channels."""
    group = str(core.getChannelGroup()) if hasattr(core, "getChannelGroup") else ""
    if not group:
        raise SettingsError(
            "this source has no group of channels, so no frame can be taken in another one; set the core's channel "
            "group in the Micro-Manager configuration."
        )
    return group
