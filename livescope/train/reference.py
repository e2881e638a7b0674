"""What the shift watch compares with: how the pictures of a training look through the model that was trained on them.

Owns the choice of fields and the variation that is still usual: what training varies itself must not be warned of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from livescope.detect.appearance import appearance, clipped, unevenness
from livescope.detect.bundle import Bundle
from livescope.detect.scale import fit_scale
from livescope.detect.shift import ShiftReference, reference_of
from livescope.frames import FrameSpec
from livescope.train.data import Field, fingerprint
from livescope.train.evaluate import call_fields
from livescope.train.shifts import blurred, lit, scaled
from livescope.train.sources import Dataset

__all__ = ["look_of", "make_reference"]

_MOST_FIELDS, _MOST_PIXELS = 400, 5e7
"""Fields of each kind, evenly chosen, and pixels in all."""
_CROP_PX = 512
"""Larger fields are looked at whole and in parts: users' frames are of any size."""


def make_reference(bundle: Bundle, kinds: Sequence[tuple[Dataset, Sequence[Field]]], seed: int = 0) -> ShiftReference:
    """Measure fields of a training as the shift watch does; those of each kind of data make one subset.

    Parameters
    ----------
    bundle
        The finished model.
    kinds
        Of each data set, fields that training or calibration used; three at least.
    seed
        Of the variation.
    """
    rng = np.random.default_rng(seed)
    looks, piled, uneven = {}, [], []
    for dataset, fields in kinds:
        size = float(np.mean([field.pixels.size for field in fields]))
        most = max(min(_MOST_FIELDS, int(_MOST_PIXELS / size)), 10)
        chosen = [fields[k] for k in np.unique(np.linspace(0, len(fields) - 1, most).astype(int))]
        views = [view for field in chosen for view in _views(field, rng)]
        # folders of different weeks may be described alike; the pictures tell them apart
        name = hashlib.sha256("".join(sorted(map(fingerprint, fields))).encode()).hexdigest()[:8]
        looks[f"{dataset.described} ({name})"] = look_of(bundle, views, dataset.pixel_um)
        piled += [clipped(field.pixels) for field in chosen]
        uneven += [unevenness(field.pixels) for field in chosen]
    return reference_of(looks, np.array(piled), np.array(uneven))


def look_of(bundle: Bundle, fields: Sequence[Field], pixel_um: float | None) -> NDArray[np.float64]:
    """Measure `livescope.detect.appearance.FEATURES` of fields, (n, 16), through a model's own calls."""
    rows = []
    for field, calls in zip(fields, call_fields(bundle, fields, pixel_um), strict=True):
        (height, width), dtype = field.pixels.shape, field.pixels.dtype
        spec = FrameSpec(height, width, dtype.name, 8 * dtype.itemsize, pixel_um)
        rows.append(appearance(field.pixels, calls, bundle.card.normalisation, fit_scale(spec, bundle.card).bin))
    return np.array(rows)


def _views(field: Field, rng: np.random.Generator) -> list[Field]:
    """A field as it is, and as another day would give it: a part of it, a little off in scale, focus and light."""
    part = field
    if max(field.pixels.shape) > _CROP_PX:
        top, left = (int(rng.integers(0, max(side - _CROP_PX, 0) + 1)) for side in field.pixels.shape)
        cut = field.pixels[top : top + _CROP_PX, left : left + _CROP_PX]
        part = replace(field, pixels=cut.copy())
    part = replace(part, known=None)  # only its pixels are looked at
    changes: list[Callable[[Field], Field]] = [
        scaled(float(rng.uniform(0.87, 1.15))),
        blurred(float(rng.uniform(0.0, 0.7))),
        lit(float(rng.uniform(-0.06, 0.06))),
    ]
    changed = part
    for change in changes:
        changed = change(changed)
    return [field, changed] if part.pixels is field.pixels else [field, part, changed]
