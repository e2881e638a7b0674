"""The banner: what went wrong and what to do next, across the window, until it is dismissed.

Owns how messages are shown. The messages are those of the session and of the window itself.
"""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QLabel, QPushButton

__all__ = ["Banner"]


class Banner(QFrame):
    """One line across the window for what went wrong, with details to copy. Hidden while all is well."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("banner")
        self._dismissed: set[str] = set()
        self._messages: tuple[str, ...] = ()
        self.details: list[str] = []
        """Tracebacks, copied along with the messages; appended to from any thread."""
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.copy = QPushButton("Copy details")
        self.copy.setToolTip("Copy all messages, and the tracebacks of errors in livescope itself")
        self.dismiss = QPushButton("Dismiss")
        self.dismiss.setToolTip("Hide these messages; new ones are shown")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 8, 14, 8)
        layout.addWidget(self._text, 1)
        layout.addWidget(self.copy)
        layout.addWidget(self.dismiss)
        self.copy.clicked.connect(self._copy)
        self.dismiss.clicked.connect(self._dismiss)
        self.hide()

    @property
    def text(self) -> str:
        """The message shown, empty while hidden."""
        return "" if self.isHidden() else self._text.text()

    def show_messages(self, errors: tuple[str, ...], warnings: tuple[str, ...]) -> None:
        """Show the newest error that was not dismissed, else the newest warning."""
        for level, messages in (("error", errors), ("warning", warnings)):
            left = [m for m in messages if m not in self._dismissed]
            if left:
                more = f"   (and {len(left) - 1} more)" if len(left) > 1 else ""
                self._show(level, left[-1] + more, (*errors, *warnings))
                return
        self.hide()

    def _show(self, level: str, text: str, messages: tuple[str, ...]) -> None:
        self._messages = messages
        self._text.setText(text)
        if self.property("level") != level:
            self.setProperty("level", level)
            for widget in (self, self._text, self.copy, self.dismiss):
                widget.style().unpolish(widget)
                widget.style().polish(widget)
        self.show()

    def _copy(self) -> None:
        QApplication.clipboard().setText("\n".join([*self._messages, *self.details]))

    def _dismiss(self) -> None:
        self._dismissed.update(self._messages)
        self.hide()
