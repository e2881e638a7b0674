"""The recorder that tools/fault_drill.py kills: writes known frames until told to stop, and says what happens to it.

One JSON line an event on stdout, with `time.monotonic()` as `at` (one clock for all processes of a machine).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame, LossCause, LossLedger
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings

SHAPE = (480, 640)


def pixels_of(index: int) -> NDArray[np.uint16]:
    """Return the pixels of frame `index`: known beforehand, different for every frame."""
    return np.random.default_rng(index).integers(0, 4096, SHAPE).astype(np.uint16)


def calls_of(index: int) -> CellCalls:
    """Return known calls for frame `index`, none for every fifth."""
    n = 0 if index % 5 == 0 else 20
    rng = np.random.default_rng(index)
    ones = np.ones(n, np.float32)
    y, x = rng.uniform(0, SHAPE[0], n).astype(np.float32), rng.uniform(0, SHAPE[1], n).astype(np.float32)
    radii = np.full((n, 32), 8, np.float32)
    state = rng.integers(1, 4, n).astype(np.uint8)
    return CellCalls(index, y, x, radii, ones, ones, state, ones, np.zeros(n, bool), np.arange(1, n + 1), 0.65)


def say(event: str, **facts: Any) -> None:
    """Write one event, from any thread: text and line end in one write, which `print` makes two of."""
    line = json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n"
    os.write(sys.stdout.fileno(), line.encode())  # less than a pipe takes at once, so lines never mix


def main() -> None:
    """Write frames at a rate until stdin says so or a number is reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--fps", type=float, default=60.0)
    parser.add_argument("--frames", type=int, default=10**9)
    parser.add_argument("--user", type=int, help="become this user first")
    parser.add_argument("--clock-jumps", action="store_true", help="let the wall clock jump by a day, back and forth")
    parser.add_argument("--say-syncs", action="store_true", help="say how much of the journal has been synced")
    options = parser.parse_args()
    if options.user is not None:
        warm_up()
        os.setgid(options.user)
        os.setuid(options.user)
    write(options)


def warm_up() -> None:
    """Write one frame: what is imported late is there before a user who may not read Python's folder takes over."""
    with tempfile.TemporaryDirectory() as folder:
        settings = RecordSettings(min_free_mb=0)
        recorder = Recorder(
            Path(folder) / "a.ome.zarr", settings, LossLedger(), run_settings=Settings(), on_error=print
        )
        frame = Frame(pixels_of(0), 0, 0, "Drill", 0.0, 0.0, 12)
        recorder.put(frame)
        recorder.put_calls(frame, calls_of(1))
        recorder.close()


def write(options: argparse.Namespace) -> None:
    """Open the record, write, close."""
    settings = RecordSettings(min_free_mb=0, levels=2)
    ledger = LossLedger()
    try:
        recorder = Recorder(
            options.path,
            settings,
            ledger,
            run_settings=Settings(record=settings),
            on_error=lambda error: say("told", message=str(error)),
        )
    except RecordError as error:
        say("refused", message=str(error))
        sys.exit(error.exit_code)
    if options.say_syncs:
        say_syncs(recorder)
    say("opened")
    full, index, start = False, 0, time.monotonic()
    while index < options.frames:
        time.sleep(max(0.0, start + index / options.fps - time.monotonic()))
        jump = 86_400 * (index // 20 % 3 - 1) if options.clock_jumps else 0
        frame = Frame(pixels_of(index), index, 0, "Drill", time.perf_counter(), time.time() + jump, 12, pixel_um=0.65)
        recorder.put(frame)
        if index % 2 == 0:
            recorder.put_calls(frame, calls_of(index))
        index += 1
        if not full and shutil.disk_usage(options.path.parent).free < frame.pixels.nbytes // 2:
            full = True
            say("full")
        if index % 5 == 0:
            say("recorded", frames=recorder.recorded)
        if select.select([sys.stdin], [], [], 0)[0]:  # the parent says: enough
            break
    recorder.close()
    say("closed", frames=recorder.recorded, lost=ledger.total(LossCause.RECORDER), put=index)


def say_syncs(recorder: Recorder) -> None:
    """Report the journal's size at each sync: what a power failure could not take back."""
    journal = recorder._journal  # noqa: SLF001
    sync = journal.sync

    def sync_and_say() -> None:
        sync()
        say("synced", size=journal.synced_bytes)

    journal.sync = sync_and_say  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
