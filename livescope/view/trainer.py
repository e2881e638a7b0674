"""A training in a process of its own, as the window sees it: signals for progress, a cancel that leaves a checkpoint.

Owns the process. What it does is `livescope.train.__main__`, whose lines are read here; nothing of training, and no
torch, is ever loaded into the process that runs the microscope.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from livescope.view.child import end_child, last_words, start_child

__all__ = ["Trainer"]


class Trainer(QObject):
    """Runs one job at a time."""

    told = Signal(str)
    """What is being done."""
    stepped = Signal(int, int, object)
    """Steps done, steps in all, losses by name."""
    proposed = Signal(object)
    """Labels as they would be trained on, see `livescope.train.proposal.propose`."""
    made = Signal(object)
    """A finished network: ``model``, ``sheet``, ``before``, ``after``."""
    failed = Signal(str)
    """Why there is none."""
    cancelled = Signal()
    ended = Signal()
    """Follows each of the others that end a job."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: Any = None
        self._error = ""
        self._cancelling = False

    @property
    def running(self) -> bool:
        """True from the start of a job until `ended`."""
        return self._process is not None

    def propose(self, config: Path, out: Path, gather: Sequence[str] = ()) -> None:
        """Draw the labels; `gather` is folder and name endings of three channels that are linked together first."""
        self._start("propose", str(config), "--out", str(out), *(("--gather", *gather) if gather else ()))

    def train(self, config: Path) -> None:
        """Train, or go on with a training of the same config that was cut off."""
        self._start("train", str(config))

    def cancel(self) -> None:
        """End the job at once. Nothing is lost but the steps since the last checkpoint, which is written whole."""
        if self._process is not None:
            self._cancelling = True
            self._process.kill()

    def close(self) -> None:
        """End the job and wait until its process is gone; no signal comes any more."""
        process, self._process = self._process, None
        if process is not None:
            end_child(process)

    def _start(self, *arguments: str) -> None:
        if self.running:
            return
        if importlib.util.find_spec("torch") is None:
            self.failed.emit("training needs PyTorch, which is not installed: pip install 'livescope[train]'.")
            self.ended.emit()
            return
        self._error, self._cancelling = "", False
        self._process = start_child(self, ("livescope.train", *arguments), self._finish)
        self._process.readyReadStandardOutput.connect(self._read)

    def _read(self) -> None:
        while self._process is not None and self._process.canReadLine():
            text = bytes(self._process.readLine()).decode(errors="replace")
            try:
                line = json.loads(text)
            except ValueError:
                continue  # a library printed something of its own
            if "error" in line:
                self._error = line["error"]
            elif "step" in line:
                self.stepped.emit(line["step"], line["steps"], line["losses"])
            else:
                ((what, value),) = line.items()
                {"stage": self.told, "proposed": self.proposed, "made": self.made}[what].emit(value)

    def _finish(self, code: int) -> None:
        self._read()
        process, self._process = self._process, None
        if self._cancelling:
            self.cancelled.emit()
        elif code:
            self.failed.emit(self._error or f"the training process ended with code {code}: {last_words(process)}")
        process.deleteLater()
        self.ended.emit()
