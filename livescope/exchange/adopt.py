"""Networks of others made into bundles: a bioimage.io package with ONNX weights, or a plain ONNX file, with a card.

Owns the order of the steps. What may be loaded is decided in `livescope.detect.screen`; nothing in a package is run but
its network on its own test tensors.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from livescope.detect.bundle import CARD_SUFFIX, Bundle, Card, load_bundle, read_card, write_card
from livescope.detect.network import read_network
from livescope.detect.screen import MAX_NETWORK_BYTES, screened
from livescope.errors import ModelError
from livescope.exchange.package import Package, read_file

__all__ = ["Adopted", "adopt", "take_in"]

_SEEN = ".seen.txt"
_BESIDE = (_SEEN, ".int8.onnx")
"""Endings of files that a bundle may have beside network and card."""


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
        test tensors say; there is no card, or it does not fit the network.
    BackendError
        ONNX Runtime refuses the network.
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
            made = list(Path(folder).iterdir())
            for path in made:
                path.replace(out.parent / path.name)
            # what an older bundle of that name had seen, and its 8-bit version, are not the new one's
            for old in {out.with_suffix(ending).name for ending in _BESIDE} - {path.name for path in made}:
                (out.parent / old).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"--out {str(out)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from None
    return Adopted(load_bundle(out), checked)


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
    """Refuse a card that does not fit its network, before anybody relies on it."""
    if bundle.card.adapter is None:
        read_network(bundle)
        return
    from livescope.detect.adapted import AdaptedDetector

    AdaptedDetector(bundle, max_cells=1, threads=1).close()
