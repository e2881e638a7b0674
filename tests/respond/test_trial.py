"""`livescope rules` and the counting of a record by its border rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorder_kit import recorder_at
from rich.console import Console
from typer.testing import CliRunner

from livescope.cli import app
from livescope.errors import RecordError, SettingsError
from livescope.record.reader import open_record
from livescope.respond.counts import counts_of
from livescope.respond.readings import readings_of_record
from livescope.respond.trial import try_rules
from livescope.track.testing import calls_at, frame_of

pytestmark = pytest.mark.timeout(600)  # records are written and figures drawn; machines may be busy

RULES = """
rules:
  - {name: drop, when: {metric: viability, below: 0.8, frames: 2}, do: [{action: stop}]}
  - {name: 'disk [/old]', when: {metric: disk_free_gb, below: 1}, do: [{action: stop}]}
  - {name: blurred, when: {metric: focus, below: 0.5}, do: [{action: snap, channel: Cy5}]}
"""


@pytest.fixture
def dying(tmp_path: Path) -> Path:
    """Ten frames a minute apart: ten cells, one more dead in each; the last frame is out of focus. Two cells touch a
    border, at the top and at the bottom."""
    path = tmp_path / "dying.ome.zarr"
    recorder = recorder_at(path)
    places = np.array([[0.0, 64.0], [127.0, 64.0], *([30.0 + 10 * k, 30.0 + 10 * k] for k in range(8))])
    sharp = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8)
    blurred = np.repeat(np.repeat(sharp[::16, ::16], 16, axis=0), 16, axis=1)
    for index in range(10):
        frame = frame_of(index, time_s=60.0 * index, pixels=blurred if index == 9 else sharp, pixel_um=0.65)
        calls = calls_at(places, p_dead=np.where(np.arange(10) < index, 0.9, 0.1), radius_px=5.0, frame_index=index)
        calls = replace(calls, edge=np.arange(10) < 2)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls)
        fates = {"declared": np.arange(10) < index, "arrived_dead": np.zeros(10, bool)}
        recorder.put_table("fates", {"frame": np.full(10, index), "track": np.arange(1, 11), **fates})
    recorder.close({})
    return path


def test_when_each_rule_would_have_fired(dying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    fired = try_rules(rules, dying, Console(width=200))
    assert [(firing.rule, firing.frame_index) for firing in fired] == [("drop", 4), ("blurred", 9)]
    said = capsys.readouterr().out
    assert "4.0 min" in said
    assert "viability < 0.8 (0.6) in 2 frames in a row, 10 cells" in said
    assert "never" in said
    assert "disk [/old]" in said
    assert "does not tell 'disk_free_gb'" in said
    with pytest.raises(SettingsError, match="cannot be read"):
        try_rules(tmp_path / "none.yaml", dying, Console())
    with pytest.raises(RecordError, match="not a livescope record"):
        try_rules(rules, tmp_path, Console())


def test_cells_at_the_border_count_by_rule(dying: Path) -> None:
    record = open_record(dying)
    assert counts_of(record)[1] == (9, 1, 0) == counts_of(record, "all")[1]
    # of the two at the border, the one at the top is dead in frame 1
    assert counts_of(record, "inside")[1] == (8, 0, 0)
    assert counts_of(record, "brick")[1] == (8, 1, 0)
    viability = [reading.values["viability"] for reading in readings_of_record(record, focus=False, border="brick")]
    assert viability[1] == pytest.approx(8 / 9)
    rates = {
        border: [
            reading.values["death_rate_per_h"] for reading in readings_of_record(record, focus=False, border=border)
        ]
        for border in ("all", "brick", "inside")
    }
    assert rates["all"][1] == pytest.approx(60 / 9.5)  # one dies in a minute, of ten to nine
    assert rates["brick"][1:] == rates["inside"][1:] == rates["all"][1:]


def test_the_shift_that_was_recorded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shifted.ome.zarr"
    recorder = recorder_at(path)
    for index in range(3):
        frame = frame_of(index)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls_at([[500, 500]], frame_index=index))
        recorder.put_table("shift", {"frame": [index], "distance": [0.5 * index]})
    recorder.close({})
    readings = readings_of_record(open_record(path), focus=False)
    assert [reading.values["shift"] for reading in readings] == [0.0, 0.5, 1.0]


def test_the_command(dying: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    result = CliRunner().invoke(app, ["rules", str(rules), str(dying)])
    assert result.exit_code == 0, result.output
    assert "dry run" in result.output
    assert "blurred" in result.output
