"""The first page: try the demo, open a config or a record, train a network.

Owns that page and the loop from one window to the next. Each window is built elsewhere.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from livescope.view.window import application, run_window, show  # isort: skip - before Qt: it checks the display

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from livescope.errors import LivescopeError
from livescope.session import Session
from livescope.settings import Settings, load_settings
from livescope.view.garbage import collected_here
from livescope.view.memory import WindowMemory
from livescope.view.opening import dropped, is_config, memory_path
from livescope.view.player import RecordPlayer
from livescope.view.recorded import show_record
from livescope.view.theme import THEMES, apply_theme

__all__ = ["StartPage", "show_start"]

_DEMO = ("source.kind=simulated", "record.path='runs/demo-{time}.ome.zarr'")
_OFFERS = (
    ("demo", "Try the demo", "Living cells from the simulator, called live or dead. No microscope needed."),
    ("config", "Open a config", "Your microscope through Micro-Manager, or images to play: a file of configs/."),
    ("record", "Open a record", "Look at a run again, correct its calls, or watch one that is still going on."),
    ("train", "Train a network", "From bright-field pictures with dyes, marked pictures, or corrected records."),
)


class StartPage(QWidget):
    """The first page. It closes when something was chosen.

    Attributes
    ----------
    wanted
        What was chosen: settings of a session, or a record, opened; None if the page was closed.
    """

    _read = Signal(object)
    """A record that was opened, or why it was not."""
    _reported = Signal(str)

    def __init__(self, theme_name: str = "dark") -> None:
        super().__init__()
        self.wanted: Settings | RecordPlayer | None = None
        self.theme_name = theme_name
        self._wizard: Any = None
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="livescope-start")
        self._reading: Future[RecordPlayer | None] | None = None
        self.setWindowTitle("livescope")
        self.setAcceptDrops(True)
        self.resize(820, 520)
        title = QLabel("livescope")
        title.setObjectName("big")
        words = QLabel("Which cells are alive and which are dead, live at the microscope and without a stain.")
        words.setObjectName("name")
        self.said = QLabel("Or drop a config or a record here.")
        self.said.setObjectName("name")
        self.said.setWordWrap(True)
        self.buttons: dict[str, Any] = {}
        grid = QGridLayout()
        grid.setSpacing(14)
        for place, (name, text, what) in enumerate(_OFFERS):
            grid.addWidget(self._offer(name, text, what), place // 2, place % 2)
        body = QWidget()
        self._scroll = scroll = QScrollArea()
        scroll.setObjectName("sideScroll")
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll)
        layout = QVBoxLayout(body)
        layout.setContentsMargins(48, 36, 48, 30)
        layout.addWidget(title)
        layout.addWidget(words)
        layout.addSpacing(18)
        layout.addLayout(grid, 1)
        layout.addSpacing(8)
        layout.addWidget(self.said)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(body.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width())
        self.buttons["demo"].setFocus()
        self.buttons["demo"].clicked.connect(lambda: self._take(load_settings(None, _DEMO)))
        self.buttons["config"].clicked.connect(lambda: self._ask("Open a config", QFileDialog.FileMode.ExistingFile))
        self.buttons["record"].clicked.connect(lambda: self._ask("Open a record", QFileDialog.FileMode.Directory))
        self.buttons["train"].clicked.connect(self._train)
        self._read.connect(self._take_record)
        self._reported.connect(lambda text: self.say(text, alarm=True))

    def set_theme(self, name: str) -> None:
        """Give the page its colours."""
        self.theme_name = name
        apply_theme(QApplication.instance(), THEMES[name])

    def open(self, path: Path) -> None:
        """Choose a config or a record."""
        try:
            if is_config(path):
                self._take(load_settings(path))
            else:
                self._open_record(path)
        except Exception as error:  # noqa: BLE001 - boundary of the page: a file may hold anything
            self.say(_why(path, error), alarm=True)

    def say(self, text: str, *, alarm: bool = False) -> None:
        """Show a line below the cards."""
        self.said.setText(text)
        self.said.setProperty("alarm", "true" if alarm else "")
        self.said.style().unpolish(self.said)
        self.said.style().polish(self.said)
        QTimer.singleShot(0, lambda: self._scroll.ensureWidgetVisible(self.said))  # once the text has its lines

    def report(self, text: str, _trace: str) -> None:
        """Show an error; its traceback goes to stderr. Any thread."""
        self._reported.emit(text)

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take files and folders."""
        if dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Open what is dropped; of several the first."""
        self.open(dropped(event)[0])

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Close the wizard as well, and a record that nobody waits for any more."""
        if self._wizard is not None:
            self._wizard.close()
        self._helper.shutdown(wait=True)
        player = None if self._reading is None else self._reading.result()
        if player is not None and player is not self.wanted:
            player.close()
        super().closeEvent(event)

    def _offer(self, name: str, text: str, what: str) -> Any:
        button = QPushButton()
        button.setObjectName("offer")
        button.setAccessibleName(text)
        button.setMinimumSize(300, 120)
        head, body = QLabel(text), QLabel(what)
        head.setObjectName("count")
        body.setObjectName("name")
        body.setWordWrap(True)
        inner = QVBoxLayout(button)
        inner.setContentsMargins(18, 14, 18, 14)
        for label in (head, body):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            inner.addWidget(label)
        inner.addStretch(1)
        self.buttons[name] = button
        return button

    def _ask(self, title: str, mode: Any) -> None:
        dialog = QFileDialog(self, title)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(mode)
        dialog.fileSelected.connect(lambda path: self.open(Path(path)))
        dialog.open()

    def _train(self) -> None:
        from livescope.view.train_wizard import TrainWizard

        if self._wizard is None:
            self._wizard = TrainWizard(self, THEMES[self.theme_name], "adherent", Path("models"))
            self._wizard.use_asked.connect(self._use)
            self._wizard.finished.connect(self._wizard_closed)
            self._wizard.show()
        self._wizard.raise_()

    def _wizard_closed(self, _result: int) -> None:
        self._wizard = None

    def _use(self, model: str) -> None:
        self._wizard.made_page.tell(f"In your config: detector.model: {model}")

    def _open_record(self, path: Path) -> None:
        """Read the table of a record in the helper thread: of a long run it takes seconds."""

        def read() -> RecordPlayer | None:
            try:
                player = RecordPlayer(path)
            except Exception as error:  # noqa: BLE001 - boundary of the helper thread
                self._read.emit(_why(path, error))
                return None
            self._read.emit(player)
            return player

        if self._reading is None or self._reading.done():
            self.say(f"opening {path.name}\u2026")
            self._reading = self._helper.submit(read)

    def _take_record(self, read: RecordPlayer | str) -> None:
        if isinstance(read, str):
            self.say(read, alarm=True)
        elif self.isVisible():
            self._take(read)

    def _take(self, wanted: Settings | RecordPlayer) -> None:
        self.wanted = wanted
        self.close()


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, LivescopeError):
        return str(error)
    return f"{path.name} cannot be opened: {type(error).__name__}: {error}"


def show_start() -> int:
    """Show the first page, then what was chosen there; returns the exit code."""
    application()
    name = WindowMemory(memory_path()).text("theme", "dark")
    with collected_here():
        page = StartPage(name if name in THEMES else "dark")
        code = run_window(page)
        match page.wanted:
            case None:
                return code
            case RecordPlayer() as player:
                return show_record(player)
            case settings:
                with Session(settings) as session:
                    return show(session)
