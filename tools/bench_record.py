"""How fast a record is written, beside what else could: `python tools/bench_record.py [--json FILE] [--quick]`.

Every contender writes the same realistic 2048 x 2048 uint16 frames in a process of its own, in turn, every other round
backwards; the median of the rounds' ratios counts. Two cases: as fast as it goes, and 15 frames a second while another
Python thread is busy without pause, as a detector may be. Times end when the files are closed and the disk is synced.
Trust ratios of one run, not absolute values. p50 and p99 are of the hand-off: what the acquisition thread spends on a
frame.
Stopped with Ctrl+C it reports the rounds that are whole; five take a quarter of an hour.
Peak memory leaves out the frames themselves, which livescope holds until they are written: at most 76, or 1 GB.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from _bench_writers import WRITERS  # noqa: E402

SIDE = 2048
RATE_FPS = 15.0
NEEDS = {"ome-writers (tensorstore)": "ome_writers", "acquire-zarr": "acquire_zarr"}
PACED = ("livescope", "livescope, 3 levels", "zarr-python", "ome-writers (tensorstore)", "acquire-zarr")
BARS = {
    ("unpaced", "MB/s", "zarr-python"): 1.5,
    ("unpaced", "MB/s", "ome-writers (tensorstore)"): 1.2,
    ("unpaced", "MB/s", "bare tensorstore"): 0.9,
    ("unpaced", "MB/s", "bare tensorstore, checksums"): 0.9,
}
Runs = dict[tuple[str, str], list[dict[str, float]]]
"""(case, contender) -> its figures in each round."""
METRICS = {"MB/s": True, "CPU s/GB": False, "p50 ms": False, "p99 ms": False, "peak MB": False}
"""Metric -> whether more is better."""


def realistic_frames(count: int) -> NDArray[np.uint16]:
    """Return (count, 2048, 2048) uint16 bright-field-like frames: uneven light, cells, shot and read noise."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    light = 1800 * (1 - 0.3 * ((y - 0.5) ** 2 + (x - 0.45) ** 2))
    for cy, cx in rng.uniform(0, SIDE, (400, 2)):
        top, left = int(max(cy - 20, 0)), int(max(cx - 20, 0))
        part = np.s_[top : top + 40, left : left + 40]
        rows, columns = np.indices(light[part].shape)
        r = np.hypot(rows + top - cy, columns + left - cx)
        light[part] *= 1 - 0.35 * np.exp(-(((r - 11) / 3) ** 2)) + 0.15 * np.exp(-((r / 6) ** 2))
    noise = rng.normal(0, 2, light.shape)
    return np.stack([np.clip(rng.poisson(light) + noise, 0, 4095) for _ in range(count)]).astype(np.uint16)


def write(name: str, frames: NDArray[np.uint16], count: int, folder: Path, paced: bool) -> dict[str, float]:
    """Write `count` frames with one contender and return its figures."""
    for part in ("warm", "run"):
        (folder / part).mkdir()
    warm = WRITERS[name](folder / "warm", (SIDE, SIDE))  # imports and first allocations are nobody's speed
    for frame in frames[:4]:
        warm.append(frame)
    warm.close()
    touch_memory(folder / "ballast", count * frames[0].nbytes)
    frames.flags.writeable = False  # as the acquisition loop hands them on
    process = psutil.Process()
    before_mb = peak_mb = process.memory_info().rss / 1e6
    writer = WRITERS[name](folder / "run", (SIDE, SIDE))
    stop = threading.Event()
    if paced:
        threading.Thread(target=spin, args=(stop,), daemon=True).start()
    handed_s = []
    cpu, start = time.process_time(), time.perf_counter()
    for k in range(count):
        if paced:
            time.sleep(max(0.0, start + k / RATE_FPS - time.perf_counter()))
        before = time.perf_counter()
        writer.append(frames[k % len(frames)])
        handed_s.append(time.perf_counter() - before)
        peak_mb = max(peak_mb, process.memory_info().rss / 1e6)
    rate = (count - 1) / (before - start)
    stop.set()
    writer.close()
    os.sync()
    seconds, megabytes = time.perf_counter() - start, count * frames[0].nbytes / 1e6
    return {
        "MB/s": megabytes / seconds,
        "fps": rate,
        "CPU s/GB": (time.process_time() - cpu) / megabytes * 1e3,
        "p50 ms": float(np.percentile(handed_s, 50)) * 1e3,
        "p99 ms": float(np.percentile(handed_s, 99)) * 1e3,
        "peak MB": max(1.0, peak_mb - before_mb),
    }


def touch_memory(path: Path, size: int) -> None:
    """Fill and free as much page cache as will be written.

    A virtual machine gives free memory back to its host after a second or two and pays for each page that it takes
    again: the contender that is slowest to import would pay for all.
    """
    block = bytes(1 << 24)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def spin(stop: threading.Event) -> None:
    """Keep the interpreter busy."""
    while not stop.is_set():
        sum(range(1000))


def measure(name: str, case: str, count: int, frames: Path) -> dict[str, float]:
    """Run one contender once, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=frames.parent) as folder:
        command = [sys.executable, __file__, "--one", name, case, str(count), str(frames), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def rounds(quick: bool, folder: Path) -> Runs:
    """Measure all contenders in turn, several times."""
    frames = folder / "frames.npy"
    np.save(frames, realistic_frames(4 if quick else 12))
    present = [name for name in WRITERS if name not in NEEDS or importlib.util.find_spec(NEEDS[name])]
    missing = [name for name in WRITERS if name not in present]
    if missing:
        Console(stderr=True).print(f"not installed, left out: {', '.join(missing)}")
    plan = [("unpaced", name, 96 if quick else 192) for name in present]
    plan += [("paced, thread busy", name, 30 if quick else 90) for name in PACED if name in present]
    n_rounds = 1 if quick else 5
    results: Runs = {(case, name): [] for case, name, _ in plan}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        steps = progress.track(range(n_rounds * len(plan)), description="writing")
        try:
            for k in steps:
                turn, place = divmod(k, len(plan))
                case, name, count = plan[place if turn % 2 == 0 else -1 - place]  # nobody is always behind the same one
                results[case, name].append(measure(name, case, count, frames))
        except KeyboardInterrupt:
            whole = min(map(len, results.values()))
            if not whole:
                raise
            Console(stderr=True).print(f"stopped after {whole} of {n_rounds} rounds")
            results = {key: runs[:whole] for key, runs in results.items()}
    return results


def medians_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def comparisons(results: Runs) -> list[dict[str, Any]]:
    """Return one row a comparison; `ratio`, the median of the rounds', is > 1 when we are better."""
    rows = []
    for (case, peer), theirs in results.items():
        ours_name = "livescope, 3 levels" if peer.endswith("3 levels") else "livescope"
        if peer.startswith("livescope"):
            continue
        ours = results[case, ours_name]
        for metric, more_is_better in {"fps": True, **METRICS}.items() if case != "unpaced" else METRICS.items():
            pairs = [(our[metric], their[metric]) for our, their in zip(ours, theirs, strict=True)]
            ratios = [our / their if more_is_better else their / our for our, their in pairs if our > 0 and their > 0]
            rows.append(
                {
                    "case": f"{case}, 3 levels" if ours_name != "livescope" else case,
                    "metric": metric,
                    "ours": medians_of(ours)[metric],
                    "peer": peer,
                    "theirs": medians_of(theirs)[metric],
                    "ratio": statistics.median(ratios) if ratios else None,
                }
            )
    return rows


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    return {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}


def show(medians: dict[tuple[str, str], dict[str, float]], rows: list[dict[str, Any]]) -> None:
    """Print the figures, and whether the bars are met."""
    console = Console()
    for case in dict.fromkeys(case for case, _ in medians):
        table = Table(case, "fps", *METRICS)
        for (its_case, name), figures in medians.items():
            if its_case == case:
                table.add_row(name, *(f"{figures[metric]:.1f}" for metric in ("fps", *METRICS)))
        console.print(table)
    for row in rows:
        bar = BARS.get((row["case"], row["metric"], row["peer"]))
        if bar is not None:
            verdict = "met" if row["ratio"] >= bar else "NOT met"
            console.print(f"{row['ratio']:.2f} x {row['peer']} in {row['metric']}; bar {bar}: {verdict}")
    ours = medians["paced, thread busy", "livescope"]
    rate, part = ours["fps"] / RATE_FPS, ours["p99 ms"] * RATE_FPS / 1e3
    console.print(f"paced: {rate:.3f} of {RATE_FPS:g} fps; bar 0.98: {'met' if rate >= 0.98 else 'NOT met'}")
    console.print(f"hand-off p99: {part:.1%} of the interval; bar 5 %: {'met' if part <= 0.05 else 'NOT met'}")


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the comparisons to this file as well")
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument("--folder", type=Path, help="measure the disk of this folder (default: the temporary folder's)")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, case, count, frames, folder = options.one
        print(json.dumps(write(name, np.load(frames), int(count), Path(folder), case != "unpaced")))
        return
    with tempfile.TemporaryDirectory(prefix="livescope-bench-", dir=options.folder) as folder:
        results = rounds(options.quick, Path(folder))
    rows = comparisons(results)
    if options.json:
        tree = {
            "benchmark": "record",
            "machine": machine(),
            "rounds": len(next(iter(results.values()))),
            "rows": rows,
        }
        options.json.write_text(json.dumps(tree, indent=1))
    show({key: medians_of(runs) for key, runs in results.items()}, rows)


if __name__ == "__main__":
    main()
