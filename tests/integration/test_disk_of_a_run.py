"""The space on the disk is known to the status, and a disk that does not answer holds up nobody."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Any

import pytest

from livescope.session import Session
from livescope.settings import load_settings


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
