"""Training from a window: fine-tune on its corrections, train a network of one's own, use what comes of it.

Owns opening the wizard and what its button does. The wizard is `livescope.view.train_wizard`.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from livescope.detect.bundle import bundled_names, load_bundle
from livescope.errors import LivescopeError, ModelError
from livescope.view.theme import THEMES

if TYPE_CHECKING:
    from livescope.view.frame_window import FrameWindow

__all__ = ["Teaching"]

_NETWORKS = Path("models")
"""Folder for networks, as in configs/train.yaml."""


class Teaching(QObject):
    """The training wizard of a window, opened at most once at a time."""

    _answered = Signal(str)

    def __init__(self, window: FrameWindow) -> None:
        super().__init__(window)
        self._window = window
        self.wizard: Any = None
        add = window.commands.add
        add("Corrections", "Fine-tune on these corrections", "", self.fine_tune)
        add("Window", "Train a network", "", self.train)
        self._answered.connect(self._tell)

    def fine_tune(self) -> None:
        """Open the wizard on the corrections of the record that is written or shown."""
        record = self._window.record_path()
        if record is None or not record.exists():
            self._window.tell("nothing is corrected yet: record (R), correct calls (K), then fine-tune")
            return
        self._open(record)

    def train(self) -> None:
        """Open the wizard; it asks what to learn from."""
        self._open(None)

    def close(self) -> None:
        """Close the wizard and end its training."""
        if self.wizard is not None:
            self.wizard.close()

    def _open(self, learn_from: Path | None) -> None:
        from livescope.view.train_wizard import TrainWizard

        if self.wizard is not None:
            if learn_from is not None and not self.wizard.trainer.running:
                self.wizard.restart()
                self.wizard.data_page.folder.setText(str(learn_from))
            self.wizard.raise_()
            self.wizard.activateWindow()
            return
        window = self._window
        start, why = self._start()
        self.wizard = wizard = TrainWizard(window, THEMES[window.theme_name], start, _NETWORKS, learn_from)
        if why:
            wizard.train_page.setSubTitle(why)
            wizard.train_page.start.setItemText(wizard.train_page.start.currentIndex(), Path(start).stem)  # not in use
            window.tell(why)
        wizard.use_asked.connect(self._use)
        wizard.finished.connect(self._closed)
        wizard.show()

    def _start(self) -> tuple[str, str]:
        """Return a network to go on from that is there, and what is to be known of it: the run's own may be gone."""
        shown = self._window.shown
        model, status = shown.settings.detector.model, shown.status()
        try:
            found = load_bundle(model)
        except ModelError as error:
            start = status.model if status.model in bundled_names() else bundled_names()[0]
            return start, f"{error} The training goes on from {start} unless you choose another."
        if status.backend is None or status.backend.model_sha256 in ("", found.sha256):
            return model, ""
        return model, f"{model} has changed since it called these cells: choose what to go on from."

    def _closed(self, _result: int) -> None:
        self.wizard = None

    def _use(self, model: str) -> None:
        self._tell("loading the network\u2026")
        answer = self._window.use_model(model)
        if isinstance(answer, str):
            self._tell(answer)
        else:
            answer.add_done_callback(lambda done: self._answered.emit(_said(done, model)))

    def _tell(self, text: str) -> None:
        self._window.tell(text)
        if self.wizard is not None:
            self.wizard.made_page.tell(text)


def _said(done: Future[None], model: str) -> str:
    error = done.exception()
    if error is None:
        return f"{Path(model).stem} calls the cells from the next start on."
    return str(error) if isinstance(error, LivescopeError) else f"{type(error).__name__}: {error}"
