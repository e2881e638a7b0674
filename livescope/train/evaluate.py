"""A bundle on labelled fields, through the very code that calls cells at the microscope.

Owns running a model over fields. Scores lie in `scoring`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle
from livescope.frames import Frame
from livescope.settings import DetectorSettings
from livescope.train.data import Field

__all__ = ["call_fields", "seen_path"]


def seen_path(onnx_path: Path) -> Path:
    """Path of the list of fingerprints of the fields that a network was trained or calibrated on."""
    return onnx_path.with_suffix(".seen.txt")


def call_fields(
    bundle: Bundle,
    fields: Sequence[Field],
    pixel_um: float | None = None,
    p_cell: float | None = None,
    threads: int = 2,
) -> list[CellCalls]:
    """Call the cells of fields as `livescope analyze` does.

    Parameters
    ----------
    bundle
        The model.
    fields
        Labelled pictures; the labels are not looked at.
    pixel_um
        Micrometres a pixel of the fields, None where unknown.
    p_cell
        Least score of a detection; None takes the card's.
    threads
        CPU threads of the network.
    """
    analyser = FrameAnalyser(bundle, DetectorSettings(threads=threads, p_cell=p_cell))
    try:
        calls = []
        for index, field in enumerate(fields):
            bit_depth = 8 if field.pixels.dtype.itemsize == 1 else 16
            frame = Frame(
                field.pixels, index, 0, "field", time.perf_counter(), time.time(), bit_depth, pixel_um=pixel_um
            )
            calls.append(analyser(frame).calls)
        return calls
    finally:
        analyser.close()
