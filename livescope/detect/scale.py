"""How the pixels of a camera fit a model: the integer bin, and what the user must be told.

Owns that choice. The binning itself runs in the frame graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from livescope.detect.bundle import Card
from livescope.errors import ModelError
from livescope.frames import FrameSpec

__all__ = ["MAX_MISMATCH", "Scale", "fit_scale"]

MAX_MISMATCH = 1.25
"""Largest factor between the binned pixel and the model's: networks are trained at scales of 0.8 to 1.25."""


@dataclass(slots=True, frozen=True)
class Scale:
    """The bin, and a warning.

    Attributes
    ----------
    bin
        Raw pixels along each axis that are averaged into one pixel of the network's input.
    warning
        What may be wrong with the scale, for the user; None where it is known to fit.
    """

    bin: int
    warning: str | None = None


def fit_scale(spec: FrameSpec, card: Card) -> Scale:
    """Choose the bin that brings a frame nearest to the model's pixel size.

    Raises
    ------
    ModelError
        No bin comes within a factor of `MAX_MISMATCH`: the calls would not be worth having.
    """
    expected = "cells {:.0f} to {:.0f} pixels across".format(*card.cell_diameter_px)
    if card.pixel_um is None:
        return Scale(1, f"model {card.name!r} states no pixel size; it expects {expected}: check that yours are.")
    if spec.pixel_um is None:
        return Scale(
            1,
            f"the pixel size of these frames is unknown; model {card.name!r} expects {card.pixel_um:g} um a pixel "
            f"({expected}). Set camera.pixel_um, or give --pixel-um (analyze, evaluate, calibrate).",
        )
    wanted = card.pixel_um / spec.pixel_um
    factor = min((max(1, math.floor(wanted)), math.ceil(wanted)), key=lambda b: abs(math.log(b / wanted)))
    mismatch = max(factor / wanted, wanted / factor)
    if mismatch > MAX_MISMATCH:
        low, high = card.pixel_um / MAX_MISMATCH, card.pixel_um * MAX_MISMATCH
        raise ModelError(
            f"pixels of {spec.pixel_um:g} um do not fit model {card.name!r}, which needs {low:.3g} to {high:.3g} um "
            f"after binning (best here: bin {factor} gives {spec.pixel_um * factor:.3g} um). Check camera.pixel_um (or "
            "--pixel-um), change objective or camera binning, or choose a model of that pixel size."
        )
    return Scale(factor)
