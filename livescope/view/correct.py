"""Correcting calls with the mouse: flip, box, add, remove, undo, redo, and the cells worth looking at first.

Owns what a click means. What was said is kept by `livescope.record.corrections`.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np

from livescope.assay.pooled import BorderRule, counting_rows
from livescope.assay.viability import viability
from livescope.calls import Analysis, CellCalls, State
from livescope.frames import Frame
from livescope.record.corrections import Correction, CorrectionLog, apply_corrections
from livescope.view.render import FrameFeed

__all__ = ["CorrectedFeed", "Corrector"]

_FLIPPED = {State.LIVE: State.DEAD, State.DEAD: State.LIVE, State.UNCERTAIN: State.DEAD}
_KEPT = 16
"""Frames whose calls by the model are kept, to say what it had called a cell that is corrected again."""


class Corrector:
    """Takes corrections of one record. GUI thread, but for `apply`.

    Parameters
    ----------
    record
        Folder of the record.
    write
        Runs what writes to the disk, in the order given; the window does it in its helper thread.

    Raises
    ------
    RecordError
        Its log is damaged.
    """

    def __init__(self, record: Path, write: Callable[[Callable[[], None]], object]) -> None:
        self.record = record
        self.log = CorrectionLog(record)
        self._run_write = write
        self._author = getpass.getuser()
        self._standing = self.log.standing
        acts = groupby(self._standing, key=lambda line: (line.author, line.wall_time))
        self._done = [tuple(lines) for _, lines in acts]  # what a box said was said at one time
        self._undone: list[tuple[Correction, ...]] = []
        self._originals: dict[int, CellCalls] = {}

    @property
    def standing(self) -> tuple[Correction, ...]:
        """The corrections that hold; a new tuple whenever they change."""
        return self._standing

    @property
    def count(self) -> int:
        """Corrections that hold."""
        return len(self._standing)

    def apply(self, analysis: Analysis, border: BorderRule) -> Analysis:
        """Return the analysis with corrected calls, counted anew; itself if no cell of it changes. Any thread."""
        self._originals[analysis.calls.frame_index] = analysis.calls
        while len(self._originals) > _KEPT:
            self._originals.pop(next(iter(self._originals)), None)
        calls = apply_corrections(analysis.calls, self._standing)
        if _same_cells(calls, analysis.calls):
            return analysis
        counting = counting_rows(calls, analysis.frame.pixels.shape, border)
        return replace(analysis, calls=calls, viability=viability(calls, counting=counting))

    def flip(self, calls: CellCalls, row: int) -> None:
        """Turn a call round: live to dead, dead to live, uncertain to dead."""
        self.set_state(calls, [row], _FLIPPED[State(int(calls.state[row]))])

    def set_state(self, calls: CellCalls, rows: Sequence[int], state: State) -> None:
        """Say what some cells are."""
        now = time.time()
        self._take([self._line("state", calls, row, state, now) for row in rows])

    def remove(self, calls: CellCalls, rows: Sequence[int]) -> None:
        """Say that some calls are no cells."""
        now = time.time()
        self._take([self._line("remove", calls, row, None, now) for row in rows])

    def add_cell(self, calls: CellCalls, y_px: float, x_px: float, state: State) -> None:
        """Say that a cell was missed; it is as large as the others."""
        radius_px = float(np.median(calls.radii_px)) if len(calls) else 10.0
        index, now = calls.frame_index, time.time()
        self._take([Correction(0, "add", index, -1, y_px, x_px, radius_px, state, None, None, self._author, now)])

    def undo(self) -> bool:
        """Take back what was said last; False if there is nothing."""
        if not self._done:
            return False
        lines = self._done[-1]
        self._write([self._undo_line(line) for line in lines])
        self._undone.append(self._done.pop())
        return True

    def redo(self) -> bool:
        """Say again what was taken back last; False if there is nothing."""
        if not self._undone:
            return False
        self._done.append(self._write(self._undone[-1]))
        self._undone.pop()
        return True

    def _take(self, lines: list[Correction]) -> None:
        if lines:
            self._done.append(self._write(lines))
            self._undone.clear()

    def _write(self, lines: Sequence[Correction]) -> tuple[Correction, ...]:
        new = self.log.take(lines)
        self._standing = self.log.standing
        self._run_write(lambda: self.log.save(new))
        return new

    def _line(self, kind: str, calls: CellCalls, row: int, state: State | None, now: float) -> Correction:
        y_px, x_px = float(calls.y_px[row]), float(calls.x_px[row])
        original = self._originals.get(calls.frame_index, calls)
        (same,) = np.nonzero((original.y_px == calls.y_px[row]) & (original.x_px == calls.x_px[row]))
        called = State(int(original.state[same[0]])) if len(same) else None
        p_dead = float(original.p_dead[same[0]]) if len(same) else None
        radius_px = float(np.median(calls.radii_px[row]))
        track = int(calls.track[row])
        return Correction(
            0, kind, calls.frame_index, track, y_px, x_px, radius_px, state, called, p_dead, self._author, now
        )

    def _undo_line(self, line: Correction) -> Correction:
        kept = replace(line, kind="undo", state=None, called=None, p_dead=None)
        return replace(kept, author=self._author, wall_time=time.time(), undone=line.number)


def _same_cells(a: CellCalls, b: CellCalls) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("y_px", "x_px", "state"))


class RecordedFeed(FrameFeed, Protocol):
    """Frames and calls, and which record they are in."""

    def record_of(self, frame: Frame) -> Path | None:
        """Record that holds a frame, None if none does."""


class CorrectedFeed:
    """What is shown, or held, with the corrections of each record on the frames of that record. Any thread.

    Parameters
    ----------
    shown
        What is shown.
    border
        Which cells at the border the run counts.
    """

    def __init__(self, shown: RecordedFeed, border: BorderRule) -> None:
        self._shown, self._border = shown, border
        self.corrector: Corrector | None = None
        """Of the record that was opened last; what was said last of it can be undone."""
        self._correctors: dict[Path, Corrector] = {}
        self._held: tuple[Frame | None, Analysis | None] | None = None
        self._last: tuple[Analysis, tuple[Correction, ...], Analysis] | None = None

    def open(self, record: Path, write: Callable[[Callable[[], None]], object]) -> Corrector:
        """Let the corrections of a record hold, those of former sessions among them.

        Raises
        ------
        RecordError
            Its log is damaged.
        """
        if record not in self._correctors:
            self._correctors[record] = Corrector(record, write)
        self.corrector = self._correctors[record]
        return self.corrector

    def hold(self, on: bool) -> None:
        """Stand still at what is the newest now, or go on; what is corrected meanwhile is seen."""
        self._held = (self._shown.latest_frame(), self._shown.latest_analysis()) if on else None

    @property
    def standing(self) -> tuple[Correction, ...]:
        """The corrections that hold for what is shown."""
        corrector = self._corrector_for(self._latest()[1])
        return () if corrector is None else corrector.standing

    def latest_frame(self) -> Frame | None:
        """Return the newest frame."""
        return self._latest()[0]

    def latest_analysis(self) -> Analysis | None:
        """Return the newest analysis as corrected: the same object until calls or corrections change."""
        analysis, last = self._latest()[1], self._last
        corrector = self._corrector_for(analysis)
        if analysis is None or corrector is None:
            return analysis
        standing = corrector.standing
        if last is None or last[0] is not analysis or last[1] is not standing:
            self._last = last = (analysis, standing, corrector.apply(analysis, self._border))
        return last[2]

    def _latest(self) -> tuple[Frame | None, Analysis | None]:
        return self._held or (self._shown.latest_frame(), self._shown.latest_analysis())

    def _corrector_for(self, analysis: Analysis | None) -> Corrector | None:
        """Return the corrector of the record in which the frame lies: tracks of another run have the same numbers."""
        record = None if analysis is None else self._shown.record_of(analysis.frame)
        return None if record is None else self._correctors.get(record)
