"""The records of a session: none, one, or several one after the other, as the user switches recording on and off.

Owns which record is open and how many frames all of them hold. How a record is written lies in `livescope.record`.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from livescope.calls import Analysis
from livescope.errors import RecordError
from livescope.frames import Frame, LossLedger
from livescope.settings import Settings

if TYPE_CHECKING:
    from livescope.record.writer import Recorder
    from livescope.simulate.truth import Truth

__all__ = ["Recording"]

_DISK_POLL_S = 1.0
_TRUTH_COLUMNS = ("cell_id", "y_px", "x_px", "radii_px", "state", "death_minutes", "visible")
"""What a record of simulated cells keeps of their truth, in the order of `Truth`."""

_FATE_COLUMNS = (
    *("p_dead", "state", "death_frame", "death_low_frame", "death_high_frame"),
    *("arrived_dead", "declared", "resurrected"),
)
"""What a record keeps of the cells' fates beside the calls of single frames, in the order of `Fates`."""


class Recording:
    """Frames and calls to the record that is open, if one is.

    Parameters
    ----------
    on_error
        Called with each failure, from a recorder thread or the detector's.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._recorder: Recorder | None = None
        self._closed_frames = 0
        self._analysing = threading.Lock()
        self._asking_disk = threading.Lock()
        self._disk_asked_s = -_DISK_POLL_S
        self._disk_free: int | None = None
        self._written: set[Path] = set()
        self._times_s: dict[Path, tuple[float, float]] = {}
        """When the first and the newest frame of each record arrived."""
        self.path: Path | None = None
        """The newest record."""

    @property
    def active(self) -> bool:
        """Whether a record is open."""
        return self._recorder is not None

    @property
    def recorded(self) -> int:
        """Frames on the disk since `reset`, over all records."""
        recorder = self._recorder
        return self._closed_frames + (recorder.recorded if recorder else 0)

    @property
    def queue_fill(self) -> float:
        """How full the queue to the disk is, 0..1."""
        recorder = self._recorder
        return recorder.queue_fill if recorder else 0.0

    def disk_free_bytes(self) -> int:
        """Space left where the newest record lies, or the next one will.

        Raises
        ------
        OSError
            The disk does not answer, or is gone: a drive of Windows has no parent that is still there.
        """
        folder = (self.path or Path.cwd()).absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def disk_free_lately(self) -> int | None:
        """Return `disk_free_bytes` of a second ago, None where it is not known; never waits for the disk.

        A share that hangs keeps whoever asks it for minutes; a window asks many times a second.
        """
        now_s = time.monotonic()
        if not self._asking_disk.locked() and now_s - self._disk_asked_s > _DISK_POLL_S:
            self._disk_asked_s = now_s
            threading.Thread(target=self._ask_disk, name="livescope-disk", daemon=True).start()
        return self._disk_free

    def _ask_disk(self) -> None:
        with self._asking_disk:
            try:
                self._disk_free = self.disk_free_bytes()
            except OSError:
                self._disk_free = None

    def reset(self) -> None:
        """Begin to count anew, for a new run."""
        self._closed_frames = 0

    def open(self, settings: Settings, ledger: LossLedger, facts: Mapping[str, Any]) -> None:
        """Open a record; one that is open, e.g. begun while nothing ran, counts in `ledger` from now on.

        `facts` go into its manifest at once.

        Raises
        ------
        RecordError
            The record cannot begin; the message names the path and the next step.
        """
        from livescope.record.writer import Recorder

        if self._recorder is not None:
            self._recorder.count_in(ledger)
            self._recorder.note(**facts)
            return
        path = self._next_path(settings.record.path or Path("runs/{time}.ome.zarr"))
        layout = _planned_layout(settings.run.plan)
        recorder = Recorder(path, settings.record, ledger, run_settings=settings, on_error=self._on_error, **layout)
        recorder.note(**facts)
        self.path, self._recorder = recorder.path, recorder
        self._written.add(recorder.path)

    def _next_path(self, template: Path) -> Path:
        """Path of the next record: NAME, or NAME-2, NAME-3 ... where this session has written NAME before.

        With ``{time}`` in it, which is whole seconds, also where another run has; else what exists is left to the
        recorder, which refuses it unless it may overwrite.
        """
        from livescope.record.place import resolve_path

        first = resolve_path(template, datetime.now().astimezone())
        suffix = ".ome.zarr" if first.name.endswith(".ome.zarr") else first.suffix
        stem = first.name.removesuffix(suffix)
        names = itertools.chain([first.name], (f"{stem}-{k}{suffix}" for k in itertools.count(2)))
        timed = "{time}" in str(template)
        candidates = (first.with_name(name) for name in names)
        return next(path for path in candidates if path not in self._written and not (timed and path.exists()))

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest of the open record (any thread)."""
        recorder = self._recorder
        if recorder is not None:
            recorder.note(**facts)

    def close(self, facts: Mapping[str, Any]) -> None:
        """Write what is queued, add last facts to the manifest, close the record."""
        with self._analysing:  # calls on their way are still stored
            recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        try:
            recorder.close(facts)
        finally:
            self._closed_frames += recorder.recorded

    def put(self, frame: Frame) -> bool:
        """Store a frame (acquisition thread); False if the recorder refused it, which it has counted."""
        recorder = self._recorder
        if recorder is None:
            return True
        self._times_s[recorder.path] = self._times_s.get(recorder.path, (frame.time_s,))[0], frame.time_s
        return recorder.put(frame)

    def record_of(self, frame: Frame) -> Path | None:
        """Return the record that a frame of this session belongs to, None if it came while none was open (any thread).

        By its time of arrival: numbers begin again at 0 with each run, and a record may end before its run.
        """
        times_s = self._times_s.copy().items()
        held = (path for path, (first_s, last_s) in times_s if first_s <= frame.time_s <= last_s)
        return next(held, None) if frame.index >= 0 else None  # a snap is in no record

    def put_analysis(self, analysis: Analysis, truth: Truth | None) -> None:
        """Store the calls of a frame, and the truth where the source knows it (detector thread).

        What the disk refuses is told to `on_error`; the calls are shown and acted on all the same.
        """
        rows: dict[str, dict[str, Any]] = {}
        if analysis.fates is not None:
            rows["fates"] = _columns(analysis, analysis.fates, _FATE_COLUMNS, analysis.calls.track)
        if analysis.shift is not None:
            rows["shift"] = {"frame": [analysis.frame.index], "distance": [analysis.shift]}
        if truth is not None:
            rows["truth"] = _columns(analysis, truth, _TRUTH_COLUMNS)
        with self._analysing:
            recorder = self._recorder
            if recorder is None:
                return
            recorder.put_calls(analysis.frame, analysis.calls)
            for name, columns in rows.items():
                try:
                    recorder.put_table(name, columns)
                except RecordError as error:
                    self._on_error(error)

    def put_table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows to a table of the open record, e.g. what became of a rule's action (any thread).

        Raises
        ------
        RecordError
            The disk refused.
        """
        with self._analysing:
            if self._recorder is not None:
                self._recorder.put_table(name, columns)


def _planned_layout(plan: Path | None) -> dict[str, Any]:
    """Return what the recorder must know of a plan beforehand: channels of one image, wells of a plate."""
    if plan is None:
        return {}
    from livescope.acquire.planned import load_plan
    from livescope.record.plate import channels_of_plan, plate_of_plan

    sequence = load_plan(plan)
    return {"channels": channels_of_plan(sequence), "plate": plate_of_plan(sequence)}


def _columns(
    analysis: Analysis, rows: object, names: Sequence[str], track: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Columns of a table with one row a cell, led by the frame and, where there is one, the track."""
    columns = {name: getattr(rows, name) for name in names}
    leading = {} if track is None else {"track": track}
    return {"frame": np.full(len(columns[names[0]]), analysis.frame.index), **leading, **columns}
