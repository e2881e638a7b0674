"""The contenders of tools/bench_record.py: one class each, all with `append(frame)` and `close()`.

All but the raw file write the same layout: Zarr v3, one shard a frame, chunks of 512, blosc lz4 level 1, bitshuffle.
Only livescope's chunks carry checksums, and those of tensorstore where it is told to.
ome-writers does not let its user choose: its lz4 is level 5 with shuffle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint16]
CHUNK = 512


class Writer(Protocol):
    """What every contender can do."""

    def append(self, frame: Pixels) -> None:
        """Take one frame; may return before it is on the disk."""

    def close(self) -> None:
        """Return when all is handed to the disk."""


class Livescope:
    """Our recorder; it refuses what it cannot hold, so an unpaced producer tries again."""

    def __init__(self, folder: Path, shape: tuple[int, int], levels: int = 1) -> None:
        from livescope.frames import LossLedger
        from livescope.record.writer import Recorder
        from livescope.settings import RecordSettings, Settings

        settings = RecordSettings(levels=levels, min_free_mb=0)
        path = folder / "a.ome.zarr"
        self._recorder = Recorder(path, settings, LossLedger(), run_settings=Settings(), on_error=print)
        self._count = 0

    def append(self, frame: Pixels) -> None:
        """Put, again and again while the queue is full."""
        from livescope.frames import Frame

        stamped = Frame(frame, self._count, 0, "Bench", time.perf_counter(), time.time(), 12)
        while not self._recorder.put(stamped):
            time.sleep(0.005)  # the queue holds many times what is written meanwhile
        self._count += 1

    def close(self) -> None:
        """Close, and make sure that nothing was lost."""
        self._recorder.close()
        if self._recorder.recorded != self._count:
            raise RuntimeError(f"{self._recorder.recorded} of {self._count} frames were recorded")


class ZarrPython:
    """zarr-python, the same layout, growing t by 64."""

    def __init__(self, folder: Path, shape: tuple[int, int], levels: int = 1) -> None:
        import zarr
        from zarr.codecs import BloscCodec

        self._arrays = [
            zarr.create_array(
                str(folder / "a.zarr" / str(level)),
                shape=(64, 1, *(side >> level for side in shape)),
                shards=(1, 1, *(side >> level for side in shape)),
                chunks=(1, 1, *(min(CHUNK, side >> level) for side in shape)),
                dtype="uint16",
                compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            )
            for level in range(levels)
        ]
        self._count = 0

    def append(self, frame: Pixels) -> None:
        """Write one frame and its means."""
        plane = frame
        for array in self._arrays:
            if self._count >= array.shape[0]:
                array.resize((array.shape[0] + 64, *array.shape[1:]))
            array[self._count, 0] = plane
            parts = plane.astype(np.uint32)
            plane = ((parts[::2, ::2] + parts[1::2, ::2] + parts[::2, 1::2] + parts[1::2, 1::2]) // 4).astype(np.uint16)
        self._count += 1

    def close(self) -> None:
        """Trim."""
        for array in self._arrays:
            array.resize((self._count, *array.shape[1:]))


class BareTensorstore:
    """tensorstore alone: 6 writes in flight, no journal, no copy, no thread of ours."""

    def __init__(self, folder: Path, shape: tuple[int, int], *, checksums: bool = False) -> None:
        import tensorstore as ts

        little = {"name": "bytes", "configuration": {"endian": "little"}}
        lz4 = {"cname": "lz4", "clevel": 1, "shuffle": "bitshuffle", "typesize": 2, "blocksize": 0}
        shards = {
            "chunk_shape": [1, 1, CHUNK, CHUNK],
            "codecs": [little, {"name": "blosc", "configuration": lz4}, *([{"name": "crc32c"}] if checksums else [])],
            "index_codecs": [little, {"name": "crc32c"}],
        }
        self._store = ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(folder / "a.zarr")},
                "metadata": {
                    "shape": [64, 1, *shape],
                    "data_type": "uint16",
                    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, *shape]}},
                    "codecs": [{"name": "sharding_indexed", "configuration": shards}],
                },
                "context": {
                    "data_copy_concurrency": {"limit": 2},
                    "file_io_concurrency": {"limit": 4},
                    "cache_pool": {"total_bytes_limit": 0},
                },
            },
            create=True,
        ).result()
        self._futures: list[Any] = []
        self._count = 0

    def append(self, frame: Pixels) -> None:
        """Begin one write, after waiting for the sixth last."""
        if len(self._futures) == 6:
            self._futures.pop(0).result()
        if self._count == self._store.shape[0]:
            self._store = self._store.resize(exclusive_max=[self._count + 64, None, None, None]).result()
        write = self._store[self._count, 0].write(frame, can_reference_source_data_indefinitely=True)
        self._futures.append(write)
        self._count += 1

    def close(self) -> None:
        """Wait for all."""
        for future in self._futures:
            future.result()


class OmeWriters:
    """ome-writers with its tensorstore backend; its stream of unknown length."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        import ome_writers as ow

        side = {"chunk_size": CHUNK, "shard_size_chunks": shape[0] // CHUNK}
        dimensions = [
            ow.Dimension(name="t", count=None, type="time", chunk_size=1, shard_size_chunks=1),
            ow.Dimension(name="y", count=shape[0], type="space", **side),
            ow.Dimension(name="x", count=shape[1], type="space", **side),
        ]
        self._stream = ow.create_stream(
            ow.AcquisitionSettings(
                root_path=str(folder / "a"),
                dimensions=dimensions,
                dtype="uint16",
                compression="blosc-lz4",
                format={"name": "ome-zarr", "backend": "tensorstore"},
            )
        )

    def append(self, frame: Pixels) -> None:
        """Append."""
        self._stream.append(frame)

    def close(self) -> None:
        """Close."""
        self._stream.close()


class AcquireZarr:
    """acquire-zarr, one frame a shard."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        import acquire_zarr as aqz

        kinds = (aqz.DimensionType.TIME, aqz.DimensionType.SPACE, aqz.DimensionType.SPACE)
        sizes, chunks = (0, *shape), (1, CHUNK, CHUNK)
        shards = (1, shape[0] // CHUNK, shape[1] // CHUNK)
        dimensions = [
            aqz.Dimension(name=name, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=shard)
            for name, kind, size, chunk, shard in zip("tyx", kinds, sizes, chunks, shards, strict=True)
        ]
        lz4 = aqz.CompressionSettings(
            compressor=aqz.Compressor.BLOSC1, codec=aqz.CompressionCodec.BLOSC_LZ4, level=1, shuffle=2
        )
        array = aqz.ArraySettings(dimensions=dimensions, data_type=aqz.DataType.UINT16, compression=lz4)
        self._stream = aqz.ZarrStream(aqz.StreamSettings(store_path=str(folder / "a.zarr"), arrays=[array]))

    def append(self, frame: Pixels) -> None:
        """Append."""
        self._stream.append(frame)

    def close(self) -> None:
        """Close."""
        self._stream.close()


class Raw:
    """A plain file, uncompressed: what the disk itself can do."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self._file = (folder / "a.raw").open("wb", buffering=0)

    def append(self, frame: Pixels) -> None:
        """Write."""
        self._file.write(frame.data.cast("B"))

    def close(self) -> None:
        """Sync and close."""
        os.fsync(self._file.fileno())
        self._file.close()


WRITERS: dict[str, Callable[[Path, tuple[int, int]], Writer]] = {
    "livescope": Livescope,
    "livescope, 3 levels": lambda folder, shape: Livescope(folder, shape, levels=3),
    "zarr-python": ZarrPython,
    "zarr-python, 3 levels": lambda folder, shape: ZarrPython(folder, shape, levels=3),
    "ome-writers (tensorstore)": OmeWriters,
    "acquire-zarr": AcquireZarr,
    "bare tensorstore": BareTensorstore,
    "bare tensorstore, checksums": lambda folder, shape: BareTensorstore(folder, shape, checksums=True),
    "raw write": Raw,
}
