from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from livescope.acquire.files import iter_frames, open_pages, tiff_pixel_um
from livescope.errors import SourceError
from livescope.settings import CameraSettings

PIXELS = np.zeros((8, 8), np.uint16)


def save(path: Path, pixel_um: float) -> None:
    tifffile.imwrite(path, PIXELS, resolution=(10_000 / pixel_um, 10_000 / pixel_um), resolutionunit="CENTIMETER")


@pytest.mark.parametrize(
    ("said", "pixel_um"),
    [
        ({"resolution": (10_000 / 0.65, 10_000 / 0.65), "resolutionunit": "CENTIMETER"}, 0.65),
        ({"imagej": True, "resolution": (1 / 0.31, 1 / 0.31), "metadata": {"unit": "um"}}, 0.31),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}}, 0.65),
        ({"ome": True, "metadata": {"PhysicalSizeX": 650.0, "PhysicalSizeXUnit": "nm"}}, 0.65),
        ({"ome": True, "metadata": {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"}}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({}, None),
    ],
)
def test_pixel_size_of_a_tiff(tmp_path: Path, said: dict[str, object], pixel_um: float | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, **said)
    assert tiff_pixel_um(tmp_path / "a.tif") == (None if pixel_um is None else pytest.approx(pixel_um, rel=1e-3))


def test_each_frame_has_the_pixel_size_of_its_own_file(tmp_path: Path) -> None:
    for name, um in (("a", 0.5), ("b", 0.5), ("c", 1.0)):
        save(tmp_path / f"{name}.tif", um)
        assert open_pages(tmp_path).pixel_um == (None if name == "c" else 0.5)
    frames = [frame for _, frame in iter_frames(tmp_path)]
    assert [(frame.pixel_um, frame.segment) for frame in frames] == [(0.5, 0), (0.5, 0), (1.0, 1)]
    assert {frame.pixel_um for _, frame in iter_frames(tmp_path, CameraSettings(pixel_um=0.7))} == {0.7}


def test_a_file_without_pixel_size_among_others_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", 0.65)
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    with pytest.raises(SourceError, match=r"'b.png' says no pixel size, but 'a.tif' says 0.65 um.*--pixel-um"):
        next(iter_frames(tmp_path))
    assert {frame.pixel_um for _, frame in iter_frames(tmp_path, CameraSettings(pixel_um=0.7))} == {0.7}


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_of_a_tiff_are_no_frames(tmp_path: Path, kind: str) -> None:
    several, one = np.zeros((3, 2, 8, 8), np.uint16), np.zeros((3, 1, 8, 8), np.uint16)
    tifffile.imwrite(tmp_path / "two.tif", several, metadata={"axes": "TCYX"}, **{kind: True})
    tifffile.imwrite(tmp_path / "one.tif", one, metadata={"axes": "TCYX"}, **{kind: True})
    with pytest.raises(SourceError, match=r"two.tif' cannot be read: it holds 2 channels.* a file of its own"):
        open_pages(tmp_path / "two.tif")
    assert len(open_pages(tmp_path / "one.tif")) == 3


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_slices_of_a_tiff_are_no_frames(tmp_path: Path, kind: str) -> None:
    for name, axes in (("z", "ZYX"), ("zt", "TZYX"), ("t", "TYX")):
        pixels = np.zeros((3, 8, 8) if len(axes) == 3 else (2, 3, 8, 8), np.uint16)
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, metadata={"axes": axes}, **{kind: True})
    for name in ("z", "zt"):
        with pytest.raises(SourceError, match=rf"'.*/{name}.tif' cannot be read: it holds 3 slices.* time points"):
            open_pages(tmp_path / f"{name}.tif")
    assert len(open_pages(tmp_path / "t.tif")) == 3


def test_a_file_for_each_channel_holds_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "bright.ome.tif") as tiff:
        description = '<OME><Image><Pixels SizeC="2" SizeZ="1" SizeT="3"></Pixels></Image></OME>'
        for _ in range(3):
            tiff.write(PIXELS, description=description, metadata=None)
            description = ""
    assert len(open_pages(tmp_path / "bright.ome.tif")) == 3


def test_what_a_mac_leaves_beside_pictures_is_no_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    (tmp_path / "._a.tif").write_bytes(b"\x00\x05\x16\x07")
    assert len(open_pages(tmp_path)) == 1


def test_dyes_beside_bright_field_are_no_pictures_of_cells(tmp_path: Path) -> None:
    for name in ("a_1.5x.brightfield", "a_1.5x.dead_dye", "a_1.5x.nuclear_dye", "a_1.5x.nuclei", "b.dead_dye", "c"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((8, 8), np.uint8))
    names = [name for name, _ in iter_frames(tmp_path)]
    assert names == ["a_1.5x.brightfield.tif", "b.dead_dye.tif", "c.tif"]


def test_a_folder_that_may_not_be_looked_into(locked_folder: Path) -> None:
    for path in (locked_folder, locked_folder / "a.tif"):
        with pytest.raises(SourceError, match=f"{path.name}' cannot be read: Permission denied"):
            open_pages(path)
