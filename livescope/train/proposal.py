"""Labels as they would be trained on, as pictures: to be looked at before a training begins.

Owns those pictures, their figures, and gathering the channels of a dye experiment under the names that `dye` reads.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from livescope.calls import State
from livescope.errors import SourceError
from livescope.train.data import UNKNOWN, Field
from livescope.train.dye import BRIGHTFIELD
from livescope.train.figures import draw_dye
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset, read

__all__ = ["gather_pairs", "propose"]

_COLOURS = {State.LIVE: "#56B4E9", State.DEAD: "#E69F00", UNKNOWN: "#F062B4"}
"""As in the window: blue, orange, and pink where the label says nothing of the state."""
_DASHES = {State.LIVE: "-", State.DEAD: "--", UNKNOWN: ":"}
_MOST_PICTURES = 12
_CHANNELS = (BRIGHTFIELD, ".dead_dye.tif", ".nuclear_dye.tif")


def gather_pairs(folder: Path, suffixes: tuple[str, str, str], out: Path) -> int:
    """Lay the channels of a dye experiment together under the names that `dye.read_pairs` wants; returns the fields.

    Nothing is copied where the file system can link. A field that lacks a channel is left out.

    Parameters
    ----------
    folder
        Pictures of all channels.
    suffixes
        How the names of bright-field, dead dye and nuclear dye end, e.g. ``("_BF.tif", "_PI.tif", "_Hoechst.tif")``.
    out
        Folder to fill; made if need be.

    Raises
    ------
    SourceError
        No field has all three, or a file cannot be linked or copied.
    """
    stems = [{p.name.removesuffix(end) for p in folder.glob("*") if p.name.endswith(end)} for end in suffixes]
    whole = sorted(set.intersection(*stems))
    if not whole:
        found = ", ".join(f"{len(names)} named *{end}" for names, end in zip(stems, suffixes, strict=True))
        raise SourceError(f"{str(folder)!r} has no field with all three channels: {found}. Check how the names end.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for stale in out.glob("*.tif"):
            stale.unlink()
        for stem in whole:
            for end, channel in zip(suffixes, _CHANNELS, strict=True):
                _link(folder / (stem + end), out / (stem + channel))
    except OSError as error:
        raise SourceError(f"the pictures cannot be gathered in {str(out)!r}: {error.strerror or error}.") from None
    return len(whole)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another drive, or a file system without links
        shutil.copyfile(source, target)


def propose(settings: TrainSettings, out: Path) -> dict[str, Any]:
    """Draw the labels of a training, and say how many there are.

    Parameters
    ----------
    settings
        Only its data are looked at.
    out
        Folder for the pictures; made if need be.

    Returns
    -------
    ``fields``, ``groups``, ``live``, ``dead``, ``unknown`` (cells whose label says nothing of the state), ``pictures``
    (paths, of at most twelve fields evenly chosen), ``notes`` (what must be told of the labels), and of dye pairs
    ``histogram`` (path) and ``thresholds``.

    Raises
    ------
    SourceError
        Data are missing.
    """
    datasets = [read(one) for one in settings.data]
    fields = [field for dataset in datasets for field in dataset.fields]
    states = np.concatenate([field.state for field in fields]) if fields else np.empty(0, np.uint8)
    out.mkdir(parents=True, exist_ok=True)
    chosen = [fields[k] for k in np.unique(np.linspace(0, len(fields) - 1, _MOST_PICTURES).astype(int))]
    return {
        "fields": len(fields),
        "groups": sum(len({field.group for field in dataset.fields}) for dataset in datasets),
        "live": int(np.sum(states == State.LIVE)),
        "dead": int(np.sum(states == State.DEAD)),
        "unknown": int(np.sum(states == UNKNOWN)),
        "pictures": [str(_draw_labels(field, out / f"{k:02}.labels.png")) for k, field in enumerate(chosen)],
        "notes": [note for dataset in datasets for note in dataset.notes],
        **_dye_facts(datasets, out),
    }


def _dye_facts(datasets: list[Dataset], out: Path) -> dict[str, Any]:
    for dataset in datasets:
        if dataset.thresholds is not None:
            path = out / "dye.png"
            draw_dye(dataset.measured, dataset.thresholds, path)
            return {"histogram": str(path), "thresholds": dataset.thresholds.model_dump()}
    return {"histogram": None, "thresholds": None}


def _draw_labels(field: Field, path: Path) -> Path:
    """Draw a field with the outlines of its marked cells."""
    height, width = field.pixels.shape
    scale = 900 / max(height, width)
    figure = Figure(figsize=(width * scale / 100, height * scale / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    low, high = np.percentile(field.pixels, (0.2, 99.8))
    axes.imshow(field.pixels, cmap="gray", vmin=float(low), vmax=max(float(high), float(low) + 1))
    for contour, state in zip(field.contours_yx, field.state.tolist(), strict=True):
        closed = np.vstack([contour, contour[:1]])
        axes.plot(closed[:, 1], closed[:, 0], color=_COLOURS[state], linestyle=_DASHES[state], linewidth=1.4)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.text(8, 8, field.name, color="white", va="top", fontsize=11, backgroundcolor=(0, 0, 0, 0.5))
    figure.savefig(path)
    return path
