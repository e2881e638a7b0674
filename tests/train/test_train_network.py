from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from disc_kit import QUICK, SMALL, dataset, discs, settings

from livescope.calls import State
from livescope.detect.normalise import Background
from livescope.errors import ModelError, SettingsError, SourceError
from livescope.train import bundling
from livescope.train.bundling import make_bundle
from livescope.train.data import UNKNOWN, Field
from livescope.train.dealing import Part
from livescope.train.evaluate import call_fields
from livescope.train.examples import Example, example_of
from livescope.train.export import export_onnx
from livescope.train.fit import fit
from livescope.train.network import Maps, StarNet, fold, from_weights
from livescope.train.settings import load_train_settings


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
    (note,) = made.notes
    assert note.startswith("Of the validation fields the 32 cells")
    assert card.trained_on.endswith(f"discs. {note}")
    assert card.temperature >= 1  # the training fields, which were taken as well, make nothing surer
    new = discs(1000)
    (calls,) = call_fields(made.bundle, [new])
    order = np.argsort(calls.y_px + 100 * (calls.x_px > 48))
    expected = np.argsort(new.centres_yx[:, 0] + 100 * (new.centres_yx[:, 1] > 48))
    # a training this short may leave a cell uncertain (the order of sums, and so the number of threads, decides)
    assert (calls.p_dead[order] > 0.5).tolist() == (new.state[expected] == State.DEAD).tolist()
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


def with_cells(**changed: object) -> Callable[[Example], Example]:
    return lambda one: replace(one, cells=replace(one.cells, **changed))


CHANGES: dict[str, Callable[[Example], Example]] = {
    "centres": lambda one: replace(one, cells=replace(one.cells, centres_yx=one.cells.centres_yx + 1)),
    "outlines": lambda one: replace(one, cells=replace(one.cells, contours_yx=one.cells.contours_yx * 1.1)),
    "states": with_cells(state=np.full(4, UNKNOWN, np.uint8)),
    "weights of the states": with_cells(state_weight=np.ones(4, np.float32)),
    "where labels speak": lambda one: replace(one, known=np.ones_like(one.image)),
    "dyes": lambda one: replace(one, dyes=np.stack([one.image] * 3)),
    "how cut cells are marked": lambda one: replace(one, visible_only=True),
    "normalisation": lambda one: replace(one, image=one.image * 2),
    "pixel size": lambda one: replace(one, image=one.image[::2, ::2]),
}


def test_a_training_of_other_labels_is_another_training(tmp_path: Path) -> None:
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(4)]
    short = QUICK.model_copy(update={"steps": 10, "batch": 1, "canvas_px": 32})  # ten steps once divided by zero
    torch.manual_seed(0)
    start, checkpoint = StarNet((4, 4, 4, 4)), tmp_path / "a.checkpoint.pt"

    def goes_on(network: StarNet = start, train: list[Example] = examples, valid: list[Example] = examples[:1]) -> bool:
        try:
            fit(network, train, valid, short, checkpoint=checkpoint, resume=True)
        except SettingsError:
            return False
        return True

    fit(start, examples, examples[:1], short, checkpoint=checkpoint)
    assert goes_on()
    for name, change in CHANGES.items():
        changed = [change(examples[0]), *examples[1:]]
        assert not goes_on(train=changed), name
        assert not goes_on(valid=changed[:1]), name
    assert not goes_on(train=[*examples, examples[0]])  # repeat
    assert not goes_on(StarNet((4, 4, 4, 4)))


def test_the_checkpoint_of_another_training_is_kept(tmp_path: Path) -> None:
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(3)]
    short = QUICK.model_copy(update={"steps": 2, "batch": 1, "canvas_px": 32})
    start, checkpoint = StarNet((4, 4, 4, 4)), tmp_path / "a.checkpoint.pt"
    fit(start, examples, [], short, checkpoint=checkpoint)
    first, told = checkpoint.read_bytes(), []
    other = short.model_copy(update={"steps": 3})
    fit(start, examples, [], other, checkpoint=checkpoint, tell=told.append)
    assert (tmp_path / "a.checkpoint.before.pt").read_bytes() == first
    assert ["of other settings or data" in note for note in told] == [True]
    fit(start, examples, [], other, checkpoint=checkpoint, tell=told.append)
    assert len(told) == 1  # of the same: taken up, and nothing to tell


@pytest.mark.parametrize("damage", ["cut short", "empty", "text", "of another kind"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: str) -> None:
    examples = [example_of(discs(k), Background(contrast=0.3)) for k in range(3)]
    short = QUICK.model_copy(update={"steps": 2, "batch": 1, "canvas_px": 32})
    torch.manual_seed(0)
    start, checkpoint = StarNet((4, 4, 4, 4)), tmp_path / "a.checkpoint.pt"
    whole, _ = fit(start, examples, [], short, checkpoint=checkpoint)
    if damage == "of another kind":
        state = torch.load(checkpoint, weights_only=True)
        torch.save(state | {"optimizer": 3}, checkpoint)  # half of it can be taken up
    else:
        content = checkpoint.read_bytes()
        checkpoint.write_bytes({"cut short": content[:5000], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(SettingsError, match=r"a\.checkpoint\.pt' is damaged .* Leave out --resume, or delete it"):
        fit(start, examples, [], short, checkpoint=checkpoint, resume=True)
    steps: list[int] = []
    told: list[str] = []
    again, _ = fit(start, examples, [], short, lambda step, _: steps.append(step), checkpoint, tell=told.append)
    assert steps == [1, 2]
    assert [note.endswith("the training begins anew") for note in told] == [True]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    fit(start, examples, [], short, checkpoint=checkpoint, resume=True)


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
