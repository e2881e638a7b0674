"""Which pictures a network has learnt from: the list beside a bundle, NAME.seen.txt.

Owns the file and what follows from it: groups that must not be tested on, and what to say where nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from livescope.detect.bundle import Bundle
from livescope.train.data import Field, fingerprint

__all__ = ["read_seen", "seen_path", "seen_whole", "unknown_training", "unseen", "write_seen"]

_PARTIAL = "# not all: what the network that it was made from has learnt from is not known"


def seen_path(onnx_path: Path) -> Path:
    """Path of the list of fingerprints of the fields that a network was trained or calibrated on."""
    return onnx_path.with_suffix(".seen.txt")


def read_seen(bundle: Bundle | None) -> frozenset[str]:
    """Fingerprints of the fields that a network is known to have been trained or calibrated on; none of no network."""
    return frozenset(line for line in _lines(bundle) or () if not line.startswith("#"))


def seen_whole(bundle: Bundle | None) -> bool:
    """Return True if `read_seen` names every field, False where there is no list or it says that it is not whole."""
    lines = _lines(bundle)
    return lines is not None and _PARTIAL not in lines


def write_seen(fingerprints: Iterable[str], onnx_path: Path, whole: bool = True) -> None:
    """Write the list of a network; `whole` is False where it may have learnt from others as well."""
    lines = [*([] if whole else [_PARTIAL]), *sorted(set(fingerprints))]
    seen_path(onnx_path).write_text("".join(f"{one}\n" for one in lines), encoding="ascii")


def unseen(bundle: Bundle, fields: Sequence[Field]) -> tuple[list[Field], int]:
    """Leave out every group of which the model has seen a field; returns the others, and how many fields went."""
    seen = read_seen(bundle)
    known = {field.group for field in fields if fingerprint(field) in seen}
    kept = [field for field in fields if field.group not in known]
    return kept, len(fields) - len(kept)


def unknown_training(bundle: Bundle) -> list[str]:
    """Say where fields that the model has learnt from may not be left out, because nobody knows them."""
    path = seen_path(bundle.onnx_path)
    if seen_whole(bundle):
        return []
    lacks = "does not name them all" if path.is_file() else "is missing"
    return [
        f"{path.name} {lacks}: nobody knows which pictures model {bundle.name!r} has learnt from. On those it is "
        "surer and better than on others."
    ]


def _lines(bundle: Bundle | None) -> list[str] | None:
    if bundle is None:
        return []
    path = seen_path(bundle.onnx_path)
    return path.read_text(encoding="ascii").splitlines() if path.is_file() else None
