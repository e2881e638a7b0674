"""The commands train and evaluate, as a user types them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from skimage.io import imsave
from typer.testing import CliRunner

from livescope.cli import app
from livescope.detect.bundle import load_bundle
from livescope.errors import SettingsError, SourceError
from livescope.train import command
from livescope.train.fit import FitSettings
from livescope.train.scoring import Scores
from livescope.train.settings import load_train_settings
from livescope.train.sources import settings_in

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = """
name: tiny
out: {out}
start: simulated
data: [{{kind: simulated, fields: 5, seed: 3, side_px: 192, pixel_um: 0.65}}]
fit: {{steps: 2, batch: 2, canvas_px: 96}}
"""


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], terminal_width=200)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(out=json.dumps(str(tmp_path / "models"))))
    return path


def test_configs_load_and_name_every_kind_of_data() -> None:
    for name in ("train", "finetune"):
        load_train_settings(CONFIGS / f"{name}.yaml")
    with pytest.raises(SettingsError, match=r"unknown setting 'fit.augment.blur'.* Did you mean 'blur_px'"):
        load_train_settings(CONFIGS / "train.yaml", ["fit.augment.blur=1"])
    with pytest.raises(SettingsError, match=r"unknown setting 'data.0.coco.grup'.* Did you mean 'group'[^\n]*$"):
        load_train_settings(CONFIGS / "finetune.yaml", ["data.0.grup=day"])
    text = (CONFIGS / "train.yaml").read_text()
    assert all(f"kind: {kind}" in text for kind in ("simulated", "coco", "masks", "dye_pairs", "records"))


def test_data_in_a_folder_named_by_its_day(tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("name: a\nfit:\ndata:\n- {kind: coco, path: 2024-05-01}\n- {kind: masks, path: 20240501}\n")
    settings = load_train_settings(config, ["data.1.group=2024", "fit.steps=3"])
    assert [one.place for one in settings.data] == ["2024-05-01", "20240501"]
    assert settings.fit == FitSettings(steps=3)
    assert [one.place for one in settings_in(config)] == ["2024-05-01", "20240501"]
    assert load_train_settings(config, ["data.0.path=2024_05_02"]).data[0].place == "2024_05_02"


@pytest.mark.timeout(600)
def test_fine_tuned_and_evaluated(tmp_path: Path, config: Path) -> None:
    for name in ("tiny.sheet1", "tiny.sheet.mine", "tiny2.sheet"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "sheet.json").write_text("of another network")
    said = run("train", config, "--from", "simulated", "--set", "fit.seed=1")
    assert "step 2 of 2" in said
    assert "warning Of the validation fields the" in said
    assert "the training fields were taken as well." in said
    model = tmp_path / "models" / "tiny.onnx"
    card = load_bundle(model).card
    assert card.normalisation == load_bundle("simulated").card.normalisation
    assert card.pixel_um == load_bundle("simulated").card.pixel_um
    assert card.shift is not None
    assert (tmp_path / "models" / "tiny.losses.png").stat().st_size > 1000
    assert (tmp_path / "models" / "tiny.sheet" / "sheet.html").is_file()
    sheets = {path.name for path in (tmp_path / "models").iterdir() if path.is_dir()}
    assert sheets == {"tiny.sheet", "tiny.sheet.mine", "tiny2.sheet"}, "that of an overwritten network is gone"
    said = run("evaluate", model, config, "--out", tmp_path / "sheet")
    assert "detection F1" in said
    sheet = json.loads((tmp_path / "sheet" / "sheet.json").read_text())
    assert sheet["data"]["fields_left_out_as_seen"] == 4


def test_words_in_brackets_are_words() -> None:
    console = Console(record=True)
    with command._stages(console) as tell:
        tell("reading day [/1]")
    assert "reading day [/1]" in console.export_text()
    console.print(command._figures(figures(every_cell_marked=True)))
    assert "a [/b]: 1 field" in console.export_text()


def figures(*, every_cell_marked: bool) -> dict[str, Any]:
    return {
        "model": {"name": "a [/b]"},
        "data": {"fields": 1, "groups": 1, "every_cell_marked": every_cell_marked},
        "figures": {name: {"value": 0.5, "interval": None} for name in Scores.__dataclass_fields__},
        "calls_per_cell": 1.25,
        "free_response": [{"calls_per_cell": 1.5, "recall": 0.6}, {"calls_per_cell": 2.0, "recall": 0.71}],
    }


def test_where_not_every_cell_is_marked_no_precision_is_shown() -> None:
    console = Console(record=True)
    console.print(command._figures(figures(every_cell_marked=True)))
    said = console.export_text()
    assert "detection F1" in said
    assert "marked cell" not in said
    console.print(command._figures(figures(every_cell_marked=False)))
    said = console.export_text()
    assert "detection F1" not in said
    assert "detection recall" in said
    assert re.search(r"calls for each marked cell\W+1.25", said)
    assert re.search(r"found at two calls for each\W+0.710", said)


def test_what_cannot_be_done_is_said(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="nothing to resume"):
        run("train", config, "--resume")
    with pytest.raises(SettingsError, match="overwritten by its own fine-tuning"):
        run("train", config, "--set", "name=simulated", "--out", load_bundle("simulated").onnx_path.parent)
    with pytest.raises(SourceError, match="is no folder"):
        run("evaluate", "simulated", tmp_path / "nowhere", "--out", tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    with pytest.raises(SettingsError, match=r"needs torch: pip install 'livescope\[train\]'"):
        run("train", config)


@pytest.mark.parametrize("folder", ["2024-05-01", "20240501", "a: b [1]"])
def test_folders_and_models_of_any_name_are_taken_as_they_are(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr("livescope.train.command.run_train", lambda _config, overrides, *_rest: given.extend(overrides))
    run("train", CONFIGS / "finetune.yaml", "--from", folder, "--out", folder)
    settings = load_train_settings(CONFIGS / "finetune.yaml", given)
    assert (settings.start, settings.out) == (folder, Path(folder))


def test_a_config_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: x\n# 0.65 µm\ndata: []\n".encode("latin-1"))
    for words in (
        ("train", path),
        ("evaluate", "simulated", path, "--out", tmp_path / "sheet"),
        ("run", path, "--headless"),
    ):
        with pytest.raises(SettingsError, match=r"latin\.yaml' is no UTF-8 text \(byte 15, 0xb5\): save it as UTF-8"):
            run(*words)


def test_states_of_one_kind_are_refused_before_any_time_is_spent(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    (folder / "images").mkdir(parents=True)
    data = f"data=[{{kind: coco, path: {folder}, group: file_name}}]"
    with pytest.raises(SourceError, match=r"holds no annotations\.coco\.json"):
        run("train", config, "--set", data)
    for k in range(3):
        imsave(folder / "images" / f"{k}.png", np.full((64, 64), 100 + k, np.uint8), check_contrast=False)
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [20, 20, 16, 16]} for k in range(3)]
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(3)]
    tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "live"}]}
    (folder / "annotations.coco.json").write_text(json.dumps(tree))
    with pytest.raises(SourceError, match="live and 0 dead cells; training needs some of each"):
        run("train", config, "--set", "start=null", "--set", data)
