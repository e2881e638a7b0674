"""The golden frame: what each bundled network says of a fixed picture, kept in ``golden/NAME.json``.

After a network was trained anew: ``python tests/detect/golden_kit.py`` from the project's root, look at it, commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def golden_frame() -> np.ndarray:
    """Bright and dull cells with dark rims on a field with a gradient and grain, (192, 256) uint16.

    Drawn with plain arithmetic, so that it is the same on every machine and for ever.
    """
    y, x = np.mgrid[:192, :256].astype(np.float64)
    field = 900 + 0.5 * x
    for k in range(12):
        cy, cx = 30 + 44 * (k // 4) + 5 * (k % 3), 34 + 62 * (k % 4) + 7 * (k % 2)
        r = np.hypot(y - cy, x - cx)
        inside, rim = r < 8, np.exp(-(((r - 9.5) / 1.8) ** 2))
        if k % 3:
            field += inside * 260 * (1 - (r / 10) ** 2) - 330 * rim  # refractile
        else:
            field += inside * (60 * np.sin(1.1 * x) * np.cos(0.9 * y) - 120) - 130 * rim  # dull and granular
    return (field + 24 * _grain(y, x)).round().astype(np.uint16)


def haloed_frame() -> np.ndarray:
    """Grey cells with bright halos on the same grain, (192, 256) uint16: for networks of adherent cells.

    They find nothing in `golden_frame`, whose refractile round cells were not in their training.
    """
    y, x = np.mgrid[:192, :256].astype(np.float64)
    field = 900 + 0.5 * x
    for k in range(12):
        r = np.hypot(y - (30 + 44 * (k // 4) + 5 * (k % 3)), x - (34 + 62 * (k % 4) + 7 * (k % 2)))
        inside = r < 8 if k % 3 else r < 5.6
        halo = np.exp(-(((r - (9 if k % 3 else 6.6)) / 1.2) ** 2))
        if k % 3:
            field += inside * (100 * np.sin(1.3 * x) * np.cos(1.1 * y) - 150) + 250 * halo
        else:
            field += inside * (-150 * np.sin(1.9 * x) * np.cos(1.7 * y) - 120) + 375 * halo
    return (field + 24 * _grain(y, x)).round().astype(np.uint16)


def picture_for(name: str) -> np.ndarray:
    """The fixed picture that a bundled network is shown."""
    return haloed_frame() if name == "adherent" else golden_frame()


def _grain(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    hashed = (x.astype(np.uint64) * 374761393 + y.astype(np.uint64) * 668265263) % 2**32
    return ((hashed ^ (hashed >> 13)) * 1274126177 % 2**32) / 2**32 - 0.5


def summary_of(name: str) -> dict[str, Any]:
    """Calls of a bundled network on its fixed picture at the network's own scale."""
    from livescope.detect.bundle import load_bundle
    from livescope.detect.decode import decode
    from livescope.detect.onnx_runtime import OnnxDetector
    from livescope.frames import Frame
    from livescope.settings import DetectorSettings

    bundle = load_bundle(name)
    frame = Frame(picture_for(name), 0, 0, "Camera", 0.0, 0.0, 12, pixel_um=bundle.card.pixel_um)
    detector = OnnxDetector(bundle, 64, threads=1)
    detector.prepare(frame.spec)
    calls = decode(detector.poll(detector.submit(frame)), frame.spec, bundle.card, DetectorSettings())
    order = np.lexsort((calls.x_px.round(), calls.y_px.round()))
    columns = {"y_px": calls.y_px, "x_px": calls.x_px, "p_cell": calls.p_cell, "p_dead": calls.p_dead}
    rounded = {key: [round(float(value), 5) for value in column[order]] for key, column in columns.items()}
    radius = [round(float(value), 4) for value in calls.radii_px.mean(axis=1)[order]]
    return {"sha256": bundle.sha256, **rounded, "mean_radius_px": radius}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from livescope.detect.bundle import bundled_names

    GOLDEN.mkdir(exist_ok=True)
    for model in bundled_names():
        summary = summary_of(model)
        (GOLDEN / f"{model}.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        print(model, len(summary["y_px"]), "cells, p_dead", summary["p_dead"])
