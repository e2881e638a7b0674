from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.io import imsave

from livescope.calls import State
from livescope.errors import SourceError
from livescope.train import sources
from livescope.train.data import UNKNOWN
from livescope.train.dye import Pair, Thresholds, doubt, label, measure, propose, read_pairs, register
from livescope.train.evaluate import evaluate
from livescope.train.nuclei import find_nuclei

SHIFT = (-5, 3)


def draw(folder: Path, name: str, seed: int, drawn: bool = True) -> dict[int, str]:
    """Write a field whose dyes lie shifted against the bright-field; returns the truth of each nucleus."""
    rng = np.random.default_rng(seed)
    side = 200
    y, x = np.mgrid[:side, :side]
    light, nuclear, dead = (
        rng.normal(10_000, 60, (side, side)),
        np.full((side, side), 200.0),
        np.full((side, side), 100.0),
    )
    nuclei, truth = np.zeros((side, side), np.uint16), {}
    for k, (cy, cx) in enumerate([(r, c) for r in (30, 80, 130, 170) for c in (30, 80, 130, 170)], start=1):
        cy, cx = cy + rng.integers(-6, 7), cx + rng.integers(-6, 7)
        texture = np.hypot(y - cy, x - cx) < 12
        light[texture] += rng.normal(0, 1500, texture.sum())
        nucleus = np.hypot(y - cy + SHIFT[0], x - cx + SHIFT[1]) < 9
        nuclear[nucleus] += 3000
        truth[k] = ("live", "live", "dead", "between")[int(rng.integers(4))]
        dead[nucleus] *= {"live": 1.0, "dead": 4.0, "between": 1.6}[truth[k]]
        nuclei[nucleus] = k
    for channel, picture in (
        ("brightfield", gaussian_filter(light, 0.7)),
        ("nuclear_dye", nuclear),
        ("dead_dye", dead),
    ):
        noisy = picture + rng.normal(0, 3, picture.shape)
        imsave(folder / f"{name}.{channel}.tif", noisy.clip(0, 65535).astype(np.uint16), check_contrast=False)
    if drawn:
        imsave(folder / f"{name}.nuclei.tif", nuclei, check_contrast=False)
    return truth


def test_dyes_are_registered_measured_and_labelled(tmp_path: Path) -> None:
    truth = [draw(tmp_path, f"exp{k}_field", k) for k in range(3)]
    pairs = read_pairs(tmp_path)
    assert [pair.group for pair in pairs] == ["exp0", "exp1", "exp2"]
    for pair in pairs:
        assert pair.shift_yx == pytest.approx(SHIFT, abs=1)
    fields = label(pairs, Thresholds())
    wanted = {"live": State.LIVE, "dead": State.DEAD, "between": UNKNOWN}
    for field, pair, true in zip(fields, pairs, truth, strict=True):
        assert field.state.tolist() == [wanted[true[k]] for k in range(1, 17)]
        drawn_at = np.array([np.mean(np.nonzero(pair.nuclei == k), axis=1) for k in range(1, 17)])
        assert field.centres_yx == pytest.approx(drawn_at + pair.shift_yx, abs=0.5)
        assert field.known is not None
        assert field.known.mean() > 0.5


def test_proposed_thresholds_part_the_modes(tmp_path: Path) -> None:
    for k in range(3):
        draw(tmp_path, f"exp{k}_field", k)
    lines = propose(read_pairs(tmp_path))
    assert 1.0 < lines.live_field < 1.6 < lines.dead_field + 0.2 < 4.2
    assert 1.0 < lines.live_ring < lines.dead_ring < 4


def stained(times: float, fields: int, seed: int, spread: float = 0.25) -> list[Pair]:
    """Fields of 16 nuclei each, whose dead dye is about so many times the background."""
    rng, pairs = np.random.default_rng(seed), []
    y, x = np.mgrid[:200, :200]
    for k in range(fields):
        dead, nuclei = rng.normal(100.0, 3.0, y.shape), np.zeros(y.shape, np.intp)
        for number, (cy, cx) in enumerate([(r, c) for r in (25, 75, 125, 175) for c in (25, 75, 125, 175)], start=1):
            nuclei[np.hypot(y - cy, x - cx) < 10] = number
            dead[nuclei == number] *= times * np.exp(rng.normal(0, spread))
        nuclear = np.where(nuclei > 0, 1000, 50).astype(np.uint16)
        light = np.full(y.shape, 1000, np.uint16)
        pairs.append(Pair(f"{k}", f"{k}", light, dead.clip(0).astype(np.uint16), nuclear, nuclei, (0, 0), drawn=True))
    return pairs


def states(pairs: list[Pair], lines: Thresholds) -> dict[State, int]:
    state = np.concatenate([field.state for field in label(pairs, lines)])
    return {one: int(np.sum(state == one)) for one in (State.LIVE, State.DEAD)}


@pytest.mark.parametrize(("live", "dead"), [("live_field", "dead_field"), ("live_ring", "dead_ring")])
def test_no_cell_is_live_and_dead_by_its_dye(live: str, dead: str) -> None:
    with pytest.raises(ValueError, match=f"{live} is 5, {dead} 1: .* lower {live} or raise {dead}"):
        Thresholds(**{live: 5.0, dead: 1.0})
    assert getattr(Thresholds(**{live: 1.5, dead: 1.5}), live) == 1.5


def test_no_nucleus_of_a_kill_control_is_proposed_as_live() -> None:
    killed, untreated = stained(10, 6, 0), stained(1, 6, 1)
    assert states(killed, propose(killed)) == {State.LIVE: 0, State.DEAD: 96}
    lines = propose([*killed, *untreated])
    assert lines.live_field < 1.6
    found = states(untreated, lines)
    assert found[State.LIVE] > 60
    assert found[State.DEAD] <= 2
    assert "96 dead: so few live ones do not show where the lines belong" in doubt(label(killed, propose(killed)))
    assert doubt(label([*killed, *untreated], lines)) == ""


@pytest.mark.parametrize("dead", [0, 1])
def test_nuclei_of_an_even_dark_field_are_proposed_as_live(dead: int) -> None:
    untreated = stained(1, 3, 0, spread=0.01)
    lines = propose([*untreated, *stained(10, dead, 1)])
    assert states(untreated, lines) == {State.LIVE: 48, State.DEAD: 0}
    assert lines.live_field == pytest.approx(1.1, abs=0.02)


def test_lines_are_proposed_from_some_nuclei_only() -> None:
    pairs = stained(1, 2, 0)
    none = [replace(pair, nuclei=np.zeros_like(pair.nuclei)) for pair in pairs]
    with pytest.raises(SourceError, match="0 nuclei in 2 fields are too few to propose"):
        propose(none)
    one = replace(pairs[0], nuclei=(pairs[0].nuclei == 1).astype(np.intp))
    with pytest.raises(SourceError, match="1 nuclei in 3 fields are too few to propose"):
        propose([one, *none])


def test_a_sheet_shows_the_lines_that_its_truth_hangs_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for pair in stained(10, 1, 0):
        for channel in ("brightfield", "dead", "nuclear"):
            name = f"field.{channel}{'' if channel == 'brightfield' else '_dye'}.tif"
            imsave(tmp_path / "data" / name, getattr(pair, channel), check_contrast=False)
        imsave(tmp_path / "data" / "field.nuclei.tif", pair.nuclei.astype(np.uint16), check_contrast=False)
    sheet = evaluate("adherent", tmp_path / "data", tmp_path / "sheet", pixel_um=0.65)
    assert sheet["data"]["thresholds"]["dead_field"] == 1.6
    assert "so few live ones" in sheet["warnings"][0]
    assert (tmp_path / "sheet" / "dye.png").is_file()
    assert sheet["free_response"]
    assert (tmp_path / "sheet" / "free_response.png").is_file()
    assert "dead dye of every nucleus" in (tmp_path / "sheet" / "sheet.html").read_text()


def test_without_drawn_nuclei_they_are_found(tmp_path: Path) -> None:
    draw(tmp_path, "exp0_field", 0, drawn=False)
    (pair,) = read_pairs(tmp_path)
    assert len(measure(pair).label) == 16
    (pair,) = read_pairs(tmp_path, pixel_um=0.03)  # then such small things are no nuclei
    assert len(measure(pair).label) < 8


def test_a_nucleus_without_dye_around_is_unknown_not_background(tmp_path: Path) -> None:
    draw(tmp_path, "exp0_field", 0)
    (pair,) = read_pairs(tmp_path)
    unmarked = pair.nuclei.copy()
    unmarked[unmarked == 6] = 0  # a cell that nobody marked still has its nuclear dye
    at = np.mean(np.nonzero(pair.nuclei == 6), axis=1).round().astype(int) + pair.shift_yx
    (field,) = label([replace(pair, nuclei=unmarked)], Thresholds())
    assert field.known is not None
    assert not field.known[tuple(at)]
    assert field.known[0, 100]
    (field,) = label([replace(pair, nuclei=unmarked)], Thresholds(), others_are_background=True)
    assert field.known is None  # the labels speak everywhere
    (field,) = label([replace(pair, nuclei=unmarked, drawn=False)], Thresholds(), others_are_background=True)
    assert field.known is not None  # a nucleus that was only not found is none of another kind


def test_a_black_border_is_no_dark_background(tmp_path: Path) -> None:
    draw(tmp_path, "exp0_field", 0)
    (pair,) = read_pairs(tmp_path)
    bordered = pair.nuclear.copy()
    bordered[:, :12] = 0
    # every nucleus is marked, and all that is not one is known to be none
    (whole,), (field,) = (label([replace(pair, nuclear=one)], Thresholds()) for one in (pair.nuclear, bordered))
    assert whole.known is not None
    assert field.known is not None
    assert whole.known.mean() > 0.95
    assert field.known.mean() > 0.95
    # nor are there more nuclei beside it
    assert find_nuclei(bordered, 20).max() == find_nuclei(pair.nuclear, 20).max() == 16
    for nothing in (np.zeros_like(bordered), np.full_like(bordered, 200)):
        (field,) = label([replace(pair, nuclear=nothing)], Thresholds())
        assert field.known is not None
        assert field.known.all()


def test_one_empty_field_does_not_break_registration() -> None:
    blank = np.full((64, 64), 500, np.uint16)
    assert len(register([(blank, blank)])) == 1


def test_touching_nuclei_are_split() -> None:
    y, x = np.mgrid[:100, :100]
    dye = 200 + 3000 * np.maximum(*(np.exp(-((y - 50) ** 2 + (x - c) ** 2) / 100) for c in (38, 62)))
    assert find_nuclei(dye.astype(np.uint16)).max() == 2


def test_missing_channels_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no"):
        read_pairs(tmp_path)
    draw(tmp_path, "exp0_field", 0)
    (tmp_path / "exp0_field.dead_dye.tif").unlink()
    with pytest.raises(SourceError, match="dead_dye"):
        read_pairs(tmp_path)


def test_the_kind_of_data_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="simulated"):
        sources.settings_of(tmp_path)
    draw(tmp_path, "exp0_field", 0)
    dataset = sources.read(sources.settings_of(tmp_path))
    assert not dataset.complete
    assert isinstance(sources.settings_of(Path("simulated")), sources.Simulated)


def test_masks_become_fields_of_unknown_state(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    labels = np.zeros((60, 80), np.uint8)
    labels[10:20, 30:50] = 3
    labels[55:, 70:] = 9
    imsave(tmp_path / "images" / "a.tif", np.full((60, 80), 900, np.uint16), check_contrast=False)
    imsave(tmp_path / "masks" / "a.png", labels, check_contrast=False)
    (field,) = sources.read(sources.settings_of(tmp_path)).fields
    assert field.centres_yx[0] == pytest.approx([14.5, 39.5])
    assert np.ptp(field.contours_yx[0], axis=0) == pytest.approx([10, 20], abs=0.6)
    assert field.state.tolist() == [UNKNOWN, UNKNOWN]
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(SourceError, match="no mask"):
        sources.read(sources.settings_of(tmp_path))


def test_a_dim_nucleus_beside_a_bright_one_keeps_its_size() -> None:
    y, x = np.mgrid[:160, :200]
    discs = [(np.hypot(y - 80, x - column) < 18) * height for column, height in ((60, 4000.0), (140, 500.0))]
    dye = gaussian_filter(200.0 + sum(discs), 1.5) + np.random.default_rng(0).normal(0, 5, y.shape)
    found = find_nuclei(dye.astype(np.uint16))
    areas = np.bincount(found.ravel())[1:]
    assert sorted(areas[areas > 0]) == pytest.approx([np.pi * 18**2] * 2, rel=0.2)
    assert find_nuclei(np.zeros((64, 64), np.uint16)).max() == 0
