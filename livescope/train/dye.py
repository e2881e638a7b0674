"""Fluorescence as truth: nuclei from a nuclear dye, dead or live from a dead dye, laid onto the bright-field.

Owns registration, the measure of the dead dye and its thresholds with an ambiguous band. The dyes serve as
labels only; no network ever sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import fft
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.ndimage import median as labelled_median
from skimage.filters import threshold_otsu
from skimage.segmentation import expand_labels

from livescope.calls import State
from livescope.errors import SourceError
from livescope.frames import Pixels
from livescope.train import data
from livescope.train.masks import contours_of, group_of
from livescope.train.nuclei import above_surroundings, find_nuclei
from livescope.train.pictures import read_labels, read_picture

__all__ = [
    "BRIGHTFIELD",
    "Measured",
    "Pair",
    "Thresholds",
    "doubt",
    "label",
    "measure",
    "propose",
    "read_pairs",
    "register",
]

BRIGHTFIELD = ".brightfield.tif"
_NUCLEUS_UM, _NUCLEUS_PX = 12.5, 40.0
"""Diameter of a nucleus that has to be found: of MCF-7, and where the pixel size is not known."""
_SHIFT_PX = 16
"""Largest shift between the channels that is looked for."""
_OWN_SHIFT_PX = 6
"""Largest difference of one field's shift from that of all."""
_LEAST_DEAD_FIELD, _LEAST_DEAD_RING = 1.6, 1.3
"""No proposal calls a nucleus dead below these multiples of field and ring."""
_NEAR = 0.1
"""Logarithm of the dye's brightness: nuclei that differ less are not told apart, however even the dark field is."""
_LEAST_NUCLEI = 10
"""Nuclei, and of them live or dead ones, below which a histogram does not show lines."""
_RING_PX = (3, 10)
"""The local ring lies between these distances from a nucleus."""


class Thresholds(BaseModel):
    """Lines for the dead dye, multiples of the field's median and of the local ring; between them: ambiguous."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dead_field: float = Field(default=2.0, gt=0)
    """Dead above this multiple of the field's median, and"""
    dead_ring: float = Field(default=1.3, gt=0)
    """above this multiple of the local ring."""
    live_field: float = Field(default=1.25, gt=0)
    live_ring: float = Field(default=1.15, gt=0)
    """Live below both."""

    @model_validator(mode="after")
    def _live_below_dead(self) -> Self:
        for than in ("field", "ring"):
            live, dead = getattr(self, f"live_{than}"), getattr(self, f"dead_{than}")
            if live > dead:
                raise ValueError(
                    f"live_{than} is {live:g}, dead_{than} {dead:g}: live must end at or below where dead begins; "
                    f"lower live_{than} or raise dead_{than}."
                )
        return self


@dataclass(slots=True, frozen=True)
class Pair:
    """One field: bright-field with its dyes, (H, W) each; `nuclei` are instance masks, `drawn` by hand or found.

    `shift_yx` is what must be added to a dye's position to come to the same place in bright-field, pixels.
    """

    name: str
    group: str
    brightfield: Pixels
    dead: Pixels
    nuclear: Pixels
    nuclei: NDArray[np.intp]
    shift_yx: tuple[int, int]
    drawn: bool


@dataclass(slots=True, frozen=True)
class Measured:
    """Dead dye of the nuclei of one field: `label` (n,), and its multiples of field and ring (n,)."""

    label: NDArray[np.intp]
    field: NDArray[np.float64]
    ring: NDArray[np.float64]


def read_pairs(folder: Path, group: str = "^[^_]+", pixel_um: float | None = None) -> list[Pair]:
    """Read NAME.brightfield.tif, NAME.dead_dye.tif, NAME.nuclear_dye.tif and, where it exists, NAME.nuclei.tif.

    Parameters
    ----------
    folder
        Of the pictures.
    group
        Regular expression of `livescope.train.masks.group_of`.
    pixel_um
        Micrometres a pixel: how large nuclei are that have to be found. None: about 40 pixels.

    Raises
    ------
    SourceError
        There is none, or a channel is missing, of another shape, or cannot be read.
    """
    diameter_px = _NUCLEUS_PX if pixel_um is None else _NUCLEUS_UM / pixel_um
    read = {}
    for path in sorted(folder.glob(f"*{BRIGHTFIELD}")):
        name = path.name.removesuffix(BRIGHTFIELD)
        read[name] = [_channel(folder, name, channel) for channel in ("brightfield", "dead_dye", "nuclear_dye")]
        if len(shapes := {picture.shape for picture in read[name]}) != 1:
            raise SourceError(f"the channels of field {name!r} differ in shape: {sorted(shapes)}.")
    if not read:
        raise SourceError(f"{str(folder)!r} holds no *{BRIGHTFIELD}.")
    shifts = register([(brightfield, nuclear) for brightfield, _, nuclear in read.values()])
    pairs = []
    for (name, (brightfield, dead, nuclear)), shift in zip(read.items(), shifts, strict=True):
        masks = folder / f"{name}.nuclei.tif"
        drawn = masks.is_file()
        nuclei = read_labels(masks) if drawn else find_nuclei(nuclear, diameter_px)
        if nuclei.shape != nuclear.shape:
            raise SourceError(f"{str(masks)!r} is {nuclei.shape}, its channels {nuclear.shape}; they must agree.")
        pairs.append(Pair(name, group_of(name, group), brightfield, dead, nuclear, nuclei, shift, drawn))
    return pairs


def _channel(folder: Path, name: str, channel: str) -> Pixels:
    path = folder / f"{name}.{channel}.tif"
    if not path.is_file():
        raise SourceError(f"field {name!r} lacks {str(path)!r}; a dye pair needs bright-field and both dyes.")
    return read_picture(path)


def register(fields: Sequence[tuple[Pixels, Pixels]]) -> list[tuple[int, int]]:
    """Find the shifts that lay the nuclear dye of fields of one microscope on their bright-field.

    Bright-field shows no nuclei to match, but cells are where it is finely structured: the dye is correlated with that
    structure, over shifts of up to 16 pixels. One field can mislead, so all are first taken together, and each may then
    differ from the common shift by up to 5 pixels along each axis.

    Parameters
    ----------
    fields
        (bright-field, nuclear dye) of each field, (H, W).

    Returns
    -------
    (dy, dx) of each field, pixels to add to a dye's position.
    """
    maps = [_agreement(brightfield, nuclear) for brightfield, nuclear in fields]
    common = np.sum(maps, axis=0)
    reach = _SHIFT_PX - _OWN_SHIFT_PX
    inner = common[_OWN_SHIFT_PX : _OWN_SHIFT_PX + 2 * reach + 1, _OWN_SHIFT_PX : _OWN_SHIFT_PX + 2 * reach + 1]
    top, left = (int(k) for k in np.unravel_index(int(inner.argmax()), inner.shape))
    shifts = []
    for one in maps:
        window = one[top : top + 2 * _OWN_SHIFT_PX + 1, left : left + 2 * _OWN_SHIFT_PX + 1]
        dy, dx = (int(k) for k in np.unravel_index(int(window.argmax()), window.shape))
        if {dy, dx} & {0, 2 * _OWN_SHIFT_PX}:
            dy = dx = _OWN_SHIFT_PX  # highest at the edge of its reach: no peak of its own, the common shift is surer
        shifts.append((top + dy - _SHIFT_PX, left + dx - _SHIFT_PX))
    return shifts


def _agreement(brightfield: Pixels, nuclear: Pixels) -> NDArray[np.float64]:
    """Correlation of fine structure and nuclear dye at each shift, (33, 33), no shift in the middle."""
    light = brightfield.astype(np.float32) / max(float(np.median(brightfield)), 1.0)
    structure = gaussian_filter(np.abs(light - gaussian_filter(light, 2.0)), 3.0)
    blobs = gaussian_filter(np.log1p(nuclear.astype(np.float32)), 2.0)
    # registration borders are black in both channels: their edge would win
    valid = maximum_filter(((brightfield == 0) | (nuclear == 0)).astype(np.uint8), 21) == 0
    if not valid.any():
        return np.zeros((2 * _SHIFT_PX + 1, 2 * _SHIFT_PX + 1))
    first, second = (_standardised(picture, valid) for picture in (structure, blobs))
    shape = [fft.next_fast_len(side + _SHIFT_PX) for side in first.shape]
    spectrum = fft.rfft2(first, shape) * np.conj(fft.rfft2(second, shape))
    agreement = np.roll(fft.irfft2(spectrum, shape), (_SHIFT_PX, _SHIFT_PX), axis=(0, 1)) / valid.sum()
    window: NDArray[np.float64] = agreement[: 2 * _SHIFT_PX + 1, : 2 * _SHIFT_PX + 1]
    return window


def _standardised(picture: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """High-passed, clipped to its middle 98 %, mean 0 and deviation 1; 0 where not valid."""
    flat = picture - gaussian_filter(picture, 40.0)
    flat = np.clip(flat, *np.percentile(flat[valid], (1, 99)))
    even: NDArray[np.float32] = np.where(valid, (flat - flat[valid].mean()) / (flat[valid].std() + 1e-9), 0)
    return even.astype(np.float32)


def measure(pair: Pair) -> Measured:
    """Measure the dead dye of each nucleus against the field's median and a ring of its surroundings."""
    names = np.unique(pair.nuclei[pair.nuclei > 0])
    dead = pair.dead.astype(np.float64)
    inner, outer = (expand_labels(pair.nuclei, distance) for distance in _RING_PX)
    ring = np.where(inner > 0, 0, outer)
    inside = np.asarray(labelled_median(dead, pair.nuclei, names))
    lit = pair.brightfield > 0
    field = float(np.median(dead[lit])) if lit.any() else float(np.median(dead))
    around = np.asarray(labelled_median(dead, ring, names))
    around = np.where(np.isfinite(around) & (around > 0), around, field)
    return Measured(names.astype(np.intp), inside / max(field, 1.0), inside / np.maximum(around, 1.0))


def propose(pairs: Sequence[Pair]) -> Thresholds:
    """Propose thresholds from the histogram of all nuclei, to be looked at before they are used.

    The living mode is the median of all nuclei below Otsu's line on the logarithm; three robust standard deviations
    above it, or a tenth where these are less, is no longer plainly live, and from Otsu's line on a cell is dead. Where
    hardly any cell is dead that line falls inside the living mode, and where hardly any lives inside the dead one: dead
    is never below 1.6 times (field) and 1.3 times (ring) of what lies around, live never above 0.9 times of that.

    Raises
    ------
    SourceError
        There are fewer than ten nuclei.
    """
    measured = [measure(pair) for pair in pairs]
    in_field, in_ring = (np.concatenate([getattr(m, name) for m in measured]) for name in ("field", "ring"))
    if len(in_field) < _LEAST_NUCLEI:
        raise SourceError(
            f"{len(in_field)} nuclei in {len(pairs)} fields are too few to propose thresholds of the dead dye; "
            f"{_LEAST_NUCLEI} are needed. Check that *.nuclear_dye.tif shows nuclei and that the pixel size is right, "
            "or state the thresholds in a training config."
        )
    dead_field, live_field = _lines(in_field, _LEAST_DEAD_FIELD)
    dead_ring, live_ring = _lines(in_ring, _LEAST_DEAD_RING)
    return Thresholds(dead_field=dead_field, dead_ring=dead_ring, live_field=live_field, live_ring=live_ring)


def _lines(ratio: NDArray[np.float64], least: float) -> tuple[float, float]:
    height, lowest = np.log(np.maximum(ratio, 1e-3)), float(np.log(least))
    # where hardly any nucleus is dead Otsu's line parts the living mode: all below the least height are of it
    line = max(float(threshold_otsu(height)), lowest)
    live = height[height < line]
    if not len(live) or np.median(live) > lowest:  # no living mode: the line parts the dead one
        line, live = lowest, height[height < lowest]
    middle = float(np.median(live)) if len(live) else lowest
    spread = 1.4826 * float(np.median(np.abs(live - middle))) if len(live) else 0.0
    # a line that the histogram draws high is still none below which a bright nucleus lives
    upper = min(middle + max(3 * spread, _NEAR), lowest - _NEAR)
    return round(float(np.exp(line)), 3), round(float(np.exp(upper)), 3)


def doubt(fields: Sequence[data.Field]) -> str:
    """Say that proposed thresholds left hardly any nucleus on one side, so that they hang in the air; else ''."""
    state = np.concatenate([field.state for field in fields])
    live, dead = int(np.sum(state == State.LIVE)), int(np.sum(state == State.DEAD))
    if min(live, dead) >= _LEAST_NUCLEI:
        return ""
    few, other = ("dead", "killed") if dead < live else ("live", "untreated")
    return (
        f"by the proposed thresholds of the dead dye {live} nuclei are live and {dead} dead: so few {few} ones do not "
        f"show where the lines belong. Propose them on {other} fields as well, look at dye.png, and state them in a "
        "config."
    )


def label(pairs: Sequence[Pair], thresholds: Thresholds, *, others_are_background: bool = False) -> list[data.Field]:
    """Turn pairs into labelled bright-field pictures.

    Nuclei between the lines train detection but never the state. Where the nuclear dye shows something that is not a
    marked nucleus (other cells, debris) the labels say nothing, unless `others_are_background` and the nuclei were
    drawn: finding misses some. Elsewhere the absence of a nucleus is known.
    """
    fields = []
    for pair in pairs:
        measured = measure(pair)
        names, centres, contours = contours_of(pair.nuclei)
        row = np.searchsorted(measured.label, names)
        in_field, in_ring = measured.field[row], measured.ring[row]
        state = np.full(len(names), data.UNKNOWN, np.uint8)
        state[(in_field < thresholds.live_field) & (in_ring < thresholds.live_ring)] = State.LIVE
        state[(in_field > thresholds.dead_field) & (in_ring > thresholds.dead_ring)] = State.DEAD
        shift = np.asarray(pair.shift_yx, np.float32)
        known = None if others_are_background and pair.drawn else np.roll(_spoken_for(pair), pair.shift_yx, axis=(0, 1))
        fields.append(
            data.Field(
                name=pair.name,
                group=pair.group,
                pixels=pair.brightfield,
                centres_yx=centres + shift,
                contours_yx=contours + shift,
                state=state,
                known=known,
                dyes=_dyes(pair),
            )
        )
    return fields


def _spoken_for(pair: Pair) -> NDArray[np.bool_]:
    """True where there is no nuclear dye above its surroundings, or a marked nucleus."""
    lit = pair.nuclear > 0
    if not lit.any() or np.ptp(pair.nuclear[lit]) == 0:
        return np.ones(lit.shape, bool)
    signal = above_surroundings(pair.nuclear, lit)
    middle = float(np.median(signal[lit]))
    dark = signal < middle + 0.5 * (threshold_otsu(signal[lit]) - middle)
    known: NDArray[np.bool_] = dark | ~lit | (expand_labels(pair.nuclei, 4) > 0)
    return known


def _dyes(pair: Pair) -> NDArray[np.float32]:
    """Lay the dyes on the bright-field for the side task: `livescope.train.data.Field.dyes`."""
    dead = gaussian_filter(pair.dead.astype(np.float32), 1.0)
    # doublings of the field's median, the living mode, halved: 0 there, and 0.5 at twice of it, where death begins
    dead = np.log2(np.maximum(dead, 1.0) / max(_typical(pair.dead), 1.0)).clip(-1, 4) / 2
    nuclear = np.log1p(gaussian_filter(pair.nuclear.astype(np.float32), 1.0))
    dark, bright = np.percentile(nuclear[pair.nuclear > 0], (40, 99)) if pair.nuclear.any() else (0.0, 1.0)
    nuclear = ((nuclear - dark) / max(float(bright - dark), 1e-3)).clip(-0.5, 1.5)
    seen = (pair.brightfield > 0) & np.roll(pair.dead > 0, pair.shift_yx, axis=(0, 1))
    # what rolled in from the other side, and the blur's reach, belongs elsewhere
    margin = _SHIFT_PX + 4
    inner = np.zeros(seen.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    seen &= inner
    laid = (np.roll(one, pair.shift_yx, axis=(0, 1)) for one in (dead, nuclear))
    return np.stack([*(one * seen for one in laid), seen]).astype(np.float32)


def _typical(picture: Pixels) -> float:
    lit = picture[picture > 0]
    return float(np.median(lit)) if len(lit) else 0.0
