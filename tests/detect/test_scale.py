from __future__ import annotations

from pathlib import Path

import pytest
from network_kit import blob_network, make_bundle

from livescope.detect.bundle import Card
from livescope.detect.scale import fit_scale
from livescope.errors import ModelError
from livescope.frames import FrameSpec


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return make_bundle(tmp_path, blob_network(), pixel_um=1.3).card


def spec(pixel_um: float | None) -> FrameSpec:
    return FrameSpec(64, 64, "uint8", 8, pixel_um)


@pytest.mark.parametrize(
    ("pixel_um", "factor"),
    [(1.3, 1), (1.6, 1), (1.1, 1), (0.65, 2), (0.6, 2), (0.7, 2), (0.34, 4), (0.3, 4)],
)
def test_the_bin_comes_nearest_to_the_model_s_pixel(card: Card, pixel_um: float, factor: int) -> None:
    assert fit_scale(spec(pixel_um), card).bin == factor
    assert fit_scale(spec(pixel_um), card).warning is None


@pytest.mark.parametrize("pixel_um", [1.7, 0.9, 6.5])
def test_a_wrong_pixel_size_names_the_value_the_range_and_the_next_step(card: Card, pixel_um: float) -> None:
    with pytest.raises(ModelError, match=rf"pixels of {pixel_um} um do not fit .*1\.04 to 1\.62 um.*objective"):
        fit_scale(spec(pixel_um), card)


def test_an_unknown_pixel_size_is_a_warning(card: Card) -> None:
    scale = fit_scale(spec(None), card)
    assert scale.bin == 1
    assert "pixel size of these frames is unknown" in str(scale.warning)
    assert "1.3 um" in str(scale.warning)
    scale = fit_scale(spec(0.5), card.model_copy(update={"pixel_um": None}))
    assert "cells 10 to 14 pixels across" in str(scale.warning)
