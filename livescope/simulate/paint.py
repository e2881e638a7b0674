"""What one cell is made of, as maps of optical phase and absorption: cytoplasm, nucleus, granules, droplets, lumps.

Owns the inner look of living, dividing, dying and dead cells. Outlines come from `culture`, image formation from
`optics`.

Living and spread: flat, a smooth oval nucleus with nucleoli, fine granules. Dividing: a ball, smooth, no nucleus.
Dying: rounds up, blebs, granules coarsen, nucleus condenses into lumps. Dead: small, lumpy, granular, in some cells a
pale ghost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from livescope.simulate.culture import DEATH_PROGRESS, REACH_UM, Appearance

__all__ = ["N_ANGLES", "TILE_PX", "Painter", "band_noise", "sprite_size_px"]

Array = NDArray[np.float32]

TILE_PX = 512
N_ANGLES = 256
"""Angles at which an outline is tabulated for drawing."""
_EDGE_UM = 1.1
_N_TRAITS = 4096
_SPRITE_STEP_PX = 16


def sprite_size_px(reach_um: float, pixel_um: float) -> int:
    """Return the side of a sprite for a cell that reaches that far from its centre, with room for its halo."""
    half_px = (reach_um + 5.0) / pixel_um + 2
    return 2 * _SPRITE_STEP_PX * int(np.ceil(half_px / _SPRITE_STEP_PX))


def band_noise(rng: np.random.Generator, fine_px: float, coarse_px: float, window_px: int) -> Array:
    """Return band-passed noise of unit variance that repeats after `TILE_PX`, padded so that every window fits."""
    white = rng.standard_normal((TILE_PX, TILE_PX)).astype(np.float32)
    band = ndimage.gaussian_filter(white, fine_px, mode="wrap") - ndimage.gaussian_filter(white, coarse_px, mode="wrap")
    return np.pad((band / band.std()).astype(np.float32), ((0, window_px), (0, window_px)), mode="wrap")


@lru_cache(maxsize=16)
def _grid(size: int) -> tuple[Array, Array, Array, NDArray[np.intp]]:
    """Rows, columns and distance from the middle pixel, and the index of the angle, each (size, size)."""
    y, x = np.indices((size, size), dtype=np.float32) - size // 2
    turn = np.mod(np.arctan2(y, x) / (2 * np.pi), 1.0) * N_ANGLES
    return y, x, np.hypot(y, x), np.round(turn).astype(np.intp) % N_ANGLES


@dataclass(slots=True, frozen=True)
class Painted:
    """Maps of B cells, (B, S, S) float32: phase in radians, absorption as amplitude, where organelles stream."""

    phase: Array
    absorption: Array
    organelles: Array


class Painter:
    """Paints cells; textures and each cell's own traits follow from the seed.

    Parameters
    ----------
    seed
        Of the culture.
    pixel_um
        Micrometres a pixel.
    """

    def __init__(self, seed: int, pixel_um: float) -> None:
        rng = np.random.default_rng([seed, 5])
        self._pixel_um = pixel_um
        window_px = sprite_size_px(REACH_UM, pixel_um)
        self._fine = band_noise(rng, 0.45 / pixel_um, 1.3 / pixel_um, window_px)
        self._coarse = band_noise(rng, 0.7 / pixel_um, 2.0 / pixel_um, window_px)
        self._traits = rng.random((_N_TRAITS, 24)).astype(np.float32)

    def paint(self, shown: Appearance, outline_px: Array, size: int) -> Painted:
        """Paint B cells.

        Parameters
        ----------
        shown
            Their appearance.
        outline_px
            (B, 256) distance to the outline in pixels at `N_ANGLES` equal angles.
        size
            Side S of the maps; the centre of the cell is the middle of pixel S // 2.
        """
        y, x, r, angle = _grid(size)
        t = self._traits[shown.cell % _N_TRAITS][:, :, None, None]
        edge = np.take(outline_px, angle, axis=1)
        body = np.clip((edge - r) / np.float32(_EDGE_UM / self._pixel_um) + 0.5, 0.0, 1.0)
        inner = np.clip(1.0 - (r / edge) ** 2, 0.0, 1.0)
        round_ = shown.roundness.astype(np.float32)[:, None, None]
        # granular half-way exactly at the time of death
        dead = _smooth((shown.dying.astype(np.float32) - DEATH_PROGRESS) / 0.3 + 0.5)[:, None, None]
        ghost = dead * (t[:, 0] > 0.75)
        ball = np.sqrt(inner)
        flat = body * (0.45 + 0.55 * inner)
        height = flat + round_ * (ball * (2.6 - 0.8 * dead - 1.3 * ghost) - flat)
        phase = (0.55 + 0.35 * t[:, 1]) * height
        absorption = (0.008 + 0.012 * t[:, 2]) * height
        nucleus, nucleoli = self._nucleus(shown, t, y, x, outline_px)
        whole = (1.0 - round_) * (1.0 - dead)
        phase += whole * body * ((0.18 + 0.2 * t[:, 3]) * nucleus + (0.45 + 0.3 * t[:, 4]) * nucleoli)
        absorption += whole * body * (0.012 * nucleus + 0.05 * nucleoli)
        fine, coarse = self._windows(shown.cell, size)
        around = body * inner * (1.0 - 0.7 * nucleus * whole)
        phase += around * fine * ((0.05 + 0.1 * t[:, 5]) * (1.0 - 0.4 * round_) * (1.0 - dead) + 0.12 * dead)
        phase += body * coarse * dead * (0.08 + 0.10 * t[:, 6] - 0.05 * ghost)
        absorption += body * np.clip(coarse - 0.4, 0.0, 2.5) * dead * (0.015 + 0.04 * t[:, 7]) * (1.0 - 0.6 * ghost)
        self._vacuoles(phase, t, y, x, outline_px, body * (1.0 - dead))
        self._lumps(phase, absorption, t, y, x, outline_px, body * dead * (1.0 - 0.7 * ghost))
        organelles = around * (1.0 - dead) * (1.0 - 0.6 * round_) * (0.010 + 0.012 * t[:, 8])
        return Painted(phase, absorption, organelles.astype(np.float32))

    def _nucleus(self, shown: Appearance, t: Array, y: Array, x: Array, outline_px: Array) -> tuple[Array, Array]:
        """Oval disc with a soft rim, and up to three nucleoli in it; 0..1 each."""
        radius = (0.36 + 0.12 * t[:, 9]) * outline_px.mean(axis=1)[:, None, None]
        cy, cx = (t[:, 10] - 0.5) * 0.5 * radius, (t[:, 11] - 0.5) * 0.5 * radius
        turn, squash = np.pi * t[:, 12], 0.72 + 0.28 * t[:, 13]
        u = ((y - cy) * np.sin(turn) + (x - cx) * np.cos(turn)) / radius
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / (radius * squash)
        nucleus = np.clip(2.5 * (1.0 - (u * u + v * v)), 0.0, 1.0)
        nucleoli = np.zeros_like(nucleus)
        for k in range(3):
            angle, out, there = 6.3 * t[:, 14 + k], 0.55 * t[:, 17 + k], t[:, 20] * 3.2 > k
            d2 = (u - out * np.cos(angle)) ** 2 + (v - out * np.sin(angle)) ** 2
            nucleoli += there * np.clip(1.0 - d2 / 0.05, 0.0, 1.0)
        return nucleus, np.minimum(nucleoli, 1.0)

    def _windows(self, cells: NDArray[np.int64], size: int) -> tuple[Array, Array]:
        """Each cell's own windows of the two granule textures, (B, S, S); they stay with it for life."""
        fine = np.empty((len(cells), size, size), np.float32)
        coarse = np.empty_like(fine)
        for k, cell in enumerate(cells.tolist()):
            top, left = (cell * 193 - size // 2) % TILE_PX, (cell * 71 - size // 2) % TILE_PX
            fine[k] = self._fine[top : top + size, left : left + size]
            coarse[k] = self._coarse[top : top + size, left : left + size]
        return fine, coarse

    def _vacuoles(self, phase: Array, t: Array, y: Array, x: Array, outline_px: Array, where: Array) -> None:
        """Add droplets, bright and sharp, to one living cell in five."""
        few = np.flatnonzero(t[:, 21, 0, 0] > 0.8)
        radius = outline_px.mean(axis=1)
        for k in few.tolist():
            for j in range(5):
                angle, out = 6.3 * t[k, j, 0, 0] + 1.3 * j, 0.35 + 0.3 * t[k, 5 + j, 0, 0]
                width = (0.5 + 0.6 * t[k, 10 + j, 0, 0]) / self._pixel_um
                dy, dx = y - out * radius[k] * np.sin(angle), x - out * radius[k] * np.cos(angle)
                phase[k] += where[k] * np.float32(0.8) * np.exp(-(dy * dy + dx * dx) / np.float32(2 * width * width))

    def _lumps(
        self, phase: Array, absorption: Array, t: Array, y: Array, x: Array, outline_px: Array, where: Array
    ) -> None:
        """Add two to four dark lumps of condensed nucleus to dead cells."""
        radius = outline_px.mean(axis=1)
        for k in np.flatnonzero(where.any(axis=(1, 2))).tolist():
            for j in range(2 + int(3 * t[k, 22, 0, 0])):
                angle, out = 6.3 * t[k, 9 + j, 0, 0] + 1.7 * j, 0.6 * t[k, 14 + j, 0, 0]
                width = (0.12 + 0.14 * t[k, 3 + j, 0, 0]) * radius[k]
                dy, dx = y - out * radius[k] * np.sin(angle), x - out * radius[k] * np.cos(angle)
                spot = where[k] * np.exp(-(dy * dy + dx * dx) / np.float32(2 * width * width))
                phase[k] += np.float32(0.5) * spot
                absorption[k] += np.float32(0.06 + 0.08 * t[k, 23, 0, 0]) * spot


def _smooth(x: Array) -> Array:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
