"""A clip of the record with the calls over it, from a window: written by `livescope.view.movie` in its own process.

Owns asking for it and telling what came of it.
"""

from __future__ import annotations

import importlib.util
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from livescope.record.layout import ImageKey
from livescope.view.child import end_child, last_words, start_child

if TYPE_CHECKING:
    from livescope.view.frame_window import FrameWindow

__all__ = ["Clip"]


class Clip(QObject):
    """Saves clips, one at a time."""

    def __init__(self, window: FrameWindow) -> None:
        super().__init__(window)
        self._window = window
        self._process: Any = None
        self._path = Path()
        window.commands.add("Window", "Save a clip of the record with its calls", "Ctrl+Shift+S", self.save)

    def save(self) -> None:
        """Write the record so far, or all of a finished one, beside it as MP4, or as GIF without imageio-ffmpeg.

        Of several positions it is the one that is shown; corrections hold as they do in the window.
        """
        record = self._window.record_path()
        if record is None or not record.exists():
            self._window.tell("a clip is made of a record: press Record (R) first")
            return
        if self._process is not None:
            self._window.tell("a clip is being made already")
            return
        to = "mp4" if importlib.util.find_spec("imageio_ffmpeg") else "gif"
        stem = record.name.removesuffix(".zarr").removesuffix(".ome")
        self._path = record.parent / f"{stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.{to}"
        picture = self._window.canvas.picture
        looked_at = () if picture is None else (json.dumps(ImageKey.of(picture.frame).as_dict()),)
        arguments = ("livescope.view.movie", str(record), str(self._path), *looked_at)
        self._window.tell("saving the clip\u2026")
        self._process = start_child(self, arguments, self._ended)

    def close(self) -> None:
        """Give up a clip that is not done."""
        if self._process is not None:
            end_child(self._process)
            self._process = None
            self._path.unlink(missing_ok=True)

    def _ended(self, code: int) -> None:
        process, self._process = self._process, None
        if code:
            self._window.errors.append(f"saving the clip: {last_words(process)}")
        else:
            said = bytes(process.readAllStandardOutput()).decode(errors="replace").strip()
            self._window.tell(f"saved {self._path}{said and f' ({said})'}")
        process.deleteLater()
