"""Another model for the next run of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.errors import AcquisitionError, ModelError
from livescope.session import Session
from livescope.settings import Settings


def test_a_run_has_one_model_and_the_next_may_have_another(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "source": {"kind": "simulated"},
            "simulation": {"width": 128, "height": 128, "rate_fps": 20},
            "detector": {"model": "simulated", "backend": "onnx", "threads": 1},
        }
    )
    with Session(settings) as session:
        session.start().result()
        with pytest.raises(AcquisitionError, match="stop the run"):
            session.use_model("suspension").result()
        session.stop().result()
        with pytest.raises(ModelError):
            session.use_model(str(tmp_path / "missing.onnx")).result()
        before = session.status()
        session.use_model("suspension").result()
        session.snap().result()
        after = session.status()
        analysis = session.latest_analysis()
    assert before.model == "simulated"
    assert after.model == "suspension"
    assert after.backend is not None
    assert before.backend is not None
    assert after.backend.model_sha256 != before.backend.model_sha256
    assert analysis is not None
