"""A user's mistakes, through the command line: each one clear message and a telling exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from livescope import __version__
from livescope.cli import main
from livescope.settings import MonitorSettings, Settings

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def livescope_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; returns exit code and all that was printed, on one line."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["livescope", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), " ".join((printed.out + printed.err).split())

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of a small simulated run."""
    path = tmp_path / "small.yaml"
    path.write_text("source: {kind: simulated}\nsimulation: {width: 256, height: 256}\nrun: {frames: 3}\n")
    return path


def test_misspelt_setting(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("run", config, "--headless", "--set", "camera.exposur_ms=5")
    assert code == 2
    assert "camera.exposur_ms" in text
    assert "Did you mean 'exposure_ms'" in text


def test_value_out_of_range(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("run", config, "--headless", "--set", "camera.exposure_ms=-5")
    assert code == 2
    assert "camera.exposure_ms" in text
    assert "-5" in text


def test_setting_that_is_not_yaml(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("run", config, "--headless", "--set", "record.path=[day 1")
    assert code == 2
    assert "'[day 1' is not YAML" in text


@pytest.mark.parametrize("option", ["--summary", "--picture"])
@pytest.mark.parametrize("kind", ["a folder", "in a file"])
def test_what_cannot_be_written_is_told_before_the_run(
    livescope_command: Run, config: Path, tmp_path: Path, option: str, kind: str
) -> None:
    path = tmp_path if kind == "a folder" else config / "last"
    code, text = livescope_command("run", config, "--headless", option, path)
    assert code == 2
    assert f"{option} {str(path)!r} cannot be written" in text
    assert "frames" not in text


def test_demo_into_a_file(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("demo", "--headless", "--frames", 2, "--out", config)
    assert code == 2
    assert "cannot be written" in text
    assert "small.yaml" in text


def test_version(livescope_command: Run) -> None:
    assert livescope_command("--version") == (0, f"livescope {__version__}")


def test_missing_config(livescope_command: Run, tmp_path: Path) -> None:
    code, text = livescope_command("run", tmp_path / "no.yaml", "--headless")
    assert code == 2
    assert "no.yaml" in text
    assert "configs/" in text


def test_missing_cfg(livescope_command: Run, config: Path, tmp_path: Path) -> None:
    cfg = tmp_path / "missing.cfg"
    code, text = livescope_command(
        "run", config, "--headless", "--set", "source.kind=micromanager", "--set", f"source.cfg={cfg}"
    )
    assert code == 3
    assert "missing.cfg" in text
    assert "source.cfg" in text
    assert "livescope doctor" in text


def test_adapter_that_cannot_load(livescope_command: Run, config: Path, tmp_path: Path) -> None:
    cfg = tmp_path / "lab.cfg"
    cfg.write_text("Device,Camera,NoSuchAdapter,NoSuchCamera\nProperty,Core,Initialize,1\n")
    code, text = livescope_command(
        "run", config, "--headless", "--set", "source.kind=micromanager", "--set", f"source.cfg={cfg}"
    )
    assert code == 3
    assert "NoSuchAdapter" in text
    assert "livescope doctor" in text


def test_unknown_model_lists_the_bundled_ones(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("run", config, "--headless", "--set", "detector.model=simulatd")
    assert code == 5
    assert "simulatd" in text
    assert "'simulated'" in text
    assert "'suspension'" in text


def test_model_of_the_wrong_pixel_size(livescope_command: Run, config: Path) -> None:
    code, text = livescope_command("run", config, "--headless", "--set", "simulation.pixel_um=3.0")
    assert code == 5
    assert "pixel" in text
    assert "3" in text


@pytest.mark.parametrize("kind", ["a file in the way", "not there and not to be made"])
def test_unwritable_record_path(livescope_command: Run, config: Path, tmp_path: Path, kind: str) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("not a folder")
    record = blocker if kind == "a file in the way" else blocker / "run.ome.zarr"
    code, text = livescope_command("run", config, "--headless", "--set", f"record.path={record}")
    assert code == 6
    assert "blocker" in text


def test_an_existing_record_is_not_overwritten(livescope_command: Run, config: Path, tmp_path: Path) -> None:
    record = tmp_path / "run.ome.zarr"
    assert livescope_command("run", config, "--headless", "--set", f"record.path={record}")[0] == 0
    before = sorted(p.name for p in record.iterdir())
    code, text = livescope_command("run", config, "--headless", "--set", f"record.path={record}")
    assert code == 6
    assert "record.overwrite" in text
    assert sorted(p.name for p in record.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can lack a display")
def test_no_display(livescope_command: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    code, text = livescope_command("run", config)
    assert code == 7
    assert "--headless" in text


def test_replay_of_nothing(livescope_command: Run, config: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code, text = livescope_command(
        "run", config, "--headless", "--set", "source.kind=replay", "--set", f"source.path={empty}"
    )
    assert code == 3
    assert "empty" in text


def test_analyze_into_an_unknown_kind_of_file(livescope_command: Run, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    imsave(image, np.full((64, 64), 100, np.uint8), check_contrast=False)
    code, text = livescope_command("analyze", image, "--model", "suspension", "--out", tmp_path / "calls.xlsx")
    assert code == 2
    assert ".xlsx" in text
    assert ".parquet" in text


def test_analyze_into_a_place_that_cannot_be_written_reads_no_image(livescope_command: Run, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"not read")
    code, text = livescope_command("analyze", image, "--model", "suspension", "--out", image / "calls.parquet")
    assert code == 2
    assert "calls.parquet' cannot be written" in text


def test_a_warning_of_stored_images_names_the_image(livescope_command: Run, tmp_path: Path) -> None:
    day = tmp_path / "day"
    day.mkdir()
    light = np.random.default_rng(0).normal(110, 4, (128, 128)).clip(0, 255).astype(np.uint8)
    burnt = light.copy()
    burnt[:60] = 255
    for name, picture in (("a_fine", light), ("b_burnt", burnt)):
        imsave(day / f"{name}.png", picture, check_contrast=False)
    code, text = livescope_command(
        "analyze", day, "--model", "suspension", "--set", "detector.backend=onnx", "--out", tmp_path / "c.csv"
    )
    assert code == 0
    assert "b_burnt.png: 47% of the pixels" in text
    assert "a_fine.png: no cell was found" in text


def test_a_pixel_size_in_nanometres_is_refused(livescope_command: Run, tmp_path: Path) -> None:
    code, text = livescope_command(
        "analyze", tmp_path, "--model", "suspension", "--pixel-um", "650", "--out", tmp_path / "c.csv"
    )
    assert code == 2
    assert "--pixel-um" in text


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("detector.border=inside", "Use `livescope report RECORD --border` instead"),
        ("detector.model=adherent", "Use --model instead"),
        ("record.path=a.ome.zarr", "Leave it out"),
    ],
)
def test_settings_that_change_no_call_are_refused(
    livescope_command: Run, tmp_path: Path, override: str, instead: str
) -> None:
    code, text = livescope_command(
        "analyze", tmp_path, "--model", "suspension", "--out", tmp_path / "c.csv", "--set", override
    )
    assert code == 2
    assert f"--set {override.split('=')[0]} changes no call of stored images; analyze takes 'detector.p_cell'" in text
    assert instead in text


def test_images_need_a_model_and_a_table(livescope_command: Run, tmp_path: Path) -> None:
    code, text = livescope_command("analyze", tmp_path)
    assert code == 2
    assert "is no record, so --model and --out must be given" in text
    code, text = livescope_command("analyze", tmp_path / "no.ome.zarr")
    assert code == 3
    assert "no.ome.zarr' does not exist" in text
    code, text = livescope_command("analyze", tmp_path, "--workers", 2)
    assert code == 2
    assert "--workers, --scheduler and --every-frame are for records" in text


def test_export_of_what_is_no_record(livescope_command: Run, tmp_path: Path) -> None:
    code, text = livescope_command("export", tmp_path, "--to", "csv")
    assert code == 6
    assert "is not a livescope record" in text
    code, text = livescope_command("export", tmp_path, "--to", "xls")
    assert code == 2
    assert "'gif'" in text


def test_what_the_disk_refuses_is_one_line(livescope_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", "/lab/images [old]")

    monkeypatch.setattr("livescope.stored.analyze", refused)
    code, text = livescope_command("analyze", "/lab/images [old]")
    assert code == 1
    assert text == "error '/lab/images [old]': Permission denied."


def test_the_monitors_port_leaves_its_address_and_token(
    livescope_command: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with config.open("a") as file:
        file.write("view: {monitor: {address: 0.0.0.0, token: 0123456789abcdef}}\n")
    seen: list[Settings] = []
    monkeypatch.setattr("livescope.commands.run", lambda settings, *_, **__: seen.append(settings) or 0)
    livescope_command("run", config, "--monitor", 18182)
    monitor = MonitorSettings(port=18182, address="0.0.0.0", token="0123456789abcdef")
    assert [settings.view.monitor for settings in seen] == [monitor]
