"""Ctrl-C and SIGTERM while a window is open: it closes as if by hand, and the run ends cleanly.

Owns the two signals as long as the event loop runs. Without this Qt's loop, which is not Python, never lets a handler
run to its end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

__all__ = ["interruptible"]

_WAKE_MS = 100
"""Python runs handlers only between two of its own instructions: a timer sees to it that there are some."""


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Close all windows at SIGINT and SIGTERM; at the second, end the loop at once. Main thread only.

    Yields
    ------
    list of int
        Exit codes of the signals that came: 130 for Ctrl-C, 143 for SIGTERM, as shells count.
    """
    codes: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        codes.append(128 + number)
        first = len(codes) == 1
        # not from here: the handler may run in the middle of a paint event
        QTimer.singleShot(0, QApplication.closeAllWindows if first else lambda: QApplication.exit(codes[0]))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    wake = QTimer()
    wake.timeout.connect(lambda: None)
    wake.start(_WAKE_MS)
    try:
        yield codes
    finally:
        wake.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
