"""The model beside a dead-cell dye: frames of the dye in a record, and how the calls of the same field agree.

Owns which frames belong together, the figures and their section. What a dye says of a cell is `livescope.assay.stain`,
agreement `livescope.assay.dye`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from livescope.assay.dye import bland_altman, concordance
from livescope.assay.pooled import BorderRule, counting_rows
from livescope.assay.stain import DEAD_ABOVE, LIVE_BELOW, stained_states
from livescope.assay.viability import viability_of_counts, wilson
from livescope.calls import State
from livescope.errors import AssayError
from livescope.frames import Frame
from livescope.record.reader import Record
from livescope.report import figures, page

__all__ = ["DyeFields", "dye_section", "gather_dye"]

_ROWS = 12
_SAME_PLACE_UM = 5.0
"""A stage that comes back is off by less, and cells are larger."""


@dataclass(slots=True)
class DyeFields:
    """What model and dye say of the same cells, field by field.

    Attributes
    ----------
    channel
        The dye's; None where the record has no other channel, or several and none was named.
    channels
        All channels that were not called.
    frames, called_frames
        `Frame.index` of each picture of the dye, and of the called frame that it is compared with.
    positions, reasons
        Of each: position, and why a rule took it.
    model, dye
        (n,) uint8 of `State` of the cells of each pair, those that count at the border.
    """

    channel: str | None
    channels: tuple[str, ...]
    frames: list[int] = field(default_factory=list)
    called_frames: list[int] = field(default_factory=list)
    positions: list[str | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    model: list[NDArray[np.uint8]] = field(default_factory=list)
    dye: list[NDArray[np.uint8]] = field(default_factory=list)


def gather_dye(record: Record, channel: str | None, border: BorderRule) -> DyeFields:
    """Measure the dye in each of its frames at the cells of the nearest called frame of the position.

    Parameters
    ----------
    record
        The record.
    channel
        Preset of the dye; None takes the only channel that was not called.
    border
        Which cells at the border count.
    """
    frames = [record.frame(number, pixels=False) for number in range(len(record))]
    # where the detector did not keep up, frames of the channel that it calls are not analysed either
    called_in = {frame.channel for frame in frames if frame.index in record.analysed}
    channels = tuple(
        dict.fromkeys(str(frame.channel) for frame in frames if frame.channel not in {None, "", *called_in})
    )
    chosen = channel or (channels[0] if len(channels) == 1 else None)
    found = DyeFields(chosen, channels)
    for number, called in _pairs(record, frames, chosen):
        calls = record.calls_of(called)
        picture = record.frame(number)
        if calls is None:
            continue
        counting = counting_rows(calls, picture.spec.shape, border)
        found.frames.append(picture.index)
        found.called_frames.append(called)
        found.positions.append(picture.position)
        found.reasons.append(str((picture.metadata or {}).get("reason", "")))
        found.model.append(calls.state[counting])
        found.dye.append(stained_states(picture.pixels, calls)[counting])
    return found


def _pairs(record: Record, frames: list[Frame], channel: str | None) -> Iterator[tuple[int, int]]:
    """Yield (number of a dye frame, index of the called frame of its field that is nearest in time)."""
    for number, frame in enumerate(frames):
        if channel is None or frame.channel != channel or frame.index in record.analysed:
            continue
        called = [
            other
            for other in frames
            if other.index in record.analysed
            and other.position == frame.position
            and other.pixels.shape == frame.pixels.shape
            and not _moved(frame, other)
        ]
        if called:
            yield number, min(called, key=lambda other: abs(other.time_s - frame.time_s)).index


def _moved(frame: Frame, other: Frame) -> bool:
    """Whether the stage went elsewhere between two frames; places without a name are told apart by nothing else."""
    places = (frame.x_um, other.x_um), (frame.y_um, other.y_um)
    return any(a is not None and b is not None and abs(a - b) > _SAME_PLACE_UM for a, b in places)


def dye_section(found: DyeFields) -> str:
    """Return the section of a page.

    Raises
    ------
    AssayError
        There is nothing to compare, and why.
    """
    if found.channel is None:
        known = ", ".join(found.channels)
        raise AssayError(
            f"several channels were not called ({known}); name the dead-cell dye's with --dye."
            if known
            else "no frame was taken in a dye's channel, so the calls have nothing to be compared with."
        )
    if not found.frames:
        known = ", ".join(found.channels) or "none"
        raise AssayError(
            f"no frame of channel {found.channel!r} shows a field that was called; channels not called: {known}."
        )
    model, dye = np.concatenate(found.model), np.concatenate(found.dye)
    said = (
        f"{len(found.frames)} pictures of channel {found.channel}, taken to stain dead cells, beside the called frame "
        f"of the same field nearest in time. A cell is dead by the dye where its brightest third, less noise, is above "
        f"{DEAD_ABOVE[0]:g} times the field's median and {DEAD_ABOVE[1]:g} times its surroundings, live below "
        f"{LIVE_BELOW[0]:g} or {LIVE_BELOW[1]:g} times; between them the dye does not say. Cells that the model missed "
        "are not in these figures."
    )
    states = list(State)
    rows = [
        (f"model: {ours.label}", *(str(int(np.count_nonzero((model == ours) & (dye == theirs)))) for theirs in states))
        for ours in states
    ]
    head = ("cells", *(f"dye: {state.label}" for state in states))
    return page.paragraph(said) + page.table(head, rows) + _rates(model, dye) + _by_field(found)


def _rates(model: NDArray[np.uint8], dye: NDArray[np.uint8]) -> str:
    decided = (model != State.UNCERTAIN) & (dye != State.UNCERTAIN)
    rows = []
    for state in (State.LIVE, State.DEAD):
        stained = decided & (dye == state)
        n, right = int(stained.sum()), int((stained & (model == state)).sum())
        part, low, high = wilson(right, n)
        words = f"{part:.3f} ({low:.3f} to {high:.3f})" if n else "none"
        rows.append((f"{state.label} by the dye, called {state.label}", words, str(n)))
    return page.table(("of cells that both decide", "part (95 % interval)", "cells"), rows)


def _by_field(found: DyeFields) -> str:
    viabilities = [
        [viability_of_counts(*(int((states == state).sum()) for state in State)) for states in of]
        for of in (found.model, found.dye)
    ]
    first, second = ([one.fraction for one in of] for of in viabilities)
    rows = [
        (str(frame), position or "", page.viability_words(ours), page.viability_words(theirs), why)
        for frame, position, ours, theirs, why in zip(
            found.frames, found.positions, *viabilities, found.reasons, strict=True
        )
    ]
    shown = sorted({round(k) for k in np.linspace(0, len(rows) - 1, _ROWS)})
    head = ("frame", "position", "viability by the model", "by the dye", "taken because")
    text = page.table(head, [rows[k] for k in shown])
    if len(rows) > len(shown):
        text += page.paragraph(f"{len(shown)} of {len(rows)} fields, spread over the run; the figure shows all.")
    if np.count_nonzero(np.isfinite(first) & np.isfinite(second)) < 3:
        return text + page.note("Bland-Altman limits and concordance need three fields or more.")
    limits, ccc = bland_altman(first, second), concordance(first, second)
    return (
        text
        + figures.bland_altman_plot(first, second, limits)
        + page.paragraph(
            f"Model minus dye: bias {limits.bias:+.3f} ({limits.bias_low:+.3f} to {limits.bias_high:+.3f}), limits of "
            f"agreement {limits.low:+.3f} to {limits.high:+.3f}, Lin's concordance {ccc.ccc:.3f} ({ccc.low:.3f} to "
            f"{ccc.high:.3f}); {limits.n} fields. Fields of one position at different times are not independent."
        )
    )
