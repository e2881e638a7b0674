from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from livescope.detect.bundle import load_bundle
from livescope.errors import SettingsError, SourceError
from livescope.settings import SimulationSettings
from livescope.simulate.optics import render_field
from livescope.train.data import Field, fingerprint, simulated_fields
from livescope.train.evaluate import call_fields, evaluate, sheet_of
from livescope.train.seen import seen_path
from livescope.train.shifts import SHIFTS
from livescope.train.sources import Dataset


def write_boxes(folder: Path) -> list[str]:
    """Write simulated fields as boxes with classes; returns their fingerprints."""
    (folder / "images").mkdir(parents=True)
    fields = simulated_fields(4, seed=31, side_px=256)
    images, marks = [], []
    for k, field in enumerate(fields):
        imsave(folder / "images" / f"{k}.png", field.pixels, check_contrast=False)
        images.append({"id": k, "file_name": f"{k}.png", "well": f"w{k}"})
        for contour, state in zip(field.contours_yx, field.state, strict=True):
            (y, x), (height, width) = contour.min(axis=0) + 0.5, np.ptp(contour, axis=0)
            box = [float(v) for v in (x, y, width, height)]
            marks.append({"id": len(marks), "image_id": k, "category_id": int(state), "bbox": box})
    categories = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    tree = {"images": images, "annotations": marks, "categories": categories}
    (folder / "annotations.coco.json").write_text(json.dumps(tree))
    return [fingerprint(field) for field in fields]


def test_a_sheet_is_written_and_leaves_out_what_the_model_has_seen(tmp_path: Path) -> None:
    names = write_boxes(tmp_path / "data")
    bundle = load_bundle("simulated")
    mine = tmp_path / "simulated.onnx"
    shutil.copy(bundle.onnx_path, mine)
    shutil.copy(bundle.onnx_path.with_suffix(".card.yaml"), mine.with_suffix(".card.yaml"))
    seen_path(mine).write_text(names[0] + "\n")
    told: list[str] = []
    sheet = evaluate(str(mine), tmp_path / "data", tmp_path / "out", split="well", pixel_um=0.65, report=told.append)
    assert any("1 of 4 fields are left out" in line for line in told)
    assert sheet == json.loads((tmp_path / "out" / "sheet.json").read_text())
    assert sheet["data"]["fields_left_out_as_seen"] == 1
    assert sheet["data"]["groups"] == 3
    assert sheet["figures"]["f1"]["value"] > 0.8
    assert sheet["localisation_um"]["median"] == pytest.approx(0.65 * sheet["localisation_px"]["median"], rel=1e-3)
    assert [row["case"] for row in sheet["shift"]] == list(SHIFTS)
    assert "data:image/png;base64" in (tmp_path / "out" / "sheet.html").read_text()
    assert sheet["warnings"] == []
    seen_path(mine).unlink()
    sheet = evaluate(str(mine), tmp_path / "data", tmp_path / "out", split="well", pixel_um=0.65)
    assert "simulated.seen.txt is missing: nobody knows which pictures" in sheet["warnings"][0]
    seen_path(mine).write_text("\n".join(names))
    with pytest.raises(SourceError, match="trained or calibrated on every group"):
        evaluate(str(mine), tmp_path / "data", tmp_path / "out", split="well", pixel_um=0.65)


def test_fields_of_many_cells_are_called_whole_and_a_full_table_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = SimulationSettings(seed=3, width=1792, height=1792, pixel_um=0.65, cells_per_mm2=900)
    pixels, truth = render_field(simulation, exposure_ms=20)
    empty = np.zeros((0, 2), np.float32), np.zeros((0, 4, 2), np.float32), np.zeros(0, np.uint8)
    told: list[str] = []
    bundle, field = load_bundle("simulated"), Field("big", "big", pixels, *empty)
    (calls,) = call_fields(bundle, [field], 0.65, tell=told.append)
    assert len(truth.y_px) > 1100
    assert len(calls) > 0.95 * len(truth.y_px)
    assert told == []
    monkeypatch.setattr("livescope.train.evaluate.MAX_CELLS", 5)
    dataset = Dataset(simulated_fields(1, seed=31, side_px=256), 0.65, 0.5, complete=True, described="a field")
    sheet = sheet_of(bundle, dataset, dataset.fields)
    assert any("as many cells as the table's 5 rows, or more" in one for one in sheet["warnings"])


def test_a_sheet_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    with pytest.raises(SettingsError, match=r"--out .*sheet\.json' cannot be written"):
        evaluate("simulated", Path("simulated"), tmp_path / "file", report=told.append)
    assert told == []


def test_rescaling_moves_labels_with_the_picture() -> None:
    (field,) = simulated_fields(1, seed=32, side_px=128)
    half = SHIFTS["pixel size + 20 %"](field)
    assert half.pixels.shape == (107, 107)
    assert half.centres_yx == pytest.approx((field.centres_yx + 0.5) * 107 / 128 - 0.5, abs=1e-3)
    marked = replace(field, known=np.ones(field.pixels.shape, bool))
    double = SHIFTS["pixel size - 30 %"](marked)
    assert double.pixels.shape == field.pixels.shape  # a camera sees less of it; a network of one size takes no more
    assert double.known is not None
    assert double.known.shape == field.pixels.shape
    assert double.centres_yx == pytest.approx((field.centres_yx + 0.5) * 183 / 128 - 0.5, abs=1e-3)
