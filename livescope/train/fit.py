"""Gradient descent: schedule, averaging of weights, when to stop.

Owns the training loop. Data come ready as `Example`, losses lie in `losses`; the result is a `StarNet`.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from livescope.errors import SettingsError
from livescope.train.augment import AugmentSettings, augment, place
from livescope.train.examples import Example
from livescope.train.losses import dye_loss, losses, validation_losses
from livescope.train.network import StarNet
from livescope.train.targets import Targets, encode

__all__ = ["FitSettings", "History", "earlier", "fit"]


class FitSettings(BaseModel):
    """How long and how the network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=8, ge=1)
    canvas_px: int = Field(default=240, ge=32, multiple_of=16)
    """Side of the square training pictures."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    dead_weight: float = Field(default=2.0, gt=0)
    """Weight of a dead cell against a live one in the state's loss; calibration removes the bias it brings."""
    dead_miss_weight: float = Field(default=2.0, gt=0)
    """Weight of missing a dead cell against missing a live one: as they come, dead cells are missed more often, and
    viability reads too high."""
    state_weight: float = Field(default=0.5, gt=0)
    """Weight of the state's loss against those of detection and outlines."""
    focal: float = Field(default=2.0, ge=0, le=5)
    """Exponent of the focal loss of cells: the higher, the less counts what is told apart already. 1 puts faint calls
    in better order, where many others in the frame look like the cells that are wanted."""
    average_steps: float = Field(default=150, ge=1)
    """Time constant of the running average of the weights, which is the network that is kept."""
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is trained; auto takes a CUDA device where torch sees one."""
    augment: AugmentSettings = AugmentSettings()


@dataclass(slots=True)
class History:
    """Losses by step: `train` and `valid` hold (step, mean of each part by name)."""

    train: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    valid: list[tuple[int, dict[str, float]]] = field(default_factory=list)


class _Run:
    """The state of a training: everything that decides how it goes on, so that it can be stopped and resumed."""

    def __init__(self, network: StarNet, settings: FitSettings) -> None:
        torch.manual_seed(settings.seed)
        self.device = _device(settings)
        # channels last: a step takes two thirds of the time on a CPU (78 against 125 ms, 8 x 240 x 240)
        self.network = copy.deepcopy(network).train().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # States are few and sparse, a dye is bright or dark everywhere: predicting it teaches the features more of
        # death than the states alone. Trained along and thrown away.
        self.dyes = torch.nn.Conv2d(network.widths[1], 2, 1).to(self.device)
        # a short run must not drag its first weights along
        window = max(min(settings.average_steps, settings.steps / 6), 1.0)
        decay = get_ema_multi_avg_fn(1 - 1 / window)
        self.averaged = AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            [*self.network.parameters(), *self.dyes.parameters()],
            settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        # a tenth of ten steps ends at the step with which it begins: a division by zero
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, max(settings.steps, 11), pct_start=0.1
        )
        self.rng = np.random.default_rng(settings.seed)
        self.best = copy.deepcopy(self.averaged.module.state_dict())
        self.least = float("inf")
        self.step = 0
        self.order: list[int] = []
        self.history = History()

    _MODULES = ("network", "dyes", "averaged", "optimizer", "schedule")

    def save(self, path: Path, identity: str) -> None:
        """Write everything to a file, whole or not at all."""
        state = {name: getattr(self, name).state_dict() for name in self._MODULES}
        state |= {name: getattr(self, name) for name in ("best", "least", "step", "order")}
        state |= {"rng": self.rng.bit_generator.state, "train": self.history.train, "valid": self.history.valid}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save({**state, "identity": identity}, partial)
        partial.replace(path)

    def load(self, path: Path, identity: str) -> bool:
        """Take up a file of `save`; one of other settings or data is another training and is left alone: False."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state.get("identity") != identity:
            return False
        for name in self._MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in ("best", "least", "step", "order"):
            setattr(self, name, state[name])
        self.rng.bit_generator.state = state["rng"]
        self.history = History(state["train"], state["valid"])
        return True


def fit(
    network: StarNet,
    train: Sequence[Example],
    valid: Sequence[Example],
    settings: FitSettings,
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
    checkpoint: Path | None = None,
    resume: bool | None = None,
    tell: Callable[[str], None] = lambda _what: None,
) -> tuple[StarNet, History]:
    """Train a network; the same seed, data and number of threads give the same weights on one machine.

    Parameters
    ----------
    network
        Starting point; it is not changed.
    train, valid
        Examples; the averaged weights with the least validation loss are returned (the last ones if `valid` is empty).
    settings
        Steps, batch, augmentation, seed.
    report
        Called with (step, mean parts of the loss) some twenty times in a run.
    checkpoint
        File that is written as often.
    resume
        Whether to go on from it: None if it is of the same start, examples and settings, True must, False starts anew.
        With None one of another training is kept as `earlier`.
    tell
        Told where a checkpoint is not taken up.

    Raises
    ------
    SettingsError
        `resume` is True, and there is no such checkpoint, or it is damaged.
    """
    identity = _identity(network, train, valid, settings)
    run = _begun(network, settings, identity, checkpoint, resume, tell)
    held = _fixed_batches(valid, settings, run.device)
    every, since = max(settings.steps // 20, 1), time.monotonic()
    sums: dict[str, float] = {}
    while run.step < settings.steps:
        for name, part in _descend(run, train, settings).items():
            sums[name] = sums.get(name, 0.0) + part / every
        if run.step % every and run.step != settings.steps:
            continue
        run.history.train.append((run.step, sums))
        measured = validation_losses(run.averaged.module, held, settings)
        run.history.valid.append((run.step, measured))
        if not held or sum(measured.values()) < run.least:
            run.least = sum(measured.values())
            run.best = copy.deepcopy(run.averaged.module.state_dict())
        if checkpoint is not None:
            run.save(checkpoint, identity)
        seconds = time.monotonic() - since
        report(run.step, {**sums, **{f"valid_{k}": v for k, v in measured.items()}, "seconds": seconds})
        sums = {}
    kept = copy.deepcopy(network)
    kept.load_state_dict(run.best)
    return kept.eval(), run.history


def _begun(
    network: StarNet,
    settings: FitSettings,
    identity: str,
    checkpoint: Path | None,
    resume: bool | None,
    tell: Callable[[str], None],
) -> _Run:
    """Take up the checkpoint, or begin anew; arguments as those of `fit`."""
    run = _Run(network, settings)
    found = checkpoint is not None and checkpoint.is_file() and resume is not False
    try:
        taken = found and checkpoint is not None and run.load(checkpoint, identity)
    except Exception as error:  # noqa: BLE001 - whatever torch raises of a file cut short, overwritten or of another kind
        what = f"{str(checkpoint)!r} is damaged ({type(error).__name__})"
        if resume:
            raise SettingsError(
                f"nothing to resume: {what}. Leave out --resume, or delete it, to start anew."
            ) from None
        tell(f"warning: the checkpoint {what}: the training begins anew")
        return _Run(network, settings)  # this one may be half taken up
    if resume and not taken:
        raise SettingsError(
            f"nothing to resume: {str(checkpoint)!r} is {'of other settings or data' if found else 'missing'}. Leave "
            "out --resume to start anew, or give the settings and data of the interrupted training."
        )
    if found and checkpoint is not None and not taken:
        kept = earlier(checkpoint)
        checkpoint.replace(kept)
        tell(
            f"warning: {str(checkpoint)!r} was of other settings or data: the training begins anew. Until it is done "
            f"or another begun that is kept as {kept.name}; under its old name it goes on with what it was begun with"
        )
    return run


def earlier(checkpoint: Path) -> Path:
    """Where the checkpoint of another training is kept while this one goes on."""
    return checkpoint.with_suffix(f".before{checkpoint.suffix}")


def _identity(network: StarNet, train: Sequence[Example], valid: Sequence[Example], settings: FitSettings) -> str:
    """Hash all that decides how a training goes: pictures and labels as they are learnt, weights, settings."""
    digest = hashlib.sha256(settings.model_dump_json().encode())

    def add(*arrays: NDArray[Any] | None) -> None:
        for one in arrays:
            digest.update(b"none" if one is None else f"{one.shape} {one.dtype}".encode())
            digest.update(b"" if one is None else np.ascontiguousarray(one).data)

    add(*(value.numpy(force=True) for value in network.state_dict().values()))
    for examples in (train, valid):
        digest.update(f"{len(examples)} examples".encode())
        for example in examples:
            cells = example.cells
            add(example.image, example.known, example.dyes)
            add(cells.centres_yx, cells.contours_yx, cells.state, cells.state_weight)
            digest.update(str(example.visible_only).encode())
    return digest.hexdigest()


def _descend(run: _Run, train: Sequence[Example], settings: FitSettings) -> dict[str, float]:
    """Take one step, and return the parts of its loss."""
    while len(run.order) < settings.batch:
        run.order += run.rng.permutation(len(train)).tolist()
    picks, run.order = run.order[: settings.batch], run.order[settings.batch :]
    examples = [augment(train[i], settings.canvas_px, settings.augment, run.rng) for i in picks]
    images, targets = _batch(examples, run.device)
    features = run.network.features(images)
    parts = losses(run.network.heads(features), targets, settings)
    pictured = [example.dyes for example in examples if example.dyes is not None]
    if pictured:
        which = [k for k, example in enumerate(examples) if example.dyes is not None]
        dyes = torch.from_numpy(np.stack(pictured)).to(run.device)
        parts["dyes"] = dye_loss(run.dyes(features[which]), dyes)
    run.optimizer.zero_grad()
    torch.stack(list(parts.values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimizer.step()
    run.schedule.step()
    run.averaged.update_parameters(run.network)
    run.step += 1
    return {name: float(part.detach()) for name, part in parts.items()}


def _device(settings: FitSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("fit.device is cuda, but torch sees no CUDA device; choose auto or cpu.")
    cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def _batch(examples: Sequence[Example], device: torch.device) -> tuple[Tensor, Targets]:
    images = torch.from_numpy(np.stack([example.image for example in examples])[:, None])
    images = images.to(device, memory_format=torch.channels_last)
    height, width = images.shape[2:]
    cells, known = [example.cells for example in examples], [example.known for example in examples]
    return images, encode(cells, height, width, known).to(device)


def _fixed_batches(
    examples: Sequence[Example], settings: FitSettings, device: torch.device
) -> list[tuple[Tensor, Targets]]:
    """Lay validation examples on canvases without any augmentation; a larger picture is laid out whole, in tiles."""
    side = settings.canvas_px
    still = [
        place(example, np.eye(2), -np.array([top, left]), side)
        for example in examples
        for top in _tile_starts(example.image.shape[0], side)
        for left in _tile_starts(example.image.shape[1], side)
    ]
    return [_batch(still[k : k + settings.batch], device) for k in range(0, len(still), settings.batch)]


def _tile_starts(length: int, side: int) -> list[float]:
    """Place as few tiles as cover a length evenly."""
    return [float(start) for start in np.linspace(0, max(length - side, 0), -(-length // side))]
