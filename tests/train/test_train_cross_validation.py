"""tools/cross_validate.py without a training: how it deals, what it keeps, how it judges."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from livescope.calls import CellCalls, State
from livescope.train.data import Field
from livescope.train.sources import Dataset

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import cross_validate

    return cross_validate


@pytest.fixture
def validation(tool: ModuleType) -> ModuleType:
    return sys.modules["_validation"]


def fields(n_groups: int = 7, seed: int = 0) -> list[Field]:
    rng = np.random.default_rng(seed)
    made = []
    for k in range(60):
        n = int(rng.integers(0, 6))
        centres = rng.uniform(20, 80, (n, 2)).astype(np.float32)
        contours = centres[:, None] + np.array([[-5, -5], [-5, 5], [5, 5], [5, -5]], np.float32)
        state = rng.choice([State.LIVE, State.DEAD], n).astype(np.uint8)
        made.append(Field(f"f{k}", f"g{k % n_groups}", np.zeros((100, 100), np.uint8), centres, contours, state))
    return made


def test_every_group_is_dealt_once_and_parts_are_even(tool: ModuleType) -> None:
    some = fields()
    parts = tool.deal(some, lambda field: field.group, 3)
    assert sorted(name for part in parts for name in part) == sorted({field.group for field in some})
    dead = [sum(int((f.state == State.DEAD).sum()) for f in some if f.group in part) for part in parts]
    assert max(dead) < 2 * min(dead)


def test_no_group_and_no_near_duplicate_lies_on_two_sides(tool: ModuleType) -> None:
    some = fields()
    kin = {field.name: str(k // 2) for k, field in enumerate(some)}  # pairs, each across two groups
    recipe = tool.RECIPES["ldc"]
    part = tool.split(recipe, Dataset(some, None, 1.0, True, "made up"), {"g0", "g1"}, kin)
    sides = [part.train, part.valid, part.test]
    assert all(sides)
    assert {field.group for field in part.test} == {"g0", "g1"}
    assert not {"g0", "g1"} & {field.group for field in (*part.train, *part.valid)}
    for one in range(3):
        for other in range(one):
            assert not {kin[f.name] for f in sides[one]} & {kin[f.name] for f in sides[other]}


def calls(p_cell: list[float]) -> CellCalls:
    n = len(p_cell)
    chance = np.asarray(p_cell, np.float32)
    return CellCalls(
        frame_index=0,
        y_px=np.arange(n, dtype=np.float32),
        x_px=np.zeros(n, np.float32),
        radii_px=np.ones((n, 32), np.float32),
        p_cell=chance,
        p_dead=1 - chance,
        state=np.full(n, State.LIVE, np.uint8),
        area_px=np.ones(n, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
    )


def test_calls_are_kept_as_they_were(validation: ModuleType, tmp_path: Path) -> None:
    fold = validation.Fold(["a", "b", "c"], [calls([0.9, 0.2]), calls([]), calls([0.5])], 0.3, np.zeros((0, 2, 3)))
    validation.save_fold(fold, tmp_path / "fold.npz")
    again = validation.load_fold(tmp_path / "fold.npz")
    assert (again.names, again.p_cell) == (["a", "b", "c"], 0.3)
    for one, other in zip(fold.calls, again.calls, strict=True):
        assert one.p_cell.tolist() == other.p_cell.tolist()
        assert one.radii_px.shape == other.radii_px.shape
    assert again.calls[0].select(again.calls[0].p_cell >= 0.3).p_dead.tolist() == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("value", "bar", "at_most", "holds"),
    [(0.95, 0.9, False, True), (0.89, 0.9, False, False), (0.02, 0.03, True, True), (0.04, 0.03, True, False)],
)
def test_a_bar_is_cleared_or_not(validation: ModuleType, value: float, bar: float, at_most: bool, holds: bool) -> None:
    assert validation.Row("figure", value, bar=bar, at_most=at_most).holds is holds
    assert validation.Row("figure", float("nan"), bar=bar, at_most=at_most).holds is False
    assert validation.Row("figure", value).holds is None


def test_intervals_resample_units(validation: ModuleType) -> None:
    def mean(some: list[float]) -> float:
        return float(np.mean(some))

    low, high = validation.resampled([0.0, 1.0, 0.0, 1.0], mean)
    assert 0 < low < 0.1
    assert low + high == pytest.approx(1)
    assert validation.resampled([0.5] * 4, mean) == (0.5, 0.5)
    assert np.isnan(validation.resampled([0.5] * 2, mean)).all()
    assert np.isnan(validation.resampled([1.0] * 4, mean)).all()
    # points of a bias have no bounds: a standard error of 1.2910, and 3.1824 is the t of three degrees of freedom
    low, high = validation.resampled([-3.0, 1.0, 3.0, -1.0], mean, None)
    assert (low, high) == pytest.approx((-3.1824 * 1.2910, 3.1824 * 1.2910), rel=0.08)
