"""Whether a window can be opened here, asked before Qt is imported: Qt itself would end the process instead of raising.

Owns the check and its message. On Debian and Ubuntu the missing libraries are named as packages.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys

from livescope.errors import DisplayError

__all__ = ["choose_binding", "require_display"]

_LIBRARIES = {"libEGL.so.1": "libegl1", "libGL.so.1": "libgl1", "libxkbcommon.so.0": "libxkbcommon0"}
"""What Qt's widgets need on Linux, and the Debian package of each."""
_XCB_LIBRARIES = {"libxcb-cursor.so.0": "libxcb-cursor0", "libxkbcommon-x11.so.0": "libxkbcommon-x11-0"}
"""What a window on X11 needs as well."""


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
            "the viewer is not installed. Install it with `pip install 'livescope[viewer]'`, or run with --headless."
        )
    if sys.platform != "linux":
        return
    platform = os.environ.get("QT_QPA_PLATFORM", "")
    if not (platform or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DisplayError(
            "no display: neither DISPLAY nor WAYLAND_DISPLAY is set. Run with --headless, or start from a desktop "
            "session (over ssh: `ssh -X`)."
        )
    needed = dict(_LIBRARIES)
    if platform in ("", "xcb") and os.environ.get("DISPLAY"):
        needed |= _XCB_LIBRARIES
    missing = [package for library, package in needed.items() if not _loads(library)]
    if missing:
        raise DisplayError(
            f"Qt needs libraries that are not installed. On Debian or Ubuntu: `sudo apt-get install "
            f"{' '.join(missing)}`; or run with --headless."
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
