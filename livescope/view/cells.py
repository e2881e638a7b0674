"""What the cells say at this instant: viability with its interval, and counts that are also switches of the classes.

Owns the viability card. Curves and bars are in `livescope.view.charts`.
"""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from livescope.calls import State, Viability
from livescope.view.charts import IntervalBar
from livescope.view.overlay import StateGlyph
from livescope.view.theme import Theme

__all__ = ["ViabilityCard"]


class ViabilityCard(QWidget):
    """Viability, its interval, and a switch with a count for each state."""

    state_toggled = Signal(object, bool)
    """A `State` and whether its cells are to be seen."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._bar = IntervalBar(theme)
        self._big, self._interval, self.corrected = QLabel("\u2013"), QLabel(), QLabel()
        self.counts: dict[State, _Count] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._big.setObjectName("big")
        self._big.setAccessibleName("Viability")
        for note in (self._interval, self.corrected):
            note.setObjectName("note")
            note.setWordWrap(True)
        for widget in (self._big, self._bar, self._interval, self.corrected):
            layout.addWidget(widget)
        row = QHBoxLayout()
        row.setContentsMargins(0, 4, 0, 0)
        row.setSpacing(6)
        for state in State:
            self.counts[state] = _Count(state, theme)
            self.counts[state].toggled.connect(lambda on, state=state: self.state_toggled.emit(state, on))
            row.addWidget(self.counts[state], 1)
        layout.addLayout(row)
        self.show_viability(None)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours of what is painted by hand."""
        self._bar.set_theme(theme)
        for count in self.counts.values():
            count.set_theme(theme)

    def show_viability(self, viability: Viability | None) -> None:
        """Show the newest viability, counts and interval; None before the first analysed frame."""
        self._bar.set_viability(viability)
        counts = (None,) * 3 if viability is None else (viability.n_live, viability.n_dead, viability.n_uncertain)
        for state, count in zip(State, counts, strict=True):
            self.counts[state].show_count(count)
        if viability is None or not math.isfinite(viability.fraction):
            self._big.setText("\u2013")
            self._interval.setText("no frame analysed yet" if viability is None else "no cell called live or dead")
            self.corrected.hide()
            return
        n = viability.n_live + viability.n_dead
        self._big.setText(f"{100 * viability.fraction:.1f} %")
        self._interval.setText(f"95 % interval {100 * viability.low:.1f} \u2013 {100 * viability.high:.1f} %   n = {n}")
        self.corrected.setVisible(viability.corrected is not None)
        self.corrected.setText(_corrected_text(viability))


class _Count(QToolButton):
    """Marker, count and name of a state; unchecked hides its cells on the picture."""

    def __init__(self, state: State, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("state")
        self.setCheckable(True)
        self.setChecked(True)
        self.setToolTip(f"Show or hide cells called {state.label} ({state.label[0].upper()})")
        self.setAccessibleName(f"Cells called {state.label}")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(46)
        self._state = state
        self._glyph = StateGlyph(state, theme.states[state])
        self._number, name = QLabel("\u2013"), QLabel(state.label)
        self._number.setObjectName("count")
        name.setObjectName("name")
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 4, 4, 4)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(0)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self._glyph, 0, 0)
        grid.addWidget(self._number, 0, 1)
        grid.addWidget(name, 1, 0, 1, 2)
        for child in (self._glyph, self._number, name):
            child.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.set_theme(theme)

    @property
    def number(self) -> str:
        """The count as it is shown."""
        return str(self._number.text())

    def show_count(self, count: int | None) -> None:
        """Show a count; None shows a dash."""
        self._number.setText("\u2013" if count is None else f"{count:,}")

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        self._number.setStyleSheet(f"color: {theme.states[self._state]}")
        self._glyph.colour = theme.states[self._state]
        self._glyph.update()


def _corrected_text(viability: Viability) -> str:
    if viability.corrected is None:
        return ""
    text: Any = f"corrected for model errors {100 * viability.corrected:.1f} %"
    if viability.corrected_low is not None and viability.corrected_high is not None:
        text += f" ({100 * viability.corrected_low:.1f} \u2013 {100 * viability.corrected_high:.1f})"
    return str(text)
