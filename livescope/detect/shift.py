"""Shift watch: whether what the camera shows now still looks like what the model was trained on.

Owns the reference that a card carries (`ShiftReference`), how far a frame is from it, and the words in which that is
told. How a frame is measured lies in `appearance`. It looks at frames and calls only, so every backend is watched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.cluster.vq import kmeans2

from livescope.calls import CellCalls, State
from livescope.detect.appearance import CELL_FEATURES, FEATURES, IMAGE_FEATURES, appearance, clipped, counts, unevenness
from livescope.detect.normalise import Fixed, Normalisation
from livescope.frames import Frame

__all__ = ["LIVE", "PICTURES", "ShiftReference", "ShiftWatch", "Subset", "WatchPace", "reference_of"]

_LEAST_CLIPPED, _LEAST_UNEVEN = 0.01, 0.3
"""Less than this is never warned of, however clean the training was."""
_ALL_DEAD, _ALL_DEAD_CELLS, _ALL_DEAD_FRAMES = 0.93, 20, 10
"""So large a part of so many calls, of so many frames at most, is more often a fault than a finding."""
_SIZE = 1.15
"""So far the median cell may lie beyond the 5th and 95th percentile of the training's cells."""
_CROWD, _MOST_CROWDS = 25, 8
"""Frames of a training for each crowd they are divided into, and most of these."""
_MARGIN, _FEW_MARGIN = 1.1, 1.3
"""The limit is the 99th percentile of the distances times this; the second where frames are few and none kept out."""
_POOLED = 0.8
"""Median distance of pooled frames, parts of the limit, that is a shift as well; that of fields kept out is 0.5."""
_PLACE_UM = 100
"""Grid of the stage, finer than fields: one that stands still is on four of its places at most, however it trembles."""
_HIGHEST, _HIGHEST_MIDDLE, _LOWEST, _LOWEST_DARK = 2.5, 1.5, -1.0, 0.05
"""Of a card's fixed black (0) and white (1): a frame whose 99th percentile or median is above the first two, or whose
99th percentile is below the third, is of other counts; the fourth where black is 0 counts, below which nothing is. A
network of standardised pictures, whose white is one deviation, gets up to 2.3."""
_FLOOR = 0.05
"""Least deviation of a feature."""
_NAMED, _NAMED_Z = 3, 2.0
"""Most features that a warning names, and from how many deviations on."""
_TOPICS = {
    "light": ("darkest", "dark", "bright", "brightest", "centre", "rim", "around"),
    "structure": ("grain", "fine", "middle", "coarse", "sharpness"),
    "size": ("diameter", "outline"),
    "doubt": ("score", "sureness"),
}
_HINTS = {
    "light": "Check that it is the modality of the training, lit and exposed as usual",
    "structure": "Check focus, camera noise and pixel size",
    "size": "Check the pixel size, and that these are cells of the size the model knows",
    "doubt": "Check focus and pixel size, and that these are cells, not debris, and of a kind that the model knows",
}
_WORDS = {
    "darkest": ("darkest parts darker", "darkest parts lighter"),
    "dark": ("dark parts darker", "dark parts lighter"),
    "bright": ("bright parts dimmer", "bright parts brighter"),
    "brightest": ("brightest parts dimmer", "brightest parts brighter"),
    "grain": ("less contrast from pixel to pixel", "more contrast from pixel to pixel"),
    "fine": ("grainier", "smoother at 2 pixels"),
    "middle": ("finer structure at 4 pixels", "smoother at 4 pixels"),
    "coarse": ("finer structure at 8 pixels", "smoother at 8 pixels"),
    "diameter": ("cells smaller", "cells larger"),
    "outline": ("outlines rounder", "outlines more ragged"),
    "score": ("cells found with lower scores", "cells found with higher scores"),
    "sureness": ("live and dead told apart less surely", "live and dead told apart more surely"),
    "sharpness": ("cells less sharp", "cells sharper"),
    "centre": ("cells darker", "cells brighter"),
    "rim": ("rims of cells darker", "rims of cells brighter"),
    "around": ("surroundings of cells darker", "surroundings of cells brighter"),
}


class Subset(BaseModel):
    """One kind of training data: where its frames crowd in the space of `FEATURES`, and the spread around that."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: str
    """What it is, with a short hash of its pictures (none in cards of before December 2026)."""
    means: tuple[tuple[float, ...], ...] = Field(min_length=1)
    """Of each crowd; cultures, days and series differ."""
    covariance: tuple[tuple[float, ...], ...] = Field(min_length=len(FEATURES), max_length=len(FEATURES))
    """Lower triangle, row by row."""
    limit: float = Field(default=1.0, gt=0)
    """Largest distance, deviations a feature, that is no ground for a warning; frames with at least three cells."""
    limit_image: float = Field(default=1.0, gt=0)
    """The same for frames with fewer cells, of which only the picture is measured."""

    def full(self) -> NDArray[np.float64]:
        """Return the covariance as a matrix."""
        lower = np.zeros((len(FEATURES), len(FEATURES)))
        for k, row in enumerate(self.covariance):
            lower[k, : len(row)] = row
        return lower + np.tril(lower, -1).T


class ShiftReference(BaseModel):
    """How frames of the training look, part of a model's card; `reference_of` makes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    subsets: tuple[Subset, ...] = Field(min_length=1)
    clipped: float = Field(ge=0, le=1)
    """Part of burnt pixels, 99th percentile of the training."""
    unevenness: float = Field(ge=0)
    """Of the light over a frame, 95th percentile of the training."""

    @model_validator(mode="after")
    def _is_triangle(self) -> Self:
        if any(len(mean) != len(FEATURES) for one in self.subsets for mean in one.means):
            raise ValueError(f"means: each must hold {len(FEATURES)} numbers")
        if any(len(row) != k + 1 for one in self.subsets for k, row in enumerate(one.covariance)):
            raise ValueError("covariance: row k of the lower triangle must hold k + 1 numbers")
        for one in self.subsets:
            try:
                np.linalg.cholesky(one.full())
            except np.linalg.LinAlgError:
                raise ValueError(
                    f"covariance of {one.data!r}: no spread of anything (not positive definite); make it with "
                    "`livescope calibrate`, or leave shift out"
                ) from None
        return self


def reference_of(
    looks: Mapping[str, NDArray[np.float64]], clipped_parts: NDArray[np.float64], uneven: NDArray[np.float64]
) -> ShiftReference:
    """Describe how frames look.

    Parameters
    ----------
    looks
        Of each kind of data by its own name, (n, 16) of `appearance`, n at least 3; views of one field lie together.
    clipped_parts, uneven
        (n,) of `clipped` and `unevenness` over all frames.
    """
    return ShiftReference(
        subsets=tuple(_limited(name, rows) for name, rows in looks.items()),
        clipped=round(float(np.percentile(clipped_parts, 99)), 4),
        unevenness=round(float(np.percentile(uneven, 95)), 3),
    )


def _limited(name: str, rows: NDArray[np.float64]) -> Subset:
    """Describe frames, and find how far others of their kind may be from them: each half is held against the other."""
    subset = _subset(name, rows)
    few = len(rows) < _CROWD * 4
    halves = [(rows, subset)] if few else [(a, _subset(name, b)) for a, b in _halves(rows)]
    image = [(np.where(np.arange(len(FEATURES)) < len(IMAGE_FEATURES), half, np.nan), one) for half, one in halves]
    whole = [(half[np.isfinite(half).all(axis=1)], one) for half, one in halves]
    limits = []
    for kind in (whole, image):
        distances = [_Space(one).distance(row)[0] for half, one in kind for row in half]
        limits.append(round((_FEW_MARGIN if few else _MARGIN) * float(np.percentile(distances or [4.0], 99)), 3))
    return subset.model_copy(update={"limit": limits[0], "limit_image": limits[1]})


def _halves(rows: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Deal rows into halves in runs of 12, as neighbours may be views of one field; return each with the other."""
    first = (np.arange(len(rows)) // 12) % 2 == 0
    return [(rows[first], rows[~first]), (rows[~first], rows[first])]


def _subset(name: str, rows: NDArray[np.float64]) -> Subset:
    """Divide frames into crowds, and measure the spread within them."""
    middle = np.nanmean(np.vstack([rows, np.zeros(rows.shape[1])]), axis=0)
    filled = np.where(np.isfinite(rows), rows, middle)
    scale = np.sqrt(filled.var(axis=0) + _FLOOR**2)
    crowds = max(min(len(rows) // _CROWD, _MOST_CROWDS), 1)
    found, member = kmeans2(filled / scale, crowds, minit="++", seed=0)
    means = found * scale
    off = filled - means[member]
    covariance = off.T @ off / len(rows)
    # few frames give no good correlations, and what hardly ever varied must not be watched too closely
    share = min(10.0 / len(rows), 0.5)
    covariance = (1 - share) * covariance + share * np.diag(np.diag(covariance)) + np.eye(len(scale)) * _FLOOR**2
    return Subset(
        data=name,
        means=tuple(tuple(round(float(v), 3) for v in mean) for mean in means[np.unique(member)]),
        # rounded by far less than the least deviation, or it might be no covariance any more
        covariance=tuple(tuple(float(f"{v:.5g}") for v in row[: k + 1]) for k, row in enumerate(covariance)),
    )


class _Space:
    """Distances from one subset; what was not measured is left out of them."""

    def __init__(self, subset: Subset) -> None:
        self.subset = subset
        self._means, self._covariance = np.asarray(subset.means), subset.full()
        self._inverse: dict[bytes, NDArray[np.float64]] = {}

    def distance(self, look: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the distance from the nearest crowd, per feature, and (16,) deviations from its mean."""
        measured = np.isfinite(look)
        if (inverse := self._inverse.get(measured.tobytes())) is None:
            inverse = np.linalg.inv(self._covariance[np.ix_(measured, measured)])
            self._inverse[measured.tobytes()] = inverse
        off = (look - self._means)[:, measured]
        distances = np.sqrt(np.einsum("ki,ij,kj->k", off, inverse, off) / measured.sum())
        nearest = int(distances.argmin())
        return float(distances[nearest]), (look - self._means[nearest]) / np.sqrt(np.diag(self._covariance))


def _told_of(deviations: NDArray[np.float64]) -> tuple[str, str]:
    """Name the topic of the largest of (16,) deviations, and say what is off and what to check."""
    order = np.argsort(-np.abs(np.nan_to_num(deviations)))[:_NAMED]
    named = [FEATURES[k] for k in order if abs(deviations[k]) >= _NAMED_Z] or [FEATURES[order[0]]]
    words = ", ".join(_WORDS[name][int(deviations[FEATURES.index(name)] > 0)] for name in named)
    topics = [topic for topic, names in _TOPICS.items() if set(names) & set(named)]
    return topics[0], f"{words}. {'. '.join(_HINTS[topic] for topic in topics)}"


class Watched(Protocol):
    """What is needed of a model's card."""

    @property
    def name(self) -> str:
        """For the messages."""

    @property
    def normalisation(self) -> Normalisation:
        """How its pictures are normalised."""

    @property
    def cell_diameter_px(self) -> tuple[float, float]:
        """Range of the cells that it knows."""

    @property
    def shift(self) -> ShiftReference | None:
        """How its training looked."""


@dataclass(slots=True, frozen=True)
class WatchPace:
    """Which frames are looked at, and how soon is warned.

    Attributes
    ----------
    patience
        Frames looked at in succession that must be off before a warning; the first of all needs no second.
    every_s
        Frames that come sooner than this after one that was looked at are not, by `Frame.time_s`.
    pooled
        Looks that together may be nearer to the limit than one alone before there is a warning; 0 pools none.
    by_place
        Of each place of the stage only the newest look counts among those.
    """

    patience: int
    every_s: float
    pooled: int
    by_place: bool


PICTURES = WatchPace(patience=1, every_s=0.0, pooled=8, by_place=False)
"""Pictures of different fields: each counts, and many that are all a little off count as well."""
LIVE = WatchPace(patience=3, every_s=0.5, pooled=8, by_place=True)
"""A run: what lasts counts, and looking (5 to 10 ms) takes under 2 % of the time.

Looks at one place are one picture: 28 of 1068 LDC tiles and 1 of 15 Usiigaci fields lie beyond `_POOLED` of the limit
with the model that was trained on them, and would in all frames of a run. Of 8 such pictures the median never did.
"""


class ShiftWatch:
    """Looks at frames and calls as they come, and warns of each kind of shift once. One thread uses it.

    Parameters
    ----------
    card
        Of the model; without a reference in it only what needs none is watched.
    pace
        Which frames are looked at.

    Attributes
    ----------
    distance
        Of the newest frame looked at, parts of the limit: above 1 it does not look like the training. None before.
    """

    def __init__(self, card: Watched, pace: WatchPace) -> None:
        self._card = card
        self._spaces = [] if card.shift is None else [_Space(subset) for subset in card.shift.subsets]
        self._pace = pace
        self._last_s = -np.inf
        self._looked = 0
        self._off: dict[str, int] = {}
        self._told: set[str] = set()
        self._distances: dict[object, float] = {}
        self._states: deque[tuple[int, int]] = deque(maxlen=_ALL_DEAD_FRAMES)
        self.distance: float | None = None

    def __call__(self, frame: Frame, calls: CellCalls, bin_px: int) -> tuple[str, ...]:
        """Look at a frame; returns what has not been warned of before."""
        if frame.time_s - self._last_s < self._pace.every_s:
            return ()
        self._last_s = frame.time_s
        self._looked += 1
        found = dict(self._shifts(frame, calls, bin_px))
        self._off = {topic: self._off.get(topic, 0) + 1 for topic in found}
        needed = min(self._pace.patience, self._looked)
        new = [topic for topic in found if self._off[topic] >= needed and topic not in self._told]
        self._told.update(new)
        return tuple(found[topic] for topic in new)

    def _shifts(self, frame: Frame, calls: CellCalls, bin_px: int) -> Iterator[tuple[str, str]]:
        """Yield (topic, warning) of all that is off in this frame."""
        yield from self._light(frame)
        yield from self._cells(calls, bin_px)
        if not self._spaces:
            return
        look = appearance(frame.pixels, calls, self._card.normalisation, bin_px)
        if not np.isfinite(look).any():  # too few pixels to see anything in
            self.distance = None
            return
        yield from self._unlike(frame, look)

    def _unlike(self, frame: Frame, look: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
        whole = bool(np.isfinite(look).all())
        self.distance, deviations = np.inf, look
        for space in self._spaces:
            distance, off = space.distance(look)
            parts = distance / (space.subset.limit if whole else space.subset.limit_image)
            if parts < self.distance:
                self.distance, deviations = parts, off
        together = self._pool(frame, self.distance)
        topic, what = _told_of(deviations)
        trained = f"what model {self._card.name!r} was trained on"
        if self.distance > 1:
            yield (
                f"unlike {topic}",
                f"frame {frame.index} does not look like {trained} ({self.distance:.1f} times the distance that is "
                f"usual there): {what}. Calls may be wrong.",
            )
        if together > _POOLED and not any(told.startswith("unlike") for told in self._told):
            yield (
                "unlike together",
                f"the last {self._pace.pooled} looks, up to frame {frame.index}, were judged together and do not look "
                f"like {trained}: their median distance is {together:.2f} of the limit for one look, where at most "
                f"{_POOLED:g} is usual for so many. In frame {frame.index}: {what}. Calls may be wrong.",
            )

    def _pool(self, frame: Frame, distance: float) -> float:
        """Keep a distance among the newest that are judged together; returns their median, 0 while they are few."""
        place: object = self._looked
        if self._pace.by_place:
            place = (
                frame.position,
                *(None if um is None else round(um / _PLACE_UM) for um in (frame.x_um, frame.y_um)),
            )
        self._distances.pop(place, None)
        self._distances[place] = distance
        if len(self._distances) > self._pace.pooled:
            del self._distances[next(iter(self._distances))]
        full = 0 < self._pace.pooled == len(self._distances)
        return float(np.median(list(self._distances.values()))) if full else 0.0

    def _light(self, frame: Frame) -> Iterator[tuple[str, str]]:
        yield from self._counts(frame)
        piled, uneven = clipped(frame.pixels), unevenness(frame.pixels)
        usual = (0.0, 0.0) if self._card.shift is None else (self._card.shift.clipped, self._card.shift.unevenness)
        if piled > max(_LEAST_CLIPPED, 1.5 * usual[0]):
            yield (
                "saturated",
                f"{piled:.0%} of the pixels of frame {frame.index} stand at its greatest value, {frame.pixels.max()}: "
                "the camera is saturated. Lower the exposure or the light; calls in burnt parts mean nothing.",
            )
        if uneven > max(_LEAST_UNEVEN, 1.2 * usual[1]):
            yield (
                "uneven",
                f"the light of frame {frame.index} is uneven by {uneven:.0%} over the field: centre the lamp and the "
                "condenser, or have the camera correct the shading (flat field); cells in the dim parts are called "
                "less reliably.",
            )

    def _counts(self, frame: Frame) -> Iterator[tuple[str, str]]:
        """Tell a frame whose counts are not those that a card with fixed black and white means."""
        fixed = self._card.normalisation
        if not isinstance(fixed, Fixed) or fixed.white - fixed.black <= 1:  # a network that takes counts as they are
            return
        middle, top = counts(frame.pixels)
        normal_middle, normal_top = ((count - fixed.black) / (fixed.white - fixed.black) for count in (middle, top))
        high = normal_top > _HIGHEST or normal_middle > _HIGHEST_MIDDLE
        if high or normal_top < (_LOWEST if fixed.black > 0 else _LOWEST_DARK):
            yield (
                "counts",
                f"frame {frame.index} lies far {'above' if high else 'below'} what model {self._card.name!r} takes: "
                f"its median is {middle:.0f} counts and its 99th percentile {top:.0f}, while normalisation in the card "
                f"says black {fixed.black:g}, white {fixed.white:g}. Set white there to the count that is the "
                "network's 1 with this camera and import the network again, or set the camera to the bits that the "
                "model knows. Calls mean nothing.",
            )

    def _cells(self, calls: CellCalls, bin_px: int) -> Iterator[tuple[str, str]]:
        if not len(calls):
            yield (
                "empty",
                f"no cell was found in frame {calls.frame_index}: an empty field, or one out of focus or of another "
                "modality or pixel size. No viability can be told.",
            )
            return
        self._states.append((calls.count(State.LIVE), calls.count(State.DEAD)))
        live, dead = (sum(counts) for counts in zip(*self._states, strict=True))
        if dead >= _ALL_DEAD_CELLS and dead >= _ALL_DEAD * (live + dead):
            yield (
                "dead",
                f"{dead} of the last {live + dead} cells were called dead. If that is no kill control, check focus, "
                "light and pixel size, and compare with a field of untreated cells.",
            )
        if len(calls) >= len(CELL_FEATURES) // 2:
            diameter, (low, high) = (
                float(np.median(2 * calls.radii_px.mean(axis=1))) / bin_px,
                self._card.cell_diameter_px,
            )
            if not low / _SIZE <= diameter <= high * _SIZE:
                yield (
                    "size",
                    f"the cells of frame {calls.frame_index} are {diameter:.0f} network pixels across, model "
                    f"{self._card.name!r} knows {low:.0f} to {high:.0f}: check the pixel size (camera.pixel_um, "
                    "--pixel-um).",
                )
