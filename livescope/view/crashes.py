"""No traceback is lost while a window is open: what is raised where nobody catches it goes to the banner and to stderr.

Owns the interpreter's hooks for as long as a window runs. Qt would end the process (PyQt6) or only print (PySide6).
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

__all__ = ["Reporting", "crashes_reported"]

_NEXT = "This is an error in livescope; what runs goes on. Please report it with the details."


class Reporting(Protocol):
    """A window that can say what went wrong."""

    def report(self, text: str, trace: str) -> None:
        """Show a message, and keep the traceback that belongs to it. Any thread."""


@contextmanager
def crashes_reported(window: Reporting) -> Iterator[None]:
    """Have a window show what its slots and other threads raise."""
    hook, thread_hook = sys.excepthook, threading.excepthook

    def tell(where: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception_only(kind, error)).strip()
        window.report(f"{where}{text}. {_NEXT}", "".join(traceback.format_exception(kind, error, trace)))

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell("", kind, error, trace)
        hook(kind, error, trace)

    def report_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = "a thread" if args.thread is None else f"thread {args.thread.name}"
            tell(f"{name}: ", args.exc_type, args.exc_value, args.exc_traceback)
        thread_hook(args)

    sys.excepthook, threading.excepthook = report, report_thread
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = hook, thread_hook
