"""When each cell died: evidence gathered over time, with the uncertainty that is left.

Owns a hidden Markov filter of two states, alive and dead, dead for ever. Does not link cells (`link`).

For every track the filter holds how likely each recent moment is to have been the time of death, relative to "still
alive". A frame adds its evidence to all of them: the log odds of the network's calibrated p_dead, and what motion and
texture say (`evidence`). Their sum is the posterior; their spread is the interval of the time of death. The first
frame alone gives exactly the network's call.

Evidence of successive frames is not independent: a cell that looks dead goes on looking dead. Later frames that say the
same therefore count by `weight` only, and a cell that was dead when first seen has no time of death but "before".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls, Fates, State
from livescope.frames import Frame
from livescope.track.evidence import FEATURES, Contrast, correlate, sample

__all__ = ["FateFilter", "FateSettings", "Fates"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NEVER = -60.0
"""Log odds of what is out of the question."""

_OLDER = 32
"""Bins of frames before the window: in 100 000 frames none is longer than a quarter of its age."""


@dataclass(slots=True, frozen=True)
class FateSettings:
    """What the filter believes before it sees.

    Attributes
    ----------
    hazard
        Chance a frame that a living cell dies. Above what most cultures have: with 0.005 more deaths are called late.
    weight
        Part of a later frame's log odds that counts where it says what the frames before it said. What contradicts
        them counts in full.
    time_weight
        Part of the log odds that counts for the time of death: more makes its interval too narrow.
    most_look, persist
        Once the network's evidence has added up to `most_look` nats for one state, more of the same counts by
        `persist` only.
    motion_weight
        Part of a frame's evidence from motion and texture that counts; 0 switches them off.
    most_still
        Stillness adds up to so many nats for death, then no more: a living cell may be stuck. Motion counts for life
        each time.
    most_nats
        Most evidence that one frame's p_dead may give, in nats; 6 is a p_dead of 0.9975.
    window_frames
        So many recent frames are held apart as possible times of death, older ones by stretches that grow with age. A
        time that was settled within them stays as it is.
    most_odds
        Log odds of death never rise above this, so that a wrong verdict can be taken back: after 20 frames of p_dead
        0.99 it takes 20 of 0.02, or 36 of 0.1.
    declare
        A cell is declared dead at this posterior: some 10 nats of evidence with the default `hazard`.
    uncertain
        Between these two posteriors a cell's state is uncertain.
    forget_frames
        A track not seen for so many frames is forgotten.
    """

    hazard: float = 0.05
    weight: float = 0.65
    time_weight: float = 0.85
    most_look: float = 3.0
    persist: float = 0.2
    motion_weight: float = 0.5
    most_still: float = 2.0
    most_nats: float = 6.0
    window_frames: int = 64
    most_odds: float = 16.0
    declare: float = 0.999
    uncertain: tuple[float, float] = (0.5, 0.5)
    forget_frames: int = 520


@dataclass(slots=True)
class _Tracks:
    """Tracks of one position, one row a track, by rising number."""

    track: Ints
    odds: Floats
    """(n, bins) log odds, against being alive, of having died in each bin. The first is being dead at first sight; then
    come `_OLDER` stretches of frames, then the latest frames, one a bin."""
    looks: Floats
    """(n, bins) the network's part of `odds`, not below minus `most_look`."""
    frames: Floats
    times: Floats
    """(n, bins + 1) edges of the bins: frame index and seconds of frames in which the track was seen."""
    look: Floats
    """The network's evidence since the track began, limited to plus or minus `most_look`."""
    still: Floats
    """Evidence of motion and texture, limited to plus or minus `most_still`."""
    p_sure: Floats
    """Slow mean of the network's log odds."""
    place: Floats
    """Slow mean place in pixels, NaN before a cell is seen at the scale of the newest frame."""
    texture: NDArray[np.float32]
    unseen: Ints
    declared: Bools
    was_alive: Bools
    resurrected: Bools
    death: Floats
    """(n, 2, 3) low, median, high of the time of death, as frame index and in seconds; NaN where unknown."""

    def keep(self, rows: Bools | Ints) -> None:
        for column in fields(self):
            setattr(self, column.name, getattr(self, column.name)[rows])

    def append(self, other: _Tracks) -> None:
        for column in fields(self):
            setattr(self, column.name, np.concatenate([getattr(self, column.name), getattr(other, column.name)]))


@dataclass(slots=True)
class _Position:
    tracks: _Tracks
    contrast: Contrast = field(default_factory=Contrast)


class FateFilter:
    """Gathers evidence of death by track. One thread uses it; give it every analysed frame in order.

    Parameters
    ----------
    settings
        What it believes beforehand.

    Examples
    --------
    One frame alone gives the single-frame call; the second sharpens it.

    >>> from livescope.track.testing import calls_at, frame_of
    >>> from livescope.track.link import Linker
    >>> linker, fate = Linker(), FateFilter()
    >>> for index in range(2):
    ...     calls = linker.update(calls_at([[50, 50]], p_dead=[0.8]), frame_of(index))
    ...     print(round(float(fate.update(calls, frame_of(index)).p_dead[0]), 3))
    0.8
    0.909
    """

    def __init__(self, settings: FateSettings | None = None) -> None:
        self.settings = settings or FateSettings()
        self._positions: dict[tuple[str, str | None], _Position] = {}

    @property
    def tracks(self) -> int:
        """Tracks kept in memory, over all positions."""
        return sum(len(p.tracks.track) for p in self._positions.values())

    def update(self, calls: CellCalls, frame: Frame, shift_yx_px: tuple[float, float] = (0.0, 0.0)) -> Fates:
        """Take in one frame's linked calls and return what is known of its cells.

        Parameters
        ----------
        calls
            Calls with `track` set by `Linker.update`.
        frame
            Their frame; its pixels are read for texture.
        shift_yx_px
            How far the picture moved since the position's frame before (`Linker.report`); NaN where its scale changed:
            what motion and texture were worth is then learnt anew.
        """
        place = frame.camera, frame.position
        here = self._positions.setdefault(place, _Position(self._new_tracks(np.empty(0, np.int64), frame)))
        tracks = here.tracks
        tracks.unseen += 1
        tracks.place += np.array(shift_yx_px)
        if np.isnan(shift_yx_px).any():
            here.contrast = Contrast()
        row = self._rows_of(tracks, calls, frame)
        old = tracks.frames[row, -1] < frame.index
        self._step(tracks, row[old], frame)
        self._add_evidence(here, calls, frame, row, old)
        result = self._judge(tracks, row)
        remembered = tracks.unseen <= self.settings.forget_frames
        if not remembered.all():
            tracks.keep(remembered)
        return result

    def _new_tracks(self, track: Ints, frame: Frame) -> _Tracks:
        n, bins = len(track), 1 + _OLDER + self.settings.window_frames
        return _Tracks(
            track=track,
            odds=np.full((n, bins), _NEVER),
            looks=np.zeros((n, bins)),
            frames=np.full((n, bins + 1), float(frame.index)),
            times=np.full((n, bins + 1), frame.time_s),
            look=np.zeros(n),
            still=np.zeros(n),
            p_sure=np.zeros(n),
            place=np.full((n, 2), np.nan),
            texture=np.zeros((n, 64), np.float32),
            unseen=np.zeros(n, np.int64),
            declared=np.zeros(n, bool),
            was_alive=np.zeros(n, bool),
            resurrected=np.zeros(n, bool),
            death=np.full((n, 2, 3), np.nan),
        )

    def _step(self, tracks: _Tracks, seen: Ints, frame: Frame) -> None:
        """Let time pass for tracks seen again: two old bins become one, and one opens since they were last seen."""
        odds, looks, frames = tracks.odds[seen], tracks.looks[seen], tracks.frames[seen]
        rows, edge = np.arange(len(odds)), _idlest_edge(frames)
        one, other = odds[rows, edge - 1], odds[rows, edge]
        looks[rows, edge - 1] = np.where(other > one, looks[rows, edge], looks[rows, edge - 1])
        odds[rows, edge - 1] = np.logaddexp(one, other)
        opened = np.log(np.minimum(self.settings.hazard * tracks.unseen[seen], 0.5))
        tracks.odds[seen] = _without(odds, edge, opened)
        tracks.looks[seen] = _without(looks, edge, 0.0)
        tracks.frames[seen] = _without(frames, edge, float(frame.index))
        tracks.times[seen] = _without(tracks.times[seen], edge, frame.time_s)

    def _rows_of(self, tracks: _Tracks, calls: CellCalls, frame: Frame) -> Ints:
        """Return the row of each call's track; new tracks are appended."""
        new = np.setdiff1d(calls.track, tracks.track)
        if len(new):
            tracks.append(self._new_tracks(new, frame))
            if len(tracks.track) > len(new) and new[0] < tracks.track[-len(new) - 1]:  # a forgotten one came back
                tracks.keep(np.argsort(tracks.track))
        return np.searchsorted(tracks.track, calls.track).astype(np.int64)

    def _add_evidence(self, here: _Position, calls: CellCalls, frame: Frame, row: Ints, old: Bools) -> None:
        s, tracks = self.settings, here.tracks
        p = np.clip(calls.p_dead.astype(np.float64), 1e-6, 1 - 1e-6)
        odds = np.log(p / (1 - p))
        first = row[~old]  # the first frame: dead already, with the network's own odds
        tracks.odds[first, -1] = odds[~old]
        tracks.looks[first, -1] = np.clip(odds[~old], -s.most_look, s.most_look)
        more_of_the_same = old & (odds * tracks.p_sure[row] > 0)
        tracks.p_sure[row] = np.where(old, 0.7 * tracks.p_sure[row] + 0.3 * odds, odds)
        step = np.where(more_of_the_same, s.weight, 1.0) * np.clip(odds, -s.most_nats, s.most_nats)
        look = np.clip(tracks.look[row] + step, -s.most_look, s.most_look)
        change = look - tracks.look[row]
        tracks.look[row] = look
        gain = np.where(step > 0, change + s.persist * (step - change), step)
        motion = self._motion(here, calls, frame, row)
        again = row[old]
        looks = tracks.looks[again] + gain[old, None]
        below = np.minimum(looks + s.most_look, 0.0)
        tracks.looks[again] = np.minimum(looks - below, s.most_look)
        tracks.odds[again] += (gain + motion)[old, None] - (1.0 - s.persist) * below
        tracks.unseen[row] = 0

    def _motion(self, here: _Position, calls: CellCalls, frame: Frame, row: Ints) -> Floats:
        """Return the evidence of motion and texture, (n,) nats: moving proves life, stillness no death."""
        s, tracks = self.settings, here.tracks
        if s.motion_weight == 0:
            return np.zeros(len(row))
        features = self._features(tracks, calls, frame, row)
        step = s.motion_weight * here.contrast.evidence(features)
        still = np.clip(tracks.still[row] + step, -s.most_still, s.most_still)
        change = still - tracks.still[row]
        tracks.still[row] = still
        sure = tracks.p_sure[row]
        here.contrast.learn(features, sure < -2.0, sure > 2.0)
        evidence: Floats = change + np.minimum(step - change, 0.0)
        return evidence

    def _features(self, tracks: _Tracks, calls: CellCalls, frame: Frame, row: Ints) -> Floats:
        """Return (n, 2) motion and texture since the frames before, NaN where there were none."""
        features = np.full((len(row), FEATURES), np.nan)
        at = np.stack([calls.y_px, calls.x_px], axis=-1).astype(np.float64)
        radius = np.sqrt(calls.area_px.astype(np.float64) / np.pi)
        old = np.isfinite(tracks.place[row, 0])  # seen before at this scale
        seen = row[old]
        away = np.hypot(*(at[old] - tracks.place[seen]).T)
        features[old, 0] = np.log(away + 0.1)
        # texture is compared at the same place of the sample, not around the call's own centre, which jitters
        still = np.where(old[:, None], tracks.place[row], at)
        features[old, 1] = correlate(sample(frame.pixels, still[old], radius[old]), tracks.texture[seen])
        tracks.place[row] = np.where(old[:, None], still + 0.25 * (at - still), at)
        tracks.texture[row] = sample(frame.pixels, tracks.place[row], radius)
        return features

    def _judge(self, tracks: _Tracks, row: Ints) -> Fates:
        s = self.settings
        total = _log_sum(tracks.odds)
        tracks.odds -= np.maximum(total - s.most_odds, 0.0)[:, None]
        posterior = 1.0 / (1.0 + np.exp(-total))
        tracks.was_alive |= posterior < 0.5
        seen = np.zeros(len(total), bool)
        seen[row] = True
        fallen = tracks.declared & (posterior < 0.5)
        tracks.resurrected |= fallen
        declared_now = seen & ~tracks.declared & (posterior >= s.declare)
        died = tuple(tracks.track[declared_now & tracks.was_alive].tolist())
        tracks.declared = (tracks.declared | declared_now) & ~fallen
        self._time_deaths(tracks, total)
        tracks.death[posterior < 0.5] = np.nan
        death = tracks.death[row]
        p = posterior[row]
        low, high = s.uncertain
        state = np.where(p < low, State.LIVE, np.where(p >= high, State.DEAD, State.UNCERTAIN)).astype(np.uint8)
        return Fates(
            p_dead=p.astype(np.float32),
            state=state,
            death_s=death[:, 1, 1],
            death_low_s=death[:, 1, 0],
            death_high_s=death[:, 1, 2],
            death_frame=death[:, 0, 1],
            death_low_frame=death[:, 0, 0],
            death_high_frame=death[:, 0, 2],
            arrived_dead=(p >= 0.5) & ~tracks.was_alive[row],
            declared=tracks.declared[row],
            resurrected=tracks.resurrected[row],
            died=died,
        )

    def _time_deaths(self, tracks: _Tracks, total: Floats) -> None:
        """Set the quantiles of the time of death; one that was settled inside the window stays as it was."""
        dead = np.flatnonzero((total > 0.0) & tracks.was_alive)
        if not len(dead):
            return
        odds = self.settings.time_weight * tracks.odds[dead]
        mass = np.exp(odds - _log_sum(odds)[:, None])
        inside = mass[:, : 1 + _OLDER].sum(axis=1) < 0.05
        open_ = ~tracks.declared[dead] | np.isnan(tracks.death[dead, 0, 1])
        told = (mass[:, 0] < 0.05) & (inside | open_)
        dead, mass = dead[told], mass[told]
        if not len(dead):
            return
        cumulated = np.cumsum(mass, axis=1)
        rows = np.arange(len(dead))
        for column, quantile in enumerate((0.05, 0.5, 0.95)):
            bin_ = np.argmax(cumulated >= quantile * cumulated[:, -1:], axis=1)
            before = np.where(bin_ > 0, cumulated[rows, np.maximum(bin_ - 1, 0)], 0.0)
            part = (quantile * cumulated[:, -1] - before) / mass[rows, bin_]
            # a cell dead at frame k died after frame k - 1
            for unit, edges in enumerate((tracks.frames[dead], tracks.times[dead])):
                start, end = edges[rows, bin_], edges[rows, bin_ + 1]
                tracks.death[dead, unit, column] = start + part * (end - start)


def _idlest_edge(frames: Floats) -> Ints:
    """Choose for each row of edges (n, bins + 1) the one, (n,), that divides the two bins shortest for their age.

    What lies before the first sight is taken into the first bin, the latest frames are left apart.
    """
    edges = frames[:, : _OLDER + 3]
    length = edges[:, 2:] - edges[:, :-2]
    length[:, 0] = np.where(edges[:, 2] > edges[:, 1], np.inf, 0.0)
    age = np.maximum(frames[:, -1:] - edges[:, :-2], 1.0)
    idlest: Ints = 1 + np.argmin(length / age, axis=1)
    return idlest


def _without(columns: Floats, left_out: Ints, last: Floats | float) -> Floats:
    """Take one column out of each row, move what follows up, and put `last` at the end."""
    at = np.arange(columns.shape[1] - 1)
    kept = np.take_along_axis(columns, at + (at >= left_out[:, None]), axis=1)
    return np.concatenate([kept, np.broadcast_to(last, (len(columns),))[:, None]], axis=1)


def _log_sum(odds: Floats) -> Floats:
    """Logarithm of the sum of the odds whose logarithms are (n, bins), (n,)."""
    most = odds.max(axis=1)
    total: Floats = most + np.log(np.exp(odds - most[:, None]).sum(axis=1))
    return total
