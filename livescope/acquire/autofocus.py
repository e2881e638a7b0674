"""Hardware autofocus of a plan: by how much it moves the focus at each position, and what if it fails.

Owns the focusing and what it found. When it is done is the plan's matter (`planned`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from livescope.acquire.changes import wait_ready
from livescope.acquire.itinerary import site_of
from livescope.acquire.lock import CameraLock
from livescope.errors import AcquisitionError

if TYPE_CHECKING:
    import useq

__all__ = ["FAILED", "Autofocus"]

FAILED = "autofocus_failed"
"""Key in the metadata of frames taken where autofocus failed last, with why."""


class Autofocus:
    """The autofocus device of a core during one plan. An attempt that fails ends no run.

    Parameters
    ----------
    core, lock
        Core, and the lock of its camera.
    """

    def __init__(self, core: Any, lock: CameraLock) -> None:
        self._core, self._lock = core, lock
        self._moved_um: dict[str | None, float] = {}
        self._failed: dict[str | None, str] = {}
        self._told: dict[str | None, str] = {}
        self._continuous = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each position where it failed at any time, with why it first did."""
        return tuple(self._told.copy().values())

    def moved_um(self, event: useq.MDAEvent) -> float:
        """By how much it has moved the focus at the position of an event."""
        return self._moved_um.get(site_of(event), 0.0)

    def metadata(self, event: useq.MDAEvent) -> dict[str, str]:
        """What a frame of this event must tell of it: nothing, or `FAILED`."""
        why = self._failed.get(site_of(event))
        return {} if why is None else {FAILED: why}

    def focus(self, event: useq.MDAEvent) -> None:
        """Focus, and keep by how much for later events at this position: each moves to its planned z first.

        Continuous focusing that is on is switched off for it, and on again once it has succeeded: what
        `pymmcore_plus.mda.MDAEngine` does. It is tried as often as the plan's `max_retries` says. If no attempt
        succeeds, the drive is put back, the frames that follow say so, and the run goes on: one position out of focus
        is no reason to lose a night.

        Raises
        ------
        AcquisitionError
            The core has no autofocus device, or no focus drive.
        """
        core, action = self._core, cast("useq.HardwareAutofocus", event.action)
        device, drive = core.getAutoFocusDevice(), core.getFocusDevice()
        if not (device and drive):
            lacks = "focus drive" if device else "autofocus device"
            raise AcquisitionError(f"the plan asks for hardware autofocus, but the core has no {lacks}.")
        if core.isContinuousFocusEnabled():
            self._continuous = True
            core.enableContinuousFocus(False)
        motor, offset_um = action.autofocus_device_name, action.autofocus_motor_offset
        if offset_um is not None:
            if motor:
                core.setPosition(motor, offset_um)
            else:
                core.setAutoFocusOffset(offset_um)
            wait_ready(core, self._lock, (motor or device,))
        site, before_um = site_of(event), core.getPosition()
        why = self._attempts(max(1, action.max_retries), (device, drive))
        if why:
            core.setPosition(before_um)
            wait_ready(core, self._lock, (drive,))
            self._failed[site] = why
            where = "" if site is None else f" at {site!r}"
            self._told.setdefault(
                site, f"hardware autofocus failed{where} ({why}); the run goes on with the focus before"
            )
            return
        if self._continuous:
            core.enableContinuousFocus(True)
        self._failed.pop(site, None)
        self._moved_um[site] = self._moved_um.get(site, 0.0) + core.getPosition() - before_um

    def _attempts(self, most: int, devices: tuple[str, ...]) -> str:
        """Try until it succeeds; returns why the last attempt failed, empty if one did not."""
        why = ""
        for _ in range(most):
            try:
                self._core.fullFocus()
                wait_ready(self._core, self._lock, devices)
            except (RuntimeError, AcquisitionError) as error:  # of the device; a wait that took too long
                why = str(error) or type(error).__name__
            else:
                return ""
        return why
