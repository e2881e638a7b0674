"""What Qt expects of a Linux: system libraries, which are missing and how to get them, and a display that answers.

Owns the list and the asking, without Qt, which ends the process where something is missing. On Windows and macOS the
wheels bring everything.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Library(NamedTuple):
    """A shared library by the name the loader knows, and the Debian package that holds it."""

    soname: str
    debian: str


ALWAYS = (
    Library("libEGL.so.1", "libegl1"),
    Library("libGL.so.1", "libgl1"),
    Library("libxkbcommon.so.0", "libxkbcommon0"),
    Library("libdbus-1.so.3", "libdbus-1-3"),
    Library("libfontconfig.so.1", "libfontconfig1"),
    Library("libglib-2.0.so.0", "libglib2.0-0"),
)
"""Needed even offscreen."""

WINDOW = (
    Library("libxcb-cursor.so.0", "libxcb-cursor0"),
    Library("libxcb-icccm.so.4", "libxcb-icccm4"),
    Library("libxcb-keysyms.so.1", "libxcb-keysyms1"),
    Library("libxcb-shape.so.0", "libxcb-shape0"),
    Library("libxcb-xkb.so.1", "libxcb-xkb1"),
    Library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0"),
    Library("libX11-xcb.so.1", "libx11-xcb1"),
)
"""Needed as well for a window."""


def missing(window: bool) -> list[Library]:
    """List the libraries that the loader does not find; `window` asks for those of a window too."""
    if not sys.platform.startswith("linux"):
        return []
    return [library for library in (*ALWAYS, *(WINDOW if window else ())) if not _loads(library.soname)]


def install_command(libraries: Sequence[Library]) -> str:
    """Write the shell command that installs `libraries` here, or their names where the package manager is not known."""
    if shutil.which("apt-get"):
        return shlex.join(["sudo", "apt-get", "install", "--yes", *(library.debian for library in libraries)])
    if shutil.which("dnf"):  # dnf finds a package by the library inside it
        return shlex.join(["sudo", "dnf", "install", "--assumeyes", *(f"{name.soname}()(64bit)" for name in libraries)])
    return "(your package manager): " + " ".join(library.soname for library in libraries)


def apt_install(packages: Sequence[str], say: Callable[[str], None]) -> bool:
    """Install Debian packages if this is root on Debian or Ubuntu; return whether it was done."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    say(f"     system packages: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    for command in (["apt-get", "update"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0 and command is install:
            say(f"     apt-get failed: {done.stderr.strip()[-400:]}")
            return False
    return True


def _loads(soname: str) -> bool:
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def has_display() -> bool:
    """Whether there is a display that answers. On Linux that takes X or Wayland."""
    if sys.platform != "linux" or os.environ.get("WAYLAND_DISPLAY"):
        return True
    return bool(os.environ.get("DISPLAY")) and _x_answers()


def _x_answers() -> bool:
    """Connect to DISPLAY as Qt will, which aborts the process where nothing answers; takes a millisecond."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return True  # Qt cannot do without it either, and says so
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    answers = not xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    return answers


def without_display() -> str:
    """Say why there is no display."""
    display = os.environ.get("DISPLAY")
    return f"nothing answers at DISPLAY={display}" if display else "neither DISPLAY nor WAYLAND_DISPLAY is set"
