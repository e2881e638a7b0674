"""The window on a recorded run: a time slider and a play button around the same picture and read-outs.

Owns the bar of the player. What is played lies in `livescope.view.player`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livescope.view.display import choose_binding, require_display

require_display()
choose_binding()

from platformdirs import user_config_path  # noqa: E402
from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSlider, QWidget  # noqa: E402

from livescope.calls import Viability  # noqa: E402
from livescope.places import Place  # noqa: E402
from livescope.record.corrections import LOG  # noqa: E402
from livescope.settings import ViewSettings  # noqa: E402
from livescope.view.controls import draw_icon  # noqa: E402
from livescope.view.correcting import LOOK_RADII  # noqa: E402
from livescope.view.doubts import Doubt, doubts_of  # noqa: E402
from livescope.view.folding import FoldingRow  # noqa: E402
from livescope.view.frame_window import FrameWindow  # noqa: E402
from livescope.view.garbage import collected_here  # noqa: E402
from livescope.view.player import RecordPlayer  # noqa: E402
from livescope.view.theme import THEMES, Theme  # noqa: E402

__all__ = ["RecordWindow", "show_record", "view_record"]

_SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)


class RecordWindow(FrameWindow):
    """A window on a played record. Closing it ends the player.

    Parameters
    ----------
    player
        The run.
    view
        How it is shown.
    memory
        File in which the layout is remembered; None remembers nothing.
    """

    control_groups = ("Playback",)

    def __init__(self, player: RecordPlayer, view: ViewSettings, memory: Path | None = None) -> None:
        self.player = player
        self._doubts: list[Doubt] | None = None
        self._doubt, self._doubt_wanted = 0, False
        super().__init__(player, view, memory, player.path.parent)
        self.setWindowTitle(f"{player.path.name} \u2013 livescope")
        self.place.setText(f"record  {player.path}")
        if (player.path / LOG).exists():
            self.correcting.open(player.path)

    def make_bar(self) -> Any:
        """Make the bar with play, slider and speed."""
        player, add = self.player, self.commands.add
        add("Playback", "Play or pause", "Space", lambda: player.play(not player.playing))
        for text, keys, step in (("Next frame", "Right", 1), ("Frame before", "Left", -1)):
            add("Playback", text, keys, lambda step=step: self._step(step))
        for text, keys, step in (("100 frames on", "Shift+Right", 100), ("100 frames back", "Shift+Left", -100)):
            add("Playback", text, keys, lambda step=step: self._step(step))
        add("Playback", "First frame", "Home", lambda: player.seek(0))
        add("Playback", "Last frame", "End", lambda: player.seek(player.count - 1))
        add("Corrections", "Next uncertain cell of the whole run", "Shift+N", self.next_doubt)
        return PlayerBar(player, THEMES[self.theme_name], self.view_buttons(), self.commands.menu_button())

    def refresh(self) -> None:
        """Show where the player is."""
        super().refresh()
        self.bar.show_place()
        self.side.chart.set_now(self.player.elapsed_s)
        if self._doubt_wanted and self._doubts is not None:
            self._doubt_wanted = False
            self._show_doubt(self._doubts)

    def next_doubt(self) -> None:
        """Go to the cell of the whole run that is nearest to undecided and was not looked at yet."""
        if not self._doubt_wanted:
            self._doubt_wanted = True
            if self._doubts is None:
                self.in_background("looking for the most uncertain cells", self._find_doubts)

    def _find_doubts(self) -> str:
        self._doubts = doubts_of(self.player.path)
        return f"{len(self._doubts)} cells to look at"

    def _show_doubt(self, doubts: list[Doubt]) -> None:
        if self._doubt >= len(doubts):
            self.tell("every uncertain cell of the run was looked at; Shift+N begins again")
            self._doubts, self._doubt = None, 0
            return
        doubt = doubts[self._doubt]
        self._doubt += 1
        self.player.play(False)
        self.player.seek(doubt.number)
        self.canvas.look_at(doubt.y_px, doubt.x_px, LOOK_RADII * max(doubt.radius_px, 4.0))
        self.tell(f"{self._doubt} of {len(doubts)}: probability of dead {doubt.p_dead:.2f}")

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        """(seconds, viability) pairs for each named position."""
        return self.player.curves_by_place()

    def places(self) -> tuple[tuple[Place, ...], str | None]:
        """Return the places of the run as seen up to this frame."""
        return self.player.places()

    def go_to(self, place: Place) -> str:
        """Show the frame of a place that is nearest in the run."""
        self.player.go_to(place)
        return ""

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """End the player as well."""
        super().closeEvent(event)
        self.player.close()

    def _step(self, frames: int) -> None:
        self.player.play(False)
        self.player.seek(self.player.number + frames)


class PlayerBar(QWidget):
    """Play button, slider, time, speed."""

    def __init__(self, player: RecordPlayer, theme: Theme, view_buttons: list[Any], menu: Any) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._player = player
        self._theme = theme
        self._playing: bool | None = None
        self.play = QPushButton("Play")
        self.play.setMinimumWidth(88)
        self.play.setToolTip("Play or pause (Space)")
        self.play.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Frame of the run")
        self.slider.setMinimumWidth(120)
        self.slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.time = QLabel()
        self.speed = QComboBox()
        self.speed.setToolTip("Speed")
        self.speed.setAccessibleName("Speed")
        for speed in _SPEEDS:
            self.speed.addItem(f"{speed:g} \u00d7", speed)
        self.speed.setCurrentIndex(_SPEEDS.index(1.0))
        self.speed.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 8, 14, 8)
        layout.setSpacing(8)
        layout.addWidget(self.play)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.time)
        for widget in (self.speed, FoldingRow(view_buttons, layout.spacing()), menu):
            layout.addWidget(widget)
        self.play.clicked.connect(lambda: player.play(not player.playing))
        self.slider.valueChanged.connect(player.seek)
        self.speed.currentIndexChanged.connect(lambda _: player.set_speed(float(self.speed.currentData())))
        self.show_place()

    def set_theme(self, theme: Theme) -> None:
        """Change the colour of the icon."""
        self._theme = theme
        self._playing = None
        self.show_place()

    def show_place(self) -> None:
        """Show where the player is, unless the user holds the slider."""
        player = self._player
        self.slider.blockSignals(True)
        self.slider.setRange(0, player.count - 1)
        if not self.slider.isSliderDown():
            self.slider.setValue(player.number)
        self.slider.blockSignals(False)
        self.time.setText(f"{player.number + 1} / {player.count}   {_clock(player.elapsed_s)}")
        widest = f"{player.count} / {player.count}   {_clock(max(player.duration_s, 3600))}"
        # a label asks for a pixel or two more than its letters advance
        self.time.setMinimumWidth(self.time.fontMetrics().horizontalAdvance(widest) + 2)
        if player.playing is not self._playing:
            self._playing = player.playing
            self.play.setText("Pause" if player.playing else "Play")
            self.play.setIcon(draw_icon("pause" if player.playing else "start", self._theme.text))


def _clock(seconds: float) -> str:
    """Say a time as h:mm:ss.s.

    >>> _clock(3725.25)
    '1:02:05.2'
    """
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{seconds % 60:04.1f}"


def view_record(path: Path) -> int:
    """Open the window on a recorded run, finished or still going on, and return when it is closed.

    Raises
    ------
    RecordError
        It is no record, or it holds no frame.
    DisplayError
        There is no display, or Qt is not installed.
    """
    from livescope.view.window import application

    application()
    return show_record(RecordPlayer(path))


def show_record(player: RecordPlayer) -> int:
    """Show a recorded run, and what is opened in its place; wants a QApplication. Returns the exit code."""
    from livescope.session import Session
    from livescope.view.window import run_window, show

    with collected_here():
        window = RecordWindow(player, ViewSettings(), user_config_path("livescope") / "window.ini")
        code = run_window(window)
        if window.opening.wanted is None:
            return code
        with Session(window.opening.wanted) as session:
            return show(session)
