"""What a window remembers between two starts: place and size, splitter, theme, switches, open docks.

Owns the file. What a config says wins over what is remembered; that is the window's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QMainWindow, QSplitter

__all__ = ["WindowMemory"]


class WindowMemory:
    """Values of a window in a file.

    Parameters
    ----------
    path
        The file; None remembers nothing, and recalls defaults.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else QSettings(str(path), QSettings.Format.IniFormat)

    def text(self, key: str, default: str) -> str:
        """Recall a word."""
        return default if self._file is None else str(self._file.value(key, default))

    def switch(self, key: str, default: bool) -> bool:
        """Recall whether something was on."""
        return self.text(key, str(default).lower()) == "true"

    def names(self, key: str) -> list[str]:
        """Recall a list of names."""
        return [name for name in self.text(key, "").split("\n") if name]

    def keep(self, **values: str | bool | list[str]) -> None:
        """Remember words, switches and lists of names."""
        if self._file is None:
            return
        for key, value in values.items():
            text = "\n".join(value) if isinstance(value, list) else str(value)
            self._file.setValue(key, text.lower() if isinstance(value, bool) else text)

    def restore(self, window: QMainWindow, splitter: QSplitter) -> None:
        """Give a window its size and place again."""
        if self._file is not None:
            window.restoreGeometry(self._file.value("geometry", b""))
            splitter.restoreState(self._file.value("splitter", b""))

    def restore_docks(self, window: QMainWindow) -> None:
        """Give the docks that are there their places again."""
        state: Any = None if self._file is None else self._file.value("docks_state")
        if state is not None:
            window.restoreState(state)

    def keep_layout(self, window: QMainWindow, splitter: QSplitter) -> None:
        """Remember size, place and docks of a window, and write the file."""
        if self._file is not None:
            self._file.setValue("geometry", window.saveGeometry())
            self._file.setValue("splitter", splitter.saveState())
            self._file.setValue("docks_state", window.saveState())
            self._file.sync()
