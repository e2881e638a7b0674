"""``manifest.json``: with what a record was made.

Owns its first entries and its reading; the recorder and `finish` add the rest.
"""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from livescope import __version__
from livescope.record.layout import FORMAT, MANIFEST, NGFF

__all__ = ["first_manifest", "read_manifest"]

PACKAGES = ("numpy", "tensorstore", "zarr", "pyarrow", "pymmcore-plus", "pymmcore", "onnxruntime")


def first_manifest(now: datetime) -> dict[str, Any]:
    """Return what is known when a record begins."""
    versions: dict[str, str | None] = {"livescope": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "kind": "livescope record",
        "format": FORMAT,
        "ngff": NGFF,
        "opened": now.isoformat(),
        "closed": None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a record's manifest."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest
