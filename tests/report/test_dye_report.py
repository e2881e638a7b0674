"""The report's sections on dye, rules and border, and the command that writes them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder_kit import recorder_at
from typer.testing import CliRunner

pytest.importorskip("matplotlib", reason="reports need matplotlib: pip install livescope[assay]")

from livescope.assay.stain import stained_states
from livescope.calls import State
from livescope.cli import app
from livescope.errors import AssayError, SettingsError
from livescope.frames import ASIDE, CULTURE_MINUTES, REASON
from livescope.record.reader import open_record
from livescope.report.command import report_runs
from livescope.report.dye import dye_section, gather_dye
from livescope.report.gather import gather
from livescope.track.testing import calls_at, frame_of

pytestmark = pytest.mark.timeout(600)  # records are written and figures drawn; machines may be busy

PLACES = np.stack(np.meshgrid(np.arange(20, 240, 30.0), np.arange(20, 240, 30.0)), axis=-1).reshape(-1, 2)


def dye_picture(stained: np.ndarray, brightness: float = 400.0) -> np.ndarray:
    """Dim background with noise, and a bright nucleus of 3 px radius in each stained cell."""
    rng = np.random.default_rng(0)
    picture = rng.normal(100, 3, (256, 256))
    y, x = np.indices(picture.shape)
    for row, column in PLACES[stained]:
        picture[(y - row) ** 2 + (x - column) ** 2 < 9] += brightness
    return picture.astype(np.uint16)


def test_what_a_dye_says_of_a_cell() -> None:
    stained = np.arange(64) % 3 == 0
    calls = calls_at(PLACES, radius_px=8.0)
    said = stained_states(dye_picture(stained), calls)
    assert set(said[stained]) == {State.DEAD}
    assert set(said[~stained]) == {State.LIVE}
    faint = stained_states(dye_picture(stained, 70.0), calls)
    assert set(faint[stained]) == {State.UNCERTAIN}
    assert stained_states(dye_picture(stained), calls_at(np.empty((0, 2)))).shape == (0,)


@pytest.mark.parametrize("background", [1.0, 3.0, 10.0])
def test_noise_is_no_stain(background: float) -> None:
    """A dim picture of few counts: the brightest third of noise alone is far above its median."""
    stained, rng = np.arange(64) % 3 == 0, np.random.default_rng(4)
    expected = np.full((256, 256), background)
    y, x = np.indices(expected.shape)
    for row, column in PLACES[stained]:
        expected[(y - row) ** 2 + (x - column) ** 2 < 9] += 10 * background
    said = stained_states(rng.poisson(expected).astype(np.uint8), calls_at(PLACES, radius_px=8.0))
    assert np.mean(said[~stained] == State.DEAD) <= 0.1
    assert np.mean(said[~stained] == State.LIVE) >= 0.7
    assert np.mean(said[stained] == State.DEAD) >= 0.9


@pytest.mark.parametrize("level", [0, 255])
def test_a_blank_or_saturated_picture_says_nothing(level: int) -> None:
    said = stained_states(np.full((256, 256), level, np.uint8), calls_at(PLACES, radius_px=8.0))
    assert set(said) == {State.UNCERTAIN}


@pytest.fixture(scope="module")
def dyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four called frames, two simulated hours apart, each followed by the dye; the model calls 4 dead cells live."""
    path = tmp_path_factory.mktemp("dyed") / "dyed.ome.zarr"
    recorder = recorder_at(path)
    ledger: list[dict[str, Any]] = []
    for k, n_dead in enumerate((8, 16, 24, 40)):
        told = {CULTURE_MINUTES: str(120 * k)}
        pixels = np.full((256, 256), 100, np.uint16)
        frame = frame_of(2 * k, pixels=pixels, bit_depth=12, position="A1", metadata=told, pixel_um=0.65)
        calls = calls_at(
            PLACES, p_dead=np.where(np.arange(64) < n_dead - 4, 0.9, 0.1), radius_px=8.0, frame_index=2 * k
        )
        assert recorder.put(frame)
        recorder.put_calls(frame, calls)
        recorder.put_table("shift", {"frame": [2 * k], "distance": [0.2 + 0.4 * k]})
        why = {ASIDE: "channel Cy5", REASON: "drop: viability < 0.8 (0.7), 64 cells"}
        dye = replace(frame, index=2 * k + 1, pixels=dye_picture(np.arange(64) < n_dead), channel="Cy5")
        assert recorder.put(replace(dye, metadata=told | why))
        ledger.append({"frame": 2 * k, "position": "A1", "rule": "drop", "reason": "viability < 0.8", "action": "snap"})
    fired = [
        {**one, "ok": k > 0, "message": "the wheel is stuck" if k == 0 else "done"} for k, one in enumerate(ledger)
    ]
    recorder.close({"rules": {"rules": []}, "firings": fired})
    return path


def test_model_and_dye_are_compared_cell_by_cell_and_field_by_field(dyed: Path) -> None:
    found = gather_dye(open_record(dyed), None, "all")
    assert (found.channel, found.frames, found.called_frames) == ("Cy5", [1, 3, 5, 7], [0, 2, 4, 6])
    model, dye = np.concatenate(found.model), np.concatenate(found.dye)
    assert [(int((model == a).sum()), int((dye == a).sum())) for a in (State.LIVE, State.DEAD)] == [
        (184, 168),
        (72, 88),
    ]
    text = re.sub("<[^>]+>", " ", dye_section(found))
    assert "bias +0.062 (+0.062 to +0.062)" in text
    assert "live by the dye, called live  1.000" in text.replace("   ", "  ")
    assert "0.818" in text  # 72 of the 88 dead
    assert "drop: viability &lt; 0.8 (0.7), 64 cells" in text


def test_what_cannot_be_compared_says_why(dyed: Path) -> None:
    with pytest.raises(AssayError, match=r"no frame of channel 'DAPI'.*not called: Cy5"):
        dye_section(gather_dye(open_record(dyed), "DAPI", "all"))
    found = gather_dye(open_record(dyed), None, "all")
    found.channel, found.channels = None, ("Cy5", "DAPI")
    with pytest.raises(AssayError, match=r"several channels were not called.*--dye"):
        dye_section(found)


def test_a_dye_that_is_not_there_is_told(dyed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_runs([dyed], dye="DAPI", out=tmp_path / "page.html") == 0
    assert "nothing was compared with channel 'DAPI'" in " ".join(capsys.readouterr().out.split())


def test_a_called_channel_is_no_dye_where_frames_of_it_were_left_out(tmp_path: Path) -> None:
    """Bright-field that the detector did not keep up with was taken for the dye, or made a dye need naming."""
    for name, dyes in (("bare", ()), ("dyed", ("Cy5",))):
        recorder = recorder_at(tmp_path / f"{name}.ome.zarr")
        for index, channel in enumerate(("BF", *dyes, "BF", *dyes)):
            frame = frame_of(index, pixels=np.full((256, 256), 100, np.uint16), channel=channel)
            assert recorder.put(frame)
            if index == 0:
                recorder.put_calls(frame, calls_at(PLACES, radius_px=8.0))
        recorder.close({})
        found = gather_dye(open_record(tmp_path / f"{name}.ome.zarr"), None, "all")
        assert found.channels == dyes
        assert found.channel == (dyes[0] if dyes else None)


def test_the_dye_is_held_against_calls_of_its_own_place(tmp_path: Path) -> None:
    """Unnamed places: the dye was taken shortly after the stage had moved, long before the next called frame."""
    recorder = recorder_at(tmp_path / "moved.ome.zarr")
    for index, (time_s, x_um, channel) in enumerate([(0.0, 0.0, "BF"), (3.0, 500.0, "Cy5"), (10.0, 500.4, "BF")]):
        pixels = np.full((256, 256), 100, np.uint16)
        frame = frame_of(index, time_s=time_s, pixels=pixels, x_um=x_um, y_um=0.0, channel=channel)
        assert recorder.put(frame)
        if channel == "BF":
            recorder.put_calls(frame, calls_at(PLACES, radius_px=8.0, frame_index=index))
    recorder.close({})
    assert gather_dye(open_record(tmp_path / "moved.ome.zarr"), None, "all").called_frames == [2]


def test_page_tells_of_dye_rules_border_and_simulated_time(dyed: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert report_runs([dyed], border="brick", out=page) == 0
    text = re.sub("<[^>]+>", " ", page.read_text(encoding="utf-8"))
    for words in (
        "of the simulated culture, not of the clock",
        "those at the bottom and right do not",
        "1 of 4 analysed frames lay beyond 1, the farthest at 1.40",
        "Against the dye",
        "Lin&#x27;s concordance",
        "failed: the wheel is stuck",
    ):
        assert words in text, words
    run = gather(dyed)
    assert run.simulated
    assert run.hours == pytest.approx(6.0)
    assert [row["n_dead"] for row in run.frame_rows] == [4, 12, 20, 36]


def test_one_page_each_or_one_for_all(dyed: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two records or more"):
        report_runs([dyed], compare=True)
    with pytest.raises(SettingsError, match="a page each"):
        report_runs([dyed, dyed], out=tmp_path / "x.html")
    with pytest.raises(SettingsError, match=r"x.pdf' must end in .html"):
        report_runs([dyed], out=tmp_path / "x.pdf")
    again = shutil.copytree(dyed, tmp_path / "again" / dyed.name)
    both = ["report", str(dyed), str(again), "--compare", "--out", str(tmp_path / "both.html")]
    result = CliRunner().invoke(app, both)
    assert result.exit_code == 0, result.output
    assert "2 runs compared" in (tmp_path / "both.html").read_text(encoding="utf-8")
