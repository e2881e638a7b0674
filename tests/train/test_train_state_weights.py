"""States are weighed so that the group does not give them away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from livescope.calls import State
from livescope.detect.normalise import Spread
from livescope.train.augment import AugmentSettings, augment
from livescope.train.data import UNKNOWN, Field
from livescope.train.examples import example_of
from livescope.train.fit import FitSettings
from livescope.train.losses import losses
from livescope.train.network import StarNet
from livescope.train.state_weights import state_weights
from livescope.train.targets import encode


def field_of(group: str, live: int, dead: int, unknown: int = 0) -> Field:
    state = np.repeat([State.LIVE, State.DEAD, UNKNOWN], [live, dead, unknown]).astype(np.uint8)
    n = len(state)
    centres = np.stack([np.full(n, 32.0), np.linspace(16, 112, n)], axis=1).astype(np.float32)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = 6 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    pixels = np.random.default_rng(0).integers(90, 110, (64, 128)).astype(np.uint16)
    return Field(group, group, pixels, centres, (centres[:, None] + ring).astype(np.float32), state)


def test_weighed_states_are_alike_in_all_groups() -> None:
    fields = [field_of("a", 900, 100), field_of("b", 300, 700), field_of("a", 0, 0, unknown=5)]
    weights = state_weights(fields)
    shares = []
    for field in fields[:2]:
        weight = weights[field.group][field.state]
        shares.append(weight[field.state == State.DEAD].sum() / weight.sum())
    assert shares == pytest.approx([0.4, 0.4], abs=0.01)  # 800 of 2000
    assert weights["a"][UNKNOWN] == 1


def test_a_few_cells_are_hardly_weighed_and_one_state_alone_not_at_all() -> None:
    weights = state_weights([field_of("many", 50, 50), field_of("few", 1, 0)])
    assert weights["few"][State.LIVE] == pytest.approx(1, abs=0.1)
    assert all((one == 1).all() for one in state_weights([field_of("a", 5, 0), field_of("b", 3, 0)]).values())


def test_weights_reach_the_loss_of_the_state_alone() -> None:
    field = field_of("a", 2, 2)
    heavy = np.ones(256, np.float32)
    heavy[State.DEAD] = 5
    maps = StarNet().eval()(torch.zeros(1, 1, 64, 128))
    parts = {}
    for name, weights in (("plain", None), ("heavy", heavy)):
        cells = example_of(field, Spread(), 1, weights).cells
        parts[name] = losses(maps, encode([cells], 64, 128), FitSettings(dead_weight=1.0))
    assert parts["plain"]["dead"] != parts["heavy"]["dead"]
    assert all(parts["plain"][k] == parts["heavy"][k] for k in parts["plain"] if k != "dead")


def test_weights_move_with_the_picture() -> None:
    weights = np.ones(256, np.float32)
    weights[State.DEAD] = 3
    example = example_of(field_of("a", 3, 3), Spread(), 1, weights)
    for seed in range(5):
        moved = augment(example, 96, AugmentSettings(), np.random.default_rng(seed)).cells
        assert moved.state_weight is not None
        np.testing.assert_array_equal(moved.state_weight, weights[moved.state])
