"""`livescope engine` as a function: plans ahead of time and the 8-bit version of a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from livescope.detect.bundle import load_bundle
from livescope.engine import build_engine, export_triton, frame_spec, make_int8
from livescope.errors import FrameError, ModelError, SettingsError

CONSOLE = Console(quiet=True)


def test_a_shape_is_rows_by_columns() -> None:
    assert frame_spec("1024x2048", "uint16", 0.65).shape == (1024, 2048)
    for wrong in ("1024", "axb", "10x", "10x10x10", "-1x5"):
        with pytest.raises(SettingsError, match=r"is not ROWSxCOLUMNS, e\.g\. 2048x2048"):
            frame_spec(wrong, "uint16", None)
    with pytest.raises(SettingsError, match="side of 99999999 pixels; at most 16384"):
        frame_spec("64x99999999", "uint16", None)
    with pytest.raises(FrameError, match="'float32' is not supported"):
        frame_spec("10x10", "float32", None)


def test_a_plan_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'livescope[tensorrt-rtx]'", exc_type=ImportError)
    out = tmp_path / "plans" / "a.plan"
    build_engine("simulated", frame_spec("64x96", "uint8", 1.3), "fp16", "tensorrt-rtx", 64, out, CONSOLE)
    assert out.stat().st_size > 100_000
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        build_engine(
            "simulated", frame_spec("64x96", "uint8", 1.3), "fp16", "tensorrt-rtx", 64, tmp_path / "file" / "x", CONSOLE
        )


def test_a_model_repository_is_written(tmp_path: Path) -> None:
    folder = export_triton("simulated", frame_spec("64x96", "uint8", 1.3), "fp32", 64, tmp_path / "models", CONSOLE)
    assert (folder / "1" / "model.onnx").stat().st_size > 100_000
    assert f'name: "{folder.name}"' in (folder / "config.pbtxt").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--triton .* cannot be written"):
        export_triton("simulated", frame_spec("64x96", "uint8", 1.3), "fp32", 64, tmp_path / "file", CONSOLE)


def test_the_command_wants_something_to_write() -> None:
    from typer.testing import CliRunner

    from livescope.cli import app

    result = CliRunner().invoke(app, ["engine", "simulated", "--shape", "64x64"])
    assert isinstance(result.exception, SettingsError)
    assert "give --out PLAN, or --triton REPOSITORY" in str(result.exception)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Frames of the simulated microscope as TIFF files."""
    from livescope.acquire.core import close_core
    from livescope.settings import CameraSettings, SimulationSettings
    from livescope.simulate.camera import open_simulated_core

    folder = tmp_path / "frames"
    folder.mkdir()
    for seed in range(4):
        core = open_simulated_core(SimulationSettings(seed=seed, width=512, height=512), CameraSettings())
        core.snapImage()
        Image.fromarray(np.asarray(core.getImage())).save(folder / f"{seed}.tif")
        close_core(core)
    return folder


def test_an_eight_bit_version_is_made_judged_and_usable(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine" / "simulated.onnx"
    bundle = make_int8("simulated", frames, 0.65, out, CONSOLE)
    gate = bundle.card.int8
    assert gate is not None
    assert gate.n_cells >= 50
    assert gate.frames == "4 frames of frames"
    assert gate.passed == (gate.f1 >= 0.98 and gate.same_state >= 0.98 and gate.viability_shift <= 0.01)
    assert gate.f1 > 0.9
    loaded = load_bundle(out)
    if gate.passed:
        assert loaded.int8_path().stat().st_size < 0.5 * out.stat().st_size
    else:
        with pytest.raises(ModelError, match="did not pass its gate"):
            loaded.int8_path()
    plain = load_bundle("simulated").onnx_path
    for suffix in (".onnx", ".seen.txt"):
        assert plain.with_suffix(suffix).read_bytes() == out.with_suffix(suffix).read_bytes()
    again = tmp_path / "again" / "simulated.onnx"
    monkeypatch.setattr("livescope.quantise.LEAST_CELLS", 10_000)
    with pytest.raises(ModelError, match="it takes 10000"):
        make_int8("simulated", frames, 0.65, again, CONSOLE)
    assert list(again.parent.iterdir()) == []  # not half a bundle


def test_an_eight_bit_version_that_does_not_agree_does_not_pass(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from livescope import quantise
    from livescope.acquire.files import iter_frames
    from livescope.detect.network import read_network
    from livescope.settings import CameraSettings

    bundle = load_bundle("simulated")
    other = read_network(load_bundle("suspension"))  # as far off as can be
    some = [frame for _, frame in iter_frames(frames, CameraSettings(pixel_um=0.65))]
    assert not quantise.judge(bundle, other, some, "frames").passed
    assert quantise.judge(bundle, read_network(bundle), some, "frames").passed
    monkeypatch.setattr(quantise, "LEAST_CELLS", 10_000)
    with pytest.raises(ModelError, match="it takes 10000"):
        quantise.judge(bundle, other, some, "frames")


def test_an_eight_bit_version_needs_a_bundle_to_write(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be a new file NAME\.onnx"):
        make_int8("simulated", frames, 0.65, tmp_path / "plan", CONSOLE)
    own = copied("simulated", tmp_path / "own.onnx")
    again = own.parent / "sub" / ".." / own.name
    own_card = own.with_suffix(".card.yaml").read_bytes()
    with pytest.raises(SettingsError, match=r"must be a new file NAME\.onnx; a bundle is never changed in place"):
        make_int8(str(own), frames, 0.65, again, CONSOLE)
    assert own.with_suffix(".card.yaml").read_bytes() == own_card


def copied(model: str, path: Path) -> Path:
    """Copy network and card of a bundle, nothing else."""
    for suffix in (".onnx", ".card.yaml"):
        shutil.copyfile(load_bundle(model).onnx_path.with_suffix(suffix), path.with_suffix(suffix))
    return path


def test_an_eight_bit_version_does_not_take_over_what_another_model_has_seen(frames: Path, tmp_path: Path) -> None:
    out = copied("suspension", tmp_path / "out.onnx")
    out.with_suffix(".seen.txt").write_text("pictures of the old one")
    make_int8(str(copied("simulated", tmp_path / "bare.onnx")), frames, 0.65, out, CONSOLE)
    assert load_bundle(out).name == "simulated"
    assert not out.with_suffix(".seen.txt").exists()
