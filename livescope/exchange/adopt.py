"""Networks of others made into bundles: a bioimage.io package with ONNX weights, or a plain ONNX file, with a card.

Owns the order of the steps. What may be loaded is decided in `livescope.detect.screen`; nothing in a package is run but
its network on its own test tensors.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from livescope.detect.adapted import AdaptedDetector
from livescope.detect.bundle import CARD_SUFFIX, Bundle, Card, load_bundle, read_card, write_card
from livescope.detect.detector import Detector
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.detect.screen import MAX_NETWORK_BYTES, screened
from livescope.errors import ModelError
from livescope.exchange.package import Package, read_file
from livescope.frames import Frame

__all__ = ["Adopted", "adopt", "take_in"]

_SEEN = ".seen.txt"
_BESIDE = (_SEEN, ".int8.onnx")
"""Endings of files that a bundle may have beside network and card."""
_TRIED, _TRIED_ROWS = (256, 256), 16
"""Pixels and rows of the blank frame that a new bundle is tried with, where the network does not fix its size."""


@dataclass(slots=True, frozen=True)
class Adopted:
    """The new bundle, and what was compared with the package's test tensors."""

    bundle: Bundle
    checked: str


def take_in(source: Path, out: Path, card: Path | None, console: Console) -> None:
    """Do what `livescope import` does: make the bundle, and say what it is."""
    made = adopt(source, out, card)
    about = made.bundle.card
    console.print(
        f"{about.name} {about.version} -> {out} ({made.checked}). Licence: {about.licence}. Limits: {about.limits}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def adopt(source: Path, out: Path, card: Path | None = None) -> Adopted:
    """Make a bundle; on failure nothing is written.

    Parameters
    ----------
    source
        ``.zip`` or unpacked folder of a bioimage.io package, or an ``.onnx`` file.
    out
        ``NAME.onnx`` of the new bundle; its card is written beside it. A bundle of that name is replaced.
    card
        Card of the network; a draft need not know its sha256. None takes the livescope card that a package brings.

    Raises
    ------
    ModelError
        The package is damaged, has no ONNX weights, names files from elsewhere, or its network does not give what its
        test tensors say; there is no card, or it does not fit the network; `out` is a folder.
    BackendError
        ONNX Runtime refuses the network, or fails on a blank frame.
    """
    if out.suffix != ".onnx":
        raise ModelError(f"--out {str(out)!r} ends in {out.suffix!r}; a bundle's network ends in '.onnx'.")
    if source.resolve() == out.resolve():
        raise ModelError(f"--out {str(out)!r} is the network itself; choose another name.")
    if source.suffix == ".onnx":
        content, seen, checked = read_file(source, MAX_NETWORK_BYTES), None, "a plain network has no test tensors"
        screened(content, str(source))
        brought = None
    else:
        with Package(source) as package:
            content, brought, seen = package.network(), package.attached(CARD_SUFFIX), package.attached(_SEEN)
            screened(content, str(source))
            checked = package.compare(content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            draft = Path(folder) / out.name
            draft.write_bytes(content)
            write_card(_card(source, card, brought, draft, hashlib.sha256(content).hexdigest()), draft)
            if seen is not None:  # the network was trained on these whatever the card
                draft.with_suffix(_SEEN).write_bytes(seen)
            _try(load_bundle(draft))
            _move(Path(folder), out)
    except OSError as error:
        raise ModelError(
            f"--out {str(out)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from None
    return Adopted(load_bundle(out), checked)


def _move(folder: Path, out: Path) -> None:
    """Put a new bundle in its place, network and card last."""
    bundle = (out, out.with_suffix(CARD_SUFFIX))
    beside = [out.with_suffix(ending) for ending in _BESIDE]
    for target in (*bundle, *beside):
        if target.is_dir():
            raise ModelError(f"--out {str(out)!r} cannot be written: {str(target)!r} is a folder. Choose another path.")
    for target in (*beside, *bundle):
        new = folder / target.name
        if new.is_file():
            new.replace(target)
        else:  # what an older bundle of that name had seen, and its 8-bit version, are not the new one's
            target.unlink(missing_ok=True)


def _card(source: Path, given: Path | None, brought: bytes | None, draft: Path, sha256: str) -> Card:
    if given is not None:
        return read_card(given, sha256)
    if brought is None:
        raise ModelError(
            f"{str(source)!r} brings no livescope card, which says how pictures are prepared and outputs read. Write "
            "one (docs/adapters.md) and give it with --card."
        )
    path = draft.with_suffix(CARD_SUFFIX)
    path.write_bytes(brought)
    card = read_card(path)
    if card.sha256 != sha256:
        raise ModelError(f"the card in {str(source)!r} describes another network (sha256 {card.sha256}). Get it again.")
    return card


def _try(bundle: Bundle) -> None:
    """Refuse a card that does not fit its network, before anybody relies on it: one blank frame is run."""
    if bundle.card.adapter is None:
        detector: Detector = OnnxDetector(bundle, _TRIED_ROWS, threads=1)
        height, width = _TRIED
    else:
        detector = adapted = AdaptedDetector(bundle, _TRIED_ROWS, threads=1)
        height, width = (fixed or side for fixed, side in zip(adapted.size, _TRIED, strict=True))
    blank = Frame(np.zeros((height, width), np.uint8), 0, 0, "blank", 0.0, 0.0, 8, pixel_um=bundle.card.pixel_um)
    detector.prepare(blank.spec)
    detector.poll(detector.submit(blank))
    detector.close()
