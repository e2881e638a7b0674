"""The files in configs/: each loads, shows its keys with a comment, and differs from the defaults only on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from livescope.api import open_session
from livescope.detect.bundle import bundled_names
from livescope.settings import Settings, load_settings

CONFIGS = Path(__file__).parents[1] / "configs"

ON_PURPOSE: dict[str, dict[str, object]] = {
    "simulated.yaml": {"record.path": Path("runs/simulated-{time}.ome.zarr")},
    "demo.yaml": {
        "source.kind": "demo",
        "camera.exposure_ms": 20,
        "camera.properties": {
            "PixelType": "16bit",
            "BitDepth": "12",
            "OnCameraCCDXSize": "1024",
            "OnCameraCCDYSize": "1024",
        },
        "camera.pixel_um": 0.65,
        "record.path": Path("runs/demo-{time}.ome.zarr"),
    },
    "replay.yaml": {
        "source.kind": "replay",
        "detector.every_frame": True,
        "record.path": Path("runs/replay-{time}.ome.zarr"),
    },
    "plate.yaml": {
        "simulation.minutes_per_frame": 5.0,
        "simulation.width": 512,
        "simulation.height": 512,
        "run.plan": Path("configs/plan.yaml"),
        "record.path": Path("runs/plate-{time}.ome.zarr"),
    },
    "session.yaml": {
        "source.kind": "micromanager",
        "source.cfg": Path("MMConfig_demo.cfg"),
        "camera.exposure_ms": 20,
        "detector.model": "suspension",
        "record.path": Path("runs/session-{time}.ome.zarr"),
    },
}
"""Where a config differs from the defaults in the code. A difference that is not listed here is a mistake."""


def _flat(settings: Settings) -> dict[str, Any]:
    return {
        f"{section}.{key}": getattr(getattr(settings, section), key)
        for section, model in Settings.model_fields.items()
        for key in type(getattr(settings, section)).model_fields
    }


def test_every_config_is_known_here() -> None:
    assert {path.name for path in CONFIGS.glob("*.yaml")} >= set(ON_PURPOSE)


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_config_differs_from_the_defaults_only_on_purpose(name: str) -> None:
    defaults, settings = _flat(Settings()), _flat(load_settings(CONFIGS / name))
    assert {key: value for key, value in settings.items() if value != defaults[key]} == ON_PURPOSE[name]


def test_the_session_of_a_microscope_runs_as_it_stands() -> None:
    pytest.importorskip("mm_test_adapters", reason="needs Micro-Manager's demo devices")
    short = ["run.frames=2", "record.path=null", "detector.backend=onnx"]
    with open_session(CONFIGS / "session.yaml", *short) as session:
        assert list(session.results())
        assert session.status().errors == ()


def test_simulated_shows_every_setting() -> None:
    tree = yaml.safe_load((CONFIGS / "simulated.yaml").read_text(encoding="utf-8"))
    assert {f"{section}.{key}" for section, keys in tree.items() for key in keys} == set(_flat(Settings()))


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_every_key_has_a_comment(name: str) -> None:
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if line.startswith("  ") and not line.strip().startswith("#") and "#" not in line and "#" not in above
    ]
    assert bare == []
    assert lines[0].startswith("# ")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_where_a_model_is_chosen_every_bundled_one_is_named(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith(("model:", "start:")):
            assert [model for model in bundled_names() if model not in line.partition("#")[2]] == []


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_comments_name_every_allowed_word(name: str) -> None:
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    section = ""
    for line in lines:
        key, colon, rest = line.strip().partition(":")
        if line and line[0] not in "# " and colon:
            section = key
        elif line.startswith("  ") and line[2] not in "# " and colon:
            kind = type(getattr(Settings(), section)).model_fields[key].annotation
            words = [str(word) for word in get_args(kind)] if get_origin(kind) is Literal else []
            assert [word for word in words if word not in rest.partition("#")[2]] == [], f"{section}.{key}"
