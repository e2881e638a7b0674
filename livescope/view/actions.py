"""What a user can do in a window: one list that feeds shortcuts, menu and help sheet, so that none can miss an entry.

Owns how actions are listed and found. What they do is given by the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QMenu, QToolButton, QVBoxLayout, QWidget

__all__ = ["Actions", "HelpSheet"]


class Actions:
    """The actions of a window by group; groups in the given order, actions in the order in which they were added."""

    def __init__(self, window: QWidget, groups: tuple[str, ...]) -> None:
        self._window = window
        self.groups: dict[str, list[Any]] = {name: [] for name in groups}

    def add(
        self,
        group: str,
        text: str,
        keys: str,
        do: Callable[..., object],
        *,
        checked: bool | None = None,
    ) -> Any:
        """Add an action and return it.

        Parameters
        ----------
        group, text
            Heading and line in menu and help sheet.
        keys
            Shortcut in Qt's notation, empty for none.
        do
            Called without arguments, or with the new state if `checked` is not None.
        checked
            State at the beginning of an action that is on or off; None for one that is simply done.
        """
        action = QAction(text, self._window)
        action.setShortcut(QKeySequence(keys))
        action.setToolTip(f"{text} ({keys})" if keys else text)
        if checked is None:
            action.triggered.connect(lambda: do())
        else:
            action.setCheckable(True)
            action.setChecked(checked)
            action.toggled.connect(do)
        self._window.addAction(action)
        self.groups[group].append(action)
        return action

    def button(self, action: Any, text: str = "") -> Any:
        """Return a tool button for an action."""
        if text:
            action.setIconText(text)  # a text of the button's own is gone as soon as the action is toggled
        button = QToolButton()
        button.setDefaultAction(action)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return button

    def menu_button(self) -> Any:
        """Return a button with a menu of all actions."""
        button = QToolButton()
        button.setText("Menu")
        button.setToolTip("Everything this window can do")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        for group, actions in self.groups.items():
            menu.addSection(group)
            menu.addActions(actions)
        button.setMenu(menu)
        return button


class HelpSheet(QDialog):
    """All shortcuts and mouse gestures on one page."""

    def __init__(self, actions: Actions, gestures: tuple[tuple[str, str], ...], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        columns = QGridLayout()
        columns.setHorizontalSpacing(36)
        groups = {name: [(a.shortcut().toString(), a.text()) for a in found] for name, found in actions.groups.items()}
        for place, (name, lines) in enumerate((groups | {"Mouse": list(gestures)}).items()):
            columns.addWidget(self._group(name, lines), place // 3, place % 3, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(24, 20, 24, 20)
        layout.addLayout(columns)

    def _group(self, name: str, lines: list[tuple[str, str]]) -> Any:
        body = QWidget()
        grid = QGridLayout(body)
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        title = QLabel(name.upper())
        title.setObjectName("title")
        grid.addWidget(title, 0, 0, 1, 2)
        for row, (keys, text) in enumerate(lines, start=1):
            key = QLabel(keys or "\u2013")
            key.setObjectName("key")
            grid.addWidget(key, row, 0)
            grid.addWidget(QLabel(text), row, 1)
        return body
