"""Planned runs: a useq plan, or events that rules add while it runs, executed one by one.

Owns the plan, its queue and its thread. Why not `core.run_mda`: its cancel does not wake a blocked queue, its pause
took effect in 1 of 8 trials, and a snap or an exposure that fails is only logged. Here each event is a few `changes`
and a snap; whatever fails ends the run and is told.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from livescope.acquire.aside import Aside
from livescope.acquire.autofocus import Autofocus
from livescope.acquire.camera_state import Light
from livescope.acquire.changes import Change
from livescope.acquire.health import HealthEvent, Pulse, Watchdog
from livescope.acquire.itinerary import Itinerary, position_of
from livescope.acquire.plan import action_of, changes_of, load_plan
from livescope.acquire.recovery import attempts_until_back, darken
from livescope.acquire.states import SegmentNote, StreamState
from livescope.acquire.stream import LiveStream
from livescope.acquire.stream_core import StreamCore, TellsOfSnaps
from livescope.errors import AcquisitionError, LivescopeError, SettingsError, one_of
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings

if TYPE_CHECKING:
    import useq

__all__ = ["PlannedRun", "load_plan"]

_TOO_LATE = "the plan ended before its turn came."


@dataclass(slots=True, frozen=True)
class _Asked:
    """A frame aside that somebody waits for."""

    aside: Aside
    done: Future[None] = field(default_factory=Future)


class _CameraLostError(AcquisitionError):
    """The camera took no picture; with `camera.when_lost` = restart its driver is opened anew."""


class PlannedRun(LiveStream):
    """A run that snaps at planned points instead of streaming. It is driven like a `LiveStream`.

    Parameters
    ----------
    core, on_frame, ledger, camera, on_health, reopen
        As for `LiveStream`. Each frame carries the name of its field (`field_name`), its channel, and in `metadata`
        the indices ``t``, ``p``, ``g``, ``z``, ``c`` of its event.
    plan
        A `useq.MDASequence` or any events; they are drawn one by one, so that an endless iterator is possible.
    stay_open
        Wait for more events (`add`) after the last planned one, until `finish` or `stop`.
    """

    def __init__(
        self,
        core: StreamCore,
        on_frame: Callable[[Frame], None],
        ledger: LossLedger,
        camera: CameraSettings | None = None,
        *,
        plan: Iterable[useq.MDAEvent] = (),
        stay_open: bool = False,
        on_health: Callable[[HealthEvent], None] | None = None,
        reopen: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(core, on_frame, ledger, camera, on_health=on_health, reopen=reopen)
        self.plan = plan
        self._stay_open = stay_open
        self.itinerary = Itinerary(())
        """What the plan has become; `replan` changes it while it runs."""
        self._added: deque[useq.MDAEvent | _Asked] = deque()
        self._timed: useq.MDAEvent | None = None
        """The event that set the timer back last."""
        self._autofocus = Autofocus(core, self.lock)
        self._turn = threading.Condition()
        self._cancelled = threading.Event()
        self._paused = False
        self._paused_s = 0.0
        self._executing = False
        self._over = True
        """No event is executed any more: what comes now comes too late."""
        self._snapping = False
        self._frames_asked: int | None = None
        self._taken = 0

    # ------------------------------------------------------------------ commands

    def start(self, frames: int | None = None) -> None:
        """Begin the plan; it ends with its last event, or after `frames` frames.

        Raises
        ------
        AcquisitionError
            Already running.
        SettingsError
            The plan names a channel that the core does not have.
        """
        with self._control:
            if self.running:
                raise AcquisitionError("the plan is already running; stop it before starting it again.")
            self._join()
            self._refuse_unknown_channels()
            self.itinerary = Itinerary(self.plan, self._plan_s)
            self._cancelled.clear()
            self._over = False
            self._autofocus = Autofocus(self.core, self.lock)
            self._paused = False
            self._paused_s, self._taken, self._frames_asked = 0.0, 0, frames
            self.error = None
            with self.lock:
                self._light = Light(self.core)
                self._new_segment("planned run")
            self._ended.clear()
            self.state = StreamState.RUNNING
            self._thread = threading.Thread(target=self._run_plan, name="livescope-acquisition", daemon=True)
            self._watchdog = Watchdog(self._pulse, self._health_changed)
            self._thread.start()
            self._watchdog.start()

    def stop(self) -> None:
        """Cancel: the event in work is finished, no other begins, and waiting ends at once."""
        with self._turn:
            self._cancelled.set()
            self._turn.notify_all()
        with self._control:
            self._join()

    def pause(self) -> None:
        """Begin no other event until `resume`, and return once none is in work. Later events move by the pause."""
        with self._turn:
            self._paused = True
            self._turn.notify_all()
            if threading.current_thread() is not self._thread:
                self._turn.wait_for(lambda: not self._executing)

    def resume(self) -> None:
        """Go on after a `pause`."""
        with self._turn:
            self._paused = False
            self._turn.notify_all()

    def add(self, *events: useq.MDAEvent) -> None:
        """Execute events before the next planned one, e.g. from a rule. Safe from any thread."""
        with self._turn:
            self._added.extend(events)
            self._turn.notify_all()

    def aside(self, aside: Aside) -> Future[None]:
        """Take one frame under other conditions before the next planned event; returns at once."""
        asked = _Asked(aside)
        with self._turn:
            if self._over:
                asked.done.set_exception(AcquisitionError(_TOO_LATE))
            else:
                self._added.append(asked)
                self._turn.notify_all()
        return asked.done

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as it should be although frames come."""
        return (*super().warnings, *self._autofocus.warnings)

    def replan(self, change: Callable[[Itinerary], None]) -> None:
        """Change what is left of the plan, e.g. `Itinerary.skip`; a plan that waits looks at once.

        Raises
        ------
        AcquisitionError
            Nothing is left: the plan has ended.
        """
        with self._turn:
            if self._over:
                raise AcquisitionError(_TOO_LATE)
            change(self.itinerary)
            self._turn.notify_all()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the plan names, in its order, then those of single positions."""
        return tuple(dict.fromkeys(channel.config for channel in self._channels()))

    def _channels(self) -> Iterator[useq.Channel]:
        own = [position.sequence for position in getattr(self.plan, "stage_positions", ())]
        return (channel for part in (self.plan, *own) for channel in getattr(part, "channels", ()))

    def finish(self) -> None:
        """End after the events that are planned and added now, where the run was told to `stay_open`."""
        with self._turn:
            self._stay_open = False
            self._turn.notify_all()

    def change(self, change: Change) -> SegmentNote | None:
        """Change something between two events; a frame of another shape begins a new segment."""
        with self._control, self.lock:
            before = self._shape()
            self._apply(change)
            if self.running and self._shape() != before:
                return self._new_segment(change.reason)
        return None

    def burst(self, frames: int) -> int:
        """Take a burst while no plan runs; see `LiveStream.burst`."""
        if self.running:
            raise AcquisitionError("a plan is running; stop it before a burst.")
        return super().burst(frames)

    # ------------------------------------------------------------------ the plan's thread

    def _run_plan(self) -> None:
        try:
            self._begin_s = time.perf_counter()
            setup = getattr(self.plan, "setup", None)
            for change in [] if setup is None else changes_of(setup):
                self._apply(change)
            while (event := self._next_turn()) is not None:
                self._execute_in_spite(event)
            self.state = StreamState.STOPPED if self._cancelled.is_set() else StreamState.ENDED
        except Exception as error:  # noqa: BLE001 - the thread's border: kept in `error`, told by the watchdog
            self._fail_plan(error)
        with self._turn:
            self._over = True
        self._finish_run()
        with self._turn:
            for asked in self._added:
                if isinstance(asked, _Asked):
                    asked.done.set_exception(AcquisitionError(_TOO_LATE))
            self._added.clear()

    def _next_turn(self) -> useq.MDAEvent | _Asked | None:
        """Wait for what is to be done next, added events before planned ones; None at the end or when cancelled.

        A planned event stays in the itinerary until its time has come, so that rules can change it while it waits.
        """
        while self._frames_asked is None or self._taken < self._frames_asked:
            more = bool(self._added) or self.itinerary.draw()
            with self._turn:
                if self._cancelled.is_set():
                    return None
                event = self.itinerary.upcoming
                if self._paused:
                    self._wait_out_pause()
                elif self._added:
                    self._executing = True
                    return self._added.popleft()
                elif event is not None:
                    early_s = self._early_s(event)
                    if early_s <= 0 and (taken := self.itinerary.take(event)) is not None:
                        self._executing = True
                        return taken
                    self._turn.wait(early_s)
                elif not (more or self.itinerary.draw()):  # it may have been changed since
                    if not self._stay_open:
                        self._over = True
                        return None
                    self._turn.wait()
        return None

    def _early_s(self, event: useq.MDAEvent) -> float:
        """Seconds until a planned event is due; one that sets the timer back does so as soon as it comes next."""
        if event.reset_event_timer and event is not self._timed:
            self._timed = event
            self._begin_s, self._paused_s = time.perf_counter(), 0.0
        return self.itinerary.due_s(event) - self._plan_s()

    def _plan_s(self) -> float:
        """Seconds since the plan's timer began, without pauses."""
        return time.perf_counter() - self._begin_s - self._paused_s

    def _wait_out_pause(self) -> None:
        begin_s = time.perf_counter()
        self._turn.wait_for(lambda: self._cancelled.is_set() or not self._paused)
        self._paused_s += time.perf_counter() - begin_s

    def _execute_in_spite(self, event: useq.MDAEvent | _Asked) -> None:
        """Execute an event; once more for a camera that was lost and is back, if the settings ask for that."""
        try:
            self._execute(event)
        except _CameraLostError as error:
            if self._settings.when_lost != "restart":
                raise
            self._wait_for_camera(event, error)

    def _wait_for_camera(self, event: useq.MDAEvent | _Asked, lost: AcquisitionError) -> None:
        with self.lock:
            darken(self._light, lost)
        self.state, self.error = StreamState.RESTARTING, lost
        if self._watchdog is not None:
            self._watchdog.look()  # it may be back before the watchdog wakes
        back, attempts = attempts_until_back(
            self._cancelled, self._settings.restart_limit_s, lambda attempt: self._try_event(event, attempt, lost)
        )
        if not back and not self._cancelled.is_set():
            raise AcquisitionError(f"{lost} It did not come back in {attempts} attempts.") from lost
        self.error = None

    def _try_event(self, event: useq.MDAEvent | _Asked, attempt: int, lost: AcquisitionError) -> bool:
        """Open the camera anew and execute the event in a segment of its own; False if the camera is not back."""
        try:
            with self.lock:
                self._reopen()
                if self._light is not None:
                    self._light.restore()  # a lamp that was found on has been off since the loss
                self._new_segment(f"attempt {attempt} to start again; {lost}")
            self.state, self.error = StreamState.RUNNING, None
            self._executing = True
        except Exception as error:  # noqa: BLE001 - whatever an unplugged camera raises; tried again
            return self._missed(attempt, error, lost)
        try:
            self._execute(event)
        except _CameraLostError as error:
            return self._missed(attempt, error, lost)
        return True

    def _missed(self, attempt: int, error: Exception, lost: AcquisitionError) -> bool:
        self.state, self.error = StreamState.RESTARTING, lost
        lost.add_note(f"attempt {attempt}: {error}")
        with self.lock:
            darken(self._light, lost)
        return False

    def _execute(self, event: useq.MDAEvent | _Asked) -> None:
        if isinstance(event, _Asked):
            self._execute_aside(event)
            return
        try:
            action = action_of(event)
            with self.lock:
                before = self._shape()
                for change in changes_of(event, self._autofocus.moved_um(event)):
                    self._apply(change)
                if self._shape() != before:
                    self._new_segment(f"event {dict(event.index)}")
                self._keep_shutter(event.keep_shutter_open)
                if action == "hardware_autofocus":
                    self._autofocus.focus(event)
                    return
                self.camera.position = position_of(event)
                indices = {str(axis): k for axis, k in event.index.items()}
                frame = self._take({**indices, **self._autofocus.metadata(event), **event.metadata})
            self._taken += 1
            self._hand_on(frame)
        finally:
            self._rest()

    def _execute_aside(self, asked: _Asked) -> None:
        """Take a frame aside; what fails there is told to who asked, and ends no run."""
        try:
            with self.lock:
                before = self._shape()
                with asked.aside.on(self.core, self.camera, self._apply):
                    if self._shape() != before:
                        self._new_segment(asked.aside.reason)
                    frame = self._take({})
                if self._shape() != before:
                    self._new_segment(f"after {asked.aside.reason}")
        except Exception as error:  # noqa: BLE001 - whatever a device raises; told to who asked
            asked.done.set_exception(error)
        else:
            self._hand_on(frame)
            asked.done.set_result(None)
        finally:
            self._rest()

    def _hand_on(self, frame: Frame) -> None:
        self.ledger.deliver(frame.segment, frame.camera)
        self._receive(frame)

    def _rest(self) -> None:
        with self._turn:
            self._executing = False
            self._turn.notify_all()

    def _take(self, tags: dict[str, Any]) -> Frame:
        self.camera.refresh_position()
        self._counters.last_sign_s = time.perf_counter()  # first: neither waiting nor moving there is a stall
        self._snapping = True
        try:
            self.core.snapImage()
            pixels = self.core.getImage()
        except LivescopeError:
            raise
        except Exception as error:
            raise _CameraLostError(f"camera {self.camera.label!r} could not snap: {error}") from error
        finally:
            self._snapping = False
        if isinstance(self.core, TellsOfSnaps):
            tags = {**self.core.snap_metadata(), **tags}
        index, self._counters.index = self._counters.index, self._counters.index + 1
        return self.camera.frame(pixels, tags, self.camera.label, index=index, segment=self.segment)

    def _keep_shutter(self, keep: bool) -> None:
        """Hold the shutter open over several events, or let it follow the camera again."""
        if self._light is None:
            return
        if keep and self.core.getAutoShutter():
            self.core.setAutoShutter(False)
            self.core.setShutterOpen(True)
        elif not keep:
            self._light.restore()

    def _fail_plan(self, error: Exception) -> None:
        if not isinstance(error, LivescopeError):
            cause = error
            error = AcquisitionError(f"the planned run failed: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
        self.error, self.state = error, StreamState.FAILED
        with self.lock:
            darken(self._light, error)

    # ------------------------------------------------------------------ helpers

    def _new_segment(self, reason: str) -> SegmentNote:
        self.camera.read()
        self._counters.segment += 1
        self._counters.last_sign_s = time.perf_counter()
        self.notes.append(SegmentNote(self.segment, reason, time.time()))
        return self.notes[-1]

    def _pulse(self) -> Pulse:
        lost = self.state in (StreamState.FAILED, StreamState.RESTARTING)
        return Pulse(self._snapping, lost, self._counters.last_sign_s, self.exposure_ms, str(self.error or ""))

    def _refuse_unknown_channels(self) -> None:
        """A misspelt channel is found before the first event, not after hours."""
        core: Any = self.core
        for channel in self._channels():
            groups = core.getAvailableConfigGroups()
            if channel.group not in groups:
                raise SettingsError(f"the plan has a channel group {channel.group!r}; the core has: {one_of(groups)}.")
            presets = core.getAvailableConfigs(channel.group)
            if channel.config not in presets:
                raise SettingsError(
                    f"the plan has a channel {channel.config!r}; group {channel.group!r} has: {one_of(presets)}."
                )
