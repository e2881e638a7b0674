"""The window with the other Qt binding: some tests of this folder again, in a process that loads PyQt6."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHOSEN = ("test_window.py", "test_correcting.py", "test_map.py")


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("QT_API") == "pyqt6", reason="all tests of the window run with PyQt6 already")
def test_the_window_works_with_pyqt6(run_with_alternative: Callable[..., None]) -> None:
    run_with_alternative("pyqt6", [HERE / name for name in CHOSEN], "-o", "qt_api=pyqt6", QT_API="pyqt6")
