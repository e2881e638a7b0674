"""The wizard's page of labels: pictures with what they would teach, and the dye's thresholds to move.

Owns that page. The pictures are drawn by `livescope.train.proposal` in the training process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
    QWizardPage,
)

from livescope.errors import LivescopeError
from livescope.view.train_request import write_config

if TYPE_CHECKING:
    from livescope.view.train_wizard import TrainWizard

__all__ = ["LabelPage"]

_LINES = {
    "dead_field": "Dead: brighter than the picture's middle, times",
    "dead_ring": "and than its own surroundings, times",
    "live_field": "Live: below the picture's middle, times",
    "live_ring": "and below its own surroundings, times",
}
_LEAST_GROUPS = 3


class LabelPage(QWizardPage):
    """Labels as they would be trained on."""

    def __init__(self, wizard: TrainWizard) -> None:
        super().__init__()
        self._of = wizard
        self._proposed: dict[str, Any] | None = None
        self._suggested: dict[str, float] = {}
        """Thresholds as they were proposed."""
        self._number = 0
        self.setTitle("What the pictures will teach")
        self.setSubTitle("Live: solid blue. Dead: dashed orange. Dotted pink: a cell whose state nobody knows.")
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.setTextFormat(Qt.TextFormat.PlainText)  # names of files may look like markup
        self.picture = ScaledPicture()
        self.histogram = ScaledPicture()
        self.before, self.next, self.again = QPushButton("\u25c0"), QPushButton("\u25b6"), QPushButton("Show again")
        self.which = QLabel()
        self.lines: dict[str, Any] = {}
        self._lay_out()
        self.before.clicked.connect(lambda: self._turn(-1))
        self.next.clicked.connect(lambda: self._turn(1))
        self.again.clicked.connect(self._propose)
        wizard.trainer.told.connect(self._told)
        wizard.trainer.proposed.connect(self._show)
        wizard.trainer.failed.connect(self._failed)
        wizard.trainer.ended.connect(self.completeChanged)

    def initializePage(self) -> None:  # noqa: N802 - Qt's name
        """Ask for the pictures."""
        for box in self.lines.values():
            box.setValue(0.0)
        self._suggested = {}
        self.picture.set_path("")
        self.histogram.set_path("")
        self.dyes.hide()
        self._propose()

    def cleanupPage(self) -> None:  # noqa: N802 - Qt's name
        """Stop drawing pictures that nobody waits for."""
        self._of.trainer.cancel()

    def isComplete(self) -> bool:  # noqa: N802 - Qt's name
        """Whether there is enough to learn from, as it is shown."""
        found = self._proposed
        enough = found is not None and found["groups"] >= _LEAST_GROUPS and found["live"] + found["dead"] > 0
        return enough and not self._of.trainer.running

    def _lay_out(self) -> None:
        self.dyes = QWidget()
        form = QFormLayout()
        for name, words in _LINES.items():
            box = QDoubleSpinBox()
            box.setRange(0, 1000)
            box.setDecimals(3)
            box.setSingleStep(0.05)
            box.setSpecialValueText("proposed")
            form.addRow(words, box)
            box.valueChanged.connect(lambda _: self._moved())
            self.lines[name] = box
        side = QVBoxLayout(self.dyes)
        side.setContentsMargins(0, 0, 0, 0)
        side.addLayout(form)
        side.addWidget(self.again)
        side.addWidget(self.histogram, 1)
        self.dyes.setMaximumWidth(420)
        turn = QHBoxLayout()
        turn.addWidget(self.before)
        turn.addWidget(self.which)
        turn.addWidget(self.next)
        turn.addStretch(1)
        left = QVBoxLayout()
        left.addWidget(self.picture, 1)
        left.addLayout(turn)
        both = QHBoxLayout()
        both.addLayout(left, 1)
        both.addWidget(self.dyes)
        layout = QVBoxLayout(self)
        layout.addWidget(self.counts)
        layout.addLayout(both, 1)

    def _propose(self) -> None:
        values = {name: box.value() for name, box in self.lines.items()}
        own = any(values.values()) and bool(self._suggested)
        lines = {name: value or self._suggested[name] for name, value in values.items()} if own else None
        self._of.change(thresholds=lines)
        self._proposed = None
        try:
            request = self._of.request
            config = write_config(request)
        except LivescopeError as error:
            self._failed(str(error))
            return
        self._of.trainer.propose(config, request.labels, request.gather)
        self.counts.setText("reading pictures\u2026")
        self.completeChanged.emit()

    def _moved(self) -> None:
        """Thresholds that were moved are not those that are shown."""
        if self._proposed is not None and self._proposed["thresholds"] is not None:
            shown = self._proposed["thresholds"]
            if any(abs(box.value() - shown[name]) > 1e-6 for name, box in self.lines.items()):
                self._proposed = None
                self.counts.setText("The thresholds were moved: Show again draws what they make of the pictures.")
                self.completeChanged.emit()

    def _told(self, what: str) -> None:
        if self._proposed is None and self._of.currentPage() is self:
            self.counts.setText(f"{what}\u2026")

    def _failed(self, why: str) -> None:
        if self._of.currentPage() is self:
            self.counts.setText(why)
            self.completeChanged.emit()

    def _show(self, found: dict[str, Any]) -> None:
        self._number = min(self._number, len(found["pictures"]) - 1)
        self._proposed = None  # while the boxes are filled they do not speak of it
        self.dyes.setVisible(found["thresholds"] is not None)
        if found["thresholds"] is not None:
            for name, box in self.lines.items():
                box.setValue(found["thresholds"][name])
            if self._of.request.thresholds is None:
                self._suggested = found["thresholds"]
            self.histogram.set_path(found["histogram"])
        self._proposed = found
        unknown = f", {found['unknown']} of unknown state" if found["unknown"] else ""
        text = (
            f"{found['fields']} pictures in {found['groups']} groups: {found['live']} live cells, {found['dead']} "
            f"dead{unknown}."
        )
        if found["groups"] < _LEAST_GROUPS:
            text += f" At least {_LEAST_GROUPS} groups are needed: to learn, to adjust and to judge."
        elif not found["live"] or not found["dead"]:
            text += " Only one state is marked: such a network cannot tell live from dead."
        self.counts.setText("\n".join([text, *(f"Mind: {note}" for note in found["notes"])]))
        self._turn(0)

    def _turn(self, by: int) -> None:
        if self._proposed is None:
            return
        pictures = self._proposed["pictures"]
        self._number = (self._number + by) % len(pictures)
        self.which.setText(f"{self._number + 1} of {len(pictures)} shown")
        self.picture.set_path(pictures[self._number])


class ScaledPicture(QLabel):
    """A picture as large as there is room, in its own shape."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = QPixmap()
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setMinimumSize(200, 150)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)

    def set_path(self, path: str) -> None:
        """Show a picture file; an empty path shows nothing."""
        self._whole = QPixmap(path) if path else QPixmap()
        self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Fit the picture anew."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._whole.isNull():
            self.setPixmap(QPixmap())
            return
        smooth = Qt.TransformationMode.SmoothTransformation
        ratio = self.devicePixelRatioF()
        scaled = self._whole.scaled(self.size() * ratio, Qt.AspectRatioMode.KeepAspectRatio, smooth)
        scaled.setDevicePixelRatio(ratio)
        self.setPixmap(scaled)
