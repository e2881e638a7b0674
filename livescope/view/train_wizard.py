"""A network of one's own without programming: pictures, labels to look at, training, validation sheet, use it.

Owns the pages. What they ask for is a `TrainRequest`, which becomes the config of `livescope train`; the work is done
by `livescope.view.trainer` in a process of its own, so that a microscope goes on running beside it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
    QWizard,
    QWizardPage,
)

from livescope.detect.bundle import bundled_names
from livescope.errors import LivescopeError
from livescope.view.label_page import LabelPage
from livescope.view.theme import Theme
from livescope.view.train_panel import MadePanel, TrainPanel
from livescope.view.train_request import CHANNELS, TrainRequest, channel_guess, channels_in, kind_of, write_config
from livescope.view.trainer import Trainer

__all__ = ["TrainWizard"]

_KINDS = {
    "dye_pairs": "bright-field pictures with a dead dye and a nuclear dye",
    "records": "a record with corrections",
    "coco": "pictures with boxes marked live or dead (COCO)",
    "masks": "pictures with masks of the cells",
}
_GROUPS = {
    "^[^_]+": "all up to the first _ of the name (day, plate, ...)",
    "^.*(?=_)": "all up to the last _ of the name (well, ...)",
    ".*": "each picture by itself",
}
"""What must not be split between learning and judging, as a regular expression on names."""


class TrainWizard(QWizard):
    """The pages. Closing it ends the training; its checkpoint stays.

    Parameters
    ----------
    parent
        Window over which it opens; it does not block it.
    theme
        Colours of what is painted by hand.
    model
        Model in use: what corrections fine-tune.
    out
        Folder for networks.
    learn_from
        Folder to begin with, e.g. the record whose corrections are to be learnt; None asks for one.
    """

    use_asked = Signal(str)
    """Path of a finished network that is to be used."""

    def __init__(self, parent: Any, theme: Theme, model: str, out: Path, learn_from: Path | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Train a network")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWizardStyle(QWizard.WizardStyle.ClassicStyle)  # others put a white head above a dark window
        self.setOption(QWizard.WizardOption.NoBackButtonOnStartPage)
        self.resize(980, 720)
        self.trainer = Trainer(self)
        self.request = TrainRequest("my-network", out, "dye_pairs", Path(), start=model)
        self.data_page = DataPage(self)
        self.label_page = LabelPage(self)
        self.train_page = TrainPage(self, theme)
        self.made_page = MadePage(self, theme)
        for page in (self.data_page, self.label_page, self.train_page, self.made_page):
            self.addPage(page)
        if learn_from is not None:
            self.data_page.folder.setText(str(learn_from))

    def change(self, **what: Any) -> None:
        """Change the request."""
        self.request = replace(self.request, **what)

    def done(self, result: int) -> None:
        """End the process with the wizard."""
        self.trainer.close()
        super().done(result)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """End the process with the wizard."""
        self.trainer.close()
        super().closeEvent(event)


class DataPage(QWizardPage):
    """Which pictures, and what they are."""

    def __init__(self, wizard: TrainWizard) -> None:
        super().__init__()
        self._of = wizard
        self._kind: str | None = None
        self.setTitle("Here are my pictures")
        self.setSubTitle(
            "A folder of bright-field pictures with their dyes, of marked pictures, or a record whose calls you "
            "have corrected."
        )
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("folder or record")
        self.folder.setAccessibleName("Folder or record to learn from")
        browse = QPushButton("Browse\u2026")
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.channels: list[Any] = [QComboBox() for _ in CHANNELS]
        self.group = QComboBox()
        for pattern, words in _GROUPS.items():
            self.group.addItem(words, pattern)
        self.groups = QLabel()
        self.groups.setWordWrap(True)
        self.pixel = _pixel_box()
        row = QHBoxLayout()
        row.addWidget(self.folder, 1)
        row.addWidget(browse)
        layout = QVBoxLayout(self)
        layout.addLayout(row)
        layout.addWidget(self.found)
        layout.addWidget(self._details())
        layout.addStretch(1)
        browse.clicked.connect(self._browse)
        self.folder.textChanged.connect(self._look)
        for combo in (*self.channels, self.group):
            combo.currentIndexChanged.connect(lambda _: self._changed())

    def isComplete(self) -> bool:  # noqa: N802 - Qt's name
        """Whether there is something to learn from."""
        ends = [combo.currentText() for combo in self.channels]
        return self._kind is not None and (self._kind != "dye_pairs" or (len({*ends}) == len(ends) and all(ends)))

    def validatePage(self) -> bool:  # noqa: N802 - Qt's name
        """Take over what was said."""
        grouped = self._kind in ("dye_pairs", "masks")
        ends = tuple(combo.currentText() for combo in self.channels)
        self._of.change(
            kind=self._kind,
            folder=_path(self.folder.text()),
            channels=ends if self._kind == "dye_pairs" else None,
            group=self.group.currentData() if grouped else None,
            pixel_um=self.pixel.value() or None,
            thresholds=None,
        )
        return True

    def _details(self) -> Any:
        self.details = QWidget()
        form = QFormLayout(self.details)
        form.setContentsMargins(0, 8, 0, 0)
        for name, combo in zip(CHANNELS, self.channels, strict=True):
            form.addRow(f"Names of {name} pictures end in", combo)
        form.addRow("Belong together", self.group)
        form.addRow("", self.groups)
        form.addRow("Pixel size on the sample", self.pixel)
        self._form = form
        self.details.hide()
        return self.details

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Pictures or record to learn from", self.folder.text())
        if chosen:
            self.folder.setText(chosen)

    def _look(self, text: str) -> None:
        folder, self._kind = _path(text), None
        self.details.hide()
        try:
            self._kind = kind_of(folder) if text.strip() else None
            self.found.setText("" if self._kind is None else f"Found: {_KINDS[self._kind]}.")
        except LivescopeError as error:
            self.found.setText(str(error))
        if self._kind is not None:
            self._show_details(folder)
        self._changed()

    def _show_details(self, folder: Path) -> None:
        dyes = self._kind == "dye_pairs"
        ends = channels_in(folder) if dyes else {}
        for combo, guess in zip(self.channels, channel_guess(ends), strict=True):
            combo.clear()
            combo.addItems(list(ends))
            combo.setCurrentText(guess or "")
            self._form.setRowVisible(combo, dyes)
        for widget in (self.group, self.groups):
            self._form.setRowVisible(widget, self._kind in ("dye_pairs", "masks"))
        self._form.setRowVisible(self.pixel, self._kind != "records")
        self.details.setVisible(True)

    def _changed(self) -> None:
        names = self._names()
        pattern = self.group.currentData()
        groups = {found.group(0) for name in names if (found := re.search(pattern, name))}
        short = "; at least 3 are needed, to learn, to adjust and to judge" if len(groups) < 3 else ""
        self.groups.setText(f"{len(names)} pictures in {len(groups)} groups{short}" if names else "")
        self.completeChanged.emit()

    def _names(self) -> list[str]:
        folder = _path(self.folder.text())
        if self._kind == "masks":
            return [path.stem for path in (folder / "images").glob("*.*")]
        end = self.channels[0].currentText()
        if self._kind != "dye_pairs" or not end:
            return []
        return [path.name.removesuffix(end) for path in folder.glob("*") if path.name.endswith(end)]


class TrainPage(QWizardPage):
    """Name, start and effort; then the training."""

    def __init__(self, wizard: TrainWizard, theme: Theme) -> None:
        super().__init__()
        self._of = wizard
        self.made: dict[str, Any] | None = None
        self.setTitle("Train")
        self.setSubTitle("In a process of its own: a run at the microscope goes on beside it.")
        self.name = QLineEdit()
        self.out = QLineEdit(str(wizard.request.out))
        self.start = QComboBox()
        self.effort = QComboBox()
        self.effort.addItem("quick: minutes", False)
        self.effort.addItem("thorough: three times as long", True)
        self.panel = TrainPanel(wizard.trainer, theme)
        form = QFormLayout()
        form.addRow("Name of the network", self.name)
        form.addRow("Folder", self.out)
        form.addRow("Go on from", self.start)
        form.addRow("Effort", self.effort)
        self.said = QLabel()
        self.said.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.said)
        layout.addWidget(self.panel, 1)
        self._add_starts(wizard.request.start)
        for edit in (self.name, self.out):
            edit.textChanged.connect(lambda _: self._take())
        self.start.currentIndexChanged.connect(lambda _: self._take())
        self.effort.currentIndexChanged.connect(lambda _: self._take())
        self.panel.start_asked.connect(self._train)
        wizard.trainer.made.connect(self._take_made)
        wizard.trainer.ended.connect(self._show_state)

    def initializePage(self) -> None:  # noqa: N802 - Qt's name
        """Propose a name."""
        request = self._of.request
        if not self.name.text():
            stem = request.folder.name.removesuffix(".zarr").removesuffix(".ome")
            self.name.setText(re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{stem}-network"))
        self._take()

    def isComplete(self) -> bool:  # noqa: N802 - Qt's name
        """Whether there is a network."""
        return self.made is not None

    def _add_starts(self, model: str | None) -> None:
        names = list(bundled_names())
        if model is not None and model not in names:
            self.start.addItem(f"{Path(model).stem} (in use)", model)
        for name in names:
            self.start.addItem(name + (" (in use)" if name == model else ""), name)
        self.start.addItem("nothing: from chance, for cells unlike all of these", None)
        self.start.setCurrentIndex(max(self.start.findData(model), 0))

    def _take(self) -> None:
        if self._of.trainer.running:
            return
        self.made = None
        self._of.change(
            name=self.name.text().strip(),
            out=_path(self.out.text()),
            start=self.start.currentData(),
            thorough=self.effort.currentData(),
        )
        self.said.setText("" if self._named else "A name of letters, digits, dots, dashes and underscores, please.")
        self.panel.show_idle(self._resumable)
        self._show_state()

    @property
    def _named(self) -> bool:
        return bool(re.fullmatch(r"[A-Za-z0-9_.-]+", self._of.request.name))

    @property
    def _resumable(self) -> bool:
        return self.made is None and self._of.request.resumable

    def _train(self) -> None:
        request = self._of.request
        try:
            config = write_config(request)
        except LivescopeError as error:
            self.said.setText(str(error))
            return
        self.said.setText(f"The same without a window:  livescope train {config}")
        self.panel.begin(config, self._resumable)
        self._show_state()

    def _take_made(self, made: dict[str, Any]) -> None:
        self.made = made

    def _show_state(self) -> None:
        running = self._of.trainer.running
        for widget in (self.name, self.out, self.start, self.effort):
            widget.setEnabled(not running)
        self.panel.run.setEnabled(running or self._named)
        if not running:
            self.panel.show_resumable(self._resumable)
        if self.made is not None:
            self.panel.stage.setText("Done. Next shows how good it is.")
        back = self._of.button(QWizard.WizardButton.BackButton)
        if back is not None:
            back.setEnabled(not running)
        self.completeChanged.emit()


class MadePage(QWizardPage):
    """Figures, sheet, and the button to use the network."""

    def __init__(self, wizard: TrainWizard, theme: Theme) -> None:
        super().__init__()
        self._of = wizard
        self.setTitle("How good it is")
        self.setSubTitle("Judged on pictures that the training never saw, group by group.")
        self.panel = MadePanel(theme)
        layout = QVBoxLayout(self)
        layout.addWidget(self.panel)
        self.panel.use_asked.connect(wizard.use_asked)

    def initializePage(self) -> None:  # noqa: N802 - Qt's name
        """Show the network."""
        made = self._of.train_page.made
        assert made is not None
        self.panel.show_made(made)

    def tell(self, text: str) -> None:
        """Say what came of using it."""
        self.panel.answer.setText(text)


def _path(text: str) -> Path:
    """Return what a user typed as a path; ``~`` is the home folder."""
    path = Path(text.strip())
    try:
        return path.expanduser()
    except RuntimeError:  # ~NAME of nobody here
        return path


def _pixel_box() -> Any:
    box = QDoubleSpinBox()
    box.setRange(0, 100)
    box.setDecimals(4)
    box.setSingleStep(0.05)
    box.setSuffix(" \u00b5m")
    box.setSpecialValueText("unknown")
    box.setAccessibleName("Pixel size in micrometres")
    return box
