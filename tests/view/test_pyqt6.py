"""The window with the other Qt binding: some tests of this folder again, in a process that loads PyQt6."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHOSEN = ("test_window.py", "test_correcting.py", "test_map.py")


@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("PyQt6") is None, reason="PyQt6 is not installed")
@pytest.mark.skipif(os.environ.get("QT_API") == "pyqt6", reason="all tests of the window run with PyQt6 already")
def test_the_window_works_with_pyqt6() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "qt_api=pyqt6"]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in CHOSEN)],
        env={**os.environ, "QT_API": "pyqt6", "QT_QPA_PLATFORM": "offscreen"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
