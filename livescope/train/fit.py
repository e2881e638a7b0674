"""Gradient descent: losses, schedule, averaging of weights.

Owns the training loop. Data come ready as `Example`, the result is a `StarNet`; export and scores lie elsewhere.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from livescope.train.augment import AugmentSettings, augment, place
from livescope.train.examples import Example
from livescope.train.network import StarNet
from livescope.train.targets import Targets, encode

__all__ = ["FitSettings", "History", "fit", "losses"]

NO_AUGMENT = AugmentSettings(scale=1, rotation_deg=0, gain=1, level=0, gradient=0, blur_px=0, noise=0)


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
    average_steps: float = Field(default=150, ge=1)
    """Time constant of the running average of the weights, which is the network that is kept."""
    seed: int = Field(default=0, ge=0)
    augment: AugmentSettings = AugmentSettings()


@dataclass(slots=True)
class History:
    """Losses by step: `train` and `valid` hold (step, mean of each part by name)."""

    train: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    valid: list[tuple[int, dict[str, float]]] = field(default_factory=list)


_WEIGHTS = {"object": 1.0, "foreground": 1.0, "dead": 0.5, "offset": 0.1, "radii": 1.0}


def losses(network: torch.nn.Module, images: Tensor, targets: Targets, dead_weight: float) -> dict[str, Tensor]:
    """Compute each part of the loss; their sum is descended.

    Parameters
    ----------
    network
        Gives `Maps`.
    images
        (N, 1, H, W) float32.
    targets
        Of the same batch.
    dead_weight
        Weight of a dead cell against a live one.
    """
    maps = network(images)
    sample, row, column = targets.where.T
    cells = max(targets.cells, 1)
    parts = {"object": _focal(maps.object_logit, targets.heat, targets.known) / cells}
    covered = functional.binary_cross_entropy_with_logits(maps.foreground_logit, targets.foreground, reduction="none")
    parts["foreground"] = (covered * targets.known).sum() / targets.known.sum().clamp(min=1)
    state = maps.dead_logit[sample, 0, row, column]
    weight = targets.share * torch.where(targets.dead == 1, dead_weight, 1.0) * (targets.dead >= 0)
    bce = functional.binary_cross_entropy_with_logits(state, targets.dead.clamp(min=0), reduction="none")
    parts["dead"] = (bce * weight).sum() / weight.sum().clamp(min=1)
    off = (maps.offset_yx[sample, :, row, column] - targets.offset_yx).abs().sum(1)
    parts["offset"] = (off * targets.share).sum() / cells
    found = torch.isfinite(targets.radii)
    true = torch.where(found, targets.radii, 1.0).clamp(min=1.0)
    log_error = (torch.log(maps.radii[sample, :, row, column]) - torch.log(true)).abs() * found
    parts["radii"] = (log_error.mean(1) * targets.share).sum() / cells
    return {name: _WEIGHTS[name] * part for name, part in parts.items()}


def _focal(logit: Tensor, heat: Tensor, known: Tensor) -> Tensor:
    """Penalty-reduced focal loss of CenterNet (Zhou et al. 2019, alpha 2, beta 4), summed."""
    p = torch.sigmoid(logit)
    centre = (heat >= 1.0).float()
    hit = functional.logsigmoid(logit) * (1 - p) ** 2 * centre
    miss = functional.logsigmoid(-logit) * p**2 * (1 - heat) ** 4 * (1 - centre) * known
    return -(hit + miss).sum()


def fit(
    network: StarNet,
    train: Sequence[Example],
    valid: Sequence[Example],
    settings: FitSettings,
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
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
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    # channels last: a step takes two thirds of the time on a CPU (78 against 125 ms, 8 x 240 x 240)
    network = copy.deepcopy(network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay = 1 - 1 / settings.average_steps
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.steps, pct_start=0.1)
    history, best, least = History(), None, np.inf
    held = _fixed_batches(valid, settings)
    order: list[int] = []
    sums: dict[str, float] = {}
    every, since = max(settings.steps // 20, 1), time.monotonic()
    for step in range(1, settings.steps + 1):
        while len(order) < settings.batch:
            order += rng.permutation(len(train)).tolist()
        picks, order = order[: settings.batch], order[settings.batch :]
        images, targets = _batch([augment(train[i], settings.canvas_px, settings.augment, rng) for i in picks])
        parts = losses(network, images, targets, settings.dead_weight)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        sums = {name: sums.get(name, 0.0) + float(part.detach()) / every for name, part in parts.items()}
        if step % every == 0:
            history.train.append((step, sums))
            measured = _measure(averaged.module, held, settings.dead_weight)
            history.valid.append((step, measured))
            report(
                step, {**sums, **{f"valid_{k}": v for k, v in measured.items()}, "seconds": time.monotonic() - since}
            )
            if not held or sum(measured.values()) < least:
                least, best = sum(measured.values()), copy.deepcopy(averaged.module)
            sums = {}
    kept = best if best is not None else averaged.module
    assert isinstance(kept, StarNet)
    return kept.eval(), history


def _batch(examples: Sequence[Example]) -> tuple[Tensor, Targets]:
    images = torch.from_numpy(np.stack([example.image for example in examples])[:, None])
    images = images.contiguous(memory_format=torch.channels_last)
    height, width = images.shape[2:]
    cells, known = [example.cells for example in examples], [example.known for example in examples]
    return images, encode(cells, height, width, known)


def _fixed_batches(examples: Sequence[Example], settings: FitSettings) -> list[tuple[Tensor, Targets]]:
    """Lay validation examples on canvases without any augmentation."""
    still = [place(e, np.eye(2), np.zeros(2), settings.canvas_px) for e in examples]
    return [_batch(still[k : k + settings.batch]) for k in range(0, len(still), settings.batch)]


@torch.no_grad()
def _measure(
    network: torch.nn.Module, batches: Sequence[tuple[Tensor, Targets]], dead_weight: float
) -> dict[str, float]:
    training = network.training
    network.eval()
    sums: dict[str, float] = {}
    for images, targets in batches:
        for name, part in losses(network, images, targets, dead_weight).items():
            sums[name] = sums.get(name, 0.0) + float(part) / len(batches)
    network.train(training)
    return sums
