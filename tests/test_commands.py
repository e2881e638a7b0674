"""What a run leaves behind: its summary and its picture, with a window when that is closed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from livescope import commands
from livescope.session import Session
from livescope.settings import load_settings


def test_summary_and_picture_of_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(session: Session) -> int:
        session.start().result()
        session.wait(60)
        return 0

    monkeypatch.setitem(sys.modules, "livescope.view.window", SimpleNamespace(show=looked_at))
    settings = load_settings(None, ["simulation.width=256", "simulation.height=256", "run.frames=3"])
    code = commands.run(settings, False, tmp_path / "new" / "s.json", tmp_path / "last.png")
    assert code == 0
    summary = json.loads((tmp_path / "new" / "s.json").read_text(encoding="utf-8"))
    assert summary["frames_delivered"] == 3
    assert summary["viability"]["n_live"] > 0
    assert summary["picture"] == str(tmp_path / "last.png")
    assert (tmp_path / "last.png").read_bytes().startswith(b"\x89PNG")


def test_a_summary_is_written_before_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(commands, "print_summary", closed)
    settings = load_settings(None, ["simulation.width=256", "simulation.height=256", "run.frames=1"])
    with pytest.raises(BrokenPipeError):
        commands.run(settings, True, tmp_path / "s.json", None)
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["frames_delivered"] == 1


@pytest.mark.skipif(os.name == "nt", reason="no such names there; its own have the backslashes")
@pytest.mark.parametrize("name", ['it\'s "q"', r"\\server\share", "a: b #c"])
def test_a_demo_is_recorded_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    places: list[Path | None] = []
    monkeypatch.setattr(commands, "run", lambda settings, *_: places.append(settings.record.path))
    commands.demo(tmp_path / name, True, [], None)
    (place,) = places
    assert place is not None
    assert place.parent == tmp_path / name
