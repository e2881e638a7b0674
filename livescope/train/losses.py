"""What a network is trained to make small, and what of it is measured on validation pictures.

Owns the losses and their weights against each other. Descending them is the matter of `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from livescope.train.calibrate import platt
from livescope.train.network import STRIDE, Maps
from livescope.train.targets import Targets

if TYPE_CHECKING:
    from livescope.train.fit import FitSettings

__all__ = ["dye_loss", "losses", "validation_losses"]

_WEIGHTS = {"object": 1.0, "foreground": 1.0, "offset": 0.1, "radii": 0.5}
_DYE_WEIGHT = 4.0
"""Of the side task: so much that it is a third of the whole loss at the end of a training."""

_HANDFUL = 4.5
"""Cells of a state below which bias and temperature mean nothing: five, whose shares need not sum to them exactly."""


def losses(maps: Maps, targets: Targets, settings: FitSettings) -> dict[str, Tensor]:
    """Compute each part of the loss; their sum is descended.

    Parameters
    ----------
    maps
        What the network says of a batch.
    targets
        Of the same batch.
    settings
        Weights.
    """
    sample, row, column = targets.where.T
    cells = max(targets.cells, 1)
    is_dead = targets.dead == 1
    sought = torch.ones_like(targets.heat)
    sought[sample, 0, row, column] = torch.where(is_dead, settings.dead_miss_weight, 1.0)
    parts = {"object": _focal(maps.object_logit, targets.heat, targets.known, sought, settings.focal) / cells}
    covered = functional.binary_cross_entropy_with_logits(maps.foreground_logit, targets.foreground, reduction="none")
    parts["foreground"] = (covered * targets.known).sum() / targets.known.sum().clamp(min=1)
    state, weight = _states(maps, targets, settings)
    bce = functional.binary_cross_entropy_with_logits(state, targets.dead.clamp(min=0), reduction="none")
    parts["dead"] = settings.state_weight * (bce * weight).sum() / weight.sum().clamp(min=1)
    off = (maps.offset_yx[sample, :, row, column] - targets.offset_yx).abs().sum(1)
    parts["offset"] = (off * targets.share).sum() / cells
    parts["radii"] = (_outlines(maps.radii[sample, :, row, column], targets.radii) * targets.share).sum() / cells
    return {name: _WEIGHTS.get(name, 1.0) * part for name, part in parts.items()}


def _outlines(radii: Tensor, true: Tensor) -> Tensor:
    """Compute (m,) -log of the overlap of two star-convex outlines around one point, intersection over union.

    After PolarMask (Xie et al. 2020), with areas. (The distance of the logarithms was the loss once: its best answer
    for a ray that may be long or short is the median, and the outlines of spread cells came out 7 % too short.)
    """
    found = torch.isfinite(true)
    true = torch.where(found, true, 1.0).clamp(min=1.0)
    both = (torch.minimum(radii, true).square() * found).sum(1)
    either = (torch.maximum(radii, true).square() * found).sum(1)
    overlap: Tensor = both.clamp(min=1e-3) / either.clamp(min=1e-3)
    return -torch.log(overlap)


def _states(maps: Maps, targets: Targets, settings: FitSettings) -> tuple[Tensor, Tensor]:
    """Return (m,) logits of dead at the positive positions, and what each counts; 0 where its state is not known."""
    sample, row, column = targets.where.T
    weight = targets.share * targets.state_weight * (targets.dead >= 0)
    return maps.dead_logit[sample, 0, row, column], weight * torch.where(targets.dead == 1, settings.dead_weight, 1.0)


def _focal(logit: Tensor, heat: Tensor, known: Tensor, sought: Tensor, alpha: float) -> Tensor:
    """Penalty-reduced focal loss of CenterNet (Zhou et al. 2019; alpha 2, beta 4), summed; a miss counts `sought`.

    With alpha 2 a false call of 0.1 counts a hundredth of its cross-entropy, and is hardly told from one of 0.05.
    """
    p = torch.sigmoid(logit)
    centre = (heat >= 1.0).float()
    hit = functional.logsigmoid(logit) * (1 - p) ** alpha * centre
    miss = functional.logsigmoid(-logit) * p**alpha * (1 - heat) ** 4 * (1 - centre) * known
    return -(sought * hit + miss).sum()


def dye_loss(predicted: Tensor, dyes: Tensor) -> Tensor:
    """Compare predicted dyes (N, 2, h, w) with their pictures (N, 3, H, W); bright places, being few, count more."""
    dyes = functional.avg_pool2d(dyes, STRIDE)
    wanted, seen = dyes[:, :2], (dyes[:, 2:] > 0.99).float()
    weight = seen * (1 + 4 * wanted.clamp(0, 1))
    far = functional.smooth_l1_loss(predicted, wanted, reduction="none", beta=0.3)
    return _DYE_WEIGHT * (far * weight).sum() / weight.sum().clamp(min=1)


@torch.no_grad()
def validation_losses(
    network: torch.nn.Module, batches: Sequence[tuple[Tensor, Targets]], settings: FitSettings
) -> dict[str, float]:
    """Measure each part of the loss on batches; empty for none.

    Of the state it is what the best bias and temperature leave, since these are fitted after the training: a network
    that is merely too sure is not worse, and must not stop it early. With a handful of either state there is nothing to
    fit: it is then the loss as it is.
    """
    training = network.training
    network.eval()
    sums: dict[str, float] = {}
    states = []
    for images, targets in batches:
        maps = network(images)
        for name, part in losses(maps, targets, settings).items():
            sums[name] = sums.get(name, 0.0) + float(part) / len(batches)
        states.append(
            torch.stack([*_states(maps, targets, settings), targets.dead, targets.share]).cpu().double().numpy()
        )
    network.train(training)
    if states:
        logit, weight, code, share = np.concatenate(states, axis=1)
        if min(share[code == state].sum() for state in (0, 1)) >= _HANDFUL:
            known = weight > 0
            sums["dead"] = settings.state_weight * platt(logit[known], code[known] == 1, weight[known])[1]
    return sums
