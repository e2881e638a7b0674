"""The recorder: frames and calls go in from other threads, a record lies on the disk.

Owns the threads, what counts as recorded, and what happens when the disk refuses. A frame counts when all its levels
have reached the disk and its line is in the journal. Formats lie in `layout`, `arrays`, `table` and `labels`, what is
told of a failure in `failures`, the end of a record in `finish`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from livescope.calls import CellCalls, State
from livescope.errors import RecordError
from livescope.frames import Frame, LossCause, LossLedger
from livescope.record.arrays import halved_labels, halved_means
from livescope.record.buffers import Buffers
from livescope.record.failures import Failures, reason_of
from livescope.record.finish import finish
from livescope.record.frame_line import frame_line
from livescope.record.images import Images, Place
from livescope.record.journal import Journal, checksum
from livescope.record.labels import label_planes
from livescope.record.layout import CALLS, FORMAT, FRAMES, JOURNAL, RUN_SETTINGS, write_group
from livescope.record.manifest import first_manifest, write_manifest
from livescope.record.place import make_record_folder, resolve_path
from livescope.record.plate import PlateLayout
from livescope.record.table import TableStream, calls_batch, to_batch
from livescope.settings import RecordSettings, Settings, dump_settings

__all__ = ["Recorder"]

IN_FLIGHT = 12
"""Frames being written at once: enough to fill the disk's queue (measured with tensorstore on a local disk)."""
CALLS_WAITING = 8
"""Analysed frames that may wait for the label thread before `put_calls` waits."""
REMEMBERED = 4096
"""Newest frames whose place is known when their calls arrive."""
TICK_S = 0.25


@dataclass(slots=True, frozen=True)
class _Writing:
    """A frame that is held, its place, and what must stay as it is until its writes have ended."""

    frame: Frame
    place: Place
    futures: Sequence[Any] = ()
    planes: Sequence[Any] = ()
    rows_crc32c: int = 0


class Recorder:
    """Writes one record. Made at the start of a run, closed at its end.

    Parameters
    ----------
    path
        Folder of the record; ``{time}`` in it becomes date and time.
    settings
        Codec, chunks, levels, queue, labels.
    ledger
        Where refused and failed frames are counted, as `LossCause.RECORDER`.
    run_settings
        All settings of the run, stored as ``run.yaml``.
    on_error
        Called from a recorder thread with each failure, within 2 s of the disk's refusal; it must return at once.
    channels
        Names of channels that share an image (its c axis), in order. Frames of other channels get images of their own.
    plate
        Where the stage positions of a well plate lie; None for a record that is none.

    Raises
    ------
    RecordError
        The record cannot begin: path not writable, something there, in use, too little space.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from livescope.frames import Frame, LossLedger
    >>> from livescope.settings import Settings
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     settings = Settings()
    ...     path = f"{folder}/a.ome.zarr"
    ...     recorder = Recorder(path, settings.record, LossLedger(), run_settings=settings, on_error=print)
    ...     recorder.put(Frame(np.zeros((64, 64), np.uint16), 0, 0, "Camera", time_s=0.0, wall_time=0.0, bit_depth=12))
    ...     recorder.close()
    ...     recorder.recorded
    True
    1
    """

    def __init__(
        self,
        path: Path | str,
        settings: RecordSettings,
        ledger: LossLedger,
        *,
        run_settings: Settings,
        on_error: Callable[[RecordError], None],
        channels: Sequence[str] = (),
        plate: PlateLayout | None = None,
    ) -> None:
        now = datetime.now().astimezone()
        self.path = resolve_path(Path(path), now)
        self._settings, self._ledger = settings, ledger
        self._failures = Failures(self.path, on_error)
        self._places: OrderedDict[int, Place] = OrderedDict()
        self._tables: dict[str, TableStream] = {}
        self._guard = threading.RLock()  # places, manifest: what more than one thread changes
        self._table_guard = threading.Lock()  # apart, because the journal takes it while it syncs
        self._lock = make_record_folder(
            self.path, overwrite=settings.overwrite, min_free_bytes=settings.min_free_mb * 1_000_000
        )
        try:
            self._journal = Journal(self.path / JOURNAL, before_sync=self._sync_tables)
            opened = {"livescope": FORMAT, "wall_time": now.timestamp(), "pid": os.getpid()}
            self._journal.append({"kind": "open", **opened, "plate": None if plate is None else plate.as_dict()})
            self._manifest = first_manifest(now)
            write_manifest(self.path, self._manifest)
            (self.path / RUN_SETTINGS).write_text(dump_settings(run_settings), encoding="utf-8")
            write_group(self.path, {"livescope": {"format": FORMAT}})
        except OSError as error:
            self._lock.release()
            reason = error.strerror or error
            raise RecordError(f"record {str(self.path)!r} cannot be written: {reason}. Choose another path.") from None
        self._images = Images(self.path, settings, self._journal, channels, plate)
        self._buffers = Buffers(settings.queue_frames + IN_FLIGHT, settings.queue_mb * 1_000_000)
        self._incoming: queue.SimpleQueue[_Writing | None] = queue.SimpleQueue()  # None: close
        self._analysed: queue.Queue[tuple[Frame, CellCalls] | None] = queue.Queue(CALLS_WAITING)
        self._recorded = self._lost = 0
        self._failed = self._closing = self._closed = False
        self._losses: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._write_frames, name="recorder", daemon=True),
            threading.Thread(target=self._write_calls, name="recorder-calls", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def recorded(self) -> int:
        """Frames that are on the disk and in the journal."""
        return self._recorded

    @property
    def queue_fill(self) -> float:
        """Part of the queue in use, 0..1; at 1 the next frame is refused."""
        return self._buffers.fill

    def count_in(self, ledger: LossLedger) -> None:
        """Count lost frames in the ledger of another run from now on; while no frame is on its way."""
        self._ledger = ledger

    def put(self, frame: Frame) -> bool:
        """Queue a frame and return at once. For one thread.

        Pixels that are marked read-only are held as they are until they are on the disk, others are copied.

        Returns
        -------
        bool
            False if it was refused (queue full, record failed or closed); then it is counted as `LossCause.RECORDER`.
        """
        refused = self._failed or self._closing
        held = None if refused else self._buffers.hold(frame.pixels)
        if held is None:
            self._images.skip(frame)
            self._ledger.lose(LossCause.RECORDER, frame.segment, frame.camera)
            return False
        place = self._images.place(frame)
        with self._guard:
            self._places[frame.index] = place
            if len(self._places) > REMEMBERED:
                self._places.popitem(last=False)
        self._incoming.put(_Writing(replace(frame, pixels=held), place))
        return True

    def put_calls(self, frame: Frame, calls: CellCalls) -> None:
        """Store the cells of an analysed frame (labels and table), after `put` of that frame; also if it has no cell.

        Waits while `CALLS_WAITING` frames are queued: a slow disk slows analysis, never acquisition.
        """
        while not (self._failed or self._closing):
            try:
                self._analysed.put((frame, calls), timeout=TICK_S)
            except queue.Full:
                continue
            return

    def put_table(self, name: str, columns: Mapping[str, ArrayLike]) -> None:
        """Append rows to a table of the record, stored as ``NAME.parquet`` at close.

        Parameters
        ----------
        name
            Any but ``calls`` and ``frames``.
        columns
            Name -> n values each; an (n, k) array becomes a column of lists of k. The same columns at every call.

        Raises
        ------
        RecordError
            The name is taken, or the disk refused.
        """
        if name in (CALLS, FRAMES) or not name.isidentifier():
            raise RecordError(
                f"a table cannot be named {name!r}; choose an identifier other than 'calls' and 'frames'."
            )
        try:
            self._table(name).append(to_batch(columns))
        except (OSError, ValueError) as error:
            raise RecordError(f"table {name!r} of record {str(self.path)!r} could not be written: {error}") from error

    def note(self, **entries: Any) -> None:
        """Add JSON-ready entries to the manifest at once, e.g. ``devices=...``: they outlive a crash."""
        with self._guard:
            self._manifest.update(entries)
            try:
                write_manifest(self.path, self._manifest)
            except OSError as error:
                self._tell(f"the manifest could not be written: {error}")

    def close(self, extra_manifest: Mapping[str, Any] | None = None) -> None:
        """Write what is queued, trim, turn tables into Parquet, complete the manifest. May be called twice.

        A disk that refuses is told to `on_error`; frames in the journal are safe, `livescope recover` does the rest.
        """
        if self._closing:
            return
        self._closing = True
        self._incoming.put(None)
        self._put_last()
        for thread in self._threads:
            thread.join()
        try:
            self._end_files()
            if not self._failed:
                closing = {
                    **self._manifest,
                    "errors": self._failures.messages,
                    **(extra_manifest or {}),
                    "closed": datetime.now().astimezone().isoformat(),
                    "losses": self._ledger.rows(),
                }
                rowless = finish(self.path, closing, clean=not self._lost).rowless
                if rowless:
                    self._tell(
                        f"the calls of {len(rowless)} frames cannot be read from its table; calls.arrow was kept"
                    )
        except (OSError, ValueError) as error:
            self._tell(f"the record could not be finished: {reason_of(error)}. Then run: livescope recover {self.path}")
        finally:
            self._lock.release()

    def _end_files(self) -> None:
        """Sync journal and tables, and close them whether or not that went well."""
        try:
            if not self._failed:
                self._journal.append({"kind": "close", "wall_time": time.time()})
                self._journal.sync()
        finally:
            for table in self._tables.values():
                table.close()
            self._journal.close()

    # ---- frames: one thread

    def _write_frames(self) -> None:
        in_flight: deque[_Writing] = deque()
        closing = False
        while not (closing and not in_flight and self._incoming.empty()):
            while len(in_flight) < IN_FLIGHT:
                try:
                    item = self._incoming.get(block=not in_flight and not closing, timeout=TICK_S)
                except queue.Empty:
                    break
                closing = closing or item is None
                begun = None if item is None else self._begin(item)
                if begun is not None:
                    in_flight.append(begun)
            if in_flight:
                # not by a callback on each: tensorstore's threads would stand still there, waiting for the GIL
                _wait(in_flight[0], TICK_S)
            ended = []
            while in_flight and in_flight[0].futures[0].done():  # the smaller levels are done or about to be
                ended.append(in_flight.popleft())
            self._settle(ended)
            self._tick()

    def _begin(self, writing: _Writing) -> _Writing | None:
        """Start the writes of one frame; None if that failed."""
        frame, place = writing.frame, writing.place
        if self._failed:
            self._lose(frame)
            return None
        try:
            self._journal.check()  # tensorstore would make the folders anew where the record was, and write there
            pyramid = self._images.pyramid(place.image, frame.pixels)
            planes = halved_means(frame.pixels, len(place.image.shapes))
            futures = pyramid.write((place.t, place.c), planes)
        except Exception as error:  # noqa: BLE001  thread boundary: told to on_error and counted
            self._lose(frame, error)
            return None
        return replace(writing, futures=futures, planes=planes, rows_crc32c=checksum(frame.pixels))

    def _settle(self, ended: Sequence[_Writing]) -> None:
        """Journal frames whose writes have ended, or count them as lost."""
        written = []
        for writing in ended:
            try:
                for future in writing.futures:
                    future.result()
                written.append(writing)
            except Exception as error:  # noqa: BLE001  thread boundary: told to on_error and counted
                self._lose(writing.frame, error)
        try:
            if written:  # all in one write: each may cost the GIL
                self._journal.check()
                self._journal.append(*(frame_line(w.frame, w.place, w.rows_crc32c) for w in written))
        except Exception as error:  # noqa: BLE001  thread boundary: told to on_error and counted
            for writing in written:
                self._lose(writing.frame, error)
            return
        self._recorded += len(written)
        for writing in written:
            self._buffers.give(writing.frame.pixels)

    def _lose(self, frame: Frame, error: Exception | None = None) -> None:
        self._lost += 1
        self._ledger.lose(LossCause.RECORDER, frame.segment, frame.camera)
        self._buffers.give(frame.pixels)
        if error is not None:
            self._tell(reason_of(error))

    def _tick(self) -> None:
        if self._failed or not self._journal.due:
            return
        try:
            losses = self._ledger.by_cause()
            if losses != self._losses:
                self._losses = losses
                self._journal.append({"kind": "losses", "delivered": self._ledger.delivered, **losses})
            self._journal.sync()
        except FileExistsError:
            self._failed = True
            self._tell("another record stands in its place. No further frame is stored")
        except OSError as error:  # asked again at the next tick
            self._tell(reason_of(error))

    # ---- calls and labels: one thread

    def _write_calls(self) -> None:
        while (item := self._analysed.get()) is not None:
            if not self._failed:
                try:
                    self._write_analysis(*item)
                except Exception as error:  # noqa: BLE001  thread boundary: told to on_error
                    self._tell(f"calls are lost: {reason_of(error)}")

    def _write_analysis(self, frame: Frame, calls: CellCalls) -> None:
        with self._guard:
            place = self._places.get(frame.index)
        image = "" if place is None else place.image.path
        t = None if place is None else place.t
        self._journal.check()
        self._table(CALLS).append(calls_batch(frame, calls, image, t))
        labelled = place is not None and self._settings.labels and place.image.labelled in (None, place.c)
        if place is not None and labelled:
            place.image.labelled = place.c  # one channel an image: labels have no c
            cells, viability = label_planes(calls, place.image.shapes[0])
            levels = len(place.image.shapes)
            cells_arrays, viability_arrays = self._images.labels(place.image)
            futures = cells_arrays.write((place.t,), halved_labels(cells, levels))
            futures += viability_arrays.write((place.t,), halved_labels(viability, levels))
            for future in futures:
                future.result()
        counts = {f"n_{state.label}": calls.count(state) for state in State}
        facts = {"image": image, "t": t, "labelled": labelled, "saturated": calls.saturated}
        self._journal.append({"kind": "calls", "frame": frame.index, **facts, **counts})

    def _put_last(self) -> None:
        while self._threads[1].is_alive():
            try:
                self._analysed.put(None, timeout=TICK_S)
            except queue.Full:
                continue
            return

    # ---- tables and errors

    def _table(self, name: str) -> TableStream:
        with self._table_guard:
            if name not in self._tables:
                self._tables[name] = TableStream(self.path / f"{name}.arrow")
            return self._tables[name]

    def _sync_tables(self) -> None:
        with self._table_guard:
            tables = list(self._tables.values())
        for table in tables:
            table.sync()

    def _tell(self, reason: str) -> None:
        self._failures.tell(reason, self._lost, self._recorded)


def _wait(writing: _Writing, seconds: float) -> None:
    """Wait until the write of the largest level has ended, well or not, or the time is over."""
    with contextlib.suppress(TimeoutError):
        writing.futures[0].exception(timeout=seconds)
