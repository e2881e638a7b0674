"""The dock of planned runs: positions, tiles, times and channels in pymmcore-widgets' own editor, run by the session.

Owns the buttons and the file of the plan. What the editor cannot do here: it neither runs a plan on the core by itself
nor saves images; both are the session's. It plans no z stack, which no run takes.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pymmcore_plus import CMMCorePlus
from pymmcore_widgets import MDAWidget
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from livescope.status import SessionState, Status

if TYPE_CHECKING:
    from livescope.session import Session
    from livescope.view.widget_core import WidgetCore

__all__ = ["PlanWidget"]


class PlanWidget(MDAWidget):
    """Edit a plan and run it.

    Parameters
    ----------
    core
        Where the stage is, and which channels there are.
    session
        Runs the plan.
    """

    def __init__(self, core: WidgetCore, session: Session) -> None:
        super().__init__(mmcore=cast(CMMCorePlus, core))
        self._session = session
        self._paused = False
        self.save_info.hide()
        self.control_btns.hide()
        self.tab_wdg.setTabVisible(self.tab_wdg.indexOf(self.z_plan), False)
        self.run = _button(
            "Run the plan", "End what runs, and take the positions, tiles, times and channels as planned"
        )
        self.pause = _button("Pause", "Begin no other event until Go on")
        self.cancel = _button("Cancel", "Finish the event in work and end the run")
        self.run.clicked.connect(self.run_mda)
        self.pause.clicked.connect(self._pause_or_resume)
        self.cancel.clicked.connect(lambda: session.stop())
        row = QHBoxLayout()
        for button in (self.run, self.pause, self.cancel):
            row.addWidget(button)
        self.layout().addLayout(row)
        self.show_status(session.status())

    def run_mda(self) -> None:
        """Write the plan beside the records, and start a run that follows it."""
        settings, plan = self._session.settings, self.value()
        folder = Path("runs") if settings.record.path is None else settings.record.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"plan-{datetime.now().astimezone():%Y%m%d-%H%M%S}.yaml"
        path.write_text(str(plan.yaml(exclude_defaults=True)), encoding="utf-8")
        self._session.stop()
        self._session.set_plan(path)
        self._session.start()

    def show_status(self, status: Status) -> None:
        """Let the buttons be as the session is."""
        planned = self._session.settings.run.plan is not None and status.state in (
            SessionState.RUNNING,
            SessionState.CHANGING,
        )
        self._paused = self._paused and planned
        self.run.setEnabled(status.state not in (SessionState.STARTING, SessionState.STOPPING) and not planned)
        self.pause.setEnabled(planned)
        self.cancel.setEnabled(planned)
        self.pause.setText("Go on" if self._paused else "Pause")

    def _pause_or_resume(self) -> None:
        self._paused = not self._paused
        (self._session.pause if self._paused else self._session.resume)()
        self.pause.setText("Go on" if self._paused else "Pause")


def _button(text: str, tip: str) -> Any:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
