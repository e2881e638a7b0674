"""`livescope doctor`: says what is there, and for what is not, the next step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from livescope.doctor import engines, machine, microscope, run_doctor
from livescope.doctor.report import Check, Report, Verdict
from livescope.qt_libraries import ALWAYS, WINDOW, Library, apt_install, install_command, missing


def test_json_of_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_doctor(as_json=True, record=tmp_path / "run.ome.zarr")
    report = json.loads(capsys.readouterr().out)
    areas = {area: {check["name"]: check for check in checks} for area, checks in report["areas"].items()}
    failed = [check for checks in areas.values() for check in checks.values() if check["verdict"] == "fail"]
    assert failed == []
    assert code == report["exit_code"] == 0
    assert "mm-test-adapters" in areas["Micro-Manager"]["for the demo"]["found"]
    assert "DemoCamera" in areas["Micro-Manager"]["adapters (mm-test-adapters)"]["found"]
    assert "took a picture of 512 x 512" in areas["Micro-Manager"]["demo camera"]["found"]
    assert "ms a frame of 1024 x 1024" in areas["network"]["onnx"]["found"]
    assert {"openvino", "tensorrt"} <= set(areas["network"])
    absent = [check for check in areas["network"].values() if "not here (optional)" in check["found"]]
    assert absent  # CoreML or DirectML, everywhere
    assert all("detector.backend onnx" in c["next_step"] or "triton_url" in c["next_step"] for c in absent)
    assert not any("is not usable" in check["found"] for check in absent)
    assert {"model simulated", "model suspension"} <= set(areas["network"])
    assert f"speed of {tmp_path}" in areas["disk"]


def test_every_line_that_is_not_well_has_a_next_step() -> None:
    report = Report()
    report.gather("all", machine.window, engines.gpu, microscope.installations)
    checks = report.areas["all"]
    assert len(checks) > 5
    assert [check for check in checks if check.verdict is not Verdict.OK and not check.next_step] == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_a_display_that_does_not_answer_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":77")
    display = list(machine.window())[-1]
    assert (display.verdict, display.found) == (Verdict.WARNING, "none: nothing answers at DISPLAY=:77")
    assert "--headless" in display.next_step


def test_the_table_keeps_words_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.gather("window", lambda: [Check("Qt", Verdict.WARNING, "gone", 'pip install "livescope[viewer]"')])
    report.show(as_json=False)
    assert "livescope[viewer]" in capsys.readouterr().out


def test_a_failure_decides_the_exit_code_and_a_broken_check_is_a_line() -> None:
    def broken() -> list[Check]:
        raise OSError("no such device")

    report = Report()
    report.gather("a", lambda: [Check("x", Verdict.WARNING, "slow", "buy")])
    assert report.exit_code == 0
    report.gather("b", broken, lambda: [Check("y", Verdict.OK, "well")])
    assert report.exit_code == 1
    assert [check.name for check in report.areas["b"]] == ["b", "y"]
    assert "no such device" in report.areas["b"][0].found


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ((True, '{"runs": true, "said": "on CPU"}'), Verdict.OK),
        ((True, '{"runs": false, "said": "no such provider"}'), Verdict.FAIL),
        ((False, "ended with code -11"), Verdict.FAIL),
    ],
)
def test_only_the_backend_that_every_run_needs_can_fail(
    answer: tuple[bool, str], verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "probe", lambda code, timeout_s: answer)
    verdicts = {check.name: check.verdict for check in engines.backends()}
    assert verdicts.pop("onnx") is verdict
    assert "auto" not in verdicts
    assert Verdict.FAIL not in verdicts.values()


def test_a_backend_that_is_not_here_says_why() -> None:
    absent = {"win32": "coreml", "linux": "coreml", "darwin": "directml"}[sys.platform]
    answer = json.loads(engines.try_backend(absent))
    assert answer["runs"] is False
    assert "Provider" in answer["said"]


def test_a_backend_for_which_another_stands_in_does_not_run() -> None:
    answer = json.loads(engines.try_backend("triton"))  # no GPU server at its default address
    assert answer["runs"] is False
    assert answer["said"].startswith(("no GPU server answers", "backend 'triton' is not installed"))


def test_a_backend_that_only_warns_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine cache that cannot be written is no reason to call TensorRT absent."""
    from livescope.detect.onnx_runtime import OnnxDetector

    monkeypatch.setattr(OnnxDetector, "warnings", ("engine cache: cannot write",))
    assert json.loads(engines.try_backend("onnx"))["runs"] is True


def test_a_crash_of_a_probe_is_told_apart() -> None:
    assert machine.probe("print('first'); print('last')") == (True, "last")
    works, said = machine.probe("import no_such_module")
    assert not works
    assert "no_such_module" in said
    assert machine.probe("import os; os.abort()")[0] is False


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise on Windows")
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, megabytes: int) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine, "_write_speed_mb_s", refuse)  # root may write anywhere
    (check,) = machine.disk(tmp_path / "deep" / "run.ome.zarr")
    assert check.verdict is Verdict.FAIL
    assert check.name == str(tmp_path)
    assert "Permission denied" in check.found
    assert "record.path" in check.next_step


@pytest.mark.timeout(60)
def test_a_drive_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows sees ``Z:`` without a drive: no part of the path is a folder, and the drive is its own parent."""

    def missing(folder: str) -> object:
        raise FileNotFoundError(2, "The system cannot find the path specified", folder)

    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    monkeypatch.setattr(machine.psutil, "disk_usage", missing)
    (check,) = machine.disk(Path("/z/runs/day1.ome.zarr"))
    assert check.verdict is Verdict.FAIL
    assert check.name == Path("/z").absolute().anchor
    assert "cannot find the path" in check.found
    assert "another drive" in check.next_step


def test_a_folder_that_may_not_be_looked_into(locked_folder: Path) -> None:
    (check,) = machine.disk(locked_folder / "runs" / "day1.ome.zarr")
    assert check.verdict is Verdict.FAIL
    assert "Permission denied" in check.found


def test_a_slow_and_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_write_speed_mb_s", lambda folder, megabytes: 20.0)
    monkeypatch.setattr(machine.psutil, "disk_usage", lambda folder: type("usage", (), {"free": 2e9}))
    speed, space = machine.disk(tmp_path)
    assert (speed.verdict, space.verdict) == (Verdict.WARNING, Verdict.WARNING)
    assert "20 MB/s: 2 frames a second" in speed.found
    assert "2.0 GB: 0.1 minutes" in space.found


def test_the_binding_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymmcore_plus import _pymmcore

    monkeypatch.setattr(_pymmcore, "BACKEND", "pymmcore-nano")
    monkeypatch.setattr(_pymmcore, "__version__", "1.2.3.75")
    assert next(microscope.installations()).found.endswith(" on pymmcore-nano 1.2.3.75")


def test_no_micro_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        microscope, "describe_installation", lambda source: (None, "no usable Micro-Manager was found", [])
    )
    checks = list(microscope.installations())
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    assert [check.name for check in failed] == ["for your own cfg", "for the demo"]
    assert all("mmcore install" in check.next_step for check in failed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lacks Qt's libraries")
class TestQtLibraries:
    def test_a_library_that_is_not_there_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = Library("libnosuchthing.so.9", "libnosuchthing9")
        monkeypatch.setattr("livescope.qt_libraries.ALWAYS", (*ALWAYS, absent))
        assert missing(window=False) == [absent]

    @pytest.mark.parametrize(
        ("manager", "command"),
        [
            ("apt-get", "sudo apt-get install --yes libegl1 libgl1"),
            ("dnf", "sudo dnf install --assumeyes 'libEGL.so.1()(64bit)' 'libGL.so.1()(64bit)'"),
            ("pacman", "(your package manager): libEGL.so.1 libGL.so.1"),
        ],
    )
    def test_command_of_each_package_manager(self, manager: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == manager else None)
        assert install_command(ALWAYS[:2]) == command

    def test_only_root_installs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        said: list[str] = []
        assert apt_install(["libegl1"], said.append) is False
        assert said == []

    def test_no_library_twice(self) -> None:
        names = [library.soname for library in (*ALWAYS, *WINDOW)]
        assert len(set(names)) == len(names)
