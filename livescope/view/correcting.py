"""The correcting mode of a window: which click, box or key asks what of the corrector.

Owns the mode's actions. What a correction is lies in `livescope.view.correct` and `livescope.record.corrections`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QPointF, QRectF, Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QMenu

from livescope.calls import CellCalls, State
from livescope.errors import RecordError
from livescope.frames import Frame
from livescope.view.actions import Actions
from livescope.view.canvas import Canvas
from livescope.view.correct import CorrectedFeed, Corrector

__all__ = ["LOOK_RADII", "CorrectingMode"]

LOOK_RADII = 8.0
"""A cell to be looked at is shown with so many of its radii to each side."""

_HOW = "click flips, box for many, Shift+click adds, right click removes; wheel zooms, middle button pans"
_NOT_RECORDED = "this frame is not recorded, and corrections are stored with the record: press Record (R) first"
_NOT_YET = "the frame shown is from before the recording: try again once the next one is there"


_HIDDEN = "some cells are hidden, and one may be where a cell seems to be missed: show all of them first (H, L, D, U)"


class CorrectingMode(QObject):
    """Lets the user correct the calls that are drawn.

    Parameters
    ----------
    canvas, feed, actions
        Of the window.
    record_of, recording
        Say which record holds a frame, None if none does; whether frames that come now are recorded.
    tell, fail
        Show a line of text; show an error.
    write
        Runs what writes to the disk, in order, without making the window wait.
    """

    def __init__(
        self,
        canvas: Canvas,
        feed: CorrectedFeed,
        actions: Actions,
        record_of: Callable[[Frame], Path | None],
        recording: Callable[[], bool],
        tell: Callable[[str], None],
        fail: Callable[[str], None],
        write: Callable[[Callable[[], None]], object],
    ) -> None:
        super().__init__(canvas)
        self._canvas, self._feed, self._record_of, self._tell, self._fail = canvas, feed, record_of, tell, fail
        self._recording, self._write = recording, write
        self._looked: set[int] = set()
        self._looked_in: tuple[Path | None, int] = (None, 0)
        """Record and frame in which cells were looked at last."""
        add = actions.add
        self.on = add("Corrections", "Correct calls with the mouse", "K", self._switch, checked=False)
        add("Corrections", "Undo", "Ctrl+Z", self.undo)
        add("Corrections", "Redo", "Ctrl+Y", self.redo)
        add("Corrections", "Next uncertain cell", "N", self.next_uncertain)
        canvas.clicked.connect(self._clicked)
        canvas.boxed.connect(self._boxed)

    def undo(self) -> None:
        """Undo the last correction, also after its record has ended."""
        corrector = self._feed.corrector
        if corrector is None or not self._change(corrector, lambda c: c.undo()):
            self._tell("nothing to undo")

    def redo(self) -> None:
        """Redo what was undone."""
        corrector = self._feed.corrector
        if corrector is None or not self._change(corrector, lambda c: c.redo()):
            self._tell("nothing to redo")

    def next_uncertain(self) -> None:
        """Look at the cell of the drawn frame that is nearest to undecided and was not looked at yet."""
        calls = self._calls()
        if calls is None:
            return
        self._forget_other_runs(calls)
        order = np.argsort(np.abs(calls.p_dead - 0.5))
        said = {line.track for line in self._feed.standing if line.track >= 0}
        order = order[np.isin(order, self._canvas.calls.visible_rows())]
        left = [row for row in order.tolist() if self._key(calls, row) not in self._looked | said]
        if not left:
            self._looked.clear()
            self._tell("every cell that is shown was looked at; N begins again")
            return
        row = left[0]
        self._looked.add(self._key(calls, row))
        radius_px = max(float(np.median(calls.radii_px[row])), 4.0)
        self._canvas.look_at(float(calls.y_px[row]), float(calls.x_px[row]), LOOK_RADII * radius_px)
        self._tell(
            f"{State(int(calls.state[row])).label}, probability of dead {calls.p_dead[row]:.2f}; {len(left) - 1} left"
        )

    def _forget_other_runs(self, calls: CellCalls) -> None:
        """Tracks and frames of another run have the same numbers."""
        record, before = self._drawn_record(), self._looked_in
        if record != before[0] or (record is None and calls.frame_index < before[1]):
            self._looked.clear()
        self._looked_in = record, calls.frame_index

    def _switch(self, on: bool) -> None:
        if on and self._open(self._drawn_record()) is None:
            self.on.setChecked(False)
            return
        was_on, self._canvas.picking = self._canvas.picking, on
        self._canvas.setCursor(Qt.CursorShape.CrossCursor if on else Qt.CursorShape.ArrowCursor)
        if on or was_on:
            self._tell(_HOW if on else "")

    def open(self, record: Path) -> Corrector | None:
        """Let the corrections of a record hold, those of former sessions among them; None if its log is damaged."""
        before = self._feed.corrector
        try:
            corrector = self._feed.open(record, self._write)
        except RecordError as error:
            self._fail(str(error))
            return None
        if corrector is not before and corrector.count:
            self._tell(_told(corrector))
        return corrector

    def _open(self, record: Path | None) -> Corrector | None:
        """Open the record of the frame that is to be corrected; if there is none, say so."""
        if record is None:
            self._tell(_NOT_YET if self._recording() else _NOT_RECORDED)
            return None
        return self.open(record)

    def _drawn_record(self) -> Path | None:
        drawing, picture = self._canvas.calls.drawing, self._canvas.picture
        drawn = picture if drawing is None else drawing.analysis
        return None if drawn is None else self._record_of(drawn.frame)

    def _calls(self) -> CellCalls | None:
        drawing = self._canvas.calls.drawing
        return None if drawing is None else drawing.analysis.calls

    def _do(self, record: Path | None, act: Callable[[Corrector], object]) -> None:
        corrector = self._open(record)
        if corrector is not None:
            self._change(corrector, act)

    def _change(self, corrector: Corrector, act: Callable[[Corrector], object]) -> bool:
        """Change the corrections of a record and tell how many hold; False if none did change."""
        before = corrector.standing
        act(corrector)
        if corrector.standing is before:
            return False
        elsewhere = "" if corrector.record == self._drawn_record() else f" in {corrector.record.name}"
        self._tell(_told(corrector) + elsewhere)
        return True

    def _say(self, record: Path | None, act: Callable[[Corrector], object], _checked: bool = False) -> None:
        """Do what a menu entry says; Qt hands over whether it is checked."""
        self._do(record, act)

    def _clicked(self, place: QPointF, button: Any, modifiers: Any) -> None:
        calls = self._calls()
        if calls is None:
            return
        record, row = self._drawn_record(), self._canvas.cell_at(place)
        if row is not None and button == Qt.MouseButton.RightButton:
            self._do(record, lambda corrector: corrector.remove(calls, [row]))
        elif row is not None:
            self._do(record, lambda corrector: corrector.flip(calls, row))
        elif modifiers & Qt.KeyboardModifier.ShiftModifier and self._canvas.calls.shown != set(State):
            self._tell(_HIDDEN)
        elif modifiers & Qt.KeyboardModifier.ShiftModifier:
            point = self._canvas.place_px(place)
            self._do(record, lambda corrector: corrector.add_cell(calls, point.y(), point.x(), State.LIVE))

    def _boxed(self, box: QRectF) -> None:
        calls = self._calls()
        if calls is None:
            return
        seen = self._canvas.calls.visible_rows()
        y, x = calls.y_px[seen], calls.x_px[seen]
        inside = (x >= box.left()) & (x <= box.right()) & (y >= box.top()) & (y <= box.bottom())
        rows = seen[inside].tolist()
        if not rows:
            self._tell("no cell that is shown lies in the box")
            return
        menu = self.box_menu(calls, rows)
        menu.popup(QCursor.pos())

    def box_menu(self, calls: CellCalls, rows: list[int]) -> Any:
        """Return the menu of what can be said of several cells; it is said of the record that is drawn now."""
        record = self._drawn_record()
        menu = QMenu(self._canvas)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addSection(f"{len(rows)} cells are")

        def in_state(state: State) -> Callable[[Corrector], None]:
            return lambda corrector: corrector.set_state(calls, rows, state)

        for state in State:
            menu.addAction(state.label).triggered.connect(partial(self._say, record, in_state(state)))
        menu.addAction("not cells").triggered.connect(partial(self._say, record, lambda c: c.remove(calls, rows)))
        return menu

    @staticmethod
    def _key(calls: CellCalls, row: int) -> int:
        """Tell cells apart: by track, or by frame and row where cells are not followed."""
        track = int(calls.track[row])
        return track if track >= 0 else -1 - (calls.frame_index * 100_000 + row)


def _told(corrector: Corrector) -> str:
    return f"{corrector.count} correction{'' if corrector.count == 1 else 's'}"
