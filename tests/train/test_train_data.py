from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from livescope.calls import State
from livescope.detect.normalise import Background, levels
from livescope.errors import SourceError
from livescope.train.data import read_coco, simulated_fields, split_groups
from livescope.train.examples import example_of, normalised
from livescope.train.sources import entries_of, read, settings_of

DATA = Path(os.environ.get("LIVESCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_coco(folder: Path, category: str = "dead") -> None:
    (folder / "images").mkdir()
    imsave(folder / "images" / "a.png", np.full((40, 60), 100, np.uint8), check_contrast=False)
    tree = {
        "images": [{"id": 7, "file_name": "a.png", "well": "A1"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 8, 4]}],
        "categories": [{"id": 2, "name": category}],
    }
    (folder / "annotations.coco.json").write_text(json.dumps(tree))


def test_boxes_become_ellipses_about_pixel_centres(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (field,) = read_coco(tmp_path, group="well")
    assert field.group == "A1"
    assert field.state.tolist() == [State.DEAD]
    # columns 10..17 and rows 20..23 are covered
    assert field.centres_yx.tolist() == [[21.5, 13.5]]
    assert np.ptp(field.contours_yx[0], axis=0).tolist() == pytest.approx([4.0, 8.0])


def test_a_wrong_group_or_category_names_what_there_is(tmp_path: Path) -> None:
    write_coco(tmp_path, category="alive")
    with pytest.raises(SourceError, match="alive"):
        read_coco(tmp_path, group="well")
    with pytest.raises(SourceError, match="holds no annotations"):
        read_coco(tmp_path / "images")


def test_group_key_must_exist(tmp_path: Path) -> None:
    write_coco(tmp_path)
    with pytest.raises(SourceError, match=r"'dup_group'.*'well'.*or file_name"):
        read_coco(tmp_path)


def test_no_group_is_split() -> None:
    groups = [f"g{k % 40}" for k in range(200)]
    parts = split_groups(groups, (0.6, 0.2), seed=3)
    assert set.union(*parts) == set(groups)
    assert sum(map(len, parts)) == 40
    assert [len(part) for part in parts] == pytest.approx([24, 8, 8], abs=1)
    assert parts == split_groups(groups, (0.6, 0.2), seed=3)
    assert parts != split_groups(groups, (0.6, 0.2), seed=4)


def test_binning_takes_means_and_fills_the_last_bin() -> None:
    pixels = np.random.default_rng(0).integers(900, 1100, (33, 48)).astype(np.uint16)
    black, inv_gain = levels(pixels, Background())
    image = normalised(pixels, Background(), bin_px=2)
    assert image.shape == (17, 24)
    assert image[3, 5] == pytest.approx((pixels[6:8, 10:12].mean() - black) * inv_gain, abs=1e-4)
    assert image[16, 5] == pytest.approx((pixels[32, 10:12].mean() - black) * inv_gain, abs=1e-4)


def test_simulated_fields_are_seeded_and_complete() -> None:
    (field,) = simulated_fields(1, seed=5, side_px=256)
    (again,) = simulated_fields(1, seed=5, side_px=256)
    (other,) = simulated_fields(1, seed=6, side_px=256)
    assert np.array_equal(field.pixels, again.pixels)
    assert not np.array_equal(field.pixels, other.pixels)
    example = example_of(field, Background(contrast=0.3), bin_px=2)
    assert example.image.shape == (128, 128)
    assert example.cells.centres_yx == pytest.approx((field.centres_yx - 0.5) / 2)


@pytest.mark.skipif(not (DATA / "ldc").is_dir(), reason="LIVESCOPE_DATA is absent: no LDC tiles")
def test_ldc_reads_whole() -> None:
    fields = read_coco(DATA / "ldc")
    assert len(fields) == 1938
    states = np.concatenate([field.state for field in fields])
    assert ((states == State.LIVE).sum(), (states == State.DEAD).sum()) == (5606, 1281)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("annotations", "bbox", None, r"annotations\.0\.bbox .*Field required.*bbox \[x, y, width, height\]"),
        ("annotations", "bbox", [], r"annotations\.0\.bbox .*"),
        ("annotations", "bbox", ["a", 1, 2, 3], r"annotations\.0\.bbox .*'a'"),
        ("annotations", "category_id", None, r"annotations\.0\.category_id .*Field required"),
        ("annotations", "image_id", None, r"annotations\.0\.image_id .*Field required"),
        ("annotations", "image_id", "7", r"annotations\.0 .*image_id '7', the id of none of its images: \[7\]"),
        ("images", "id", None, r"images\.0\.id .*Field required"),
        ("images", "file_name", None, r"images\.0\.file_name .*Field required"),
        ("categories", "id", None, r"categories\.0\.id .*Field required"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(
    tmp_path: Path, part: str, key: str, value: object, message: str
) -> None:
    write_coco(tmp_path)
    file = tmp_path / "annotations.coco.json"
    tree = json.loads(file.read_text())
    del tree[part][0][key]
    tree[part][0] |= {} if value is None else {key: value}
    file.write_text(json.dumps(tree))
    with pytest.raises(SourceError, match=rf"annotations\.coco\.json' cannot be used: {message}"):
        read_coco(tmp_path, group="well")


def test_an_entry_that_is_no_object_is_told(tmp_path: Path) -> None:
    (tmp_path / "annotations.coco.json").write_text('{"images": [3], "annotations": [], "categories": []}')
    with pytest.raises(SourceError, match=r"no COCO json.*lists of objects expected"):
        settings_of(tmp_path)


def save(path: Path, pixel_um: float | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 60), 100, np.uint8)
    said = {} if pixel_um is None else {"resolution": (10_000 / pixel_um,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, **said)


def pictures(folder: Path, kind: str, sizes: dict[str, float | None]) -> None:
    for name, pixel_um in sizes.items():
        save(folder / "images" / name, pixel_um)
        if kind == "masks":
            save(folder / "masks" / name, None)
    entries = [{"id": k, "file_name": name, "well": "A1"} for k, name in enumerate(sizes)]
    if kind == "coco":
        tree = {"images": entries, "annotations": [], "categories": []}
        (folder / "annotations.coco.json").write_text(json.dumps(tree))


@pytest.mark.parametrize("kind", ["coco", "masks"])
def test_the_pixel_size_is_what_the_files_say(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path / "one", kind, {"a.TIF": 0.65, "b.tif": 0.65})
    assert read(settings_of(tmp_path / "one")).pixel_um == 0.65
    pictures(tmp_path / "none", kind, {"a.tif": None})
    assert read(settings_of(tmp_path / "none")).pixel_um is None


@pytest.mark.parametrize("kind", ["coco", "masks"])
@pytest.mark.parametrize(("other", "said"), [(1.3, "1.3 um"), (None, "none")])
def test_pictures_of_several_pixel_sizes_are_named(tmp_path: Path, kind: str, other: float | None, said: str) -> None:
    pictures(tmp_path, kind, {"a.tif": 0.65, "b.TIF": other})
    settings = settings_of(tmp_path)
    with pytest.raises(SourceError, match=rf"'a.tif' says 0.65 um, 'b.TIF' {said}\. .*--pixel-um"):
        read(settings)
    assert read(settings.model_copy(update={"pixel_um": 0.9})).pixel_um == 0.9


def test_a_path_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pictures(tmp_path / "set", "coco", {"a.tif": 0.65})
    (tmp_path / "train.yaml").write_text("data: [{kind: coco, path: ~/set, group: well}]")
    for path in (Path("~/set"), Path("~/train.yaml")):
        assert [read(entry).pixel_um for entry in entries_of(path)] == [0.65]
