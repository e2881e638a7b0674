"""The Python interface, for notebooks and scripts: `livescope.open_session`, `livescope.open_record`.

Owns nothing but the doors; what lies behind them is documented where it is built.
"""

from __future__ import annotations

from pathlib import Path

from livescope.record.reader import open_record
from livescope.session import Session
from livescope.settings import Settings, load_settings, override_settings

__all__ = ["open_record", "open_session"]


def open_session(
    config: Path | str | Settings | None = None, *overrides: str, allow_actions: bool = False
) -> Session:
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
