"""What a training is asked for in the wizard, and the config that says so: the same file that `livescope train` takes.

Owns the request, reading what a folder holds, and writing the config. Without Qt; nothing of training is imported here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from livescope.detect.bundle import load_bundle
from livescope.errors import SourceError
from livescope.record.corrections import CorrectionLog
from livescope.record.place import is_record

__all__ = ["CHANNELS", "Kind", "TrainRequest", "channel_guess", "channels_in", "kind_of", "write_config"]

Kind = Literal["dye_pairs", "records", "coco", "masks"]
CHANNELS = {
    "bright-field": ("bright", "bf", "phase", "trans", "dic", "ph"),
    "dead dye": ("dead", "propidium", "pi", "sytox", "draq", "7aad", "eth"),
    "nuclear dye": ("nuclear", "hoechst", "dapi", "nuc", "h33342"),
}
"""Channels of a dye experiment, and words that their file names go by."""
_PLAIN = (".brightfield.tif", ".dead_dye.tif", ".nuclear_dye.tif")
"""Endings that training reads as they are: then nothing is gathered, and nuclei that were drawn are used."""
_TIFF = (".tif", ".tiff")
_FINE_TUNE: dict[str, Any] = {"steps": 300, "batch": 8, "canvas_px": 208, "learning_rate": 1e-3}
"""As in configs/finetune.yaml."""
_FROM_CHANCE: dict[str, Any] = {"steps": 2000, "learning_rate": 3e-3}
_DYE_FROM_CHANCE: dict[str, Any] = {
    "steps": 2400,
    "state_weight": 1.5,
    "dead_miss_weight": 1.0,
    "focal": 1.0,
    "augment": {"level": 0.04, "gradient": 0.6, "noise": 0.05, "discs": 0.3},
}
"""As in configs/dye.yaml, with that normalisation."""
_COCO = "annotations.coco.json"
_COCO_GROUPS = ("dup_group", "series", "experiment", "day", "well")
"""Keys of a COCO image that say what belongs together; the first that every image has is taken."""


@dataclass(slots=True, frozen=True)
class TrainRequest:
    """One training.

    Attributes
    ----------
    name, out
        Name and folder of the network to be made.
    kind, folder
        What is learnt from. Of corrections the folder is the record.
    pixel_um
        Micrometres a pixel of the pictures, None where unknown; a record knows its own.
    channels
        Of dye pairs, how the file names of `CHANNELS` end.
    group
        Of dye pairs and masks, a regular expression: what it matches in a name must not be split.
    thresholds
        Of dye pairs, the lines between live, ambiguous and dead; None has them proposed.
    start
        Model to go on from, None for chance.
    thorough
        Three times as many steps.
    """

    name: str
    out: Path
    kind: Kind
    folder: Path
    pixel_um: float | None = None
    channels: tuple[str, str, str] | None = None
    group: str | None = None
    thresholds: dict[str, float] | None = None
    start: str | None = None
    thorough: bool = False

    @property
    def pairs(self) -> Path:
        """Folder in which the channels of dye pairs are gathered."""
        return self.out / f"{self.name}.pairs"

    @property
    def labels(self) -> Path:
        """Folder of the pictures that show the labels."""
        return self.out / f"{self.name}.labels"

    @property
    def checkpoint(self) -> Path:
        """File from which an interrupted training goes on."""
        return self.out / f"{self.name}.checkpoint.pt"

    @property
    def resumable(self) -> bool:
        """Whether there is a training that can go on."""
        try:
            return self.checkpoint.is_file()
        except OSError:  # a folder that may not be looked into
            return False

    @property
    def gather(self) -> tuple[str, ...]:
        """Folder and endings of channels that must be gathered first, empty where there is no need."""
        if self.kind != "dye_pairs" or self.channels in (None, _PLAIN):
            return ()
        return (str(self.folder), *(self.channels or ()))

    def config(self) -> dict[str, Any]:
        """Return the config as `livescope.train.settings.TrainSettings` reads it.

        Raises
        ------
        ModelError
            There is no such model to start from.
        SourceError
            The boxes cannot be read.
        """
        data: dict[str, Any] = {"kind": self.kind, "path": str(self.folder.absolute())}
        if self.kind == "dye_pairs":
            data["path"] = str((self.pairs if self.gather else self.folder).absolute())
            data |= {} if self.thresholds is None else {"thresholds": self.thresholds}
        if self.kind in ("dye_pairs", "masks") and self.group:
            data["group"] = self.group
        if self.kind == "coco":
            data["group"] = _coco_group(self.folder / _COCO)
        if self.kind != "records" and self.pixel_um is not None:
            data["pixel_um"] = self.pixel_um
        tree: dict[str, Any] = {"name": self.name, "out": str(self.out.absolute()), "start": self.start}
        if self.start is not None:  # normalisation and pixel size are then those of that network
            tree["modality"] = load_bundle(self.start).card.modality
            fit = _FINE_TUNE
        elif self.kind == "dye_pairs":
            tree["normalisation"] = {"kind": "spread"}
            fit = _DYE_FROM_CHANCE
        else:
            fit = _FROM_CHANCE
        if self.start is None and "pixel_um" in data:  # the network's, only where that of the pictures is known
            tree["pixel_um"] = self.pixel_um
        return {**tree, "data": [data], "fit": {**fit, "steps": fit["steps"] * (3 if self.thorough else 1)}}


def write_config(request: TrainRequest) -> Path:
    """Write the config of a request into its folder, which is made if need be; returns the file.

    Raises
    ------
    ModelError
        There is no such model to start from.
    SourceError
        The folder cannot be written, or the boxes not read.
    """
    tree = request.config()
    path = request.out / f"{request.name}.train.yaml"
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        head = f"# made by the training wizard; again: livescope train {path.name}\n"
        path.write_text(head + yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{str(path)!r} cannot be written: {error.strerror}. Choose another folder.") from None
    return path


def _coco_group(path: Path) -> str:
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        keys = set.intersection(*(set(image) for image in images))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{str(path)!r} is no COCO json with images: {error}") from None
    return next((key for key in _COCO_GROUPS if key in keys), "file_name")


def channels_in(folder: Path) -> dict[str, int]:
    """Count how the names of a folder's TIFF files end, most frequent first.

    A name is cut at its last ``_``, ``-``, space or dot before the suffix: ``A1_f2_PI.tif`` ends in ``_PI.tif``.
    """
    ends: dict[str, int] = {}
    for path in folder.glob("*"):
        if path.suffix.lower() not in _TIFF:
            continue
        plain = next((end for end in _PLAIN if path.name.endswith(end)), None)
        cut = max(path.stem.rfind(mark) for mark in "_-. ")
        if plain or cut > 0:
            end = plain or path.name[cut:]
            ends[end] = ends.get(end, 0) + 1
    return dict(sorted(ends.items(), key=lambda item: (-item[1], item[0])))


def channel_guess(ends: dict[str, int]) -> tuple[str | None, ...]:
    """Say which ending may be which channel, None where no word of `CHANNELS` is in any.

    >>> channel_guess({"_BF.tif": 9, "_Hoechst.tif": 9, "_PI.tif": 9})
    ('_BF.tif', '_PI.tif', '_Hoechst.tif')
    """
    guessed: list[str | None] = []
    for words in CHANNELS.values():
        left = [end for end in ends if end not in guessed]
        named = [end for word in words for end in left if re.search(rf"(?<![a-z]){word}", end.lower())]
        guessed.append(named[0] if named else None)
    return tuple(guessed)


def kind_of(folder: Path) -> Kind:
    """Find out what a folder offers to learn from.

    Raises
    ------
    SourceError
        There is no such folder, or it may not be looked into; nothing that is known; or a record without corrections.
    """
    try:
        if not folder.is_dir():
            raise SourceError(f"there is no folder {str(folder)!r}.")
        return _kind_of(folder)
    except OSError as error:
        raise SourceError(f"{str(folder)!r} cannot be read: {error.strerror}.") from None


def _kind_of(folder: Path) -> Kind:
    if is_record(folder):
        count = len(CorrectionLog(folder).standing)
        if not count:
            raise SourceError(
                f"record {folder.name!r} holds no correction yet; correct its calls first: K, then click on cells."
            )
        return "records"
    if (folder / _COCO).is_file():
        return "coco"
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return "masks"
    if len(channels_in(folder)) >= len(CHANNELS):
        return "dye_pairs"
    raise SourceError(
        f"{str(folder)!r} holds nothing to learn from: expected TIFF files of three channels (NAME_BF.tif, "
        "NAME_PI.tif, NAME_Hoechst.tif, ...), annotations.coco.json beside images/, images/ with masks/, or a "
        "corrected record."
    )
