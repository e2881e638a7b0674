"""Fixtures of all rooms: where real images lie, and what the project's root is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")  # a loaded machine is no failure

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # recorder_kit


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


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that the user of this test may not look into; root may everything, so root is nobody for a while."""
    if sys.platform == "win32":
        pytest.skip("permissions work otherwise on Windows")
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are below one that only root may look into
        Path(folder).chmod(0o000)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o700)


@pytest.fixture(autouse=True)
def _plain_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores have signals that need no Qt, also after pymmcore-widgets was imported: it asks for Qt's from then on."""
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")


@pytest.fixture(scope="session")
def run_with_alternative() -> Callable[..., None]:
    """Runs test files again with a package that stands in for another, as tools/test.py has laid it aside."""

    def run(name: str, files: Sequence[Path], *options: str, **environment: str) -> None:
        folder = Path(sys.prefix) / "alternatives" / name
        if not folder.is_dir():
            pytest.skip(f"no {folder}; tools/test.py makes it")
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *map(str, files)],
            env={**os.environ, "PYTHONPATH": path, "QT_QPA_PLATFORM": "offscreen", **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=850,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]

    return run
