"""The arrays of one image: every resolution level in Zarr v3 through tensorstore, growing in t.

Owns creation, growth, writing and trimming of arrays and the pyramid's arithmetic. Knows nothing of frames or journals.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from livescope.record.layout import AXES, LABEL_AXES, write_json

__all__ = ["GROW_BY", "Pyramid", "build_levels", "halved_labels", "halved_means", "sweep", "trim"]

GROW_BY = 64
"""Frames that t grows by: each growth rewrites a small metadata file for every level."""

_CONTEXT = ts.Context(
    {
        "data_copy_concurrency": {"limit": 2},
        "file_io_concurrency": {"limit": 4},
        "cache_pool": {"total_bytes_limit": 0},
    }
)


class Pyramid:
    """Arrays ``0``, ``1``, ... of one image group, (t, c, y, x) or (t, y, x), one shard a plane.

    Parameters
    ----------
    folder
        The image group; the arrays become its children.
    shapes
        (rows, columns) of each level.
    dtype
        Pixel type.
    codec, chunk_px
        As in `livescope.settings.RecordSettings`.
    n_channels
        Length of c, None for labels, which have no c.
    first_level
        Number of the array of the first shape.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Sequence[tuple[int, int]],
        dtype: str,
        codec: str,
        chunk_px: int,
        n_channels: int | None = 1,
        first_level: int = 0,
    ) -> None:
        self.shapes = list(shapes)
        self._length = GROW_BY
        self._stores = [
            ts.open(
                {
                    "driver": "zarr3",
                    "kvstore": {"driver": "file", "path": str(folder / str(level))},
                    "metadata": _metadata(shape, dtype, codec, chunk_px, n_channels),
                },
                context=_CONTEXT,
                create=True,
                open=True,
            ).result()
            for level, shape in enumerate(self.shapes, first_level)
        ]

    def write(self, place: tuple[int, ...], planes: Sequence[NDArray[Any]]) -> list[Any]:
        """Begin to write one plane a level at (t, c) or (t,), and return the futures.

        The planes must not change until these resolve.
        """
        if place[0] >= self._length:
            length = (place[0] // GROW_BY + 1) * GROW_BY
            grown = [s.resize(exclusive_max=[length, *[None] * (s.rank - 1)], expand_only=True) for s in self._stores]
            self._stores = [future.result() for future in grown]
            self._length = length
        return [
            store[place].write(plane, can_reference_source_data_indefinitely=True)
            for store, plane in zip(self._stores, planes, strict=True)
        ]


def halved_means(plane: NDArray[Any], n_levels: int) -> list[NDArray[Any]]:
    """Return the plane and its `n_levels - 1` successive 2 x 2 means, computed by tensorstore without the GIL."""
    planes = [plane]
    for _ in range(n_levels - 1):
        planes.append(ts.downsample(ts.array(planes[-1]), [2, 2], "mean").read().result())
    return planes


def halved_labels(plane: NDArray[Any], n_levels: int) -> list[NDArray[Any]]:
    """Return the plane and `n_levels - 1` times every second row and column of the last: labels are never mixed."""
    planes = [plane]
    for _ in range(n_levels - 1):
        planes.append(np.ascontiguousarray(planes[-1][::2, ::2]))
    return planes


def build_levels(
    folder: Path,
    shapes: Sequence[tuple[int, int]],
    codec: str,
    chunk_px: int,
    places: Collection[tuple[int, ...]],
    halved: Callable[[NDArray[Any], int], list[NDArray[Any]]],
) -> None:
    """Make levels 1, 2, ... of an array whose level 0 is complete; what there is of them already is made anew.

    Parameters
    ----------
    folder, shapes, codec, chunk_px
        As of `Pyramid`, the shapes from level 0 on.
    places
        (t, c) or (t,) of the planes that there are.
    halved
        `halved_means` or `halved_labels`.
    """
    for level in range(1, len(shapes)):
        shutil.rmtree(folder / str(level), ignore_errors=True)
    kvstore = {"driver": "file", "path": str(folder / "0")}
    base = ts.open({"driver": "zarr3", "kvstore": kvstore}, context=_CONTEXT, open=True).result()
    n_channels = base.shape[1] if base.rank == len(AXES) else None
    upper = Pyramid(folder, shapes[1:], base.dtype.name, codec, chunk_px, n_channels, first_level=1)
    for place in sorted(places):
        planes = halved(np.ascontiguousarray(base[place].read().result()), len(shapes))
        for future in upper.write(place, planes[1:]):
            future.result()


def trim(array: Path, length: int) -> None:
    """Set the length of t. Only the metadata file is rewritten; shards are never touched."""
    metadata = json.loads((array / "zarr.json").read_text(encoding="utf-8"))
    if metadata["shape"][0] != length:
        metadata["shape"][0] = length
        write_json(array / "zarr.json", metadata)


def sweep(array: Path, kept: Collection[tuple[int, int]]) -> None:
    """Delete every shard whose (t, c) is not in `kept` (c is 0 for labels), and what a killed process left behind."""
    for leftover in array.rglob("*.__lock"):
        leftover.unlink()
    times = {t for t, _ in kept}
    chunks = array / "c"
    for plane in chunks.glob("*/*"):
        if (int(plane.parent.name), int(plane.name)) not in kept:
            shutil.rmtree(plane)
    for time in chunks.glob("*"):
        if int(time.name) not in times:
            shutil.rmtree(time)


def _metadata(shape: tuple[int, int], dtype: str, codec: str, chunk_px: int, n_channels: int | None) -> dict[str, Any]:
    outer = [GROW_BY] if n_channels is None else [GROW_BY, n_channels]
    ones = [1] * len(outer)
    chunk = [min(chunk_px, side) for side in shape]
    shard = [math.ceil(side / part) * part for side, part in zip(shape, chunk, strict=True)]
    inner: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if codec != "none":
        # bitshuffle, not shuffle: 12 bits in 16 shrink to 1/1.77 instead of 1/1.56, and in three quarters of the time
        blosc = {
            "cname": codec,
            "clevel": 1,
            "shuffle": "bitshuffle",
            "typesize": np.dtype(dtype).itemsize,
            "blocksize": 0,
        }
        inner.append({"name": "blosc", "configuration": blosc})
    # damage in any chunk of any level is an error to every reader
    inner.append({"name": "crc32c"})
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    return {
        "shape": [*outer, *shape],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [*ones, *shard]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [*ones, *chunk],
                    "codecs": inner,
                    "index_codecs": index,
                    "index_location": "end",
                },
            }
        ],
        "dimension_names": list(AXES if n_channels is not None else LABEL_AXES),
        "fill_value": 0,
    }
