"""Reading labelled pictures: what is grey passes, what is not is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from skimage.io import imsave

from livescope.errors import SourceError
from livescope.train.dye import read_pairs
from livescope.train.pictures import read_labels, read_picture

GREY = (np.arange(24 * 30).reshape(24, 30) % 251).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        imsave(path, pixels, check_contrast=False)
    return path


def test_grey_passes_also_as_colour_or_with_an_empty_axis(tmp_path: Path) -> None:
    for name, saved in {
        "plain.png": GREY,
        "deep.tif": GREY.astype(np.uint16),
        "colour.png": np.stack([GREY] * 3, axis=-1),
        "opaque.png": np.stack([GREY, GREY, GREY, np.full_like(GREY, 255)], axis=-1),
        "axis.tif": GREY[None],
    }.items():
        save(tmp_path / name, saved)
        read = read_picture(tmp_path / name)
        np.testing.assert_array_equal(read, GREY)
        assert read.dtype == saved.dtype


def test_what_is_no_grey_picture_is_named(tmp_path: Path) -> None:
    wrong = {
        "float.tif": (GREY / 251.0, r"float64.* allowed are uint8, uint16"),
        "stack.tif": (np.stack([GREY] * 5), r"shape \(5, 24, 30\).*one plane a file"),
        "colour.png": (np.stack([GREY, GREY, 255 - GREY], axis=-1), "colour picture"),
    }
    for name, (saved, message) in wrong.items():
        save(tmp_path / name, saved)
        with pytest.raises(SourceError, match=message):
            read_picture(tmp_path / name)
    for name in ("broken.tif", "broken.png"):
        (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(SourceError, match=rf"{name}' cannot be read.*Export it again"):
            read_picture(tmp_path / name)


def test_labels_may_be_saved_as_floating_point_but_must_be_labels(tmp_path: Path) -> None:
    labels = np.where(GREY > 100, 70_000, 0)
    save(tmp_path / "float.tif", labels.astype(np.float32))
    np.testing.assert_array_equal(read_labels(tmp_path / "float.tif"), labels)
    for saved in (GREY / 251.0, -labels, np.full((20, 24), np.nan)):
        save(tmp_path / "wrong.tif", saved)
        with pytest.raises(SourceError, match="numbers that are no labels"):
            read_labels(tmp_path / "wrong.tif")


def test_nuclei_of_another_shape_than_their_channels_are_named(tmp_path: Path) -> None:
    for channel in ("brightfield", "dead_dye", "nuclear_dye"):
        save(tmp_path / f"a_1.{channel}.tif", GREY.astype(np.uint16))
    save(tmp_path / "a_1.nuclei.tif", GREY[:, :20])
    with pytest.raises(SourceError, match=r"a_1\.nuclei\.tif' is \(24, 20\), its channels \(24, 30\)"):
        read_pairs(tmp_path)
