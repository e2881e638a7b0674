"""The garbage collector while a window is open."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

from livescope.view.garbage import collected_here


class Knot:
    """A cycle, as every window is part of one."""

    def __init__(self) -> None:
        self.myself = self


def test_no_other_thread_collects_what_a_window_leaves(qtbot: Any) -> None:
    collected: list[int] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(threading.get_ident())

    def make_much() -> None:
        for _ in range(100_000):
            Knot()

    gc.callbacks.append(note)
    try:
        with collected_here(), collected_here():
            assert not gc.isenabled()
            gone = weakref.ref(Knot())
            worker = threading.Thread(target=make_much)
            worker.start()
            worker.join()
            assert collected == []
            qtbot.waitUntil(lambda: gone() is None)
        assert set(collected) == {threading.get_ident()}
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
