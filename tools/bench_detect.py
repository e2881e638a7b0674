"""How fast a frame becomes calls on this machine's CPU: ``python tools/bench_detect.py [--json FILE] [--quick]``.

Compares livescope with the bare runtime, with other backends, and with the two-stage design (segment, then classify
crops), and shows that the time does not grow with the number of cells. Frames come from the simulated microscope.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

import onnxruntime as ort  # noqa: E402

from livescope.acquire.core import close_core  # noqa: E402
from livescope.detect.bundle import Bundle, load_bundle  # noqa: E402
from livescope.detect.decode import decode  # noqa: E402
from livescope.detect.detector import Detector, open_detector  # noqa: E402
from livescope.detect.frame_graph import build_frame_graph  # noqa: E402
from livescope.detect.graph_detector import default_threads, graph_inputs  # noqa: E402
from livescope.detect.network import read_network  # noqa: E402
from livescope.detect.scale import fit_scale  # noqa: E402
from livescope.frames import Frame  # noqa: E402
from livescope.quantise import quantise  # noqa: E402
from livescope.settings import CameraSettings, DetectorSettings, SimulationSettings  # noqa: E402
from livescope.simulate.camera import open_simulated_core  # noqa: E402

SIDE = 2048
CELLS = (0, 300, 2000)
SIDES = (512, 1024, 2048, 4096)
PIXEL_UM = 0.65
MAX_CELLS = 3840

OURS = "300 cells"
"""Livescope on the frame that all comparisons share."""

Case = Callable[[], object]
Times = dict[str, dict[str, float]]
"""Milliseconds by group and case."""


def scene(n_cells: int, side: int, seed: int = 1) -> Frame:
    """A simulated frame with about `n_cells` cells, uint16 of 12 bits."""
    area_mm2 = (side * PIXEL_UM / 1000) ** 2
    settings = SimulationSettings(
        seed=seed, width=side, height=side, pixel_um=PIXEL_UM, cells_per_mm2=n_cells / area_mm2
    )
    core = open_simulated_core(settings, CameraSettings())
    core.snapImage()
    pixels = np.ascontiguousarray(core.getImage())
    close_core(core)
    return Frame(pixels, 0, 0, "Simulated", 0.0, 0.0, 12, pixel_um=PIXEL_UM)


def frame_to_calls(detector: Detector, bundle: Bundle, frame: Frame) -> Case:
    """The whole way of a frame, as the detector thread goes it."""
    settings = DetectorSettings(max_cells=MAX_CELLS)
    spec = frame.spec
    detector.prepare(spec)
    return lambda: decode(detector.poll(detector.submit(frame)), spec, bundle.card, settings)


def detector_for(bundle: Bundle, backend: str, precision: str, threads: int) -> Detector:
    """A detector of one backend."""
    options: dict[str, Any] = {"backend": backend, "precision": precision}
    return open_detector(DetectorSettings(threads=threads, max_cells=MAX_CELLS, **options), bundle)


def bare(bundle: Bundle, frame: Frame, threads: int) -> Case:
    """The same graph with inputs made beforehand and nothing around it: the least that ONNX Runtime can take."""
    factor = fit_scale(frame.spec, bundle.card).bin
    graph = build_frame_graph(read_network(bundle), frame.spec, MAX_CELLS, factor)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = dict(graph_inputs(frame.pixels, bundle.card.normalisation))
    return lambda: session.run(["table"], inputs)


def with_int8(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with an 8-bit version, made here from simulated frames where it has none."""
    if bundle.card.int8 is not None and bundle.card.int8.passed:
        return bundle
    frames = [scene(150, 1024, seed) for seed in range(2, 8)]
    return quantise(bundle, frames, "simulated frames", folder / f"{bundle.name}.onnx")


def cases_of(bundle: Bundle, threads: int, folder: Path) -> tuple[dict[str, Case], list[str]]:
    """All that is timed, by name, and what could not be."""
    frames = {n: scene(n, SIDE) for n in CELLS}
    frame = frames[300]
    cases: dict[str, Case] = {"bare onnxruntime": bare(bundle, frame, threads)}
    for n in CELLS:
        cases[f"{n} cells"] = frame_to_calls(detector_for(bundle, "onnx", "fp32", threads), bundle, frames[n])
    for side in SIDES:
        if side != SIDE:
            sized = scene(round(300 * (side / SIDE) ** 2), side)
            cases[f"{side} px"] = frame_to_calls(detector_for(bundle, "onnx", "fp32", threads), bundle, sized)
    skipped = []
    small = with_int8(bundle, folder)
    assert small.card.int8 is not None
    backends = [("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8")]
    for backend, precision in backends:
        if backend == "openvino" and importlib.util.find_spec("openvino") is None:
            skipped.append(f"{backend} {precision}: not installed (pip install openvino)")
        elif precision == "int8" and not small.card.int8.passed:
            skipped.append(f"{backend} int8: the 8-bit version did not pass its gate ({small.card.int8})")
        else:
            detector = detector_for(small, backend, precision, threads)
            cases[f"{backend} {precision}"] = frame_to_calls(detector, small, frame)
    for name, needs in (("scikit-image", "torch"), ("OpenCV", "cv2")):
        missing = [m for m in ("torch", needs) if importlib.util.find_spec(m) is None]
        if missing:
            skipped.append(f"two stages, {name}: {' and '.join(missing)} not installed")
            continue
        from _two_stage import TwoStage, segment_opencv, segment_skimage

        two_stage = TwoStage(segment_opencv if name == "OpenCV" else segment_skimage, threads)
        cases[f"two stages, {name}"] = lambda two_stage=two_stage: two_stage(frame.pixels)  # type: ignore[misc]
    return cases, skipped


def groups_of(names: Sequence[str]) -> dict[str, list[str]]:
    """What is timed in turns with what: a case's neighbours change its caches, so only neighbours are compared."""
    chosen = {
        "runtime": ["bare onnxruntime", OURS],
        "cells": [f"{n} cells" for n in CELLS],
        "pixels": [*(f"{side} px" for side in SIDES), OURS],
        "backends": [OURS, "onnx int8", "openvino fp32", "openvino int8"],
        "stages": [OURS, "two stages, scikit-image", "two stages, OpenCV"],
    }
    return {group: [name for name in wanted if name in names] for group, wanted in chosen.items()}


def measure(cases: dict[str, Case], rounds: int, console: Console) -> tuple[Times, dict[str, int]]:
    """Median milliseconds of each case in its group over interleaved rounds after a warm-up, and the cells found."""
    medians: Times = {}
    found = {}
    for group, names in groups_of(list(cases)).items():
        times: dict[str, list[float]] = {name: [] for name in names}
        turns = 1 + (max(2, rounds // 4) if group == "stages" else rounds)  # the two stages take seconds
        for turn in track(range(turns), f"measuring {group}", console=console, transient=True):
            for name in names:
                begin = time.perf_counter()
                result: Any = cases[name]()
                if turn:
                    times[name].append((time.perf_counter() - begin) * 1e3)
                found[name] = len(result)
        medians[group] = {name: statistics.median(values) for name, values in times.items()}
    return medians, found


def rows_of(ms: Times, found: dict[str, int]) -> list[dict[str, Any]]:
    """One row a comparison; ratio > 1 where ours is better."""
    rows = []

    def add(case: str, metric: str, ours: float, peer: str, theirs: float) -> None:
        figures = {"ours": round(ours, 2), "peer": peer, "theirs": round(theirs, 2), "ratio": round(theirs / ours, 3)}
        rows.append({"case": case, "metric": metric, **figures})

    case = f"{SIDE} x {SIDE} uint16, {found[OURS]} cells"
    group = ms["runtime"]
    add(f"{case}: frame to calls", "ms", group[OURS], "bare onnxruntime", group["bare onnxruntime"])
    for name, theirs in ms["stages"].items():
        if name != OURS:
            add(f"{case}: frame to calls", "ms", ms["stages"][OURS], f"{name} ({found[name]} found)", theirs)
    for name, ours in ms["backends"].items():
        if name != OURS:
            add(f"{case}: {name}", "ms", ours, "onnx fp32", ms["backends"][OURS])
    none, *more = (f"{n} cells" for n in CELLS)
    for name in more:
        add(f"cost of cells: {found[name]} found", "ms", ms["cells"][name], f"{found[none]} found", ms["cells"][none])
    per_megapixel = {side: ms["pixels"].get(f"{side} px", ms["pixels"][OURS]) / (side / 1000) ** 2 for side in SIDES}
    for side in SIDES:
        add(f"cost of pixels: {side} x {side}", "ms/MP", per_megapixel[side], f"{SIDE} x {SIDE}", per_megapixel[SIDE])
    return rows


def main() -> int:
    """Parse, measure, print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to this file instead of printing them")
    parser.add_argument("--quick", action="store_true", help="five rounds instead of 21")
    parser.add_argument("--model", default="simulated", help="bundled model, or path of a bundle's .onnx file")
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads of every case")
    options = parser.parse_args()
    console = Console(stderr=True)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if importlib.util.find_spec("cv2") is not None:
        import cv2

        cv2.setNumThreads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        cases, skipped = cases_of(load_bundle(options.model), options.threads, Path(folder))
        ms, found = measure(cases, 5 if options.quick else 21, console)
    rows = rows_of(ms, found)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads used"
    if options.json:
        text = {"benchmark": "detect", "machine": machine, "rows": rows, "skipped": skipped}
        options.json.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        return 0
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio", title=f"livescope detect on {machine}")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    for line in skipped:
        console.print(f"not measured: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
