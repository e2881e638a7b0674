"""A training on the screen: how far it is, its losses, cancel and go on; then its figures beside those before.

Owns two widgets. The process lies in `livescope.view.trainer`, the pages around it in `livescope.view.train_wizard`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QPixmap
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from livescope.view.readouts import span_text
from livescope.view.theme import Theme
from livescope.view.trainer import Trainer

__all__ = ["MadePanel", "TrainPanel"]

_FIGURES = {
    "f1": ("cells found, F1", True),
    "recall_live": ("live cells found", True),
    "recall_dead": ("dead cells found", True),
    "auc_dead": ("live told from dead, AUC", True),
    "balanced_accuracy": ("right calls, balanced", True),
    "uncertain": ("left uncertain", False),
    "ece": ("error of the probabilities", False),
}
"""Figures of a network: their words, and whether more is better."""
_FEW = 30
_SAME = 0.005
"""Smaller differences are the throw of a few cells."""


class TrainPanel(QWidget):
    """Progress of a training with its losses; `start_asked` comes from Start and from Go on."""

    start_asked = Signal()

    def __init__(self, trainer: Trainer, theme: Theme) -> None:
        super().__init__()
        self._trainer = trainer
        self._seconds: list[tuple[int, float]] = []
        self._losses: list[tuple[int, float, float]] = []
        self._stepping = False
        self._begun = False
        """Whether the job that runs is a training: the trainer draws labels too."""
        self.stage = QLabel("Nothing runs yet.")
        self.stage.setWordWrap(True)
        self.left = QLabel()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of the training")
        self.run = QPushButton("Start")
        self.plot = pg.PlotWidget(enableMenu=False)
        self._lay_out(theme)
        self.run.clicked.connect(self._run_or_cancel)
        trainer.told.connect(self._told)
        trainer.stepped.connect(self._stepped)
        trainer.failed.connect(self._failed)
        trainer.cancelled.connect(self._cancelled)
        trainer.ended.connect(self._ended)

    def begin(self, config: Path, resumed: bool) -> None:
        """Train, or go on with a training that was cut off."""
        if not resumed:
            self._losses = []
        self._seconds, self._stepping, self._begun = [], True, True
        self.stage.setText("starting")
        self.left.setText("")
        self.bar.setRange(0, 0)
        self._trainer.train(config)
        self._show_button()

    def show_idle(self, resumable: bool) -> None:
        """Say that nothing runs, and whether a training that was cut off can go on."""
        cut_off = "An earlier training of this name was cut off; it goes on where it was."
        self.stage.setText(cut_off if resumable else "Nothing runs yet.")

    def show_resumable(self, resumable: bool) -> None:
        """Name the button by whether a training that was cut off can go on."""
        self.run.setText("Go on" if resumable else "Start")

    def _lay_out(self, theme: Theme) -> None:
        self.plot.setBackground(theme.panel)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setLogMode(y=True)
        self.plot.setAccessibleName("Losses over the steps")
        self.plot.setLabel("bottom", "step")
        self.plot.setLabel("left", "loss")
        legend = self.plot.addLegend(offset=(-10, 5), labelTextColor=theme.text)
        legend.setParentItem(self.plot.getPlotItem())
        for name in ("left", "bottom"):
            self.plot.getAxis(name).setPen(theme.line)
            self.plot.getAxis(name).setTextPen(theme.muted)
        self._learnt = self.plot.plot(pen=pg.mkPen(theme.accent, width=1), name="pictures learnt from")
        dashed = pg.mkPen(theme.caution, width=1, style=Qt.PenStyle.DashLine)
        self._kept_out = self.plot.plot(pen=dashed, name="pictures kept out")
        head = QHBoxLayout()
        head.addWidget(self.bar, 1)
        head.addWidget(self.run)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(head)
        layout.addWidget(self.stage)
        layout.addWidget(self.left)
        layout.addWidget(self.plot, 1)

    def _run_or_cancel(self) -> None:
        if self._trainer.running:
            self._trainer.cancel()
        else:
            self.start_asked.emit()

    def _show_button(self) -> None:
        self.run.setText("Cancel" if self._trainer.running else "Start")
        if not self._trainer.running and self.bar.maximum() == 0:
            self.bar.setRange(0, 1)

    def _ended(self) -> None:
        self._begun = False
        self._show_button()

    def _told(self, what: str) -> None:
        if not self._begun:
            return
        self.stage.setText(what)
        if self._trainer.running and not self._stepping:
            self.bar.setRange(0, 0)  # export, calibration and validation have no steps to count

    def _stepped(self, step: int, steps: int, losses: dict[str, float]) -> None:
        self.bar.setRange(0, steps)
        self.bar.setValue(step)
        self._stepping = step < steps
        seconds = float(losses["seconds"])
        learnt = sum(v for k, v in losses.items() if k != "seconds" and not k.startswith("valid_"))
        kept_out = sum(v for k, v in losses.items() if k.startswith("valid_"))
        self._losses.append((step, learnt, kept_out))
        self._seconds.append((step, seconds))
        steps_done = [row[0] for row in self._losses]
        self._learnt.setData(steps_done, [row[1] for row in self._losses])
        self._kept_out.setData(steps_done, [row[2] for row in self._losses])
        (first, since), (last, until) = self._seconds[0], self._seconds[-1]
        pace = (until - since) / (last - first) if last > first else seconds / max(step, 1)
        remaining = f", about {span_text(pace * (steps - step))} left" if step < steps else ""
        self.stage.setText("training")
        self.left.setText(f"step {step} of {steps}{remaining}")

    def _failed(self, why: str) -> None:
        if self._begun:
            self.stage.setText(why)
            self.left.setText("")

    def _cancelled(self) -> None:
        if self._begun:
            self.stage.setText("Cancelled. What was learnt so far is kept: Go on takes it up again.")
            self.left.setText("")


class MadePanel(QWidget):
    """A finished network: figures before and after, its validation sheet, and a button to use it."""

    use_asked = Signal(str)
    """Path of the network."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._made: dict[str, Any] = {}
        self.verdict, self.note, self.answer = QLabel(), QLabel(), QLabel()
        self.rows: dict[str, tuple[str, str]] = {}
        """Figures as they are shown, before and after, by name."""
        self.use = QPushButton("Use this network")
        self.sheet = QPushButton("Open the validation sheet")
        self._table = QGridLayout()
        self._pictures = QVBoxLayout()
        for label in (self.verdict, self.note, self.answer):
            label.setWordWrap(True)
        self.verdict.setObjectName("count")
        self.note.setObjectName("name")
        body = QWidget()
        body.setLayout(self._pictures)
        scroll = QScrollArea()
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        buttons = QHBoxLayout()
        for button in (self.use, self.sheet):
            buttons.addWidget(button)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addLayout(self._table)
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        layout.addWidget(self.answer)
        layout.addWidget(scroll, 1)
        self.use.clicked.connect(lambda: self.use_asked.emit(self._made["model"]))
        self.sheet.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(self._made["sheet"])))

    def show_made(self, made: dict[str, Any]) -> None:
        """Show a network as `livescope.train.__main__` tells of it."""
        self._made = made
        before, after = made["before"], made["after"]
        self.rows = {}
        _empty(self._table)
        heads = ("on pictures kept out of the training", *(("before", "now") if before else ("",)))
        for column, text in enumerate(heads):
            head = QLabel(text)
            head.setObjectName("name")
            self._table.addWidget(head, 0, column)
        worse = []
        for row, (name, (words, more_is_better)) in enumerate(_FIGURES.items(), start=1):
            old, new = None if before is None else before[name], after[name]
            self.rows[name] = (_number(old), _number(new))
            value = QLabel(_number(new))
            if old is not None and new is not None and abs(new - old) > _SAME:
                better = (new > old) is more_is_better
                arrow, word = "\u25b2" if new > old else "\u25bc", "better" if better else "worse"
                value.setText(f"{_number(new)}   {arrow} {word}")
                value.setStyleSheet(f"color: {self._theme.good if better else self._theme.alarm}; font-weight: 600")
                worse += [] if better else [words]
            cells = (QLabel(words), *((QLabel(_number(old)),) if before else ()), value)
            for column, cell in enumerate(cells):
                self._table.addWidget(cell, row, column)
        self._table.setColumnStretch(len(heads), 1)
        self.verdict.setText(_verdict(before is not None, worse))
        self.note.setText(" ".join([_caution(after), *(f"{note}." for note in made["notes"])]))
        self.answer.setText(f"The network is {made['model']}")
        self.sheet.setEnabled(made["sheet"] is not None)
        self._show_pictures(made["sheet"])

    def _show_pictures(self, sheet: str | None) -> None:
        _empty(self._pictures)
        for path in [] if sheet is None else sorted(Path(sheet).parent.glob("*.png")):
            picture = QLabel()
            picture.setPixmap(QPixmap(str(path)))
            self._pictures.addWidget(picture)
        self._pictures.addStretch(1)


def _verdict(compared: bool, worse: list[str]) -> str:
    if not compared:
        return "The network is ready."
    if worse:
        return f"Worse than before in: {', '.join(worse)}. Look at the sheet before you use it."
    return "No figure is worse than before."


def _caution(after: dict[str, Any]) -> str:
    live, dead = after["n_live"], after["n_dead"]
    if after["f1"] is None:
        return "Nothing was kept for a test: no figure says how good it is. Score it: livescope evaluate."
    text = f"Judged on {live} live and {dead} dead cells that the training never saw."
    few = [name for name, count in (("live", live), ("dead", dead)) if count < _FEW]
    if few:
        text += f" Fewer than {_FEW} {' and '.join(few)} cells: these figures are rough; mark more pictures."
    return text


def _number(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _empty(layout: Any) -> None:
    while layout.count():
        widget = layout.takeAt(0).widget()
        if widget is not None:
            widget.deleteLater()
