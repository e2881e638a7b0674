"""From labelled fields to a bundle: split by group, train, export, calibrate, score, write the card.

Owns the order of the steps and what the card says of them. Each step lies in a module of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from livescope.detect.bundle import Bundle, Card, Validation, load_bundle, write_card
from livescope.detect.normalise import Background, Spread
from livescope.errors import SourceError
from livescope.train.calibrate import best_p_cell, fit_state, uncertain_band
from livescope.train.data import Field, fingerprint, split_groups
from livescope.train.evaluate import call_fields
from livescope.train.examples import example_of
from livescope.train.export import export_onnx
from livescope.train.fit import FitSettings, History, fit
from livescope.train.network import StarNet
from livescope.train.scoring import Matched, Scores, bootstrap, match_field, score

__all__ = ["Facts", "Made", "make_bundle", "seen_path"]

VERSION = "0.1.0"
_ALMOST_ALL = 0.03
"""Score from which calls are looked at to choose the threshold."""


@dataclass(slots=True, frozen=True)
class Facts:
    """What a card says that no measurement can: the words of `livescope.detect.bundle.Card`, and how cells are matched.

    `pixel_um` is that of the network's input (None where the images state none), `bin_px` the raw pixels averaged into
    one. `reach`: a call is right within this part of the marked cell's median radius. `border_px`: a second figure
    leaves out this many raw pixels along the frame's edge (0: none).
    """

    name: str
    licence: str
    trained_on: str
    modality: str
    limits: str
    kept_apart: str
    normalisation: Background | Spread
    pixel_um: float | None
    bin_px: int = 1
    reach: float = 0.5
    border_px: int = 0


@dataclass(slots=True, frozen=True)
class Made:
    """A finished bundle with the scores of its test fields and the course of its training."""

    bundle: Bundle
    scores: Scores
    intervals: dict[str, tuple[float, float]]
    history: History


def seen_path(onnx_path: Path) -> Path:
    """Path of the list of fingerprints of the fields that a network was trained or calibrated on."""
    return onnx_path.with_suffix(".seen.txt")


def make_bundle(
    fields: Sequence[Field],
    facts: Facts,
    settings: FitSettings,
    folder: Path,
    fractions: tuple[float, float] = (0.75, 0.1),
    start: StarNet | None = None,
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
) -> Made:
    """Train on most groups, choose thresholds on some, score on the rest.

    Parameters
    ----------
    fields
        Labelled fields of at least three groups.
    facts, settings
        What the card says, how the network is trained.
    folder
        Where ``NAME.onnx`` and ``NAME.card.yaml`` are written.
    fractions
        Parts of the fields for training and validation; the rest is the test.
    start
        Network to go on from; None starts from chance.
    report
        Called with (step, losses) as training goes.

    Raises
    ------
    SourceError
        Too few groups.
    ModelError
        The network found no live or no dead cell in the validation fields.
    """
    parts = split_groups([field.group for field in fields], fractions, settings.seed)
    train, valid, test = ([field for field in fields if field.group in part] for part in parts)
    if not (train and valid and test):
        groups = len({field.group for field in fields})
        raise SourceError(f"{groups} groups cannot be split into training, validation and test; label more groups.")
    learn, check = ([example_of(f, facts.normalisation, facts.bin_px) for f in part] for part in (train, valid))
    torch.manual_seed(settings.seed)
    network, history = fit(start or StarNet(), learn, check, settings, report)
    bundle = _calibrated(network, train, valid, facts, folder)
    matched = _match(bundle, test, facts)
    scores, intervals = score(matched), bootstrap(matched, score)
    rows = [_row(facts, len(test), scores, intervals, "whole frames")]
    if facts.border_px:
        inner = _match(bundle, test, facts, facts.border_px)
        rows.append(
            _row(
                facts, len(test), score(inner), bootstrap(inner, score), f"without a border of {facts.border_px} pixels"
            )
        )
    card = bundle.card.model_copy(
        update={
            "sensitivity": round(scores.sensitivity, 4),
            "specificity": round(scores.specificity, 4),
            "validation": tuple(rows),
        }
    )
    write_card(card, bundle.onnx_path)
    seen_path(bundle.onnx_path).write_text("".join(f"{one}\n" for one in sorted(map(fingerprint, [*train, *valid]))))
    return Made(load_bundle(bundle.onnx_path), scores, intervals, history)


def _calibrated(network: StarNet, train: Sequence[Field], valid: Sequence[Field], facts: Facts, folder: Path) -> Bundle:
    """Export the network with threshold, bias, temperature and band chosen on the validation fields."""
    path = folder / f"{facts.name}.onnx"
    diameters = np.concatenate([_diameters(field) for field in train]) / facts.bin_px
    low, high = np.percentile(diameters, (5, 95))
    card = Card(
        name=facts.name,
        version=VERSION,
        licence=facts.licence,
        trained_on=facts.trained_on,
        modality=facts.modality,
        pixel_um=facts.pixel_um,
        cell_diameter_px=(round(float(low), 1), round(float(high), 1)),
        normalisation=facts.normalisation,
        p_cell=_ALMOST_ALL,
        uncertain=(0.4, 0.6),
        validation=(),
        limits=facts.limits,
        sha256="0" * 64,
    )

    def write(**changed: object) -> Bundle:
        nonlocal card
        card = card.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **changed})
        write_card(card, path)
        return load_bundle(path)

    export_onnx(network, path)
    bundle = write(p_cell=best_p_cell(_match(write(), valid, facts)))
    state = fit_state(_match(bundle, valid, facts))
    with torch.no_grad():
        assert network.dead.bias is not None
        network.dead.bias += state.bias
    export_onnx(network, path)
    bundle = write(temperature=round(state.temperature, 4))
    return write(uncertain=uncertain_band(_match(bundle, valid, facts)))


def _match(bundle: Bundle, fields: Sequence[Field], facts: Facts, border_px: int = 0) -> list[Matched]:
    raw_um = None if facts.pixel_um is None else facts.pixel_um / facts.bin_px
    calls = call_fields(bundle, fields, raw_um)
    return [match_field(f, c, facts.reach, border_px) for f, c in zip(fields, calls, strict=True)]


def _diameters(field: Field) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    radii = np.linalg.norm(field.contours_yx - field.centres_yx[:, None], axis=-1)
    return 2 * radii.mean(axis=1)  # type: ignore[no-any-return]


def _row(
    facts: Facts, n_images: int, scores: Scores, intervals: dict[str, tuple[float, float]], where: str
) -> Validation:
    told = ", ".join(
        f"{name} {intervals[name][0]:.3f}-{intervals[name][1]:.3f}"
        for name in ("f1", "recall_live", "recall_dead", "balanced_accuracy", "auc_dead", "ece")
        if name in intervals
    )
    return Validation(
        data=(
            f"{facts.kept_apart}; {where}; centres within {facts.reach:g} of the marked radius. "
            f"95 % intervals by resampling groups: {told}. ECE {scores.ece:.3f}, uncertain {scores.uncertain:.3f}."
        ),
        n_images=n_images,
        n_live=scores.n_live,
        n_dead=scores.n_dead,
        f1=round(scores.f1, 4),
        recall_live=round(scores.recall_live, 4),
        recall_dead=round(scores.recall_dead, 4),
        balanced_accuracy=round(scores.balanced_accuracy, 4),
        auc_dead=round(scores.auc_dead, 4),
    )
