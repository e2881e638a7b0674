"""The Python interface, for notebooks and scripts: `livescope.open_session`, `attach` and `open_record`.

Owns nothing but the doors; what lies behind them is documented where it is built.
"""

from __future__ import annotations

from pathlib import Path

from livescope.errors import CoreError
from livescope.record.reader import open_record
from livescope.session import Session
from livescope.settings import Settings, load_settings, override_settings

__all__ = ["attach", "open_record", "open_session"]


def open_session(config: Path | str | Settings | None = None, *overrides: str, allow_actions: bool = False) -> Session:
    """Open a session; use it in a ``with`` block, and iterate over `Session.results` to run it.

    Parameters
    ----------
    config
        Path of a YAML config, or settings; None takes the defaults (simulated cells).
    *overrides
        ``"key.path=value"`` each, as ``--set`` on the command line.
    allow_actions
        Leave for the run's rules to run commands and call URLs.

    Raises
    ------
    SettingsError
        Unknown key or value out of range.

    Examples
    --------
    >>> import livescope
    >>> small = ["simulation.width=256", "simulation.height=256", "run.frames=3", "detector.every_frame=true"]
    >>> with livescope.open_session(None, *small) as session:
    ...     for analysis in session.results():
    ...         print(analysis.frame.index, len(analysis.calls) > 0)
    0 True
    1 True
    2 True
    """
    if isinstance(config, Settings):
        return Session(override_settings(config, overrides), allow_actions=allow_actions)
    return Session(load_settings(None if config is None else Path(config), overrides), allow_actions=allow_actions)


def attach(core: object, *overrides: str, config: Path | str | Settings | None = None) -> Session:
    """Watch a Micro-Manager core that another program owns: a notebook, pymmcore-gui, napari-micromanager.

    The session calls and records the frames of the owner's live view and planned runs. It takes no frame away, starts,
    stops and sets nothing, and leaves the owner's listeners alone; closing it lets go. What belongs to the owner
    (exposure, ROI, snap) is refused. Each of the owner's starts is a segment.

    Parameters
    ----------
    core
        The owner's `CMMCorePlus`, with one camera.
    *overrides
        ``"key.path=value"`` each, e.g. ``"record.path=run.ome.zarr"``.
    config
        Path of a YAML config, or settings; its source is not used.

    Raises
    ------
    CoreError
        `core` is no `CMMCorePlus`.
    SettingsError
        Unknown key, value out of range, or what only the core's owner can do.

    Examples
    --------
    >>> from itertools import islice
    >>> import livescope
    >>> from pymmcore_plus import CMMCorePlus
    >>> core = CMMCorePlus()
    >>> core.loadSystemConfiguration()
    >>> core.startContinuousSequenceAcquisition(0)  # the owner's live view
    >>> with livescope.attach(core, "camera.pixel_um=1.3") as session:
    ...     for analysis in islice(session.results(), 2):
    ...         print(analysis.frame.camera, analysis.frame.pixels.shape, len(analysis.calls) >= 0)
    Camera (512, 512) True
    Camera (512, 512) True
    >>> core.isSequenceRunning()  # it goes on
    True

    How a program that owns a core should end, since pymmcore may else abort it at exit:

    >>> from livescope.acquire.core import close_core
    >>> close_core(core)
    """
    if not hasattr(core, "mda"):
        raise CoreError(f"attach needs a pymmcore_plus.CMMCorePlus; this is a {type(core).__name__}.")
    given = config if isinstance(config, Settings) else load_settings(None if config is None else Path(config))
    return Session(override_settings(given, ["source.kind=attached", *overrides]), core=core)
