"""Ctrl-C and SIGTERM: the run ends, the record is closed, the exit code says which; with a window and without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import livescope

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize(("number", "window"), [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)])
def test_a_signal_ends_the_run_in_order(number: signal.Signals, window: bool, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "run.ome.zarr"
    arguments = ["run", str(root / "configs" / "simulated.yaml"), *([] if window else ["--headless"])]
    for setting in (
        f"record.path={path}",
        "detector.backend=onnx",
        "simulation.width=256",
        "simulation.height=256",
        "simulation.rate_fps=10",
    ):
        arguments += ["--set", setting]
    if window:
        pytest.importorskip("qtpy", reason="the window needs livescope[viewer]")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-m", "livescope", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=root, env=os.environ | home, **pipes) as run:
        journal = path / "journal.ndjson"
        while not (journal.exists() and len(journal.read_bytes().splitlines()) > 3):  # it opened, and a frame is there
            assert run.poll() is None, run.stdout.read().decode()
            time.sleep(0.05)
        run.send_signal(number)
        printed = run.communicate(timeout=200)[0].decode()
    assert run.returncode == (128 + number if window else 0), printed
    assert "Traceback" not in printed
    record = livescope.open_record(path)
    assert record.closed
    assert len(record) > 0
