"""Frames from files: what a path holds, in which order, and how a page is read.

Owns the listing and reading of TIFF, PNG and OME-Zarr, and `iter_frames` for offline analysis. Playing them in time is
`replay.py`.
"""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from livescope.errors import SourceError, one_of
from livescope.frames import PIXEL_DTYPES, Frame
from livescope.settings import CameraSettings

__all__ = ["Page", "Pages", "iter_frames", "open_pages", "tiff_pixel_um", "tiff_pixels"]

TIFF = (".tif", ".tiff")
PNG = (".png",)
CAMERA = "replay"
PNG_DTYPES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "uint16"}
"""Pillow's modes of grey PNGs."""


_UNITS_UM = {2: 25_400.0, 3: 10_000.0}
"""TIFF's units of resolution, inch and centimetre, in micrometres."""
_BRIGHTFIELD = ".brightfield.tif"
"""How the bright-field picture of a dye pair ends."""
_OME_UNITS_UM = {"µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}
"""OME's, with the sign for micro and the Greek letter; a size without a unit is in the first."""
_NGFF_UNITS: dict[str, dict[str | None, float]] = {
    "x": {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3},
    "t": {"second": 1.0, "millisecond": 1e-3, "minute": 60.0, "hour": 3600.0},
}
"""In micrometres and seconds."""
_CHANNELS = (
    "it holds {} channels, and cells are called in one, of bright field or phase contrast. Save that channel as a file "
    "of its own"
)
_SLICES = (
    "it holds {} slices (z) of the same cells, and each would count them again. Save the one in focus as a file of its "
    "own"
)
_JOURNAL = "journal.ndjson"
"""What makes a Zarr a record of livescope, whose first channel is played."""
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\s[^>]*>")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*[\"']([^\"']*)[\"']")


@dataclass(slots=True, frozen=True)
class Page:
    """Where one frame lies and what it is: name shown to the user, file, page in it, shape, pixel type, pixel size."""

    name: str
    path: Path
    page: int
    shape: tuple[int, ...]
    dtype: str
    pixel_um: float | None = None


class Pages(Protocol):
    """The frames of a path, read one by one; `pixel_um` is that of all of them, None where they differ."""

    pixel_um: float | None
    rate_fps: float | None

    def __len__(self) -> int:
        """Number of frames."""

    def name(self, k: int) -> str:
        """Name of frame k, for messages and tables."""

    def kind(self, k: int) -> tuple[tuple[int, ...], str]:
        """Shape and pixel type of frame k, without reading its pixels."""

    def pixel_um_of(self, k: int) -> float | None:
        """Micrometres a pixel of frame k as its file says, None where it does not."""

    def read(self, k: int) -> NDArray[Any]:
        """Pixels of frame k, (H, W) uint8 or uint16."""


def open_pages(path: Path) -> Pages:
    """Look at a path.

    Parameters
    ----------
    path
        One TIFF (single or multi-page) or PNG, a folder of them, or an OME-Zarr.

    Raises
    ------
    SourceError
        Missing, empty, of a kind that is not known, or in a folder that may not be looked into.
    """
    path = path.expanduser()
    try:
        return _pages_at(path)
    except OSError as error:
        raise SourceError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None


def _pages_at(path: Path) -> Pages:
    if not path.exists():
        raise SourceError(
            f"{str(path)!r} does not exist; give an image, a folder of TIFF or PNG images, or an OME-Zarr."
        )
    if path.is_dir() and ((path / "zarr.json").exists() or (path / ".zgroup").exists() or (path / ".zarray").exists()):
        return _ZarrPages(path)
    if path.is_dir():
        # a Mac leaves a ._NAME beside each file on a share
        shown = [f for f in path.iterdir() if not f.name.startswith(".")]
        images = [f for f in shown if f.suffix.lower() in TIFF + PNG]
        files = sorted(_without_dyes(images), key=lambda f: _natural(f.name))
        if not files:
            raise SourceError(
                f"{str(path)!r} holds no image; expected files ending in {one_of(TIFF + PNG)}, or an OME-Zarr."
            )
        return _FilePages(files)
    if path.suffix.lower() not in TIFF + PNG:
        raise SourceError(
            f"{str(path)!r} is no image that livescope reads; expected a file ending in {one_of(TIFF + PNG)}."
        )
    return _FilePages([path])


def _without_dyes(files: Sequence[Path]) -> list[Path]:
    """Leave out dyes and masks beside bright-field: NAME.dead_dye.tif where there is a NAME.brightfield.tif."""
    paired = {f.name.removesuffix(_BRIGHTFIELD) for f in files if f.name.endswith(_BRIGHTFIELD)}
    return [f for f in files if f.name.endswith(_BRIGHTFIELD) or f.name.rsplit(".", 2)[0] not in paired]


def iter_frames(path: Path, camera: CameraSettings | None = None) -> Iterator[tuple[str, Frame]]:
    """Read the frames of an image, a folder or an OME-Zarr one after the other, without threads.

    Frames may differ in shape and pixel size; a new one begins a new segment. `Frame.index` counts from 0,
    `Frame.metadata["t"]` is the page in its file or the time point in its record. The pixel size is the camera's where
    it has one, else what the frame's own file says.

    Yields
    ------
    name, frame
        The file's name (for a record its own) and the frame.

    Raises
    ------
    SourceError
        As in `open_pages`, a page that is not grey 8 or 16 bit, or files without a pixel size among others that say
        theirs.
    """
    camera = camera or CameraSettings()
    pages = open_pages(path)
    if camera.pixel_um is None:
        _refuse_unsized(pages)
    segment, shape = -1, None
    for k in range(len(pages)):
        pixels = pages.read(k)
        pixel_um = camera.pixel_um or pages.pixel_um_of(k)
        if (pixels.shape, pixels.dtype, pixel_um) != shape:
            segment, shape = segment + 1, (pixels.shape, pixels.dtype, pixel_um)
        pixels.flags.writeable = False
        name, t = _name_and_time(pages, k)
        yield (
            name,
            Frame(
                pixels=pixels,
                index=k,
                segment=segment,
                camera=CAMERA,
                time_s=time.perf_counter(),
                wall_time=time.time(),
                bit_depth=8 * pixels.dtype.itemsize,
                pixel_um=pixel_um,
                metadata={"file": name, "t": t},
            ),
        )


def _refuse_unsized(pages: Pages) -> None:
    """Refuse files without a pixel size among others that say theirs: their cells would be sought at another scale."""
    sizes = [pages.pixel_um_of(k) for k in range(len(pages))]
    said = next((k for k, um in enumerate(sizes) if um is not None), None)
    if said is not None and None in sizes:
        raise SourceError(
            f"{pages.name(sizes.index(None))!r} says no pixel size, but {pages.name(said)!r} says {sizes[said]:g} um. "
            "Sort such files into a folder of their own, or give --pixel-um, which then holds for all of them."
        )


def _name_and_time(pages: Pages, k: int) -> tuple[str, int]:
    return (pages.pages[k].name, pages.pages[k].page) if isinstance(pages, _FilePages) else (pages.name(k), k)


class _FilePages:
    """TIFF and PNG files, in natural order."""

    def __init__(self, files: list[Path]) -> None:
        self.rate_fps: float | None = None
        self.pages = [page for file in files for page in _pages_of(file)]
        sizes = {page.pixel_um for page in self.pages}
        self.pixel_um: float | None = sizes.pop() if len(sizes) == 1 else None

    def __len__(self) -> int:
        return len(self.pages)

    def name(self, k: int) -> str:
        page = self.pages[k]
        return page.name if page.page == 0 else f"{page.name} page {page.page}"

    def kind(self, k: int) -> tuple[tuple[int, ...], str]:
        return self.pages[k].shape, self.pages[k].dtype

    def pixel_um_of(self, k: int) -> float | None:
        return self.pages[k].pixel_um

    def read(self, k: int) -> NDArray[Any]:
        page = self.pages[k]
        try:
            if page.path.suffix.lower() in TIFF:
                pixels = tiff_pixels(page.path, page.page)
            else:
                import imageio.v3

                pixels = imageio.v3.imread(page.path)
        except Exception as error:
            raise SourceError(f"{str(page.path)!r} cannot be read: {error}. Remove it or export it again.") from error
        return _checked(pixels, self.name(k))


def tiff_pixels(file: Path, page: int | None = None) -> NDArray[Any]:
    """Read a page of a TIFF, or its first series, as viewers show it: where it says that 0 is white it is inverted."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        pixels: NDArray[Any] = tiff.asarray(key=page)
        first = tiff.pages[page or 0].aspage()
        if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
            pixels = pixels.dtype.type(2**first.bitspersample - 1) - pixels
    return pixels


def tiff_pixel_um(file: Path) -> float | None:
    """Micrometres a pixel as a TIFF's resolution says; None where it says nothing that a microscope could mean."""
    pages = _pages_of(file)
    return pages[0].pixel_um


def _ome_pixels(tiff: Any) -> list[dict[str, str]]:
    """Attributes of the Pixels of each image that an OME-TIFF describes; empty for any other TIFF.

    The XML has an entry a plane, and may speak of files that are elsewhere: neither is read for what stands here.
    """
    found = _OME_PIXELS.findall(tiff.ome_metadata or "")
    return [{key: html.unescape(value) for key, value in _ATTRIBUTE.findall(element)} for element in found]


def _refuse_stacks(tiff: Any) -> None:
    """Refuse pages of several channels or slices: those of a dye, and each slice, would be counted as frames.

    Raises
    ------
    ValueError
        How many there are, and what to do.
    """
    said = tiff.imagej_metadata or {}
    channels, slices = int(said.get("channels", 1)), int(said.get("slices", 1))
    images = [{key: int(image.get(f"Size{key}", 1)) for key in "CZT"} for image in _ome_pixels(tiff)]
    if images and len(tiff.pages) > sum(image["Z"] * image["T"] for image in images):  # not a file for each channel
        channels = max(image["C"] for image in images)
    slices = max([slices, *(image["Z"] for image in images)])
    if channels > 1 and len(tiff.pages) > 1:
        raise ValueError(_CHANNELS.format(channels))
    if slices > 1 and len(tiff.pages) > 1:  # ImageJ's default for any sequence of pictures
        raise ValueError(
            f"{_SLICES.format(slices)}. If they are time points, say so (ImageJ: Image > Properties, frames in place "
            "of slices) and save it again"
        )


def _pixel_um(tiff: Any) -> float | None:
    for image in _ome_pixels(tiff)[:1]:
        unit_um = _OME_UNITS_UM.get(image.get("PhysicalSizeXUnit", "um"))
        if unit_um is not None and "PhysicalSizeX" in image:
            return _meant_um(unit_um * float(image["PhysicalSizeX"]))
    tags = tiff.pages[0].tags
    unit = str((tiff.imagej_metadata or {}).get("unit", ""))
    um = 1.0 if unit in ("micron", "um", "µm", "\\u00B5m") else _UNITS_UM.get(int(tags.valueof("ResolutionUnit", 1)))
    pixels, units = tags.valueof("XResolution", (0, 1))
    if um is None or not pixels or not units:
        return None
    return _meant_um(um * units / pixels)


def _meant_um(size: float) -> float | None:
    # 72 or 300 dots an inch (353 and 85 um) are what programs write that know nothing of pixels
    return round(size, 5) if 0.01 <= size <= 20 else None


def _pages_of(file: Path) -> list[Page]:
    try:
        if file.suffix.lower() in TIFF:
            import tifffile

            with tifffile.TiffFile(file) as tiff:
                if not len(tiff.pages):
                    raise ValueError("it has no pages")
                _refuse_stacks(tiff)
                um = _pixel_um(tiff)
                return [Page(file.name, file, k, page.shape, str(page.dtype), um) for k, page in enumerate(tiff.pages)]
        from PIL import Image

        with Image.open(file) as image:
            return [Page(file.name, file, 0, image.size[::-1], PNG_DTYPES.get(image.mode, f"{image.mode} (colour)"))]
    except (ValueError, OSError) as error:
        raise SourceError(f"{str(file)!r} cannot be read: {error}. Remove it or export it again.") from error


class _ZarrPages:
    """The time points of an OME-Zarr image: axes t, c, z, y, x as its metadata say, of one channel and slice."""

    def __init__(self, path: Path) -> None:
        import zarr

        self._name = path.name
        try:
            node = zarr.open(path, mode="r")
        except Exception as error:
            raise SourceError(f"{str(path)!r} cannot be opened as Zarr: {error}") from error
        group, level, scale, axes = _multiscale(node, path)
        array = group[level]
        if not isinstance(array, zarr.Array) or len(axes) != array.ndim or axes[-2:] != ("y", "x"):
            raise SourceError(f"{str(path)!r} is no OME-Zarr image with axes ending in y, x (found: {axes or 'none'}).")
        for axis, length in zip(axes[:-2], array.shape, strict=False):
            if axis != "t" and length > 1 and not (path / _JOURNAL).exists():
                refusal = {"c": _CHANNELS, "z": _SLICES}.get(axis, f"it holds {{}} pictures along the axis {axis!r}")
                raise SourceError(f"{str(path)!r} cannot be read: {refusal.format(length)}.")
        self._array = array
        self._axes = axes
        self.pixel_um = scale.get("x")
        seconds = scale.get("t")
        self.rate_fps = 1.0 / seconds if seconds else None

    def __len__(self) -> int:
        return int(self._array.shape[self._axes.index("t")]) if "t" in self._axes else 1

    def name(self, k: int) -> str:
        return self._name

    def kind(self, k: int) -> tuple[tuple[int, ...], str]:
        return tuple(self._array.shape[-2:]), str(self._array.dtype)

    def pixel_um_of(self, k: int) -> float | None:
        return self.pixel_um

    def read(self, k: int) -> NDArray[Any]:
        where = tuple(slice(None) if axis in "yx" else (k if axis == "t" else 0) for axis in self._axes)
        return _checked(np.asarray(self._array[where]), f"{self._name} t = {k}")


def _multiscale(node: Any, path: Path) -> tuple[Any, str, dict[str, float], tuple[str, ...]]:
    """Group of the image in an OME-Zarr, its finest level, scale in micrometres or seconds by axis, axes."""
    attributes = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    if "multiscales" not in ome:
        children = [name for name, child in getattr(node, "groups", list)() if "multiscales" in _ome(child)]
        children.sort(key=_natural)
        if not children:
            raise SourceError(
                f"{str(path)!r} is a Zarr without OME image metadata (`multiscales`); it cannot be played."
            )
        if len(children) > 1:
            raise SourceError(
                f"{str(path)!r} holds {len(children)} images ({one_of(children)}); they are read one by one. Give one "
                f"of them: {str(path / children[0])!r}."
            )
        node = node[children[0]]
        ome = _ome(node)
    image = ome["multiscales"][0]
    axes = tuple(axis["name"] for axis in image["axes"])
    units = {axis["name"]: _NGFF_UNITS.get(axis["name"], {}).get(axis.get("unit")) for axis in image["axes"]}
    # that of the level, and one that all levels share
    given = [*image["datasets"][0].get("coordinateTransformations", []), *image.get("coordinateTransformations", [])]
    scales = [change["scale"] for change in given if change["type"] == "scale"]
    factors = zip(axes, *scales, strict=True) if scales else ()
    scale = {a: unit * math.prod(map(float, by)) for a, *by in factors if (unit := units[a]) is not None}
    return node, image["datasets"][0]["path"], scale, axes


def _ome(node: Any) -> dict[str, Any]:
    attributes = dict(node.attrs)
    return dict(attributes.get("ome", attributes))


def _checked(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    if pixels.ndim != 2:
        raise SourceError(
            f"{name!r} has shape {pixels.shape}: colour or stacked images are not played. Convert it to grey "
            "images (H, W) first."
        )
    if pixels.dtype.name not in PIXEL_DTYPES:
        raise SourceError(
            f"{name!r} has {pixels.dtype.name} pixels; allowed: {one_of(PIXEL_DTYPES)}. Convert it first."
        )
    return np.ascontiguousarray(pixels)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key: ``t2`` before ``t10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name) if part]
