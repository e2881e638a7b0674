"""One file for the day a GPU is there: ``python tools/gpu_check.py [--json FILE] [--markdown FILE]``.

Builds every bundled network for TensorRT, runs it, compares its calls with ONNX Runtime's on the CPU, and measures
latency, rate and memory. Exits with 2 where there is no NVIDIA GPU, with 1 where something disagrees.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

from livescope.assay.agreement import Tally, match  # noqa: E402
from livescope.calls import CellCalls  # noqa: E402
from livescope.detect.bundle import Bundle, Precision, TensorRt, bundled_names, load_bundle  # noqa: E402
from livescope.detect.cuda import Gpu, check, import_cuda, open_gpu  # noqa: E402
from livescope.detect.decode import decode  # noqa: E402
from livescope.detect.detector import Detector  # noqa: E402
from livescope.detect.engine_cache import EngineCache  # noqa: E402
from livescope.detect.onnx_runtime import OnnxDetector  # noqa: E402
from livescope.detect.tensorrt import SLOTS, TensorRtDetector  # noqa: E402
from livescope.detect.tensorrt_build import import_tensorrt  # noqa: E402
from livescope.errors import BackendError, LivescopeError  # noqa: E402
from livescope.frames import Frame  # noqa: E402
from livescope.settings import DetectorSettings  # noqa: E402

SIDES = (512, 1024, 2048)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
MAX_CELLS = 1024
NO_GPU = 2
P_DEAD_LIMIT = {"fp32": 1e-3, "fp16": 1e-2, "int8": 0.1}
"""Largest median difference of p_dead from float32 on the CPU."""
LEAST_AGREED = {"fp32": 0.999, "fp16": 0.995, "int8": 0.98}
"""Least F1 of the cells, and least part of the same state, against the CPU's calls."""


def golden_frames(bundle: Bundle) -> list[Frame]:
    """Frames with cells at the network's own pixel size: simulated ones, three densities."""
    from bench_detect import scene

    frames = [scene(n, 1024, seed) for seed, n in enumerate((40, 150, 400), 1)]
    if bundle.card.pixel_um is not None:
        return frames
    return [Frame(f.pixels[:512, :512].copy(), 0, 0, f.camera, 0.0, 0.0, f.bit_depth) for f in frames]


def calls_of(detector: Detector, bundle: Bundle, frame: Frame) -> CellCalls:
    """Calls of one frame."""
    detector.prepare(frame.spec)
    table = detector.poll(detector.submit(frame))
    return decode(table, frame.spec, bundle.card, DetectorSettings(max_cells=MAX_CELLS))


def compare(bundle: Bundle, gpu: Detector, cpu: Detector, precision: Precision) -> dict[str, Any]:
    """Agreement of the calls with the CPU's."""
    tally, differences = Tally(), []
    for frame in golden_frames(bundle):
        truth, found = calls_of(cpu, bundle, frame), calls_of(gpu, bundle, frame)
        tally.add(found, truth)
        pairs = match(found, truth)
        differences.append(np.abs(found.p_dead[pairs[:, 0]] - truth.p_dead[pairs[:, 1]]))
    agreed = tally.agreement()
    every = np.concatenate(differences) if agreed.n_matched else np.array([np.nan])  # NaN is not good
    p_dead = float(np.median(every))
    least = LEAST_AGREED[precision]
    good = agreed.f1 >= least and agreed.same_state >= least and p_dead <= P_DEAD_LIMIT[precision]
    return {
        "cells": agreed.n_true,
        "f1": round(agreed.f1, 5),
        "same_state": round(agreed.same_state, 5),
        "p_dead_median_difference": p_dead,
        "p_dead_largest_difference": float(every.max()),
        "good": good,
    }


def speed(bundle: Bundle, detector: Detector, side: int, rounds: int) -> dict[str, Any]:
    """Latency of single frames, and the rate with all slots in flight; frames of noise, uint16."""
    rng = np.random.default_rng(0)
    frames = []
    for n in range(SLOTS):
        pixels = rng.integers(900, 1100, (side, side), np.uint16)
        frames.append(Frame(pixels, n, 0, "noise", 0.0, 0.0, 12, pixel_um=bundle.card.pixel_um))
    starts_s = []
    for _ in range(2):  # the first builds the engine, the second loads it
        detector.close()
        begin = time.perf_counter()
        detector.prepare(frames[0].spec)
        starts_s.append(round(time.perf_counter() - begin, 3))
    latencies = []
    for n in range(rounds):
        begin = time.perf_counter()
        detector.poll(detector.submit(frames[n % SLOTS]))
        latencies.append((time.perf_counter() - begin) * 1e3)
    begin = time.perf_counter()
    tickets = [detector.submit(frame) for frame in frames]
    for n in range(rounds):
        detector.poll(tickets.pop(0))
        tickets.append(detector.submit(frames[n % SLOTS]))
    for ticket in tickets:
        detector.poll(ticket)
    p50, p99 = np.percentile(latencies[rounds // 10 :], (50, 99))
    return {
        "side": side,
        "build_s": starts_s[0],
        "warm_start_s": starts_s[1],
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "fps": round((rounds + SLOTS) / (time.perf_counter() - begin), 1),
    }


def used_mb(cuda: Any) -> float:
    """Megabytes of the GPU in use, by anybody."""
    error, free, total = cuda.cudaMemGetInfo()
    assert int(error) == 0
    return float(total - free) / 1e6


def check_one(
    name: str, precision: Precision, backend: TensorRt, cuda: Any, rounds: int, engines: Path
) -> dict[str, Any]:
    """Build, compare, measure one network in one precision; `engines` is an empty folder."""
    bundle = load_bundle(name)
    row: dict[str, Any] = {"model": name, "precision": precision}
    before = used_mb(cuda)
    try:
        detector = TensorRtDetector(bundle, MAX_CELLS, precision, backend, EngineCache(engines))
        row |= compare(bundle, detector, OnnxDetector(bundle, MAX_CELLS), precision)
        row["speed"] = [speed(bundle, detector, side, rounds) for side in SIDES]
        row["memory_mb"] = round(used_mb(cuda) - before, 1)
        row["backend"] = detector.describe().backend
        detector.close()
    except LivescopeError as error:
        no_version = precision == "int8" and "8-bit" in str(error)
        row |= {"good": no_version, "skipped" if no_version else "error": str(error)}
    return row


def markdown(gpu: Gpu, rows: list[dict[str, Any]]) -> str:
    """The figures as a table for the README."""
    lines = [
        f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}",
        "",
        "| model | precision | frame | p50 ms | p99 ms | fps | build s | warm start s | F1 to CPU | memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for s in row.get("speed", ()):
            figures = (s["p50_ms"], s["p99_ms"], s["fps"], s["build_s"], s["warm_start_s"], row["f1"], row["memory_mb"])
            frame = f"{s['side']} x {s['side']}"
            cells = (row["model"], row["precision"], frame, *map(str, figures))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Parse, check, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table for the README to this file")
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt-rtx")
    parser.add_argument("--rounds", type=int, default=300, help="frames per measurement")
    options = parser.parse_args()
    console = Console()
    try:
        cuda = import_cuda()
        gpu = open_gpu(cuda)
        import_tensorrt(options.backend)
        check(cuda, "cudaFree", 0)  # makes the context, so that its memory is not counted
    except BackendError as error:
        console.print(f"NO GPU CHECK WAS RUN: {error}")
        return NO_GPU
    console.print(f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}")
    rows = []
    for name in bundled_names():
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(check_one(name, precision, options.backend, cuda, options.rounds, Path(folder)))
    grid = Grid("model", "precision", "good", "F1", "|dp_dead|", "p50 / p99 ms and fps by side")
    for row in rows:
        speeds = "  ".join(f"{s['side']}: {s['p50_ms']} / {s['p99_ms']}, {s['fps']}" for s in row.get("speed", ()))
        note = row.get("error") or row.get("skipped") or speeds
        figures = (
            row["model"],
            row["precision"],
            row["good"],
            row.get("f1"),
            row.get("p_dead_median_difference"),
            note,
        )
        grid.add_row(*map(str, figures))
    console.print(grid)
    if options.json:
        report = {"gpu": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver, "rows": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(gpu, rows), encoding="utf-8")
    return 0 if all(row["good"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
