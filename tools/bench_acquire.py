"""How fast, how smooth and how steady frames come in: ``python tools/bench_acquire.py [--json FILE] [--quick]``.

Compares livescope's live loop on Micro-Manager's demo camera with a bare ``popNextImageAndMD`` loop and with
``CMMCorePlus.run_mda``, interleaved in one run, and counts how long the process freezes during slow camera commands.
``--soak SECONDS`` runs a whole session with its detector at the camera's full rate instead; ``--cycles N`` starts,
stops and exits N fresh processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from _soak import LEAK_LIMIT_MB, cycles, row, soak  # noqa: E402

from livescope.acquire.core import close_core, open_core  # noqa: E402
from livescope.acquire.stream import LiveStream  # noqa: E402
from livescope.frames import Frame, LossLedger  # noqa: E402
from livescope.settings import CameraSettings, SimulationSettings, SourceSettings  # noqa: E402
from livescope.simulate.camera import open_simulated_core  # noqa: E402

SIDES = (512, 1024, 2048)
PIXEL_TYPES = ("8bit", "16bit")
TICK_S = 0.001
LEAK_FRAMES = 20_000
SIMULATED_AIM_FPS = 30.0
WIDE_COLUMNS = 140
"""Wider than any row of the table: a row on two lines is no row of Markdown."""


def open_demo(side: int = 512, pixel_type: str = "16bit", exposure_ms: float = 0.0) -> Any:
    """The demo camera, repeating one picture: the source is then as fast as it can be."""
    camera = CameraSettings(
        properties={"OnCameraCCDXSize": side, "OnCameraCCDYSize": side, "PixelType": pixel_type, "FastImage": 1}
    )
    core = open_core(SourceSettings(kind="demo"), camera)
    core.setExposure(exposure_ms)
    return core


# ---------------------------------------------------------------- the loops that are compared


def bare(core: Any, frames: int, on_frame: Callable[[Any], None] = lambda metadata: None) -> float:
    """Frames a second of the least that a loop can do."""
    core.startSequenceAcquisition(frames, 0, False)
    begin_s, taken = time.perf_counter(), 0
    while taken < frames and (core.getRemainingImageCount() or core.isSequenceRunning()):
        if core.getRemainingImageCount():
            _, metadata = core.popNextImageAndMD()
            on_frame(metadata)
            taken += 1
        else:
            time.sleep(TICK_S)
    fps = taken / (time.perf_counter() - begin_s)
    core.stopSequenceAcquisition()
    return fps


def ours(core: Any, frames: int, on_frame: Callable[[Frame], None] = lambda frame: None) -> float:
    """Frames a second of livescope's loop, with its account, stamps, health and locks."""
    ledger = LossLedger()
    stream = LiveStream(core, on_frame, ledger)
    begin_s = time.perf_counter()
    stream.start(frames)
    stream.wait()
    fps = ledger.delivered / (time.perf_counter() - begin_s)
    if stream.error is not None:
        raise stream.error
    if ledger.delivered + ledger.by_cause()["core"] != frames:
        raise AssertionError(f"unaccounted frames: {ledger.delivered} delivered, {ledger.by_cause()} of {frames}")
    return fps


def mda(core: Any, frames: int, *, sequenced: bool = True) -> float:
    """Frames a second of pymmcore-plus's own runner, as one hardware sequence or event by event."""
    import useq

    core.mda.engine.use_hardware_sequencing = sequenced

    taken: list[int] = []
    count = core.mda.events.frameReady.connect(lambda *args: taken.append(1))
    begin_s = time.perf_counter()
    core.run_mda(useq.MDASequence(time_plan=useq.TIntervalLoops(interval=0, loops=frames))).join()
    fps = len(taken) / (time.perf_counter() - begin_s)
    core.mda.events.frameReady.disconnect(count)
    return fps


def events(core: Any, frames: int) -> float:
    """The runner again, event by event."""
    return mda(core, frames, sequenced=False)


def medians(core: Any, loops: list[Callable[[Any, int], float]], frames: int, rounds: int) -> list[float]:
    """Median rate of each loop, interleaved, every other round backwards."""
    rates: dict[Callable[[Any, int], float], list[float]] = {loop: [] for loop in loops}
    for turn in range(rounds):
        for loop in loops[:: 1 if turn % 2 == 0 else -1]:
            rates[loop].append(loop(core, frames))
    return [statistics.median(rates[loop]) for loop in loops]


def compare_rates(frames: int, rounds: int, console: Console) -> list[dict[str, Any]]:
    """Livescope against the bare loop at full rate, and against the runner at an exposure of 1 ms.

    At an exposure of 0 the demo camera's snap takes no time at all, which no camera's does: the runner, which snaps,
    would be measured against nothing.
    """
    rows = []
    for side in track(SIDES, "rates", console=console, transient=True):
        for pixel_type in PIXEL_TYPES:
            case = f"{side} x {side} {pixel_type}"
            core = open_demo(side, pixel_type)
            ours(core, 20)  # sizes the ring for all of them
            mine, other = medians(core, [ours, bare], frames, rounds)
            rows.append(row(case, "frames/s", mine, "bare pop loop", other, more=True))
            core.setExposure(1.0)
            mine, one_sequence, single_events = medians(core, [ours, mda, events], min(frames, 200), min(rounds, 5))
            rows.append(row(f"{case}, 1 ms", "frames/s", mine, "run_mda, one sequence", one_sequence, more=True))
            rows.append(row(f"{case}, 1 ms", "frames/s", mine, "run_mda, event by event", single_events, more=True))
            close_core(core)
    return rows


# ---------------------------------------------------------------- how long everything stands still


class Ticker:
    """A thread that does nothing but tick; the longest silence is the freeze of the whole process."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._longest_s = 0.0
        self._thread = threading.Thread(target=self._tick)

    def _tick(self) -> None:
        last_s = time.perf_counter()
        while not self._end.is_set():
            time.sleep(TICK_S)
            now_s = time.perf_counter()
            self._longest_s = max(self._longest_s, now_s - last_s - TICK_S)
            last_s = now_s

    def __enter__(self) -> Ticker:
        self._thread.start()
        time.sleep(0.02)
        self._longest_s = 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def longest_ms(self) -> float:
        """Longest silence, milliseconds."""
        return 1000 * self._longest_s


def freeze_in_snap(core: Any, *, locked: bool) -> float:
    """Milliseconds of silence while a 1 s snap runs beside a thread that pops what a stream has left in the ring."""
    core.setExposure(1)
    core.startSequenceAcquisition(20, 0, False)
    while core.isSequenceRunning():
        time.sleep(TICK_S)
    core.setExposure(1000)
    stream = LiveStream(core, lambda frame: None, LossLedger())
    done = threading.Event()

    def pop() -> None:
        if core.getRemainingImageCount():
            core.popNextImageAndMD()

    def poll() -> None:
        while not done.is_set():
            time.sleep(0.05)
            if locked:
                with stream.lock:
                    pop()
            else:
                pop()

    poller = threading.Thread(target=poll)
    with Ticker() as ticker:
        poller.start()
        if locked:
            stream.snap()
        else:
            core.snapImage()
            core.getImage()
        done.set()
        poller.join()
        return ticker.longest_ms


def freeze_in_stop(core: Any, *, locked: bool) -> float:
    """Milliseconds of silence while a stream of 500 ms exposures is stopped."""
    core.setExposure(500)
    if locked:
        stream = LiveStream(core, lambda frame: None, LossLedger())
        stream.start()
        time.sleep(0.7)
        with Ticker() as ticker:
            stream.stop()
            return ticker.longest_ms
    done = threading.Event()

    def pop() -> None:
        while not done.is_set():
            if core.isSequenceRunning() and core.getRemainingImageCount():
                core.popNextImageAndMD()
            time.sleep(TICK_S)

    popper = threading.Thread(target=pop)
    core.startContinuousSequenceAcquisition(0)
    popper.start()
    time.sleep(0.7)
    with Ticker() as ticker:
        core.stopSequenceAcquisition()
        done.set()
        popper.join()
        return ticker.longest_ms


def compare_freezes(rounds: int, console: Console) -> list[dict[str, Any]]:
    """The longest silence of the process with livescope's lock, and without it."""
    core = open_demo()
    rows = []
    cases = {"1 s snap": freeze_in_snap, "stop at 500 ms exposure": freeze_in_stop}
    for case, measure in track(cases.items(), "freezes", console=console, transient=True):
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds):
            for locked in times:
                times[locked].append(measure(core, locked=locked))
        mine, other = statistics.median(times[True]), statistics.median(times[False])
        rows.append(row(case, "freeze, ms", mine, "no common lock", other, more=False))
    close_core(core)
    return rows


# ---------------------------------------------------------------- from the camera to the receiver


def compare_hand_off(frames: int, rounds: int) -> list[dict[str, Any]]:
    """Time from the frame's arrival in the core to the receiver, 1024 x 1024 16 bit, 10 ms exposure."""
    core = open_demo(1024, "16bit", exposure_ms=10.0)
    waits: dict[str, list[float]] = {"ours": [], "bare": []}

    def wait_ms(tags: Any) -> float:
        received = datetime.strptime(tags["TimeReceivedByCore"], "%Y-%m-%d %H:%M:%S.%f")
        return 1000 * (datetime.now() - received).total_seconds()  # the core stamps local time as well

    for _ in range(rounds):
        ours(core, frames, lambda frame: waits["ours"].append(wait_ms(frame.metadata)))
        bare(core, frames, lambda metadata: waits["bare"].append(wait_ms(metadata)))
    close_core(core)
    rows = []
    for name, rank in (("p50", 0.5), ("p99", 0.99)):
        mine, other = (sorted(waits[who])[int(rank * (len(waits[who]) - 1))] for who in ("ours", "bare"))
        rows.append(row("1024 x 1024 16bit, 10 ms", f"hand-off {name}, ms", mine, "bare pop loop", other, more=False))
    return rows


def simulated_rate(frames: int, console: Console) -> list[dict[str, Any]]:
    """Frames a second that the simulated camera can draw, 1024 x 1024 with its usual culture, against its aim."""
    core = open_simulated_core(SimulationSettings(rate_fps=1000), CameraSettings(exposure_ms=20))
    with console.status(f"{frames} frames of the simulated camera"):
        ours(core, 130)  # fills the ring's memory once
        fps = ours(core, frames)
    close_core(core)
    return [row("simulated camera, 1024 x 1024", "frames/s", fps, "aim", SIMULATED_AIM_FPS, more=True)]


def memory_growth(frames: int, console: Console) -> list[dict[str, Any]]:
    """Growth of the process over many frames, after a warm-up, against the limit of 20 MB."""
    core = open_demo(512, "8bit")
    process = psutil.Process()
    with console.status(f"memory over {frames} frames"):
        ours(core, 2000)
        before = process.memory_info().rss
        ours(core, frames)
        grown_mb = (process.memory_info().rss - before) / 2**20
    close_core(core)
    return [row(f"{frames} frames", "memory growth, MB", max(grown_mb, 0.1), "limit", LEAK_LIMIT_MB, more=False)]


# ---------------------------------------------------------------- the report


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from pymmcore_plus import _pymmcore

    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "binding": f"{_pymmcore.BACKEND} {_pymmcore.__version__}",
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the comparisons as a table that a Markdown page takes as it is."""
    table = Table(box=box.MARKDOWN)
    for heading in ("case", "metric", "ours", "peer", "theirs", "ratio"):
        table.add_column(heading, justify="left" if heading in ("case", "metric", "peer") else "right")
    for one in rows:
        table.add_row(*("" if one[key] is None else str(one[key]) for key in one))
    Console(width=WIDE_COLUMNS).print(table)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="run a whole session so long instead")
    parser.add_argument("--cycles", type=int, metavar="N", help="start, stop and exit N fresh processes instead")
    asked = parser.parse_args()
    console = Console()
    if asked.soak or asked.cycles:
        rows = soak(asked.soak, console) if asked.soak else []
        rows += cycles(asked.cycles, console) if asked.cycles else []
    else:
        rows = compare_rates(150 if asked.quick else 300, 3 if asked.quick else 15, console)
        rows += compare_freezes(1 if asked.quick else 3, console)
        rows += compare_hand_off(100 if asked.quick else 300, 2)
        rows += simulated_rate(100 if asked.quick else 300, console)
        rows += memory_growth(5000 if asked.quick else LEAK_FRAMES, console)
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps({"benchmark": "acquire", "machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
