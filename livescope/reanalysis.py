"""A stored run called again, by the code path of the live run: on this machine, on its cores, or on a Dask cluster.

Owns the split of a record into parts, the order in which their results come back, and the comparison with the calls
that are stored. What is done with one frame is `livescope.analysis`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import load_bundle
from livescope.errors import BackendError, RecordError
from livescope.record.reader import Record, open_record
from livescope.record.table import CALLS_SCHEMA, calls_batch, write_parquet
from livescope.settings import DetectorSettings
from livescope.track.link import Linker

__all__ = ["Reanalysis", "reanalyse", "same_calls"]

PART_FRAMES = 8
"""Frames a task: long enough that a task outweighs its scheduling, short enough that the results stay small."""


_BACKENDS = {"onnxruntime": "onnx", "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""First word of `BackendInfo.backend` -> `DetectorSettings.backend`."""


@dataclass(slots=True, frozen=True)
class Reanalysis:
    """What became of the frames.

    Attributes
    ----------
    frames, cells
        Frames analysed and cells called.
    identical
        Frames whose calls are equal to the stored ones to the bit.
    differing
        `Frame.index` of frames whose stored calls differ; another model, backend or threshold makes them differ.
    same_counts
        Frames with as many live, dead and uncertain cells as stored: the viability curve is the same there.
    same_model
        True if the record was made with this model, by its sha256; None where the record does not say.
    """

    frames: int
    cells: int
    identical: int
    differing: tuple[int, ...]
    same_counts: int
    same_model: bool | None


def reanalyse(
    path: Path | str,
    out: Path,
    *,
    detector: DetectorSettings | None = None,
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
        Parquet file to write, columns `livescope.record.table.CALLS_SCHEMA`.
    detector
        Model, backend and thresholds; None takes those of the run, and for ``auto`` the backend that was in use.
    every_frame
        Also call frames that the live run skipped. Identities then differ from the stored ones, as more is seen.
    workers
        Processes on this machine; None analyses in this process.
    scheduler
        Address of a Dask scheduler, e.g. ``tcp://10.0.0.5:8786``; its workers need livescope and a view of the record.
    progress
        Called with frames done and frames in all.

    Raises
    ------
    RecordError
        No record, or `out` cannot be written.
    ModelError, BackendError
        The model or backend is not to be had; workers without distributed.
    """
    record = open_record(path)
    made_with = record.manifest.get("backend", {})
    settings = detector or _as_used(record.settings.detector, made_with)
    numbers = [k for k in range(len(record)) if every_frame or record.place(k).index in record.analysed]
    linker = Linker() if record.settings.track.enabled else None
    same: dict[int, bool] = {}
    cells = same_counts = 0

    def batches(calls_of_frames: Iterable[CellCalls]) -> Iterator[pa.RecordBatch]:
        nonlocal cells, same_counts
        for done, (number, found) in enumerate(zip(numbers, calls_of_frames, strict=True), 1):
            place, frame = record.place(number), record.frame(number, pixels=False)
            calls = found if linker is None else linker.update(found, frame)
            stored = record.calls_of(place.index)
            if stored is not None:
                same[place.index] = same_calls(calls, stored)
                same_counts += all(calls.count(state) == stored.count(state) for state in State)
            cells += len(calls)
            progress(done, len(numbers))
            yield calls_batch(frame, calls, place.image, place.t)

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(_call_frames(str(path), numbers, settings, workers, scheduler)) as calls_of_frames:
            write_parquet(out, CALLS_SCHEMA, batches(calls_of_frames))
    except OSError as error:
        raise RecordError(f"{str(out)!r} cannot be written: {error.strerror or error}. Choose another path.") from error
    stored_model = made_with.get("model_sha256")
    return Reanalysis(
        frames=len(numbers),
        cells=cells,
        identical=sum(same.values()),
        differing=tuple(index for index, is_same in same.items() if not is_same),
        same_counts=same_counts,
        same_model=None if stored_model is None else stored_model == load_bundle(settings.model).sha256,
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
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(CellCalls))


def _call_frames(
    path: str, numbers: Sequence[int], settings: DetectorSettings, workers: int | None, scheduler: str | None
) -> Generator[CellCalls]:
    """Yield the calls of frames of a record, in order, not linked."""
    if workers is None and scheduler is None:
        record = open_record(path)
        with contextlib.closing(FrameAnalyser(load_bundle(settings.model), settings)) as analyser:
            for number in numbers:
                yield analyser(record.frame(number)).calls
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise BackendError("workers need dask and distributed: pip install 'livescope[cluster]'.") from None
    if settings.threads is None:
        settings = settings.model_copy(update={"threads": 1})  # the processes share the cores
    parts = [list(numbers[k : k + PART_FRAMES]) for k in range(0, len(numbers), PART_FRAMES)]
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            local = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)  # type: ignore[no-untyped-call]
            scheduler = stack.enter_context(local)
        client = stack.enter_context(Client(scheduler))  # type: ignore[no-untyped-call]
        futures = client.map(functools.partial(_call_part, path, settings), parts, pure=False)
        while futures:
            yield from futures.pop(0).result()


def _call_part(path: str, settings: DetectorSettings, numbers: Sequence[int]) -> list[CellCalls]:
    """Call some frames of a record: what a worker does."""
    record, analyser = _opened(path), _analyser(settings)
    return [analyser(record.frame(number)).calls for number in numbers]


@functools.lru_cache(maxsize=1)
def _analyser(settings: DetectorSettings) -> FrameAnalyser:
    """Keep one model loaded in each worker."""
    return FrameAnalyser(load_bundle(settings.model), settings)


@functools.lru_cache(maxsize=1)
def _opened(path: str) -> Record:
    return open_record(path)
