"""A recorded simulated run, called again, gives the stored calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import livescope
from livescope.errors import RecordError
from livescope.reanalysis import reanalyse
from livescope.record.reader import open_record
from livescope.settings import DetectorSettings

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


def test_other_thresholds_differ_and_it_says_where(recorded: Path, tmp_path: Path) -> None:
    detector = DetectorSettings(backend="onnx", uncertain=(0.0, 1.0))
    found = reanalyse(recorded, tmp_path / "calls.parquet", detector=detector)
    assert len(found.differing) == found.frames
    assert set(pq.read_table(tmp_path / "calls.parquet")["state"].to_pylist()) == {"uncertain"}


def test_workers_give_the_same_bits(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    code = (
        "import sys\nfrom pathlib import Path\nfrom livescope.reanalysis import reanalyse\n"
        "if __name__ == '__main__':\n    print(reanalyse(sys.argv[1], Path(sys.argv[2]), workers=2).identical)"
    )
    script = tmp_path / "script.py"  # a cluster starts processes that import the main module: not within pytest
    script.write_text(code)
    command = [sys.executable, str(script), str(recorded), str(tmp_path / "calls.parquet")]
    environment = {"PYTHONPATH": str(Path(livescope.__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "12", done.stderr


def test_an_output_that_cannot_be_written_is_named(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        reanalyse(recorded, tmp_path / "file" / "calls.parquet")
