"""Whether a window can be opened here, asked before Qt is imported: Qt itself would end the process instead of raising.

Owns the message. Which libraries Qt needs, and whether a display answers, is known to `livescope.qt_libraries`.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from livescope import qt_libraries
from livescope.errors import DisplayError

__all__ = ["choose_binding", "require_display"]

_WITHOUT = "`livescope run` and `livescope demo` need no window with --headless"


def choose_binding() -> None:
    """Make qtpy and pyqtgraph load the same Qt binding: the one named by QT_API, else PySide6 where it is installed."""
    if "QT_API" not in os.environ:
        os.environ["QT_API"] = "pyside6" if importlib.util.find_spec("PySide6") else "pyqt6"
    names = {"pyside6": "PySide6", "pyqt6": "PyQt6"}
    os.environ["PYQTGRAPH_QT_LIB"] = names.get(os.environ["QT_API"].lower(), "PySide6")


def require_display() -> None:
    """Do nothing where a window can be opened.

    Raises
    ------
    DisplayError
        The viewer is not installed, there is no display, or Qt's libraries are missing; with the command that helps.
    """
    if importlib.util.find_spec("qtpy") is None or importlib.util.find_spec("pyqtgraph") is None:
        raise DisplayError(
            f"the viewer is not installed. Install it with `pip install 'livescope[viewer]'`; {_WITHOUT}."
        )
    if sys.platform != "linux":
        return
    platform = os.environ.get("QT_QPA_PLATFORM", "")
    if platform in ("", "xcb") and not qt_libraries.has_display():
        why = qt_libraries.without_display()
        raise DisplayError(f"no display: {why}. Start from a desktop session (over ssh: `ssh -X`); {_WITHOUT}.")
    missing = qt_libraries.missing(window=platform in ("", "xcb") and bool(os.environ.get("DISPLAY")))
    if missing:
        raise DisplayError(
            f"Qt needs libraries that are not installed: {', '.join(library.soname for library in missing)}. Install "
            f"them with `{qt_libraries.install_command(missing)}`; {_WITHOUT}."
        )
