"""A frame with its calls as a PNG: outlines and markers by state, legend, counts, viability, scale bar. Without Qt.

Owns the written picture. The live picture is drawn by `livescope.view.canvas`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from livescope.calls import Analysis, CellCalls, State, Viability
from livescope.errors import RecordError
from livescope.view.geometry import marker_segments, outline_segments, round_length_um
from livescope.view.grey import spread_levels, to_grey8
from livescope.view.theme import DARK, STATE_COLOURS

__all__ = ["draw_picture", "save_picture"]

_LEAST_SIDE_PX = 900
"""Smaller frames are enlarged by whole factors, so that outlines and text stay legible."""


def save_picture(path: Path, analysis: Analysis) -> None:
    """Write an analysed frame with its calls as PNG.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    analysis
        Frame, calls and viability.

    Raises
    ------
    RecordError
        The path cannot be written.
    """
    try:
        draw_picture(analysis).save(path, "PNG")
    except OSError as error:
        raise RecordError(f"picture {str(path)!r} cannot be written: {error.strerror}. Choose another path.") from None


def draw_picture(analysis: Analysis) -> Image.Image:
    """Draw an analysed frame with its calls; the picture keeps the frame's aspect, with a strip of figures below it."""
    pixels = analysis.frame.pixels
    scale = max(1, math.ceil(_LEAST_SIDE_PX / max(pixels.shape)))
    grey = to_grey8(pixels, *spread_levels(pixels))
    picture = Image.fromarray(grey).convert("RGB")
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    _draw_calls(picture, analysis.calls, scale)
    unit = max(picture.width, picture.height) / 1024
    _draw_scale_bar(picture, analysis.frame.pixel_um, scale, unit)
    strip = _strip(picture.width, analysis, unit)
    whole = Image.new("RGB", (picture.width, picture.height + strip.height), DARK.panel)
    whole.paste(picture, (0, 0))
    whole.paste(strip, (0, picture.height))
    return whole


def _draw_calls(picture: Image.Image, calls: CellCalls, scale: int) -> None:
    """Outlines and markers, drawn twice as large on a layer and reduced: Pillow's lines are not antialiased."""
    layer = Image.new("RGBA", (picture.width * 2, picture.height * 2))
    draw = ImageDraw.Draw(layer)
    for state in State:
        chosen = calls.state == state
        outlines = (outline_segments(calls.outlines_yx()[chosen], state) + 0.5) * (2 * scale)
        centres = (np.stack([calls.x_px[chosen], calls.y_px[chosen]], -1) + 0.5) * (2 * scale)
        _lines(draw, outlines, STATE_COLOURS[state], 3)
        _lines(draw, marker_segments(centres, state, 7.0), STATE_COLOURS[state], 3)
    layer = layer.reduce(2)
    picture.paste(layer, (0, 0), layer)


def _lines(draw: ImageDraw.ImageDraw, segments: NDArray[np.float64], colour: str, width: int) -> None:
    for x0, y0, x1, y1 in segments.tolist():
        draw.line((x0, y0, x1, y1), fill=colour, width=width)


def _draw_scale_bar(picture: Image.Image, pixel_um: float | None, scale: int, unit: float) -> None:
    draw = ImageDraw.Draw(picture, "RGBA")
    margin, font = round(20 * unit), ImageFont.load_default(round(18 * unit))
    if pixel_um is None:
        label, length_px = "pixel size unknown", 0.0
    else:
        length_um = round_length_um(picture.width / scale * pixel_um / 6)
        # Pillow's own font, the only one that is everywhere, has no micro sign
        label, length_px = f"{length_um:g} um", length_um / pixel_um * scale
    right, bottom = picture.width - margin, picture.height - margin
    text_px = draw.textlength(label, font=font)
    left = right - max(length_px, text_px)
    pad = round(8 * unit)
    box = (left - pad, bottom - 30 * unit - pad, right + pad, bottom + pad)
    draw.rounded_rectangle(box, pad, fill=(0, 0, 0, 150))
    middle = (left + right) / 2
    draw.text((middle, bottom - 8 * unit), label, fill="white", font=font, anchor="ms")
    if length_px:
        draw.rectangle(
            (middle - length_px / 2, bottom - 2 * unit, middle + length_px / 2, bottom + 2 * unit), fill="white"
        )


def _strip(width: int, analysis: Analysis, unit: float) -> Image.Image:
    """Legend with counts on the left, viability with its interval on the right."""
    height, pad = round(64 * unit), round(20 * unit)
    strip = Image.new("RGB", (width, height), DARK.panel)
    draw = ImageDraw.Draw(strip)
    font, small = ImageFont.load_default(round(20 * unit)), ImageFont.load_default(round(15 * unit))
    middle, x = height / 2, float(pad)
    for state in State:
        centre = np.array([[x + 8 * unit, middle]])
        _lines(draw, marker_segments(centre, state, 8.0 * unit), STATE_COLOURS[state], max(2, round(2 * unit)))
        x += 24 * unit
        text = f"{state.label} {analysis.calls.count(state)}"
        draw.text((x, middle), text, fill=STATE_COLOURS[state], font=font, anchor="lm")
        x += draw.textlength(text, font=font) + 28 * unit
    first, second = viability_lines(analysis.viability)
    draw.text((width - pad, middle - 3 * unit), first, fill=DARK.text, font=font, anchor="rs")
    frame = f"{second} \u00b7 frame {analysis.frame.index}"
    draw.text((width - pad, middle + 20 * unit), frame, fill=DARK.muted, font=small, anchor="rs")
    return strip


def viability_lines(viability: Viability) -> tuple[str, str]:
    """Say a viability in two short lines: the figure, and how sure it is."""
    n = viability.n_live + viability.n_dead
    if not n:
        return "no call", "no cell called live or dead"
    first = f"viability {100 * viability.fraction:.1f} %"
    second = f"95 % interval {100 * viability.low:.1f} to {100 * viability.high:.1f} %, n = {n}"
    if viability.corrected is not None and viability.corrected_low is not None and viability.corrected_high is not None:
        second += f", corrected {100 * viability.corrected:.1f} % "
        second += f"({100 * viability.corrected_low:.1f} to {100 * viability.corrected_high:.1f})"
    return first, second
