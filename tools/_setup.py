"""From a stock Python to livescope in its own environment: what tools/demo.py and tools/test.py share.

Owns `.venv`, the pinned install and the hand-over to the command inside. Needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import locale
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # livescope is not installed yet, but what is imported of it needs nothing

from livescope import qt_libraries  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
STAMP = VENV / "livescope-installed.json"
LOG = VENV / "livescope-install.log"
NEWEST_PYTHON = (3, 14)
"""The newest Python for which every pinned package ships a wheel."""
BUILD_TOOLS = ("hatchling", "editables", "setuptools")
"""Of livescope itself; setuptools for the one dependency that comes as source (tensorrt-rtx-cu13): Python 3.11 brings
one that is too old, 3.12 none."""
ALTERNATIVES = {
    "pymmcore-nano": ("pymmcore-nano==12.5.0.75.0",),
    "pyqt6": ("PyQt6==6.11.0", "PyQt6-Qt6==6.11.2", "PyQt6-sip==13.13.0"),
}
"""What may stand in for a part of the installation, and is preferred where it can be imported: the tests that want it
find it in `.venv/alternatives/NAME`."""
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo|ConnectTimeout|ReadTimeout|Connection aborted|"
    r"Connection reset|IncompleteRead|ProxyError|Network is unreachable"
)


def main(
    doc: str | None,
    extras: Sequence[str],
    command: Sequence[str],
    examples: Sequence[str],
    environment: Mapping[str, str] | None = None,
    without_window: Sequence[str] = (),
    in_root: bool = False,
) -> NoReturn:
    """Install what is missing and become `command` with this script's own arguments.

    Parameters
    ----------
    doc, examples
        For ``--help``: what the script does, and arguments that are worth trying.
    extras
        Extras of pyproject.toml that `command` needs.
    command
        Arguments of the environment's Python.
    environment
        Variables for the command, where the user has not set them.
    without_window
        Arguments to add where Qt's system libraries are missing and cannot be installed here.
    in_root
        Run the command in the project's root instead of the user's folder.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print((doc or "").strip(), "\n\nExamples:", sep="", flush=True)
        for example in examples:
            print(f"  python {sys.argv[0]} {example}", flush=True)
        if not _is_installed(extras):
            print("\nThe options themselves are shown here once livescope is installed.")
            raise SystemExit(0)
        print(flush=True)
    else:
        _check_machine()
        try:
            if not _is_installed(extras):
                _make_venv()
                _install(extras)
        except KeyboardInterrupt:
            _stop("interrupted; start again to go on.")
        for name, value in (environment or {}).items():
            os.environ.setdefault(name, value)
        if not _has_qt(window="--headless" not in arguments and os.environ.get("QT_QPA_PLATFORM") != "offscreen"):
            arguments += [argument for argument in without_window if argument not in arguments]
    if in_root:
        os.chdir(ROOT)
    _become([str(PYTHON), *command, *arguments])


def _check_machine() -> None:
    """End with the reason where pinned packages do not exist for this machine."""
    if sys.version_info[:2] > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        _stop(f"Python {platform.python_version()} is too new for livescope's pinned packages; use 3.11 to {newest}.")
    machine = (platform.system(), platform.machine().lower())
    if machine == ("Linux", "aarch64"):
        _stop("Micro-Manager's Python package has no build for Linux on ARM; use a 64 bit Intel or AMD machine.")
    if machine == ("Darwin", "x86_64"):
        _stop("ONNX Runtime has no build for Intel Macs; use a Mac with Apple silicon and a Python built for it.")
    if sys.maxsize < 2**32:
        _stop("this Python is a 32 bit build; install the 64 bit one.")


def _digest() -> str:
    """Fingerprint of everything that decides what is installed, and of where: a venv cannot be moved."""
    pinned = json.dumps([BUILD_TOOLS, ALTERNATIVES]).encode()
    parts = ((ROOT / "pyproject.toml").read_bytes(), CONSTRAINTS.read_bytes(), pinned, os.fsencode(ROOT))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _installed_extras() -> set[str]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(stamp["extras"]) if stamp.get("digest") == _digest() else set()


def _is_installed(extras: Sequence[str]) -> bool:
    installed = _installed_extras()
    return ("dev" in installed or set(extras) <= installed) and _runs("livescope")


def _runs(module: str) -> bool:
    """Return whether `.venv` has a Python that finds a module: where the system's has moved up it finds nothing."""
    # isolated, for the folder that this is called from may be the project's
    command = [str(PYTHON), "-I", "-c", f"import {module}"]
    return PYTHON.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _make_venv() -> None:
    if _runs("pip"):
        return
    _say(f"1/2  new environment {VENV}")
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu split it from their Python
        package = f"python3.{sys.version_info.minor}-venv"
        if not qt_libraries.apt_install([package], _say):
            _stop(
                f"this Python cannot make environments. Install the missing part first:  sudo apt-get install {package}"
            )
    try:
        venv.create(VENV, clear=VENV.exists(), with_pip=True, symlinks=os.name != "nt")
    except ValueError as error:  # of a colon in the path
        _stop(f"{error} Move livescope to a folder without it.")
    except (OSError, subprocess.CalledProcessError) as error:
        _stop(f"{VENV} could not be made: {error}. Close programs that use it, delete the folder, and start again.")


def _install(extras: Sequence[str]) -> None:
    wanted = sorted(_installed_extras() | set(extras))
    _say(f"2/2  livescope with pinned packages ({', '.join(wanted)}); the first time takes some minutes")
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    pip += ["--constraint", str(CONSTRAINTS)]
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    # the build tools are pinned as well, so no build may fetch its own
    _pip([*pip, *BUILD_TOOLS])
    _pip([*pip, "--no-build-isolation", "--editable", f"{ROOT}[{','.join(wanted)}]"])
    if "dev" in wanted:
        for name, packages in ALTERNATIVES.items():
            folder = VENV / "alternatives" / name
            shutil.rmtree(folder, ignore_errors=True)
            _pip([*pip, "--no-deps", "--target", str(folder), *packages])
    if os.name == "nt" and sys.version_info < (3, 13):
        _make_path_readable(VENV / "Lib" / "site-packages")
    STAMP.write_text(json.dumps({"digest": _digest(), "extras": wanted}), encoding="utf-8")
    _say(f"     installed in {time.monotonic() - started:.0f} s")


def _make_path_readable(packages: Path) -> None:
    """Write the files that name the project's folder in Windows' code page, as Python before 3.13 reads them there."""
    for file in packages.glob("*livescope*.pth"):
        try:
            content = file.read_text(encoding="utf-8").encode(locale.getencoding())
        except UnicodeEncodeError as error:
            letters = error.object[error.start : error.end]
            _stop(
                f"the code page of this Windows ({locale.getencoding()}) has no {letters!r}, which {ROOT} has. Move "
                "livescope to a folder without it, or use Python 3.13."
            )
        file.write_bytes(content)


def _pip(command: Sequence[str], tries: int = 2) -> None:
    """Run pip, its output summarised here and kept in `LOG`; once more if the network broke off."""
    for attempt in range(1, tries + 1):
        output = _run_logged(command)
        if output is None:
            return
        network = NO_NETWORK.search(output)
        if network and attempt < tries:
            _say("     the connection broke off; trying once more in 5 s")
            time.sleep(5)
            continue
        lines = output.splitlines()
        telling = [line for line in lines if (NO_NETWORK.search(line) if network else line.startswith("ERROR"))]
        reason = "\n".join(f"       {line.strip()[:200]}" for line in (telling or lines)[-3:])
        hint = (
            "Check the network, a proxy (HTTPS_PROXY) and pip's index, then start again."
            if network
            else "The log says more."
        )
        _stop(f"the install failed. {hint}\n{reason}\n     Log: {LOG}")


def _run_logged(command: Sequence[str]) -> str | None:
    """Return None on success, else the output."""
    lines: list[str] = []
    collected = 0
    progress = _Progress()
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        log.write(f"$ {' '.join(command)}\n")
        for line in process.stdout:
            lines.append(line)
            log.write(line)
            log.flush()
            action, _, rest = line.strip().partition(" ")
            if action == "Collecting":
                collected += 1
                progress.show(f"{collected:4d} packages found, {rest.split(' ')[0]}")
            elif action == "Downloading":
                progress.show(f"downloading {rest}")
            elif line.startswith("Installing collected packages"):
                progress.show(f"unpacking {line.count(',') + 1} packages", always=True)
    progress.end()
    return None if process.returncode == 0 else "".join(lines)


class _Progress:
    """One line that changes on a terminal; elsewhere a line every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = time.monotonic()

    def show(self, text: str, always: bool = False) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{'     ' + text:<{width}.{width}}", end="", flush=True)
        elif always or time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            _say(f"     {text}")

    def end(self) -> None:
        if self._terminal:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", end="", flush=True)


def _has_qt(window: bool) -> bool:
    """Install Qt's system libraries where some are missing, or say how."""
    missing = qt_libraries.missing(window)
    if not missing or qt_libraries.apt_install([library.debian for library in missing], _say):
        return True
    _say(f"Qt needs system libraries that are not here. Install them with:\n  {qt_libraries.install_command(missing)}")
    _say("Going on without a window.")
    return False


def _become(command: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], list(command))
    # exec on Windows returns to the shell at once, so the parent waits; Ctrl+C reaches the child by itself
    with subprocess.Popen(command) as process:
        while True:
            try:
                raise SystemExit(process.wait())
            except KeyboardInterrupt:
                continue


def _say(text: str) -> None:
    print(text, flush=True)


def _stop(text: str) -> NoReturn:
    raise SystemExit(f"livescope: {text}")
