"""Opens the source that the settings name: demo camera, a lab's Micro-Manager, simulated cells, or files.

Owns the choice between the rooms and nothing else: whatever it returns is driven by the same loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livescope.frames import Frame
from livescope.settings import Settings

if TYPE_CHECKING:
    from livescope.acquire.stream import StreamCore
    from livescope.simulate.truth import Truth

__all__ = ["OpenSource", "open_source"]


@dataclass(slots=True, frozen=True)
class OpenSource:
    """An open source: its core, how to close it, and (simulated cells only) the truth of a frame."""

    core: StreamCore
    close: Callable[[], None]
    truth: Callable[[Frame], Truth] | None = None


def open_source(settings: Settings) -> OpenSource:
    """Open what `settings.source` names.

    Raises
    ------
    CoreError
        Micro-Manager, its configuration or an adapter could not be loaded.
    SourceError
        The files to replay are missing, empty or unreadable.
    """
    if settings.source.kind == "replay":
        from livescope.acquire.replay import ReplayCore

        replay = ReplayCore(settings.source, settings.camera)
        return OpenSource(replay, replay.close)
    from livescope.acquire.core import close_core

    if settings.source.kind == "simulated":
        from livescope.simulate.camera import open_simulated_core, truth_of

        simulated = open_simulated_core(settings.simulation, settings.camera)
        return OpenSource(simulated, lambda: close_core(simulated), lambda frame: truth_of(simulated, frame))
    from livescope.acquire.core import open_core

    core = open_core(settings.source, settings.camera)
    return OpenSource(core, lambda: close_core(core))
