"""Bright-field pictures of a culture: contrast of weak objects out of focus, light, shot and read noise.

Owns the way from a culture's truth to raw pixels. Does not decide what cells do (`culture`) and knows no
Micro-Manager (`camera`).

A cell is a weak phase and amplitude object. Its contrast follows from the contrast transfer of defocus [1]_: near
focus only absorption shows, away from it edges and granules appear with a bright or dark halo, which changes sign on
the other side. Contrast of neighbours adds up, so each cell is drawn once into a small sprite, which is kept until
the cell has moved on.

References
----------
.. [1] R. E. Burge and J. C. Dainty (1976), Partially coherent image formation in the transmission electron
   microscope, Optik 46.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from livescope.frames import Pixels
from livescope.settings import SimulationSettings
from livescope.simulate.culture import REACH_UM, Appearance, Culture
from livescope.simulate.dye import draw_dye
from livescope.simulate.paint import N_ANGLES, TILE_PX, Painter, band_noise
from livescope.simulate.truth import Truth, View, cells_near_view, truth_of_view

__all__ = ["BEST_FOCUS_UM", "Optics", "render_field"]

Array = NDArray[np.float32]
Wave = NDArray[np.complex64]

WAVELENGTH_UM = 0.55
APERTURE = 0.45
"""Numerical aperture of the objective; the condenser's is stopped down to a quarter of it."""
CONDENSER_APERTURE = APERTURE / 4
BEST_FOCUS_UM = -5.0
"""The culture's plane lies this far from the stage's z = 0: users set bright-field a little out of focus, where cells
show best."""
FULL_WELL_E = 20_000.0
"""Electrons at full scale."""
READ_NOISE_E = 6.0
OFFSET = 0.024
"""Black level, part of full scale."""
UNSEEN = 5e-4
"""Contrast left out of a sprite's rim: a step of 12 bits at the usual light, a twentieth of its noise."""
LIGHT_PER_MS = 0.0225
"""Background, part of full scale a millisecond: 45 % at 20 ms."""


def render_field(
    simulation: SimulationSettings,
    seed: int | None = None,
    frame_number: int = 0,
    *,
    exposure_ms: float = 20.0,
    x_um: float = 0.0,
    y_um: float = 0.0,
    z_um: float = 0.0,
) -> tuple[Pixels, Truth]:
    """Draw one frame without a camera or a core, e.g. for training.

    Parameters
    ----------
    simulation
        Density, dead fraction, rates, size, pixel size, bit depth, defocus.
    seed
        Instead of the settings' seed. It decides the culture, the illumination and the noise.
    frame_number
        Simulated time is ``frame_number * minutes_per_frame``; the run up to it is simulated first.
    exposure_ms, x_um, y_um, z_um
        Exposure (20 ms puts the background at 45 % of full scale) and stage position.

    Returns
    -------
    pixels
        (H, W) uint16, read-only.
    truth
        What is in it; `Truth.in_frame` gives the cells to find.

    Examples
    --------
    >>> pixels, truth = render_field(SimulationSettings(width=256, height=256), seed=5)
    >>> pixels.shape, len(truth.in_frame()) > 3
    ((256, 256), True)
    """
    if seed is not None:
        simulation = simulation.model_copy(update={"seed": seed})
    culture = Culture(simulation)
    optics = Optics(simulation, culture)
    view = optics.view(y_um, x_um)
    pixels = np.empty((simulation.height, simulation.width), np.uint16)
    optics.render(pixels, frame_number, view, z_um=z_um, exposure_ms=exposure_ms)
    pixels.flags.writeable = False
    minute = frame_number * simulation.minutes_per_frame
    return pixels, truth_of_view(culture, minute, view, simulation.pixel_um)


@dataclass(slots=True)
class _Sprite:
    """A cell as it is added to frames; what does not show is cut off."""

    minute: float
    contrast: Array
    at: tuple[int, int]
    """Row and column of the first pixel of `contrast`, seen from the pixel of the centre."""
    organelles: Array
    """Where granules stream in a living cell; of size 0 in a dead one."""
    organelles_at: tuple[int, int]


class Optics:
    """The microscope's light path for one culture. One thread uses it.

    Parameters
    ----------
    simulation
        Size, pixel size, bit depth, defocus, seed.
    culture
        The culture to look at.
    """

    def __init__(self, simulation: SimulationSettings, culture: Culture) -> None:
        self._settings = simulation
        self._culture = culture
        self._pixel_um = simulation.pixel_um
        rng = np.random.default_rng([simulation.seed, 7])
        p = self._pixel_um
        self._painter = Painter(simulation.seed, p)
        self._stream = band_noise(rng, 0.6 / p, 1.4 / p, 2 * math.ceil(REACH_UM / p) + 8)
        shape = (simulation.height, simulation.width)
        repeats = tuple(-(-size // TILE_PX) + 1 for size in shape)
        mottle = np.float32(0.006) * band_noise(rng, 2.0 / p, 9.0 / p, 0)
        self._mottle: Array = np.tile(mottle, repeats) + np.float32(1)
        self._noise = rng.standard_normal((shape[0] + 256, shape[1] + 256), dtype=np.float32)
        self._gain = (2**simulation.bit_depth - 1) * (1 - OFFSET) / FULL_WELL_E
        """Steps of the camera's scale an electron."""
        self._noise *= np.sqrt(self._gain)
        self._light = self._illuminate(rng, shape)
        self._lit_ms, self._lit = 0.0, self._light
        """The light in steps at an exposure."""
        self._debris = self._scatter(rng)
        self._sprites: dict[int, _Sprite] = {}
        self._z_um = math.nan

    def view(self, y_um: float, x_um: float) -> View:
        """Return the view with the stage at a position: its middle shows that point, to the nearest pixel."""
        height, width = self._settings.height, self._settings.width
        top, left = round(y_um / self._pixel_um) - height // 2, round(x_um / self._pixel_um) - width // 2
        return View(top, left, height, width)

    def render(
        self, out: NDArray[np.uint16], frame_number: int, view: View, *, z_um: float, exposure_ms: float
    ) -> None:
        """Draw a frame into `out` (H, W). The same arguments always give the same pixels."""
        minute = frame_number * self._settings.minutes_per_frame
        self._refocus(z_um)
        shown, y, x = cells_near_view(self._culture, minute, view, self._pixel_um)
        rows, columns = view.y_px % TILE_PX, view.x_px % TILE_PX
        relative = self._mottle[rows : rows + view.height, columns : columns + view.width].copy()
        self._blit_debris(relative, view)
        self._redraw(shown, y, x)
        down = np.argsort(y, kind="stable")  # neighbours in turn: the rows they share are still in the cache
        places = np.stack([shown.cell[down], y[down].round().astype(int), x[down].round().astype(int)], axis=-1)
        for cell, row, column in places.tolist():
            self._blit(relative, cell, row, column, minute)
        self._expose(out, relative, frame_number, exposure_ms)

    def render_dye(
        self, out: NDArray[np.uint16], frame_number: int, view: View, *, z_um: float, exposure_ms: float
    ) -> None:
        """Draw a frame of the dead-cell dye into `out` (H, W). The same arguments always give the same pixels."""
        minute = frame_number * self._settings.minutes_per_frame
        shown, y, x = cells_near_view(self._culture, minute, view, self._pixel_um)
        electrons = draw_dye(
            (view.height, view.width),
            shown,
            y,
            x,
            pixel_um=self._pixel_um,
            z_um=z_um + self._settings.defocus_um,
            exposure_ms=exposure_ms,
            rng=np.random.default_rng([self._settings.seed, 13, frame_number]),
        )
        full_scale = float(2**self._settings.bit_depth - 1)
        out[:] = np.clip(full_scale * (OFFSET + (1 - OFFSET) * electrons / FULL_WELL_E) + 0.5, 0.0, full_scale)

    # ------------------------------------------------------------------ light and camera

    def _illuminate(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        """Relative illumination (H, W): a slope, a vignette and rings of dust that stay with the camera."""
        y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij")
        direction, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.16)
        light = 1.0 + slope * (x * np.cos(direction) + y * np.sin(direction))
        cy, cx = rng.normal(0, 0.25, 2)
        light -= rng.uniform(0.02, 0.14) * ((x - cx) ** 2 + (y - cy) ** 2)
        rows, columns = np.indices(shape, dtype=np.float32)
        for _ in range(rng.integers(2, 7)):
            r = np.hypot(rows - rng.uniform(0, shape[0]), columns - rng.uniform(0, shape[1]))
            size, width = rng.uniform(10, 45), rng.uniform(3, 8)
            light += rng.uniform(-0.025, 0.015) * np.exp(-(((r - size) / width) ** 2))
        relative: Array = light.astype(np.float32)
        return relative

    def _expose(self, out: NDArray[np.uint16], relative: Array, frame_number: int, exposure_ms: float) -> None:
        if exposure_ms != self._lit_ms:
            self._lit_ms, self._lit = exposure_ms, self._light * (self._gain * FULL_WELL_E * LIGHT_PER_MS * exposure_ms)
        full_scale = float(2**self._settings.bit_depth - 1)
        rng = np.random.default_rng([self._settings.seed, 11, frame_number])
        dy, dx = rng.integers(0, 256, 2)
        height, width = relative.shape
        rows_at_once = max(1, 65_536 // width)  # blocks that stay in the second-level cache
        for top in range(0, height, rows_at_once):
            block = relative[top : top + rows_at_once]
            np.maximum(block, 0.06, out=block)
            block *= self._lit[top : top + rows_at_once]
            noise = np.sqrt(block + self._gain * READ_NOISE_E**2)
            noise *= self._noise[dy + top : dy + top + len(block), dx : dx + width]
            block += noise
            block += full_scale * OFFSET + 0.5
            np.clip(block, 0.0, full_scale, out=block)
            out[top : top + rows_at_once] = block

    # ------------------------------------------------------------------ objects

    def _refocus(self, z_um: float) -> None:
        z = round((z_um + self._settings.defocus_um + BEST_FOCUS_UM) * 4) / 4  # a quarter micrometre is not seen
        if z != self._z_um:
            self._z_um = z
            self._sprites.clear()
            self._specks = [self._image(wave.copy()) for wave in self._debris_waves]

    def _transfer(self, size: int, shift: float) -> Wave:
        """Transfer of the wave along one axis of `size` pixels, with a move by a fraction of a pixel, (size,)."""
        f = _frequencies(size)  # of a pixel
        blur_um2 = (WAVELENGTH_UM / (1.3 * APERTURE)) ** 2 + (np.pi * CONDENSER_APERTURE * self._z_um) ** 2
        per_f2 = -(blur_um2 + 1j * np.pi * WAVELENGTH_UM * self._z_um) / self._pixel_um**2
        transfer: Wave = np.exp(f * (per_f2 * f - 2j * np.pi * shift)).astype(np.complex64)
        return transfer

    def _image(self, wave: Wave, shift_y: float = 0.0, shift_x: float = 0.0) -> Array:
        """Contrast (H, W) of what a weak object adds to the wave (H, W), moved by fractions of a pixel.

        That is ``i phase - absorption``, and twice the real part of what reaches the camera is the contrast: of phase
        it passes ``2 sin(pi wavelength z f**2)``, of absorption ``-2 cos``. `wave` is overwritten.
        """
        spectrum = fft.fft2(wave, overwrite_x=True)
        spectrum *= self._transfer(wave.shape[0], shift_y)[:, None]
        spectrum *= 2 * self._transfer(wave.shape[1], shift_x)
        contrast: Array = fft.ifft2(spectrum, overwrite_x=True).real
        return contrast

    def _scatter(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Specks that lie on the dish among the cells: (n, 3) row, column, kind."""
        side = self._culture.side_px
        n = rng.poisson(90 * (self._culture.side_um / 1000) ** 2)
        size = 32
        y, x = np.indices((size, size), dtype=np.float32) - size // 2
        self._debris_waves: list[Wave] = []
        for _ in range(8):
            phase = np.zeros((size, size), np.float32)
            for _ in range(rng.integers(1, 4)):
                oy, ox = rng.normal(0, 1.2 / self._pixel_um, 2)
                width = rng.uniform(0.4, 1.3) / self._pixel_um
                phase += np.float32(rng.uniform(-0.3, 0.7)) * np.exp(-((y - oy) ** 2 + (x - ox) ** 2) / (2 * width**2))
            absorption = np.float32(rng.uniform(0, 0.12)) * np.abs(phase)
            self._debris_waves.append(1j * phase - absorption)
        return np.stack([rng.integers(0, side, n), rng.integers(0, side, n), rng.integers(0, 8, n)], axis=-1)

    def _blit_debris(self, relative: Array, view: View) -> None:
        side = self._culture.side_px
        offset = (self._debris[:, :2] - np.array([view.y_px, view.x_px]) + 32) % side - 32
        inside = (offset[:, 0] < view.height) & (offset[:, 1] < view.width)
        for (top, left), kind in zip(offset[inside].tolist(), self._debris[inside, 2].tolist(), strict=True):
            _add(relative, self._specks[kind], top, left)

    # ------------------------------------------------------------------ cells

    def _redraw(self, shown: Appearance, y: NDArray[np.float64], x: NDArray[np.float64]) -> None:
        """Draw anew the sprites of cells whose moment has moved on, and forget cells that are gone from the view."""
        kept = self._sprites
        self._sprites = {cell: kept[cell] for cell in shown.cell.tolist() if cell in kept}
        stale = np.array(
            [
                cell not in self._sprites or self._sprites[cell].minute != minute
                for cell, minute in zip(shown.cell.tolist(), shown.minute.tolist(), strict=True)
            ],
            bool,
        )
        if not stale.any():
            return
        shown, y, x = shown.select(stale), y[stale], x[stale]
        angles = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES
        outline_um = self._culture.radii_um(shown, angles)
        roundness, dying = shown.roundness.tolist(), shown.dying.tolist()
        for k, (cell, minute) in enumerate(zip(shown.cell.tolist(), shown.minute.tolist(), strict=True)):
            outline = (outline_um[k] / self._pixel_um).astype(np.float32)
            self._sprites[cell] = self._draw(cell, minute, roundness[k], dying[k], outline, float(y[k]), float(x[k]))

    def _draw(
        self, cell: int, minute: float, roundness: float, dying: float, outline_px: Array, y: float, x: float
    ) -> _Sprite:
        painted = self._painter.paint(cell, roundness, dying, outline_px)
        top, left = int(painted.y.min()), int(painted.x.min())
        height, width = int(painted.y.max()) - top + 1, int(painted.x.max()) - left + 1
        halo = math.ceil((3.0 + 0.5 * abs(self._z_um)) / self._pixel_um)
        wave = np.zeros([fft.next_fast_len(side + 2 * halo) for side in (height, width)], np.complex64)
        rows, columns = painted.y - (top - halo), painted.x - (left - halo)
        wave.ravel()[rows * wave.shape[1] + columns] = painted.wave
        contrast = self._image(wave, y - round(y), x - round(x))
        box = _box(np.abs(contrast) > UNSEEN)
        organelles = np.zeros((height, width) if dying < 1.0 else (0, 0), np.float32)
        if dying < 1.0:
            organelles[painted.y - top, painted.x - left] = painted.organelles
        at = (box[0].start + top - halo, box[1].start + left - halo)
        return _Sprite(minute, contrast[box].copy(), at, organelles, (top, left))

    def _blit(self, relative: Array, cell: int, y: int, x: int, minute: float) -> None:
        sprite = self._sprites[cell]
        _add(relative, sprite.contrast, y + sprite.at[0], x + sprite.at[1])
        if sprite.organelles.size:
            # granules stream past at 3 um/min, each cell's in its own direction
            path, angle = 3.0 * minute / self._pixel_um, 2.4 * cell
            (top, left), (height, width) = sprite.organelles_at, sprite.organelles.shape
            dy = (int(path * math.sin(angle)) + 37 * cell + top) % TILE_PX
            dx = (int(path * math.cos(angle)) + 91 * cell + left) % TILE_PX
            _add(relative, sprite.organelles * self._stream[dy : dy + height, dx : dx + width], y + top, x + left)


def _add(relative: Array, sprite: Array, top: int, left: int) -> None:
    """Add a sprite where it overlaps the frame."""
    height, width = relative.shape
    bottom, right = top + sprite.shape[0], left + sprite.shape[1]
    if top < 0 or left < 0 or bottom > height or right > width:
        sprite = sprite[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
        top, left = max(top, 0), max(left, 0)
    place = relative[top : top + sprite.shape[0], left : left + sprite.shape[1]]
    np.add(place, sprite, out=place)


@lru_cache(maxsize=256)
def _frequencies(size: int) -> NDArray[np.float64]:
    cycles: NDArray[np.float64] = fft.fftfreq(size)
    return cycles


def _box(shows: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest rows and columns that hold all of what shows; none of them where nothing does."""
    rows, columns = np.flatnonzero(shows.any(axis=1)), np.flatnonzero(shows.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
