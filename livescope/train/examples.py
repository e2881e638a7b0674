"""Labelled pictures in the network's own pixels and units: what augmentation and targets work on.

Owns `Example` and the way from a raw `Field` to one, the same as the frame graph's at the microscope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from livescope.detect.normalise import Normalisation, levels
from livescope.frames import Pixels
from livescope.train.data import Field

__all__ = ["Cells", "Example", "example_of", "normalised"]


@dataclass(slots=True, frozen=True)
class Cells:
    """Marked cells of one canvas; arrays as in `livescope.train.data.Field`, in pixels of the network's input.

    `state_weight` (n,) is what each cell counts in the state's loss, None: 1.
    """

    centres_yx: NDArray[np.float32]
    contours_yx: NDArray[np.float32]
    state: NDArray[np.uint8]
    state_weight: NDArray[np.float32] | None = None


@dataclass(slots=True, frozen=True)
class Example:
    """A normalised picture (H, W) with its cells; `known` (H, W) is 1 where labels speak, None: everywhere.

    `dyes` (3, H, W) as those of `livescope.train.data.Field`.
    """

    image: NDArray[np.float32]
    cells: Cells
    known: NDArray[np.float32] | None = None
    visible_only: bool = False
    dyes: NDArray[np.float32] | None = None


def normalised(pixels: Pixels, normalisation: Normalisation, bin_px: int = 1) -> NDArray[np.float32]:
    """Normalise a raw frame exactly as the frame graph does: levels of the whole frame, then the mean over bins.

    Parameters
    ----------
    pixels
        (H, W) uint8 or uint16.
    normalisation
        Of the model's card.
    bin_px
        Camera pixels a network pixel; the last bins are filled up with the frame's edge pixels.

    Returns
    -------
    (ceil(H / bin_px), ceil(W / bin_px)) float32.
    """
    black, inv_gain = levels(pixels, normalisation)
    image = (pixels.astype(np.float32) - np.float32(black)) * np.float32(inv_gain)
    return _binned(image, bin_px)


def _binned(image: NDArray[np.float32], bin_px: int) -> NDArray[np.float32]:
    if bin_px == 1:
        return image
    fill = [(0, -side % bin_px) for side in image.shape]
    image = np.pad(image, fill, mode="edge")
    height, width = (side // bin_px for side in image.shape)
    binned: NDArray[np.float32] = image.reshape(height, bin_px, width, bin_px).mean(axis=(1, 3), dtype=np.float32)
    return binned


def example_of(
    field: Field, normalisation: Normalisation, bin_px: int = 1, weights: NDArray[np.float32] | None = None
) -> Example:
    """Normalise and bin a field into a training example; cells are moved to the network's pixels.

    `weights` (256,) are those of the field's group in `livescope.train.state_weights`.
    """
    # the centre of a bin of k pixels lies (k - 1) / 2 after its first pixel's
    shift = np.float32((bin_px - 1) / 2)
    cells = Cells(
        (field.centres_yx - shift) / np.float32(bin_px),
        (field.contours_yx - shift) / np.float32(bin_px),
        field.state,
        None if weights is None else weights[field.state],
    )
    known = None if field.known is None else _binned(field.known.astype(np.float32), bin_px)
    dyes = None if field.dyes is None else np.stack([_binned(one, bin_px) for one in field.dyes])
    return Example(normalised(field.pixels, normalisation, bin_px), cells, known, field.visible_only, dyes)
