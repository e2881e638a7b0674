"""Five hundred random things that a user may do, on a real session: nothing may be raised, no frame may be lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QMenu

from livescope.session import Session
from livescope.settings import Settings
from livescope.status import SessionState
from livescope.view.window import MainWindow

ACTIONS = 500
SETTINGS = {
    "source": {"kind": "simulated"},
    "simulation": {"width": 256, "height": 192, "rate_fps": 20},
    "detector": {"model": "suspension", "threads": 1},
}
LEFT_ALONE = (
    "Close",
    "Full screen",
    "Save the picture with its calls",
    "Save a clip of the record with its calls",
    "Open a config",
    "Open a record",
)
"""What ends the test, or changes the screen, or writes a file each time, or waits for a person."""


class Monkey:
    """Does random things to a window."""

    def __init__(self, qtbot: Any, window: MainWindow, seed: int) -> None:
        self.random = random.Random(seed)
        self.bot, self.window = qtbot, window
        self.canvas = window.canvas.viewport()

    def place(self) -> QPoint:
        size = self.canvas.size()
        return QPoint(self.random.randrange(size.width()), self.random.randrange(size.height()))

    def trigger(self) -> None:
        self.random.choice([a for a in self.window.actions() if a.text() not in LEFT_ALONE]).trigger()

    def press_button(self) -> None:
        # not those of the device docks: some open a file dialog, which waits for a person
        parts = (self.window.bar, self.window.banner, self.window.side)
        found = [button for part in parts for button in part.findChildren(QAbstractButton)]
        buttons = [button for button in found if button.isVisible() and button.text() != "Menu"]
        self.bot.mouseClick(self.random.choice(buttons), Qt.MouseButton.LeftButton)

    def click(self) -> None:
        button = self.random.choice(
            [Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton, Qt.MouseButton.MiddleButton]
        )
        keys = self.random.choice([Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier])
        self.bot.mouseClick(self.canvas, button, keys, self.place())

    def drag(self) -> None:
        start, end = self.place(), self.place()
        self.bot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=start)
        self.bot.mouseMove(self.canvas, end)
        self.bot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=end)

    def wheel(self) -> None:
        at, turn = QPointF(self.place()), QPoint(0, self.random.choice([-120, 120]))
        none = Qt.KeyboardModifier.NoModifier
        phase = Qt.ScrollPhase.NoScrollPhase
        event = QWheelEvent(at, at, QPoint(), turn, Qt.MouseButton.NoButton, none, phase, False)
        QApplication.sendEvent(self.canvas, event)

    def expose(self) -> None:
        self.window.bar.exposure.setValue(self.random.uniform(1, 40))

    def resize(self) -> None:
        self.window.resize(self.random.randrange(800, 1400), self.random.randrange(500, 1000))

    def use_dock(self) -> None:
        core = None if self.window.docks is None else self.window.docks.core
        if core is None:
            self.window.toggle_dock(self.random.choice(["Stage", "Channel", "Acquisition plan"]))
            return
        plan = self.window.docks.content("Acquisition plan")
        acts = [
            lambda: core.setXYPosition(self.random.uniform(-50, 50), self.random.uniform(-50, 50)),
            lambda: core.setPosition(self.random.uniform(-2, 2)),
            lambda: core.setProperty("Objective", "State", self.random.randrange(3)),
            lambda: core.getXYPosition(),
            lambda: (
                plan and self.bot.mouseClick(self.random.choice([plan.run, plan.cancel]), Qt.MouseButton.LeftButton)
            ),
        ]
        self.random.choice(acts)()

    def wait(self) -> None:
        self.bot.wait(self.random.randrange(40))

    def act(self) -> None:
        acts = (self.trigger, self.press_button, self.click, self.drag, self.wheel, self.expose, self.resize, self.wait)
        self.random.choices((*acts, self.use_dock), weights=(6, 2, 4, 3, 4, 1, 1, 6, 2))[0]()
        for menu in self.window.findChildren(QMenu):
            menu.close()


@pytest.mark.timeout(900)  # half a minute on two quiet cores
def test_random_actions_raise_nothing_and_lose_no_frame(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.model_validate(
        SETTINGS | {"record": {"path": str(tmp_path / "{time}-m.ome.zarr"), "overwrite": True, "min_free_mb": 0}}
    )
    with Session(settings) as session:
        window = MainWindow(session)
        qtbot.addWidget(window)
        window.show()
        session.start().result()
        window.bar.burst_frames.setValue(3)
        monkey = Monkey(qtbot, window, seed=1)
        for _ in range(ACTIONS):
            monkey.act()
        session.stop().result()
        assert session.wait(60)
        status = session.status()
        window.refresh()
        errors = list(window.errors)
        window.close()
    assert status.state is SessionState.IDLE
    late = ("burst of",)  # asked for when the run had just been stopped: refused, and told
    assert [error for error in status.errors if not error.startswith(late)] == []
    assert errors == []
    assert [status.lost[cause] for cause in ("core", "camera", "recorder")] == [0, 0, 0]
    assert status.delivered > 0
