"""Who is who from frame to frame: one identity a cell, kept through misses, drift, stage moves and divisions.

Owns the identities. Does not decide who is dead (`fate`). Cost grows with the number of cells in the frame only, and
memory is bounded: a track that is not seen again is forgotten.

Cells are matched in the coordinates of the sample: the shift of the picture (drift, stage) is found first, from the
stage's position where that explains the picture and from the constellation of the cells where it does not, so that
the direction of the stage's axes need not be known. Then calls and tracks are paired so that the sum of their costs
is least. Where binning or objective changed, the tracks are first brought to the new scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from livescope.calls import CellCalls
from livescope.frames import Frame
from livescope.track.register import hits, nearest, refine, search

__all__ = ["Division", "LinkReport", "Linker"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GOOD_SHIFT = 0.5
"""A shift is believed without a search if it finds this part of the cells."""
_NEIGHBOURS = 4
_ROUND = 0.35
"""Most unevenness of the radii of a cell about to divide: two daughters not yet parted have about 0.3."""
_UNPAIRED_COST = 1.2
"""Leaving a track without a call costs more than any pair inside the gate with the same area."""


@dataclass(slots=True, frozen=True)
class Division:
    """A cell became two: `parent` goes on as one daughter, `child` is the other."""

    parent: int
    child: int


@dataclass(slots=True, frozen=True)
class LinkReport:
    """What the newest update did.

    Attributes
    ----------
    shift_yx_px
        How far the picture moved since the frame before at this position; NaN where its scale changed.
    linked, born, missing
        Calls that continue a track, calls that begin one, tracks in the field without a call.
    divisions
        Cells that divided.
    """

    shift_yx_px: tuple[float, float]
    linked: int
    born: int
    missing: int
    divisions: tuple[Division, ...]


@dataclass(slots=True)
class _Field:
    """Tracks of one position, one row a track; places in pixels of the sample."""

    origin: Floats = field(default_factory=lambda: np.zeros(2))
    """Place of the frame's top left pixel."""
    shape: tuple[int, int] | None = None
    """Height and width of the newest frame; None before the first."""
    pixel_um: float | None = None
    binning: int | None = None
    stage_yx_um: Floats | None = None
    """The stage's place at the newest frame with cells."""
    elsewhere: bool = False
    """The stage has moved since then: tracks are out of sight, and no cell tells how far."""
    track: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    place: Floats = field(default_factory=lambda: np.empty((0, 2)))
    area: Floats = field(default_factory=lambda: np.empty(0))
    uneven: Floats = field(default_factory=lambda: np.empty(0))
    """Standard deviation of its radii over their mean when last seen: 0 for a ball."""
    missed: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Frames since it was seen although it should have been in the field."""
    away: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Frames since it was seen because the field was elsewhere."""

    def rescale(self, factor: float, shape: tuple[int, int]) -> None:
        """Make the pixels `1 / factor` as large, of frames of the given shape, whose centre shows what it showed."""
        centres = [(np.array(s) - 1) / 2 for s in (self.shape or shape, shape)]
        self.origin = factor * (self.origin + centres[0]) - centres[1]
        self.place = factor * self.place
        self.area = factor**2 * self.area

    def keep(self, rows: NDArray[np.bool_]) -> None:
        for name in ("track", "place", "area", "uneven", "missed", "away"):
            setattr(self, name, getattr(self, name)[rows])


class Linker:
    """Links the calls of successive frames; every camera and stage position by itself. One thread uses it.

    Parameters
    ----------
    reach
        A cell moves by less than this part of the median cell radius between two frames (on top of the common shift).
    memory_frames
        A track is forgotten after so many frames in which it should have been seen.
    away_frames
        A track outside the field is kept for so many frames, in case the stage comes back.

    Examples
    --------
    >>> import numpy as np
    >>> from livescope.track.testing import calls_at, frame_of
    >>> linker = Linker()
    >>> linker.update(calls_at([[10, 10], [50, 50]]), frame_of(0)).track.tolist()
    [1, 2]
    >>> linker.update(calls_at([[51, 50], [11, 12]]), frame_of(1)).track.tolist()
    [2, 1]
    """

    def __init__(self, *, reach: float = 1.0, memory_frames: int = 15, away_frames: int = 500) -> None:
        if not reach > 0 or memory_frames < 0 or away_frames < 0:
            raise ValueError(
                f"{reach=}, {memory_frames=}, {away_frames=}: reach must be above 0, the others 0 or more."
            )
        self._reach = reach
        self._memory_frames = memory_frames
        self._away_frames = away_frames
        self._fields: dict[tuple[str, str | None], _Field] = {}
        self._next_track = 1  # identities are label values in the record, where 0 is background
        self.report = LinkReport((0.0, 0.0), 0, 0, 0, ())
        """What the newest update did."""

    @property
    def tracks(self) -> int:
        """Tracks kept in memory, over all positions."""
        return sum(len(f.track) for f in self._fields.values())

    def update(self, calls: CellCalls, frame: Frame) -> CellCalls:
        """Return the calls with `track` set. Frames of a position must come in order.

        Parameters
        ----------
        calls
            Calls of the frame, n rows.
        frame
            For its position, size, stage coordinates and pixel size.
        """
        here = np.stack([calls.y_px, calls.x_px], axis=-1).astype(np.float64)
        area = calls.area_px.astype(np.float64)
        radius = float(np.sqrt(np.median(area) / np.pi)) if len(area) else 10.0
        shape = (frame.pixels.shape[0], frame.pixels.shape[1])
        known, same_scale = self._field(frame, shape)
        tree = KDTree(here) if len(here) else None
        before = known.origin.copy()
        self._follow(known, tree, here, shape, radius, _stage_yx_um(frame))
        row_of_call = self._pair(known, tree, area, radius, shape)
        track, divisions = self._take_over(known, row_of_call, here, calls, shape, radius)
        linked = int(np.count_nonzero(row_of_call >= 0))
        dy, dx = (before - known.origin).tolist() if same_scale else (np.nan, np.nan)
        missing = int(np.count_nonzero((known.missed > 0) & (known.away == 0)))
        self.report = LinkReport((dy, dx), linked, len(calls) - linked, missing, divisions)
        return replace(calls, track=track)

    def _field(self, frame: Frame, shape: tuple[int, int]) -> tuple[_Field, bool]:
        """Return the tracks of the frame's place at the frame's scale, and whether that is the scale before.

        Binning keeps the corner of the picture and so, as an objective does, its centre. Where nobody can tell how the
        scale changed the field begins afresh: its cells get new identities, which is better than wrong ones.
        """
        place = frame.camera, frame.position
        known = self._fields.setdefault(place, _Field())
        factor = 1.0 if known.shape is None else _scale(known, frame)
        if factor is None:
            known = self._fields[place] = _Field()
        elif factor != 1.0:
            known.rescale(factor, shape)
        known.shape, known.pixel_um, known.binning = shape, frame.pixel_um, _binning(frame)
        return known, factor == 1.0

    def _follow(
        self,
        known: _Field,
        tree: KDTree | None,
        here: Floats,
        shape: tuple[int, int],
        radius: float,
        stage_yx_um: Floats | None,
    ) -> None:
        """Set the origin of the frame in the sample."""
        step = None
        if stage_yx_um is not None and known.stage_yx_um is not None and known.pixel_um is not None:
            step = (stage_yx_um - known.stage_yx_um) / known.pixel_um
            step = step if np.abs(step).max() > 0.1 * radius else None
        known.elsewhere = tree is None and step is not None
        if tree is None:
            return
        known.stage_yx_um = stage_yx_um
        if not len(known.track):
            return
        fresh = known.place[known.away == 0] if (known.away == 0).any() else known.place
        here_before = fresh - known.origin
        guesses = [np.zeros(2)]
        if step is not None:
            y, x = step
            guesses += [np.array(s) for s in ((-y, -x), (y, x), (-y, x), (y, -x), (-x, -y), (x, y), (-x, y), (x, -y))]
        shares = [hits(here_before, tree, shape, guess, 0.5 * radius) for guess in guesses]
        best = int(np.argmax(shares))
        shift: Floats = guesses[best]
        if shares[best] < _GOOD_SHIFT:
            found = search(known.place - known.origin, here, shape, radius)
            if found is not None:
                shift = found
            elif len(guesses) > 1 and shares[best] < 0.2:
                shift = guesses[1]  # nothing in common any more: believe the stage, in its usual direction
        shift = refine(here_before, tree, shift, 0.7 * radius)
        known.origin = known.origin - shift

    def _pair(self, known: _Field, tree: KDTree | None, area: Floats, radius: float, shape: tuple[int, int]) -> Ints:
        """Return for each call the row of its track, -1 for none."""
        row_of_call = np.full(len(area), -1, np.int64)
        if tree is None or not len(known.track):
            return row_of_call
        lost = known.missed + known.away
        gate = self._reach * radius * np.minimum(np.sqrt(1.0 + 0.25 * lost), 1.6)
        expected = known.place - known.origin
        near = ((expected > -gate[:, None]) & (expected < np.array(shape) + gate[:, None])).all(axis=1)
        rows = np.flatnonzero(near)
        if not len(rows):
            return row_of_call
        k = min(_NEIGHBOURS, len(area))
        distance, call = nearest(tree, expected[rows], float(gate[rows].max()), k)
        inside = distance < gate[rows, None]
        track_index, nth = np.nonzero(inside)
        if not len(track_index):
            return row_of_call
        call_index = call[track_index, nth]
        size_change = np.abs(np.log(area[call_index] / known.area[rows[track_index]]))
        cost = (distance[track_index, nth] / gate[rows[track_index]]) ** 2 + 0.2 * np.minimum(size_change, 1.0)
        n_tracks, n_calls = len(rows), len(area)
        # each track may stay alone at a price: a column of its own
        alone = np.arange(n_tracks)
        graph = csr_array(
            (
                np.concatenate([cost + 1e-6, np.full(n_tracks, _UNPAIRED_COST)]),
                (np.concatenate([track_index, alone]), np.concatenate([call_index, n_calls + alone])),
            ),
            shape=(n_tracks, n_calls + n_tracks),
        )
        chosen_track, chosen_call = min_weight_full_bipartite_matching(graph)
        paired = chosen_call < n_calls
        row_of_call[chosen_call[paired]] = rows[chosen_track[paired]]
        return row_of_call

    def _take_over(
        self, known: _Field, row_of_call: Ints, here: Floats, calls: CellCalls, shape: tuple[int, int], radius: float
    ) -> tuple[Ints, tuple[Division, ...]]:
        """Move tracks to their calls, begin tracks for the others, forget old ones."""
        area = calls.area_px.astype(np.float64)
        radii = calls.radii_px.astype(np.float64)
        uneven = radii.std(axis=1) / np.maximum(radii.mean(axis=1), 1e-6)
        old = row_of_call >= 0
        rows = row_of_call[old]
        new = np.flatnonzero(~old)
        track = np.empty(len(here), np.int64)
        track[old] = known.track[rows]
        track[new] = self._next_track + np.arange(len(new))
        self._next_track += len(new)
        divisions = _divisions(known, row_of_call, here, area, track, radius)

        expected = known.place - known.origin
        margin = 0.5 * radius
        in_field = ((expected > margin) & (expected < np.array(shape) - margin)).all(axis=1) & (not known.elsewhere)
        seen = np.zeros(len(known.track), bool)
        seen[rows] = True
        known.missed = np.where(seen, 0, known.missed + in_field)
        known.away = np.where(seen | in_field, 0, known.away + 1)
        known.place[rows] = here[old] + known.origin
        known.area[rows] += 0.3 * (area[old] - known.area[rows])
        known.uneven[rows] = uneven[old]
        known.keep((known.missed <= self._memory_frames) & (known.away <= self._away_frames))
        known.track = np.concatenate([known.track, track[new]])
        known.place = np.concatenate([known.place, here[new] + known.origin])
        known.area = np.concatenate([known.area, area[new]])
        known.uneven = np.concatenate([known.uneven, uneven[new]])
        known.missed = np.concatenate([known.missed, np.zeros(len(new), np.int64)])
        known.away = np.concatenate([known.away, np.zeros(len(new), np.int64)])
        return track, divisions


def _scale(known: _Field, frame: Frame) -> float | None:
    """How many pixels now cover one pixel of the frame before; None where nobody can tell."""
    if known.pixel_um is not None and frame.pixel_um is not None:
        return known.pixel_um / frame.pixel_um
    if known.pixel_um != frame.pixel_um:
        return None
    binning = _binning(frame)
    if known.binning is not None and binning is not None:
        return known.binning / binning
    return 1.0 if known.shape == frame.pixels.shape else None


def _binning(frame: Frame) -> int | None:
    """Pixels of the sensor along a side of the frame's; None where the camera does not say. Some say 2, some 2x2."""
    said = str((frame.metadata or {}).get("Binning", "")).lower().split("x")[0]
    return int(said) if said.isdigit() and int(said) else None


def _stage_yx_um(frame: Frame) -> Floats | None:
    if frame.x_um is None or frame.y_um is None:
        return None
    return np.array([frame.y_um, frame.x_um])


def _divisions(
    known: _Field, row_of_call: Ints, here: Floats, area: Floats, track: Ints, radius: float
) -> tuple[Division, ...]:
    """Find new calls that lie beside a linked one so that the two together stand where one cell of their size was.

    A cell rounds up before it divides; both daughters must be smaller than it was, and their middle must lie within
    half a radius of its place. A long cell that falls into two calls is none.
    """
    new, old = np.flatnonzero(row_of_call < 0), np.flatnonzero(row_of_call >= 0)
    if not len(new) or not len(old):
        return ()
    partner_distance, partner = nearest(KDTree(here[old]), here[new], 3.0 * radius)
    found = []
    for child, sister, distance in zip(new, partner[:, 0], partner_distance[:, 0], strict=True):
        if not np.isfinite(distance):
            continue
        sister_call = old[sister]
        row = row_of_call[sister_call]
        if known.missed[row] + known.away[row] > 2 or known.uneven[row] > _ROUND:
            continue
        was = known.place[row] - known.origin
        middle = 0.5 * (here[child] + here[sister_call])
        parent_radius = np.sqrt(known.area[row] / np.pi)
        smaller = max(area[child], area[sister_call]) < 0.95 * known.area[row]
        if smaller and np.hypot(*(middle - was)) < 0.5 * parent_radius and distance < 2.2 * parent_radius:
            found.append(Division(int(track[sister_call]), int(track[child])))
    return tuple(found)
