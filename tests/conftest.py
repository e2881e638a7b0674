"""Fixtures of all rooms: where real images lie, and what the project's root is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")  # a loaded machine is no failure

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real images; tests that need it are skipped, visibly, where it is absent."""
    folder = Path(os.environ.get("LIVESCOPE_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set LIVESCOPE_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def _plain_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores have signals that need no Qt, also after pymmcore-widgets was imported: it asks for Qt's from then on."""
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
