"""Kill the recorder in every way we know and show that what it called recorded is there: `python tools/fault_drill.py`.

Each drill lets a real recorder write known frames in a process of its own, strikes, recovers, and compares three sets:
the frames that were committed (in the journal when the blow came), those that `recover` gives back, and those whose
pixels are intact. All three must be equal, the arrays must hold nothing else, `verify` must find all as written, and
the user must have been told within 2 s wherever there was a user left to tell. Needs Linux; the full disk needs root (a
small tmpfs is mounted), and is skipped visibly without it.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from _drill_child import calls_of, pixels_of  # noqa: E402

from livescope.errors import RecordError  # noqa: E402
from livescope.record.committed import read_committed  # noqa: E402
from livescope.record.layout import JOURNAL  # noqa: E402
from livescope.record.reader import open_record  # noqa: E402
from livescope.record.recover import recover  # noqa: E402
from livescope.record.verify import verify  # noqa: E402

TOLD_S = 2.0
WAIT_S = 60.0


@dataclass(slots=True)
class Outcome:
    """One row of the table."""

    drill: str
    committed: int = 0
    recovered: int = 0
    intact: int = 0
    told_s: float | None = None
    fault: str = ""
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing invented, and the user told in time."""
        same = self.committed == self.recovered == self.intact
        return not self.fault and same and (self.told_s is None or self.told_s <= TOLD_S)


class Child:
    """A recorder in a process of its own, and the events that it tells."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        command = [sys.executable, str(ROOT / "tools" / "_drill_child.py"), str(path), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.events: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("}\n"):
                self._queue.put(json.loads(line))
        self._queue.put(None)

    def wait_for(self, name: str, after: float = 0.0) -> dict[str, Any]:
        """Return the first event of a name after a moment."""
        end = time.monotonic() + WAIT_S
        while True:
            event = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            if event is None:
                raise RuntimeError(f"the recorder ended before it said {name!r}")
            self.events.append(event)
            if event["event"] == name and event["at"] >= after:
                return event

    def wait_for_frames(self, count: int) -> None:
        """Wait until the recorder says that it has recorded `count` frames."""
        while self.wait_for("recorded")["frames"] < count:
            pass

    def end(self) -> dict[str, Any]:
        """Ask it to stop and close; return its last account."""
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()
        closed = self.wait_for("closed")
        self.process.wait(WAIT_S)
        return closed

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it without a chance to close."""
        self.process.send_signal(how)
        self.process.wait(WAIT_S)
        while (event := self._queue.get(timeout=WAIT_S)) is not None:
            self.events.append(event)

    def last(self, name: str) -> dict[str, Any]:
        """Return the newest event of a name that was heard."""
        return next(event for event in reversed(self.events) if event["event"] == name)


def examine(outcome: Outcome, path: Path, committed: set[int], acknowledged: int) -> None:
    """Recover, and compare what was committed with what is there."""
    outcome.committed = len(committed)
    recover(path)
    record = open_record(path)
    rows = record.frame_table.to_pylist()
    outcome.recovered = len(rows)
    outcome.intact = sum(np.array_equal(frame.pixels, pixels_of(frame.index)) for frame in record.iter_frames())
    faults = []
    if {row["frame"] for row in rows} != committed:
        faults.append("other frames than those committed")
    if len(rows) < acknowledged:
        faults.append(f"{acknowledged} frames had been acknowledged")
    if rows and zarr.open_array(str(path / "0"), mode="r").shape[0] != max(row["t"] for row in rows) + 1:
        faults.append("phantom frames")
    for index in record.analysed:
        stored, known = record.calls_of(index), calls_of(index)
        if stored is None or len(stored) != len(known) or not np.array_equal(stored.y_px, known.y_px):
            faults.append(f"the calls of frame {index} differ")
    faults += verify(path).problems
    outcome.fault = "; ".join(faults)


def committed_frames(path: Path) -> set[int]:
    """Return the frames in the journal."""
    return set(read_committed(path).frames["frame"].to_pylist())


def killed(folder: Path, number: int, how: signal.Signals = signal.SIGKILL) -> Outcome:
    """Kill it at a random instant."""
    outcome = Outcome(f"{'kill -9' if how is signal.SIGKILL else how.name}")
    child = Child(folder / f"{how.name}{number}.ome.zarr", "--fps", "120")
    child.wait_for("opened")
    if how is not signal.SIGKILL:
        child.wait_for_frames(5)
    time.sleep(random.uniform(0.0, 1.5))
    child.kill(how)
    acknowledged = max((event["frames"] for event in child.events if event["event"] == "recorded"), default=0)
    examine(outcome, child.path, committed_frames(child.path), acknowledged)
    return outcome


def power_lost(folder: Path, number: int) -> Outcome:
    """Kill it, take back every journal line that was not synced, and leave a torn or a zeroed one in their place."""
    outcome = Outcome("power loss (unsynced lines dropped)")
    child = Child(folder / f"power{number}.ome.zarr", "--fps", "120", "--say-syncs")
    child.wait_for("synced")
    time.sleep(random.uniform(0.2, 1.5))
    child.kill()
    journal = child.path / JOURNAL
    kept = journal.read_bytes()[: child.last("synced")["size"]]
    journal.write_bytes(kept + random.choice([b"", b'{"kind":"frame","im', b"\0" * 512 + b"\n"]))
    examine(outcome, child.path, committed_frames(child.path), 0)
    return outcome


def disk_full(folder: Path) -> Outcome:
    """Let it fill a small disk; the user is told and makes space: the run goes on, only what was refused is missing."""
    outcome = Outcome("disk full, then space made")
    if os.geteuid() != 0:
        outcome.skipped = "needs root to mount a tmpfs"
        return outcome
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)], check=True)
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40_000_000))
        child = Child(disk / "a.ome.zarr")
        full = child.wait_for("full")
        told = child.wait_for("told")
        outcome.told_s = max(0.0, told["at"] - full["at"])
        before = child.wait_for("recorded")["frames"]
        ballast.unlink()
        child.wait_for_frames(before + 20)
        account = child.end()
        committed = committed_frames(child.path)
        examine(outcome, child.path, committed, account["frames"])
        if len(committed) + account["lost"] != account["put"]:
            outcome.fault += f"; {len(committed)} recorded + {account['lost']} lost is not {account['put']} put"
        if max(open_record(child.path).analysed) <= min(set(range(account["put"])) - committed):
            outcome.fault += "; no calls after space was made"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return outcome


def permission_lost(folder: Path) -> Outcome:
    """Take the permission to write away, tell, give it back: the run goes on."""
    outcome = Outcome("permission lost")
    home = folder / "home"
    home.mkdir()
    options: list[str] = []
    if os.geteuid() == 0:  # root may write anywhere
        nobody = pwd.getpwnam("nobody").pw_uid
        folder.chmod(0o755)
        os.chown(home, nobody, nobody)
        options = ["--user", str(nobody)]
    child = Child(home / "a.ome.zarr", *options)
    child.wait_for_frames(20)
    arrays = [child.path / level / "c" for level in ("0", "1")]
    taken = time.monotonic()
    for array in arrays:
        array.chmod(0o500)
    outcome.told_s = child.wait_for("told", taken)["at"] - taken
    for array in arrays:
        array.chmod(0o755)
    child.wait_for_frames(child.wait_for("recorded")["frames"] + 20)
    account = child.end()
    examine(outcome, child.path, committed_frames(child.path), account["frames"])
    return outcome


def directory_deleted(folder: Path) -> Outcome:
    """Delete the record under it: nothing can be kept, but the user is told and the process lives on."""
    outcome = Outcome("directory deleted")
    child = Child(folder / "gone.ome.zarr")
    child.wait_for_frames(20)
    gone = time.monotonic()
    shutil.rmtree(child.path, ignore_errors=True)
    outcome.told_s = child.wait_for("told", gone)["at"] - gone
    account = child.end()
    if account["frames"] + account["lost"] != account["put"]:
        outcome.fault = f"{account['frames']} recorded + {account['lost']} lost is not {account['put']} put"
    return outcome


def two_writers(folder: Path) -> Outcome:
    """Start a second recorder on the same path: it is refused, the first one does not notice."""
    outcome = Outcome("two processes, one record")
    first = Child(folder / "two.ome.zarr")
    first.wait_for_frames(10)
    Child(first.path, "--frames", "5").wait_for("refused")
    try:
        recover(first.path)
        outcome.fault = "recover did not refuse a record that is being written"
        return outcome
    except RecordError:
        pass
    first.wait_for_frames(first.wait_for("recorded")["frames"] + 10)
    account = first.end()
    examine(outcome, first.path, committed_frames(first.path), account["frames"])
    return outcome


def clock_jumps(folder: Path) -> Outcome:
    """Let the frames' wall clock jump by a day, back and forth."""
    outcome = Outcome("clock jumps by a day")
    child = Child(folder / "clock.ome.zarr", "--clock-jumps")
    child.wait_for_frames(80)
    account = child.end()
    examine(outcome, child.path, committed_frames(child.path), account["frames"])
    scale = open_record(child.path).frame_table["time_s"].to_numpy()
    if np.any(np.diff(scale) <= 0):
        outcome.fault += "; time_s does not rise"
    return outcome


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="livescope-drill-") as name:
        yield Path(name)


def main() -> None:
    """Run the drills and print the table; exit 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="how often to kill -9 (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the random instants")
    options = parser.parse_args()
    random.seed(options.seed)
    drills: list[Callable[[Path], Outcome]] = [
        *(lambda folder, n=n: killed(folder, n) for n in range(options.kills)),
        lambda folder: killed(folder, 0, signal.SIGTERM),
        *(lambda folder, n=n: power_lost(folder, n) for n in range(3)),
        disk_full,
        permission_lost,
        directory_deleted,
        two_writers,
        clock_jumps,
    ]
    console = Console()
    outcomes: list[Outcome] = []
    for drill in drills:
        with scratch() as folder:
            outcome = drill(folder)
        outcomes.append(outcome)
        console.print(f"{outcome.drill}: {'skipped' if outcome.skipped else 'ok' if outcome.passed else 'FAILED'}")
    console.print(report(outcomes))
    sys.exit(any(not outcome.passed for outcome in outcomes))


def report(outcomes: list[Outcome]) -> Table:
    """Return the table: repeated drills in one row, counts added up."""
    table = Table("drill", "times", "committed", "recovered", "intact", "told after", "result", title="Fault drill")
    for name in dict.fromkeys(outcome.drill for outcome in outcomes):
        same = [outcome for outcome in outcomes if outcome.drill == name]
        told = [outcome.told_s for outcome in same if outcome.told_s is not None]
        faults = {outcome.fault for outcome in same if outcome.fault}
        result = "ok" if all(outcome.passed for outcome in same) else "; ".join(["FAILED", *sorted(faults)])
        table.add_row(
            name,
            str(len(same)),
            str(sum(outcome.committed for outcome in same)),
            str(sum(outcome.recovered for outcome in same)),
            str(sum(outcome.intact for outcome in same)),
            f"{max(told):.2f} s" if told else "",
            same[0].skipped or result,
        )
    return table


if __name__ == "__main__":
    main()
