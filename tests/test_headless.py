"""What is printed of a run without a window: words in brackets are words, whatever they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from livescope.assay.viability import viability_of_counts
from livescope.calls import ErrorRates
from livescope.headless import print_summary, run_headless, viability_text
from livescope.session import Session
from livescope.settings import RunSettings
from livescope.view.picture import viability_lines

SUMMARY: dict[str, Any] = {
    "state": "failed",
    "reason": "no camera [/x]",
    "seconds": 1.0,
    "frames_delivered": 1,
    "frames_lost": {},
    "frames_recorded": 1,
    "frames_analysed": 1,
    "frames_shown": 0,
    "fps": 1.0,
    "latency_ms": None,
    "deaths": 0,
    "cadence": "every frame",
    "actions": [{"rule": "[a]", "action": "stop", "frame": 1, "ok": False, "message": "not [b]"}],
    "viability": None,
    "cameras": {},
    "truth": None,
    "backend": {"backend": "onnx", "device": "[d]", "precision": "fp32"},
    "model": "q [/c]/model.onnx",
    "record": "runs [e]/a.ome.zarr",
    "warnings": ["pip install 'livescope[triton]'"],
    "errors": ["[f]"],
}


def test_words_in_brackets_are_words() -> None:
    console = Console(record=True, width=200)
    print_summary(SUMMARY, console)
    said = console.export_text()
    for words in ("[/x]", "[a]: stop", "not [b]", "q [/c]/model.onnx", "[d]", "runs [e]/", "livescope[triton]", "[f]"):
        assert words in said


def test_a_corrected_viability_is_told_with_its_interval() -> None:
    measured = viability_of_counts(90, 10, 3, rates=ErrorRates(0.95, 500, 0.9, 300))
    assert viability_text(asdict(measured)) == (
        "90.0 % (95 % interval 82.6 % to 94.5 %), corrected for the model's errors 94.1 % (85.0 % to 100.0 %); "
        "live 90, dead 10, uncertain 3"
    )
    assert viability_lines(measured)[1] == "95 % interval 82.6 to 94.5 %, n = 100, corrected 94.1 % (85.0 to 100.0)"


@pytest.mark.parametrize("record", [Path("runs/day [1].ome.zarr"), None])
def test_who_interrupts_twice_is_told_how_the_record_is_finished(record: Path | None) -> None:
    class Stubborn:
        """A run whose user does not wait for its end."""

        settings = SimpleNamespace(run=RunSettings())

        def start(self) -> Any:
            return SimpleNamespace(result=lambda: None)

        def wait(self, seconds: float) -> bool:
            raise KeyboardInterrupt

        def stop(self) -> None: ...

        def status(self) -> Any:
            return SimpleNamespace(record=record)

    console = Console(record=True, width=60)
    with pytest.raises(KeyboardInterrupt):
        run_headless(cast(Session, Stubborn()), console)
    text = console.export_text()
    assert "stopping cleanly" in text
    assert ("livescope recover runs/day [1].ome.zarr" in text.replace("\n", " ")) is (record is not None)
