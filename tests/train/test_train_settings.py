"""Training configs: what is written is what is meant, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.errors import SettingsError
from livescope.train.settings import load_train_settings

CONFIG = "name: x\ndata: [{kind: simulated}]\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "fractions", ["[75, 10]", "[5, 9]", "[-0.2, 0.5]", "[0, 0]", "[0.7, 0.5]", "[1, 0]", "[0.9, 0]", "[nan, 0.1]"]
)
def test_fractions_that_are_no_parts(tmp_path: Path, fractions: str) -> None:
    with pytest.raises(SettingsError, match=r"train.yaml.*fractions are parts of 1.*75 % is 0.75.*given: \["):
        load_train_settings(write(tmp_path, f"{CONFIG}fractions: {fractions}"))


@pytest.mark.parametrize("fractions", [(0.75, 0.1), (0.75, 0.25), (0.7, 0.3), (0.9, 0.1), (0.57, 0.43)])
def test_fractions_with_a_test_or_without(tmp_path: Path, fractions: tuple[float, float]) -> None:
    config = write(tmp_path, f"{CONFIG}fractions: {list(fractions)}")
    assert load_train_settings(config).fractions == fractions


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CONFIG + "name: y\n", "the key 'name' stands twice, in line 1 and in line 3"),
        (
            "name: x\ndata: [{kind: dye_pairs, path: x, thresholds: {live_ring: 5, dead_ring: 1}}]\n",
            "live_ring is 5, dead_ring 1: live must end at or below where dead begins",
        ),
        ("data: &a [*a]", "not YAML"),
        ("data: " + "[" * 3000, "not YAML"),
    ],
)
def test_what_no_config_may_be(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_train_settings(write(tmp_path, text))
