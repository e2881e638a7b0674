"""What is descended, and what of it stops a training."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from livescope.calls import State
from livescope.train.examples import Cells
from livescope.train.fit import FitSettings
from livescope.train.losses import losses, validation_losses
from livescope.train.network import StarNet
from livescope.train.targets import Targets, encode


def batch_of(live: int, dead: int) -> tuple[torch.Tensor, Targets]:
    """Lay round cells in a row on a picture of noise."""
    n = live + dead
    centres = np.stack([np.full(n, 32.0), np.linspace(16, 112, n)], axis=1).astype(np.float32)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = 6 * np.stack([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    state = np.repeat([State.LIVE, State.DEAD], [live, dead]).astype(np.uint8)
    targets = encode([Cells(centres, centres[:, None] + ring, state)], 64, 128)
    return torch.randn(1, 1, 64, 128, generator=torch.Generator().manual_seed(n)), targets


def test_a_missed_dead_cell_costs_more_than_a_missed_live_one() -> None:
    maps = StarNet().eval()(torch.zeros(1, 1, 64, 128))
    missed = {}
    for live, dead in ((4, 0), (0, 4)):
        targets = batch_of(live, dead)[1]
        missed[dead] = [losses(maps, targets, FitSettings(dead_miss_weight=w))["object"].item() for w in (1.0, 3.0)]
    assert missed[0][0] == missed[0][1] == pytest.approx(missed[4][0])
    assert missed[4][1] > 2 * missed[4][0]


def test_with_a_lower_exponent_faint_calls_count_more_against_sure_ones() -> None:
    _, targets = batch_of(0, 0)  # nothing to be found: every call is a false one
    maps = StarNet().eval()(torch.zeros(1, 1, 64, 128))
    cost = {}
    for focal in (0.0, 1.0, 2.0):
        for p in (0.05, 0.1, 0.8):
            logit = torch.full_like(maps.object_logit, float(np.log(p / (1 - p))))
            part = losses(maps._replace(object_logit=logit), targets, FitSettings(focal=focal))["object"].item()
            cost[focal, p] = part / logit.numel()
            assert cost[focal, p] == pytest.approx(-np.log(1 - p) * p**focal, rel=1e-3)
    assert (cost[1, 0.1] - cost[1, 0.05]) / cost[1, 0.8] > 5 * (cost[2, 0.1] - cost[2, 0.05]) / cost[2, 0.8]


def outline_loss(radii: float, unknown: slice = slice(0)) -> float:
    """Measure the loss of outlines of one radius on round cells whose rays are 6 pixels to 20 in turn."""
    _, targets = batch_of(3, 0)
    true = torch.full_like(targets.radii, 6.0)
    true[:, ::2] = 20.0
    true[:, unknown] = float("nan")
    maps = StarNet().eval()(torch.zeros(1, 1, 64, 128))
    maps = maps._replace(radii=torch.full_like(maps.radii, radii, requires_grad=True))
    part = losses(maps, replace(targets, radii=true), FitSettings())["radii"]
    part.backward()
    assert maps.radii.grad is not None
    assert torch.isfinite(maps.radii.grad).all()
    return part.item()


def test_outlines_are_judged_by_the_area_that_they_share() -> None:
    # the long half of the rays holds 400 / 436 of the area; by the logarithms any circle from 6 to 20 would do
    tried = {radii: outline_loss(radii) for radii in np.arange(4.0, 26.0)}
    assert min(tried, key=lambda radii: tried[radii]) == 20.0
    # -log of (36 + 400) / (400 + 400), halved by its weight
    assert tried[20.0] == pytest.approx(-0.5 * np.log(436 / 800), rel=1e-4)
    assert outline_loss(6.0, unknown=slice(0, None, 2)) == pytest.approx(0.0, abs=1e-6)  # unknown rays say nothing
    assert outline_loss(9.0, unknown=slice(None)) == 0.0


def test_a_network_that_is_only_too_sure_is_no_worse_on_validation_pictures() -> None:
    torch.manual_seed(0)
    network, settings = StarNet().eval(), FitSettings()
    sure = copy.deepcopy(network)
    with torch.no_grad():
        assert sure.dead.bias is not None
        sure.dead.weight *= 30
        sure.dead.bias += 2
    images, targets = batch_of(6, 5)
    raw, measured = [], []
    for one in (network, sure):
        raw.append(losses(one(images), targets, settings)["dead"].item())
        measured.append(validation_losses(one, [(images, targets)], settings))
    assert raw[1] > 1.1 * raw[0]
    assert measured[1]["dead"] == pytest.approx(measured[0]["dead"], rel=0.02)
    assert 0 < measured[0]["dead"] < raw[0]
    assert all(measured[0][name] == measured[1][name] for name in measured[0] if name != "dead")


def test_a_handful_of_a_state_is_measured_as_it_is_and_no_pictures_not_at_all() -> None:
    network, settings = StarNet().train(), FitSettings()
    assert validation_losses(network, [], settings) == {}
    for live, dead in ((5, 0), (6, 4)):
        images, targets = batch_of(live, dead)
        raw = losses(copy.deepcopy(network).eval()(images), targets, settings)["dead"].item()
        assert validation_losses(network, [(images, targets)], settings)["dead"] == pytest.approx(raw)
    assert network.training  # as it was
    images, targets = batch_of(6, 5)
    raw = losses(copy.deepcopy(network).eval()(images), targets, settings)["dead"].item()
    assert validation_losses(network, [(images, targets)], settings)["dead"] < raw
