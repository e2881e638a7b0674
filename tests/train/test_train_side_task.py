from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from livescope.calls import State
from livescope.train.augment import AugmentSettings, augment
from livescope.train.calibrate import best_p_cell, fit_state
from livescope.train.dye import register
from livescope.train.examples import Cells, Example
from livescope.train.fit import FitSettings, fit
from livescope.train.network import StarNet
from livescope.train.scoring import Matched

SMALL = FitSettings(steps=4, batch=2, canvas_px=64, device="cpu")


def example(side_px: int = 96, seed: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((side_px, side_px)).astype(np.float32)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = 10 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    centres = np.array([[30, 30], [60, 60]], np.float32)
    cells = Cells(centres, (centres[:, None] + ring).astype(np.float32), np.array([State.LIVE, State.DEAD], np.uint8))
    return Example(image, cells)


def with_dyes(one: Example) -> Example:
    smooth = np.stack([one.image, -one.image, np.ones_like(one.image)])
    return replace(one, dyes=smooth.astype(np.float32))


def trained(examples: list[Example], checkpoint: Path | None = None, steps: int = 4) -> tuple[StarNet, set[str]]:
    torch.manual_seed(0)
    settings = SMALL.model_copy(update={"steps": steps})
    network, history = fit(StarNet((4, 8, 8, 8)), examples, [], settings, checkpoint=checkpoint)
    return network, set(history.train[-1][1])


def test_dyes_are_learned_along_and_leave_no_trace_in_the_network() -> None:
    plain, parts = trained([example(), example(seed=1)])
    assert "dyes" not in parts
    network, parts = trained([with_dyes(example()), example(seed=1)])  # only some pictures have dyes
    assert "dyes" in parts
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(network.stem[0].weight, plain.stem[0].weight), "the dyes have taught the features nothing"


def test_dyes_move_with_the_picture() -> None:
    dark = AugmentSettings(gain=1, level=0, gradient=0, blur_px=0, noise=0)
    rng = np.random.default_rng(0)
    for _ in range(8):
        moved = augment(with_dyes(example(48)), 64, dark, rng)
        assert moved.dyes is not None
        inside = moved.dyes[2] > 0.99
        assert 0.2 < inside.mean() < 1, "outside the picture nothing is known of the dyes"
        assert moved.dyes[0][inside] == pytest.approx(moved.image[inside], abs=1e-4)


def test_where_live_and_dead_count_alike_rare_deaths_are_called() -> None:
    rng = np.random.default_rng(0)
    dead = np.arange(2000) < 100
    p = 1 / (1 + np.exp(-(rng.normal(0, 1, 2000) + np.where(dead, 0.0, -3.0))))
    marked = np.where(dead, State.DEAD, State.LIVE).astype(np.int64)
    none = np.zeros(0, np.int64)
    found = Matched("f", "g", p.astype(np.float32), p.astype(np.float32), marked.astype(np.uint8), marked, 0 * p, none)

    def called(even: bool) -> tuple[float, float]:
        state = fit_state([found], even)
        says_dead = np.log(p / (1 - p)) + state.bias > 0
        return float(says_dead[dead].mean()), float(says_dead[~dead].mean())

    assert called(even=False)[0] < 0.75
    assert called(even=True)[0] > 0.85
    assert called(even=True)[1] < 0.15


def test_a_missed_cell_can_count_more_than_a_false_call() -> None:
    scores = np.linspace(0.1, 0.8, 200).astype(np.float32)
    hit = np.random.default_rng(0).random(200) < np.linspace(0.2, 1.0, 200)
    marked = np.where(hit, State.LIVE, -1).astype(np.int64)
    found = Matched("f", "g", scores, scores, marked.astype(np.uint8), marked, np.zeros(200), np.zeros(5, np.int64))
    assert best_p_cell([found], recall_weight=2.0) < best_p_cell([found]) - 0.02


def test_a_field_without_structure_takes_the_shift_of_the_others() -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:256, :256]

    def pair(shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        centres = rng.uniform(30, 226, (14, 2))
        blob = sum(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 100) for cy, cx in centres)
        texture = rng.normal(0, 200, (256, 256)) * np.minimum(blob, 1)
        nuclear = np.roll(1000 * blob, (-shift[0], -shift[1]), (0, 1)) + 100
        return (10_000 + texture).astype(np.uint16), nuclear.astype(np.uint16)

    empty = (np.full((256, 256), 10_000, np.uint16), (100 + 1000 * (y > 250)).astype(np.uint16))
    shifts = register([pair((-5, 2)), pair((-5, 2)), pair((-5, 2)), empty])
    assert shifts[3] == pytest.approx((-5, 2), abs=1)
