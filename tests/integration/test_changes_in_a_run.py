"""What a user changes while a run goes on: each change is in the record, and no frame is unaccounted for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import livescope
from livescope.acquire.changes import Exposure, Property, Roi
from livescope.errors import LivescopeError
from livescope.session import SessionState


def test_roi_exposure_and_burst(tmp_path: Path) -> None:
    pytest.importorskip("mm_test_adapters")
    record = tmp_path / "run.ome.zarr"
    settings = ["source.kind=demo", "camera.exposure_ms=10", "camera.pixel_um=0.65", f"record.path={record}"]
    with livescope.open_session(None, *settings, "record.queue_frames=256") as session:
        session.start().result()
        while session.latest_frame() is None:
            time.sleep(0.01)
        session.change(Roi(16, 32, 200, 100)).result()
        session.change(Exposure(5.0)).result()
        session.burst(12).result()
        assert session.status().state is SessionState.RUNNING
        with pytest.raises(LivescopeError, match="NoSuchProperty"):
            session.change(Property("Camera", "NoSuchProperty", "1")).result()
        session.stop().result()
        status = session.status()
        losses = session.book.ledger.rows()
    assert status.recorded + status.lost["recorder"] == status.delivered
    assert sum(row["lost_core"] for row in losses) == status.lost["core"]  # on a slow machine some are
    assert len(losses) >= 3
    reasons = [segment["reason"] for segment in json.loads((record / "manifest.json").read_text())["segments"]]
    assert len(reasons) >= 3
    stored = livescope.open_record(record)
    assert {(stored.image(path)["height"], stored.image(path)["width"]) for path in stored.images} == {
        (512, 512),
        (100, 200),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_sigterm_ends_a_headless_run_cleanly(tmp_path: Path) -> None:
    record = tmp_path / "run.ome.zarr"
    arguments = ["run", "configs/simulated.yaml", "--headless", "--summary", str(tmp_path / "s.json")]
    arguments += ["--set", f"record.path={record}", "--set", "simulation.width=256", "--set", "simulation.height=256"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-m", "livescope", *arguments], cwd=root, stdout=subprocess.DEVNULL)
    journal = record / "journal.ndjson"
    while process.poll() is None and not (journal.exists() and journal.read_text().count('"frame"') > 5):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["frames_recorded"] + summary["frames_lost"]["recorder"] == summary["frames_delivered"] > 0
    assert "closed" in json.loads((record / "manifest.json").read_text())
