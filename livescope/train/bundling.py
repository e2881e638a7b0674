"""From labelled data to a bundle: split by group, train, export, calibrate, score, write the card.

Owns the order of the steps and what the card says of them. Each step lies in a module of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from livescope.calls import State
from livescope.detect.bundle import Bundle, Card, Validation, load_bundle, write_card
from livescope.detect.scale import fit_scale
from livescope.detect.shift import ShiftReference
from livescope.errors import SourceError
from livescope.frames import FrameSpec
from livescope.train.calibrate import StateCalibration, best_p_cell, fit_state, uncertain_band
from livescope.train.data import Field, fingerprint, split_groups
from livescope.train.evaluate import call_fields, seen_path
from livescope.train.examples import Example, example_of
from livescope.train.export import export_onnx
from livescope.train.fit import History, fit
from livescope.train.network import StarNet, from_weights
from livescope.train.reference import make_reference
from livescope.train.scoring import Matched, Scores, bootstrap, match_field, score
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset, read
from livescope.train.state_weights import state_weights

__all__ = ["Made", "Part", "deal", "make_bundle", "network_of", "reference"]

VERSION = "0.1.0"
_ALMOST_ALL = 0.03
"""Score from which calls are looked at to choose the threshold."""
_ENOUGH = 50
"""Fewer cells of the validation fields are no ground for a threshold, fewer of a state none for chances of it: those of
the training fields are then taken as well. On MCF-7, where two experiments hold some ten dead cells, the calibration
error on others was 0.26 without and is 0.10 with them."""
_REPORTED = ("f1", "recall_live", "recall_dead", "balanced_accuracy", "auc_dead", "ece")


@dataclass(slots=True, frozen=True)
class Part:
    """One data set of the config, dealt by group: `valid` stops the training and chooses the thresholds."""

    dataset: Dataset
    train: list[Field]
    valid: list[Field]
    test: list[Field]


@dataclass(slots=True, frozen=True)
class Made:
    """A finished bundle; of each data set the scores, the set and its test fields; and the course of the training.

    `note` says what its validation fields were too few for, empty where they were not.
    """

    bundle: Bundle
    scores: tuple[Scores, ...]
    tests: tuple[tuple[Dataset, list[Field]], ...]
    history: History
    note: str


def make_bundle(
    settings: TrainSettings,
    datasets: Sequence[Dataset | Part] | None = None,
    start: StarNet | None = None,
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
    resume: bool | None = None,
) -> Made:
    """Train on most groups, choose thresholds on some, score on the rest.

    Parameters
    ----------
    settings
        Data, training, card.
    datasets
        One for each entry of ``settings.data`` where they are at hand already; None reads them. A `Part` is dealt
        already.
    start
        Network to go on from; None takes ``settings.start``, or chance.
    report
        Called with (step, losses) as training goes.
    resume
        Whether to go on from the checkpoint of an interrupted training, as `livescope.train.fit.fit` takes it.

    Raises
    ------
    SettingsError
        There is nothing to resume, or the bundle to start from would be overwritten.
    SourceError
        Data are missing, or of too few groups.
    ModelError
        The start is no livescope network, or no live or no dead cell was found in the validation fields.
    """
    given = datasets or [read(one) for one in settings.data]
    parts = [one if isinstance(one, Part) else deal(one, settings) for one in given]
    _check_states(parts, settings)
    learn, check = (_examples(parts, settings, which) for which in ("train", "valid"))
    torch.manual_seed(settings.fit.seed)
    if start is None:
        start = StarNet() if settings.start is None else network_of(load_bundle(settings.start))
    checkpoint = settings.out / f"{settings.name}.checkpoint.pt"
    seen = [fingerprint(field) for part in parts for field in (*part.train, *part.valid)]
    data = hashlib.sha256(" ".join([str(settings.start), *seen]).encode()).hexdigest()
    network, history = fit(start, learn, check, settings.fit, report, checkpoint, resume, data)
    bundle = _calibrated(network, parts, settings)
    rows, scores = [], []
    for part in (part for part in parts if any(not field.picked for field in part.test)):
        matched = _match(bundle, part.test, part.dataset)
        scores.append(score(matched))
        rows.append(_row(part, matched, "whole frames"))
        if settings.border_px:
            inner = _match(bundle, part.test, part.dataset, settings.border_px)
            rows.append(_row(part, inner, f"without a border of {settings.border_px} pixels"))
    changed: dict[str, object] = {"validation": tuple(rows), "shift": reference(bundle, parts)}
    if len(parts) == len(scores) == 1 and np.isfinite([scores[0].sensitivity, scores[0].specificity]).all():
        # of several data sets none stands for the user's: the card then leaves the correction out
        changed |= {k: round(getattr(scores[0], k), 4) for k in ("sensitivity", "specificity")}
    write_card(bundle.card.model_copy(update=changed), bundle.onnx_path)
    seen_path(bundle.onnx_path).write_text("".join(f"{one}\n" for one in sorted(set(seen))), encoding="ascii")
    checkpoint.unlink(missing_ok=True)
    tests = tuple((part.dataset, part.test) for part in parts if part.test)
    return Made(load_bundle(bundle.onnx_path), tuple(scores), tests, history, _too_few(parts)[2])


def reference(bundle: Bundle, parts: Sequence[Part]) -> ShiftReference:
    """Measure how the fields of training and calibration look, for the shift watch."""
    return make_reference(bundle, [(part.dataset, [*part.train, *part.valid]) for part in parts])


def network_of(bundle: Bundle) -> StarNet:
    """Take a bundle's network up again, to train it further.

    Raises
    ------
    ModelError
        It was not made by livescope.
    """
    model = onnx.load_model_from_string(bundle.onnx_path.read_bytes())
    return from_weights({one.name: numpy_helper.to_array(one) for one in model.graph.initializer})


def deal(dataset: Dataset, settings: TrainSettings) -> Part:
    """Deal a data set by group into training, validation and test, always in the same way.

    Raises
    ------
    SourceError
        It has too few groups.
    """
    groups = split_groups([field.group for field in dataset.fields], settings.fractions, settings.fit.seed)
    train, valid, test = ([field for field in dataset.fields if field.group in part] for part in groups)
    untested = sum(settings.fractions) > 1 - 1e-6  # asked for: the bundle then has no validation of its own
    if not (train and valid and (test or untested)):
        count = len({field.group for field in dataset.fields})
        raise SourceError(
            f"{dataset.described}: {count} groups cannot be split into training, validation and test; label more "
            "groups, or name smaller ones (group)."
        )
    return Part(dataset, train, valid, test)


def _check_states(parts: Sequence[Part], settings: TrainSettings) -> None:
    """Refuse states of one kind only before any time is spent: nothing could be told from them."""
    live, dead = _states(parts, "train", "valid")
    if bool(live) != bool(dead) and settings.start is None:
        raise SourceError(
            f"the fields for training mark {live} live and {dead} dead cells; training needs some of each. Label some "
            "of the other state, or start from a network that knows both (start, or --from)."
        )


def _examples(parts: Sequence[Part], settings: TrainSettings, which: str) -> list[Example]:
    examples = []
    for part in parts:
        learning = which == "train"
        weights = state_weights(part.train) if learning else {}
        repeat = part.dataset.repeat if learning else 1
        for field in getattr(part, which):
            bin_px = _bin(field, part.dataset, settings)
            examples += [example_of(field, settings.normalisation, bin_px, weights.get(field.group))] * repeat
    return examples


def _bin(field: Field, dataset: Dataset, settings: TrainSettings) -> int:
    height, width = field.pixels.shape
    spec = FrameSpec(height, width, field.pixels.dtype.name, 8 * field.pixels.dtype.itemsize, dataset.pixel_um)
    return fit_scale(spec, _draft(settings)).bin


def _draft(settings: TrainSettings, diameter_px: tuple[float, float] = (1.0, 1.0), trained_on: str = "") -> Card:
    """Fill in the card as far as it is known before the network is there."""
    return Card(
        name=settings.name,
        version=VERSION,
        licence=settings.licence,
        trained_on=trained_on,
        modality=settings.modality,
        pixel_um=settings.pixel_um,
        cell_diameter_px=diameter_px,
        normalisation=settings.normalisation,
        p_cell=_ALMOST_ALL,
        uncertain=(0.4, 0.6),
        validation=(),
        limits=settings.limits,
        sha256="0" * 64,
    )


def _calibrated(network: StarNet, parts: Sequence[Part], settings: TrainSettings) -> Bundle:
    """Export the network with threshold, bias, temperature and band chosen on the validation fields."""
    path = settings.out / f"{settings.name}.onnx"
    diameters = [_diameters(field) / _bin(field, part.dataset, settings) for part in parts for field in part.train]
    low, high = np.percentile(np.concatenate(diameters), (5, 95))
    trained_on = "; ".join(f"{len(part.train)} of {part.dataset.described}" for part in parts)
    card = _draft(settings, (round(float(low), 1), round(float(high), 1)), trained_on)

    def write(**changed: object) -> Bundle:
        nonlocal card
        card = card.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **changed})
        write_card(card, path)
        return load_bundle(path)

    few_cells, few_of_a_state, note = _too_few(parts)

    def calls(bundle: Bundle, few: bool) -> list[Matched]:
        fields = [(part, [*part.train, *part.valid] if few else part.valid) for part in parts]
        return [one for part, chosen in fields for one in _match(bundle, chosen, part.dataset)]

    export_onnx(network, path)
    # where only some cells are marked, a false call may be a cell while a missed one is surely missed; and the share of
    # dead among them is not a field's
    complete = all(part.dataset.complete for part in parts)
    bundle = write(
        p_cell=best_p_cell(calls(write(), few_cells), 1.0 if complete else 2.0),
        trained_on=". ".join(filter(None, (trained_on, note))),
    )
    if not any(_states(parts, "train", "valid")):
        return write(uncertain=(0.0, 1.0))  # no state was ever marked: none is called
    matched = calls(bundle, few_of_a_state)
    found = {state for one in matched for state in one.marked.tolist()}
    if settings.start is not None and not {State.LIVE, State.DEAD} <= found:
        # a fine-tuning on cells of one state: no ground for other chances than the start's
        start = load_bundle(settings.start).card
        return write(temperature=max(start.temperature, 1.0), uncertain=start.uncertain)
    state = fit_state(matched, even=not complete)
    if few_of_a_state:  # fields of the training flatter: they must not make the calls any surer
        state = StateCalibration(state.bias, max(state.temperature, 1.0))
    with torch.no_grad():
        assert network.dead.bias is not None
        network.dead.bias += state.bias
    export_onnx(network, path)
    bundle = write(temperature=round(state.temperature, 4))
    return write(uncertain=uncertain_band(calls(bundle, few_of_a_state)))


def _states(parts: Sequence[Part], *which: str) -> tuple[int, int]:
    """Count the marked live and dead cells of some parts of the data."""
    fields = [field for part in parts for name in which for field in getattr(part, name)]
    live, dead = (sum(int(np.sum(field.state == state)) for field in fields) for state in (State.LIVE, State.DEAD))
    return live, dead


def _too_few(parts: Sequence[Part]) -> tuple[bool, bool, str]:
    """Say whether the validation fields hold too few cells for a threshold, too few of a state for chances; and so."""
    cells, counts = sum(len(field.state) for part in parts for field in part.valid), _states(parts, "valid")
    few_of_a_state = min(counts) < _ENOUGH and any(_states(parts, "train", "valid"))
    what = ["threshold"] * (cells < _ENOUGH) + ["chances of dead"] * few_of_a_state
    note = (
        f"Of the validation fields the {cells} cells, {counts[0]} live and {counts[1]} dead, are too few for the "
        f"{' and the '.join(what)}: the training fields were taken as well"
    )
    return cells < _ENOUGH, few_of_a_state, note if what else ""


def _match(bundle: Bundle, fields: Sequence[Field], dataset: Dataset, border_px: int = 0) -> list[Matched]:
    calls = call_fields(bundle, fields, dataset.pixel_um)
    return [match_field(f, c, dataset.reach, border_px) for f, c in zip(fields, calls, strict=True)]


def _diameters(field: Field) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    radii = np.linalg.norm(field.contours_yx - field.centres_yx[:, None], axis=-1)
    return 2 * radii.mean(axis=1)  # type: ignore[no-any-return]


def _row(part: Part, matched: Sequence[Matched], where: str) -> Validation:
    scores = score(matched)
    intervals = bootstrap(matched, score)
    figures = {
        name: round(value, 4)
        for name in ("f1", "recall_live", "recall_dead", "balanced_accuracy", "auc_dead")
        if np.isfinite(value := getattr(scores, name))
    }
    return Validation(
        data=(
            f"{len(part.test)} of {part.dataset.described}, no group of theirs in training or calibration; {where}; "
            f"centres within {part.dataset.reach:g} of the marked radius; ECE {scores.ece:.3f}, left uncertain "
            f"{scores.uncertain:.3f}"
        ),
        n_images=len(part.test),
        n_live=scores.n_live,
        n_dead=scores.n_dead,
        intervals={k: (round(v[0], 4), round(v[1], 4)) for k, v in intervals.items() if k in _REPORTED},
        **figures,
    )
