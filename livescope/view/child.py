"""A process of livescope's own beside a window: for work that must hold up neither the window nor a microscope.

Owns how such a process is started and ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment

import livescope

__all__ = ["end_child", "last_words", "start_child"]

_KILL_MS = 5000


def start_child(parent: QObject, arguments: Sequence[str], ended: Callable[[int], None]) -> Any:
    """Start `python -m ...` and return its QProcess.

    Parameters
    ----------
    parent
        Owns the process.
    arguments
        Behind ``-m``.
    ended
        Called with the exit code; -1 if it could not be started or was killed.
    """
    process = QProcess(parent)
    environment = QProcessEnvironment.systemEnvironment()
    paths = [str(Path(livescope.__file__).parent.parent), environment.value("PYTHONPATH")]
    environment.insert("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # also where livescope is not installed
    process.setProcessEnvironment(environment)

    def finish(code: int, status: Any) -> None:
        ended(code if status == QProcess.ExitStatus.NormalExit else -1)

    def fail(error: Any) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            ended(-1)

    process.finished.connect(finish)
    process.errorOccurred.connect(fail)
    process.start(sys.executable, ["-m", *arguments])
    return process


def end_child(process: Any) -> None:
    """Kill a process and wait until it is gone; `ended` is not called."""
    process.finished.disconnect()
    process.errorOccurred.disconnect()
    process.kill()
    process.waitForFinished(_KILL_MS)
    process.deleteLater()


def last_words(process: Any) -> str:
    """Return the last line that a process wrote on stderr, or why it could not start."""
    lines = bytes(process.readAllStandardError()).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else str(process.errorString())
