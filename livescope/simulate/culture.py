"""A culture of adherent cells in micrometres: how they move, spread, divide and die.

Owns the biology and its ground truth: where every cell is at any simulated minute, its outline, and when it dies.
Knows nothing of cameras or light (`optics`), nor of Micro-Manager (`camera`).

The culture lives on a square whose opposite edges are joined, so a stage may travel without end. It is a function of
the settings and the simulated minute alone: asking for an earlier minute replays it from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from livescope.settings import SimulationSettings

__all__ = ["DEATH_PROGRESS", "REACH_UM", "Appearance", "Culture"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEATH_PROGRESS = 0.7
"""A cell counts as dead once this part of its dying is over: it has rounded and shrunk to within a tenth of its last
size and its texture has turned granular half-way. Progress 0 is the first sign, 1 the last change."""

REACH_UM = 45.0
"""No outline reaches further than this from its centre."""

SNAPSHOT_MIN = 0.8
"""A cell is drawn anew this often (simulated minutes), each at its own moment; at 0.4 um/min it moves half a pixel
meanwhile."""

SPEED_UM_PER_MIN = 0.35
"""Standard deviation of a living cell's speed along one axis, the 20 um/h of a moderately motile line."""
PERSISTENCE_MIN = 20.0
ROUNDING_MIN = 30.0
"""A dividing cell rounds up this long before it divides."""
SPREADING_MIN = 45.0
"""A daughter spreads out over this time."""

APART = 1.2
"""Cells push each other away below this part of the sum of their mean radii, so that only the tips of long ones
overlap."""

_MODES = np.arange(2, 7)


def _smooth(x: Floats) -> Floats:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


@dataclass(slots=True)
class _Cells:
    """All cells that ever were, one row a cell. Times in simulated minutes, lengths in um, angles in radians."""

    born: Floats
    """Appearance in the culture; -inf for those of the start."""
    gone: Floats
    """Division into two daughters, inf where there was none."""
    spread_from: Floats
    """When it began to spread out."""
    divide: Floats
    onset: Floats
    duration: Floats
    """Dying begins at `onset` and takes `duration`."""
    radius: Floats
    """Mean radius when spread."""
    round_scale: Floats
    dead_scale: Floats
    aspect: Floats
    angle: Floats
    mode_amplitude: Floats
    mode_phase: Floats
    mode_rate: Floats
    """(n, 5) ruffles of the outline."""
    arm_length: Floats
    arm_angle: Floats
    """(n, 4) protrusions; bipolar ones lie near the long axis."""
    bleb_size: Floats
    bleb_angle: Floats
    bleb_width: Floats
    """(n, 6)"""
    parent: Ints

    def append(self, other: Self) -> None:
        for field in fields(self):
            setattr(self, field.name, np.concatenate([getattr(self, field.name), getattr(other, field.name)]))


def _draw_cells(
    rng: np.random.Generator, n: int, mean_radius_um: float, minute: float, s: SimulationSettings
) -> _Cells:
    """Draw n spread, living cells that begin their clocks at `minute`."""
    aspect = 1.0 + rng.gamma(1.6, 0.45, n).clip(0, 2.2)
    angle = rng.uniform(0, np.pi, n)
    side = np.array([0.0, np.pi, 0.0, np.pi])
    wander = np.array([0.25, 0.25, 1.2, 1.2])
    arms = angle[:, None] + side + rng.normal(0, 1, (n, 4)) * wander
    arm_length = rng.gamma(1.0, 0.3, (n, 4)) * np.array([1.0, 1.0, 0.6, 0.6])
    round_scale = rng.uniform(0.55, 0.7, n)
    with np.errstate(divide="ignore"):
        divide = minute + rng.exponential(1.0, n) * np.divide(60.0, s.division_rate_per_h)
        onset = minute + rng.exponential(1.0, n) * np.divide(60.0, s.death_rate_per_h)
    return _Cells(
        born=np.full(n, minute),
        gone=np.full(n, np.inf),
        # one in sixteen never spreads: round and alive
        spread_from=np.where(rng.random(n) < 1 / 16, np.inf, minute),
        divide=divide,
        onset=onset,
        duration=rng.uniform(12, 30, n),
        radius=mean_radius_um * np.exp(rng.normal(0, 0.2, n)),
        round_scale=round_scale,
        dead_scale=np.minimum(rng.uniform(0.38, 0.75, n), 0.95 * round_scale),
        aspect=aspect,
        angle=angle,
        mode_amplitude=rng.normal(0, 1, (n, 5)) * (0.16 / _MODES),
        mode_phase=rng.uniform(0, 2 * np.pi, (n, 5)),
        mode_rate=rng.normal(0, 0.05, (n, 5)),
        arm_length=arm_length.clip(0, 0.85),
        arm_angle=arms,
        bleb_size=rng.uniform(0.05, 0.42, (n, 6)),
        bleb_angle=rng.uniform(0, 2 * np.pi, (n, 6)),
        bleb_width=rng.uniform(8, 22, (n, 6)),
        parent=np.full(n, -1, np.int64),
    )


@dataclass(slots=True, frozen=True)
class Appearance:
    """What some cells look like at their moments; n rows.

    Attributes
    ----------
    cell
        (n,) row of the cell in the culture, its identity for ever.
    minute
        (n,) simulated minute at which it is shown.
    y_um, x_um
        (n,) centre on the culture's square.
    roundness
        (n,) 0 spread, 1 a ball (dividing, newly divided, dying).
    dying
        (n,) progress of dying, 0 alive .. 1 done.
    death_minute
        (n,) time of death, NaN for a cell that is not dead yet at its moment.
    radius_um
        (n,) mean radius.
    """

    cell: Ints
    minute: Floats
    y_um: Floats
    x_um: Floats
    roundness: Floats
    dying: Floats
    death_minute: Floats
    radius_um: Floats

    @property
    def dead(self) -> NDArray[np.bool_]:
        """(n,) True from the time of death on."""
        return np.isfinite(self.death_minute)

    def __len__(self) -> int:
        return len(self.cell)

    def select(self, rows: NDArray[np.bool_] | Ints) -> Self:
        """Return the appearance of some rows only."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Culture:
    """The culture of one set of settings. One thread uses it.

    Parameters
    ----------
    simulation
        Seed, density, rates. The view's size sets the side of the square: at least twice the view, so that no cell is
        seen twice.

    Examples
    --------
    >>> from livescope.settings import SimulationSettings
    >>> culture = Culture(SimulationSettings(seed=3, dead_fraction=0.5))
    >>> shown = culture.shown(0.0)
    >>> bool(0.35 < shown.dead.mean() < 0.65)
    True
    """

    def __init__(self, simulation: SimulationSettings) -> None:
        self._settings = simulation
        pixel_um = simulation.pixel_um
        self.side_px = int(np.ceil(max(900.0, 2 * max(simulation.width, simulation.height) * pixel_um) / pixel_um))
        self.side_um = self.side_px * pixel_um
        self._step_min = float(np.clip(simulation.minutes_per_frame, 0.5, 4.0))
        self._reset()

    def _reset(self) -> None:
        s = self._settings
        rng = np.random.default_rng([s.seed, 0])
        n = round(s.cells_per_mm2 * (self.side_um / 1000) ** 2)
        # crowded cells are smaller: half the mean spacing at most
        self._mean_radius_um = min(13.0, 500.0 / np.sqrt(max(s.cells_per_mm2, 1.0)))
        cells = _draw_cells(rng, n, self._mean_radius_um, 0.0, s)
        cells.born[:] = -np.inf
        with np.errstate(divide="ignore"):
            age = rng.exponential(1.0, n) * np.divide(60.0, s.division_rate_per_h)
        cells.spread_from = np.where(np.isinf(cells.spread_from), np.inf, -age)
        cells.onset -= DEATH_PROGRESS * cells.duration
        dead = rng.random(n) < s.dead_fraction
        cells.onset[dead] = -rng.uniform(1, 24, int(dead.sum())) * 60.0 - cells.duration[dead]
        self._cells = cells
        self._yx = rng.uniform(0, self.side_um, (n, 2))
        self._velocity = rng.normal(0, SPEED_UM_PER_MIN, (n, 2))
        self._step = 0
        for _ in range(40):
            self._yx = self._yx + self._push(0.0, np.ones(n))
        self._history = [self._yx]

    def _present(self, minute: float | Floats) -> NDArray[np.bool_]:
        present: NDArray[np.bool_] = (self._cells.born <= minute) & (minute < self._cells.gone)
        return present

    def _progress(self, cell: Ints, minute: Floats) -> tuple[Floats, Floats, Floats]:
        """Return dying 0..1, roundness 0..1 and mean radius in um."""
        c = self._cells
        dying = np.clip((minute - c.onset[cell]) / c.duration[cell], 0.0, 1.0)
        unspread = 1.0 - _smooth((minute - c.spread_from[cell]) / SPREADING_MIN)
        rounding = _smooth((minute - c.divide[cell] + ROUNDING_MIN) / (0.7 * ROUNDING_MIN))
        # a cell that began to die neither divides nor goes on rounding for it
        rounding = np.where(c.divide[cell] - ROUNDING_MIN < c.onset[cell], rounding, 0.0)
        alive_round = np.maximum(unspread, rounding)
        shrink = _smooth(dying / 0.85)
        radius = c.radius[cell] * (1.0 - (1.0 - c.round_scale[cell]) * alive_round)
        radius += (c.radius[cell] * c.dead_scale[cell] - radius) * shrink
        return dying, np.maximum(alive_round, shrink), radius

    def _tree(self, cells: Ints) -> KDTree:
        return KDTree(np.mod(self._yx[cells], self.side_um), boxsize=np.full(2, self.side_um))

    def _push(self, minute: float, mobile: Floats) -> Floats:
        """Move overlapping neighbours apart: (n, 2) um. Only cells with `mobile` > 0 give way."""
        move = np.zeros_like(self._yx)
        everyone = np.flatnonzero(self._present(minute))
        if len(everyone) < 2:
            return move
        _, _, radius = self._progress(everyone, np.full(len(everyone), minute))
        tree = self._tree(everyone)
        pairs = tree.query_pairs(2 * APART * float(radius.max()), output_type="ndarray")
        i, j = pairs[:, 0], pairs[:, 1]
        apart = self._yx[everyone[j]] - self._yx[everyone[i]]
        apart -= self.side_um * np.round(apart / self.side_um)
        distance = np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 1e-6)
        overlap = np.maximum(APART * (radius[i] + radius[j]) - distance, 0.0)
        shove = (0.35 * overlap / distance)[:, None] * apart
        for axis in (0, 1):
            move[everyone, axis] = np.bincount(j, shove[:, axis], len(everyone)) - np.bincount(
                i, shove[:, axis], len(everyone)
            )
        return move * mobile[:, None]

    def _advance(self) -> None:
        minute = self._step * self._step_min
        rng = np.random.default_rng([self._settings.seed, 1 + self._step])
        self._divide(minute, rng)
        c = self._cells
        n = len(c.born)
        rows = np.arange(n)
        dying, roundness, _ = self._progress(rows, np.full(n, minute))
        mobile = (1.0 - _smooth(dying / 0.6)) * self._present(minute)
        keep = np.exp(-self._step_min / PERSISTENCE_MIN)
        self._velocity *= keep
        self._velocity += np.sqrt(1 - keep**2) * rng.normal(0, SPEED_UM_PER_MIN, (n, 2))
        walk = self._velocity * (self._step_min * mobile * (1.0 - 0.8 * roundness))[:, None]
        self._history[-1] = self._yx  # with this step's daughters
        self._yx = self._yx + walk + self._push(minute, mobile)
        self._history = [*self._history[-4:], self._yx]
        self._step += 1

    def _divide(self, minute: float, rng: np.random.Generator) -> None:
        c = self._cells
        due = np.flatnonzero(self._present(minute) & (c.divide <= minute))
        due = due[c.onset[due] > minute]  # what began to die while it rounded up divides no more
        if not len(due):
            return
        present = np.flatnonzero(self._present(minute))
        near = self._tree(present).query_ball_point(
            np.mod(self._yx[due], self.side_um), 2.6 * self._mean_radius_um, return_length=True
        )
        crowded = near > 6  # itself and six neighbours: contact inhibition
        c.divide[due[crowded]] = minute + 60.0 + rng.exponential(120.0, int(crowded.sum()))
        due = due[~crowded]
        c.gone[due] = minute
        axis = rng.uniform(0, np.pi, len(due))
        offset = (0.5 * c.radius[due] * c.round_scale[due])[:, None] * np.stack([np.sin(axis), np.cos(axis)], axis=-1)
        daughters = _draw_cells(rng, 2 * len(due), self._mean_radius_um, minute, self._settings)
        daughters.parent[:] = np.repeat(due, 2)
        daughters.round_scale *= 0.8  # half the volume of the ball that divides
        daughters.dead_scale *= 0.9
        daughters.divide += 2 * ROUNDING_MIN + SPREADING_MIN
        c.append(daughters)
        places = np.repeat(self._yx[due], 2, axis=0)
        places[0::2] += offset
        places[1::2] -= offset
        self._yx = np.concatenate([self._yx, places])
        self._velocity = np.concatenate([self._velocity, rng.normal(0, SPEED_UM_PER_MIN, (len(places), 2))])

    def shown(self, minute: float) -> Appearance:
        """Every cell of the culture as it is shown at a simulated minute, each at its own latest moment before it.

        Moments differ from cell to cell (by up to `SNAPSHOT_MIN`), so that a renderer redraws a few cells a frame and
        not all at once. The appearance is the truth of what is drawn: a cell is exactly there, with exactly this
        outline.
        """
        if minute < self._oldest_min:
            self._reset()
        while self._step * self._step_min <= minute:
            self._advance()
        cell = np.flatnonzero(self._present(minute))
        moment = np.full(len(cell), minute)
        if self._settings.minutes_per_frame < SNAPSHOT_MIN:
            stagger = SNAPSHOT_MIN * np.mod(cell * 0.6180339887, 1.0)
            moment = np.floor((minute + stagger) / SNAPSHOT_MIN) * SNAPSHOT_MIN - stagger
            moment = np.maximum(moment, np.maximum(self._cells.born[cell], 0.0))
        dying, roundness, radius = self._progress(cell, moment)
        death = self._cells.onset[cell] + DEATH_PROGRESS * self._cells.duration[cell]
        y_um, x_um = np.mod(self._places(cell, moment), self.side_um).T
        return Appearance(
            cell=cell,
            # what has died stays as it is: it need not be drawn again
            minute=np.minimum(moment, self._cells.onset[cell] + self._cells.duration[cell]),
            y_um=y_um,
            x_um=x_um,
            roundness=roundness,
            dying=dying,
            death_minute=np.where(death <= moment, death, np.nan),
            radius_um=radius,
        )

    @property
    def _oldest_min(self) -> float:
        """Earliest minute that can be shown without a replay: snapshots look back by `SNAPSHOT_MIN`."""
        oldest_step = self._step + 1 - len(self._history)
        return 0.0 if oldest_step <= 0 else oldest_step * self._step_min + SNAPSHOT_MIN

    def _places(self, cell: Ints, moment: Floats) -> Floats:
        """Positions between steps, (n, 2) um, not wrapped."""
        step = np.floor(moment / self._step_min).astype(np.int64)
        part = (moment / self._step_min - step)[:, None]
        row = step - (self._step + 1 - len(self._history))
        places = np.empty((len(cell), 2))
        for k in np.unique(row):
            these = row == k
            before, after = self._history[k][cell[these]], self._history[k + 1][cell[these]]
            places[these] = before + part[these] * (after - before)
        return places

    def parent_of(self, cell: int) -> int:
        """Return the cell that divided into this one, -1 for a cell of the start."""
        return int(self._cells.parent[cell])

    def radii_um(self, shown: Appearance, angles: Floats) -> Floats:
        """Distance from the centre to the outline, (n, len(angles)) um."""
        c, cell = self._cells, shown.cell
        still = np.minimum(shown.minute, c.onset[cell] + c.duration[cell])[:, None]
        spread = (1.0 - shown.roundness)[:, None]
        turned = angles[None, :] - c.angle[cell][:, None]
        stretch = np.sqrt(c.aspect[cell])[:, None]
        log_radius = -0.5 * np.log((np.cos(turned) / stretch) ** 2 + (np.sin(turned) * stretch) ** 2)
        for k, mode in enumerate(_MODES):
            phase = c.mode_phase[cell, k][:, None] + c.mode_rate[cell, k][:, None] * still
            log_radius += c.mode_amplitude[cell, k][:, None] * np.cos(mode * angles[None, :] + phase)
        for k in range(c.arm_length.shape[1]):
            length = c.arm_length[cell, k] * (0.75 + 0.25 * np.sin(0.03 * still[:, 0] + 7.0 * c.arm_angle[cell, k]))
            log_radius += length[:, None] * np.exp(14.0 * (np.cos(angles[None, :] - c.arm_angle[cell, k][:, None]) - 1))
        log_radius *= spread
        bubbling = _smooth((shown.dying - 0.3) / 0.35)[:, None]
        if np.any(bubbling):
            for k in range(c.bleb_size.shape[1]):
                pulse = 0.75 + 0.25 * np.sin(1.3 * still[:, 0] + 5.0 * c.bleb_angle[cell, k])
                bump = np.exp(c.bleb_width[cell, k][:, None] * (np.cos(angles - c.bleb_angle[cell, k][:, None]) - 1))
                log_radius += bubbling * (c.bleb_size[cell, k] * pulse)[:, None] * bump
        radii: Floats = np.minimum(shown.radius_um[:, None] * np.exp(log_radius), REACH_UM)
        return radii
