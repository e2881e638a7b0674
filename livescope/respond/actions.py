"""Actions: what a rule may have the microscope do, carried out one after the other beside the run.

Owns the kinds of action, the thread that carries them out, and the account of what became of each. An action that
fails, hangs or comes too late is noted and harms nothing; a stop waits for no other rule's. Running a command or
calling a URL needs the leave of the person who starts the run; a rules file alone never gives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from livescope.errors import SettingsError

if TYPE_CHECKING:
    from livescope.respond.rules import Firing, Rules

__all__ = [
    "TOO_LATE",
    "Action",
    "ActionRunner",
    "AddPosition",
    "Microscope",
    "Outcome",
    "SetInterval",
    "Snap",
    "changes_microscope",
    "check_allowed",
    "needs_leave",
    "needs_plan",
]

TOO_LATE = "the run ended before its turn came."

_WAITING = 64
"""Most actions that wait; a rule that fires faster than that has its actions refused, and noted."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Snap(_Frozen):
    """Take one frame in a channel into the record, and go back to the channel before."""

    action: Literal["snap"]
    channel: str = Field(min_length=1)
    exposure_ms: float | None = Field(default=None, gt=0, le=600_000)


class SetExposure(_Frozen):
    """Change the exposure."""

    action: Literal["set_exposure"]
    exposure_ms: float = Field(gt=0, le=600_000)


class SetInterval(_Frozen):
    """Change the time between two rounds of a planned run."""

    action: Literal["set_interval"]
    seconds: float = Field(gt=0, le=604_800)
    """A week at most."""


class Revisit(_Frozen):
    """Visit the position once more before the others."""

    action: Literal["revisit"]


class Skip(_Frozen):
    """Leave the position out from now on."""

    action: Literal["skip"]


class AddPosition(_Frozen):
    """Add a position beside the one that fired."""

    action: Literal["add_position"]
    dx_um: float
    dy_um: float


class Stop(_Frozen):
    """End the run in order."""

    action: Literal["stop"]


class Command(_Frozen):
    """Run a program with arguments, without a shell; it learns of the firing through LIVESCOPE_* variables."""

    action: Literal["command"]
    args: tuple[str, ...] = Field(min_length=1)
    timeout_s: float = Field(default=30.0, gt=0, le=3600)


class Webhook(_Frozen):
    """POST the firing as JSON."""

    action: Literal["webhook"]
    url: str
    timeout_s: float = Field(default=10.0, gt=0, le=300)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("a webhook's url begins with http:// or https://")
        return url


Action = Annotated[
    Snap | SetExposure | SetInterval | Revisit | Skip | AddPosition | Stop | Command | Webhook,
    Field(discriminator="action"),
]


class Microscope(Protocol):
    """What actions need of a run. Each method blocks until it is done and raises what went wrong."""

    def snap_channel(self, position: str | None, channel: str, exposure_ms: float | None, reason: str) -> None:
        """Take one frame of a position in a channel into the record, with the reason in its metadata."""

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Change the exposure."""

    def set_interval_s(self, seconds: float) -> None:
        """Change the time between rounds."""

    def revisit(self, position: str | None, reason: str) -> None:
        """Visit a position once more before the others, with the reason in its frames' metadata."""

    def skip(self, position: str | None) -> None:
        """Leave a position out from now on."""

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> None:
        """Add a position at an offset from another."""

    def stop_run(self, reason: str) -> None:
        """Ask for the end of the run; returns at once, from any thread."""


@dataclass(slots=True, frozen=True)
class Outcome:
    """What became of one action of a firing; stored with the record.

    Attributes
    ----------
    firing
        Why.
    action
        Its kind, e.g. ``"snap"``.
    ok
        False where it failed; `message` then says how.
    message
        What a command printed, the status of a webhook, or the error.
    wait_s, took_s
        Seconds it waited for its turn and took.
    """

    firing: Firing
    action: str
    ok: bool
    message: str
    wait_s: float
    took_s: float


def needs_leave(action: Action) -> bool:
    """Whether an action reaches beyond the microscope."""
    return isinstance(action, Command | Webhook)


def needs_plan(action: Action) -> bool:
    """Whether an action makes sense in a planned run only: a live stream has neither rounds nor positions."""
    return isinstance(action, SetInterval | Revisit | Skip | AddPosition)


def changes_microscope(action: Action) -> bool:
    """Whether an action asks for more than to watch: stopping ends livescope's run, not what it looks at."""
    return not isinstance(action, Stop | Command | Webhook)


def check_allowed(rules: Rules, allow_actions: bool) -> None:
    """Refuse rules that reach beyond the microscope without leave.

    Raises
    ------
    SettingsError
        Before the run begins, with the names of the rules.
    """
    reaching = [rule.name for rule in rules.rules if any(needs_leave(action) for action in rule.do)]
    if reaching and not allow_actions:
        raise SettingsError(
            f"rules {', '.join(map(repr, reaching))} run a command or call a URL. Read what they do, then start "
            "the run with --allow-actions; a rules file cannot allow that by itself."
        )


class ActionRunner:
    """Carries out the actions of firings on a thread of its own, one after the other.

    A stop with which a rule begins only asks for the end, and is carried out at once, before what waits: a command may
    take an hour. A stop that follows other actions of its rule comes after them.

    Parameters
    ----------
    microscope
        The run.
    allow_actions
        Leave for commands and webhooks, from the person who started the run.
    on_outcome
        Called with what became of each action, on the runner's thread or, of what did not wait, on the caller's.
    """

    def __init__(self, microscope: Microscope, *, allow_actions: bool, on_outcome: Callable[[Outcome], None]) -> None:
        self._microscope = microscope
        self._allow_actions = allow_actions
        self._on_outcome = on_outcome
        self._waiting: queue.Queue[tuple[Firing, Action, float] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="livescope-actions", daemon=True)
        self._thread.start()

    def put(self, firings: Iterable[Firing]) -> None:
        """Hand over what fired; never waits. What finds the queue full is refused, and its outcome says so."""
        for firing in firings:
            for place, action in enumerate(firing.actions):
                if place == 0 and isinstance(action, Stop):
                    self._do(firing, action, time.monotonic())
                    continue
                try:
                    self._waiting.put_nowait((firing, action, time.monotonic()))
                except queue.Full:
                    self._refuse(firing, action, f"refused: {_WAITING} actions are waiting already")

    def close(self, timeout_s: float = 60.0) -> bool:
        """Finish what waits and end the thread; False if it was not done in time.

        What has not begun by then is dropped, and its outcome says so; what is in work goes on to its end.
        """
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._waiting.get_nowait()) is not None:
                    self._refuse(*job[:2], TOO_LATE)
        self._waiting.put(None)
        return False

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._do(*job)

    def _do(self, firing: Firing, action: Action, put_s: float) -> None:
        start_s = time.monotonic()
        try:
            ok, message = True, self._carry_out(firing, action)
        except Exception as error:  # noqa: BLE001 - boundary of the thread: a failing action never harms the run
            ok, message = False, f"{type(error).__name__}: {error}"
        self._on_outcome(Outcome(firing, action.action, ok, message, start_s - put_s, time.monotonic() - start_s))

    def _refuse(self, firing: Firing, action: Action, why: str) -> None:
        self._on_outcome(Outcome(firing, action.action, False, why, 0.0, 0.0))

    def _carry_out(self, firing: Firing, action: Action) -> str:
        scope = self._microscope
        if needs_leave(action) and not self._allow_actions:
            raise SettingsError("not allowed: start the run with --allow-actions.")
        why = f"{firing.rule}: {firing.reason}"
        match action:
            case Snap():
                scope.snap_channel(firing.position, action.channel, action.exposure_ms, why)
            case SetExposure():
                scope.set_exposure_ms(action.exposure_ms)
            case SetInterval():
                scope.set_interval_s(action.seconds)
            case Revisit():
                scope.revisit(firing.position, why)
            case Skip():
                scope.skip(firing.position)
            case AddPosition():
                scope.add_position(firing.position, action.dx_um, action.dy_um)
            case Stop():
                scope.stop_run(why)
            case Command():
                return _run_command(action.args, action.timeout_s, firing)
            case Webhook():
                return _post(action.url, action.timeout_s, firing)
        return "done"


def _facts(firing: Firing) -> dict[str, str | int | float | None]:
    return {
        "rule": firing.rule,
        "position": firing.position,
        "frame": firing.frame_index,
        "time_s": firing.time_s,
        "reason": firing.reason,
    }


def _run_command(args: Sequence[str], timeout_s: float, firing: Firing) -> str:
    told = {f"LIVESCOPE_{name.upper()}": "" if value is None else str(value) for name, value in _facts(firing).items()}
    done = subprocess.run(
        list(args), capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **told}
    )
    said = (done.stdout + done.stderr).strip()[-500:]
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {said}")
    return said


def _post(url: str, timeout_s: float, firing: Firing) -> str:
    body = json.dumps(_facts(firing)).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return f"status {answer.status}"
