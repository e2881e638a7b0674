"""Python's garbage is collected in the thread of the windows, and nowhere else, while a window is open.

Owns the collector for that time. A window that was closed is part of a cycle, and the thread that happens to collect it
destroys its widgets: Qt ends the process when that is another thread than theirs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from qtpy.QtCore import QTimer

__all__ = ["collected_here"]

_EVERY_MS = 200


@contextmanager
def collected_here() -> Iterator[None]:
    """Collect garbage between two events of this thread's loop only. Wants a QApplication; a second one does nothing.

    What is there at the beginning, above all the imported modules, is left out until the end: a look at it takes longer
    than a picture may.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    gc.freeze()
    timer = QTimer()
    timer.timeout.connect(_collect)
    timer.start(_EVERY_MS)
    try:
        yield
    finally:
        timer.stop()
        gc.collect()
        gc.unfreeze()
        gc.enable()


def _collect() -> None:
    """Do what Python does by itself at these counts."""
    due = [count > most for count, most in zip(gc.get_count(), gc.get_threshold(), strict=True)]
    if due[0]:
        gc.collect(2 if due[1] and due[2] else int(due[1]))
