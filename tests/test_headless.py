"""What is printed of a run without a window: words in brackets are words, whatever they are."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from livescope.headless import print_summary

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
