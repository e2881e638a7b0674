"""The first page: try the demo, open a config or a record, train a network.

Owns that page and the loop from one window to the next. Each window is built elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livescope.view.window import application, show  # isort: skip - before Qt: it checks the display

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from livescope.errors import LivescopeError
from livescope.session import Session
from livescope.settings import Settings, load_settings
from livescope.view.garbage import collected_here
from livescope.view.memory import WindowMemory
from livescope.view.opening import dropped, is_config, memory_path
from livescope.view.recorded import view_record
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
        What was chosen: settings of a session, or a record's folder; None if the page was closed.
    """

    def __init__(self, theme_name: str = "dark") -> None:
        super().__init__()
        self.wanted: Settings | Path | None = None
        self._theme = THEMES[theme_name]
        self._wizard: Any = None
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
        layout = QVBoxLayout(self)
        layout.setContentsMargins(48, 36, 48, 30)
        layout.addWidget(title)
        layout.addWidget(words)
        layout.addSpacing(18)
        layout.addLayout(grid, 1)
        layout.addSpacing(8)
        layout.addWidget(self.said)
        self.buttons["demo"].setFocus()
        self.buttons["demo"].clicked.connect(lambda: self._take(load_settings(None, _DEMO)))
        self.buttons["config"].clicked.connect(lambda: self._ask("Open a config", QFileDialog.FileMode.ExistingFile))
        self.buttons["record"].clicked.connect(lambda: self._ask("Open a record", QFileDialog.FileMode.Directory))
        self.buttons["train"].clicked.connect(self._train)

    def open(self, path: Path) -> None:
        """Choose a config or a record."""
        try:
            self._take(load_settings(path) if is_config(path) else path)
        except LivescopeError as error:
            self.said.setText(str(error))

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take files and folders."""
        if dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Open what is dropped; of several the first."""
        self.open(dropped(event)[0])

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Close the wizard as well."""
        if self._wizard is not None:
            self._wizard.close()
        super().closeEvent(event)

    def _offer(self, name: str, text: str, what: str) -> Any:
        button = QPushButton()
        button.setObjectName("offer")
        button.setAccessibleName(text)
        button.setMinimumHeight(120)
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
            self._wizard = TrainWizard(self, self._theme, "adherent", Path("models"))
            self._wizard.use_asked.connect(self._use)
            self._wizard.finished.connect(self._wizard_closed)
            self._wizard.show()
        self._wizard.raise_()

    def _wizard_closed(self, _result: int) -> None:
        self._wizard = None

    def _use(self, model: str) -> None:
        self._wizard.made_page.tell(f"In your config: detector.model: {model}")

    def _take(self, wanted: Settings | Path) -> None:
        self.wanted = wanted
        self.close()


def show_start() -> int:
    """Show the first page, then what was chosen there; returns the exit code."""
    app = application()
    name = WindowMemory(memory_path()).text("theme", "dark")
    name = name if name in THEMES else "dark"
    apply_theme(app, THEMES[name])
    with collected_here():
        page = StartPage(name)
        page.show()
        QApplication.instance().exec()
        match page.wanted:
            case None:
                return 0
            case Path() as record:
                return view_record(record)
            case settings:
                with Session(settings) as session:
                    return show(session)
