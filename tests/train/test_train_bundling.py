"""What a bundle claims of itself: tests on unseen groups, chances with a ground, nothing half finished."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from disc_kit import SMALL, dataset, settings

from livescope.calls import State
from livescope.detect.bundle import Bundle, load_bundle
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.train import __main__ as lines
from livescope.train import bundling
from livescope.train.bundling import Made, make_bundle
from livescope.train.data import UNKNOWN, Field, fingerprint
from livescope.train.dealing import deal
from livescope.train.evaluate import call_fields
from livescope.train.network import StarNet
from livescope.train.scoring import match_field
from livescope.train.seen import read_seen, seen_path, seen_whole
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset

pytestmark = pytest.mark.timeout(600)
"""A loaded machine takes its time to export a network."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    made = make_bundle(settings(tmp_path_factory.mktemp("first")), [dataset(20)], start=StarNet(SMALL))
    return made.bundle


@pytest.fixture
def unexported(first: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start's own network in place of an export, which takes longer than all else here; claims are the point."""
    monkeypatch.setattr(bundling, "export_onnx", lambda _, path: shutil.copyfile(first.onnx_path, path))


def tuning(folder: Path, start: Bundle, **changed: object) -> TrainSettings:
    told = settings(folder, start=str(start.onnx_path), **changed)
    return told.model_copy(update={"fit": told.fit.model_copy(update={"steps": 2, "learning_rate": 1e-4})})


def altered(some: Dataset, change: Callable[[Field], Field]) -> Dataset:
    return replace(some, fields=[change(field) for field in some.fields])


def emptied(field: Field) -> Field:
    pixels = np.full_like(field.pixels, 120)
    pixels[:, ::2] += 1
    pixels[0, : 1 + int(field.group)] += 1  # no two the same picture
    return replace(
        field, pixels=pixels, centres_yx=field.centres_yx[:0], contours_yx=field.contours_yx[:0], state=field.state[:0]
    )


def test_a_second_training_never_tests_on_what_the_first_has_seen(tmp_path: Path, first: Bundle) -> None:
    seen = read_seen(first)
    assert len(seen) == 16
    made = make_bundle(tuning(tmp_path, first, border_px=50), [dataset(30)])
    ((_, tested),) = made.tests
    assert tested
    assert not {fingerprint(field) for field in tested} & seen
    after = read_seen(made.bundle)
    assert seen < after
    assert seen_whole(made.bundle)
    assert not {fingerprint(field) for field in tested} & after
    card = made.bundle.card
    assert "no group of theirs in training or calibration; whole frames" in card.validation[0].data
    assert card.trained_on.endswith(f"It goes on from discs: {first.card.trained_on}")
    assert card.temperature >= 1
    assert len(card.validation) == 1, "a border wider than half the frame leaves nothing to measure"
    assert f"The {len(tested)} test fields of 30 fields of discs, without a border of 50 pixels, hold" in made.notes[-1]


@pytest.mark.usefixtures("unexported")
def test_where_the_start_has_seen_all_no_figure_is_claimed(tmp_path: Path, first: Bundle) -> None:
    known = dataset(20)
    seen = read_seen(first)
    known = replace(known, fields=[field for field in known.fields if fingerprint(field) in seen])
    made = make_bundle(tuning(tmp_path, first), [known])
    assert (made.tests, made.scores, made.bundle.card.validation) == ((), (), ())
    assert made.notes[0].startswith("The network to start from has seen 16 of the 16 groups")
    assert made.notes[0] in made.bundle.card.trained_on
    assert made.bundle.card.sensitivity is None
    figures = lines._figures(str(made.bundle.onnx_path), made)
    assert (figures["f1"], figures["n_live"]) == (None, 0)


@pytest.mark.usefixtures("unexported")
def test_a_start_that_does_not_say_what_it_has_seen_is_named(tmp_path: Path, first: Bundle) -> None:
    elsewhere = tmp_path / "elsewhere" / "discs.onnx"
    elsewhere.parent.mkdir()
    for path in (first.onnx_path, first.onnx_path.with_suffix(".card.yaml")):
        (elsewhere.parent / path.name).write_bytes(path.read_bytes())
    made = make_bundle(tuning(tmp_path, load_bundle(elsewhere)), [dataset(12)])
    assert "here (what discs was trained on is not known)" in made.bundle.card.validation[0].data
    assert made.notes[0] == "discs.seen.txt is missing: discs may have been trained on the test fields"
    assert not seen_whole(made.bundle), "what comes of it does not know either"
    assert len(read_seen(made.bundle)) == 10


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("marked", [UNKNOWN, State.LIVE])
def test_without_marks_of_both_states_the_start_s_chances_stand(tmp_path: Path, first: Bundle, marked: int) -> None:
    same = altered(dataset(30), lambda field: replace(field, state=np.full(4, marked, np.uint8)))
    made = make_bundle(tuning(tmp_path, first), [same])
    card = made.bundle.card
    assert card.uncertain == first.card.uncertain != (0.0, 1.0)
    assert card.temperature == max(first.card.temperature, 1)
    (borrowed,) = (note for note in made.notes if "no ground for chances of dead" in note)
    assert borrowed.endswith("those of discs, unproven on these fields")
    assert borrowed in card.trained_on
    assert card.limits == f"{settings(tmp_path).limits} {borrowed}."


@pytest.mark.usefixtures("unexported")
def test_nothing_to_measure_is_said_and_no_row_of_the_card(tmp_path: Path, first: Bundle) -> None:
    told, some = tuning(tmp_path, first), dataset(30)
    (part,) = deal([some], told, read_seen(first))
    tested = {field.group for field in part.test}
    made = make_bundle(told, [altered(some, lambda field: emptied(field) if field.group in tested else field)])
    assert (made.tests, made.bundle.card.validation) == ((), ())
    assert "whole frames, hold no cell and no call" in made.notes[-1]


@pytest.mark.usefixtures("unexported")
def test_what_cannot_be_calibrated_leaves_no_bundle_and_is_trained_anew_with_more_labels(
    tmp_path: Path, first: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, steps = tuning(tmp_path, first), []

    def train(some: Dataset) -> Made:
        steps.clear()
        return make_bundle(told, [some], report=lambda step, _: steps.append(step))

    def fail(*_: object) -> float:
        assert list(tmp_path.glob("*/discs.onnx"))
        assert list(tmp_path.glob("*/discs.seen.txt")), "a network lies there without the list of what it has seen"
        raise ModelError("no")

    with monkeypatch.context() as patch:
        patch.setattr(bundling, "best_p_cell", fail)
        with pytest.raises(ModelError, match="no"):
            train(dataset(12))
    assert steps == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["discs.checkpoint.pt"]
    swap = {State.LIVE: State.DEAD, State.DEAD: State.LIVE}
    mended = altered(dataset(12), lambda f: replace(f, state=np.array([swap[s] for s in f.state.tolist()], np.uint8)))
    train(mended)
    assert steps == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["discs.card.yaml", "discs.onnx", "discs.seen.txt"]
    assert seen_path(tmp_path / "discs.onnx").stat().st_mode & 0o44, "as readable as other files"


def test_what_no_network_can_come_of_is_refused_before_any_time_is_spent(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="in none of the 7 fields for training a cell is marked"):
        make_bundle(settings(tmp_path), [altered(dataset(12), emptied)])
    with pytest.raises(SettingsError, match=r"1\.3, but that of 12 fields of discs is unknown. Set data\.0\.pixel_um"):
        make_bundle(settings(tmp_path, pixel_um=1.3), [dataset(12)])


@pytest.mark.usefixtures("unexported")
def test_the_card_s_chances_rest_on_the_cells_that_were_given_a_call(tmp_path: Path, first: Bundle) -> None:
    def with_one_that_is_not_there(field: Field) -> Field:
        return replace(
            field,
            centres_yx=np.vstack([field.centres_yx, [[48, 48]]]).astype(np.float32),
            contours_yx=np.vstack([field.contours_yx, field.contours_yx[:1] - field.centres_yx[0] + 48]),
            state=np.append(field.state, np.uint8(State.LIVE)),
        )

    note = "what must be told of the labels"
    made = make_bundle(
        tuning(tmp_path, first), [replace(altered(dataset(30), with_one_that_is_not_there), notes=(note,))]
    )
    card, ((_, tested),) = made.bundle.card, made.tests
    row, rates = card.validation[0], card.error_rates(None)
    assert rates is not None
    assert row.n_live - len(tested) >= rates.n_live > 0
    matched = [match_field(f, c, 0.5) for f, c in zip(tested, call_fields(made.bundle, tested), strict=True)]
    given = np.concatenate([one.marked[one.call != State.UNCERTAIN] for one in matched]).tolist()
    assert (rates.n_live, rates.n_dead) == card.rated_on == (given.count(State.LIVE), given.count(State.DEAD))
    assert row.data.endswith(f"; {note}")
