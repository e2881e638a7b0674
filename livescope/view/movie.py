"""A record as a movie: frames with the outlines of their cells in the colours of their state. Without Qt.

Owns the drawing of a movie's frames and the file. A picture with its figures is drawn by `livescope.view.picture`.
`python -m livescope.view.movie RECORD OUT [KEY]` is what a window asks for, see `main`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from livescope.calls import CellCalls, State
from livescope.errors import LivescopeError, RecordError
from livescope.frames import Frame
from livescope.record.corrections import Correction, CorrectionLog, apply_corrections
from livescope.record.layout import ImageKey
from livescope.record.reader import Record, open_record
from livescope.view.geometry import outline_segments
from livescope.view.grey import AutoLevels, Grey8Converter
from livescope.view.theme import STATE_COLOURS

__all__ = ["main", "save_movie"]

MOST_SIDE_PX = 1024
"""Larger frames are reduced: a movie is for looking."""


def save_movie(
    record: Record,
    path: Path,
    *,
    image: str = "",
    rate_fps: float = 10.0,
    overlay: bool = True,
    corrections: Sequence[Correction] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write an image of a record as MP4 (H.264) or GIF, by the path's suffix.

    A frame that was not analysed shows the outlines of the newest analysed frame before it.

    Parameters
    ----------
    record, image
        What to show.
    path
        ``.mp4`` or ``.gif``; its folder must exist.
    rate_fps
        Frames a second of the movie.
    overlay
        Draw outlines.
    corrections
        What holds against the calls; with none they are as the model made them.
    progress
        Called with frames done and frames in all.

    Raises
    ------
    RecordError
        Another suffix, nothing recorded, MP4 without imageio-ffmpeg, or the file cannot be written.
    """
    numbers = [number for number in range(len(record)) if record.place(number).image == image]
    if not numbers:
        raise RecordError(f"record {str(record.path)!r} has no frame of image {image!r}; images: {record.images}.")
    pictures = _pictures(record, numbers, overlay, corrections, progress)
    try:
        if path.suffix == ".gif":
            _write_gif(path, pictures, rate_fps)
        elif path.suffix == ".mp4":
            _write_mp4(path, pictures, rate_fps)
        else:
            raise RecordError(f"{str(path)!r}: a movie is written as .mp4 or .gif.")
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from error
    return [path]


def main(arguments: list[str]) -> int:
    """Write a record as its window shows it: the image that is looked at, with the corrections that hold.

    Prints which it is where there are several, and that calls were corrected if they were.

    Parameters
    ----------
    arguments
        The record, the file to write, and an `ImageKey` as JSON; without it, or frames of it, the first image.

    Returns
    -------
    int
        Exit code; what is wrong goes to stderr.
    """
    try:
        record, out = open_record(arguments[0]), Path(arguments[1])
        image = _image_like(record, *(ImageKey.from_dict(json.loads(text)) for text in arguments[2:]))
        standing = CorrectionLog(record.path).standing
        save_movie(record, out, image=image, corrections=standing)
    except LivescopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    position = record.image(image)["position"]
    said = [f"position {position}" if position else f"image {image or 'at the root'}"] if len(record.images) > 1 else []
    print(", ".join([*said, *(["as corrected"] if standing else [])]))
    return 0


def _image_like(record: Record, key: ImageKey | None = None) -> str:
    """Return the image of a frame with this key; its channel may lie beside others in one."""
    found = (image for image in record.images if key is not None and _holds(record, image, key))
    return next(found, next(iter(record.images), ""))


def _holds(record: Record, image: str, key: ImageKey) -> bool:
    return ImageKey.from_dict(record.image(image)) in (key, replace(key, channel=None))


def _pictures(
    record: Record,
    numbers: list[int],
    overlay: bool,
    corrections: Sequence[Correction],
    progress: Callable[[int, int], None],
) -> Iterator[Image.Image]:
    levels, converter = AutoLevels(), Grey8Converter()
    calls: CellCalls | None = None
    start = record.frame(numbers[0]).time_s
    for done, number in enumerate(numbers):
        frame = record.frame(number)
        found = record.calls_of(frame.index)
        if found is not None:  # else those of the frame before
            calls = apply_corrections(found, corrections)
        yield _draw(frame, converter(frame.pixels, *levels(frame.pixels)), calls if overlay else None, start)
        progress(done + 1, len(numbers))


def _draw(frame: Frame, grey: NDArray[np.uint8], calls: CellCalls | None, start_s: float) -> Image.Image:
    height, width = grey.shape
    reduce = -(-max(height, width) // MOST_SIDE_PX)
    # H.264 takes even sides only
    picture = Image.fromarray(grey).reduce(reduce).convert("RGB")
    picture = picture.crop((0, 0, max(2, picture.width // 2 * 2), max(2, picture.height // 2 * 2)))
    draw = ImageDraw.Draw(picture)
    if calls is not None:
        outlines = calls.outlines_yx()
        for state in State:
            for x0, y0, x1, y1 in (outline_segments(outlines[calls.state == state], state) + 0.5) / reduce:
                draw.line((x0, y0, x1, y1), fill=STATE_COLOURS[state], width=1)
    hours, seconds = divmod(frame.time_s - start_s, 3600)
    text = f"{int(hours)}:{int(seconds // 60):02}:{seconds % 60:04.1f}"
    draw.text((8, 6), text, fill="white", stroke_fill="black", stroke_width=2, font=ImageFont.load_default(16))
    return picture


def _write_gif(path: Path, pictures: Iterator[Image.Image], rate_fps: float) -> None:
    # one palette for all frames would need them all at once; Pillow reads the generator frame by frame
    first = next(pictures)
    first.save(path, save_all=True, append_images=pictures, duration=1000 / rate_fps, loop=0)


def _write_mp4(path: Path, pictures: Iterator[Image.Image], rate_fps: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise RecordError(
            "MP4 export needs imageio-ffmpeg: pip install 'livescope[export]', or write a .gif."
        ) from None
    first = next(pictures)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.width}x{first.height}", "-r", str(rate_fps), "-i", "-"]
    coded = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", str(path)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *raw, *coded]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None
        assert ffmpeg.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # ffmpeg says why it ended
            for picture in itertools.chain([first], pictures):
                ffmpeg.stdin.write(picture.tobytes())
            ffmpeg.stdin.close()
        reason = ffmpeg.stderr.read().decode(errors="replace").strip()
    if ffmpeg.returncode:
        raise RecordError(f"{str(path)!r} cannot be written: {reason}. Choose another path, or write a .gif.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
