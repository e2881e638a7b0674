"""The space on the disk is known to the status, and a disk that does not answer holds up nobody."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from livescope.acquire.stream import LiveStream
from livescope.assay.viability import viability
from livescope.calls import Analysis
from livescope.messages import Messages
from livescope.recording import Recording
from livescope.respond.rules import Rules
from livescope.responding import Responder
from livescope.session import Session
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
