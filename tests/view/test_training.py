"""Training from the window: the request, the wizard with a real training process, and using what was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from qtpy.QtCore import Qt

from livescope.calls import State
from livescope.detect.bundle import load_bundle, write_card
from livescope.detect.detector import BackendInfo
from livescope.errors import SourceError
from livescope.settings import Settings, SimulationSettings
from livescope.simulate.optics import render_field
from livescope.train.settings import load_train_settings
from livescope.view import train_request
from livescope.view.theme import DARK
from livescope.view.train_panel import _FIGURES, MadePanel
from livescope.view.train_request import TrainRequest, channel_guess, channels_in, kind_of, write_config
from livescope.view.train_wizard import TrainWizard
from livescope.view.window import MainWindow

CONFIGS = Path(__file__).parents[2] / "configs"
PATIENCE_MS = 250_000
"""A loaded machine takes its time to load PyTorch and to export a network."""


def write_boxes(folder: Path, count: int = 3) -> None:
    """Write simulated fields as boxes with classes."""
    (folder / "images").mkdir(parents=True)
    images, marks = [], []
    for k in range(count):
        settings = SimulationSettings(seed=70 + k, width=256, height=256, cells_per_mm2=600, dead_fraction=0.5)
        pixels, truth = render_field(settings, frame_number=0, exposure_ms=20)
        Image.fromarray((pixels >> 4).astype(np.uint8)).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "well": f"w{k}"})
        for y, x, radii, state in zip(truth.y_px, truth.x_px, truth.radii_px, truth.state, strict=True):
            r = float(np.mean(radii))
            box = [float(x) - r, float(y) - r, 2 * r, 2 * r]
            marks.append({"id": len(marks), "image_id": k, "category_id": int(state), "bbox": box})
    categories = [{"id": int(state), "name": state.label} for state in (State.LIVE, State.DEAD)]
    tree = {"images": images, "annotations": marks, "categories": categories}
    (folder / "annotations.coco.json").write_text(json.dumps(tree))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some steps in place of minutes: what is learnt is not the point here."""
    few = {"steps": 6, "learning_rate": 1e-4, "batch": 1, "canvas_px": 64}
    monkeypatch.setattr(train_request, "_FINE_TUNE", few)


@pytest.fixture
def wizard(qtbot: Any, tmp_path: Path) -> Iterator[TrainWizard]:
    wizard = TrainWizard(None, DARK, "simulated", tmp_path / "models")
    wizard.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    qtbot.addWidget(wizard)
    wizard.show()
    yield wizard
    wizard.close()


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quick")
def test_from_pictures_over_cancel_and_go_on_to_a_network(qtbot: Any, wizard: TrainWizard, tmp_path: Path) -> None:
    write_boxes(tmp_path / "data")
    wizard.data_page.folder.setText(str(tmp_path / "data"))
    assert "boxes" in wizard.data_page.found.text()
    wizard.data_page.pixel.setValue(0.65)
    wizard.next()
    qtbot.waitUntil(wizard.label_page.isComplete, timeout=PATIENCE_MS)
    assert wizard.label_page.counts.text().startswith("3 pictures in 3 groups")
    assert not wizard.label_page.picture.pixmap().isNull()
    assert "Mind:" not in wizard.label_page.counts.text()
    found = wizard.label_page._proposed
    assert found is not None
    wizard.trainer.proposed.emit({**found, "notes": ["few are dead"]})
    assert wizard.label_page.counts.text().endswith("\nMind: few are dead")
    wizard.next()
    page = wizard.train_page
    assert page.name.text() == "data-network"
    page.name.setText("mine")
    qtbot.mouseClick(page.panel.run, Qt.MouseButton.LeftButton)
    assert page.panel.run.text() == "Cancel"
    assert not page.name.isEnabled()
    qtbot.waitUntil(lambda: page.panel.left.text().startswith("step"), timeout=PATIENCE_MS)
    qtbot.mouseClick(page.panel.run, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not wizard.trainer.running, timeout=PATIENCE_MS)
    assert page.panel.run.text() == "Go on"
    assert not page.isComplete()
    qtbot.mouseClick(page.panel.run, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not wizard.trainer.running, timeout=PATIENCE_MS)
    assert page.isComplete(), page.panel.stage.text()
    wizard.next()
    made = page.made
    assert made is not None
    assert load_bundle(made["model"]).card.name == "mine"
    assert Path(made["sheet"]).is_file()
    rows = wizard.made_page.panel.rows
    assert rows["f1"] == (f"{made['before']['f1']:.3f}", f"{made['after']['f1']:.3f}")
    assert made["before"]["f1"] > 0.5  # the simulated network, on fields of its own kind
    with qtbot.waitSignal(wizard.use_asked) as asked:
        qtbot.mouseClick(wizard.made_page.panel.use, Qt.MouseButton.LeftButton)
    assert asked.args == [made["model"]]


def test_a_network_without_a_test_claims_nothing(qtbot: Any) -> None:
    panel = MadePanel(DARK)
    qtbot.addWidget(panel)
    figures = {**dict.fromkeys(_FIGURES), "n_live": 0, "n_dead": 0}
    why = "The network to start from has seen 3 of the 3 groups of 3 fields: no test is left"
    panel.show_made({"model": "mine.onnx", "sheet": None, "before": None, "after": figures, "notes": [why]})
    assert panel.verdict.text() == "The network is ready."
    assert panel.note.text().startswith("Nothing was kept for a test")
    assert panel.note.text().endswith(f"{why}.")
    assert not panel.sheet.isEnabled()


def test_what_cannot_be_trained_on_is_told(qtbot: Any, wizard: TrainWizard, tmp_path: Path) -> None:
    page = wizard.data_page
    page.folder.setText(str(tmp_path / "nowhere"))
    assert "no folder" in page.found.text()
    page.folder.setText(str(tmp_path))
    assert "nothing to learn from" in page.found.text()
    assert not page.isComplete()
    (tmp_path / "annotations.coco.json").write_text("no json")
    page.folder.setText(str(tmp_path) + "/")
    wizard.next()
    qtbot.waitUntil(lambda: "is no COCO json" in wizard.label_page.counts.text())
    assert not wizard.label_page.isComplete()


def test_the_home_folder_is_known_by_its_tilde(
    wizard: TrainWizard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_boxes(tmp_path / "data", 1)
    wizard.data_page.folder.setText("~/data")
    assert "boxes" in wizard.data_page.found.text()
    assert wizard.data_page.validatePage()
    assert wizard.request.folder == tmp_path / "data"
    wizard.data_page.folder.setText("~nobody-of-this-name")
    assert "no folder" in wizard.data_page.found.text()


def test_a_folder_that_may_not_be_searched_is_told(
    wizard: TrainWizard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)  # root, as whom tests may run, is refused nothing
    wizard.data_page.folder.setText(str(tmp_path))
    assert "Permission denied" in wizard.data_page.found.text()
    assert not wizard.train_page._resumable


def test_the_train_page_speaks_of_trainings_and_names_only(wizard: TrainWizard) -> None:
    page = wizard.train_page
    page.name.setText("no good")
    assert "A name of letters" in page.said.text()
    assert not page.panel.run.isEnabled()
    page.name.setText("good")
    assert page.said.text() == ""
    assert page.panel.run.isEnabled()
    before = page.panel.stage.text()
    for speak in (lambda: wizard.trainer.told.emit("reading"), lambda: wizard.trainer.failed.emit("no pictures")):
        speak()  # of the job that draws labels
        assert page.panel.stage.text() == before
    wizard.trainer.cancelled.emit()
    assert page.panel.stage.text() == before


def test_without_pytorch_the_train_page_says_so(
    wizard: TrainWizard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_boxes(tmp_path / "data", 1)
    wizard.change(kind="coco", folder=tmp_path / "data", pixel_um=0.65)
    monkeypatch.setattr("livescope.view.trainer.importlib.util.find_spec", lambda name: None)
    page = wizard.train_page
    page.name.setText("good")
    page.panel.run.click()
    assert "PyTorch" in page.panel.stage.text()
    assert page.panel.run.text() == "Start"


@pytest.mark.timeout(300)
def test_a_failure_of_the_process_is_told(qtbot: Any, wizard: TrainWizard, tmp_path: Path) -> None:
    with qtbot.waitSignal(wizard.trainer.failed, timeout=PATIENCE_MS) as failed:
        wizard.trainer.train(tmp_path / "missing.yaml")
    assert "cannot be read" in failed.args[0]
    qtbot.waitUntil(lambda: not wizard.trainer.running)


@pytest.mark.timeout(300)
def test_closing_ends_the_process(qtbot: Any, wizard: TrainWizard, tmp_path: Path) -> None:
    write_boxes(tmp_path / "data")
    request = TrainRequest("mine", tmp_path, "coco", tmp_path / "data", start="simulated")
    wizard.trainer.train(write_config(request))
    process = wizard.trainer._process
    assert process.waitForStarted(PATIENCE_MS)
    wizard.close()
    assert not wizard.trainer.running
    assert process.state() == process.ProcessState.NotRunning


def test_channels_are_found_by_the_ends_of_their_names(tmp_path: Path) -> None:
    for field in ("d1_A1_f1", "d1_A1_f2", "d2_B1_f1"):
        for end in ("BF", "PI", "Hoechst"):
            (tmp_path / f"{field}_{end}.tif").touch()
    ends = channels_in(tmp_path)
    assert ends == {"_BF.tif": 3, "_Hoechst.tif": 3, "_PI.tif": 3}
    assert channel_guess(ends) == ("_BF.tif", "_PI.tif", "_Hoechst.tif")
    assert kind_of(tmp_path) == "dye_pairs"
    for end in (".brightfield.tif", ".dead_dye.tif", ".nuclear_dye.tif"):
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / f"exp_1{end}").touch()
    assert set(channels_in(tmp_path / "plain")) == {".brightfield.tif", ".dead_dye.tif", ".nuclear_dye.tif"}


def test_dye_page_takes_channels_and_groups(wizard: TrainWizard, tmp_path: Path) -> None:
    for field in ("d1_f1", "d1_f2", "d2_f1"):
        for end in ("BF", "PI", "Hoechst"):
            (tmp_path / f"{field}_{end}.tif").touch()
    page = wizard.data_page
    page.folder.setText(str(tmp_path))
    assert [combo.currentText() for combo in page.channels] == ["_BF.tif", "_PI.tif", "_Hoechst.tif"]
    assert page.groups.text() == "3 pictures in 2 groups; at least 3 are needed, to learn, to adjust and to judge"
    page.group.setCurrentIndex(page.group.findData(".*"))
    assert page.groups.text() == "3 pictures in 3 groups"
    assert page.isComplete()
    page.channels[1].setCurrentText("_BF.tif")
    assert not page.isComplete()  # two channels cannot be the same pictures
    page.channels[1].setCurrentText("_PI.tif")
    page.validatePage()
    assert wizard.request.gather == (str(tmp_path), "_BF.tif", "_PI.tif", "_Hoechst.tif")
    assert wizard.request.config()["data"] == [
        {"kind": "dye_pairs", "path": str(tmp_path / "models" / "my-network.pairs"), "group": ".*"}
    ]


def test_the_config_says_what_was_asked(tmp_path: Path) -> None:
    write_boxes(tmp_path / "data", 1)
    request = TrainRequest("a", tmp_path, "coco", tmp_path / "data", pixel_um=0.65)
    tree = yaml.safe_load(write_config(request).read_text())
    assert tree["start"] is None
    assert tree["pixel_um"] == 0.65
    assert tree["data"] == [{"kind": "coco", "path": str(tmp_path / "data"), "group": "well", "pixel_um": 0.65}]
    assert tree["fit"]["steps"] == 2000
    tuned = replace(request, start="suspension", thorough=True).config()
    assert "pixel_um" not in tuned  # that of the network it goes on from
    assert tuned["fit"]["steps"] == 3 * 300
    assert "pixel_um" not in replace(request, kind="records").config()  # a record says its own, or nobody knows
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="cannot be written"):
        write_config(replace(request, out=tmp_path / "file" / "models"))


@pytest.mark.parametrize(
    ("kind", "start", "config"), [("dye_pairs", None, "dye.yaml"), ("coco", "adherent", "finetune.yaml")]
)
def test_the_wizard_trains_as_the_commented_configs_do(
    tmp_path: Path, kind: train_request.Kind, start: str | None, config: str
) -> None:
    write_boxes(tmp_path / "data", 1)
    told = load_train_settings(CONFIGS / config)
    made = write_config(TrainRequest("a", tmp_path, kind, tmp_path / "data", start=start))
    asked = load_train_settings(made)
    assert asked.fit == told.fit.model_copy(update={"seed": asked.fit.seed})
    if start is None:  # otherwise it is that of the network it goes on from
        assert asked.normalisation == told.normalisation


@pytest.fixture
def lines(wizard: TrainWizard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The page of labels of dye pairs, as a training process has filled it, and the lines that it proposed."""
    lines = {"dead_field": 2.0, "dead_ring": 1.5, "live_field": 1.2, "live_ring": 1.1}

    def propose(config: Path, out: Path, gather: object = ()) -> None:
        told = yaml.safe_load(config.read_text())["data"][0].get("thresholds", lines)
        picture = str(tmp_path / "none.png")
        counts = {"fields": 3, "groups": 3, "live": 9, "dead": 9, "unknown": 0, "notes": []}
        wizard.trainer.proposed.emit(counts | {"pictures": [picture], "histogram": picture, "thresholds": told})

    monkeypatch.setattr(wizard.trainer, "propose", propose)
    monkeypatch.setattr(wizard, "currentPage", lambda: wizard.label_page)
    wizard.change(kind="dye_pairs", folder=tmp_path)
    wizard.label_page.initializePage()
    assert wizard.label_page.isComplete()
    return lines


def test_one_line_set_back_is_as_proposed_and_the_others_stay(wizard: TrainWizard, lines: dict[str, float]) -> None:
    page = wizard.label_page
    page.lines["dead_field"].setValue(3.0)
    page.lines["live_ring"].setValue(1.0)
    page.again.click()
    page.lines["live_ring"].setValue(0.0)  # reads "proposed"
    assert not page.isComplete()
    page.again.click()
    assert wizard.request.thresholds == lines | {"dead_field": 3.0}
    assert {name: box.value() for name, box in page.lines.items()} == wizard.request.thresholds
    for box in page.lines.values():
        box.setValue(0.0)
    page.again.click()
    assert wizard.request.thresholds is None
    assert page.lines["dead_field"].value() == 2.0


@pytest.mark.usefixtures("lines")
def test_live_lines_above_dead_ones_do_not_go_on(
    wizard: TrainWizard, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.delattr(wizard.trainer, "propose")  # the training process itself refuses them
    page = wizard.label_page
    page.lines["live_field"].setValue(5.0)
    page.again.click()
    qtbot.waitUntil(lambda: "live must end at or below where dead begins" in page.counts.text(), timeout=60_000)
    assert not page.isComplete()


@pytest.fixture
def own_network(tmp_path: Path) -> Path:
    """A network of the user's own, whose card has a name that no file goes by."""
    bundled = load_bundle("suspension")
    path = tmp_path / "lab-3.onnx"
    path.write_bytes(bundled.onnx_path.read_bytes())
    write_card(bundled.card.model_copy(update={"name": "lab"}), path)
    return path


@pytest.mark.parametrize("found", ["same", "changed", "gone"])
def test_corrections_of_an_own_network_are_learnt_from_where_it_can_be_loaded(
    qtbot: Any, scripted: Any, tmp_path: Path, own_network: Path, found: str
) -> None:
    sha256 = load_bundle(own_network).sha256 if found == "same" else "1" * 64
    scripted.settings = Settings.model_validate({"detector": {"model": str(own_network)}})
    backend = BackendInfo("onnx", "CPU", "fp32", "lab", sha256)
    scripted.fields = {"record": tmp_path, "model": "lab", "backend": backend}
    if found == "gone":
        own_network.unlink()
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    window.teaching.fine_tune()
    page = window.teaching.wizard.train_page
    start = page.start.currentData()
    assert start == ("adherent" if found == "gone" else str(own_network))
    assert page.start.currentText().endswith("(in use)") is (found == "same")
    request = replace(window.teaching.wizard.request, kind="records", folder=tmp_path)
    assert request.config()["start"] == start  # so that labels can be looked at, and trained on
    told = {
        "same": "In a process of its own",
        "changed": "has changed since it called these cells",
        "gone": "from adherent unless you",
    }
    assert told[found] in page.subTitle()
    window.close()


class _Using(Future):  # type: ignore[type-arg]
    """A future that is done already."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.set_exception(error) if error else self.set_result(None)


def test_fine_tune_opens_the_wizard_on_the_record_and_use_asks_the_session(
    qtbot: Any, scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def use_model(model: str) -> Future[None]:
        asked.append(model)
        return _Using() if len(asked) > 1 else _Using(SourceError("a run has one model"))

    monkeypatch.setattr(scripted, "use_model", use_model, raising=False)
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    actions = {action.text(): action for action in window.actions()}
    actions["Fine-tune on these corrections"].trigger()
    qtbot.waitUntil(lambda: "nothing is corrected yet" in window.message)
    assert window.teaching.wizard is None
    scripted.fields = {"record": tmp_path}
    actions["Fine-tune on these corrections"].trigger()
    wizard = window.teaching.wizard
    assert wizard.data_page.folder.text() == str(tmp_path)
    wizard.use_asked.emit("models/mine.onnx")
    qtbot.waitUntil(lambda: wizard.made_page.panel.answer.text() == "a run has one model")
    wizard.use_asked.emit("models/mine.onnx")
    qtbot.waitUntil(lambda: "mine calls the cells from the next start on" in wizard.made_page.panel.answer.text())
    assert asked == ["models/mine.onnx"] * 2
    actions["Train a network"].trigger()
    assert window.teaching.wizard is wizard
    window.close()
    assert window.teaching.wizard is None
