"""A model bundle: the network's ONNX file and the card that says what it is good for.

Owns finding, reading and checking bundles. What is built around the network lies in `frame_graph`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from livescope.calls import ErrorRates
from livescope.detect.adapter import Adapter
from livescope.detect.normalise import Normalisation
from livescope.detect.screen import read_screened
from livescope.detect.shift import ShiftReference
from livescope.errors import ModelError, one_of

__all__ = [
    "CARD_SUFFIX",
    "Bundle",
    "Card",
    "Int8",
    "Precision",
    "TensorRt",
    "Validation",
    "bundled_names",
    "card_text",
    "load_bundle",
    "plain_yaml",
    "read_card",
    "write_card",
]

Precision = Literal["fp32", "fp16", "int8"]
"""Arithmetic of a network."""
TensorRt = Literal["tensorrt", "tensorrt-rtx"]
"""NVIDIA's enterprise runtime, and the one for workstations."""

_MODELS = Path(__file__).parent.parent / "models"
CARD_SUFFIX = ".card.yaml"
"""Ending of a card's file, in place of the network's ``.onnx``."""
_MAX_CARD_BYTES = 2**20
_MAX_CARD_DEPTH = 12
_OPENING = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


class Validation(BaseModel):
    """How the model did on images kept out of its training: one row of the card's validation sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: str
    """Which images, and how they were kept apart from the training."""
    n_images: int = Field(ge=1)
    n_live: int = Field(ge=0)
    n_dead: int = Field(ge=0)
    """Cells in the truth; 0 of both where outlines were marked without a state."""
    f1: float = Field(ge=0, le=1)
    """Detection, centres matched within half a cell radius."""
    recall_live: float | None = Field(default=None, ge=0, le=1)
    recall_dead: float | None = Field(default=None, ge=0, le=1)
    """Fraction of the true live and dead cells that were found, whatever they were called; None without any."""
    balanced_accuracy: float | None = Field(default=None, ge=0, le=1)
    auc_dead: float | None = Field(default=None, ge=0, le=1)
    """State call on the cells that were found."""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95 % intervals of figures by name, from resampling whole groups (wells, days, near-duplicates), never cells."""


class Int8(BaseModel):
    """How the 8-bit version agrees with the network itself, on frames that did not set its ranges."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frames: str
    """Which frames."""
    n_cells: int = Field(ge=1)
    """Cells that the network itself calls there."""
    f1: float = Field(ge=0, le=1)
    """Detection, the network's own calls taken as truth."""
    same_state: float = Field(ge=0, le=1)
    """Part of the matched cells that get the same state."""
    viability_shift: float = Field(ge=0, le=1)
    """Difference of the two viabilities over all frames."""
    passed: bool
    """Whether it is let through; see `livescope.detect.quantise`."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the 8-bit ONNX file, ``NAME.int8.onnx``."""


class Card(BaseModel):
    """What a user must know of a network before trusting it; read from ``NAME.card.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    version: str
    licence: str
    trained_on: str
    """Data, its source and licence."""
    modality: str
    """E.g. ``bright-field`` or ``phase contrast``."""
    pixel_um: float | None = Field(gt=0, le=100)
    """Micrometres a pixel of the network's input; None where the training images state none."""
    cell_diameter_px: tuple[float, float]
    """5th and 95th percentile of the cells' diameter in the training images, pixels of the network's input."""
    normalisation: Normalisation
    temperature: float = Field(default=1.0, gt=0)
    """Divides the dead logit, so that p_dead is calibrated."""
    p_cell: float = Field(ge=0, le=1)
    """Least score of a detection."""
    uncertain: tuple[float, float]
    """Calls with p_dead between these two are uncertain; from 0 to 1 all are."""
    sensitivity: float | None = Field(default=None, ge=0, le=1)
    """Chance that a live cell that was given a call is called live; None where not measured."""
    specificity: float | None = Field(default=None, ge=0, le=1)
    """Chance that a dead cell that was given a call is called dead; None where not measured."""
    rated_on: tuple[int, int] | None = None
    """Live and dead cells that these two chances were measured on; None: those of the first validation."""
    validation: tuple[Validation, ...]
    shift: ShiftReference | None = None
    """How frames of the training look, for the shift watch; None where that was not measured."""
    int8: Int8 | None = None
    """The 8-bit version, None where there is none."""
    adapter: Adapter | None = None
    """How a network made elsewhere is to be read; None where its outputs are those of a livescope network."""
    limits: str = Field(min_length=1)
    """Where the network is known or likely to fail, in words."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the ONNX file."""

    @model_validator(mode="after")
    def _bands_ascend(self) -> Self:
        low, high = self.uncertain
        if not 0 <= low <= high <= 1:
            raise ValueError(f"uncertain: {self.uncertain} is no band; expected 0 <= low <= high <= 1")
        if not 0 < self.cell_diameter_px[0] <= self.cell_diameter_px[1]:
            raise ValueError(f"cell_diameter_px: {self.cell_diameter_px} is no range of diameters")
        return self

    def error_rates(self, uncertain: tuple[float, float] | None) -> ErrorRates | None:
        """By which a viability is corrected; None where the card does not state them, or not on how many cells.

        Parameters
        ----------
        uncertain
            Band of a run that was told one (`detector.uncertain`). The card's chances are of calls outside the card's
            own: those outside another are not known.
        """
        if uncertain not in (None, self.uncertain):
            return None
        counts = self.rated_on
        if counts is None and self.validation:
            counts = self.validation[0].n_live, self.validation[0].n_dead
        if self.sensitivity is None or self.specificity is None or counts is None:
            return None
        return ErrorRates(self.sensitivity, counts[0], self.specificity, counts[1])

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the user must be told when the model is loaded: what is not known of it."""
        unproven = (
            f"model {self.name!r} has no validation sheet: nothing shows how far its calls can be trusted. Score it on "
            "labelled fields: livescope evaluate MODEL DATA --out sheet/."
        )
        unwatched = (
            f"the card of model {self.name!r} does not say how its training looked: of a shift only light, size and "
            "counts of cells are watched. livescope calibrate MODEL FIELDS --out NAME.onnx adds it from control fields."
        )
        return (*(() if self.validation else (unproven,)), *(() if self.shift else (unwatched,)))


@dataclass(slots=True, frozen=True)
class Bundle:
    """A network that was read and whose hash agrees with its card.

    Attributes
    ----------
    name
        The card's name.
    onnx_path
        The network's file.
    card
        What it is good for.
    sha256
        Of the ONNX file, in hexadecimal.
    """

    name: str
    onnx_path: Path
    card: Card
    sha256: str

    def int8_path(self) -> Path:
        """Path of the 8-bit network, checked like the network itself.

        Raises
        ------
        ModelError
            There is none, it did not pass its gate, or its file is not the one that did.
        """
        path, gate = self.onnx_path.with_suffix(".int8.onnx"), self.card.int8
        if gate is None:
            raise ModelError(
                f"model {self.name!r} has no 8-bit version. Choose detector.precision fp32 or fp16, or make one with "
                f"`livescope int8 {self.name} --frames FRAMES --out NAME.onnx`."
            )
        if not gate.passed:
            raise ModelError(
                f"the 8-bit version of model {self.name!r} did not pass its gate (F1 {gate.f1:.3f} against the network "
                f"itself, same state {gate.same_state:.3f}). Choose detector.precision fp32 or fp16."
            )
        read_screened(path, gate.sha256)
        return path


def bundled_names() -> tuple[str, ...]:
    """Names of the networks that come with livescope, sorted."""
    return tuple(sorted(path.name.removesuffix(CARD_SUFFIX) for path in _MODELS.glob(f"*{CARD_SUFFIX}")))


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Find a model bundle, read its card, and check the network's hash, size, operators and data; nothing of it is run.

    Parameters
    ----------
    name_or_path
        One of `bundled_names`, or the path of an ``.onnx`` file with its ``.card.yaml`` beside it.

    Raises
    ------
    ModelError
        Unknown name, missing or unreadable file, a card with a wrong entry, or a network that is not the card's or that
        `livescope.detect.screen` refuses.
    """
    onnx_path = Path(name_or_path)
    if onnx_path.suffix != ".onnx":
        if str(name_or_path) not in bundled_names():
            raise ModelError(
                f"model {str(name_or_path)!r} is not known. Bundled models: {one_of(bundled_names()) or 'none'}; "
                "or give the path of a bundle's .onnx file."
            )
        onnx_path = _MODELS / f"{name_or_path}.onnx"
    card = read_card(onnx_path.with_suffix(CARD_SUFFIX))
    read_screened(onnx_path, card.sha256)
    return Bundle(card.name, onnx_path, card, card.sha256)


def write_card(card: Card, onnx_path: Path) -> Path:
    """Write a card beside its network, and return its path; `load_bundle` reads it back."""
    path = onnx_path.with_suffix(CARD_SUFFIX)
    path.write_text(card_text(card), encoding="utf-8")
    return path


def card_text(card: Card) -> str:
    """Return a card as YAML."""
    return str(
        yaml.safe_dump(
            card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
        )
    )


def read_card(path: Path, sha256: str | None = None) -> Card:
    """Read a model card, plain YAML.

    Parameters
    ----------
    path
        The card.
    sha256
        Hash of the network to write into it, where the card is a draft that does not know it yet.

    Raises
    ------
    ModelError
        It cannot be read, is no plain YAML, or has a wrong entry.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CARD_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"model card {str(path)!r} cannot be read: {error.strerror}. A bundle is NAME.onnx with NAME{CARD_SUFFIX} "
            "beside it."
        ) from None
    tree = plain_yaml(content, f"model card {str(path)!r}")
    try:
        return Card.model_validate(tree if sha256 is None or not isinstance(tree, dict) else {**tree, "sha256": sha256})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"model card {str(path)!r} has {error.error_count()} wrong entries: {faults}.") from None


def plain_yaml(content: bytes, name: str) -> object:
    """Parse plain YAML: no tags that make objects, and nothing that a page of text could blow up with.

    Parameters
    ----------
    content
        The file's bytes.
    name
        How messages call it.

    Raises
    ------
    ModelError
        It is no YAML, too long, nested too deep, or has aliases.
    """
    if len(content) > _MAX_CARD_BYTES:
        raise ModelError(f"{name} has more than the {_MAX_CARD_BYTES / 2**20:g} MB that such a file may have.")
    depth = 0
    try:
        for token in yaml.scan(content, yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise ModelError(f"{name} uses YAML aliases (*name); write every value out.")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _MAX_CARD_DEPTH:
                raise ModelError(
                    f"{name} is nested deeper than the {_MAX_CARD_DEPTH} levels that such a file may have."
                )
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{name} is not YAML: {error}. Get it again.") from None
