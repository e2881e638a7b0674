from __future__ import annotations

import numpy as np
import pytest
import torch

from livescope.calls import State
from livescope.train.data import Field
from livescope.train.paper import CROP_PX, PaperModel, PaperSettings, ResNet18, crops_of, segment, train_paper
from livescope.train.scoring import score

LIVE, DEAD = int(State.LIVE), int(State.DEAD)


def field_of(seed: int) -> Field:
    """Cells of one kind each: live ones bright rings, dead ones grainy discs; and dust that is neither."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(120, 1.0, (160, 160))
    y, x = np.mgrid[:160, :160]
    centres, states = [], []
    for k, (cy, cx) in enumerate([(30, 35), (35, 115), (80, 75), (125, 35), (122, 125)]):
        r = np.hypot(y - cy, x - cx)
        state = (LIVE, DEAD)[(k + seed) % 2]
        pixels += (
            np.where(abs(r - 9) < 3, 60, 0) if state == LIVE else np.where(r < 11, rng.normal(-10, 40, r.shape), 0)
        )
        centres.append((cy, cx))
        states.append(state)
    pixels[76:84, 118:140] += 50  # a scratch
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    yx = np.array(centres, np.float32)
    contours = yx[:, None] + 11 * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    image = pixels.clip(0, 255).astype(np.uint8)
    return Field(f"f{seed}", str(seed), image, yx, contours.astype(np.float32), np.array(states, np.uint8))


def test_cells_are_segmented_with_the_size_of_their_texture() -> None:
    field = field_of(1)
    centres, radius = segment(field.pixels)
    nearest = np.linalg.norm(field.centres_yx[:, None] - centres[None], axis=-1)
    assert (nearest.min(axis=1) < 4).all()
    assert ((radius[nearest.argmin(axis=1)] > 8) & (radius[nearest.argmin(axis=1)] < 18)).all()


def test_an_empty_field_has_no_calls() -> None:
    model = PaperModel(ResNet18().eval())
    calls = model.calls(np.full((80, 90), 100, np.uint8))
    assert len(calls) == 0
    assert calls.radii_px.shape == (0, 32)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (40.4, 50.6), (79.0, 99.0), (-5.0, 200.0)])
def test_crops_are_whole_and_levelled_also_at_the_border(centre: tuple[float, float]) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (80, 100)).astype(np.uint16)
    crops = crops_of(pixels, np.array([centre]))
    assert crops.shape == (1, 1, CROP_PX, CROP_PX)
    assert abs(crops.mean()) < 1e-3
    assert crops.std() == pytest.approx(1, abs=0.01)
    middle = crops[0, 0, 32, 32]
    y, x = (min(max(round(c), 0), n - 1) for c, n in zip(centre, pixels.shape, strict=True))
    raw = np.pad(pixels, 32, mode="edge")[y : y + 64, x : x + 64].astype(float)
    assert middle == pytest.approx((pixels[y, x] - raw.mean()) / (raw.std() + 1), rel=1e-4)


def test_it_is_a_resnet18() -> None:
    network = ResNet18(classes=2)
    # torchvision's has 11 689 512 parameters: less two input channels and 998 classes
    expected = 11_689_512 - 2 * 64 * 49 - 998 * 513
    assert sum(p.numel() for p in network.parameters()) == expected
    assert network(torch.zeros(3, 1, 64, 64)).shape == (3, 2)


def test_it_learns_cells_states_and_what_is_neither() -> None:
    torch.set_num_threads(1)
    told: list[int] = []
    settings = PaperSettings(steps=60, batch=12, jitter_px=2, width=8)
    train, valid, test = ([field_of(k) for k in ks] for ks in (range(8), range(8, 11), range(20, 23)))
    model = train_paper(train, valid, 0.5, settings, lambda step, _loss: told.append(step))
    found = score(model.match(test, 0.5))
    assert told[-1] == 60
    assert (found.n_live + found.n_dead, found.n_dead > 4) == (15, True)
    assert found.f1 > 0.8
    assert found.auc_dead > 0.9
