"""Where things lie in a record, and the OME-NGFF 0.5 metadata that says so.

Owns file names, what frames of one array have in common, group metadata. Does not open arrays (`arrays`) or write
frames (`writer`).

A record is one folder, ``NAME.ome.zarr``. Its first image (the first camera, position and frame shape seen) is a plain
multiscales image at the root, so that every reader opens it. Whatever cannot share that array (another shape after a
new ROI, another position, another camera or channel) becomes a multiscales image of its own at ``images/1``,
``images/2``
...: nothing ever has to move. With a `PlateLayout` (`plate`) the root is a plate, and images lie in its wells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from livescope.calls import State
from livescope.frames import Frame

__all__ = [
    "CALLS",
    "FIRINGS",
    "FORMAT",
    "FRAMES",
    "JOURNAL",
    "LABELS",
    "LABEL_AXES",
    "LOCK",
    "MANIFEST",
    "NGFF",
    "RUN_SETTINGS",
    "ImageKey",
    "image_attributes",
    "label_attributes",
    "level_shapes",
    "read_attributes",
    "write_group",
    "write_json",
]

FORMAT = 3
"""Version of the record's own files (journal, tables, manifest)."""
JOURNAL, MANIFEST, RUN_SETTINGS, LOCK = "journal.ndjson", "manifest.json", "run.yaml", ".lock"
CALLS, FRAMES, FIRINGS = "calls", "frames", "firings"
"""Names of the tables: ``calls.arrow`` while the run goes on, ``calls.parquet`` once it is closed."""
LABELS = ("cells", "viability")
NGFF = "0.5"
AXES = ("t", "c", "y", "x")
LABEL_AXES = ("t", "y", "x")
"""Labels have no c: napari makes a layer (t, y, x) of each channel, and would set c of 4-D labels against its t."""

# as in the window, from Okabe and Ito: told apart by every common kind of colour vision
STATE_RGBA = {State.LIVE: (86, 180, 233, 255), State.DEAD: (230, 159, 0, 255), State.UNCERTAIN: (240, 98, 180, 255)}


@dataclass(slots=True, frozen=True)
class ImageKey:
    """What frames must have in common to share an array.

    Attributes
    ----------
    camera, position, channel
        As in `Frame`; `channel` is None for an image that holds several declared channels.
    height, width, dtype, bit_depth
        The frame's shape in pixels, pixel type, and bits in use.
    pixel_um
        Micrometres a pixel, None where unknown.
    """

    camera: str
    position: str | None
    channel: str | None
    height: int
    width: int
    dtype: str
    bit_depth: int
    pixel_um: float | None

    @classmethod
    def of(cls, frame: Frame, channels: Sequence[str] = ()) -> ImageKey:
        """Return the key of the image that a frame belongs to; `channels` are those that share one array."""
        channel = None if frame.channel in channels else frame.channel
        height, width = frame.pixels.shape
        return cls(
            frame.camera,
            frame.position,
            channel,
            height,
            width,
            frame.pixels.dtype.name,
            frame.bit_depth,
            frame.pixel_um,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageKey:
        """Return the key from what `as_dict` gave; other entries are ignored."""
        return cls(**{f.name: values[f.name] for f in fields(cls)})

    def as_dict(self) -> dict[str, Any]:
        """Return the key as JSON-ready values."""
        return asdict(self)


def level_shapes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Return (rows, columns) of each resolution level, halved and rounded up, never below 2 pixels a side."""
    shapes = [(height, width)]
    while len(shapes) < levels and min(shapes[-1]) >= 4:
        rows, columns = shapes[-1]
        shapes.append(((rows + 1) // 2, (columns + 1) // 2))
    return shapes


def image_attributes(
    key: ImageKey,
    n_levels: int,
    *,
    seconds_per_frame: float | None = None,
    channels: Sequence[str] = (),
    window: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the attributes of an image group.

    Parameters
    ----------
    key
        What the image's frames have in common.
    n_levels
        Resolution levels, each the 2 x 2 mean of the one before.
    seconds_per_frame
        Median interval; None while the run goes on and the interval is not known.
    channels
        Names along c; without any, the key's channel or camera.
    window
        Grey levels from black to white for display, None for the full scale.
    """
    names = list(channels) or [key.channel or key.camera]
    low, high = window or (0.0, float(2**key.bit_depth - 1))
    limits = {"min": 0.0, "max": float(2**key.bit_depth - 1), "start": low, "end": high}
    return {
        "ome": {
            "version": NGFF,
            "multiscales": [_multiscale(key, n_levels, seconds_per_frame, "mean", key.position or key.camera)],
            "omero": {
                "channels": [{"label": name, "color": "FFFFFF", "active": True, "window": limits} for name in names],
                "rdefs": {"model": "greyscale" if len(names) == 1 else "color"},
            },
        },
        "livescope": {"format": FORMAT, **key.as_dict(), "channels": names, "window": [low, high]},
    }


def label_attributes(name: str, key: ImageKey, n_levels: int, seconds_per_frame: float | None = None) -> dict[str, Any]:
    """Return the attributes of the label image `name`, one of `LABELS`."""
    label: dict[str, Any] = {"source": {"image": "../../"}}
    if name == "viability":
        label["colors"] = [{"label-value": int(state), "rgba": list(rgba)} for state, rgba in STATE_RGBA.items()]
        label["properties"] = [{"label-value": int(state), "state": state.label} for state in State]
    scales = _multiscale(key, n_levels, seconds_per_frame, "nearest", name)
    return {"ome": {"version": NGFF, "multiscales": [scales], "image-label": label}}


def _multiscale(key: ImageKey, n_levels: int, step: float | None, method: str, name: str) -> dict[str, Any]:
    pixel = key.pixel_um or 1.0
    space = {"type": "space"} if key.pixel_um is None else {"type": "space", "unit": "micrometer"}
    time = {"type": "time"} if step is None else {"type": "time", "unit": "second"}
    axes = [{"name": "t", **time}, {"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    kept = [axis for axis in AXES if method == "mean" or axis in LABEL_AXES]
    datasets = []
    for level in range(n_levels):
        factor = 2**level
        scale = {"t": step or 1.0, "c": 1.0, "y": pixel * factor, "x": pixel * factor}
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [scale[axis] for axis in kept]}]
        if level and method == "mean":  # the centre of a mean of f pixels lies (f - 1) / 2 pixels from the first one's
            shift = pixel * (factor - 1) / 2
            transforms.append({"type": "translation", "translation": [0.0, 0.0, shift, shift]})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "name": name,
        "axes": [axis for axis in axes if axis["name"] in kept],
        "datasets": datasets,
        "type": method,
    }


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON file so that a crash leaves the old one or the new one, never a half."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Make `folder` a Zarr v3 group with these attributes, or replace its attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def read_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group or array, empty where there are none."""
    tree = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    attributes: dict[str, Any] = tree.get("attributes", {})
    return attributes
