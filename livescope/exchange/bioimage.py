"""A model as a bioimage.io package: a zip with description, ONNX weights and test tensors.

Owns writing that format (model description 0.5) and having it checked. Those of others come in through `adopt`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console

from livescope.calls import N_RAYS
from livescope.detect.bundle import CARD_SUFFIX, Bundle, Card, card_text, load_bundle
from livescope.detect.frame_graph import NETWORK_MULTIPLE, STRIDE
from livescope.detect.network import read_network
from livescope.detect.normalise import levels
from livescope.detect.onnx_runtime import open_session
from livescope.errors import ModelError
from livescope.settings import SimulationSettings
from livescope.simulate.optics import render_field

__all__ = ["export_package", "pack", "validated"]

_AUTHOR = "livescope contributors"
FORMAT = "0.5.4"
_SEEN = ".seen.txt"
_TEST_SHAPE = (192, 256)
_SPDX = re.compile(r"[A-Za-z0-9.+-]*\d[A-Za-z0-9.+-]*|MIT|ISC|Zlib|Unlicense")
"""First word of a licence that may be an SPDX identifier, e.g. BSD-3-Clause."""
_MEANINGS = {
    "object_logit": "logit of: a cell's centre lies here",
    "foreground_logit": "logit of: this place is covered by a cell",
    "dead_logit": "logit of: the cell centred here is dead; divide by the card's temperature",
    "offset_yx": "pixels of the input from the middle of this place to the cell's centre",
    "radii": f"pixels of the input from the centre to the outline along {N_RAYS} rays, from +x towards +y",
}
Tensors = Mapping[str, NDArray[Any]]


def pack(model: str, out: Path, authors: tuple[str, ...], console: Console) -> None:
    """Do what `livescope package` does: write the package, have it checked, and say so."""
    path = export_package(load_bundle(model), out, authors or (_AUTHOR,))
    with console.status("checking with bioimageio.core"):
        checked = validated(path)
    told = checked or "not checked by bioimageio.core: pip install 'livescope[bioimageio]'"
    console.print(f"-> {path} ({told})", highlight=False, soft_wrap=True, markup=False)


def export_package(bundle: Bundle, out: Path, authors: tuple[str, ...] = (_AUTHOR,)) -> Path:
    """Write a bundle as a bioimage.io package, with its card and the list of what it has seen in training.

    Parameters
    ----------
    bundle
        A livescope network; its 8-bit version stays behind.
    out
        ``.zip`` file to write; replaced if it exists.
    authors
        Names for the description.

    Raises
    ------
    ModelError
        The card's licence does not begin with an SPDX identifier; the model has an adapter; `out` cannot be written.
    """
    if out.suffix != ".zip":
        raise ModelError(f"--out {str(out)!r} ends in {out.suffix!r}; a bioimage.io package ends in '.zip'.")
    network, stem = read_network(bundle), _stem(bundle)
    given, found = _test_tensors(bundle)
    files = {
        f"{stem}.onnx": bundle.onnx_path.read_bytes(),
        f"{stem}{CARD_SUFFIX}": card_text(bundle.card.model_copy(update={"int8": None})).encode(),
        "README.md": _documentation(bundle.card).encode(),
        **{f"{name}.npy": _npy(array) for name, array in {**given, **found}.items()},
    }
    seen = bundle.onnx_path.with_suffix(_SEEN)
    if seen.is_file():
        files[f"{stem}{_SEEN}"] = seen.read_bytes()
    opset = max(entry.version for entry in network.opset_import)
    description = _description(bundle, opset, found, files, authors)
    plain = json.loads(json.dumps(description))  # parts that are used twice would be written as aliases
    files["bioimageio.yaml"] = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()
    partial = out.with_suffix(".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as package:
            for name, content in files.items():
                package.writestr(name, content)
        partial.replace(out)
    except OSError as error:
        raise ModelError(
            f"--out {str(out)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from None
    return out


def validated(package: Path) -> str | None:
    """Have bioimageio.core check a package and run it on its test tensors; None where that is not installed.

    Returns
    -------
    What was checked by which version.

    Raises
    ------
    ModelError
        It does not pass; the message holds the reasons.
    """
    try:
        import bioimageio.core
    except ImportError:
        return None
    summary = bioimageio.core.test_model(package, weight_format="onnx")
    if summary.status != "passed":
        reasons = "; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for part in summary.details for e in part.errors)
        raise ModelError(f"{str(package)!r} does not pass bioimageio.core {bioimageio.core.__version__}: {reasons}.")
    return f"bioimageio.core {bioimageio.core.__version__}: description valid, test tensors reproduced"


def _description(
    bundle: Bundle, opset: int, found: Tensors, files: Mapping[str, bytes], authors: tuple[str, ...]
) -> dict[str, Any]:
    card, stem = bundle.card, _stem(bundle)
    licence = card.licence.split()[0].rstrip(",;:") if card.licence.split() else ""
    if not _SPDX.fullmatch(licence):
        raise ModelError(
            f"licence {card.licence!r} of model {bundle.name!r} does not begin with an SPDX identifier, which "
            "bioimage.io asks for, e.g. 'BSD-3-Clause' or 'CC-BY-NC-4.0'. Mend the card."
        )

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    def tensor(name: str, meaning: str, channels: int, yx: list[dict[str, Any]]) -> dict[str, Any]:
        names = [f"{name}_{k}" for k in range(channels)] if channels > 1 else [name]
        axes = [{"type": "batch", "size": 1}, {"type": "channel", "channel_names": names}, *yx]
        data = {"type": "float32"}
        return {"id": name, "description": meaning, "axes": axes, "data": data, "test_tensor": file(f"{name}.npy")}

    size = {"min": 4 * NETWORK_MULTIPLE, "step": NETWORK_MULTIPLE}
    unit = {} if card.pixel_um is None else {"unit": "micrometer"}
    pixel = card.pixel_um or 1.0
    picture = [{"type": "space", "id": axis, "size": size, "scale": pixel, **unit} for axis in "yx"]
    maps = [
        {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}, "scale": STRIDE * pixel, **unit}
        for axis in "yx"
    ]
    attached = [name for name in files if name.endswith((CARD_SUFFIX, _SEEN))]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"livescope {stem}",
        "description": "Cells with outlines, live or dead, in one pass over a picture without a stain.",
        "authors": [{"name": author} for author in authors],
        "license": licence,
        "documentation": "README.md",
        "tags": ["cell-detection", "viability", "label-free", "2d", "star-convex", *card.modality.split(" and ")],
        "version": card.version,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [tensor("image", "picture normalised as the card says", 1, picture)],
        "outputs": [tensor(name, _MEANINGS[name], array.shape[1], maps) for name, array in found.items()],
        "weights": {"onnx": {**file(f"{stem}.onnx"), "opset_version": opset}},
        "attachments": [file(name) for name in attached],
        "config": {"bioimageio": {}, "livescope": {"card": f"{stem}{CARD_SUFFIX}"}},
    }


def _documentation(card: Card) -> str:
    rows = "".join(f"- {row.data}: detection F1 {row.f1}\n" for row in card.validation) or "- none\n"
    return (
        f"# livescope {card.name} {card.version}\n\nModality: {card.modality}. Trained on: {card.trained_on}.\n"
        f"Licence: {card.licence}.\n\n## Limits\n\n{card.limits}\n\n## Input and outputs\n\n"
        "The picture is normalised before it enters, as `normalisation` in the attached card says; the maps have a "
        "quarter of its size. `livescope import` makes a bundle of this package that does all of it.\n\n"
        f"## Validation\n\n{rows}"
    )


def _test_tensors(bundle: Bundle) -> tuple[Tensors, Tensors]:
    """Let the network look at a simulated culture."""
    height, width = _TEST_SHAPE
    scene = SimulationSettings(seed=1, width=width, height=height, pixel_um=bundle.card.pixel_um or 1.3)
    pixels, _ = render_field(scene)
    black, inv_gain = levels(pixels, bundle.card.normalisation)
    image = ((pixels.astype(np.float32) - np.float32(black)) * np.float32(inv_gain))[None, None]
    session = open_session(bundle.onnx_path.read_bytes(), 1, "CPUExecutionProvider", bundle.name)
    names = [one.name for one in session.get_outputs()]
    return {"image": image}, dict(zip(names, session.run(names, {"image": image}), strict=True))


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _stem(bundle: Bundle) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", bundle.name)
