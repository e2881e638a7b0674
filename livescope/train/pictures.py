"""Labelled pictures from files: grey ones and label images, or an error that says what the file is instead.

Owns reading one file for training and evaluation. Which files belong together is known to the kind of data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import tifffile
from numpy.typing import NDArray

from livescope.acquire.files import tiff_pixels
from livescope.errors import SourceError
from livescope.frames import PIXEL_DTYPES, Pixels

__all__ = ["read_labels", "read_picture"]

_COLOURS = (3, 4)


def read_picture(path: Path) -> Pixels:
    """Read a grey picture, also one saved as colour with equal channels.

    Returns
    -------
    (H, W) uint8 or uint16.

    Raises
    ------
    SourceError
        The file cannot be read, or is a stack, of real colours or of other pixels.
    """
    pixels = _plane(path, tiff_pixels)
    if pixels.dtype.name not in PIXEL_DTYPES:
        raise SourceError(
            f"picture {str(path)!r} has pixels of type {pixels.dtype.name}; allowed are {', '.join(PIXEL_DTYPES)}: "
            "save it as the camera gave it, 8 or 16 bit."
        )
    return pixels


def read_labels(path: Path) -> NDArray[np.intp]:
    """Read an instance mask, also one saved as whole numbers in floating point: (H, W), 0 background.

    Raises
    ------
    SourceError
        The file cannot be read, is a stack or of real colours, or holds other numbers.
    """
    labels = _plane(path, tifffile.imread)
    whole = labels.astype(np.intp) if np.isfinite(labels).all() else np.full(labels.shape, -1)
    if (whole != labels).any() or whole.min(initial=0) < 0:
        raise SourceError(
            f"mask {str(path)!r} holds numbers that are no labels; save 0 for background and 1, 2, ... for the cells."
        )
    return whole


def _plane(path: Path, read_tiff: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            pixels = read_tiff(path)
        else:  # by its bytes: imageio leaves a file open that it cannot read
            pixels = imageio.v3.imread(path.read_bytes(), extension=path.suffix)
    except Exception as error:  # each format's reader has errors of its own
        raise SourceError(f"{str(path)!r} cannot be read: {error}. Export it again, or take it out.") from error
    if pixels.ndim == 3 and pixels.shape[-1] in _COLOURS:
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise SourceError(f"{str(path)!r} is a colour picture; save the one channel that is meant, in grey.")
        pixels = pixels[..., 0]
    pixels = pixels.squeeze()
    if pixels.ndim != 2 or not pixels.size:
        raise SourceError(f"{str(path)!r} has the shape {pixels.shape}; save single pictures, one plane a file.")
    return pixels
