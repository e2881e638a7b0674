"""Opens the source that the settings name: demo camera, a lab's Micro-Manager, simulated cells, or files.

Owns the choice between the rooms and nothing else: whatever it returns is driven by the same loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livescope.errors import FrameError, SettingsError, SourceError, one_of
from livescope.frames import Frame, FrameSpec, LossLedger
from livescope.settings import Settings

if TYPE_CHECKING:
    from livescope.acquire.health import HealthEvent
    from livescope.acquire.stream import LiveStream, StreamCore
    from livescope.simulate.truth import Truth

__all__ = [
    "OpenSource",
    "attach_source",
    "called_channel",
    "check_camera",
    "check_channel",
    "check_watched",
    "expected_spec",
    "open_source",
    "open_stream",
]


@dataclass(slots=True, frozen=True)
class OpenSource:
    """An open source: its core, how to close it, how to open a lost camera anew, and the truth where it is known."""

    core: StreamCore
    close: Callable[[], None]
    reopen: Callable[[], None] = lambda: None
    truth: Callable[[Frame], Truth | None] = lambda frame: None


def open_source(settings: Settings) -> OpenSource:
    """Open what `settings.source` names.

    Raises
    ------
    CoreError
        Micro-Manager, its configuration or an adapter could not be loaded.
    SourceError
        The files to replay are missing, empty or unreadable.
    """
    if settings.source.kind == "attached":
        raise SourceError("source.kind = 'attached' is what `livescope.attach(core)` records; choose another to open.")
    if settings.source.kind == "replay":
        from livescope.acquire.replay import ReplayCore

        replay = ReplayCore(settings.source, settings.camera)
        return OpenSource(replay, replay.close)
    from livescope.acquire.core import close_core

    if settings.source.kind == "simulated":
        from livescope.simulate.camera import open_simulated_core, truth_of

        simulated = open_simulated_core(settings.simulation, settings.camera)

        def truth(frame: Frame) -> Truth | None:
            try:
                return truth_of(simulated, frame)
            except FrameError:  # a snap: only frames of a sequence carry their number
                return None

        return OpenSource(simulated, lambda: close_core(simulated), truth=truth)
    from livescope.acquire.core import open_core
    from livescope.acquire.reload import CameraReload

    core = open_core(settings.source, settings.camera)
    return OpenSource(core, lambda: close_core(core), CameraReload(core))


def attach_source(core: object) -> OpenSource:
    """Watch a core that another program owns; closing lets go of it and changes nothing."""
    from livescope.acquire.attach import AttachedCore

    attached = AttachedCore(core)
    return OpenSource(attached, attached.close)


def check_watched(settings: Settings) -> None:
    """See that a core which is only watched is asked for nothing that its owner does.

    Raises
    ------
    SettingsError
        A plan or properties of the camera are set.
    """
    plan, properties = settings.run.plan, settings.camera.properties
    if plan is not None:
        raise SettingsError(
            f"run.plan = {str(plan)!r}: a core of another program is only watched, and its owner moves it. Run the "
            "plan there, which is recorded as it goes, and set run.plan to null."
        )
    if properties:
        raise SettingsError(
            f"camera.properties = {dict(properties)}: a core of another program is only watched, and its owner sets "
            "its camera. Set them there, and leave camera.properties empty."
        )


def open_stream(
    source: OpenSource,
    settings: Settings,
    on_frame: Callable[[Frame], None],
    ledger: LossLedger,
    on_health: Callable[[HealthEvent], None],
) -> LiveStream:
    """Make the loop that drives a source: a live stream, or the plan that `run.plan` names.

    Raises
    ------
    SettingsError
        The plan cannot be read or has a wrong key.
    CoreError
        The core has no camera.
    """
    if settings.run.plan is None:
        from livescope.acquire.stream import LiveStream

        return LiveStream(source.core, on_frame, ledger, settings.camera, on_health=on_health, reopen=source.reopen)
    from livescope.acquire.planned import PlannedRun, load_plan

    plan = load_plan(settings.run.plan)
    return PlannedRun(
        source.core, on_frame, ledger, settings.camera, plan=plan, on_health=on_health, reopen=source.reopen
    )


def check_camera(stream: LiveStream, camera: str | None) -> None:
    """See that the camera whose frames are to be called is one of the stream's.

    Raises
    ------
    SettingsError
        It is not; the message names those that are.
    """
    from livescope.acquire.stream_core import camera_labels

    labels = camera_labels(stream.core)
    if camera is not None and camera not in labels:
        raise SettingsError(f"detector.camera = {camera!r} is none of the cameras in use: {one_of(labels)}, or null.")


def check_channel(stream: LiveStream, channel: str | None, warn: Callable[[str], None]) -> None:
    """See that the channel whose frames are to be called is one of the plan's; `warn` where no plan names any.

    Raises
    ------
    SettingsError
        It is not: no frame would be called. The message names those that are.
    """
    if channel is not None and not stream.channels:
        warn(
            f"detector.channel = {channel!r}, but no plan names channels here: frames are stored and not called until "
            "that channel is chosen. null calls all."
        )
    elif channel is not None and channel not in stream.channels:
        raise SettingsError(
            f"detector.channel = {channel!r} is none of the plan's channels: {one_of(stream.channels)}, or null."
        )


def called_channel(frame: Frame, chosen: str | None, warn: Callable[[str], None]) -> str | None:
    """Return the channel that is called in a planned run of a watched core, as one of its frames tells of the run.

    Parameters
    ----------
    frame
        Carries the run's channels; those of a live view, or of a plan without channels, carry none.
    chosen
        `detector.channel`; None takes the first of each run, and calls frames without a channel.
    warn
        Told which frames are stored only.
    """
    channels: tuple[str, ...] = () if frame.metadata is None else frame.metadata.get("channels", ())
    if chosen is None:
        if len(channels) > 1:
            warn(
                f"the core's owner takes several channels: frames of {channels[0]!r} are called, all others are "
                "stored only. Choose another with detector.channel."
            )
        return next(iter(channels), None)
    if not channels:
        warn(
            f"detector.channel = {chosen!r}, but the core's owner has taken frames that name no channel (a live view, "
            "or a plan without channels): they are stored and not called. null calls them."
        )
    elif chosen not in channels:
        warn(
            f"detector.channel = {chosen!r} is none of the channels of the core's owner: {one_of(channels)}. Frames "
            "of that run are stored and not called; choose one of these, or null for its first."
        )
    return chosen


def expected_spec(stream: LiveStream) -> FrameSpec:
    """Shape of the frames that a stream will deliver.

    Raises
    ------
    FrameError
        Pixels that livescope cannot use.
    """
    core: Any = stream.core
    components = core.getNumberOfComponents() if hasattr(core, "getNumberOfComponents") else 1
    per_component = core.getBytesPerPixel() // components  # of colour the luma is taken, in the same pixel type
    dtype = {1: "uint8", 2: "uint16"}.get(per_component, f"{8 * per_component} bit")
    return FrameSpec(core.getImageHeight(), core.getImageWidth(), dtype, stream.bit_depth, stream.pixel_um)
