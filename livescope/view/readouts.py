"""The side of the window: what the cells say, and what the stream, the disk and the model do.

Owns numbers as text. Lost, refused and skipped frames stand apart: a lost frame never existed for the record, a skipped
one is stored but was not analysed or shown.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from livescope.calls import Analysis
from livescope.frames import Frame
from livescope.status import Status
from livescope.view.cells import ViabilityCard
from livescope.view.charts import ConfidenceChart, Curve, ViabilityChart
from livescope.view.theme import Theme

__all__ = ["SidePanel", "span_text"]

_RATES = (
    ("acquired", "Frames a second that the camera delivers"),
    ("analysed", "Frames a second whose cells are called"),
    ("shown", "Frames a second painted in this window"),
)
_FRAMES = (
    ("latency", "Latency, median / 95 %", "From the arrival of a frame to the end of its painting"),
    ("delivered", "Delivered / recorded", "Frames since the start of the run, and how many of them are on disk"),
    ("lost", "Lost by core / camera", "Never arrived: the ring overflowed, or the camera's clock jumped"),
    ("refused", "Refused by the recorder", "Arrived, but the disk could not keep up"),
    ("skipped", "Skipped analysis / display", "Stored like all others, but a newer frame came first"),
)
_SYSTEM = (
    ("model", "Model", "The network that calls the cells"),
    ("backend", "Runs on", "Backend, device and precision really in use"),
    ("calls", "Calls are of", "The newest analysed frame, and how far it is behind the newest frame"),
    (
        "cadence",
        "Cadence",
        "Which frames are called: every one, or the newest only while the detector is slower",
    ),
    ("deaths", "Deaths in this run", "Cells seen alive and declared dead since"),
    ("place", "Place", "Position of the newest frame, its channel, and the stage in micrometres"),
    ("queue", "Queue to the disk", "How full the recorder's queue is"),
    ("disk", "Disk free", "Space where the record is written, and how long it lasts at this rate, uncompressed"),
)
_LOW_DISK_BYTES = 5e9
_WARNINGS_SHOWN = 4


class SidePanel(QWidget):
    """Viability with its interval, counts, curve, confidence, frames, system."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("side")
        self.values: dict[str, QLabel] = {}
        """Labels of the figures by name, see `_RATES`, `_FRAMES`, `_SYSTEM`."""
        self.cells = ViabilityCard(theme)
        self.chart = ViabilityChart(theme)
        self.confidence = ConfidenceChart(theme)
        self._curve_title = QLabel()
        self.curve_of = QComboBox()
        """Which position's curve is shown; hidden as long as there are not several."""
        self.curve_of.setToolTip("The position whose viability is shown; all of them are thin lines without intervals")
        self.curve_of.setAccessibleName("Position of the curve")
        self.curve_of.addItem("all positions")
        self.curve_of.hide()
        self.curve_of.currentIndexChanged.connect(lambda _: self.show_curve(*self._curves))
        self._curves: tuple[Curve, dict[str, Curve]] = ([], {})
        self.curve_note = QLabel("As the model called the cells, without the corrections.")
        self.curve_note.setObjectName("note")
        self.curve_note.setWordWrap(True)
        self.curve_note.hide()
        self.warnings = QLabel()
        """What the user is to know, also after the banner was dismissed."""
        self.warnings.setObjectName("warnings")
        self.warnings.setWordWrap(True)
        self.warnings.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._warning_card = _card("WARNINGS", self.warnings)
        self._warning_card.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(_card("VIABILITY", self.cells))
        layout.addWidget(self._warning_card)
        layout.addWidget(_card(self._curve_title, self.curve_of, self.chart, self.curve_note))
        layout.addWidget(_card("CONFIDENCE", self.confidence))
        layout.addWidget(_card("FRAMES", self._rates(), self._rows(_FRAMES + _SYSTEM)))
        layout.addStretch(1)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours of what is painted by hand."""
        for part in (self.cells, self.chart, self.confidence):
            part.set_theme(theme)

    def show_cells(self, analysis: Analysis | None) -> None:
        """Show the cells of the newest analysed frame; None before the first."""
        self.cells.show_viability(None if analysis is None else analysis.viability)
        self.confidence.set_calls(None if analysis is None else analysis.calls)

    def show_curve(self, points: Curve, by_place: dict[str, Curve]) -> None:
        """Show (seconds since the start, viability) pairs, of each position where there are several."""
        self._curves = points, by_place
        for name in list(by_place)[self.curve_of.count() - 1 :]:
            self.curve_of.addItem(name)
        if len(by_place) < self.curve_of.count() - 1:  # a new run
            self.curve_of.clear()
            self.curve_of.addItems(["all positions", *by_place])
        self.curve_of.setVisible(len(by_place) > 1)
        chosen = by_place.get(self.curve_of.currentText()) if self.curve_of.currentIndex() > 0 else None
        if chosen is None and len(by_place) > 1:
            self.chart.set_curves(list(by_place.values()))
        else:
            self.chart.set_curve(points if chosen is None else chosen)
        self._curve_title.setText(f"VIABILITY (%) OVER TIME ({self.chart.unit})")

    def show_status(self, status: Status, analysis: Analysis | None, newest: Frame | None) -> None:
        """Show the stream and the system."""
        lost = status.lost
        latency = status.latency_ms
        backend = status.backend
        texts = {
            "acquired": f"{status.fps_acquired:.1f}",
            "analysed": f"{status.fps_analysed:.1f}",
            "shown": f"{status.fps_shown:.1f}",
            "latency": "\u2013" if latency is None else f"{latency[0]:.0f} / {latency[1]:.0f} ms",
            "delivered": f"{status.delivered:,} / {status.recorded:,}",
            "lost": f"{_count(lost.get('core'))} / {_count(lost.get('camera'))}",
            "refused": _count(lost.get("recorder")),
            "skipped": f"{_count(lost.get('analysis'))} / {_count(lost.get('display'))}",
            "model": status.model,
            "backend": "\u2013" if backend is None else f"{backend.backend}, {backend.device}, {backend.precision}",
            "calls": _calls_text(analysis, newest),
            "cadence": status.cadence or "\u2013",
            "deaths": _count(status.deaths),
            "place": _place_text(newest),
            "queue": f"{100 * status.queue_fill:.0f} %" if status.recording else "not recording",
            "disk": _disk_text(status, newest),
        }
        for key, text in texts.items():
            self.values[key].setText(text)
        self.warnings.setText("\n".join(status.warnings[-_WARNINGS_SHOWN:]))
        self._warning_card.setVisible(bool(status.warnings))
        self._raise("lost", "true" if lost.get("core") or lost.get("camera") else "")
        self._raise("refused", "true" if lost.get("recorder") else "")
        self._raise("queue", "caution" if status.queue_fill > 0.5 else "")
        low_disk = status.disk_free_bytes is not None and status.disk_free_bytes < _LOW_DISK_BYTES
        self._raise("disk", "caution" if low_disk else "")

    def _raise(self, key: str, level: str) -> None:
        label = self.values[key]
        if label.property("alarm") != level:
            label.setProperty("alarm", level)
            label.style().unpolish(label)
            label.style().polish(label)

    def _rates(self) -> Any:
        body = QWidget()
        row = QHBoxLayout(body)
        row.setContentsMargins(0, 0, 0, 4)
        for key, tip in _RATES:
            column = QVBoxLayout()
            column.setSpacing(0)
            value, name = QLabel("\u2013"), QLabel(f"{key} fps")
            value.setObjectName("rate")
            name.setObjectName("name")
            for label in (value, name):
                label.setToolTip(tip)
                column.addWidget(label)
            self.values[key] = value
            row.addLayout(column, 1)
        return body

    def _rows(self, rows: tuple[tuple[str, str, str], ...]) -> Any:
        body = QWidget()
        grid = QGridLayout(body)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (key, text, tip) in enumerate(rows):
            name, value = QLabel(text), QLabel("\u2013")
            name.setObjectName("name")
            value.setObjectName("value")
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for label in (name, value):
                label.setToolTip(tip)
            value.setWordWrap(True)  # a long text must not widen the panel
            self.values[key] = value
            grid.addWidget(name, row, 0)
            grid.addWidget(value, row, 1)
        return body


def _card(title: str | QLabel, *bodies: QWidget) -> Any:
    card = QFrame()
    card.setObjectName("card")
    layout = QVBoxLayout(card)
    layout.setContentsMargins(12, 6, 12, 7)
    layout.setSpacing(3)
    head = QLabel(title) if isinstance(title, str) else title
    head.setObjectName("title")
    layout.addWidget(head)
    for body in bodies:
        layout.addWidget(body)
    return card


def _count(number: int | None) -> str:
    return "\u2013" if number is None else f"{number:,}"


def _calls_text(analysis: Analysis | None, newest: Frame | None) -> str:
    if analysis is None:
        return "\u2013"
    index = analysis.frame.index
    behind = 0 if newest is None else newest.index - index
    text = f"frame {index}" + (f", {behind} behind" if behind > 0 else "")
    return text + (", table full" if analysis.calls.saturated else "")


def _place_text(newest: Frame | None) -> str:
    if newest is None:
        return "\u2013"
    stage = {"x": newest.x_um, "y": newest.y_um, "z": newest.z_um}
    # + 0.0: no "-0.0" where a stage stands a hair beside its origin
    where = "  ".join(f"{axis}\u00a0{round(value, 1) + 0.0:.1f}" for axis, value in stage.items() if value is not None)
    where += "\u00a0\u00b5m" if where else ""
    return ", ".join(part for part in (newest.position, newest.channel, where) if part) or "\u2013"


def _disk_text(status: Status, newest: Frame | None) -> str:
    if status.disk_free_bytes is None:
        return "\u2013"
    text = f"{status.disk_free_bytes / 1e9:,.0f} GB"
    bytes_per_s = 0.0 if newest is None else newest.pixels.nbytes * status.fps_acquired
    if bytes_per_s > 0:
        text += f", {span_text(status.disk_free_bytes / bytes_per_s)} or more"
    return text


def span_text(seconds: float) -> str:
    """Say a span of time in its natural unit.

    >>> span_text(50), span_text(3000), span_text(40_000), span_text(400_000)
    ('50 s', '50 min', '11 h', '4.6 days')
    """
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
