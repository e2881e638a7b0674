"""What is done when a device fails or a camera is lost: say so, leave nothing running and no light on, try again.

Owns these steps. When they are taken is `stream.py`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from livescope.acquire.camera_state import Light
from livescope.acquire.lock import CameraLock
from livescope.acquire.pump import Pump
from livescope.acquire.stream_core import StreamCore
from livescope.errors import AcquisitionError, LivescopeError

__all__ = ["abandon", "attempts_until_back", "darken", "explained", "lost"]

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever a device raises inside the block into an `AcquisitionError` that says what was asked of it."""
    try:
        yield
    except LivescopeError:
        raise
    except Exception as error:
        raise AcquisitionError(f"{what}: a device failed: {error}. Check its cable and power.") from error


def lost(label: str, made: int, asked: int | None, stall: str, cause: Exception | None) -> AcquisitionError:
    """The error for a camera that stalled, whose call failed with `cause`, or that stopped by itself."""
    if stall:
        what = stall
    elif cause is not None:
        what = f"{type(cause).__name__}: {cause}"
    else:
        what = f"it stopped by itself after {made}{'' if asked is None else f' of {asked}'} frames"
    error = AcquisitionError(
        f"camera {label!r} was lost: {what}. Check its cable and power; what was recorded is kept."
    )
    error.__cause__ = cause
    return error


def abandon(core: StreamCore, lock: CameraLock, pump: Pump, light: Light | None, error: LivescopeError) -> None:
    """Leave no camera running and no light on behind a dead loop; note in `error` what does not work any more."""
    with lock:
        for step in (core.stopSequenceAcquisition, pump.write_off):
            _take_step(step, error)
        darken(light, error)


def darken(light: Light | None, error: LivescopeError) -> None:
    """Put out the light after a failure; note in `error` if that fails as well. The lock is held."""
    if light is not None:
        _take_step(light.off, error)


def _take_step(step: Callable[[], None], error: LivescopeError) -> None:
    try:
        step()
    except Exception as second:  # noqa: BLE001 - the first failure is the one to report
        error.add_note(f"and then: {type(second).__name__}: {second}")


def attempts_until_back(halt: threading.Event, limit_s: float, attempt: Callable[[int], bool]) -> tuple[bool, int]:
    """Call `attempt` with growing pauses, half a second to half a minute, until it says that the camera is back.

    Returns
    -------
    back, attempts
        Whether it is back (False after `limit_s` seconds, or once `halt` is set), and after how many attempts.
    """
    give_up_s, pause_s, attempts = time.perf_counter() + limit_s, FIRST_PAUSE_S, 0
    while time.perf_counter() < give_up_s and not halt.wait(pause_s):
        attempts += 1
        if attempt(attempts):
            return True, attempts
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return False, attempts
