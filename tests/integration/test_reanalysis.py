"""A recorded simulated run, called again, gives the stored calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import livescope
from livescope.errors import RecordError, SettingsError
from livescope.frames import LossLedger
from livescope.reanalysis import reanalyse
from livescope.record.reader import open_record
from livescope.record.verify import verify
from livescope.record.writer import Recorder
from livescope.settings import DetectorSettings, Settings

SETTINGS = (
    "simulation.width=256",
    "simulation.height=256",
    "run.frames=12",
    "detector.every_frame=true",
    "detector.backend=onnx",
    "record.min_free_mb=0",
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.ome.zarr"
    with livescope.open_session(None, *SETTINGS, f"record.path={path}") as session:
        for _ in session.results():
            pass
    return path


def test_the_same_model_and_backend_give_the_same_bits(recorded: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    out = tmp_path / "calls.parquet"
    found = reanalyse(recorded, out, progress=lambda done, total: steps.append((done, total)))
    record = open_record(recorded)
    assert found.frames == len(record.analysed) == 12
    assert found.identical == found.same_counts == 12, found
    assert found.differing == ()
    assert found.same_model
    assert found.cells == len(record.calls) > 0
    assert steps[-1] == (12, 12)
    assert pq.read_table(out).equals(record.calls)


def two_cameras(recorded: Path, path: Path, called: tuple[int, ...], detector: DetectorSettings) -> Path:
    """Store a run's frames and some of their calls as of two cameras in turn, in two channels in turn."""
    record, settings = open_record(recorded), Settings(detector=detector)
    recorder = Recorder(
        path, settings.record, LossLedger(), run_settings=settings, on_error=lambda error: pytest.fail(str(error))
    )
    for k in range(12):
        frame = replace(record.frame(k), camera=("BF", "Fluo")[k % 2], channel=("A", "B")[k % 4 // 2])
        recorder.put(frame)
        if k in called:
            recorder.put_calls(frame, record.calls_of(frame.index))
    recorder.close()
    return path


@pytest.mark.parametrize(
    ("called", "detector", "expected"),
    [
        ((0, 4), {"camera": "BF"}, {0, 4, 8}),
        ((0, 4), {}, {0, 4, 8}),
        ((0, 3), {}, {0, 3, 4, 7, 8, 11}),
        ((), {"camera": "BF"}, {0, 2, 4, 6, 8, 10}),
        ((), {"channel": "B"}, {2, 3, 6, 7, 10, 11}),
    ],
)
def test_every_frame_leaves_out_the_camera_and_the_channel_that_the_run_did(
    recorded: Path, tmp_path: Path, called: tuple[int, ...], detector: dict[str, str], expected: set[int]
) -> None:
    path = two_cameras(recorded, tmp_path / "two.ome.zarr", called, DetectorSettings(backend="onnx", **detector))
    found = reanalyse(path, tmp_path / "calls.parquet", every_frame=True)
    assert found.frames == len(expected)
    assert set(pq.read_table(tmp_path / "calls.parquet")["frame"].to_pylist()) == expected


def test_other_thresholds_differ_and_it_says_where(recorded: Path, tmp_path: Path) -> None:
    detector = DetectorSettings(backend="onnx", uncertain=(0.0, 1.0))
    found = reanalyse(recorded, tmp_path / "calls.parquet", detector=detector)
    assert len(found.differing) == found.frames
    assert set(pq.read_table(tmp_path / "calls.parquet")["state"].to_pylist()) == {"uncertain"}


def test_refined_outlines_change_no_call(recorded: Path, tmp_path: Path) -> None:
    found = reanalyse(recorded, tmp_path / "calls.parquet", refined=True)
    assert found.identical == found.same_counts == 12, found
    refined, stored = pq.read_table(tmp_path / "calls.parquet"), open_record(recorded).calls
    assert refined["p_dead"].equals(stored["p_dead"])
    assert not refined["area_px"].equals(stored["area_px"])


def test_another_backend_gives_the_same_viability(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "calls.parquet"
    found = reanalyse(recorded, out, detector=DetectorSettings(backend="openvino", precision="fp32"))
    assert found.same_model
    assert found.same_counts == found.frames == 12, found  # so is the fraction, its interval and the curve
    stored, calls = open_record(recorded).calls, pq.read_table(out)
    assert calls["track"].equals(stored["track"])
    for name in ("p_dead", "p_cell", "y_px", "x_px"):
        np.testing.assert_allclose(calls[name].to_numpy(), stored[name].to_numpy(), rtol=1e-3, atol=1e-3)


def command(recorded: Path, *options: object) -> str:
    """Run `livescope analyze RECORD` in a process of its own; returns what it said."""
    words = [sys.executable, "-m", "livescope", "analyze", str(recorded), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(Path(livescope.__file__).parent.parent)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_gives_the_same_bits(recorded: Path) -> None:
    said = command(recorded)
    out = recorded.parent / "run.calls.parquet"
    assert "Of 12 frames that were called in the run 12 have the very same calls" in said
    assert "run.calls.parquet" in said
    assert pq.read_table(out).equals(open_record(recorded).calls)


def test_workers_give_the_same_bits(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "calls.parquet"
    assert "12 have the very same calls" in command(recorded, "--workers", 2, "--out", out)
    assert pq.read_table(out).equals(open_record(recorded).calls)


def test_a_scheduler_gives_the_same_bits(recorded: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    out = tmp_path / "calls.parquet"
    # a cluster in threads: one in processes would import the main module, which is pytest's
    with distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster:
        found = reanalyse(recorded, out, scheduler=cluster.scheduler_address)
    assert found.identical == 12, found
    assert pq.read_table(out).equals(open_record(recorded).calls)


def test_calls_as_csv(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "calls.csv"
    found = reanalyse(recorded, out)
    lines = out.read_text().splitlines()
    assert len(lines) == found.cells + 1
    assert lines[0].startswith('"image","t","frame"')
    assert lines[0].endswith('"radius_31_px"')


def test_identities_are_told_apart_from_calls(recorded: Path, tmp_path: Path) -> None:
    calls = open_record(recorded).calls
    copy = shutil.copytree(recorded, tmp_path / "copy.ome.zarr")
    shifted = calls.set_column(calls.column_names.index("track"), "track", pc.add(calls["track"], 1000))
    pq.write_table(shifted, copy / "calls.parquet")
    found = reanalyse(copy, tmp_path / "calls.parquet")
    assert (found.identical, found.only_identities, found.differing) == (0, 12, ())


def test_an_output_that_cannot_be_written_is_named(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        reanalyse(recorded, tmp_path / "file" / "calls.parquet")


def test_the_tables_of_a_record_are_never_replaced(recorded: Path) -> None:
    for name in ("calls.parquet", "mine/calls.parquet"):
        with pytest.raises(SettingsError, match=r"lies in the record .* Choose another path"):
            reanalyse(recorded, recorded / name)
    assert verify(recorded).ok
    assert not (recorded / "mine").exists()


def test_a_table_of_another_kind_is_refused(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"ends in \.parquet or \.csv"):
        reanalyse(recorded, tmp_path / "calls.xlsx")
