"""The design of 2021 as an offline reference: segment first, then classify a crop of every cell with ResNet-18.

Owns segmentation, crops, the classifier and its training. After Pattarone et al. 2021 (Sci Rep 11:10304) and the first
author's later code: 64 x 64 grey crops, ResNet-18 not pretrained, quarter turns and mirrors. Two things help it here: a
third class, no cell, learned from what the segmentation finds in vain, and calibration as the single-pass network has.
Nothing that runs at the microscope uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Setting
from scipy import ndimage
from scipy.spatial import KDTree
from skimage import feature, filters, measure, morphology, segmentation
from torch import Tensor, nn

from livescope.calls import N_RAYS, CellCalls, State
from livescope.frames import Pixels
from livescope.train.calibrate import best_p_cell, fit_state
from livescope.train.data import Field
from livescope.train.scoring import Matched, match_field

__all__ = ["CROP_PX", "PaperModel", "PaperSettings", "ResNet18", "crops_of", "segment", "train_paper"]

CROP_PX = 64
_TEXTURE_SIGMA = 2.0
_LEAST_AREA = 80
_LEAST_DISTANCE = 8
_BATCH = 64
NONE, LIVE, DEAD = 0, int(State.LIVE), int(State.DEAD)
"""Classes of the classifier."""


class PaperSettings(BaseModel):
    """How the classifier is trained; one seed, one result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Setting(default=1200, ge=1)
    batch: int = Setting(default=32, ge=2)
    """A third of it of each class."""
    learning_rate: float = Setting(default=1e-3, gt=0)
    width: int = Setting(default=64, ge=1)
    """Channels of the first stage; ResNet-18 has 64."""
    jitter_px: int = Setting(default=3, ge=0)
    """Crops are shifted at random by up to this."""
    seed: int = 0


class _Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        same = stride == 1 and c_in == c_out
        shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut: nn.Module = nn.Identity() if same else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C', h', w')."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18(nn.Sequential):
    """ResNet-18 (He et al. 2016) for one grey channel: crops (N, 1, 64, 64) in, logits (N, classes) out."""

    def __init__(self, classes: int = 3, width: int = 64) -> None:
        stem: list[nn.Module] = [nn.Conv2d(1, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers, channels = [*stem, nn.MaxPool2d(3, 2, 1)], width
        for stage in range(4):
            wider = width * 2**stage
            layers += [_Residual(channels, wider, 2 if stage else 1), _Residual(wider, wider, 1)]
            channels = wider
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def segment(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find cells without learning: texture, Otsu, closing, distance transform, watershed, regions.

    Returns
    -------
    centres_yx
        (n, 2) pixels.
    radius_px
        (n,) of the circle of the same area.
    """
    grey = pixels.astype(np.float32)
    mean = filters.gaussian(grey, _TEXTURE_SIGMA)
    texture = np.sqrt(np.maximum(filters.gaussian(grey**2, _TEXTURE_SIGMA) - mean**2, 0))
    mask = texture > filters.threshold_otsu(texture)
    mask = ndimage.binary_fill_holes(morphology.closing(mask, morphology.disk(3)))
    mask = morphology.remove_small_objects(mask, max_size=_LEAST_AREA)
    distance = ndimage.distance_transform_edt(mask)
    peaks = feature.peak_local_max(
        filters.gaussian(distance, 2), min_distance=_LEAST_DISTANCE, labels=measure.label(mask)
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    regions: Any = measure.regionprops(segmentation.watershed(-distance, seeds, mask=mask))
    centres = np.array([region.centroid for region in regions]).reshape(-1, 2)
    return centres, np.sqrt(np.array([region.area for region in regions], float) / np.pi)


def crops_of(pixels: Pixels, centres_yx: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cut (n, 1, 64, 64) crops, each brought to mean 0 and spread 1."""
    half = CROP_PX // 2
    padded = np.pad(pixels, half, mode="edge")
    places = centres_yx.round().astype(int).clip(0, np.array(pixels.shape) - 1)
    crops = np.empty((len(places), 1, CROP_PX, CROP_PX), np.float32)
    for crop, (y, x) in zip(crops, places, strict=True):
        crop[0] = padded[y : y + CROP_PX, x : x + CROP_PX]
    spread = crops.std(axis=(2, 3), keepdims=True)
    crops -= crops.mean(axis=(2, 3), keepdims=True)
    crops /= spread + 1
    return crops


@dataclass(frozen=True)
class PaperModel:
    """A trained classifier with its threshold and calibration.

    Attributes
    ----------
    network
        In evaluation mode.
    p_cell
        Least chance of a cell.
    bias, temperature
        Chance of dead = sigmoid((logit + bias) / temperature).
    """

    network: ResNet18
    p_cell: float = 0.0
    bias: float = 0.0
    temperature: float = 1.0

    def logits(self, crops: NDArray[np.float32]) -> NDArray[np.float64]:
        """Classify crops: (n, 3) logits of none, live, dead."""
        with torch.no_grad():
            parts = [self.network(torch.from_numpy(crops[k : k + _BATCH])) for k in range(0, len(crops), _BATCH)]
        return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros((0, 3))

    def p_dead(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chance of dead of cells, calibrated."""
        z = (logits[:, DEAD] - logits[:, LIVE] + self.bias) / self.temperature
        chance: NDArray[np.float64] = 0.5 * (1 + np.tanh(z / 2))
        return chance

    def calls(self, pixels: Pixels) -> CellCalls:
        """Call the cells of a picture; circles for outlines."""
        centres, radius = segment(pixels)
        logits = self.logits(crops_of(pixels, centres))
        chances = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        p_cell = 1 - chances[:, NONE]
        kept = p_cell >= self.p_cell
        n, p_dead = int(kept.sum()), self.p_dead(logits[kept])
        radii = np.repeat(radius[kept, None], N_RAYS, axis=1).astype(np.float32)
        return CellCalls(
            frame_index=0,
            y_px=centres[kept, 0].astype(np.float32),
            x_px=centres[kept, 1].astype(np.float32),
            radii_px=radii,
            p_cell=p_cell[kept].astype(np.float32),
            p_dead=p_dead.astype(np.float32),
            state=np.where(p_dead >= 0.5, State.DEAD, State.LIVE).astype(np.uint8),
            area_px=(np.pi * radius[kept] ** 2).astype(np.float32),
            edge=np.zeros(n, bool),
            track=np.full(n, -1, np.int64),
        )

    def match(self, fields: Sequence[Field], reach: float, border_px: float = 0.0) -> list[Matched]:
        """Call fields and lay the calls beside their marked cells."""
        return [match_field(field, self.calls(field.pixels), reach, border_px) for field in fields]


def train_paper(
    train: Sequence[Field],
    valid: Sequence[Field],
    reach: float,
    settings: PaperSettings,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> PaperModel:
    """Train the classifier on what the segmentation finds, and on the marked cells themselves; calibrate it.

    Parameters
    ----------
    train, valid
        Labelled fields; the second choose threshold, bias and temperature.
    reach
        Largest distance of a segment from a marked cell, parts of that cell's radius, for it to be that cell.
    settings
        Steps, batch, seed.
    report
        Called with (step, mean loss) some twenty times.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    places = _places(train, reach)
    network = ResNet18(width=settings.width).train()
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.steps, pct_start=min(0.1, 1 - 1 / settings.steps)
    )
    every, total = max(settings.steps // 20, 1), 0.0
    for step in range(1, settings.steps + 1):
        crops, classes = _draw(train, places, settings, rng)
        loss = nn.functional.cross_entropy(network(crops), classes, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) / every
        if step % every == 0:
            report(step, total)
            total = 0.0
    model = PaperModel(network.eval())
    model = PaperModel(model.network, best_p_cell(model.match(valid, reach)))
    state = fit_state(model.match(valid, reach))
    return PaperModel(model.network, model.p_cell, state.bias, state.temperature)


Places = dict[int, list[tuple[int, float, float]]]


def _places(fields: Sequence[Field], reach: float) -> Places:
    """List where each class is to be seen: field, y, x."""
    places: Places = {NONE: [], LIVE: [], DEAD: []}
    for number, field in enumerate(fields):
        centres, _ = segment(field.pixels)
        nearest = np.full(len(centres), -1)
        if len(field.centres_yx) and len(centres):
            radii = np.median(np.linalg.norm(field.contours_yx - field.centres_yx[:, None], axis=-1), axis=1)
            distance, owner = KDTree(field.centres_yx).query(centres)
            nearest = np.where(distance <= reach * radii[owner], owner, -1)
        for centre, owner in zip(centres, nearest, strict=True):
            label = NONE if owner < 0 else int(field.state[owner])
            if owner < 0 or label in (LIVE, DEAD):
                places[label].append((number, *centre))
        for centre, label in zip(field.centres_yx, field.state, strict=True):
            if label in (LIVE, DEAD):
                places[int(label)].append((number, *centre))
    return {label: some for label, some in places.items() if some}


def _draw(
    fields: Sequence[Field], places: Places, settings: PaperSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a batch, as many of each class: shifted, turned by quarters, mirrored."""
    crops, labels = [], []
    for label in rng.permutation(np.resize(list(places), settings.batch)):
        number, y, x = places[int(label)][rng.integers(len(places[int(label)]))]
        shift = rng.integers(-settings.jitter_px, settings.jitter_px + 1, 2)
        crop = np.rot90(crops_of(fields[number].pixels, np.array([[y, x]]) + shift)[0, 0], int(rng.integers(4)))
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        labels.append(int(label))
    return torch.from_numpy(np.stack(crops)[:, None].copy()), torch.tensor(labels)
