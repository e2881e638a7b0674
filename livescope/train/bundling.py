"""From labelled data to a bundle: deal by group, train, export, calibrate, score, write the card.

Owns the order of the steps and what the card says of them. Each step lies in a module of its own.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from livescope.calls import State
from livescope.detect.bundle import CARD_SUFFIX, Bundle, Card, Validation, load_bundle, write_card
from livescope.detect.scale import fit_scale
from livescope.errors import SettingsError, SourceError
from livescope.frames import FrameSpec
from livescope.train.calibrate import StateCalibration, best_p_cell, fit_state, uncertain_band
from livescope.train.data import Field, fingerprint
from livescope.train.dealing import Part, deal
from livescope.train.evaluate import call_fields
from livescope.train.examples import Example, example_of
from livescope.train.export import export_onnx
from livescope.train.fit import History, earlier, fit
from livescope.train.network import StarNet, from_weights
from livescope.train.reference import make_reference
from livescope.train.scoring import Matched, Scores, bootstrap, match_field, score
from livescope.train.seen import read_seen, seen_path, seen_whole, write_seen
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset, read
from livescope.train.state_weights import state_weights

__all__ = ["Made", "make_bundle", "measured", "network_of"]

VERSION = "0.1.0"
_ALMOST_ALL = 0.03
"""Score from which calls are looked at to choose the threshold."""
_ENOUGH = 50
"""Fewer cells of the validation fields are no ground for a threshold, fewer of a state none for chances of it: those of
the training fields are then taken as well. On MCF-7, where two experiments hold some ten dead cells, the calibration
error on others was 0.26 without and is 0.10 with them."""
_REPORTED = ("f1", "recall_live", "recall_dead", "balanced_accuracy", "auc_dead", "ece")


@dataclass(slots=True, frozen=True)
class Made:
    """A finished bundle, what was measured of it, and the course of the training.

    Of each data set on whose test fields anything could be measured, `scores` holds the figures, and `tests` the set
    and those fields. `notes` say what the data did not suffice for, and what was done instead.
    """

    bundle: Bundle
    scores: tuple[Scores, ...]
    tests: tuple[tuple[Dataset, list[Field]], ...]
    history: History
    notes: tuple[str, ...]


def make_bundle(
    settings: TrainSettings,
    datasets: Sequence[Dataset | Part] | None = None,
    start: StarNet | None = None,
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
    resume: bool | None = None,
    tell: Callable[[str], None] = lambda _what: None,
) -> Made:
    """Train on most groups, choose thresholds on some, score on the rest.

    The bundle is written whole or not at all, and never without the list of the fields that it has seen.

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
    resume, tell
        Whether to go on from the checkpoint of an interrupted training, and who is told where it is not, as
        `livescope.train.fit.fit` takes them.

    Raises
    ------
    SettingsError
        There is nothing to resume, or the network is to have a pixel size and that of some data is unknown.
    SourceError
        Data are missing, of too few groups, or without cells to learn from.
    ModelError
        The start is no livescope network, or no live or no dead cell was found in the validation fields.
    """
    origin = None if settings.start is None else load_bundle(settings.start)
    given = datasets or [read(one) for one in settings.data]
    fresh = iter(deal([one for one in given if isinstance(one, Dataset)], settings, read_seen(origin)))
    parts = [one if isinstance(one, Part) else next(fresh) for one in given]
    _check(parts, settings)
    learn, check = (_examples(parts, settings, which) for which in ("train", "valid"))
    torch.manual_seed(settings.fit.seed)
    if start is None:
        start = StarNet() if origin is None else network_of(origin)
    checkpoint = settings.out / f"{settings.name}.checkpoint.pt"
    network, history = fit(start, learn, check, settings.fit, report, checkpoint, resume, tell)
    with tempfile.TemporaryDirectory(prefix=f"{settings.name}.", dir=settings.out) as folder:
        path = Path(folder) / f"{settings.name}.onnx"
        tested, notes = _write(network, parts, settings, path, origin)
        for one in (seen_path(path), path.with_suffix(CARD_SUFFIX), path):  # the network last: it is what is looked for
            one.replace(settings.out / one.name)
    for one in (checkpoint, earlier(checkpoint)):
        one.unlink(missing_ok=True)
    return Made(
        load_bundle(settings.out / path.name),
        tuple(scores for _, scores, _ in tested),
        tuple((part.dataset, part.test) for part, _, _ in tested),
        history,
        tuple(notes),
    )


def _write(
    network: StarNet, parts: Sequence[Part], settings: TrainSettings, path: Path, start: Bundle | None
) -> tuple[list[tuple[Part, Scores, tuple[int, int]]], tuple[str, ...]]:
    """Write the bundle at a path; returns what `_tested` does of the data sets measured on, and the notes."""
    used = {fingerprint(field) for part in parts for field in (*part.train, *part.valid)}
    known = seen_whole(start)
    write_seen(used | read_seen(start), path, known)
    bundle, borrowed = _calibrated(network, parts, settings, path, start)
    apart, unknown = "in training or calibration", ""
    if start is not None and not known:
        apart += f" here (what {start.name} was trained on is not known)"
        lacks = "does not name all" if seen_path(start.onnx_path).is_file() else "is missing"
        unknown = f"{seen_path(start.onnx_path).name} {lacks}: {start.name} may have been trained on the test fields"
    measures, tested, unmeasured = measured(bundle, parts, settings.border_px, apart)
    told = (unknown, *(part.note for part in parts), _too_few(parts)[2], borrowed, *unmeasured)
    notes = tuple(dict.fromkeys(one for one in told if one))
    origin = [] if start is None else [f"It goes on from {start.name}: {start.card.trained_on}"]
    trained_on = ["; ".join(f"{len(part.train)} of {part.dataset.described}" for part in parts), *notes, *origin]
    changed: dict[str, object] = {
        "trained_on": ". ".join(trained_on),
        "limits": f"{settings.limits} {borrowed}." if borrowed else settings.limits,
    }
    write_card(bundle.card.model_copy(update=changed | measures), path)
    return tested, notes


def measured(
    bundle: Bundle, parts: Sequence[Part], border_px: int, apart: str = "in training or calibration"
) -> tuple[dict[str, object], list[tuple[Part, Scores, tuple[int, int]]], list[str]]:
    """Measure what a card says of a bundle: how it does on the test fields, how those of training and calibration look.

    Parameters
    ----------
    bundle
        Calibrated.
    parts
        As they were dealt for it.
    border_px
        Also without a border so wide, where it is not 0.
    apart
        What no group of the test fields was in.

    Returns
    -------
    changes, tested, unmeasured
        Entries of the card; the other two are those of `_tested`.
    """
    tested, rows, unmeasured = _tested(bundle, parts, border_px, apart)
    seen = [(part.dataset, [*part.train, *part.valid]) for part in parts if part.train or part.valid]
    changes: dict[str, object] = {"validation": tuple(rows), "shift": make_reference(bundle, seen)}
    if len(parts) == len(tested) == 1 and min(rated_on := tested[0][2]) > 0:
        # of several data sets none stands for the user's: the card then leaves the correction out
        scores = tested[0][1]
        changes |= {k: round(getattr(scores, k), 4) for k in ("sensitivity", "specificity")} | {"rated_on": rated_on}
    return changes, tested, unmeasured


def network_of(bundle: Bundle) -> StarNet:
    """Take a bundle's network up again, to train it further.

    Raises
    ------
    ModelError
        It was not made by livescope.
    """
    model = onnx.load_model_from_string(bundle.onnx_path.read_bytes())
    return from_weights({one.name: numpy_helper.to_array(one) for one in model.graph.initializer})


def _check(parts: Sequence[Part], settings: TrainSettings) -> None:
    """Refuse data that no network, or no honest card, can come of, before any time is spent."""
    for number, part in enumerate(parts):
        if settings.pixel_um is not None and part.dataset.pixel_um is None:
            raise SettingsError(
                f"pixel_um of the network is {settings.pixel_um:g}, but that of {part.dataset.described} is unknown. "
                f"Set data.{number}.pixel_um, or pixel_um: null to take pictures as they are."
            )
    count = sum(len(part.train) for part in parts)
    if not any(len(field.state) for part in parts for field in part.train):
        raise SourceError(f"in none of the {count} fields for training a cell is marked; label some.")
    if settings.start is None and all(field.picked for part in parts for field in (*part.train, *part.valid)):
        raise SourceError(
            "only cells that somebody corrected are marked, which teach no network from chance: start from the one "
            "that they correct (start, or --from), or look at every cell of those frames and say reviewed: true."
        )
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


def _draft(settings: TrainSettings, diameter_px: tuple[float, float] = (1.0, 1.0)) -> Card:
    """Fill in the card as far as it is known before the network is there."""
    return Card(
        name=settings.name,
        version=VERSION,
        licence=settings.licence,
        trained_on="",
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


def _calibrated(
    network: StarNet, parts: Sequence[Part], settings: TrainSettings, path: Path, start: Bundle | None
) -> tuple[Bundle, str]:
    """Export the network with threshold, bias, temperature and band chosen on the validation fields.

    Where these give no ground for chances of dead, those of the network that was started from stand, and without one no
    cell is given a state; the second value says so.
    """
    diameters = [_diameters(field) / _bin(field, part.dataset, settings) for part in parts for field in part.train]
    low, high = np.percentile(np.concatenate(diameters), (5, 95))
    card = _draft(settings, (round(float(low), 1), round(float(high), 1)))

    def write(**changed: object) -> Bundle:
        nonlocal card
        card = card.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **changed})
        write_card(card, path)
        return load_bundle(path)

    few_cells, few_of_a_state, _ = _too_few(parts)

    def calls(bundle: Bundle, few: bool) -> list[Matched]:
        fields = [(part, [*part.train, *part.valid] if few else part.valid) for part in parts]
        return [one for part, chosen in fields for one in _match(bundle, chosen, part.dataset)]

    export_onnx(network, path)
    # where only some cells are marked, a false call may be a cell while a missed one is surely missed; and the share of
    # dead among them is not a field's
    complete = all(part.dataset.complete for part in parts)
    otherwise = 0.5 if start is None else start.card.p_cell
    bundle = write(p_cell=best_p_cell(calls(write(), few_cells), 1.0 if complete else 2.0, otherwise))
    matched = calls(bundle, few_of_a_state) if any(_states(parts, "train", "valid")) else []
    live, dead = (sum(int(np.sum(one.marked == state)) for one in matched) for state in (State.LIVE, State.DEAD))
    if not matched or (start is not None and not (live and dead)):
        temperature, band = (1.0, (0.0, 1.0)) if start is None else (start.card.temperature, start.card.uncertain)
        borrowed = f"{live} live and {dead} dead of the marked cells were found, no ground for chances of dead: " + (
            "each cell is called uncertain"
            if start is None or band == (0.0, 1.0)
            else f"they and the uncertain band are those of {start.name}, unproven on these fields"
        )
        return write(temperature=max(temperature, 1.0), uncertain=band), borrowed
    state = fit_state(matched, even=not complete)
    learnt = read_seen(start)
    if few_of_a_state or any(fingerprint(field) in learnt for part in parts for field in part.valid):
        # fields that were learnt from flatter: they must not make the calls any surer
        state = StateCalibration(state.bias, max(state.temperature, 1.0))
    with torch.no_grad():
        assert network.dead.bias is not None
        network.dead.bias += state.bias
    export_onnx(network, path)
    bundle = write(temperature=round(state.temperature, 4))
    return write(uncertain=uncertain_band(calls(bundle, few_of_a_state))), ""


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


def _tested(
    bundle: Bundle, parts: Sequence[Part], border_px: int, apart: str
) -> tuple[list[tuple[Part, Scores, tuple[int, int]]], list[Validation], list[str]]:
    """Score the test fields.

    Returns
    -------
    tested, rows, unmeasured
        The parts on which anything was measured, with the live and dead cells that sensitivity and specificity rest on;
        the card's rows; what measured nothing.
    """
    tested, rows, unmeasured = [], [], []
    for part in (part for part in parts if any(not field.picked for field in part.test)):
        for border in dict.fromkeys((0, border_px)):
            where = f"without a border of {border} pixels" if border else "whole frames"
            matched = _match(bundle, part.test, part.dataset, border)
            scores = score(matched)
            if not np.isfinite(scores.f1):
                unmeasured.append(
                    f"The {len(part.test)} test fields of {part.dataset.described}, {where}, hold no cell and no call: "
                    "there is nothing to measure on them"
                )
                continue
            rows.append(_row(part, matched, scores, f"{apart}; {where}"))
            if not border:
                tested.append((part, scores, _given(matched)))
    return tested, rows, unmeasured


def _given(matched: Sequence[Matched]) -> tuple[int, int]:
    """Count the live and the dead cells that were found and given a call."""
    state = np.concatenate([one.marked[one.call != State.UNCERTAIN] for one in matched])
    return int(np.sum(state == State.LIVE)), int(np.sum(state == State.DEAD))


def _row(part: Part, matched: Sequence[Matched], scores: Scores, where: str) -> Validation:
    intervals = bootstrap(matched, score)
    figures = {
        name: round(value, 4)
        for name in ("f1", "recall_live", "recall_dead", "balanced_accuracy", "auc_dead")
        if np.isfinite(value := getattr(scores, name))
    }
    return Validation(
        data=(
            f"{len(part.test)} of {part.dataset.described}, no group of theirs {where}; "
            f"centres within {part.dataset.reach:g} of the marked radius; ECE {scores.ece:.3f}, left uncertain "
            f"{scores.uncertain:.3f}{''.join(f'; {note}' for note in part.dataset.notes)}"
        ),
        n_images=len(part.test),
        n_live=scores.n_live,
        n_dead=scores.n_dead,
        intervals={k: (round(v[0], 4), round(v[1], 4)) for k, v in intervals.items() if k in _REPORTED},
        **figures,
    )
