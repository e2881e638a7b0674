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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from livescope.frames import Pixels
from livescope.settings import SimulationSettings
from livescope.simulate.culture import REACH_UM, Appearance, Culture
from livescope.simulate.dye import draw_dye
from livescope.simulate.paint import N_ANGLES, TILE_PX, Painter, band_noise, sprite_size_px
from livescope.simulate.truth import Truth, View, cells_near_view, truth_of_view

__all__ = ["BEST_FOCUS_UM", "Optics", "render_field"]

Array = NDArray[np.float32]

WAVELENGTH_UM = 0.55
APERTURE = 0.45
"""Numerical aperture of the objective; the condenser's is stopped down to a quarter of it."""
BEST_FOCUS_UM = -5.0
"""The culture's plane lies this far from the stage's z = 0: users set bright-field a little out of focus, where cells
show best."""
FULL_WELL_E = 20_000.0
"""Electrons at full scale."""
READ_NOISE_E = 6.0
OFFSET = 0.024
"""Black level, part of full scale."""
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
    minute: float
    top: int
    """Rows from the pixel of the centre up to the first row; the same for columns."""
    contrast: Array
    organelles: Array
    """Where granules stream in a living cell, (S, S); of size 0 in a dead one."""


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
        self._stream = band_noise(rng, 0.6 / p, 1.4 / p, sprite_size_px(REACH_UM, p))
        shape = (simulation.height, simulation.width)
        repeats = tuple(-(-size // TILE_PX) + 1 for size in shape)
        mottle = np.float32(0.006) * band_noise(rng, 2.0 / p, 9.0 / p, 0)
        self._mottle: Array = np.tile(mottle, repeats) + np.float32(1)
        self._noise = rng.standard_normal((shape[0] + 256, shape[1] + 256), dtype=np.float32)
        self._light = self._illuminate(rng, shape)
        self._debris = self._scatter(rng)
        self._sprites: dict[int, _Sprite] = {}
        self._z_um = 0.0
        self._transfer_of: dict[int, tuple[Array, Array]] = {}

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
        for cell, top, left in zip(
            shown.cell.tolist(), y.round().astype(int).tolist(), x.round().astype(int).tolist(), strict=True
        ):
            self._blit(relative, cell, top, left, minute)
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
        full_scale = float(2**self._settings.bit_depth - 1)
        electrons = FULL_WELL_E * LIGHT_PER_MS * exposure_ms
        rng = np.random.default_rng([self._settings.seed, 11, frame_number])
        dy, dx = rng.integers(0, 256, 2)
        height, width = relative.shape
        rows_at_once = max(1, 65_536 // width)  # blocks that stay in the second-level cache
        for top in range(0, height, rows_at_once):
            block = relative[top : top + rows_at_once]
            np.maximum(block, 0.06, out=block)
            block *= self._light[top : top + rows_at_once]
            block *= electrons
            noise = np.sqrt(block + np.float32(READ_NOISE_E**2))
            noise *= self._noise[dy + top : dy + top + len(block), dx : dx + width]
            block += noise
            block *= full_scale * (1 - OFFSET) / FULL_WELL_E
            block += full_scale * OFFSET + 0.5
            np.clip(block, 0.0, full_scale, out=block)
            out[top : top + rows_at_once] = block

    # ------------------------------------------------------------------ objects

    def _refocus(self, z_um: float) -> None:
        z = round((z_um + self._settings.defocus_um + BEST_FOCUS_UM) * 4) / 4  # a quarter micrometre is not seen
        if z != self._z_um or not self._transfer_of:
            self._z_um = z
            self._transfer_of.clear()
            self._sprites.clear()
            self._specks = [self._image(phase, absorption) for phase, absorption in self._debris_objects]

    def _transfer(self, size: int) -> tuple[Array, Array]:
        """Contrast transfer of phase and of absorption for sprites of `size` pixels, (size, size // 2 + 1)."""
        if size not in self._transfer_of:
            fy = fft.fftfreq(size, self._pixel_um)[:, None]
            fx = fft.rfftfreq(size, self._pixel_um)[None, :]
            f2 = fy**2 + fx**2
            turn = np.pi * WAVELENGTH_UM * self._z_um * f2
            condenser = 0.25 * APERTURE
            envelope = np.exp(-f2 / (1.3 * APERTURE / WAVELENGTH_UM) ** 2) * np.exp(
                -((np.pi * condenser * self._z_um) ** 2) * f2
            )
            self._transfer_of[size] = (
                (2 * np.sin(turn) * envelope).astype(np.float32),
                (-2 * np.cos(turn) * envelope).astype(np.float32),
            )
        return self._transfer_of[size]

    def _image(
        self, phase: Array, absorption: Array, shift_y: Array | None = None, shift_x: Array | None = None
    ) -> Array:
        """Contrast (B, S, S) of weak objects (B, S, S), moved by (B,) fractions of a pixel."""
        size = phase.shape[-1]
        of_phase, of_absorption = self._transfer(size)
        spectrum = fft.rfft2(phase) * of_phase + fft.rfft2(absorption) * of_absorption
        if shift_y is not None and shift_x is not None:
            spectrum *= np.exp(-2j * np.pi * fft.fftfreq(size)[None, :, None] * shift_y[:, None, None]).astype(
                np.complex64
            )
            spectrum *= np.exp(-2j * np.pi * fft.rfftfreq(size)[None, None, :] * shift_x[:, None, None]).astype(
                np.complex64
            )
        return np.asarray(fft.irfft2(spectrum, s=(size, size)), np.float32)

    def _scatter(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Specks that lie on the dish among the cells: (n, 3) row, column, kind."""
        side = self._culture.side_px
        n = rng.poisson(90 * (self._culture.side_um / 1000) ** 2)
        size = 32
        y, x = np.indices((size, size), dtype=np.float32) - size // 2
        self._debris_objects = []
        for _ in range(8):
            phase = np.zeros((size, size), np.float32)
            for _ in range(rng.integers(1, 4)):
                oy, ox = rng.normal(0, 1.2 / self._pixel_um, 2)
                width = rng.uniform(0.4, 1.3) / self._pixel_um
                phase += np.float32(rng.uniform(-0.3, 0.7)) * np.exp(-((y - oy) ** 2 + (x - ox) ** 2) / (2 * width**2))
            absorption = np.float32(rng.uniform(0, 0.12)) * np.abs(phase)
            self._debris_objects.append((phase[None], absorption[None]))
        return np.stack([rng.integers(0, side, n), rng.integers(0, side, n), rng.integers(0, 8, n)], axis=-1)

    def _blit_debris(self, relative: Array, view: View) -> None:
        side = self._culture.side_px
        offset = (self._debris[:, :2] - np.array([view.y_px, view.x_px]) + 32) % side - 32
        inside = (offset[:, 0] < view.height) & (offset[:, 1] < view.width)
        for (top, left), kind in zip(offset[inside].tolist(), self._debris[inside, 2].tolist(), strict=True):
            _add(relative, self._specks[kind][0], top, left)

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
        outline = (outline_um / self._pixel_um).astype(np.float32)
        sizes = np.array([sprite_size_px(reach, self._pixel_um) for reach in outline_um.max(axis=1)])
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            for batch in np.array_split(rows, -(-len(rows) // 8)):  # eight at once stay in the cache
                self._draw(shown.select(batch), outline[batch], int(size), y[batch], x[batch])

    def _draw(
        self, shown: Appearance, outline: Array, size: int, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> None:
        painted = self._painter.paint(shown, outline, size)
        shift_y, shift_x = (y - np.round(y)).astype(np.float32), (x - np.round(x)).astype(np.float32)
        contrast = self._image(painted.phase, painted.absorption, shift_y, shift_x)
        for k, (cell, minute) in enumerate(zip(shown.cell.tolist(), shown.minute.tolist(), strict=True)):
            still = shown.dying[k] >= 1.0
            self._sprites[cell] = _Sprite(
                minute, size // 2, contrast[k], painted.organelles[k, :0, :0] if still else painted.organelles[k]
            )

    def _blit(self, relative: Array, cell: int, y: int, x: int, minute: float) -> None:
        sprite = self._sprites[cell]
        top, left = y - sprite.top, x - sprite.top
        _add(relative, sprite.contrast, top, left)
        if sprite.organelles.size:
            # granules stream past at 3 um/min, each cell's in its own direction
            path = 3.0 * minute / self._pixel_um
            angle = 2.4 * cell
            dy, dx = int(path * np.sin(angle) + 37 * cell) % TILE_PX, int(path * np.cos(angle) + 91 * cell) % TILE_PX
            size = len(sprite.organelles)
            _add(relative, sprite.organelles * self._stream[dy : dy + size, dx : dx + size], top, left)


def _add(relative: Array, sprite: Array, top: int, left: int) -> None:
    """Add a sprite where it overlaps the frame."""
    height, width = relative.shape
    bottom, right = min(top + sprite.shape[0], height), min(left + sprite.shape[1], width)
    y, x = max(top, 0), max(left, 0)
    if y < bottom and x < right:
        relative[y:bottom, x:right] += sprite[y - top : bottom - top, x - left : right - left]
