"""Icons for the device widgets, from a file in this package: nothing is ever fetched over the network.

Owns the one place where pyconify is replaced. Without it pymmcore-widgets asks api.iconify.design for each icon: on a
microscope PC without network its property browser takes 67 s to open, and its stage widget raises.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import logging
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["use_bundled_icons"]

_log = logging.getLogger(__name__)
_ROUND: dict[str, Any] = {"body": '<circle cx="12" cy="12" r="4" fill="currentColor"/>', "width": 24, "height": 24}
"""In place of an icon that is not in the file."""


@cache
def _bundled() -> dict[str, dict[str, Any]]:
    text = importlib.resources.files("livescope.view").joinpath("icons.json").read_text(encoding="utf-8")
    icons: dict[str, dict[str, Any]] = json.loads(text)["icons"]
    return icons


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="livescope-icons-")


def svg_path(
    *key: str, color: str | None = None, flip: str | None = None, rotate: str | int | None = None, **_: object
) -> Path:
    """Return the file of an icon; stands in for `pyconify.svg_path`.

    Parameters
    ----------
    key
        ``"set:name"`` or ``"set", "name"``.
    color
        CSS colour of its lines.
    flip
        ``"horizontal"``, ``"vertical"`` or both with a comma between.
    rotate
        Degrees, or quarter turns below 4.
    """
    name = ":".join(key)
    icon = _bundled().get(name)
    if icon is None:
        _log.warning("icon %r is not bundled; a dot stands in for it", name)
        icon = _ROUND
    width, height = icon["width"], icon["height"]
    turns = []
    if rotate is not None:
        degrees = int(rotate) if abs(int(rotate)) >= 4 else 90 * int(rotate)
        turns.append(f"rotate({degrees} {width / 2} {height / 2})")
    if flip is not None:
        across, down = ("horizontal" in flip), ("vertical" in flip)
        turns.append(f"translate({width * across} {height * down}) scale({1 - 2 * across} {1 - 2 * down})")
    body = icon["body"].replace("currentColor", color or "currentColor")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<g transform="{" ".join(turns)}">{body}</g></svg>'
    )
    file = Path(_folder().name) / f"{hashlib.sha256(svg.encode()).hexdigest()[:24]}.svg"
    if not file.exists():
        file.write_text(svg, encoding="utf-8")
    return file


def use_bundled_icons() -> None:
    """Let superqt and pymmcore-widgets take their icons from here, whether they are imported already or not."""
    import pyconify

    fetching = pyconify.svg_path
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if package in ("pyconify", "superqt", "pymmcore_widgets") and vars(module).get("svg_path") is fetching:
            module.svg_path = svg_path  # type: ignore[attr-defined]
