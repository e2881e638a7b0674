"""`livescope analyze --outlines refined --labels DIR` on stored images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from imageio.v3 import imwrite

from livescope.errors import ModelError, SettingsError
from livescope.settings import SimulationSettings
from livescope.simulate.optics import render_field
from livescope.stored import analyze


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image of one frame, and one of two."""
    folder = tmp_path_factory.mktemp("images")
    settings = SimulationSettings(seed=4, width=256, height=200, pixel_um=1.3)
    pages = [render_field(settings, frame_number=k, exposure_ms=10.0)[0] for k in range(3)]
    tifffile.imwrite(folder / "one.tif", pages[0])
    tifffile.imwrite(folder / "two.tif", np.stack(pages[1:]), photometric="minisblack")
    return folder


def analyzed(images: Path, out: Path, *, refined: bool, labels: Path | None) -> list[dict[str, object]]:
    assert analyze(str(images), "simulated", out, ["detector.backend=onnx"], 1.3, refined, labels) == 0
    rows: list[dict[str, object]] = pq.read_table(out).to_pylist()
    return rows


@pytest.mark.parametrize("refined", [True, False])
def test_label_images_hold_the_rows_of_the_table(images: Path, tmp_path: Path, refined: bool) -> None:
    rows = analyzed(images, tmp_path / "calls.parquet", refined=refined, labels=tmp_path / "labels")
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["one.tif", "two.tif"]
    pages = {
        (name, t): page
        for name, n in (("one.tif", 1), ("two.tif", 2))
        for t, page in enumerate(tifffile.imread(tmp_path / "labels" / name).reshape(n, 200, 256))
    }
    for (name, t), page in pages.items():
        mine = [row for row in rows if (row["image"], row["t"]) == (name, t)]
        assert len(mine) == page.max() > 5
        assert page.dtype == np.uint16
        areas = np.bincount(page.ravel())[1:]
        assert (areas > 0).all()
        if refined:
            assert [row["area_px"] for row in mine] == areas.tolist()
        for value, row in enumerate(mine, 1):
            y, x = round(row["y_px"]), round(row["x_px"])  # type: ignore[call-overload]
            assert page[y, x] == value


def test_refined_outlines_change_no_call(images: Path, tmp_path: Path) -> None:
    rays = analyzed(images, tmp_path / "rays.parquet", refined=False, labels=None)
    refined = analyzed(images, tmp_path / "refined.parquet", refined=True, labels=None)
    calls = ("image", "t", "y_px", "x_px", "p_cell", "p_dead", "state")
    assert [[row[k] for k in calls] for row in rays] == [[row[k] for k in calls] for row in refined]
    assert [row["area_px"] for row in rays] != [row["area_px"] for row in refined]
    assert b'"outlines": "refined"' in pq.read_schema(tmp_path / "refined.parquet").metadata[b"livescope"]


def test_images_that_would_share_a_label_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pixels = np.full((64, 64), 100, np.uint8)
    tifffile.imwrite(tmp_path / "in" / "a.tif", pixels)
    imwrite(tmp_path / "in" / "a.png", pixels)
    with pytest.raises(
        SettingsError, match=r"labels of 'a\.tif' would go into .*a\.tif', which holds those of 'a\.png'"
    ):
        analyzed(tmp_path / "in", tmp_path / "calls.parquet", refined=False, labels=tmp_path / "labels")


@pytest.mark.parametrize("name", ["one.tif", "other.PNG"])
def test_pictures_are_never_replaced_by_labels(images: Path, tmp_path: Path, name: str) -> None:
    labels = tmp_path / "masks"
    labels.mkdir()
    (labels / name).write_bytes(b"by hand")
    with pytest.raises(SettingsError, match=rf"masks' holds pictures already \(1, '{name}' the first\).*a new folder"):
        analyzed(images, tmp_path / "calls.parquet", refined=False, labels=labels)
    assert [(file.name, file.read_bytes()) for file in labels.iterdir()] == [(name, b"by hand")]
    before = (images / "one.tif").read_bytes()
    with pytest.raises(SettingsError, match=r"holds pictures already \(2"):
        analyzed(images, tmp_path / "calls.parquet", refined=False, labels=images)
    assert (images / "one.tif").read_bytes() == before


def test_pictures_of_two_objectives_are_called_at_their_own_pixel_size(tmp_path: Path) -> None:
    tables = {}
    for um, shape in ((1.3, (200, 256)), (0.65, (400, 512))):
        settings = SimulationSettings(seed=4, width=shape[1], height=shape[0], pixel_um=um)
        pixels = render_field(settings, frame_number=0, exposure_ms=10.0)[0]
        for folder in (str(um), "both"):
            (tmp_path / folder).mkdir(exist_ok=True)
            resolution = (10_000 / um, 10_000 / um)
            tifffile.imwrite(tmp_path / folder / f"{um}.tif", pixels, resolution=resolution, resolutionunit=3)
    for folder in ("1.3", "0.65", "both"):
        out = tmp_path / f"{folder}.parquet"
        assert analyze(str(tmp_path / folder), "simulated", out, ["detector.backend=onnx"], None) == 0
        tables[folder] = pq.read_table(out).to_pylist()
    assert min(len(tables["1.3"]), len(tables["0.65"])) > 5
    assert tables["both"] == tables["0.65"] + tables["1.3"]


def test_a_picture_whose_pixels_do_not_fit_the_model_is_named(tmp_path: Path) -> None:
    resolution = (10_000 / 9, 10_000 / 9)
    tifffile.imwrite(tmp_path / "far.tif", np.zeros((64, 64), np.uint8), resolution=resolution, resolutionunit=3)
    with pytest.raises(ModelError, match=r"^far\.tif: pixels of 9 um do not fit"):
        analyze(str(tmp_path), "simulated", tmp_path / "calls.parquet", ["detector.backend=onnx"], None)


def test_an_unusable_label_folder_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--labels .*file/labels' cannot be made"):
        analyzed(images, tmp_path / "calls.parquet", refined=True, labels=tmp_path / "file" / "labels")
