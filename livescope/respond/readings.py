"""Readings: what rules look at, made of each analysed frame, live or from a record.

Owns the names' meaning and the running death rate. Decides nothing (`rules`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from livescope.assay.pooled import BorderRule
from livescope.assay.viability import viability_of_counts
from livescope.calls import Viability
from livescope.record.reader import Record
from livescope.respond.counts import counts_of
from livescope.respond.focus import FocusMeter
from livescope.respond.rules import Reading

__all__ = ["Readings", "deaths_by_frame", "readings_of_record", "shift_of"]


@dataclass(slots=True)
class _Recent:
    """Running sums of one position, and what they were at about a thousand moments of the window."""

    deaths: int = 0
    cell_hours: float = 0.0
    latest: tuple[float, int] | None = None
    """Time and living cells of the newest frame."""
    marks: deque[tuple[float, int, float]] = field(default_factory=deque)
    """(seconds, deaths, cell hours), the oldest at the start of the window, or the last before it."""

    def rate_per_h(self, time_s: float, deaths: int, living: int, window_s: float) -> float:
        if self.latest is not None:
            # a death in the very first frame belongs to the time before it
            self.deaths += deaths
            self.cell_hours += (time_s - self.latest[0]) / 3600 * 0.5 * (living + self.latest[1])
        self.latest = time_s, living
        if not self.marks or time_s - self.marks[-1][0] >= window_s / 1000:
            self.marks.append((time_s, self.deaths, self.cell_hours))
        # frames may lie further apart than the window: the one before it stays, lest there never be a rate
        while len(self.marks) > 1 and self.marks[1][0] <= time_s - window_s:
            self.marks.popleft()
        hours = self.cell_hours - self.marks[0][2]
        return (self.deaths - self.marks[0][1]) / hours if hours > 0 else math.nan


class Readings:
    """Makes readings; one thread uses it.

    Parameters
    ----------
    window_s
        The death rate is that of the latest `window_s` seconds, or of the time since the frame before if that is
        longer.

    Examples
    --------
    >>> from livescope.assay.viability import viability_of_counts
    >>> readings = Readings()
    >>> reading = readings.make(0, 0.0, None, viability_of_counts(80, 20), died=0, disk_free_gb=12.0)
    >>> reading.n_cells, reading.values["viability"], reading.values["disk_free_gb"]
    (100, 0.8, 12.0)
    """

    def __init__(self, window_s: float = 1800.0) -> None:
        self._window_s = window_s
        self._recent: dict[tuple[str, str | None], _Recent] = {}
        self._start_s: float | None = None

    def make(
        self,
        frame_index: int,
        time_s: float,
        position: str | None,
        viability: Viability,
        died: int,
        camera: str = "",
        living: int | None = None,
        **more: float,
    ) -> Reading:
        """Return the reading of one frame.

        Parameters
        ----------
        frame_index, time_s, position
            Of the frame; the time is the culture's (`Frame.culture_s`).
        viability
            Of the frame.
        died
            Cells declared dead in it that were seen alive (`Fates.died`).
        camera
            Its camera; of several at one position each has its own cells, and its own death rate.
        living
            Live cells of the whole frame, for `died` are of the whole frame too; None takes those that count in
            `viability`, which a rule for the border may have left some out of.
        **more
            Other metrics where they are known: ``focus``, ``shift``, ``disk_free_gb``.
        """
        self._start_s = time_s if self._start_s is None else self._start_s
        at_risk = viability.n_live if living is None else living
        recent = self._recent.setdefault((camera, position), _Recent())
        values = {
            "viability": viability.fraction,
            "viability_low": viability.low,
            "viability_high": viability.high,
            "n_live": float(viability.n_live),
            "n_dead": float(viability.n_dead),
            "n_uncertain": float(viability.n_uncertain),
            "n_cells": float(viability.n_live + viability.n_dead + viability.n_uncertain),
            "death_rate_per_h": recent.rate_per_h(time_s, died, at_risk, self._window_s),
            "elapsed_h": (time_s - self._start_s) / 3600,
            **more,
        }
        return Reading(frame_index, time_s, position, values, viability.n_live + viability.n_dead, camera)


def readings_of_record(record: Record, *, focus: bool = True, border: BorderRule | None = None) -> Iterator[Reading]:
    """Yield the readings of a record's analysed frames, as a live run made them but for the space on the disk.

    Parameters
    ----------
    record
        The record. Deaths are those of its table of fates, where there is one; counts are those of single frames.
    focus
        Also read the pixels of each frame, for the metric of that name.
    border
        Which cells at the border count; None takes what the run was told.
    """
    died, counts = deaths_by_frame(record), counts_of(record, border)
    readings, meter, shift = Readings(), FocusMeter(), shift_of(record)
    for number in range(len(record)):
        if record.place(number).index not in counts:
            continue
        frame = record.frame(number, pixels=focus)
        more = {"focus": meter.relative(frame.pixels, frame.position, frame.camera)} if focus else {}
        if frame.index in shift:
            more["shift"] = shift[frame.index]
        viability = viability_of_counts(*counts[frame.index])
        deaths, living = died.get(frame.index, 0), record.analyses[frame.index]["n_live"]
        yield readings.make(
            frame.index, frame.culture_s, frame.position, viability, deaths, frame.camera, living, **more
        )


def shift_of(record: Record) -> dict[int, float]:
    """Return how far each frame was from the model's training, by `Frame.index`; empty where nobody looked."""
    if "shift" not in record.tables:
        return {}
    table = record.table("shift")
    return dict(zip(table["frame"].to_pylist(), table["distance"].to_pylist(), strict=True))


def deaths_by_frame(record: Record) -> Mapping[int, int]:
    """Count, by frame, the tracks that were declared dead there and had been seen alive, as `Fates.died` did.

    One that was declared dead, taken back and declared dead again counts again, as it did in the run.
    """
    if "fates" not in record.tables:
        return {}
    fates = record.table("fates").sort_by([("track", "ascending"), ("frame", "ascending")])
    track, declared = fates["track"].to_numpy(), fates["declared"].to_numpy()
    before = np.append(False, declared[:-1] & (track[1:] == track[:-1]))
    died = declared & ~before & ~fates["arrived_dead"].to_numpy()
    frames, counts = np.unique(fates["frame"].to_numpy()[died], return_counts=True)
    return dict(zip(frames.tolist(), counts.tolist(), strict=True))
