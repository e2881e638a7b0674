"""The image groups of a record while it is written: which frame goes where, and their arrays.

Owns the choice of place for each frame and the making of groups at their first frame. Does not decide what counts as
recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.frames import ASIDE, Frame
from livescope.record.arrays import Pyramid
from livescope.record.journal import Journal
from livescope.record.layout import (
    LABELS,
    NGFF,
    ImageKey,
    image_attributes,
    label_attributes,
    level_shapes,
    write_group,
)
from livescope.record.plate import PlateLayout
from livescope.settings import RecordSettings

__all__ = ["Image", "Images", "Place"]

LABEL_DTYPES = {"cells": "int32", "viability": "uint8"}


@dataclass(slots=True)
class Image:
    """One image group.

    `shapes` are those of the levels written while the run goes on, of `levels` in the end; `length` is the next free t
    of each channel, `labelled` the channel whose cells are labelled.
    """

    key: ImageKey
    path: str
    channels: Sequence[str]
    shapes: list[tuple[int, int]]
    levels: int
    length: dict[int, int] = field(default_factory=dict)
    pyramid: Pyramid | None = None
    labels: dict[str, Pyramid] = field(default_factory=dict)
    labelled: int | None = None


@dataclass(slots=True, frozen=True)
class Place:
    """Where a frame lies: its image, and its place along t and c."""

    image: Image
    t: int
    c: int


class Images:
    """All image groups of the record at `path`. `place` is called by one thread, the arrays by any."""

    def __init__(
        self,
        path: Path,
        settings: RecordSettings,
        journal: Journal,
        channels: Sequence[str] = (),
        plate: PlateLayout | None = None,
    ) -> None:
        self._path, self._settings, self._journal = path, settings, journal
        self._channels, self._plate = tuple(channels), plate
        self._images: dict[ImageKey, Image] = {}
        self._lock = threading.Lock()

    def place(self, frame: Frame) -> Place:
        """Take the next free place for a frame; touches no disk."""
        shares = self._shares(frame)
        key = ImageKey.of(frame, self._channels if shares else ())
        image = self._images.get(key)
        if image is None:
            shapes = level_shapes(key.height, key.width, self._settings.levels)
            live = shapes if self._settings.pyramid == "live" else shapes[:1]
            image = Image(key, self._free_path(key), self._channels if shares else (), live, len(shapes))
            self._images[key] = image
        c = self._channels.index(str(frame.channel)) if shares else 0
        t = image.length.get(c, 0)
        image.length[c] = t + 1
        return Place(image, t, c)

    def skip(self, frame: Frame) -> None:
        """Leave the place of a frame that is not stored empty, where its channel lies beside others."""
        if self._shares(frame):
            self.place(frame)

    def _shares(self, frame: Frame) -> bool:
        """Whether a frame lies beside other channels; one out of turn does not, lest its channel run ahead of them."""
        return frame.channel in self._channels and ASIDE not in (frame.metadata or {})

    def pyramid(self, image: Image, first: NDArray[Any]) -> Pyramid:
        """Return the arrays of an image; at its `first` frame they are made, and the image is journalled."""
        with self._lock:
            if image.pyramid is None:
                low, high = (float(level) for level in np.percentile(first[::8, ::8], (0.5, 99.5)))
                window = (low, max(high, low + 1.0))
                folder, levels = self._path / image.path, len(image.shapes)
                arrays = self._arrays(folder, image, image.key.dtype, max(1, len(image.channels)))
                write_group(folder, image_attributes(image.key, levels, channels=image.channels, window=window))
                line = {"channels": list(image.channels), "levels": image.levels, "window": window}
                layout = {"live_levels": levels, "codec": self._settings.codec, "chunk_px": self._settings.chunk_px}
                self._journal.append({"kind": "image", "image": image.path, **image.key.as_dict(), **line, **layout})
                self._write_parents(image)
                image.pyramid = arrays  # only now: a disk that refused half of it is asked again at the next frame
            return image.pyramid

    def labels(self, image: Image) -> list[Pyramid]:
        """Return the arrays of `LABELS`, made at the first analysed frame of an image."""
        with self._lock:
            if not image.labels:
                folder, labels = self._path / image.path / "labels", {}
                for name in LABELS:
                    labels[name] = self._arrays(folder / name, image, LABEL_DTYPES[name], None)
                    write_group(folder / name, label_attributes(name, image.key, len(image.shapes)))
                write_group(folder, {"ome": {"version": NGFF, "labels": list(LABELS)}})
                image.labels = labels
            return [image.labels[name] for name in LABELS]

    def _free_path(self, key: ImageKey) -> str:
        """Return the group of a new image: its field of the plate, or the root, or the next of ``images``."""
        home = "" if self._plate is None else self._plate.path_of(key.position)
        taken = {image.path for image in self._images.values()}
        return f"images/{len(taken)}" if home is None or home in taken else home

    def _write_parents(self, image: Image) -> None:
        """Write the groups above a new image."""
        if image.path.startswith("images/"):
            write_group(self._path / "images", {})
        elif self._plate is not None:
            made = [other.path for other in self._images.values() if other.pyramid is not None]
            self._plate.write_groups(self._path, [*made, image.path])

    def _arrays(self, folder: Path, image: Image, dtype: str, n_channels: int | None) -> Pyramid:
        return Pyramid(folder, image.shapes, dtype, self._settings.codec, self._settings.chunk_px, n_channels)
