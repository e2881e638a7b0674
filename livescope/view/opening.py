"""Opening configs and records from a window: by dialog, or by dropping them on it.

Owns what is opened where: a record in a window of its own beside this one, a config in place of this window's session,
or of the session of the window beside which this one stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_config_path
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from livescope.errors import LivescopeError, SettingsError
from livescope.record.place import is_record
from livescope.settings import Settings, ViewSettings, load_settings

if TYPE_CHECKING:
    from livescope.view.player import RecordPlayer

__all__ = ["Opening", "dropped", "is_config", "memory_path"]

_CONFIGS = (".yaml", ".yml")


def memory_path() -> Path:
    """File in which windows remember their layout."""
    return user_config_path("livescope") / "window.ini"


def is_config(path: Path) -> bool:
    """Whether a path is a config; False for a record.

    Raises
    ------
    SettingsError
        It is neither.
    """
    if is_record(path):
        return False
    if path.suffix.lower() in _CONFIGS:
        return True
    raise SettingsError(f"{path.name!r} is neither a config (.yaml) nor a record (a folder NAME.ome.zarr).")


def dropped(event: Any) -> list[Path]:
    """Local files and folders that are dragged or dropped; others are not taken."""
    mime = event.mimeData()
    return [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()] if mime.hasUrls() else []


class Opening(QObject):
    """Opens what is dropped on a window or chosen in its menu.

    Attributes
    ----------
    wanted
        Settings of the session that is to follow when the window has closed; None ends.
    beside
        Of the window beside which this one was opened: configs are opened there. None for a window of its own.
    """

    _record_read = Signal(object)

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self._window = window
        self._beside: list[QWidget] = []
        self.question: Any = None
        self.wanted: Settings | None = None
        self.beside: Opening | None = None
        self._closed = False
        self._record_read.connect(self._show_record)
        add = window.commands.add
        add("Window", "Open a config", "Ctrl+O", self._choose_config)
        add("Window", "Open a record", "Ctrl+Shift+O", self._choose_record)
        window.setAcceptDrops(True)
        window.canvas.viewport().setAcceptDrops(False)  # drops belong to the window
        window.installEventFilter(self)

    def eventFilter(self, _window: Any, event: Any) -> bool:  # noqa: N802 - Qt's name
        """Take drops."""
        if event.type() == QEvent.Type.DragEnter and dropped(event):
            event.acceptProposedAction()
            return True
        if event.type() == QEvent.Type.Drop:
            for path in dropped(event):
                self.open(path)
            return True
        return False

    def open(self, path: Path) -> None:
        """Open a record beside this window, or a config in its place."""
        try:
            if is_config(path):
                (self.beside or self).offer(path, load_settings(path))
            else:
                self._read_record(path)
        except LivescopeError as error:
            self._window.errors.append(str(error))

    def close(self) -> None:
        """Close the windows that were opened beside this one."""
        self._closed = True
        if self.question is not None:
            self.question.close()
        for window in self._beside:
            window.close()

    def _read_record(self, path: Path) -> None:
        """Read the table of a record in the helper thread: of a long run it takes seconds, and the picture goes on."""
        from livescope.view.player import RecordPlayer

        def read() -> str:
            self._record_read.emit(RecordPlayer(path))
            return ""

        self._window.in_background(f"opening {path.name}", read)

    def _show_record(self, player: RecordPlayer) -> None:
        from livescope.view.recorded import RecordWindow

        if self._closed:  # meanwhile
            player.close()
            return
        window = RecordWindow(player, ViewSettings(), memory_path())
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.opening.beside = self.beside or self
        self._beside.append(window)
        window.destroyed.connect(lambda: self._beside.remove(window))
        window.show()

    def offer(self, path: Path, settings: Settings) -> None:
        """Ask before a session that runs is ended for another."""
        if not self._window.busy:
            self._take(settings)
            return
        if self.question is not None:
            self.question.close()
        self.question = box = QMessageBox(self._window)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("livescope")
        box.setText(f"End this run and open {path.name}?")
        box.setInformativeText("What was recorded is kept.")
        end = box.addButton("End and open", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("Stay", QMessageBox.ButtonRole.RejectRole)
        end.clicked.connect(lambda: self._take(settings))
        box.finished.connect(self._answered)
        box.open()
        self._window.raise_()  # the config may have been opened in a window beside this one
        self._window.activateWindow()

    def _answered(self, _result: int) -> None:
        self.question = None

    def _take(self, settings: Settings) -> None:
        self.wanted = settings
        self._window.close()

    def _choose_config(self) -> None:
        self._ask_for("Open a config", QFileDialog.FileMode.ExistingFile)

    def _choose_record(self) -> None:
        self._ask_for("Open a record: the folder NAME.ome.zarr", QFileDialog.FileMode.Directory)

    def _ask_for(self, title: str, mode: Any) -> None:
        """Ask for a path without holding up the window: the picture goes on."""
        dialog = QFileDialog(self._window, title)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(mode)
        if mode == QFileDialog.FileMode.ExistingFile:
            dialog.setNameFilter("Configs (*.yaml *.yml)")
        dialog.fileSelected.connect(lambda path: self.open(Path(path)))
        dialog.open()
