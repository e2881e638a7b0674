"""Frames, calls and recorders for the tests of the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame, LossLedger
from livescope.record.plate import PlateLayout
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings

SMALL = {"min_free_mb": 0, "chunk_px": 64}


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    def make(index: int, shape: tuple[int, int] = (96, 130), dtype: str = "uint16", **facts: Any) -> Frame:
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 4096 if dtype == "uint16" else 256, shape).astype(dtype)
        known = {"segment": 0, "camera": "Camera", "time_s": 100 + index / 10, "wall_time": 1.7e9 + index / 10}
        return Frame(pixels, index, **{"bit_depth": 12 if dtype == "uint16" else 8, "pixel_um": 0.65, **known, **facts})

    return make


@pytest.fixture
def make_calls() -> Callable[..., CellCalls]:
    def make(index: int, n: int, shape: tuple[int, int] = (96, 130), linked: bool = False) -> CellCalls:
        rng = np.random.default_rng(1000 + index)
        return CellCalls(
            frame_index=index,
            y_px=rng.uniform(0, shape[0], n).astype(np.float32),
            x_px=rng.uniform(0, shape[1], n).astype(np.float32),
            radii_px=rng.uniform(4, 8, (n, 32)).astype(np.float32),
            p_cell=rng.random(n, dtype=np.float32),
            p_dead=rng.random(n, dtype=np.float32),
            state=rng.integers(1, 4, n).astype(np.uint8),
            area_px=rng.uniform(50, 200, n).astype(np.float32),
            edge=rng.random(n) < 0.1,
            track=(np.arange(n) + 7 if linked else np.full(n, -1)).astype(np.int64),
            pixel_um=0.65,
        )

    return make


class Bench:
    """A recorder with its ledger and what it was told of errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = LossLedger()
        self.errors: list[RecordError] = []
        self.opened: list[Recorder] = []

    def open(
        self,
        path: Path | None = None,
        channels: tuple[str, ...] = (),
        plate: PlateLayout | None = None,
        **settings: Any,
    ) -> Recorder:
        record = RecordSettings(**{**SMALL, **settings})
        recorder = Recorder(
            path or self.path,
            record,
            self.ledger,
            run_settings=Settings(record=record),
            on_error=self.errors.append,
            channels=channels,
            plate=plate,
        )
        self.opened.append(recorder)
        return recorder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "run.ome.zarr")
    yield bench
    for recorder in bench.opened:
        recorder.close()


@pytest.fixture
def full_at() -> Callable[[int], AbstractContextManager[None]]:
    """A disk that takes no file beyond so many bytes: of what does not fit it takes a part, as a full one does."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def full(n_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
