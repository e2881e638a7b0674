"""Outlines of stored frames: those of the calls, or refined ones where somebody asks for them, and label images.

Owns that choice and the files of label images. How outlines are refined is `livescope.detect.refine`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from livescope.acquire.files import PNG, TIFF
from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle
from livescope.detect.refine import Outliner, with_outlines
from livescope.errors import SettingsError
from livescope.frames import Frame
from livescope.record.labels import label_planes

__all__ = ["StoredOutlines"]


class StoredOutlines:
    """Outlines the cells of frames, one after the other.

    Parameters
    ----------
    bundle
        The model that calls them.
    refined
        True measures areas and rays on refined outlines; False leaves the calls as they are.
    labels
        Folder for label images: a TIFF for each image file, of its name, with a page for each of its frames. 0 is
        background, k + 1 the frame's k-th row of the table. None writes none.
    threads
        CPU threads; None leaves one core free.

    Raises
    ------
    SettingsError
        The folder cannot be made, or holds pictures already.
    """

    def __init__(self, bundle: Bundle, refined: bool, labels: Path | None = None, threads: int | None = None) -> None:
        self._outliner = Outliner(bundle, threads) if refined else None
        self._folder = labels
        self._names: dict[Path, str] = {}
        if labels is not None:
            try:
                labels.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsError(f"--labels {str(labels)!r} cannot be made: {error.strerror}.") from None
            _refuse_pictures(labels)

    def __call__(self, frame: Frame, calls: CellCalls, name: str) -> CellCalls:
        """Return a frame's calls with the outlines asked for, and write its labels to the file of that name.

        Raises
        ------
        SettingsError
            The labels cannot be written, or another file's would be overwritten.
        """
        if self._outliner is not None:
            labels = self._outliner(frame, calls)
            calls = with_outlines(calls, labels)
        elif self._folder is not None:
            labels, _ = label_planes(calls, frame.spec.shape)
        if self._folder is not None:
            self._write(self._folder / f"{Path(name).stem}.tif", labels.astype(np.uint16), name)
        return calls

    def _write(self, path: Path, labels: np.ndarray[tuple[int, int], np.dtype[np.uint16]], name: str) -> None:
        begun = path in self._names
        if self._names.setdefault(path, name) != name:
            raise SettingsError(
                f"the labels of {name!r} would go into {str(path)!r}, which holds those of {self._names[path]!r}. "
                "Analyze these images apart, or rename one."
            )
        try:
            if not begun:
                path.touch(exist_ok=False)  # never over a file that this run did not begin
            tifffile.imwrite(path, labels, append=begun, compression="zlib", metadata=None)
        except OSError as error:
            raise SettingsError(f"--labels {str(path)!r} cannot be written: {error.strerror or error}.") from None


def _refuse_pictures(folder: Path) -> None:
    """Refuse a folder of pictures: label images could replace them, or be taken for pictures of cells among them."""
    held = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in TIFF + PNG)
    if held:
        raise SettingsError(
            f"--labels {str(folder)!r} holds pictures already ({len(held)}, {held[0]!r} the first), and none is "
            "ever replaced. Choose a new folder, or delete this one if they are labels of an earlier analysis."
        )
