"""A stored run called again, by the code path of the live run: on this machine, on its cores, or on a Dask cluster.

Owns the split of a record into parts, the order in which their results come back, and the comparison with the calls
that are stored. What is done with one frame is `livescope.analysis`.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import load_bundle
from livescope.errors import BackendError, RecordError
from livescope.frames import Frame
from livescope.outlines import StoredOutlines
from livescope.outputs import make_room
from livescope.record.reader import Record, open_record
from livescope.record.table import CALLS_SCHEMA, calls_batch, write_csv, write_parquet
from livescope.settings import DetectorSettings
from livescope.track.link import Linker

__all__ = ["TABLES", "Reanalysis", "reanalyse", "same_calls"]

TABLES = (".parquet", ".csv")
"""Kinds of tables that are written."""

PART_FRAMES = 8
"""Frames a task: long enough that a task outweighs its scheduling, short enough that the results stay small."""
_VERDICTS = ("identical", "identities", "differing")
_BACKENDS = {"onnxruntime": "onnx", "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""First word of `BackendInfo.backend` -> `DetectorSettings.backend`."""


@dataclass(slots=True, frozen=True)
class Reanalysis:
    """What became of the frames.

    Attributes
    ----------
    out
        The table that was written.
    frames, cells
        Frames analysed and cells called.
    identical
        Frames whose calls are equal to the stored ones to the bit.
    only_identities
        Frames whose calls are, but for the identities of the cells: those depend on what was seen before.
    differing
        `Frame.index` of frames whose stored calls differ; another model, backend or threshold makes them differ.
    same_counts
        Frames with as many live, dead and uncertain cells as stored: the viability curve is the same there.
    same_model
        True if the record was made with this model, by its sha256; None where the record does not say.
    warnings
        What the user must be told of the calls, each text once.
    """

    out: Path
    frames: int
    cells: int
    identical: int
    only_identities: int
    differing: tuple[int, ...]
    same_counts: int
    same_model: bool | None
    warnings: tuple[str, ...]


def reanalyse(
    path: Path | str,
    out: Path,
    *,
    detector: DetectorSettings | None = None,
    pixel_um: float | None = None,
    refined: bool = False,
    every_frame: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reanalysis:
    """Call the cells of a record again, write them as the record's own calls table, and compare.

    Parameters
    ----------
    path
        The record; for one in an object store a URL such as ``s3://bucket/run.ome.zarr``.
    out
        ``.parquet`` or ``.csv`` file to write, columns `livescope.record.table.CALLS_SCHEMA`.
    detector
        Model, backend and thresholds; None takes those of the run. ``auto`` becomes the backend that was in use.
    pixel_um
        Micrometres a pixel, instead of what the record says.
    refined
        Measure areas and rays on refined outlines (`livescope.detect.refine`); what is compared are the calls.
    every_frame
        Also call frames that the live run skipped, but none that it left out: of a dye, of another camera. Identities
        then differ from the stored ones, as more is seen.
    workers
        Processes on this machine; None analyses in this process.
    scheduler
        Address of a Dask scheduler, e.g. ``tcp://10.0.0.5:8786``; its workers need livescope and a view of the record.
    progress
        Called with frames done and frames in all.

    Raises
    ------
    RecordError
        No record, or `out` is of another kind.
    SettingsError
        `out` cannot be written, or lies in a record.
    ModelError, BackendError
        The model or backend is not to be had; no scheduler there; workers without distributed.
    """
    if out.suffix not in TABLES:
        raise RecordError(f"{str(out)!r} cannot be written: a table ends in {' or '.join(TABLES)}.")
    make_room("--out", out)
    record = open_record(path)
    made_with = record.manifest.get("backend", {})
    task = _Task(str(path), _as_used(detector or record.settings.detector, made_with), pixel_um, refined)
    numbers = _numbers(record, every_frame)
    comparison = _Comparison(record, refined)
    try:
        with contextlib.closing(_call_frames(task, numbers, workers, scheduler, comparison.warnings)) as found:
            write = write_parquet if out.suffix == ".parquet" else write_csv
            write(out, CALLS_SCHEMA, comparison.batches(numbers, found, progress))
    except OSError as error:
        raise RecordError(f"{str(out)!r} cannot be written: {error.strerror or error}. Choose another path.") from error
    stored_model = made_with.get("model_sha256")
    same_model = None if stored_model is None else stored_model == load_bundle(task.settings.model).sha256
    return comparison.result(out, len(numbers), same_model)


class _Comparison:
    """Calls that come back, linked as in the live run, beside the stored ones."""

    def __init__(self, record: Record, refined: bool) -> None:
        self._record = record
        self._refined = refined
        self._linker = Linker() if record.settings.track.enabled else None
        self._verdicts: dict[int, str] = {}
        self._cells = self._same_counts = 0
        self.warnings: dict[str, None] = {}

    def batches(
        self, numbers: Sequence[int], found: Iterable[CellCalls], progress: Callable[[int, int], None]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of frame after frame, given the numbers of the frames on disk and their calls."""
        for done, (number, calls) in enumerate(zip(numbers, found, strict=True), 1):
            place, frame = self._record.place(number), self._record.frame(number, pixels=False)
            linked = calls if self._linker is None else self._linker.update(calls, frame)
            self._compare(linked)
            self._cells += len(linked)
            progress(done, len(numbers))
            yield calls_batch(frame, linked, place.image, place.t)

    def _compare(self, calls: CellCalls) -> None:
        stored = self._record.calls_of(calls.frame_index)
        if stored is None:
            return
        if self._refined and len(calls) == len(stored):  # outlines were asked for that the run did not draw
            same = {name: getattr(stored, name) for name in ("radii_px", "area_px", "edge")}
            calls = replace(calls, **same)
        verdict = "differing"
        if same_calls(calls, stored):
            verdict = "identical"
        elif len(calls) == len(stored) and same_calls(replace(calls, track=stored.track), stored):
            verdict = "identities"
        self._verdicts[calls.frame_index] = verdict
        self._same_counts += all(calls.count(state) == stored.count(state) for state in State)

    def result(self, out: Path, frames: int, same_model: bool | None) -> Reanalysis:
        """Return the account."""
        by_verdict = {name: [k for k, v in self._verdicts.items() if v == name] for name in _VERDICTS}
        return Reanalysis(
            out=out,
            frames=frames,
            cells=self._cells,
            identical=len(by_verdict["identical"]),
            only_identities=len(by_verdict["identities"]),
            differing=tuple(by_verdict["differing"]),
            same_counts=self._same_counts,
            same_model=same_model,
            warnings=tuple(self.warnings),
        )


def _as_used(settings: DetectorSettings, made_with: Mapping[str, str]) -> DetectorSettings:
    """Replace ``auto`` by the backend and precision that the record names: another one differs in the last bits."""
    backend = _BACKENDS.get(made_with.get("backend", "").partition(" ")[0])
    on_gpu_by_onnx = backend == "onnx" and not made_with.get("device", "").startswith("CPU")
    if settings.backend != "auto" or backend is None or on_gpu_by_onnx:
        return settings
    return settings.model_copy(update={"backend": backend, "precision": made_with["precision"]})


def same_calls(one: CellCalls, other: CellCalls) -> bool:
    """Return True if two sets of calls are equal to the bit."""
    return all(np.array_equal(getattr(one, column.name), getattr(other, column.name)) for column in fields(CellCalls))


@dataclass(slots=True, frozen=True)
class _Task:
    """What a worker must know: the record, the detector, and the pixel size where the record's is not to be used."""

    path: str
    settings: DetectorSettings
    pixel_um: float | None
    refined: bool
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of this analysis: a worker that lives on must not take what it read of the record for an earlier one."""

    def frame(self, record: Record, number: int) -> Frame:
        """Read a frame."""
        frame = record.frame(number)
        return frame if self.pixel_um is None else replace(frame, pixel_um=self.pixel_um)

    def caller(self) -> _Caller:
        """Load the model."""
        bundle = load_bundle(self.settings.model)
        return _Caller(
            FrameAnalyser(bundle, self.settings), StoredOutlines(bundle, self.refined, None, self.settings.threads)
        )


class _Caller:
    """Calls cells as the live run did, then outlines them as the task asks."""

    def __init__(self, analyser: FrameAnalyser, outlined: StoredOutlines) -> None:
        self._analyser, self._outlined = analyser, outlined

    def __call__(self, frame: Frame) -> CellCalls:
        return self._outlined(frame, self._analyser(frame).calls, "")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._analyser.warnings)

    def close(self) -> None:
        self._analyser.close()


def _numbers(record: Record, every_frame: bool) -> list[int]:
    """Return the numbers of the frames to call; of those that were not called live none that the run left out."""
    frames = [record.frame(number, pixels=False) for number in range(len(record))]
    called = {(frame.camera, frame.channel) for frame in frames if frame.index in record.analysed}
    chosen = record.settings.detector

    def skipped(frame: Frame) -> bool:
        return (
            not frame.aside
            and chosen.camera in (None, frame.camera)
            and chosen.channel in (None, frame.channel)
            and (not called or (frame.camera, frame.channel) in called)
        )

    return [
        number
        for number, frame in enumerate(frames)
        if frame.index in record.analysed or (every_frame and skipped(frame))
    ]


def _call_frames(
    task: _Task, numbers: Sequence[int], workers: int | None, scheduler: str | None, warnings: dict[str, None]
) -> Generator[CellCalls]:
    """Yield the calls of frames of a record, in order, not linked; add to `warnings`."""
    if workers is None and scheduler is None:
        record = open_record(task.path)
        with contextlib.closing(task.caller()) as caller:
            for number in numbers:
                yield caller(task.frame(record, number))
            warnings.update(dict.fromkeys(caller.warnings))
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise BackendError("workers need dask and distributed: pip install 'livescope[cluster]'.") from None
    if task.settings.threads is None:
        task = replace(task, settings=task.settings.model_copy(update={"threads": 1}))  # processes share the cores
    parts = [list(numbers[k : k + PART_FRAMES]) for k in range(0, len(numbers), PART_FRAMES)]
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if scheduler is None:
            local = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)  # type: ignore[no-untyped-call]
            address = stack.enter_context(local)
        try:
            client = stack.enter_context(Client(address))  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise BackendError(
                f"no Dask scheduler answers at {scheduler!r}: {error}. "
                "Start one with `dask scheduler`, or use --workers."
            ) from None
        futures = client.map(functools.partial(_call_part, task), parts, pure=False)
        while futures:
            calls, told = futures.pop(0).result()
            warnings.update(dict.fromkeys(told))
            yield from calls


def _call_part(task: _Task, numbers: Sequence[int]) -> tuple[list[CellCalls], tuple[str, ...]]:
    """Call some frames of a record: what a worker does. Returns the warnings too."""
    record, caller = _opened(task), _caller(task)
    return [caller(task.frame(record, number)) for number in numbers], caller.warnings


@functools.lru_cache(maxsize=1)
def _caller(task: _Task) -> _Caller:
    """Keep one model loaded in each worker."""
    return task.caller()


@functools.lru_cache(maxsize=1)
def _opened(task: _Task) -> Record:
    return open_record(task.path)
