from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from livescope.calls import State, ray_angles
from livescope.detect.normalise import Background
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.train import bundling
from livescope.train.augment import AugmentSettings
from livescope.train.bundling import Part, make_bundle
from livescope.train.data import UNKNOWN, Field
from livescope.train.evaluate import call_fields
from livescope.train.examples import example_of
from livescope.train.export import export_onnx
from livescope.train.fit import FitSettings, fit
from livescope.train.network import Maps, StarNet, fold, from_weights
from livescope.train.settings import TrainSettings, load_train_settings
from livescope.train.sources import Dataset, Simulated

SMALL = (8, 12, 16, 16)
QUICK = FitSettings(
    steps=80, batch=4, canvas_px=96, learning_rate=6e-3, average_steps=10, augment=AugmentSettings(scale=1.1)
)


def discs(seed: int) -> Field:
    """Bright discs live, dark discs dead: what any network must learn in seconds."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(120, 2, (96, 96))
    y, x = np.mgrid[:96, :96]
    centres = np.array([(24, 24), (24, 70), (70, 24), (70, 70)]) + rng.uniform(-8, 8, (4, 2))
    state = rng.choice([State.LIVE, State.DEAD], 4)
    for (cy, cx), one in zip(centres, state, strict=True):
        pixels[np.hypot(y - cy, x - cx) < 9] += 60 if one == State.LIVE else -60
    angles = ray_angles()
    contours = centres[:, None] + 9 * np.stack([np.sin(angles), np.cos(angles)], -1)
    return Field(
        f"discs-{seed}", str(seed), pixels.clip(0, 255).astype(np.uint8), centres.astype(np.float32),
        contours.astype(np.float32), state.astype(np.uint8),
    )  # fmt: skip


def settings(folder: Path, **changed: object) -> TrainSettings:
    return TrainSettings(name="discs", out=folder, data=(Simulated(),), fractions=(0.6, 0.2), fit=QUICK, **changed)


def dataset(count: int) -> Dataset:
    return Dataset([discs(k) for k in range(count)], None, 0.5, True, f"{count} fields of discs")


def test_folding_changes_no_answer() -> None:
    network = StarNet()
    network(torch.randn(4, 1, 64, 64))  # moves the running statistics
    network.eval()
    image = torch.randn(1, 1, 48, 80)
    with torch.no_grad():
        for before, after in zip(network(image), fold(network)(image), strict=True):
            assert torch.allclose(before, after, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fold(network).modules())


def test_export_keeps_the_contract_at_any_size(tmp_path: Path) -> None:
    path = export_onnx(StarNet(), tmp_path / "n.onnx")
    assert path.stat().st_size < 2_000_000
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_inputs()] == ["image"]
    assert [value.name for value in session.get_outputs()] == list(Maps._fields)
    answers = session.run(None, {"image": np.zeros((1, 1, 32, 208), np.float32)})
    assert [a.shape for a in answers] == [(1, c, 8, 52) for c in (1, 1, 1, 2, 32)]
    assert (answers[4] > 0).all()
    assert str(Path.home()).encode() not in path.read_bytes()


def test_same_seed_same_network() -> None:
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(6)]
    torch.manual_seed(0)
    start = StarNet(SMALL)
    quick = QUICK.model_copy(update={"steps": 3})
    one, two, other = (fit(start, examples, [], quick.model_copy(update={"seed": s}))[0] for s in (1, 1, 2))
    weights = [net.state_dict()["down8.1.0.weight"] for net in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_bundle_from_labelled_fields_calls_new_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = make_bundle(settings(tmp_path), [dataset(40)], start=StarNet(SMALL))
    assert made.tests[0][1][0].name.startswith("discs")
    assert made.scores[0].f1 > 0.95
    assert made.scores[0].balanced_accuracy > 0.95
    assert made.history.valid[-1][1]["object"] < made.history.valid[0][1]["object"]
    card = made.bundle.card
    assert card.validation[0].n_images == 8
    assert card.sensitivity is not None
    assert made.note.startswith("Of the validation fields the 32 cells")
    assert card.trained_on.endswith(f"discs. {made.note}")
    assert card.temperature >= 1  # the training fields, which were taken as well, make nothing surer
    new = discs(1000)
    (calls,) = call_fields(made.bundle, [new])
    order = np.argsort(calls.y_px + 100 * (calls.x_px > 48))
    expected = np.argsort(new.centres_yx[:, 0] + 100 * (new.centres_yx[:, 1] > 48))
    assert calls.state[order].tolist() == new.state[expected].tolist()
    assert calls.y_px[order] == pytest.approx(new.centres_yx[expected, 0], abs=1.5)
    assert np.median(calls.radii_px) == pytest.approx(9, abs=1.5)


def test_chances_and_thresholds_come_from_enough_cells(tmp_path: Path) -> None:
    fields = [discs(k) for k in range(40)]
    live, dead = (sum(int(np.sum(field.state == state)) for field in fields) for state in (State.LIVE, State.DEAD))
    assert min(live, dead) > 50

    def too_few(valid: list[Field]) -> tuple[bool, bool, str]:
        return bundling._too_few([Part(dataset(1), fields[:2], valid, [])])

    assert too_few(fields) == (False, False, "")
    of_one = [replace(field, state=np.full(4, State.LIVE, np.uint8)) for field in fields]
    few_cells, few_of_a_state, note = too_few(of_one)
    assert (few_cells, few_of_a_state) == (False, True)
    assert "160 live and 0 dead, are too few for the chances of dead: the training" in note
    assert too_few(fields[:5])[:2] == (True, True)
    unknown = [replace(field, state=np.full(4, UNKNOWN, np.uint8)) for field in fields]
    assert bundling._too_few([Part(dataset(1), unknown[:2], unknown, [])])[:2] == (False, False)
    assert too_few(unknown)[:2] == (False, True)


def test_a_bundle_can_be_trained_further(tmp_path: Path) -> None:
    network = fold(StarNet(SMALL))
    again = from_weights({name: value.numpy() for name, value in network.state_dict().items()})
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        for before, after in zip(network(image), fold(again)(image), strict=True):
            assert torch.equal(before, after)
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(4)]
    tuned, _ = fit(again, examples, [], QUICK.model_copy(update={"steps": 2}))
    assert not torch.equal(tuned.state_dict()["stem.0.weight"], again.state_dict()["stem.0.weight"])
    with pytest.raises(ModelError, match="stem"):
        from_weights({})


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path) -> None:
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(6)]
    quick = QUICK.model_copy(update={"steps": 6, "batch": 2})
    torch.manual_seed(0)
    start = StarNet(SMALL)
    whole, _ = fit(start, examples, examples[:2], quick)

    def stop(step: int, _: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "a.checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(start, examples, examples[:2], quick, stop, checkpoint)
    steps: list[int] = []
    resumed, history = fit(start, examples, examples[:2], quick, lambda step, _: steps.append(step), checkpoint)
    assert steps == [4, 5, 6]
    assert [step for step, _ in history.train] == [1, 2, 3, 4, 5, 6]
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="2 groups"):
        make_bundle(settings(tmp_path), [dataset(2)])


def test_settings_name_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("name: mine\ndata:\n  - {kind: masks, path: here}\n")
    read = load_train_settings(path, ["fit.steps=7", "data.0.pixel_um=0.3"])
    assert read.fit.steps == 7
    assert read.data[0].pixel_um == 0.3
    with pytest.raises(SettingsError, match=r"fit\.stepz"):
        load_train_settings(path, ["fit.stepz=7"])
    with pytest.raises(SettingsError, match="not of the form"):
        load_train_settings(path, ["fit.steps"])
    with pytest.raises(SettingsError, match="cannot be read"):
        load_train_settings(tmp_path / "none.yaml")
