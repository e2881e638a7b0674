"""Finding, opening, configuring and closing a Micro-Manager core.

Owns the choice of the installation and the words in which a failure is told. Streams run in `stream.py`; the simulated
camera is opened by `livescope.simulate.camera`. Micro-Manager is imported inside the functions, so that this module is
cheap to import.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livescope.errors import CoreError, SettingsError, one_of
from livescope.settings import CameraSettings, SourceSettings

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = [
    "Installation",
    "allowed_values",
    "close_core",
    "configure_camera",
    "describe_installation",
    "find_installations",
    "open_core",
    "property_text",
]

DEMO_CFG = "MMConfig_demo.cfg"


@dataclass(slots=True, frozen=True)
class Installation:
    """A folder with Micro-Manager's device adapters.

    Attributes
    ----------
    path
        The folder.
    origin
        Why it was looked at: ``source.micromanager_dir``, ``MICROMANAGER_PATH``, ``mmcore use``, ``mmcore install``,
        ``mm-test-adapters`` or ``application``.
    device_interface
        Version of the device interface of its adapters; None if it has none.
    required_interface
        Version that the installed pymmcore can load.
    adapters
        Names of the adapters in it.
    """

    path: Path
    origin: str
    device_interface: int | None
    required_interface: int
    adapters: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """True if the installed pymmcore can load its adapters."""
        return self.device_interface == self.required_interface

    def problem(self) -> str:
        """Why it is not usable and what to do, empty if it is."""
        if self.usable:
            return ""
        if self.device_interface is None:
            return f"{self.path} has no device adapters (mmgr_dal_*); give the folder of a Micro-Manager installation."
        return (
            f"{self.path} has device interface {self.device_interface}, but the installed pymmcore needs "
            f"{self.required_interface}. "
            f"Install a Micro-Manager nightly with interface {self.required_interface} (`mmcore install`), or a "
            "pymmcore whose "
            f"fourth version number is {self.device_interface}."
        )


def find_installations(micromanager_dir: Path | None = None) -> list[Installation]:
    """All Micro-Manager installations on this machine, in pymmcore-plus's order, the user's own folder first."""
    from pymmcore_plus._discovery import discover_mm  # no public call tells the interface version and the origin

    found = (
        [] if micromanager_dir is None else [_installation(micromanager_dir.expanduser(), "source.micromanager_dir")]
    )
    for seen in discover_mm():
        origin = seen.env_var or ("mmcore use" if seen.is_current else _origin(seen.path))
        found.append(_installation(seen.path, origin))
    return found


def describe_installation(source: SourceSettings | None = None) -> tuple[Installation | None, str, list[Installation]]:
    """The installation that `open_core` would take for `source`, why, and all that were found (for `doctor`)."""
    source = source or SourceSettings(kind="demo")
    found = find_installations(source.micromanager_dir)
    try:
        chosen = _choose(source, found)
    except CoreError as error:
        return None, str(error), found
    hidden = [str(other.path) for other in found if other.usable and other.path != chosen.path]
    why = f"{chosen.path}: from {chosen.origin}, device interface {chosen.device_interface} as pymmcore needs"
    return chosen, why + (f"; usable as well: {', '.join(hidden)}" if hidden else "") + ".", found


def open_core(source: SourceSettings, camera: CameraSettings) -> CMMCorePlus:
    """Open Micro-Manager on a configuration, with the camera set up.

    Parameters
    ----------
    source
        `kind` is ``demo`` or ``micromanager``; `cfg` may be left out for ``demo``.
    camera
        Properties and exposure to set.

    Raises
    ------
    CoreError
        No installation, a wrong device interface, a missing cfg, an adapter or device that cannot load, no camera.
        Nothing stays loaded; another core can be opened.
    SettingsError
        An unknown camera property or a value that it does not allow.
    """
    if source.kind not in ("demo", "micromanager"):
        raise CoreError(
            f"source.kind = {source.kind!r} is not opened by Micro-Manager; allowed here: 'demo', 'micromanager'."
        )
    if source.kind == "micromanager" and source.cfg is None:
        raise CoreError(
            "source.kind = 'micromanager' needs source.cfg, the path of your Micro-Manager configuration (.cfg)."
        )
    chosen = _choose(source, find_installations(source.micromanager_dir))
    cfg = _find_cfg(source.cfg, chosen)

    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus(mm_path=str(chosen.path))
    try:
        _load(core, cfg, chosen)
        configure_camera(core, camera)
    except BaseException:
        close_core(core)
        raise
    return core


def close_core(core: Any) -> None:
    """Stop the camera and let go of the hardware. It cannot be used afterwards. Takes any `StreamCore`.

    The native callback is detached before the devices are unloaded: without that, 7 of 15 processes aborted at exit,
    with it 0 of 39.
    """
    from pymmcore_plus import CMMCorePlus, _pymmcore

    if not isinstance(core, CMMCorePlus):
        core.close()
        return
    core.mda.cancel()
    if core.getCameraDevice() and core.isSequenceRunning():
        core.stopSequenceAcquisition()
    _pymmcore.CMMCore.registerCallback(core, None)
    core.unloadAllDevices()


def configure_camera(core: Any, camera: CameraSettings) -> None:
    """Set a camera's properties and exposure.

    Raises
    ------
    SettingsError
        An unknown property, or a value that the camera refuses; the message lists what it allows.
    """
    label = core.getCameraDevice()
    for name, value in camera.properties.items():
        if not core.hasProperty(label, name):
            known = one_of(core.getDevicePropertyNames(label))
            raise SettingsError(f"camera.properties: camera {label!r} has no property {name!r}. It has: {known}.")
        try:
            core.setProperty(label, name, property_text(value))
        except (RuntimeError, ValueError) as error:
            raise SettingsError(
                f"camera.properties.{name} = {value!r} is refused by camera {label!r}: "
                f"{allowed_values(core, label, name)}. ({error})"
            ) from error
    if camera.exposure_ms is not None:
        try:
            core.setExposure(camera.exposure_ms)
        except (RuntimeError, ValueError) as error:
            raise SettingsError(
                f"camera.exposure_ms = {camera.exposure_ms} is refused by camera {label!r}: {error}"
            ) from error


def property_text(value: str | float) -> str:
    """A property's value as adapters expect it: whole numbers without a point ("1.0" is refused where "1" is allowed).

    >>> property_text(1.0), property_text(0.5), property_text("16bit")
    ('1', '0.5', '16bit')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def allowed_values(core: Any, label: str, name: str) -> str:
    """What a device allows for a property, in words."""
    values = core.getAllowedPropertyValues(label, name)
    if values:
        return f"allowed: {one_of(values)}"
    if core.hasPropertyLimits(label, name):
        return f"allowed: {core.getPropertyLowerLimit(label, name):g} to {core.getPropertyUpperLimit(label, name):g}"
    return "it may be read-only"


def _choose(source: SourceSettings, found: list[Installation]) -> Installation:
    """The user's folder, else the first usable; for a lab's own cfg the test adapters come last."""
    if source.micromanager_dir is not None:
        if found[0].usable:
            return found[0]
        raise CoreError(f"source.micromanager_dir: {found[0].problem()}")
    usable = [one for one in found if one.usable]
    explicit = [one for one in found if one.origin == "MICROMANAGER_PATH"]
    if explicit and not explicit[0].usable:
        raise CoreError(f"MICROMANAGER_PATH: {explicit[0].problem()}")
    demo = source.kind == "demo" and source.cfg is None
    usable.sort(key=lambda one: (one.origin != "MICROMANAGER_PATH", (one.origin == "mm-test-adapters") != demo))
    if usable:
        return usable[0]
    others = " ".join(one.problem() for one in found)
    raise CoreError(
        "no usable Micro-Manager was found. Install one with `mmcore install`, give its folder as "
        "source.micromanager_dir, or for "
        f"the demo configuration `pip install mm-test-adapters`. {others}".strip()
    )


def _find_cfg(cfg: Path | None, chosen: Installation) -> Path:
    if cfg is None:
        path = chosen.path / DEMO_CFG
        if not path.is_file():
            raise CoreError(f"{chosen.path} has no {DEMO_CFG}; give source.cfg or `pip install mm-test-adapters`.")
        return path
    for path in (cfg.expanduser(), chosen.path / cfg):
        if path.is_file():
            return path.resolve()
    raise CoreError(
        f"source.cfg = {str(cfg)!r} does not exist, neither here ({Path.cwd()}) nor in {chosen.path}. Give the path of "
        "the .cfg that you load in Micro-Manager; `livescope doctor` shows which Micro-Manager was found."
    )


def _load(core: CMMCorePlus, cfg: Path, chosen: Installation) -> None:
    try:
        core.loadSystemConfiguration(cfg)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CoreError(
            f"configuration {str(cfg)!r} cannot be loaded: {reason} The Micro-Manager in use is {chosen.path} "
            f"({chosen.origin}, device "
            f"interface {chosen.device_interface}); its adapters: {_shorten(chosen.adapters)}. `livescope doctor` "
            "shows all that was found."
        ) from error
    if not core.getCameraDevice():
        from pymmcore_plus import DeviceType

        cameras = [d for d in core.getLoadedDevices() if core.getDeviceType(d) == DeviceType.Camera]
        raise CoreError(
            f"configuration {str(cfg)!r} chooses no camera; add the line Property,Core,Camera,LABEL with one of: "
            f"{one_of(cameras) or 'none is loaded'}."
        )


def _installation(path: Path, origin: str) -> Installation:
    from pymmcore_plus import _pymmcore
    from pymmcore_plus._discovery import get_first_device_interface_version

    names = {lib.name.split("mmgr_dal_", 1)[1].split(".", 1)[0] for lib in path.glob("*mmgr_dal_*")}
    interface = get_first_device_interface_version(path)
    return Installation(path, origin, interface, _pymmcore.version_info.device_interface, tuple(sorted(names)))


def _origin(path: Path) -> str:
    from pymmcore_plus._discovery import USER_DATA_MM_PATH

    if path.is_relative_to(USER_DATA_MM_PATH.resolve()):
        return "mmcore install"
    spec = importlib.util.find_spec("mm_test_adapters")
    if spec is not None and spec.origin is not None and path.is_relative_to(Path(spec.origin).resolve().parent):
        return "mm-test-adapters"
    return "application"


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
