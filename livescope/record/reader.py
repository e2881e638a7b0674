"""Reading a record, finished or still being written.

Owns `open_record` and `Record`: frames read when asked for, calls, tables and metadata. Only what the journal holds is
ever shown, so a frame that is half written cannot be seen. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame
from livescope.record.committed import Committed, frames_table, n_calls, read_committed
from livescope.record.journal import checksum
from livescope.record.layout import CALLS, MANIFEST, RUN_SETTINGS
from livescope.record.manifest import read_manifest
from livescope.record.place import is_locked, is_record
from livescope.record.table import CALLS_SCHEMA, calls_of, read_stream
from livescope.settings import Settings, load_settings

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["FramePlace", "FrameStack", "Record", "open_record"]


def open_record(path: Path | str) -> Record:
    """Open a record for reading; it may still be written.

    Parameters
    ----------
    path
        The folder, ``NAME.ome.zarr``, or a URL that fsspec knows, e.g. ``s3://bucket/NAME.ome.zarr``. Endpoint and
        credentials are the environment's (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ...).

    Raises
    ------
    RecordError
        There is no record, its journal is missing, or a URL is given whose store refuses or needs a package.
    """
    if "://" not in str(path):
        return Record(Path(path).expanduser().absolute())
    try:
        from upath import UPath
    except ImportError:
        raise RecordError(
            f"{str(path)!r} is a URL; reading it needs universal-pathlib and the store's driver: "
            "pip install 'livescope[cluster]'."
        ) from None
    try:
        return Record(cast(Path, UPath(path)))  # a UPath does all of a Path that is used here
    except RecordError:
        raise
    except Exception as error:  # every store has failures of its own: credentials, drivers, names
        raise RecordError(
            f"{str(path)!r} cannot be opened: {error}. Endpoint and credentials are the environment's, "
            "e.g. AWS_ENDPOINT_URL and AWS_PROFILE."
        ) from error


@dataclass(slots=True, frozen=True)
class FramePlace:
    """Where a frame lies: `Frame.index`, image group, t and c in its array; and `checksum` of its pixels."""

    index: int
    image: str
    t: int
    c: int
    rows_crc32c: int


class FrameStack:
    """Planes of one image, read when they are indexed: ``stack[3]`` is an (H, W) array, ``stack[2:5]`` is (3, H, W).

    Attributes
    ----------
    shape, dtype, ndim
        As of an (n, H, W) array.
    """

    ndim = 3

    def __init__(self, array: zarr.Array[Any], places: list[tuple[int, ...]]) -> None:
        self._array, self._places = array, places
        self.shape: tuple[int, int, int] = (len(places), array.shape[-2], array.shape[-1])
        self.dtype: np.dtype[Any] = array.dtype

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, item: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, item: slice) -> NDArray[Any]: ...
    def __getitem__(self, item: int | slice) -> NDArray[Any]:
        if isinstance(item, slice):
            planes = [self._plane(place) for place in self._places[item]]
            return np.stack(planes) if planes else np.empty((0, *self.shape[1:]), self.dtype)
        return self._plane(self._places[item])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _plane(self, place: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._array[place])
        except _UNREADABLE as error:
            raise _damaged(f"plane {place} of {self._array.store_path}", error) from None


class Record:
    """One record. Made by `open_record`.

    Attributes
    ----------
    path
        Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._committed = Committed()
        self._calls, self._calls_read = CALLS_SCHEMA.empty_table(), False
        self._runs: dict[int, tuple[int, int]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Look again at what is on the disk, while the run goes on; only what is new is read.

        Returns
        -------
        bool
            True if it is another record than before: nothing of the old one holds.

        Raises
        ------
        RecordError
            The record is out of reach, or another program's; what was known of it stays.
        """
        if not is_record(self.path):
            what = "is not a livescope record: it has no readable journal" if self.path.exists() else "is not there"
            raise RecordError(f"{str(self.path)!r} {what}. Give the folder NAME.ome.zarr of a record.")
        known, self._committed = self._committed, read_committed(self.path, self._committed)
        self._analysed = frozenset(self._committed.calls)
        self._index = self._committed.frames["frame"].to_numpy()
        self._calls_read = False
        is_other = self._committed.mark.first != known.mark.first
        if is_other:
            self._runs = {}
        return is_other

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, model, devices, losses, hashes."""
        try:
            return read_manifest(self.path)
        except _UNREADABLE as error:
            raise RecordError(
                f"{MANIFEST} of record {str(self.path)!r} cannot be read: {error}. Put it back from a copy, or have "
                "`livescope recover` make one from the journal."
            ) from None

    @property
    def settings(self) -> Settings:
        """All settings of the run."""
        if not (self.path / RUN_SETTINGS).is_file():
            raise RecordError(f"record {str(self.path)!r} has lost its {RUN_SETTINGS}. Put it back from a copy.")
        return load_settings(self.path / RUN_SETTINGS)

    @property
    def closed(self) -> bool:
        """True if the run ended in order, or the record was recovered."""
        return self.manifest["closed"] is not None

    @property
    def live(self) -> bool:
        """True while a recorder writes it."""
        return is_locked(self.path)

    @property
    def images(self) -> tuple[str, ...]:
        """Image groups relative to the record; ``""`` is the root."""
        return tuple(self._committed.images)

    def image(self, path: str = "") -> dict[str, Any]:
        """Return what the frames of an image have in common: camera, position, height, width, pixel_um, ..."""
        return dict(self._committed.images[path])

    def __len__(self) -> int:
        """Frames on disk, over all images."""
        return len(self._committed.frames)

    @property
    def frame_table(self) -> pa.Table:
        """One row a frame on disk: image, t, frame (index), times, stage, losses, whether analysed, counts."""
        return frames_table(self._committed)

    @property
    def frames(self) -> FrameStack:
        """Frames of the first image; `stack` gives others.

        Raises
        ------
        RecordError
            Nothing was recorded.
        """
        return self.stack()

    def stack(self, image: str = "", level: int = 0, labels: str | None = None) -> FrameStack:
        """Return the planes of an image, or of its ``labels`` ``"cells"`` or ``"viability"``, at a resolution level.

        Plane k belongs to row k of the image's part of `frame_table`. Labels of a frame that was not analysed are 0.

        Raises
        ------
        RecordError
            No such image, or it has no such labels.
        """
        return FrameStack(*self._array(image, level, labels))

    def _array(self, image: str, level: int, labels: str | None) -> tuple[zarr.Array[Any], list[tuple[int, ...]]]:
        """Return an array and the places (t, c) of its frames in it."""
        folder = self.path / image if labels is None else self.path / image / "labels" / labels
        if image not in self._committed.images or not (folder / str(level)).is_dir():
            what = f"image {image!r}" if labels is None else f"labels {labels!r} of image {image!r}"
            raise RecordError(f"record {str(self.path)!r} has no {what} at level {level}; images: {self.images}.")
        places: list[tuple[int, ...]] = [*self._committed.places(image)]
        if labels is not None:
            places = [(place[0],) for place in places]
        return _open_array(folder / str(level)), places

    def dask(self, image: str = "", level: int = 0, labels: str | None = None) -> da.Array:
        """Return an image (t, c, y, x) or its labels (t, y, x) as a lazy dask array, one chunk a shard.

        It is as long as the journal. Planes that failed to reach the disk are 0; `frame_table` names the others.

        Raises
        ------
        RecordError
            No such image, or it has no such labels.
        """
        import dask.array as da

        array, places = self._array(image, level, labels)
        length = 1 + max((place[0] for place in places), default=-1)
        whole: da.Array = da.from_zarr(array, chunks=array.shards or array.chunks)  # type: ignore[no-untyped-call]
        trimmed: da.Array = whole[:length]
        return trimmed

    def frame(self, number: int, *, pixels: bool = True) -> Frame:
        """Return the `number`-th frame on disk (over all images, in order of arrival) as the camera delivered it.

        Without `pixels` nothing is read: they are all 0, in the frame's shape.

        Raises
        ------
        RecordError
            Its pixels cannot be read, or are not those that were recorded.
        """
        line = self._committed.frame(number)
        about = self._committed.images[line["image"]]
        if pixels:
            plane = self._pixels(line)
        else:
            plane = np.broadcast_to(np.zeros((), about["dtype"]), (about["height"], about["width"]))
        names = ("segment", "camera", "time_s", "wall_time", "bit_depth", "lost_before", "metadata")
        unsure = ("elapsed_ms", "pixel_um", "position", "x_um", "y_um", "z_um", "channel", "exposure_ms")
        facts = {name: line[name] for name in (*names, *unsure)}
        return Frame(pixels=plane, index=line["frame"], **facts)

    def _pixels(self, line: Mapping[str, Any]) -> NDArray[Any]:
        """Return the pixels of a frame, read-only, compared with their sum: a file that is gone reads as zeros."""
        what = f"frame {line['frame']} of record {str(self.path)!r}"
        try:
            plane = np.ascontiguousarray(_open_array(self.path / line["image"] / "0")[line["t"], line["c"]])
        except _UNREADABLE as error:
            raise _damaged(what, error) from None
        if checksum(plane) != line["rows_crc32c"]:
            raise _damaged(what, "its pixels are not those that were recorded")
        plane.flags.writeable = False
        return plane

    def iter_frames(self) -> Iterator[Frame]:
        """Yield all frames on disk in the order of arrival, one in memory at a time."""
        for number in range(len(self)):
            yield self.frame(number)

    def place(self, number: int) -> FramePlace:
        """Return where the `number`-th frame on disk lies, without reading its pixels."""
        frames = self._committed.frames
        return FramePlace(*(frames[name][number].as_py() for name in ("frame", "image", "t", "c", "rows_crc32c")))

    @property
    def analyses(self) -> Mapping[int, dict[str, Any]]:
        """`Frame.index` of each analysed frame -> image, t, saturated, n_live, n_dead, n_uncertain."""
        return MappingProxyType(self._committed.calls)

    @property
    def analysed(self) -> frozenset[int]:
        """`Frame.index` of every frame that was analysed, whether or not it had a cell."""
        return self._analysed

    @property
    def calls(self) -> pa.Table:
        """One row a cell, in the order of analysis. Columns as `livescope.record.table.CALLS_SCHEMA`."""
        if not self._calls_read:
            self._read_calls()
        return self._calls

    def _read_calls(self) -> None:
        table = self.table(CALLS) if CALLS in self.tables else CALLS_SCHEMA.empty_table()
        committed = pa.array(sorted(self.analysed), pa.int64())
        self._calls = table.filter(pa.compute.is_in(table["frame"], committed)).combine_chunks()
        frame = self._calls["frame"].to_numpy()
        starts = np.flatnonzero(np.diff(frame, prepend=-1))
        ends = [*starts[1:], len(frame)][: len(starts)]
        self._runs = {int(frame[a]): (int(a), int(b)) for a, b in zip(starts, ends, strict=True)}
        self._calls_read = True

    def calls_of(self, frame_index: int) -> CellCalls | None:
        """Return the cells of one frame, None if it was not analysed. Equal to what was stored, to the bit.

        Raises
        ------
        RecordError
            They are not, or not all, in the table of calls of a record that was closed.
        """
        if frame_index not in self.analysed:
            return None
        saturated = self._committed.calls[frame_index]["saturated"]
        return calls_of(self._rows_of(frame_index), frame_index, self._pixel_um(frame_index), saturated)

    def _rows_of(self, frame_index: int) -> pa.Table:
        """Return the rows of an analysed frame; the table is read again only where it is not known to hold them."""
        told = n_calls(self._committed.calls[frame_index])
        start, end = self._runs.get(frame_index, (0, 0))
        if end - start != told and not self._calls_read:
            self._read_calls()
            start, end = self._runs.get(frame_index, (0, 0))
        if end - start != told and self._should_have(frame_index):
            what = f"calls of frame {frame_index} of record {str(self.path)!r}"
            raise _damaged(what, f"the table of calls holds {end - start} cells of it, there were {told}")
        return self._calls.slice(start, end - start)

    def _should_have(self, frame_index: int) -> bool:
        """Return False where calls may be on their way to the disk still, or are known to have been lost on it."""
        manifest = self.manifest
        return manifest["closed"] is not None and frame_index not in manifest.get("calls_lost_of_frames", ())

    def _pixel_um(self, frame_index: int) -> float | None:
        """Return the pixel size of a frame, None where it is unknown, or the frame itself is not in the record."""
        row = int(np.searchsorted(self._index, frame_index))
        if row == len(self._index) or self._index[row] != frame_index:
            return None
        return cast(float | None, self._committed.frames["pixel_um"][row].as_py())

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the stored tables, ``calls`` among them."""
        files = [*self.path.glob("*.parquet"), *self.path.glob("*.arrow")]
        return tuple(sorted({file.stem for file in files}))

    def table(self, name: str) -> pa.Table:
        """Read a table.

        Raises
        ------
        RecordError
            There is none of that name, or it is damaged.
        """
        parquet, stream = self.path / f"{name}.parquet", self.path / f"{name}.arrow"
        for file in (parquet, stream, parquet):  # the run may end between two looks
            try:
                return _read_parquet(file) if file is parquet else _read_stream(file)
            except FileNotFoundError:
                continue
            except _UNREADABLE as error:
                raise _damaged(f"table {name!r} of record {str(self.path)!r}", error) from None
        raise RecordError(
            f"record {str(self.path)!r} has no table {name!r}; it has {', '.join(self.tables) or 'none'}."
        )


_UNREADABLE = (OSError, ValueError, RuntimeError)
"""What zarr, its codecs, pyarrow and json raise of files that are gone or damaged."""


def _damaged(what: str, reason: object) -> RecordError:
    return RecordError(
        f"{what} cannot be read: {str(reason).rstrip('.')}. `livescope verify` lists all that is damaged; "
        "put it back from a copy."
    )


def _open_array(folder: Path) -> zarr.Array[Any]:
    try:
        return zarr.open_array(str(folder), mode="r")
    except _UNREADABLE as error:
        raise _damaged(f"array {str(folder)!r}", error) from None


def _read_parquet(file: Path) -> pa.Table:
    with file.open("rb") as stream:
        return pq.read_table(stream)


def _read_stream(file: Path) -> pa.Table:
    schema, batches = read_stream(file)
    if schema is None:  # cut off before its first row
        raise FileNotFoundError(file)
    return pa.Table.from_batches(list(batches), schema)
