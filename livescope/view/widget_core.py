"""The core as device widgets see it: nothing that they ask of it can freeze the window.

Owns the sorting of calls. What moves or sets a device becomes a change of the session, done on its control thread, so
that the stream stops and starts around it where it must; what reads a device is read on a thread of its own while the
window lives on; what only looks into the configuration is passed through. Events of the core are emitted again on the
GUI thread: pymmcore-plus calls plain functions on whatever thread a device was set on.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import types
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pymmcore_plus import CMMCorePlus
from pymmcore_plus.core.events import QCoreSignaler
from qtpy.QtCore import QEventLoop, QObject, Qt, Signal

from livescope.acquire.camera_state import CameraState
from livescope.acquire.changes import Change, Exposure, FullFrame, Preset, Property, Roi, UseCamera
from livescope.errors import AcquisitionError

if TYPE_CHECKING:
    from livescope.session import Session

__all__ = ["DeviceCall", "WidgetCore"]

_PATIENCE_S = 0.02
"""So long a read may keep the GUI thread itself; nearly all answer in microseconds."""
_LOCAL = re.compile(
    r"(get|is)(Available|PixelSize)?(Configs?|ConfigGroups|ConfigData|PixelSizeConfigs|GroupDefined|ConfigDefined)$"
    r"|getPixelSize(UmByID|AffineByID)$|(define|delete|rename)(PixelSize)?Config(Group)?$"
    r"|setPixelSize(Um|Affine)$|[gs]etChannelGroup$|getPrimaryLogFile$|getPropertyFromCache$|getLoadedDevices$"
)
"""What only looks into the core's own tables, or writes there: no device is asked, no lock of a device is taken."""
_FIXED = frozenset(
    (
        "getDeviceType",
        "getDeviceLibrary",
        "getDeviceName",
        "getDeviceDescription",
        "getDevicePropertyNames",
        "hasProperty",
        "getPropertyType",
        "isPropertyPreInit",
        "isPropertyReadOnly",
        "getDeviceInitializationState",
        "getNumberOfStates",
        "getLoadedDevicesOfType",
    )
)
"""What stays as it is as long as the configuration does."""
_COMMANDS = re.compile(r"(set|enable|fullFocus|incrementalFocus|home)")
_OBJECTS = ("getDeviceObject", "getPropertyObject", "iterProperties", "getConfigGroupObject", "iterConfigGroups")
"""Methods whose results keep the core: they are made to keep this one."""
_FORWARDED = (
    "propertiesChanged",
    "propertyChanged",
    "channelGroupChanged",
    "configGroupChanged",
    "configSet",
    "systemConfigurationLoaded",
    "pixelSizeChanged",
    "pixelSizeAffineChanged",
    "stagePositionChanged",
    "XYStagePositionChanged",
    "exposureChanged",
    "shutterOpenChanged",
    "imageSnapped",
    "sequenceAcquisitionStopped",
    "continuousSequenceAcquisitionStarted",
    "autoShutterSet",
    "configGroupDeleted",
    "configDeleted",
    "configDefined",
    "roiSet",
)


@dataclass(slots=True, frozen=True)
class DeviceCall(Change):
    """A method of the core that sets or moves a device, as a change of the session."""

    name: str
    args: tuple[Any, ...]

    @property
    def reason(self) -> str:
        """The call in words."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name).lower().replace("xyposition", "XY position")
        return " ".join([words, *(f"{a:g}" if isinstance(a, float) else str(a) for a in self.args)])

    def apply(self, core: Any) -> None:
        """Call it."""
        getattr(core, self.name)(*self.args)

    def devices(self, core: Any) -> tuple[str, ...]:
        """Name the device to wait for."""
        if self.args and self.args[0] in core.getLoadedDevices():
            return (self.args[0],)
        default = {"setXYPosition": core.getXYStageDevice, "setPosition": core.getFocusDevice}.get(self.name)
        label = default() if default else ""
        return (label,) if label else ()

    def note(self, camera: CameraState) -> None:
        """Forget the name of the place once the stage is moved by hand."""
        if self.name.endswith("XYPosition"):
            camera.position = None


class _Relay(QObject):
    """Brings calls from other threads to the GUI thread, where it lives."""

    told = Signal(object)
    """From the GUI thread itself these come at once."""
    later = Signal(object)
    """These come when the event loop is at work again."""

    def __init__(self) -> None:
        super().__init__()
        self.told.connect(self._call)
        self.later.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def _call(self, do: Callable[[], None]) -> None:
        do()


class WidgetCore:
    """Stands in for a `CMMCorePlus` in the widgets of pymmcore-widgets. Made and used in the GUI thread.

    Parameters
    ----------
    core
        The open core.
    session
        Carries out what changes something (`Session.change`, `Session.snap`), and lends its lock (`Session.locked`).
    on_busy
        Told how many commands are not done yet, whenever that changes.
    """

    def __init__(self, core: CMMCorePlus, session: Session, on_busy: Callable[[int], None]) -> None:
        self.core = core
        self.events = QCoreSignaler()
        """What the core emits, on the GUI thread."""
        self.building = False
        """True while a widget is made: reads are answered by what `gather` found, and what it would set is not done."""
        self._closing = False
        self.waiting = 0
        """Reads that the GUI thread is waiting for, its event loop running."""
        self._session, self._on_busy = session, on_busy
        self._relay = _Relay()
        self._known: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self._chips: dict[str, tuple[int, int]] = {}
        """Width and height in pixels of the region that each camera had when it was first asked for."""
        self._pending: Counter[str] = Counter()
        self._focus_um: float | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="livescope-reader")
        self._urgent = ThreadPoolExecutor(1, thread_name_prefix="livescope-halt")
        self._forwards = {name: partial(self._forward, name) for name in _FORWARDED}
        for name, forward in self._forwards.items():
            getattr(core.events, name).connect(forward)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the core, sorted."""
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.core, name)
        if not callable(value) or _LOCAL.fullmatch(name):
            return value
        if name in _OBJECTS:
            return types.MethodType(getattr(type(self.core), name), self)
        if name.startswith("waitFor"):
            return lambda *_: None  # a change waits for its devices by itself
        if name in ("snap", "snapImage"):
            return lambda *_, **__: None if self.building else self._session.snap()
        if name == "stop":
            return lambda label: self._urgent.submit(value, label)
        if re.match(r"(start|stop|load|unload|initialize|reset|pop|clearCircular|run_mda)", name):
            return partial(self._refuse, name)
        if name == "clearROI" or _COMMANDS.match(name):
            return partial(self._command, name)
        return partial(self._read, name)

    def gather(self, done: Callable[[], None]) -> None:
        """Read what widgets will ask of every device, then call `done` in the GUI thread."""
        future = self._reader.submit(self._gather)
        future.add_done_callback(lambda _: self._relay.later.emit(done))

    def getZPosition(self) -> float:  # noqa: N802 - the core's name
        """Where the focus is, or will be once all that was asked is done: widgets retract it and bring it back."""
        return self._read("getZPosition") if self._focus_um is None else self._focus_um

    def deviceBusy(self, label: str) -> bool:  # noqa: N802 - the core's name
        """Whether a device is busy, or will be since something was asked of it."""
        return bool(self._pending[label]) or bool(self._read("deviceBusy", label))

    def close(self) -> None:
        """Forget the core. What was asked is still done by the session; nobody is told."""
        self._closing = True
        for name, forward in self._forwards.items():
            getattr(self.core.events, name).disconnect(forward)
        self._relay.blockSignals(True)
        for pool in (self._reader, self._urgent):
            self._await(pool.submit(lambda: None))  # a slow read ends while the window lives on
            pool.shutdown(wait=True)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _read(self, name: str, *args: Any, **kwargs: Any) -> Any:
        key = (name, args)
        if key in self._known and not kwargs and (self.building or self.waiting or name in _FIXED):
            return self._known[key]
        method = getattr(self.core, name)
        future = self._reader.submit(self._hold_and, lambda: method(*args, **kwargs))
        value = self._await(future)
        self._known[key] = value
        if name == "getROI" and args:
            self._chips.setdefault(args[0], (value[2], value[3]))
        return value

    def _hold_and(self, do: Callable[[], Any]) -> Any:
        with self._session.locked():
            return do()

    def _await(self, future: Future[Any]) -> Any:
        """Wait for an answer; if it takes long, with the event loop running, but no click or key let through."""
        try:
            return future.result(_PATIENCE_S)
        except TimeoutError:
            if future.done():  # the device's own time-out, not ours
                raise
        loop, relay = QEventLoop(), _Relay()
        future.add_done_callback(lambda _: relay.later.emit(loop.quit))
        self.waiting += 1
        try:
            loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        finally:
            self.waiting -= 1
        return future.result()

    def _command(self, name: str, *args: Any) -> None:
        if self.building:
            return
        change = self._change(name, args)
        label = str(args[0]) if args else ""
        self._pending[label] += 1
        if name in ("setPosition", "setZPosition"):
            self._focus_um = float(args[-1])
        self._on_busy(self._pending.total())
        asked = self._session.change(change)
        asked.add_done_callback(lambda future: self._relay.later.emit(partial(self._done, label, change, future)))

    def _change(self, name: str, args: tuple[Any, ...]) -> Change:
        match name, args:
            case "setProperty", (device, prop, value):
                return Property(device, prop, value)
            case "setState", (device, state):
                return Property(device, "State", state)
            case "setStateLabel", (device, state):
                return Property(device, "Label", state)
            case "setConfig", (group, preset):
                return Preset(group, preset)
            case "setROI", (x, y, width, height) | (str(), x, y, width, height):
                return Roi(x, y, width, height)
            case "clearROI", ():
                return FullFrame()
            case "setExposure", (exposure_ms,):
                return Exposure(exposure_ms)
            case "setCameraDevice", (label,):
                return UseCamera(label)
            case "setZPosition", (z_um,):
                return DeviceCall("setPosition", (z_um,))
        return DeviceCall(name, args)

    def _done(self, label: str, change: Change, future: Future[None]) -> None:
        self._pending[label] -= 1
        left = self._pending.total()
        if not left:
            self._focus_um = None
        self._on_busy(left)
        refused = future.cancelled() or future.exception() is not None  # the session has noted why
        if refused and isinstance(change, Property) and self.core.hasProperty(change.device, change.name):
            actual = self._read("getProperty", change.device, change.name)
            self.events.propertyChanged.emit(change.device, change.name, actual)

    def _refuse(self, name: str, *_: object, **__: object) -> None:
        raise AcquisitionError(f"{name} is not for a dock: the session runs the camera. Use Start, Stop and Snap.")

    def _forward(self, name: str, *args: Any) -> None:
        """Pass on an event, on the thread on which the core emits it."""
        if name == "roiSet" and not args[0]:  # the core does not name a camera that is written in Python
            args = (self.core.getCameraDevice(), *args[1:])
        self._relay.told.emit(partial(self._emit, name, args))

    def _emit(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "propertyChanged":
            self._known["getProperty", args[:2]] = args[2]
        elif name == "systemConfigurationLoaded":
            self._known.clear()
            self._chips.clear()
        elif name == "roiSet" and not self._takes(*args):
            return
        getattr(self.events, name).emit(*args)

    def _takes(self, camera: str, x_px: int, y_px: int, width_px: int, height_px: int) -> bool:
        """Whether the widget of regions can take one.

        It leaves out a camera that stands for several, and raises at its name. At a region beyond what it took for the
        whole chip, as it found it when it was made, it opens a box that waits for a person, and sets the region back.
        """
        if any("Physical Camera" in prop for prop in self._read("getDevicePropertyNames", camera)):
            return False
        chip = self._chips.get(camera)
        return chip is None or (x_px + width_px <= chip[0] and y_px + height_px <= chip[1])

    def _gather(self) -> None:
        """Reader thread: device by device, so that a camera that runs need not wait long."""
        with contextlib.suppress(ImportError):  # 2 to 4 s, here once; who makes the widgets says what is missing
            importlib.import_module("pymmcore_widgets")
        for label in self.core.getLoadedDevices():
            if self._closing:
                return
            with self._session.locked():
                self._known |= dict(self._facts(label))

    def _facts(self, label: str) -> Iterator[tuple[tuple[str, tuple[str, ...]], Any]]:
        core: Any = self.core
        for name in ("getDeviceType", "getDeviceLibrary", "getDeviceName", "getDeviceDescription"):
            yield (name, (label,)), getattr(core, name)(label)
        props = core.getDevicePropertyNames(label)
        yield ("getDevicePropertyNames", (label,)), props
        for prop in props:
            asked = "getPropertyType isPropertyPreInit isPropertyReadOnly hasPropertyLimits getAllowedPropertyValues"
            for name in (*asked.split(), "getProperty", "getPropertyLowerLimit", "getPropertyUpperLimit"):
                with contextlib.suppress(RuntimeError):  # the widget will ask, and show that there is no answer
                    yield (name, (label, prop)), getattr(core, name)(label, prop)
            yield ("hasProperty", (label, prop)), True
