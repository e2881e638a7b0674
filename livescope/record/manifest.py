"""``manifest.json``: with what a record was made.

Owns its first entries and its reading; the recorder and `finish` add the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from livescope import __version__
from livescope.record.layout import FORMAT, MANIFEST, NGFF, write_json

__all__ = ["first_manifest", "is_as_written", "read_manifest", "write_manifest"]

_OWN_HASH = "manifest_sha256"
PACKAGES = (
    "numpy",
    "tensorstore",
    "zarr",
    "pyarrow",
    "pymmcore-plus",
    "pymmcore",
    "pymmcore-nano",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
)
"""What decides what was recorded and called; None in the manifest where it is not installed."""


@functools.cache
def _versions() -> dict[str, str | None]:
    """Look up what is installed, once: it takes 5 ms, half of what it takes to begin a record."""
    versions: dict[str, str | None] = {"livescope": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def first_manifest(now: datetime) -> dict[str, Any]:
    """Return what is known when a record begins."""
    return {
        "kind": "livescope record",
        "format": FORMAT,
        "ngff": NGFF,
        "opened": now.isoformat(),
        "closed": None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": dict(_versions()),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a record's manifest."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a record's manifest, with the hash of all that it says.

    Raises
    ------
    OSError
        The disk refused; the old manifest is still there.
    """
    write_json(path / MANIFEST, {**manifest, _OWN_HASH: manifest_hash(manifest)})


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest, whatever the order and layout of its entries, without the hash itself."""
    plain = {name: value for name, value in manifest.items() if name != _OWN_HASH}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def is_as_written(manifest: Mapping[str, Any]) -> bool:
    """Return True if a manifest says what its hash says."""
    return bool(manifest.get(_OWN_HASH) == manifest_hash(manifest))
