"""A plan as it is written: its file, and what one of its events asks of the hardware.

Owns the reading and the translation into changes. When they are done is `planned.py`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from livescope.acquire.changes import Change, Exposure, Move, Preset, Property, Roi
from livescope.acquire.itinerary import position_of
from livescope.errors import AcquisitionError, SettingsError, one_of
from livescope.settings import config_text, known_keys
from livescope.written import read_yaml, validate

if TYPE_CHECKING:
    import useq

__all__ = ["action_of", "changes_of", "load_plan"]

_Way = tuple[str | int, ...]


def load_plan(path: Path) -> useq.MDASequence:
    """Read a plan: positions (or a well plate), tiles, time and channels, as useq-schema describes them.

    Raises
    ------
    SettingsError
        Missing or not YAML, an unknown key (useq itself would ignore it), a wrong value, no position, a z stack,
        times that run backwards, two places of one name, tiles that would not lie where they are meant to, or a
        channel at the exposure of another.
    """
    import useq

    try:
        tree = read_yaml(config_text(path.expanduser(), "plan"))
    except yaml.YAMLError as error:
        raise SettingsError(f"plan {str(path)!r} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        known = one_of(known_keys(useq.MDASequence, ()))
        raise SettingsError(f"plan {str(path)!r} holds a {type(tree).__name__}; expected keys of: {known}.")
    try:
        plan = validate(useq.MDASequence.model_validate, tree)
    except ValidationError as error:
        _refuse_unknown(path, _unknown_to_all(tree, useq.MDASequence))
        raise SettingsError(f"plan {str(path)!r}: {_explain(error, useq.MDASequence)}") from None
    except (TypeError, ValueError) as error:  # of useq itself
        raise SettingsError(f"plan {str(path)!r}: {error}") from None
    _refuse_unknown(path, _unknown_keys(tree, plan))
    if not plan.stage_positions:
        raise SettingsError(
            f"plan {str(path)!r} has no position; add stage_positions, e.g. [{{x: 0, y: 0, name: A1}}], or a well "
            "plate."
        )
    wrong = _unfit(plan)
    if wrong:
        raise SettingsError(f"plan {str(path)!r}: {wrong}")
    return plan


def _refuse_unknown(path: Path, unknown: Iterator[tuple[str, str, list[str]]]) -> None:
    for where, key, known in unknown:
        near = difflib.get_close_matches(key, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"plan {str(path)!r}: unknown key {where + key!r}.{hint} Known: {one_of(known)}.")


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


def _unknown_to_all(tree: Any, model: type[BaseModel], above: _Way = ()) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the same of a plan that useq refused: the keys that no kind of time plan, grid and so on has."""
    known = known_keys(model, above) if isinstance(tree, dict) else []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if known and key not in known:
            yield "".join(f"{part}." for part in above), str(key), known
        yield from _unknown_to_all(value, model, (*above, key))


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say what is wrong with a plan, a fault a line.

    Of a part that may be of several kinds pydantic tells what is wrong with it as each of them. Told here are the
    values that are wrong, the innermost of them; where there are none, the keys that lack, of the kinds that lack
    fewest.
    """
    said: dict[_Way, dict[str, Any]] = {}
    lacking: dict[_Way, list[Mapping[str, Any]]] = {}
    for fault in error.errors():
        if fault["type"] == "missing":
            lacking.setdefault(fault["loc"][:-1], []).append(fault)
        else:
            words = fault["msg"].removeprefix("Value error, ").replace("timedelta", "time")
            words = words.partition(" or instance of ")[0]
            said.setdefault(_way(fault["loc"], model), {})[words] = fault["input"]
    if not said:
        fewest = min(map(len, lacking.values()))
        for kind, faults in lacking.items():
            if len(faults) == fewest:
                words = f"needs {one_of(fault['loc'][-1] for fault in faults)}"
                said.setdefault(_way(kind, model), {})[words] = faults[0]["input"]
    outer = {way[:length] for way in said for length in range(len(way))}
    return "\n".join(
        f"{'.'.join(map(str, way)) or 'as a whole'}: {' or '.join(words)} (given: {next(iter(words.values()))!r})."
        for way, words in said.items()
        if way not in outer
    )


def _way(loc: _Way, model: type[BaseModel]) -> _Way:
    """The place of a fault without the kinds that pydantic names on the way."""
    way: _Way = ()
    for part in loc:
        if isinstance(part, int) or part in known_keys(model, way):
            way = (*way, part)
    return way


def _unfit(plan: useq.MDASequence) -> str:
    """What of a valid plan livescope does not do as it reads, empty for none."""
    if nowhere := [one for one in plan.stage_positions if not all(map(math.isfinite, _micrometres(one)))]:
        return f"a position lies at {_micrometres(nowhere[0])}; give x, y and z in micrometres, or leave one out."
    if taken_for_one := _of_one_name(plan):
        return taken_for_one
    for part in (plan, *(position.sequence for position in plan.stage_positions if position.sequence is not None)):
        if untimely := _untimely(part.time_plan):
            return untimely
        if strange := [axis for axis in part.keep_shutter_open_across if axis not in "tpgcz"]:
            return f"keep_shutter_open_across has {strange[0]!r}; its axes are 't', 'p', 'g', 'c', 'z', e.g. [t, p]."
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


def _micrometres(position: useq.Position) -> tuple[float, ...]:
    return tuple(value for value in (position.x, position.y, position.z) if value is not None)


def _untimely(plan: useq.TimePlan | None) -> str:
    """Say what of a time plan cannot be kept to, empty for nothing."""
    for phase in getattr(plan, "phases", [] if plan is None else [plan]):
        for name in ("interval", "duration"):
            time = getattr(phase, name) if name in type(phase).model_fields else timedelta()
            if time < timedelta():
                return (
                    f"time_plan has the {name} {time.total_seconds():g} s, but time only goes forward. Give it in "
                    "seconds from 0; with interval 0 one visit follows another without a pause."
                )
        try:
            _ = phase.interval, phase.loops
        except ZeroDivisionError:
            return (
                "time_plan gives a duration to an interval of 0 or to 1 loop. Give an interval above 0 or more loops, "
                "or loops instead of the duration."
            )
    return ""


def _of_one_name(plan: useq.MDASequence) -> str:
    """Say which two places would be taken for one field, empty for none."""
    places: dict[str, tuple[float | None, ...]] = {}
    for number, position in enumerate(plan.stage_positions):
        name, place = position.name or f"p{number}", (position.x, position.y, position.z)
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
