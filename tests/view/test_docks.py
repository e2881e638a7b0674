"""Device docks on the demo microscope, with the network cut."""

from __future__ import annotations

import logging
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import pytest

from livescope.acquire.core import close_core, open_core
from livescope.settings import CameraSettings, SourceSettings
from livescope.view.docks import DOCKS
from livescope.view.icons import svg_path
from livescope.view.window import MainWindow


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for something")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def core() -> Iterator[Any]:
    core = open_core(SourceSettings(kind="demo"), CameraSettings())
    yield core
    close_core(core)


@pytest.fixture
def window(qtbot: Any, scripted: Any, core: Any) -> Iterator[MainWindow]:
    scripted.core = core
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    yield window
    window.close()


@pytest.mark.usefixtures("no_network")
def test_every_dock_opens_offline_with_all_icons(
    qtbot: Any, window: MainWindow, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "livescope.view.icons"):
        for name in DOCKS:
            window.toggle_dock(name)
            qtbot.wait(1)
    assert window.errors == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("livescope")] == []
    assert window.canvas.width() >= window.canvas.minimumWidth()


def test_docks_are_made_once_and_toggled(qtbot: Any, window: MainWindow) -> None:
    window.toggle_dock("Stage")
    dock = window.docks.toggle("Stage")
    assert not dock.isVisible()
    assert window.docks.toggle("Stage") is dock
    assert dock.isVisible()


def test_moving_the_stage_moves_it(qtbot: Any, window: MainWindow, core: Any) -> None:
    window.toggle_dock("Presets")
    window.toggle_dock("Objective")
    core.setXYPosition(12.0, -7.0)
    core.waitForSystem()
    assert list(core.getXYPosition()) == pytest.approx([12, -7], abs=0.1)
    assert window.errors == []


def test_without_a_core_the_user_is_told(window: MainWindow, scripted: Any) -> None:
    scripted.core = None
    window.toggle_dock("Stage")
    assert window.message == "Stage: press Start or Snap first"
    scripted.core = object()
    window.toggle_dock("Stage")
    assert window.message == "Stage: this source has no devices"


@pytest.mark.parametrize("turned", [{}, {"rotate": 90}, {"flip": "horizontal"}, {"rotate": 1, "flip": "vertical"}])
def test_icons_are_well_formed_and_coloured(turned: dict[str, Any]) -> None:
    text = svg_path("mdi:help-circle", color="#123456", **turned).read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "currentColor" not in text


def test_an_unknown_icon_is_told_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    assert svg_path("mdi", "no-such-icon").exists()
    assert "mdi:no-such-icon" in caplog.text
