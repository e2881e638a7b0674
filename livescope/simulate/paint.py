"""What one cell is made of, as maps of optical phase and absorption: cytoplasm, nucleus, granules, droplets, lumps.

Owns the inner look of living, dividing, dying and dead cells. Outlines come from `culture`, image formation from
`optics`.

Living and spread: flat, a smooth oval nucleus with nucleoli, fine granules. Dividing: a ball, smooth, no nucleus.
Dying: rounds up, blebs, granules coarsen, nucleus condenses into lumps. Dead: small, lumpy, granular, in some cells a
pale ghost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from livescope.simulate.culture import DEATH_PROGRESS

__all__ = ["N_ANGLES", "TILE_PX", "Painted", "Painter", "band_noise"]

Array = NDArray[np.float32]
Pixels = NDArray[np.int32]

TILE_PX = 512
N_ANGLES = 256
"""Angles at which an outline is tabulated for drawing."""
_EDGE_UM = 1.1
_N_TRAITS = 4096


def band_noise(rng: np.random.Generator, fine_px: float, coarse_px: float, window_px: int) -> Array:
    """Return band-passed noise of unit variance that repeats after `TILE_PX`, padded so that every window fits."""
    white = rng.standard_normal((TILE_PX, TILE_PX)).astype(np.float32)
    band = ndimage.gaussian_filter(white, fine_px, mode="wrap") - ndimage.gaussian_filter(white, coarse_px, mode="wrap")
    return np.pad((band / band.std()).astype(np.float32), ((0, window_px), (0, window_px)), mode="wrap")


@lru_cache(maxsize=32)
def _grid(half: int) -> tuple[Pixels, Pixels, Array, NDArray[np.intp]]:
    """Row, column and distance from the centre, and the index of the angle, of each pixel of a square, (n,) each."""
    y, x = (each.ravel() for each in np.indices((2 * half + 1, 2 * half + 1), np.int32) - half)
    turn = np.mod(np.arctan2(y, x) / (2 * np.pi), 1.0) * N_ANGLES
    return y, x, np.hypot(y, x).astype(np.float32), np.round(turn).astype(np.intp) % N_ANGLES


@dataclass(slots=True, frozen=True)
class Painted:
    """One cell on the n pixels that it covers.

    Attributes
    ----------
    y, x
        (n,) pixels, seen from the one of the centre.
    wave
        (n,) complex64, what it adds to the wave: i times the phase in radians, less the absorption as amplitude.
    organelles
        (n,) float32, how much streaming granules show.
    """

    y: Pixels
    x: Pixels
    wave: NDArray[np.complex64]
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
        self._fine = band_noise(rng, 0.45 / pixel_um, 1.3 / pixel_um, 0).ravel()
        self._coarse = band_noise(rng, 0.7 / pixel_um, 2.0 / pixel_um, 0).ravel()
        self._traits = rng.random((_N_TRAITS, 24)).astype(np.float32)

    def paint(self, cell: int, roundness: float, dying: float, outline_px: Array) -> Painted:
        """Paint one cell.

        Parameters
        ----------
        cell
            Its identity, which decides its traits.
        roundness, dying
            0..1 each, see `Appearance`.
        outline_px
            (256,) distance to the outline in pixels at `N_ANGLES` equal angles.
        """
        rim_px = _EDGE_UM / self._pixel_um
        rows, columns, distance, angle = _grid(8 * math.ceil((outline_px.max() + 0.5 * rim_px) / 8))
        to_edge = np.take(outline_px, angle)
        covered = np.flatnonzero(distance < to_edge + 0.5 * rim_px)
        y, x, r, edge = rows[covered], columns[covered], distance[covered], to_edge[covered]
        fy, fx = y.astype(np.float32), x.astype(np.float32)
        t: list[float] = self._traits[cell % _N_TRAITS].tolist()
        # granular half-way exactly at the time of death
        dead = _smooth((dying - DEATH_PROGRESS) / 0.3 + 0.5)
        ghost = dead * (t[0] > 0.75)
        whole = (1.0 - roundness) * (1.0 - dead)
        radius = float(outline_px.mean())

        body = np.clip((edge - r) * np.float32(1 / rim_px) + np.float32(0.5), 0.0, 1.0)
        inner = np.maximum(1.0 - (r / edge) ** 2, 0.0)
        height = body * (0.45 + 0.55 * inner) * (1.0 - roundness)
        if roundness > 0.0:
            height += np.sqrt(inner) * (roundness * (2.6 - 0.8 * dead - 1.3 * ghost))
        phase = (0.55 + 0.35 * t[1]) * height
        absorption = (0.008 + 0.012 * t[2]) * height
        around = body * inner
        if whole > 0.0:
            nucleus, nucleoli = _nucleus(t, fy, fx, radius)
            phase += whole * body * ((0.18 + 0.2 * t[3]) * nucleus + (0.45 + 0.3 * t[4]) * nucleoli)
            absorption += whole * body * (0.012 * nucleus + 0.05 * nucleoli)
            around *= 1.0 - (0.7 * whole) * nucleus
        # its own window of the textures, for life
        window = (y + 193 * cell % TILE_PX) % TILE_PX * TILE_PX + (x + 71 * cell % TILE_PX) % TILE_PX
        fine = self._fine[window]
        phase += around * fine * ((0.05 + 0.1 * t[5]) * (1.0 - 0.4 * roundness) * (1.0 - dead) + 0.12 * dead)
        if dead < 1.0:
            self._vacuoles(phase, t, fy, fx, radius, body * (1.0 - dead))
        if dead > 0.0:
            coarse = self._coarse[window]
            phase += body * coarse * (dead * (0.08 + 0.10 * t[6] - 0.05 * ghost))
            speckled = dead * (0.015 + 0.04 * t[7]) * (1.0 - 0.6 * ghost)
            absorption += body * np.clip(coarse - 0.4, 0.0, 2.5) * speckled
            _lumps(phase, absorption, t, fy, fx, radius, body * (dead * (1.0 - 0.7 * ghost)))
        organelles = around * ((1.0 - dead) * (1.0 - 0.6 * roundness) * (0.010 + 0.012 * t[8]))
        return Painted(y, x, 1j * phase - absorption, organelles)

    def _vacuoles(self, phase: Array, t: list[float], y: Array, x: Array, radius: float, where: Array) -> None:
        """Add droplets, bright and sharp, to one living cell in five."""
        if t[21] <= 0.8:
            return
        for j in range(5):
            width = (0.5 + 0.6 * t[10 + j]) / self._pixel_um
            phase += 0.8 * where * _spot(y, x, (0.35 + 0.3 * t[5 + j]) * radius, 6.3 * t[j] + 1.3 * j, width)


def _nucleus(t: list[float], y: Array, x: Array, cell_radius: float) -> tuple[Array, Array]:
    """Oval disc with a soft rim, and up to three nucleoli in it; 0..1 each."""
    radius = (0.36 + 0.12 * t[9]) * cell_radius
    sin, cos, squash = np.sin(np.pi * t[12]), np.cos(np.pi * t[12]), 0.72 + 0.28 * t[13]
    dy, dx = y - np.float32((t[10] - 0.5) * 0.5 * radius), x - np.float32((t[11] - 0.5) * 0.5 * radius)
    u = dy * np.float32(sin / radius) + dx * np.float32(cos / radius)
    v = dy * np.float32(cos / (radius * squash)) - dx * np.float32(sin / (radius * squash))
    nucleus = np.clip(2.5 * (1.0 - (u * u + v * v)), 0.0, 1.0)
    nucleoli = np.zeros_like(nucleus)
    for k in range(3):
        if t[20] * 3.2 > k:
            angle, out = 6.3 * t[14 + k], 0.55 * t[17 + k]
            d2 = (u - np.float32(out * np.cos(angle))) ** 2 + (v - np.float32(out * np.sin(angle))) ** 2
            nucleoli += np.maximum(1.0 - 20.0 * d2, 0.0)
    return nucleus, np.minimum(nucleoli, 1.0)


def _lumps(
    phase: Array,
    absorption: Array,
    t: list[float],
    y: Array,
    x: Array,
    radius: float,
    where: Array,
) -> None:
    """Add two to four dark lumps of condensed nucleus to a dead cell."""
    for j in range(2 + int(3 * t[22])):
        width = (0.12 + 0.14 * t[3 + j]) * radius
        lump = where * _spot(y, x, 0.6 * t[14 + j] * radius, 6.3 * t[9 + j] + 1.7 * j, width)
        phase += 0.5 * lump
        absorption += (0.06 + 0.08 * t[23]) * lump


def _spot(y: Array, x: Array, out: float, angle: float, width: float) -> Array:
    """Gaussian of a width, that far out from the centre in the direction of an angle."""
    dy, dx = y - np.float32(out * np.sin(angle)), x - np.float32(out * np.cos(angle))
    spot: Array = np.exp((dy * dy + dx * dx) * np.float32(-0.5 / width**2))
    return spot


def _smooth(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)
