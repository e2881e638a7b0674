"""Versions, processor, disk and window.

Owns what can be said of the machine without a microscope and without a network.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from livescope import __version__, qt_libraries
from livescope.doctor.report import Check, Verdict

__all__ = ["disk", "probe", "software", "window"]

_LIBRARIES = ("numpy", "pymmcore-plus", "onnxruntime", "zarr", "tensorstore", "PySide6-Essentials", "pyqtgraph")
_MEASURED_MB = 256
_FRAME_MB = 2048 * 2048 * 2 / 1e6
"""A frame of a common camera: 2048 x 2048 pixels of 16 bit."""
_SLOW_MB_S = 2 * 63
"""Twice what the simulated microscope makes: 1024 x 1024 pixels of 16 bit at 30 frames a second are 63 MB/s."""
_LITTLE_GB = 10


def probe(code: str, timeout_s: float = 60.0, **environment: str) -> tuple[bool, str]:
    """Run Python code in a process of its own, which may crash; return whether it ended well, and its last line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {timeout_s:g} s"
    lines = [line for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines() if line.strip()]
    return done.returncode == 0, lines[-1].strip() if lines else f"ended with code {done.returncode}"


def software() -> Iterator[Check]:
    """Versions of livescope, Python and the libraries a run stands on; processor and memory."""
    memory_gb = psutil.virtual_memory().total / 1e9
    yield Check("livescope", Verdict.OK, f"{__version__} in {Path(__file__).parents[1]}")
    yield Check("Python", Verdict.OK, f"{platform.python_version()} ({sys.executable}) on {platform.platform()}")
    yield Check("processor", Verdict.OK, f"{psutil.cpu_count()} cores, {memory_gb:.1f} GB of memory")
    yield Check("libraries", Verdict.OK, ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES))


def disk(record: Path) -> Iterator[Check]:
    """Free space and speed of the disk where `record` would be stored."""
    folder = record.expanduser().absolute()
    try:
        # a drive that is not there is its own parent
        folder = next((place for place in (folder, *folder.parents) if place.is_dir()), Path(folder.anchor))
        free_gb = psutil.disk_usage(str(folder)).free / 1e9
        speed_mb_s = _write_speed_mb_s(folder, min(_MEASURED_MB, int(free_gb * 1000 / 4)))
    except OSError as error:
        step = "choose another drive or folder for record.path, or make this one writable"
        yield Check(str(folder), Verdict.FAIL, f"cannot be written: {error.strerror}", step)
        return
    fps = speed_mb_s / _FRAME_MB
    minutes = free_gb * 1000 / (_FRAME_MB * 30) / 60
    found = f"{speed_mb_s:.0f} MB/s: {fps:.0f} frames a second of 2048 x 2048 pixels, 16 bit, uncompressed"
    slow = speed_mb_s < _SLOW_MB_S
    step = "set record.path to a faster disk, a local SSD" if slow else ""
    yield Check(f"speed of {folder}", Verdict.WARNING if slow else Verdict.OK, found, step)
    little = free_gb < _LITTLE_GB
    found = f"{free_gb:.1f} GB: {minutes:.1f} minutes of such frames at 30 a second, uncompressed"
    step = "free some space, or set record.path to another disk" if little else ""
    yield Check("free space", Verdict.WARNING if little else Verdict.OK, found, step)


def window() -> Iterator[Check]:
    """Qt, and whether a window can be opened here."""
    code = "from qtpy.QtWidgets import QApplication; import pyqtgraph; a = QApplication([]); print(a.platformName())"
    works, said = probe(code, QT_API="pyside6", QT_QPA_PLATFORM="offscreen")
    if not works:
        missing = qt_libraries.missing(window=True)
        step = qt_libraries.install_command(missing) if missing else 'pip install "livescope[viewer]"'
        yield Check("Qt", Verdict.WARNING, f"does not start: {said}", f"{step}; or run with --headless")
        return
    yield Check("Qt", Verdict.OK, f"PySide6 {_version('PySide6-Essentials')} starts (offscreen)")
    if not qt_libraries.has_display():
        step = "run with --headless, or from a desktop session"
        yield Check("display", Verdict.WARNING, f"none: {qt_libraries.without_display()}", step)
        return
    code = (
        "from qtpy.QtWidgets import QApplication; a = QApplication([]); s = a.primaryScreen(); "
        "print(f'{a.platformName()}, {s.size().width()} x {s.size().height()}, scale {s.devicePixelRatio():g}')"
    )
    works, said = probe(code, QT_API="pyside6")
    missing = [] if works else qt_libraries.missing(window=True)
    step = qt_libraries.install_command(missing) if missing else "" if works else "run with --headless"
    yield Check("display", Verdict.OK if works else Verdict.WARNING, said, step)


def _write_speed_mb_s(folder: Path, megabytes: int) -> float:
    block = os.urandom(4 << 20)  # random: a disk that compresses must not look fast
    blocks = max(1, megabytes * 10**6 // len(block))
    with tempfile.TemporaryFile(dir=folder) as file:
        started_s = time.perf_counter()
        for _ in range(blocks):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return blocks * len(block) / 1e6 / (time.perf_counter() - started_s)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
