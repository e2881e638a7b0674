from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from livescope.detect.bundle import Bundle, load_bundle, write_card
from livescope.detect.calibrate import calibration_error, fit_temperature, risk_band
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.train.data import Field, fingerprint, simulated_fields
from livescope.train.evaluate import seen_path
from livescope.train.recalibrate import recalibrate


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
    assert done.ece[1] < 0.6 * done.ece[0]
    assert done.temperature[1] < 0.6 * done.temperature[0]
    again = load_bundle(tmp_path / "new.onnx")
    assert again.card.temperature == done.temperature[1]
    assert again.sha256 == wrong.sha256
    assert "control" in again.card.trained_on or "refitted" in again.card.trained_on
    assert load_bundle(wrong.onnx_path).card == wrong.card
    assert {fingerprint(field) for field in fields} <= set(seen_path(again.onnx_path).read_text().split())
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


def test_too_few_cells_and_bad_places_are_refused(tmp_path: Path, fields: list[Field]) -> None:
    live_only = [replace(field, state=np.ones_like(field.state)) for field in fields[:1]]
    with pytest.raises(ModelError, match="some of each"):
        recalibrate("simulated", store(live_only, tmp_path / "live"), tmp_path / "new.onnx", pixel_um=0.65)
    own = load_bundle("simulated").onnx_path
    for out in (own, tmp_path / "new.txt"):
        with pytest.raises(SettingsError, match="never changed in place"):
            recalibrate("simulated", tmp_path / "live", out)
