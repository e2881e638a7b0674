"""Frames and the account of losses."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from livescope.errors import FrameError
from livescope.frames import Frame, FrameSpec, LossCause, LossLedger


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int16", "rgb"])
def test_other_pixel_types_are_refused_with_the_allowed_ones(dtype: str) -> None:
    with pytest.raises(FrameError, match=f"'{dtype}' is not supported.*uint8, uint16.*PixelType"):
        FrameSpec(10, 10, dtype, 16)


@pytest.mark.parametrize("shape", [(0, 10), (10, 0)])
def test_empty_frames_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(FrameError, match="is empty; enlarge"):
        FrameSpec(*shape, "uint8", 8)


def test_spec_of_a_frame_is_equal_for_equal_frames() -> None:
    pixels = np.zeros((4, 6), np.uint16)
    first = Frame(pixels, 0, 0, "Camera", 1.0, 1.0, bit_depth=12, pixel_um=0.5)
    second = Frame(pixels + 1, 1, 0, "Camera", 2.0, 2.0, bit_depth=12, pixel_um=0.5)
    assert first.spec == second.spec == FrameSpec(4, 6, "uint16", 12, 0.5)
    assert hash(first.spec) == hash(second.spec)
    assert first.spec.shape == (4, 6)


def test_ledger_keeps_causes_segments_and_cameras_apart() -> None:
    ledger = LossLedger()
    ledger.deliver(0, "A", 10)
    ledger.deliver(0, "B", 5)
    ledger.deliver(1, "A")
    ledger.lose(LossCause.CORE, 0, "A", 2)
    ledger.lose(LossCause.RECORDER, 1, "A")
    ledger.lose(LossCause.DISPLAY, 2, "C", 4)
    assert ledger.delivered == 16
    assert ledger.by_cause() == {"core": 2, "camera": 0, "recorder": 1, "analysis": 0, "display": 4}
    rows = {(row["segment"], row["camera"]): row for row in ledger.rows()}
    assert set(rows) == {(0, "A"), (0, "B"), (1, "A"), (2, "C")}
    assert (rows[0, "A"]["delivered"], rows[0, "A"]["lost_core"], rows[0, "A"]["lost_recorder"]) == (10, 2, 0)
    assert (rows[2, "C"]["delivered"], rows[2, "C"]["lost_display"]) == (0, 4)


def test_ledger_loses_no_count_between_threads() -> None:
    ledger = LossLedger()

    def count() -> None:
        for _ in range(2000):
            ledger.deliver(0, "A")
            ledger.lose(LossCause.ANALYSIS, 0, "A")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.delivered == 8000
    assert ledger.total(LossCause.ANALYSIS) == 8000
