"""A model's chances fitted to the control fields of a run: what `livescope calibrate` does.

Owns the order: call the fields, fit, write a new bundle. Neither the network nor the bundle it came in is changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livescope.acquire.files import iter_frames
from livescope.calls import State
from livescope.detect.bundle import Bundle, load_bundle, write_card
from livescope.detect.calibrate import calibration_error, fit_temperature, risk_band
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.outputs import make_room
from livescope.settings import CameraSettings
from livescope.train.calibrate import known_states
from livescope.train.data import UNKNOWN, Field, fingerprint
from livescope.train.evaluate import call_fields
from livescope.train.reference import make_reference
from livescope.train.scoring import Matched, match_field
from livescope.train.seen import read_seen, seen_whole, unknown_training, unseen, write_seen
from livescope.train.sources import Dataset, UnlabelledError, entries_of, read

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
    error
        Part of wrong calls among those given, with the new band, on the same groups as the second `ece`; None likewise.
    n_live, n_dead
        Cells that were looked at.
    watched
        True if the card now also knows how these fields look.
    notes
        What must be told of the labels and of the calls.
    """

    bundle: Bundle
    temperature: tuple[float, float]
    uncertain: tuple[tuple[float, float], tuple[float, float]]
    ece: tuple[float, float] | None
    error: float | None
    n_live: int
    n_dead: int
    watched: bool
    notes: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class _Chances:
    """What was fitted: changes of the card, errors as those of `Recalibrated`, live and dead cells."""

    card: dict[str, object]
    ece: tuple[float, float]
    error: float
    counts: tuple[int, int]


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
        Control fields: labelled data or a training config (`livescope.train.sources.entries_of`), or plain pictures of
        untreated cells, from which only the shift watch learns. Groups that the model has seen are left out: it is
        surer of them than of others.
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
        Fewer than 10 live or 10 dead cells with a label were found, or the calls are no better than chance.
    """
    bundle = load_bundle(model)
    if out.suffix != ".onnx" or out.resolve() == bundle.onnx_path.resolve():
        raise SettingsError(f"--out {str(out)!r} must be a new file NAME.onnx; a bundle is never changed in place.")
    make_room("--out", out)
    report("reading fields")
    datasets = _unseen(bundle, fields, _read(fields, pixel_um), report)
    stating = [one for one in datasets if _stating(one)]
    watched = [one for one in datasets if len(one.fields) >= _LEAST_FIELDS]
    notes = [*(note for one in datasets for note in one.notes), *(unknown_training(bundle) if stating else [])]
    if not stating and not watched:
        count = sum(len(one.fields) for one in datasets)
        raise SourceError(
            " ".join(notes)
            or f"{str(fields)!r} holds {count} fields without labels; give {_LEAST_FIELDS} or more, or labelled ones."
        )
    fitted = _fit(bundle, stating, risk, report, notes.append) if stating else None
    changed = {} if fitted is None else fitted.card
    if watched:
        report("how these fields look")
        changed["shift"] = _with_controls(bundle, watched)
    new = _write(bundle, out, changed, [field for one in stating for field in one.fields])
    before, after = bundle.card, new.card
    ece, error, counts = (None, None, (0, 0)) if fitted is None else (fitted.ece, fitted.error, fitted.counts)
    return Recalibrated(
        new,
        (before.temperature, after.temperature),
        (before.uncertain, after.uncertain),
        ece,
        error,
        *counts,
        watched=bool(watched),
        notes=tuple(dict.fromkeys(notes)),
    )


def _read(path: Path, pixel_um: float | None) -> list[Dataset]:
    """Read labelled data, or plain pictures as fields without a label."""
    try:
        entries = entries_of(path)
    except UnlabelledError:
        plain = [
            (frame, Field(f"{name} {frame.index}", name, frame.pixels, *_no_cells()))
            for name, frame in iter_frames(path, CameraSettings(pixel_um=pixel_um))
        ]
        sizes = sorted({frame.pixel_um for frame, _ in plain if frame.pixel_um is not None})
        if len(sizes) > 1:
            raise SettingsError(
                f"the pictures in {str(path)!r} state pixels of {', '.join(f'{size:g}' for size in sizes)} um. "
                "Calibrate on those of each size by themselves, each time from the model made last, or give one "
                "--pixel-um if what they state is wrong."
            ) from None
        described = f"{len(plain)} control fields without labels in {path.name!r}"
        return [Dataset([field for _, field in plain], sizes[0] if sizes else None, 0.5, False, described)]
    return [read(one if pixel_um is None else one.model_copy(update={"pixel_um": pixel_um})) for one in entries]


def _unseen(bundle: Bundle, fields: Path, datasets: Sequence[Dataset], report: Callable[[str], None]) -> list[Dataset]:
    """Leave out the groups that the model has seen, and data of which nothing is left; the watch may learn from any."""
    kept = [replace(one, fields=unseen(bundle, one.fields)[0]) if _stating(one) else one for one in datasets]
    before, after = (sum(len(one.fields) for one in ones) for ones in (datasets, kept))
    if before and not after:
        raise SourceError(
            f"model {bundle.name!r} was trained or calibrated on every group of {str(fields)!r}, and is surer of them "
            "than of others. Give control fields that it has not seen, or the model that it was calibrated from."
        )
    if after < before:
        report(f"{before - after} of {before} fields are left out: the model has seen pictures of their groups")
    return [one for one in kept if one.fields]


def _stating(dataset: Dataset) -> bool:
    """Return True if a data set marks states that chances can be set by."""
    return any((field.state != UNKNOWN).any() and not field.picked for field in dataset.fields)


def _fit(
    bundle: Bundle,
    datasets: Sequence[Dataset],
    risk: float,
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> _Chances:
    """Call the cells of labelled fields, and fit the chances on them."""
    report(f"calling cells of {sum(len(one.fields) for one in datasets)} fields")
    matched: list[Matched] = []
    for one in datasets:
        calls = call_fields(bundle, one.fields, one.pixel_um, tell=warn)
        matched += [match_field(f, c, one.reach) for f, c in zip(one.fields, calls, strict=True)]
    fitted = _chances(bundle, matched, risk)
    described = "; ".join(f"{len(one.fields)} of {one.described}" for one in datasets)
    fitted.card["trained_on"] = (
        f"{bundle.card.trained_on}. Temperature and uncertain band refitted on {fitted.counts[0]} live and "
        f"{fitted.counts[1]} dead cells of {described}"
    )
    return fitted


def _no_cells() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    return np.zeros((0, 2), np.float32), np.zeros((0, 4, 2), np.float32), np.zeros(0, np.uint8)


def _chances(bundle: Bundle, matched: Sequence[Matched], risk: float) -> _Chances:
    """Fit what the card says of chances."""
    logit, dead = known_states(matched)
    counts = int(np.sum(~dead)), int(np.sum(dead))
    if min(counts) < _LEAST:
        raise ModelError(
            f"model {bundle.name!r} found {counts[0]} live and {counts[1]} dead cells with a label; calibration needs "
            f"{_LEAST} of each. Label more fields, of untreated and of killed cells."
        )
    old = bundle.card.temperature
    groups = np.repeat([m.group for m in matched], [int(np.sum(_stated(m))) for m in matched])
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
    if sum(rate or 0.0 for rate in rates.values()) <= 1:
        found = ", ".join(f"{name} {'none' if rate is None else format(rate, '.2f')}" for name, rate in rates.items())
        raise ModelError(
            f"the calls of model {bundle.name!r} tell live from dead no better than chance on these fields ({found}); "
            "nothing was written. Look whether live and dead are mixed up in the labels; else take or train another "
            "model."
        )
    card: dict[str, object] = {
        "temperature": round(old * change, 4),
        "uncertain": (low, high),
        "version": f"{bundle.card.version.removesuffix('+recalibrated')}+recalibrated",
        **{name: None if rate is None else round(rate, 4) for name, rate in rates.items()},
        "rated_on": (int(np.sum(given & ~dead)), int(np.sum(given & dead))),
    }
    return _Chances(
        card,
        (calibration_error(_sigmoid(logit), dead), calibration_error(p, dead)),
        float(np.mean(called_dead[given] != dead[given])),
        counts,
    )


def _stated(matched: Matched) -> NDArray[np.bool_]:
    stated: NDArray[np.bool_] = (matched.marked == State.LIVE) | (matched.marked == State.DEAD)
    return stated


def _halves(groups: NDArray[np.str_]) -> list[NDArray[np.bool_]]:
    """Deal cells into two halves by whole groups; one group is one part."""
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return [np.ones(len(groups), bool)]
    side = np.random.default_rng(0).permutation(len(names)) % 2 == 0
    return [side[member], ~side[member]]


def _with_controls(bundle: Bundle, datasets: Sequence[Dataset]) -> object:
    """Add how these fields look to what the card knows of the training."""
    own, known = make_reference(bundle, [(one, one.fields) for one in datasets]), bundle.card.shift
    if known is None:
        return own
    # calibrated twice on the same fields, the later one stands; in cards of before December 2026 the name does not tell
    # pictures apart, but the same ones crowd at the same places to the last digit
    names, crowds = {one.data for one in own.subsets}, {one.means for one in own.subsets}
    kept = tuple(one for one in known.subsets if one.data not in names and one.means not in crowds)
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
        known = read_seen(bundle).union(fingerprint(field) for field in labelled)
        write_seen(known, out, seen_whole(bundle))
        # the 8-bit version was judged with the old band
        write_card(bundle.card.model_copy(update={**changed, "name": out.stem, "int8": None}), out)
    except OSError as error:
        raise SettingsError(f"--out {str(out)!r} cannot be written: {error.strerror}. Choose another path.") from None
    return load_bundle(out)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    half: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logit))
    return half
