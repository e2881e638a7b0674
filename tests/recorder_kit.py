"""A recorder for tests of all rooms that read records."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.frames import LossLedger
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings


def recorder_at(path: Path) -> Recorder:
    """Open a recorder whose errors fail the test."""
    return Recorder(
        path, RecordSettings(), LossLedger(), run_settings=Settings(), on_error=lambda e: pytest.fail(str(e))
    )
