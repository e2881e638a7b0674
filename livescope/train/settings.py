"""What a training is told: the file `configs/train.yaml`.

Owns names, defaults and ranges, and reading them. An unknown key is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from livescope.detect.normalise import Background, Normalisation
from livescope.errors import SettingsError
from livescope.settings import Section, config_text, explain, split_override
from livescope.train.fit import FitSettings
from livescope.train.sources import DataSettings
from livescope.written import read_yaml, validate

__all__ = ["TrainSettings", "load_train_settings"]


class TrainSettings(Section):
    """A network to be trained, the data, and what its card says that no measurement can."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the bundle: NAME.onnx, NAME.card.yaml and what belongs to them."""
    out: Path = Path("models")
    """Folder of the bundle."""
    data: tuple[DataSettings, ...] = Field(min_length=1)
    """Labelled data; kinds may be mixed."""
    start: str | None = None
    """Bundle to go on from (its name, or the path of its .onnx): fine-tuning. None starts from chance."""
    pixel_um: float | None = Field(default=None, gt=0, le=100)
    """Micrometres a pixel of the network's input; data of finer pixels are binned. None takes pictures as they are."""
    normalisation: Normalisation = Background(contrast=0.3)
    fractions: tuple[float, float] = (0.75, 0.1)
    """Parts of the groups for training and for validation (early stopping, thresholds); the rest is the test, none for
    [0.75, 0.25].
    """
    border_px: int = Field(default=0, ge=0)
    """A second validation row leaves out this many raw pixels along the frame's edge; 0: no such row."""
    fit: FitSettings = FitSettings()
    licence: str = "not stated"
    modality: str = "bright-field"
    limits: str = "Trained by its user. Trust it on cells, microscope and treatment like those of its validation only."

    @field_validator("fractions")
    @classmethod
    def _parts_of_one(cls, fractions: tuple[float, float]) -> tuple[float, float]:
        if not all(0 < part < 1 for part in fractions) or sum(fractions) > 1 + 1e-6:
            raise ValueError(
                "fractions are parts of 1: each lies above 0 and below 1, both together are at most 1, and 75 % is 0.75"
            )
        return fractions


def load_train_settings(path: Path, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read a training config; paths of data in it are relative to the working folder.

    Parameters
    ----------
    path
        YAML file.
    overrides
        ``"key.path=value"`` each, the value in YAML syntax; a number counts entries of a list (``data.0.path``).

    Raises
    ------
    SettingsError
        File missing or not YAML, unknown key, or value out of range.
    """
    try:
        tree = read_yaml(config_text(path))
    except yaml.YAMLError as error:
        raise SettingsError(f"config {str(path)!r} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"config {str(path)!r} holds no settings; see configs/train.yaml.")
    for override in overrides:
        _override(tree, override)
    try:
        return validate(TrainSettings.model_validate, tree)
    except ValidationError as error:
        raise SettingsError(f"{explain(error, TrainSettings, path)} configs/train.yaml shows each.") from None


def _override(tree: dict[str, Any], override: str) -> None:
    (*parents, last), value = split_override(override)
    place: Any = tree
    for part in parents:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            if place.get(part) is None:  # a section that is left empty
                place[part] = {}
            place = place[part]
        else:
            raise SettingsError(f"--set {override!r}: there is no {part!r} to set.")
    if not isinstance(place, dict):
        raise SettingsError(f"--set {override!r}: that does not name a setting.")
    place[last] = value
