"""The space on the disk is known to the status, and a disk that is full, gone or does not answer holds up nobody."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import Future
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from livescope.acquire.stream import LiveStream
from livescope.assay.viability import viability
from livescope.calls import Analysis
from livescope.messages import Messages
from livescope.record.images import Images
from livescope.record.table import TableStream
from livescope.recording import Recording
from livescope.respond.rules import Rules
from livescope.responding import Responder
from livescope.session import Session, SessionState
from livescope.settings import load_settings
from livescope.track.testing import calls_at, frame_of


def test_the_status_tells_the_space_on_the_disk() -> None:
    with Session(load_settings(None)) as session:
        while (free := session.status().disk_free_bytes) is None:
            time.sleep(0.005)
    assert 0 < free <= shutil.disk_usage(".").total


def test_a_disk_that_hangs_does_not_hold_up_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang(path: object) -> Any:
        asked.set()
        answer.wait(60)
        raise OSError("the share is gone")

    monkeypatch.setattr(shutil, "disk_usage", hang)
    with Session(load_settings(None)) as session:
        session.status()
        assert asked.wait(60)
        assert session.status().disk_free_bytes is None  # comes back although the disk has not answered
        answer.set()


def test_a_disk_that_hangs_does_not_hold_up_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked on the detector's thread; once the disk has answered, they know."""
    asked, answer = threading.Event(), threading.Event()

    def late(path: object) -> Any:
        asked.set()
        answer.wait(60)
        return SimpleNamespace(free=10**9)

    monkeypatch.setattr(shutil, "disk_usage", late)
    when = {"metric": "disk_free_gb", "below": 2}
    rules = Rules.model_validate({"rules": [{"name": "full", "when": when, "do": [{"action": "stop"}]}]})
    stopped = threading.Event()
    responder = Responder(
        rules,
        cast(LiveStream, None),  # nothing is asked of the microscope
        Recording(lambda error: pytest.fail(str(error))),
        Messages(),
        ask=lambda what, do: Future(),
        end=lambda reason: stopped.set(),
        allow_actions=False,
    )
    calls = calls_at([[50, 50]])
    began = time.monotonic()
    responder(Analysis(frame_of(0), calls, viability(calls)))
    assert time.monotonic() - began < 30
    assert asked.wait(60)
    assert not stopped.is_set()
    answer.set()
    for index in range(1, 6000):
        responder(Analysis(frame_of(index), calls, viability(calls)))
        if stopped.wait(0.01):
            break
    responder.close()
    assert [outcome["reason"] for outcome in responder.outcomes] == ["disk_free_gb < 2 (1), 1 cells"]


class Drive(PureWindowsPath):
    """A path on a drive of Windows that has been unplugged: its root is its own parent, and not there."""

    asked = 0

    def absolute(self) -> Self:
        return self

    def exists(self) -> bool:
        Drive.asked += 1
        assert Drive.asked < 100, "asks for ever"
        return False


def test_a_drive_that_is_gone_is_looked_for_up_to_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(print)
    recording.path = Drive(r"Z:\runs\day1.ome.zarr")  # type: ignore[assignment]
    with pytest.raises(FileNotFoundError):
        recording.disk_free_bytes()
    recording._disk_free = 1_000
    recording._ask_disk()
    assert recording.disk_free_lately() is None, "what was known of it is no longer true"


def full_disk(*_: object) -> Any:
    raise OSError(28, "No space left on device")


def test_a_full_disk_ends_a_run_that_is_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Images, "pyramid", full_disk)
    path = f"record.path={tmp_path / 'run.ome.zarr'}"
    small = ["simulation.width=128", "simulation.height=128", "record.min_free_mb=0", path]
    with Session(load_settings(None, [*small, "record.when_full=stop"])) as session:  # a run without an end
        session.start().result()
        assert session.wait(100)
        status = session.status()
    assert status.state is SessionState.IDLE
    assert status.reason == "frames are lost on the way to the disk and record.when_full is 'stop'"
    assert status.recorded + status.lost["recorder"] == status.delivered > 0
    assert "the disk is full" in status.errors[0]
    with Session(load_settings(None, [*small, "record.overwrite=true", "run.frames=5"])) as session:
        session.start().result()
        assert session.wait(100)
        assert (session.status().reason, session.status().lost["recorder"]) == (None, 5)


def test_calls_are_shown_and_rules_act_while_a_full_disk_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TableStream, "append", full_disk)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{name: late, when: {metric: elapsed_h, above: 0.05}, do: [{action: stop}]}]")
    path, told = f"record.path={tmp_path / 'run.ome.zarr'}", f"run.rules={rules}"
    small = ["source.kind=simulated", "simulation.width=128", "simulation.height=128", "record.min_free_mb=0"]
    with Session(load_settings(None, [*small, path, told, "run.frames=2000"])) as session:
        session.start().result()
        assert session.wait(100)
        status = session.status()
    assert status.reason is not None
    assert "late" in status.reason
    assert status.analysed > 0
    assert status.delivered < 2000
    assert any("'fates'" in error and "No space left" in error for error in status.errors)
