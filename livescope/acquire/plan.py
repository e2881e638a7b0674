"""A plan as it is written: its file, and what one of its events asks of the hardware.

Owns the reading and the translation into changes. When they are done is `planned.py`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from livescope.acquire.changes import Change, Exposure, Move, Preset, Property, Roi
from livescope.acquire.itinerary import position_of
from livescope.errors import AcquisitionError, SettingsError, one_of
from livescope.settings import config_text

if TYPE_CHECKING:
    import useq

__all__ = ["action_of", "changes_of", "load_plan"]


def load_plan(path: Path) -> useq.MDASequence:
    """Read a plan: positions (or a well plate), time, z and channels, as useq-schema describes them.

    Raises
    ------
    SettingsError
        Missing or not YAML, an unknown key (useq itself would ignore it), a wrong value, or no position.
    """
    import useq

    try:
        tree = yaml.safe_load(config_text(path.expanduser(), "plan"))
    except yaml.YAMLError as error:
        raise SettingsError(f"plan {str(path)!r} is not YAML: {error}") from None
    known = sorted(useq.MDASequence.model_fields)
    if not isinstance(tree, dict):
        raise SettingsError(f"plan {str(path)!r} holds a {type(tree).__name__}; expected keys of: {one_of(known)}.")
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"plan {str(path)!r}: unknown key {key!r}.{hint} Known: {one_of(known)}.")
    try:
        plan = useq.MDASequence.model_validate(tree)
    except ValueError as error:
        raise SettingsError(f"plan {str(path)!r}: {error}") from None
    if not plan.stage_positions:
        raise SettingsError(
            f"plan {str(path)!r} has no position; add stage_positions, e.g. [{{x: 0, y: 0, name: A1}}], or a well "
            "plate."
        )
    return plan


def action_of(event: useq.MDAEvent) -> str:
    """``"acquire_image"`` or ``"hardware_autofocus"``; anything else is refused."""
    action = getattr(event.action, "type", "acquire_image")
    if action not in ("acquire_image", "hardware_autofocus"):
        known = "'acquire_image', 'hardware_autofocus'"
        raise AcquisitionError(f"the plan has an action {action!r}; livescope knows {known}.")
    if event.slm_image is not None:
        raise AcquisitionError("the plan has an SLM image, which livescope cannot show; leave out slm_image.")
    return str(action)


def changes_of(event: useq.MDAEvent) -> list[Change]:
    """What an event asks of the hardware, in the order in which it is done."""
    changes: list[Change] = []
    if event.x_pos is not None or event.y_pos is not None or event.z_pos is not None:
        changes.append(Move(event.x_pos, event.y_pos, event.z_pos, position_of(event)))
    if event.channel is not None:
        changes.append(Preset(event.channel.group, event.channel.config))
    changes += [Property(device, name, value) for device, name, value in event.properties or ()]
    if event.roi is not None:
        roi = event.roi
        changes.append(Roi(roi.offset_x, roi.offset_y, roi.width, roi.height))
    if event.exposure is not None:
        changes.append(Exposure(event.exposure))
    return changes
