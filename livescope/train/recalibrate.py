"""A model's chances fitted to the control fields of a run: what `livescope calibrate` does.

Owns the order: call the fields, fit, write a new bundle. Neither the network nor the bundle it came in is changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livescope.acquire.files import iter_frames
from livescope.calls import State
from livescope.detect.bundle import Bundle, load_bundle, write_card
from livescope.detect.calibrate import calibration_error, fit_temperature, risk_band
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.outputs import make_room
from livescope.train.calibrate import known_states
from livescope.train.data import UNKNOWN, Field, fingerprint
from livescope.train.evaluate import call_fields, seen_path
from livescope.train.reference import make_reference
from livescope.train.scoring import Matched, match_field
from livescope.train.sources import Dataset, read, settings_of

__all__ = ["Recalibrated", "recalibrate"]

_LEAST = 10
"""Found cells of each state below which no temperature is fitted."""
_LEAST_FIELDS = 3
"""Fields below which nothing is learnt of how they look."""
_MOST_UNCERTAIN = 0.25
"""Largest part of control cells that may be left uncertain."""


@dataclass(slots=True, frozen=True)
class Recalibrated:
    """What changed.

    Attributes
    ----------
    bundle
        The new bundle.
    temperature, uncertain
        Before and after.
    ece
        Expected calibration error before, and after on groups that did not set the temperature (on the same ones where
        there is one group only). None where nothing was labelled: the chances are as they were.
    n_live, n_dead
        Cells that were looked at.
    watched
        True if the card now also knows how these fields look.
    """

    bundle: Bundle
    temperature: tuple[float, float]
    uncertain: tuple[tuple[float, float], tuple[float, float]]
    ece: tuple[float, float] | None
    n_live: int
    n_dead: int
    watched: bool


def recalibrate(
    model: str,
    fields: Path,
    out: Path,
    risk: float = 0.01,
    pixel_um: float | None = None,
    report: Callable[[str], None] = lambda _what: None,
) -> Recalibrated:
    """Refit temperature and uncertain band of a model on control fields, and learn how such fields look.

    Parameters
    ----------
    model
        Name of a bundled model or path of a bundle's .onnx file.
    fields
        Control fields: labelled data (`livescope.train.sources.settings_of`), a record with corrections, or plain
        pictures of untreated cells, from which only the shift watch learns.
    out
        NAME.onnx of the new bundle.
    risk
        Largest part of wrong calls among those given; what is less sure is called uncertain.
    pixel_um
        Micrometres a raw pixel, where the data do not say.
    report
        Told each step.

    Raises
    ------
    SettingsError
        `out` is no .onnx path, or the model's own.
    SourceError
        There is nothing to learn from.
    ModelError
        Fewer than 10 live or 10 dead cells with a label were found.
    """
    bundle = load_bundle(model)
    if out.suffix != ".onnx" or out.resolve() == bundle.onnx_path.resolve():
        raise SettingsError(f"--out {str(out)!r} must be a new file NAME.onnx; a bundle is never changed in place.")
    make_room("--out", out)
    report("reading fields")
    dataset = _read(fields, pixel_um)
    report(f"calling cells of {len(dataset.fields)} fields")
    calls = call_fields(bundle, dataset.fields, dataset.pixel_um)
    matched = [match_field(f, c, dataset.reach) for f, c in zip(dataset.fields, calls, strict=True)]
    labelled = any((field.state != UNKNOWN).any() for field in dataset.fields)
    enough = len(dataset.fields) >= _LEAST_FIELDS
    if not labelled and not enough:
        raise SourceError(
            f"{str(fields)!r} holds {len(dataset.fields)} fields without labels; give {_LEAST_FIELDS} or more, or "
            "labelled ones."
        )
    changed: dict[str, object] = {}
    ece, counts = None, (0, 0)
    if labelled:
        changed, ece, counts = _chances(bundle, matched, risk)
        changed["trained_on"] = (
            f"{bundle.card.trained_on}. Temperature and uncertain band refitted on {counts[0]} live and {counts[1]} "
            f"dead cells of {dataset.described}"
        )
    if enough:
        report("how these fields look")
        changed["shift"] = _with_controls(bundle, dataset)
    new = _write(bundle, out, changed, dataset.fields if labelled else ())
    before, after = bundle.card, new.card
    return Recalibrated(
        new,
        (before.temperature, after.temperature),
        (before.uncertain, after.uncertain),
        ece,
        *counts,
        watched=enough,
    )


def _read(path: Path, pixel_um: float | None) -> Dataset:
    """Read labelled data, or plain pictures as fields without a label."""
    try:
        settings = settings_of(path)
    except SourceError:
        plain = [
            (frame, Field(f"{name} {frame.index}", name, frame.pixels, *_no_cells()))
            for name, frame in iter_frames(path)
        ]
        sizes = {frame.pixel_um for frame, _ in plain}
        own_um = sizes.pop() if len(sizes) == 1 else None
        described = f"{len(plain)} control fields without labels in {path.name!r}"
        return Dataset([field for _, field in plain], pixel_um or own_um, 0.5, False, described)
    return read(settings if pixel_um is None else settings.model_copy(update={"pixel_um": pixel_um}))


def _no_cells() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    return np.zeros((0, 2), np.float32), np.zeros((0, 4, 2), np.float32), np.zeros(0, np.uint8)


def _chances(
    bundle: Bundle, matched: Sequence[Matched], risk: float
) -> tuple[dict[str, object], tuple[float, float], tuple[int, int]]:
    """Fit what the card says of chances; returns it with the calibration errors and the numbers of cells."""
    logit, dead = known_states(matched)
    counts = int(np.sum(~dead)), int(np.sum(dead))
    if min(counts) < _LEAST:
        raise ModelError(
            f"model {bundle.name!r} found {counts[0]} live and {counts[1]} dead cells with a label; calibration needs "
            f"{_LEAST} of each. Label more fields, of untreated and of killed cells."
        )
    old = bundle.card.temperature
    groups = np.concatenate([np.full(int(np.sum(_stated(m))), hash(m.group)) for m in matched])
    p = np.empty(len(logit))
    for held in _halves(groups):
        others = ~held if (~held).any() and dead[~held].any() and not dead[~held].all() else held
        p[held] = _sigmoid(logit[held] / fit_temperature(logit[others], dead[others]))
    change = fit_temperature(logit, dead)
    low, high = risk_band(p, dead, risk, _MOST_UNCERTAIN)
    given = (p <= low) | (p >= high)
    called_dead = p >= high
    rates = {
        "sensitivity": float(np.mean(~called_dead[given & ~dead])) if (given & ~dead).any() else None,
        "specificity": float(np.mean(called_dead[given & dead])) if (given & dead).any() else None,
    }
    card: dict[str, object] = {
        "temperature": round(old * change, 4),
        "uncertain": (low, high),
        "version": f"{bundle.card.version.removesuffix('+recalibrated')}+recalibrated",
        **{name: None if rate is None else round(rate, 4) for name, rate in rates.items()},
    }
    return card, (calibration_error(_sigmoid(logit), dead), calibration_error(p, dead)), counts


def _stated(matched: Matched) -> NDArray[np.bool_]:
    stated: NDArray[np.bool_] = (matched.marked == State.LIVE) | (matched.marked == State.DEAD)
    return stated


def _halves(groups: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Deal cells into two halves by whole groups; one group is one part."""
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return [np.ones(len(groups), bool)]
    side = np.random.default_rng(0).permutation(len(names)) % 2 == 0
    return [side[member], ~side[member]]


def _with_controls(bundle: Bundle, dataset: Dataset) -> object:
    """Add how these fields look to what the card knows of the training."""
    own, known = make_reference(bundle, [(dataset, dataset.fields)]), bundle.card.shift
    if known is None:
        return own
    # calibrated twice on the same fields, the later one stands
    kept = tuple(one for one in known.subsets if one.data != own.subsets[0].data)
    return known.model_copy(
        update={
            "subsets": (*kept, *own.subsets),
            "clipped": max(known.clipped, own.clipped),
            "unevenness": max(known.unevenness, own.unevenness),
        }
    )


def _write(bundle: Bundle, out: Path, changed: dict[str, object], labelled: Sequence[Field]) -> Bundle:
    """Write the bundle anew, with the fields that set its chances among those it has seen."""
    try:
        shutil.copyfile(bundle.onnx_path, out)
        seen = seen_path(bundle.onnx_path)
        known = set(seen.read_text(encoding="ascii").split()) if seen.is_file() else set()
        known |= {fingerprint(field) for field in labelled}
        seen_path(out).write_text("".join(f"{one}\n" for one in sorted(known)), encoding="ascii")
        # the 8-bit version was judged with the old band
        write_card(bundle.card.model_copy(update={**changed, "name": out.stem, "int8": None}), out)
    except OSError as error:
        raise SettingsError(f"--out {str(out)!r} cannot be written: {error.strerror}. Choose another path.") from None
    return load_bundle(out)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    half: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logit))
    return half
