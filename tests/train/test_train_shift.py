"""Misuse of the networks that ship, each of which must warn, and proper frames, which must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import Card, load_bundle
from livescope.detect.shift import LIVE, PICTURES, ShiftWatch, WatchPace
from livescope.frames import Frame, Pixels
from livescope.settings import DetectorSettings, SimulationSettings
from livescope.simulate.optics import render_field

SIDE = 448


def simulated(**changed: object) -> Pixels:
    known = {"seed": 8, "width": SIDE, "height": SIDE, "pixel_um": 0.65, "cells_per_mm2": 400.0, "bit_depth": 12}
    pixels, _ = render_field(SimulationSettings.model_validate(known | changed), frame_number=0, exposure_ms=12)
    return np.asarray(pixels)


def warnings_of(*pictures: Pixels, pixel_um: float | None = 0.65, model: str = "simulated") -> str:
    """Everything that is said of some pictures, as `livescope analyze` says it."""
    analyser = FrameAnalyser(load_bundle(model), DetectorSettings(backend="onnx", threads=1))
    for k, pixels in enumerate(pictures):
        analyser(Frame(pixels, k, 0, "files", 0.0, 0.0, 16, pixel_um=pixel_um))
    analyser.close()
    return "\n".join(analyser.warnings)


def debris(rng: np.random.Generator) -> Pixels:
    """Bright and dark grains of a few pixels on an even field."""
    grains = np.zeros((SIDE, SIDE))
    place = tuple(rng.integers(0, SIDE, (2, 160)))
    grains[place] = rng.choice([-1.0, 1.0], 160) * rng.uniform(5, 40, 160)
    light = 1500 * (1 + 0.3 * gaussian_filter(grains, 1.2)) + 15 * rng.standard_normal(grains.shape)
    return np.clip(np.rint(light), 0, 4095).astype(np.uint16)


def fluorescence() -> Pixels:
    """Nuclei of dead cells in a far-red dye: bright spots on next to nothing."""
    rng = np.random.default_rng(1)
    spots = np.zeros((SIDE, SIDE))
    spots[tuple(rng.integers(0, SIDE, (2, 30)))] = 60_000
    return np.rint(gaussian_filter(spots, 6) + 100 + 6 * rng.standard_normal(spots.shape)).astype(np.uint16)


def saturated() -> Pixels:
    pixels = simulated()
    return np.minimum(pixels, np.percentile(pixels, 60).astype(np.uint16))


def mostly_saturated(low_bits: int) -> Pixels:
    return np.minimum(simulated() * 4, 4095).astype(np.uint16) << low_bits


def noise() -> Pixels:
    return (1500 + 15 * np.random.default_rng(0).standard_normal((SIDE, SIDE))).astype(np.uint16)


def uneven() -> Pixels:
    return (simulated() * np.linspace(0.4, 1.3, SIDE)).astype(np.uint16)


MISUSE: dict[str, tuple[Callable[[], Pixels | list[Pixels]], str]] = {
    # a single such field shows some ten cells, and is told in three of four
    "pixels half as large as said": (lambda: [simulated(pixel_um=0.325, seed=k) for k in (8, 9, 10)], "pixel size"),
    "pixels twice as large as said": (lambda: simulated(pixel_um=1.3), "pixel size"),
    "saturated": (saturated, "camera is saturated"),
    "saturated for the most part": (lambda: mostly_saturated(0), "camera is saturated"),
    "the same, 12 bits put first in 16": (lambda: mostly_saturated(4), "camera is saturated"),
    "empty": (noise, "no cell was found"),
    "dark: shutter closed": (lambda: noise() // 12, "no cell was found"),
    "all dead": (lambda: simulated(dead_fraction=1.0, cells_per_mm2=800.0), "were called dead"),
    "debris": (lambda: debris(np.random.default_rng(3)), "does not look like"),
    "fluorescence": (fluorescence, "modality"),
    "defocus": (lambda: simulated(defocus_um=14.0), "focus"),
    "uneven light": (uneven, "uneven"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_told(case: str) -> None:
    make, said = MISUSE[case]
    shown = make()
    assert said in warnings_of(*(shown if isinstance(shown, list) else [shown]))


def test_a_picture_of_a_few_pixels_is_looked_at() -> None:
    assert "no cell was found" in warnings_of(np.full((4, 4), 1500, np.uint16))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 7), (2, 40)])
def test_frames_of_no_size_are_no_look(shape: tuple[int, int]) -> None:
    """With bin 2 these are no or one network pixel high or wide."""
    told = warnings_of(simulated(), np.full(shape, 1500, np.uint16), simulated())
    assert "no cell was found in frame 1" in told
    assert "look like" not in told


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_proper_frames_give_no_warning(seed: int) -> None:
    assert warnings_of(simulated(seed=seed, dead_fraction=0.3, defocus_um=1.0)) == ""


def still(n_live: int, n_dead: int) -> CellCalls:
    n = n_live + n_dead
    spot = np.linspace(40, 400, n).astype(np.float32)
    return CellCalls(
        frame_index=0,
        y_px=spot,
        x_px=spot[::-1].copy(),
        radii_px=np.full((n, 32), 9, np.float32),
        p_cell=np.full(n, 0.8, np.float32),
        p_dead=np.full(n, 0.1, np.float32),
        state=np.repeat([State.LIVE, State.DEAD], [n_live, n_dead]).astype(np.uint8),
        area_px=np.full(n, 200, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
        pixel_um=0.65,
    )


def test_live_a_shift_must_last_and_is_told_once() -> None:
    card = load_bundle("simulated").card.model_copy(update={"shift": None})
    watch = ShiftWatch(card, LIVE)
    good = noise()
    burnt = np.minimum(good, np.percentile(good, 60).astype(np.uint16))
    frames = [
        Frame(good, 0, 0, "Camera", 0.0, 0.0, 12),
        *(Frame(burnt, k, 0, "Camera", k / 1.0, 0.0, 12) for k in (1, 2, 3, 4)),
    ]
    told = [watch(frame, still(20, 5), 2) for frame in frames]
    assert [len(one) for one in told] == [0, 0, 0, 1, 0]
    assert "camera is saturated" in told[3][0]
    assert watch(replace(frames[4], time_s=4.1), still(0, 0), 2) == ()  # too soon after the last: not looked at


def near_the_limit() -> Card:
    """A card by which `noise` with 20 live and 5 dead cells lies at 0.9 of the limit."""
    card = load_bundle("simulated").card
    watch = ShiftWatch(card, PICTURES)
    watch(Frame(noise(), 0, 0, "files", 0.0, 0.0, 12), still(20, 5), 2)
    assert card.shift is not None
    assert watch.distance is not None
    (subset,) = card.shift.subsets
    nearer = subset.model_copy(update={"limit": subset.limit * watch.distance / 0.9})
    return card.model_copy(update={"shift": card.shift.model_copy(update={"subsets": (nearer,)})})


def looks(pace: WatchPace, places: list[dict[str, object]], count: int = 24) -> list[tuple[int, str]]:
    """Index and text of what is told of so many looks, taken in turn at some places."""
    watch = ShiftWatch(near_the_limit(), pace)
    shown = [Frame(noise(), k, 0, "Camera", k / 1.0, 0.0, 12, **places[k % len(places)]) for k in range(count)]
    return [(frame.index, text) for frame in shown for text in watch(frame, still(20, 5), 2) if "look like" in text]


def test_looks_of_one_place_are_one_picture_however_long_the_run() -> None:
    assert looks(LIVE, [{}]) == []
    trembling = [{"x_um": 149.9, "y_um": 250.1}, {"x_um": 150.1, "y_um": 249.9}]
    assert looks(LIVE, trembling) == []
    assert looks(LIVE, [{"position": f"A{k}"} for k in range(7)]) == []


@pytest.mark.parametrize("key", ["position", "x_um"])
def test_eight_places_near_the_limit_are_told_together(key: str) -> None:
    ((index, text),) = looks(LIVE, [{key: f"A{k}" if key == "position" else 400.0 * k} for k in range(8)])
    assert index == 9  # the eighth is the first of three
    assert "the last 8 looks, up to frame 9, were judged together and do not look like" in text
    assert "their median distance is 0.90 of the limit for one look" in text
    assert "times the distance" not in text


def test_eight_pictures_near_the_limit_are_told_together() -> None:
    ((index, text),) = looks(PICTURES, [{}])
    assert index == 7
    assert "the last 8 looks, up to frame 7, were judged together" in text


def test_all_dead_counts_over_frames() -> None:
    watch = ShiftWatch(load_bundle("simulated").card.model_copy(update={"shift": None}), PICTURES)
    frame = Frame(noise(), 0, 0, "files", 0.0, 0.0, 12)
    told = [watch(frame, still(0, 8), 2) for _ in range(4)]
    assert [len(one) for one in told] == [0, 0, 1, 0]
    assert "24 of the last 24 cells were called dead" in told[2][0]


def test_a_card_without_sheet_or_reference_says_so() -> None:
    card = load_bundle("simulated").card
    assert card.cautions == ()
    bare = card.model_copy(update={"validation": (), "shift": None})
    assert [("no validation sheet" in text, "how its training looked" in text) for text in bare.cautions] == [
        (True, False),
        (False, True),
    ]
