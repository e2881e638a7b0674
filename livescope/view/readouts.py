"""The side of the window: what the cells say, and what the stream, the disk and the model do.

Owns numbers as text. Lost, refused and skipped frames stand apart: a lost frame never existed for the record, a skipped
one is stored but was not analysed or shown.
"""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from livescope.calls import Analysis, State, Viability
from livescope.status import Status
from livescope.view.charts import IntervalBar, ViabilityChart
from livescope.view.overlay import StateGlyph
from livescope.view.theme import Theme

__all__ = ["SidePanel"]

_ROWS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "FRAMES": (
        ("acquired", "Acquired", "Frames a second that the camera delivers"),
        ("analysed", "Analysed", "Frames a second whose cells are called"),
        ("shown", "Shown", "Frames a second painted in this window"),
        ("latency", "Latency, median / 95 %", "From the arrival of a frame to the end of its painting"),
        ("delivered", "Delivered", "Frames delivered since the start of the run"),
        ("recorded", "Recorded", "Frames truly on disk"),
        ("lost", "Lost by core / camera", "Never arrived: the ring overflowed, or the camera's clock jumped"),
        ("refused", "Refused by the recorder", "Arrived, but the disk could not keep up"),
        ("skipped", "Skipped analysis / display", "Stored like all others, but a newer frame came first"),
    ),
    "SYSTEM": (
        ("model", "Model", "The network that calls the cells"),
        ("backend", "Runs on", "Backend, device and precision really in use"),
        ("calls", "Calls are of", "The newest analysed frame, and how old it is"),
        ("queue", "Queue to the disk", "How full the recorder's queue is"),
        ("disk", "Disk free", "Space left where the record is written"),
    ),
}


class SidePanel(QWidget):
    """Viability with its interval, counts, curve, frames, system."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("side")
        self._theme = theme
        self.values: dict[str, QLabel] = {}
        """Labels of the figures by name, see `_ROWS`."""
        self._counts: dict[State, QLabel] = {}
        self._glyphs: dict[State, StateGlyph] = {}
        self.chart = ViabilityChart(theme)
        self._bar = IntervalBar(theme)
        self._big, self._interval, self._corrected = QLabel("\u2013"), QLabel(), QLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(self._viability_card())
        self._curve_title = QLabel()
        layout.addWidget(_card(self._curve_title, self.chart))
        for title in _ROWS:
            layout.addWidget(self._rows_card(title))
        layout.addStretch(1)
        self.show_viability(None)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours of what is painted by hand."""
        self._theme = theme
        self.chart.set_theme(theme)
        self._bar.set_theme(theme)
        for state, label in self._counts.items():
            label.setStyleSheet(f"color: {theme.states[state]}")
            self._glyphs[state].colour = theme.states[state]
            self._glyphs[state].update()

    def show_viability(self, viability: Viability | None) -> None:
        """Show the newest viability, counts and interval; None before the first analysed frame."""
        n = 0 if viability is None else viability.n_live + viability.n_dead
        told = viability is not None and n > 0 and math.isfinite(viability.fraction)
        self._bar.set_viability(viability)
        counts = (None,) * 3 if viability is None else (viability.n_live, viability.n_dead, viability.n_uncertain)
        for state, count in zip(State, counts, strict=True):
            self._counts[state].setText("\u2013" if count is None else str(count))
        if viability is None or not told:
            self._big.setText("\u2013")
            self._interval.setText("no frame analysed yet" if viability is None else "no cell called live or dead")
            self._corrected.hide()
            return
        self._big.setText(f"{100 * viability.fraction:.1f} %")
        self._interval.setText(f"95 % interval {100 * viability.low:.1f} \u2013 {100 * viability.high:.1f} %   n = {n}")
        self._corrected.setVisible(viability.corrected is not None)
        if viability.corrected is not None and viability.corrected_low is not None:
            high = viability.corrected_high or math.nan
            self._corrected.setText(
                f"corrected for model errors {100 * viability.corrected:.1f} % "
                f"({100 * viability.corrected_low:.1f} \u2013 {100 * high:.1f})"
            )

    def show_curve(self, points: list[tuple[float, Viability]]) -> None:
        """Show (seconds since the start, viability) pairs."""
        self.chart.set_curve(points)
        self._curve_title.setText(f"VIABILITY OVER TIME ({self.chart.unit})")

    def show_status(self, status: Status, analysis: Analysis | None, newest_index: int | None) -> None:
        """Show the stream and the system."""
        lost = status.lost
        latency = status.latency_ms
        backend = status.backend
        texts = {
            "acquired": f"{status.fps_acquired:.1f} fps",
            "analysed": f"{status.fps_analysed:.1f} fps",
            "shown": f"{status.fps_shown:.1f} fps",
            "latency": "\u2013" if latency is None else f"{latency[0]:.0f} / {latency[1]:.0f} ms",
            "delivered": f"{status.delivered:,}",
            "recorded": f"{status.recorded:,}",
            "lost": f"{lost['core']:,} / {lost['camera']:,}",
            "refused": f"{lost['recorder']:,}",
            "skipped": f"{lost['analysis']:,} / {lost['display']:,}",
            "model": status.model,
            "backend": "\u2013" if backend is None else f"{backend.backend}, {backend.device}, {backend.precision}",
            "calls": _calls_text(analysis, newest_index),
            "queue": f"{status.queue_fill:.0%}" if status.recording else "not recording",
            "disk": "\u2013" if status.disk_free_bytes is None else f"{status.disk_free_bytes / 1e9:,.0f} GB",
        }
        for key, text in texts.items():
            self.values[key].setText(text)
        self._raise("lost", "true" if lost["core"] or lost["camera"] else "")
        self._raise("refused", "true" if lost["recorder"] else "")
        self._raise("queue", "caution" if status.queue_fill > 0.5 else "")
        low_disk = status.disk_free_bytes is not None and status.disk_free_bytes < 5e9
        self._raise("disk", "caution" if low_disk else "")

    def _raise(self, key: str, level: str) -> None:
        label = self.values[key]
        if label.property("alarm") != level:
            label.setProperty("alarm", level)
            label.style().unpolish(label)
            label.style().polish(label)

    def _viability_card(self) -> Any:
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._big.setObjectName("big")
        self._big.setAccessibleName("Viability")
        for note in (self._interval, self._corrected):
            note.setObjectName("note")
            note.setWordWrap(True)
        for widget in (self._big, self._bar, self._interval, self._corrected):
            layout.addWidget(widget)
        counts = QHBoxLayout()
        counts.setContentsMargins(0, 6, 0, 0)
        for state in State:
            counts.addLayout(self._count(state))
            counts.addStretch(1)
        layout.addLayout(counts)
        return _card("VIABILITY", body)

    def _count(self, state: State) -> Any:
        grid = QGridLayout()
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(0)
        self._glyphs[state] = StateGlyph(state, self._theme.states[state])
        number, name = QLabel("\u2013"), QLabel(state.label)
        number.setObjectName("count")
        number.setStyleSheet(f"color: {self._theme.states[state]}")
        number.setAccessibleName(f"Cells called {state.label}")
        name.setObjectName("name")
        self._counts[state] = number
        grid.addWidget(self._glyphs[state], 0, 0)
        grid.addWidget(number, 0, 1)
        grid.addWidget(name, 1, 1)
        return grid

    def _rows_card(self, title: str) -> Any:
        body = QWidget()
        grid = QGridLayout(body)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (key, text, tip) in enumerate(_ROWS[title]):
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
        return _card(title, body)


def _card(title: str | QLabel, body: QWidget) -> Any:
    card = QFrame()
    card.setObjectName("card")
    layout = QVBoxLayout(card)
    layout.setContentsMargins(12, 7, 12, 8)
    layout.setSpacing(4)
    head = QLabel(title) if isinstance(title, str) else title
    head.setObjectName("title")
    layout.addWidget(head)
    layout.addWidget(body)
    return card


def _calls_text(analysis: Analysis | None, newest_index: int | None) -> str:
    if analysis is None:
        return "\u2013"
    index = analysis.frame.index
    behind = 0 if newest_index is None else newest_index - index
    text = f"frame {index}" + (f", {behind} behind" if behind > 0 else "")
    return text + (", table full" if analysis.calls.saturated else "")
