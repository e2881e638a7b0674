"""A plan as it is written: its file, and what one of its events asks of the hardware.

Owns the reading and the translation into changes. When they are done is `planned.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from livescope.acquire.changes import Change, Exposure, Move, Preset, Property, Roi
from livescope.acquire.itinerary import position_of
from livescope.errors import AcquisitionError, SettingsError, one_of
from livescope.settings import config_text

if TYPE_CHECKING:
    import useq

__all__ = ["action_of", "changes_of", "load_plan"]


def load_plan(path: Path) -> useq.MDASequence:
    """Read a plan: positions (or a well plate), tiles, time and channels, as useq-schema describes them.

    Raises
    ------
    SettingsError
        Missing or not YAML, an unknown key (useq itself would ignore it), a wrong value, no position, a z stack,
        two places of one name, tiles that would not lie where they are meant to, or a channel at the exposure of
        another.
    """
    import useq

    try:
        tree = yaml.safe_load(config_text(path.expanduser(), "plan"))
    except yaml.YAMLError as error:
        raise SettingsError(f"plan {str(path)!r} is not YAML: {error}") from None
    known = sorted(useq.MDASequence.model_fields)
    if not isinstance(tree, dict):
        raise SettingsError(f"plan {str(path)!r} holds a {type(tree).__name__}; expected keys of: {one_of(known)}.")
    try:
        plan = useq.MDASequence.model_validate(tree)
    except ValueError as error:
        raise SettingsError(f"plan {str(path)!r}: {error}") from None
    for where, key, allowed in _unknown_keys(tree, plan):
        near = difflib.get_close_matches(key, allowed, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"plan {str(path)!r}: unknown key {where + key!r}.{hint} Known: {one_of(allowed)}.")
    if not plan.stage_positions:
        raise SettingsError(
            f"plan {str(path)!r} has no position; add stage_positions, e.g. [{{x: 0, y: 0, name: A1}}], or a well "
            "plate."
        )
    wrong = _unfit(plan)
    if wrong:
        raise SettingsError(f"plan {str(path)!r}: {wrong}")
    return plan


def _unknown_keys(tree: Any, read: Any, where: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Yield what useq ignored: the way to a key, the key, and those that are known there."""
    if isinstance(tree, dict) and isinstance(read, BaseModel):
        known = sorted(type(read).model_fields)
        for key, value in tree.items():
            if key in known:
                yield from _unknown_keys(value, getattr(read, key), f"{where}{key}.")
            else:
                yield where, str(key), known
    elif isinstance(tree, list):
        parts = getattr(read, "phases", read)  # time_plan as a list of phases
        for number, (value, part) in enumerate(zip(tree, parts, strict=False) if isinstance(parts, Sequence) else ()):
            yield from _unknown_keys(value, part, f"{where}{number}.")


def _unfit(plan: useq.MDASequence) -> str:
    """What of a valid plan livescope does not do as it reads, empty for none."""
    if taken_for_one := _of_one_name(plan):
        return taken_for_one
    for part in (plan, *(position.sequence for position in plan.stage_positions if position.sequence is not None)):
        if part.z_plan is not None:
            return (
                "z_plan asks for a stack, but cells are called in single pictures. Leave it out and give each "
                "position the z of its focus; take stacks in a run of another program."
            )
        unsaid = [channel.config for channel in part.channels if channel.exposure is None]
        if unsaid and len(unsaid) < len(part.channels):
            return (
                f"channel {unsaid[0]!r} has no exposure, so it would be taken at that of the channel before. Give each "
                "channel its exposure."
            )
        grid = part.grid_plan
        if grid is None:
            continue
        if "g" not in part.axis_order:
            return (
                f"axis_order {''.join(part.axis_order)!r} has no g, so the grid_plan would be left out; add g after p."
            )
        if hasattr(grid, "overlap") and None in (grid.fov_width, grid.fov_height):
            return "grid_plan needs fov_width and fov_height in micrometres; without them its tiles lie 1 um apart."
    return ""


def _of_one_name(plan: useq.MDASequence) -> str:
    """Say which two places would be taken for one field, empty for none."""
    places: dict[str, tuple[float | None, float | None]] = {}
    for number, position in enumerate(plan.stage_positions):
        name, place = position.name or f"p{number}", (position.x, position.y)
        if places.setdefault(name, place) != place:
            return (
                f"two positions are named {name!r} but lie at {places[name]} and {place}: they would be taken for one "
                f"field. Name each by itself, fields of one well {name}_0 and {name}_1."
            )
    return ""


def action_of(event: useq.MDAEvent) -> str:
    """``"acquire_image"`` or ``"hardware_autofocus"``; anything else is refused."""
    action = getattr(event.action, "type", "acquire_image")
    if action not in ("acquire_image", "hardware_autofocus"):
        known = "'acquire_image', 'hardware_autofocus'"
        raise AcquisitionError(f"the plan has an action {action!r}; livescope knows {known}.")
    if event.slm_image is not None:
        raise AcquisitionError("the plan has an SLM image, which livescope cannot show; leave out slm_image.")
    return str(action)


def changes_of(event: useq.MDAEvent, refocus_um: float = 0.0) -> list[Change]:
    """What an event asks of the hardware, in the order in which it is done; z is `refocus_um` above the plan's."""
    changes: list[Change] = []
    if event.x_pos is not None or event.y_pos is not None or event.z_pos is not None:
        z_um = None if event.z_pos is None else event.z_pos + refocus_um
        changes.append(Move(event.x_pos, event.y_pos, z_um, position_of(event)))
    if event.channel is not None:
        changes.append(Preset(event.channel.group, event.channel.config))
    changes += [Property(device, name, value) for device, name, value in event.properties or ()]
    if event.roi is not None:
        roi = event.roi
        changes.append(Roi(roi.offset_x, roi.offset_y, roi.width, roi.height))
    if event.exposure is not None:
        changes.append(Exposure(event.exposure))
    return changes
