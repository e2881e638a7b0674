"""A line of text that gives way: it is cut with an ellipsis instead of making its window wider.

Owns that label.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QLabel, QSizePolicy

__all__ = ["ElidedLabel"]

_LEAST_PX = 40


class ElidedLabel(QLabel):
    """A label of plain text, cut in the middle where there is no room for it; all of it is its tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)

    def setText(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show a text."""
        super().setText(text)
        self.setToolTip(text)

    def minimumSizeHint(self) -> Any:  # noqa: N802 - Qt's name
        """Little: the text gives way."""
        return QSize(min(_LEAST_PX, super().sizeHint().width()), super().minimumSizeHint().height())

    def paintEvent(self, _: Any) -> None:  # noqa: N802 - Qt's name
        """Draw as much of the text as there is room for."""
        painter = QPainter(self)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, self.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), text)
        painter.end()
