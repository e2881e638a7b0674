from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from skimage.io import imsave
from tifffile import imwrite

import livescope
from livescope.detect.bundle import Bundle, load_bundle, write_card
from livescope.detect.calibrate import calibration_error, fit_temperature, risk_band
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.train.command import run_calibrate
from livescope.train.data import Field, fingerprint, simulated_fields
from livescope.train.recalibrate import recalibrate
from livescope.train.reference import make_reference
from livescope.train.seen import seen_path, unknown_training
from livescope.train.sources import Dataset


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    return simulated_fields(6, seed=41, side_px=256)


def store(fields: list[Field], folder: Path) -> Path:
    """Write fields as boxes with classes, a group each."""
    (folder / "images").mkdir(parents=True)
    images, marks = [], []
    for k, field in enumerate(fields):
        imsave(folder / "images" / f"{k}.png", field.pixels, check_contrast=False)
        images.append({"id": k, "file_name": f"{k}.png"})
        for contour, state in zip(field.contours_yx, field.state, strict=True):
            (y, x), (height, width) = contour.min(axis=0) + 0.5, np.ptp(contour, axis=0)
            box = [float(v) for v in (x, y, width, height)]
            marks.append({"id": len(marks), "image_id": k, "category_id": int(state), "bbox": box})
    tree = {
        "images": images,
        "annotations": marks,
        "categories": [{"id": 1, "name": "Live"}, {"id": 2, "name": "Dead"}],
    }
    (folder / "annotations.coco.json").write_text(json.dumps(tree))
    return folder


def mis_scaled(folder: Path, factor: float) -> Bundle:
    """The simulated bundle, its chances much too sure or unsure."""
    bundle = load_bundle("simulated")
    path = folder / "wrong.onnx"
    path.write_bytes(bundle.onnx_path.read_bytes())
    write_card(bundle.card.model_copy(update={"temperature": factor * bundle.card.temperature, "int8": None}), path)
    return load_bundle(path)


@pytest.mark.parametrize("factor", [5.0, 0.1])
def test_temperature_is_found_again(factor: float) -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, 4000)
    dead = rng.random(4000) < 1 / (1 + np.exp(-logit))
    assert fit_temperature(factor * logit, dead) == pytest.approx(factor, rel=0.1)
    assert fit_temperature(logit[:1], dead[:1]) == pytest.approx(1, abs=0.6)  # one cell turns nothing over


def test_band_keeps_the_risk() -> None:
    p = np.array([0.01, 0.02, 0.3, 0.45, 0.55, 0.97, 0.99])
    dead = np.array([False, False, False, True, False, True, True])
    low, high = risk_band(p, dead, risk=0.0, most=0.5)
    assert low < 0.45 < 0.55 < high
    assert high <= 0.7
    assert calibration_error(np.array([0.25] * 4), np.array([True, False, False, False])) == pytest.approx(0)
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, bool)))


@pytest.mark.timeout(600)
def test_a_mis_scaled_model_is_calibrated_on_control_fields(tmp_path: Path, fields: list[Field]) -> None:
    wrong = mis_scaled(tmp_path, 4.0)
    done = recalibrate(str(wrong.onnx_path), store(fields, tmp_path / "controls"), tmp_path / "new.onnx", pixel_um=0.65)
    assert done.ece is not None
    assert "wrong.seen.txt is missing" in done.notes[0]
    assert done.ece[1] < 0.6 * done.ece[0]
    assert done.temperature[1] < 0.6 * done.temperature[0]
    again = load_bundle(tmp_path / "new.onnx")
    assert again.card.temperature == done.temperature[1]
    assert again.sha256 == wrong.sha256
    # the error rates are of the control fields now, and so few cells are behind them, not those before
    rates, before = again.card.error_rates(None), wrong.card.error_rates(None)
    assert rates is not None
    assert before is not None
    assert 0.5 * done.n_live < rates.n_live <= done.n_live < before.n_live
    assert 0.5 * done.n_dead < rates.n_dead <= done.n_dead < before.n_dead
    assert "control" in again.card.trained_on or "refitted" in again.card.trained_on
    assert load_bundle(wrong.onnx_path).card == wrong.card
    assert {fingerprint(field) for field in fields} <= set(seen_path(again.onnx_path).read_text().split())
    assert "new.seen.txt does not name them all" in unknown_training(again)[0]
    assert again.card.shift is not None
    assert len(again.card.shift.subsets) == 2


def test_plain_pictures_teach_the_watch_only(tmp_path: Path, fields: list[Field]) -> None:
    (tmp_path / "plain").mkdir()
    for k, field in enumerate(fields[:3]):
        imsave(tmp_path / "plain" / f"{k}.tif", field.pixels, check_contrast=False)
    done = recalibrate("simulated", tmp_path / "plain", tmp_path / "watch.onnx", pixel_um=0.65)
    assert done.ece is None
    assert done.watched
    assert done.temperature[0] == done.temperature[1]
    (tmp_path / "plain" / "0.tif").unlink()
    with pytest.raises(SourceError, match="2 fields without labels"):
        recalibrate("simulated", tmp_path / "plain", tmp_path / "watch.onnx", pixel_um=0.65)


def test_labels_that_cannot_be_read_do_not_make_plain_pictures(tmp_path: Path, fields: list[Field]) -> None:
    folder = plain(tmp_path / "plain", fields[:3])
    (folder / "annotations.coco.json").write_text('{"images": [')
    with pytest.raises(SourceError, match=r"annotations\.coco\.json' is no COCO json"):
        recalibrate("simulated", folder, tmp_path / "watch.onnx", pixel_um=0.65)


def plain(folder: Path, fields: list[Field], *sizes_um: float) -> Path:
    folder.mkdir(parents=True)
    for k, field in enumerate(fields):
        said = {"resolution": (1e4 / sizes_um[k],) * 2, "resolutionunit": 3} if sizes_um else {}
        imwrite(folder / f"{k}.tif", field.pixels, **said)
    return folder


def test_the_watch_tells_folders_of_one_name_apart_by_their_pictures(tmp_path: Path, fields: list[Field]) -> None:
    weeks = [plain(tmp_path / f"wk{k}" / "pictures", fields[3 * k : 3 * k + 3]) for k in (0, 1)]

    def names(model: Path | str, week: Path) -> list[str]:
        done = recalibrate(str(model), week, tmp_path / "new.onnx" if model == "simulated" else again, pixel_um=0.65)
        assert done.bundle.card.shift is not None
        return [one.data for one in done.bundle.card.shift.subsets]

    again = tmp_path / "again.onnx"
    first = names("simulated", weeks[0])
    assert len(first) == len(load_bundle("simulated").card.shift.subsets) + 1  # type: ignore[union-attr]
    both = names(tmp_path / "new.onnx", weeks[1])
    assert both[:-1] == first
    assert both[-1].startswith("3 control fields without labels in 'pictures' (")
    assert names(tmp_path / "new.onnx", weeks[0]) == first, "the same fields once more"
    # a card of before has no hash: the same fields are known again, others are kept beside
    new = load_bundle(tmp_path / "new.onnx")
    shift = new.card.shift
    assert shift is not None
    old = shift.subsets[-1].model_copy(update={"data": "3 control fields without labels in 'pictures'"})
    shift = shift.model_copy(update={"subsets": (*shift.subsets[:-1], old)})
    write_card(new.card.model_copy(update={"shift": shift}), new.onnx_path)
    assert names(tmp_path / "new.onnx", weeks[0]) == first
    assert names(tmp_path / "new.onnx", weeks[1]) == [*first[:-1], old.data, both[-1]]


def test_data_sets_that_are_described_alike_are_all_looked_at(fields: list[Field]) -> None:
    kinds = [Dataset(some, 0.65, 0.5, True, "3 fields of kind coco in 'pictures'") for some in (fields[:3], fields[3:])]
    made = make_reference(load_bundle("simulated"), [(one, one.fields) for one in kinds])
    assert len({one.data for one in made.subsets}) == 2


def test_pictures_of_different_pixel_sizes_are_refused(tmp_path: Path, fields: list[Field]) -> None:
    mixed = plain(tmp_path / "mixed", fields[:3], 0.65, 0.325, 0.65)
    with pytest.raises(SettingsError, match=r"state pixels of 0\.325, 0\.65 um\. Calibrate on those of each size"):
        recalibrate("simulated", mixed, tmp_path / "new.onnx")
    assert recalibrate("simulated", mixed, tmp_path / "new.onnx", pixel_um=0.65).watched


def test_too_few_cells_and_bad_places_are_refused(tmp_path: Path, fields: list[Field]) -> None:
    live_only = [replace(field, state=np.ones_like(field.state)) for field in fields[:1]]
    with pytest.raises(ModelError, match="some of each"):
        recalibrate("simulated", store(live_only, tmp_path / "live"), tmp_path / "new.onnx", pixel_um=0.65)
    own = load_bundle("simulated").onnx_path
    for out in (own, tmp_path / "new.txt"):
        with pytest.raises(SettingsError, match="never changed in place"):
            recalibrate("simulated", tmp_path / "live", out)


def test_data_of_a_config_are_taken_together_and_what_the_model_has_seen_is_left_out(
    tmp_path: Path, fields: list[Field]
) -> None:
    model = mis_scaled(tmp_path, 1.0).onnx_path
    first, second = store(fields[:3], tmp_path / "first"), store(fields[3:], tmp_path / "second")
    config = tmp_path / "controls.yaml"
    entries = [{"kind": "coco", "path": str(one), "group": "file_name"} for one in (first, second)]
    config.write_text(json.dumps({"data": entries}))
    seen_path(model).write_text(f"{fingerprint(fields[0])}\n")
    told: list[str] = []
    done = recalibrate(str(model), config, tmp_path / "new.onnx", pixel_um=0.65, report=told.append)
    assert "1 of 6 fields are left out: the model has seen pictures of their groups" in told
    assert "2 of 3 fields of kind coco in 'first'" in done.bundle.card.trained_on
    assert "3 of 3 fields of kind coco in 'second'" in done.bundle.card.trained_on
    assert {fingerprint(field) for field in fields} <= set(seen_path(done.bundle.onnx_path).read_text().split())
    with pytest.raises(SourceError, match="trained or calibrated on every group"):
        recalibrate(str(done.bundle.onnx_path), first, tmp_path / "again.onnx", pixel_um=0.65)


def with_states_flipped(field: Field, part: float) -> Field:
    flipped = np.random.default_rng(len(field.state)).random(len(field.state)) < part
    return replace(field, state=np.where(flipped, 3 - field.state, field.state).astype(np.uint8))


def test_what_is_wrong_among_the_calls_given_is_said(tmp_path: Path, fields: list[Field]) -> None:
    said = Console(record=True, width=400)
    doubtful = store([with_states_flipped(field, 0.2) for field in fields], tmp_path / "doubtful")
    run_calibrate("simulated", doubtful, tmp_path / "new.onnx", 0.01, 0.65, said)
    text = said.export_text()
    assert re.search(r"[12]\d\.\d% of the calls given wrong", text)
    assert "more calls are wrong than --risk 0.01 lets through" in text


def test_calls_no_better_than_chance_make_no_model(tmp_path: Path, fields: list[Field]) -> None:
    swapped = store([with_states_flipped(field, 1.0) for field in fields], tmp_path / "swapped")
    with pytest.raises(ModelError, match=r"no better than chance .*sensitivity 0\.0.*nothing was written"):
        recalibrate("simulated", swapped, tmp_path / "new.onnx", pixel_um=0.65)
    assert not (tmp_path / "new.onnx").exists()


def test_halves_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Groups were once numbered by `hash`, which Python draws anew in each process."""
    code = (
        "import numpy as np; from livescope.detect.bundle import load_bundle; from livescope.train import recalibrate\n"
        "from livescope.train.scoring import Matched; rng, ones = np.random.default_rng(0), []\n"
        "for k in range(9):\n"
        "    p, dead = rng.random(20), rng.random(20) < 0.5; p = (p + k * dead) / (k + 1)\n"
        "    empty = np.empty(0, int); state = np.where(dead, 2, 1)\n"
        "    ones.append(Matched(f'f{k}', f'well {k}', p, p, state.astype(np.uint8), state, p, empty))\n"
        "print(recalibrate._chances(load_bundle('simulated'), ones, 0.01))"
    )
    said = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(livescope.__file__).parents[1])}
        said.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert len(said) == 1
