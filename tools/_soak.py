"""The long trials of `bench_acquire.py`: a soak of a whole session, and starts and stops in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track

from livescope.session import Session
from livescope.settings import CameraSettings, DetectorSettings, RunSettings, Settings, SourceSettings

__all__ = ["LEAK_LIMIT_MB", "cycles", "row", "soak"]

ROOT = Path(__file__).resolve().parents[1]
LEAK_LIMIT_MB = 20.0

CYCLE = """
import sys
sys.path.insert(0, {root!r})
from livescope.acquire.core import close_core, open_core
from livescope.acquire.stream import LiveStream
from livescope.frames import LossLedger
from livescope.settings import CameraSettings, SourceSettings
core = open_core(SourceSettings(kind="demo"), CameraSettings(exposure_ms=1))
ledger = LossLedger()
stream = LiveStream(core, lambda frame: None, ledger)
stream.start()
stream.snap(60)
stream.stop()
close_core(core)
assert ledger.delivered > 0
"""


def soak(seconds: float, console: Console) -> list[dict[str, Any]]:
    """A session on the demo core at its full rate with the detector running: every frame accounted, memory flat."""
    settings = Settings(
        source=SourceSettings(kind="demo"),
        camera=CameraSettings(exposure_ms=0.01, properties={"FastImage": 1, "PixelType": "8bit"}, pixel_um=0.65),
        detector=DetectorSettings(threads=1),
        run=RunSettings(),
    )
    process, samples = psutil.Process(), []
    numbers: dict[int, int] = {}
    with Session(settings) as session:
        session.start().result()
        end_s = time.perf_counter() + seconds
        while (left_s := end_s - time.perf_counter()) > 0:
            time.sleep(min(left_s, 1.0))
            samples.append(process.memory_info().rss / 2**20)
            status = session.status()
            console.print(
                f"\r{seconds - left_s:6.0f} s  {status.delivered} delivered  {status.lost['core']} lost  "
                f"{status.analysed} analysed  {samples[-1]:.0f} MB",
                end="",
            )
            newest = session.latest_frame()
            if newest is not None and newest.metadata is not None:
                numbers[newest.segment] = int(newest.metadata["ImageNumber"]) + 1
        session.stop().result()
        newest = session.latest_frame()
        assert newest is not None
        assert newest.metadata is not None
        made = int(newest.metadata["ImageNumber"]) + 1
        status = session.status()
    console.print()
    unaccounted = made - status.delivered - status.lost["core"]
    warm = samples[len(samples) // 3 :]
    grown_mb = statistics.median(warm[-max(1, len(warm) // 5) :]) - statistics.median(warm[: max(1, len(warm) // 5)])
    errors = len(status.errors)
    case = f"soak of {seconds:g} s, {status.delivered} frames"
    return [
        {
            "case": case,
            "metric": "unaccounted frames",
            "ours": unaccounted,
            "peer": "limit",
            "theirs": 0,
            "ratio": None,
        },
        {"case": case, "metric": "errors", "ours": errors, "peer": "limit", "theirs": 0, "ratio": None},
        row(case, "memory growth, MB", max(grown_mb, 0.1), "limit", LEAK_LIMIT_MB, more=False),
        {
            "case": case,
            "metric": "lost in the core",
            "ours": status.lost["core"],
            "peer": "",
            "theirs": None,
            "ratio": None,
        },
    ]


def cycles(count: int, console: Console) -> list[dict[str, Any]]:
    """Start, stream, stop and exit in fresh processes: exit codes other than 0."""
    code = CYCLE.format(root=str(ROOT))
    failed = []
    for k in track(range(count), "cycles", console=console, transient=True):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            failed.append(f"cycle {k}: exit code {done.returncode}: {done.stderr[-300:]}")
    for line in failed:
        console.print(line)
    return [
        {
            "case": f"{count} fresh processes",
            "metric": "exit code not 0",
            "ours": len(failed),
            "peer": "limit",
            "theirs": 0,
            "ratio": None,
        }
    ]


def row(case: str, metric: str, mine: float, peer: str, other: float, *, more: bool) -> dict[str, Any]:
    """One comparison; `ratio` is above 1 where livescope is better, `more` says whether more is better."""
    ratio = mine / other if more else other / mine
    return {
        "case": case,
        "metric": metric,
        "ours": round(mine, 3),
        "peer": peer,
        "theirs": round(other, 3),
        "ratio": round(ratio, 3),
    }
