"""A row of buttons that gives way: where there is no room, the last of them are not shown; the menu has them too.

Owns that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["FoldingRow"]


class FoldingRow(QWidget):
    """Buttons beside one another, as many as fit, each as large as it wants to be."""

    def __init__(self, buttons: Sequence[QWidget], spacing_px: int) -> None:
        super().__init__()
        self._buttons, self._spacing_px = tuple(buttons), spacing_px
        for button in self._buttons:
            button.setParent(self)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)

    def sizeHint(self) -> Any:  # noqa: N802 - Qt's name
        """Room for all."""
        hints = [button.sizeHint() for button in self._buttons]
        width = sum(hint.width() + self._spacing_px for hint in hints) - self._spacing_px
        return QSize(max(width, 0), max((hint.height() for hint in hints), default=0))

    def minimumSizeHint(self) -> Any:  # noqa: N802 - Qt's name
        """Room for none."""
        return QSize(0, self.sizeHint().height())

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Show what fits."""
        super().resizeEvent(event)
        self._place()

    def event(self, event: Any) -> bool:
        """Place the buttons anew when one of them wants another size."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
            self._place()
        return bool(super().event(event))

    def _place(self) -> None:
        left, fits = 0, True
        for button in self._buttons:
            size = button.sizeHint()
            fits = fits and left + size.width() <= self.width()
            button.setVisible(fits)
            button.setGeometry(left, (self.height() - size.height()) // 2, size.width(), size.height())
            left += size.width() + self._spacing_px
