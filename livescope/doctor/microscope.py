"""Micro-Manager: which installations there are, which one is taken and why, and whether a camera really answers.

Owns the wording only; the choice itself is `livescope.acquire.core`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from livescope.acquire.core import describe_installation
from livescope.doctor.machine import probe
from livescope.doctor.report import Check, Verdict
from livescope.settings import SourceSettings

__all__ = ["demo_camera", "installations"]

_INSTALL = "install Micro-Manager with `mmcore install`, or name its folder in source.micromanager_dir"
_SHOWN_ADAPTERS = 12


def installations() -> Iterator[Check]:
    """Versions, the installation taken for each kind of source and why, and those that cannot be used."""
    from pymmcore_plus import _pymmcore  # no public name tells which of the two bindings it took

    binding = f"{_pymmcore.BACKEND} {_pymmcore.__version__}"
    yield Check("Python binding", Verdict.OK, f"pymmcore-plus {version('pymmcore-plus')} on {binding}")
    for name, source in (
        ("for your own cfg", SourceSettings(kind="micromanager")),
        ("for the demo", SourceSettings(kind="demo")),
    ):
        chosen, why, found = describe_installation(source)
        if chosen is None:
            yield Check(name, Verdict.FAIL, why, _INSTALL)
            continue
        only_tests = source.kind == "micromanager" and chosen.origin == "mm-test-adapters"
        yield Check(
            name, Verdict.OK, why, f"it has no hardware adapters: for a microscope {_INSTALL}" if only_tests else ""
        )
    for other in found:
        if not other.usable:
            yield Check(f"not usable ({other.origin})", Verdict.WARNING, str(other.path), other.problem())
            continue
        more = len(other.adapters) - _SHOWN_ADAPTERS
        names = ", ".join(other.adapters[:_SHOWN_ADAPTERS]) + (f" and {more} more" if more > 0 else "")
        yield Check(f"adapters ({other.origin})", Verdict.OK, f"device interface {other.device_interface}: {names}")


def demo_camera() -> Iterator[Check]:
    """Load the demo configuration and take a picture: what a run would do first."""
    works, said = probe(
        "from livescope.acquire.core import close_core, open_core\n"
        "from livescope.settings import CameraSettings, SourceSettings\n"
        "core = open_core(SourceSettings(kind='demo'), CameraSettings())\n"
        "shape = core.snap().shape\n"
        "print(f'{core.getCameraDevice()} took a picture of {shape[0]} x {shape[1]} pixels')\n"
        "close_core(core)\n"
    )
    step = "" if works else "the message names the adapter; " + _INSTALL
    yield Check("demo camera", Verdict.OK if works else Verdict.WARNING, said, step)
