"""What a record says of its run, put together for a report: curves, conditions, lives, crops.

Owns reading and joining the record's tables. Draws nothing (`figures`) and writes nothing (`run`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.assay.plate import Plate
from livescope.assay.pooled import BorderRule, pooled_viability
from livescope.assay.survival import Lives
from livescope.assay.viability import viability_of_counts
from livescope.calls import ErrorRates, State, Viability
from livescope.detect.bundle import Card, load_bundle
from livescope.errors import ModelError
from livescope.frames import CULTURE_MINUTES
from livescope.record.reader import Record, open_record
from livescope.report.dye import DyeFields, gather_dye
from livescope.respond.counts import counts_of
from livescope.respond.readings import shift_of

__all__ = ["EVERYTHING", "Crop", "Curve", "RunFacts", "gather"]

Floats = NDArray[np.float64]

EVERYTHING = "all cells"
"""The one condition of a run without a plate map."""
_ADDED = re.compile(r"\+\d+$")
"""The name of a place that a rule added: that of the position beside it and a number."""
_CROP_PX = 72
_CROPS_EACH = 12
_COUNTS = ("n_live", "n_dead", "n_uncertain")


@dataclass(slots=True, frozen=True)
class Curve:
    """Viability over time of one condition; one entry a point in time, wells and fields together."""

    hours: Floats
    viability: tuple[Viability, ...]


@dataclass(slots=True, frozen=True)
class Crop:
    """A cell as it was seen."""

    pixels: NDArray[Any]
    state: State
    p_dead: float
    frame: int


@dataclass(slots=True)
class RunFacts:
    """Everything a report shows of one run.

    Attributes
    ----------
    path, manifest, settings_yaml
        Of the record.
    card
        The model's card, None where the model is not at hand.
    rates
        Its error rates by which viabilities were corrected, None where they are not known for this run.
    hours
        Length of the run.
    n_frames, n_analysed, n_positions
        Recorded frames, analysed ones, stage positions.
    curves
        By condition.
    lives
        By condition.
    followed
        True where cells were followed, were there any or not.
    resurrected, tracks
        Tracks declared dead and alive again, and all tracks.
    undeclared
        Deaths in `lives` that had not been declared when the cell was last seen.
    wells, at_h
        (well, viability) of wells on the plate map, at that time; None is the end.
    crops
        Cells of each state, chosen at random from the last third of the run.
    frame_rows
        One row an analysed frame, for the CSV.
    simulated
        True where all times are those of a simulated culture, not of the clock.
    border
        Which cells at the border were counted.
    shift
        Hours, and how far frames were from the model's training then, parts of what is usual there.
    dye
        Model and dye side by side, where there are frames of a dye.
    deaths
        Tracks that were seen to die, wherever they lie.
    left_out
        Positions with analysed frames that name no well of the plate map: they are in no condition.
    unplaced
        True where frames were analysed, but of no position that names a well of the plate map: all cells are taken
        together.
    """

    path: Path
    manifest: dict[str, Any]
    settings_yaml: str
    card: Card | None
    rates: ErrorRates | None
    hours: float
    n_frames: int
    n_analysed: int
    n_positions: int
    curves: dict[str, Curve]
    lives: dict[str, Lives]
    resurrected: int
    tracks: int
    wells: dict[str, Viability]
    at_h: float | None
    crops: list[Crop]
    frame_rows: list[dict[str, Any]] = field(default_factory=list)
    simulated: bool = False
    undeclared: int = 0
    border: BorderRule = "all"
    shift: list[tuple[float, float]] = field(default_factory=list)
    dye: DyeFields = field(default_factory=lambda: DyeFields(None, ()))
    unplaced: bool = False
    deaths: int = 0
    left_out: tuple[str, ...] = ()
    followed: bool = False


def gather(
    path: Path,
    plate: Plate | None = None,
    at_h: float | None = None,
    *,
    border: BorderRule | None = None,
    dye: str | None = None,
) -> RunFacts:
    """Read a record.

    Parameters
    ----------
    path
        The record.
    plate
        Which position got what; None takes all cells together, as does one with no well that a position names.
    at_h
        Time of the wells' viability, hours since the start; None is the end, as is what lies beyond it.
    border
        Which cells at the border count; None takes what the run was told.
    dye
        Preset of a dead-cell dye's channel; None takes the only channel that was not called.

    Raises
    ------
    RecordError
        It is not a record.
    """
    record = open_record(path)
    card = _card(record)
    rates = None if card is None else card.error_rates(record.settings.detector.uncertain)
    shift = shift_of(record)
    rule = border or record.settings.detector.border
    frames = record.frame_table.sort_by("frame").to_pylist()
    simulated = _take_culture_time(record, frames)
    start_s = min((row["time_s"] for row in frames), default=0.0)
    counts = counts_of(record, rule)
    for row in frames:
        row["hours"] = (row["time_s"] - start_s) / 3600
        well = None if plate is None else plate.at_position(row["position"])
        row["well"] = None if well is None else well.well
        row["condition"] = EVERYTHING if plate is None else None if well is None else well.condition
        if row["frame"] in counts:
            row.update(zip(_COUNTS, counts[row["frame"]], strict=True))
    analysed = [row for row in frames if row["analysed"]]
    unplaced = bool(analysed) and all(row["condition"] is None for row in analysed)
    if unplaced:
        for row in frames:
            row["condition"] = EVERYTHING
    hours = max((row["hours"] for row in frames), default=0.0)
    at_h = None if at_h is None or at_h > hours else at_h  # what was asked for after the end is not of that time
    followed = _followed(record, {row["frame"]: row for row in frames}, start_s)
    return RunFacts(
        path=path,
        manifest=record.manifest,
        settings_yaml=(path / "run.yaml").read_text(encoding="utf-8"),
        card=card,
        rates=rates,
        hours=hours,
        n_frames=len(frames),
        n_analysed=len(analysed),
        n_positions=len({row["position"] for row in frames}),
        curves=_curves(analysed, rates),
        lives=followed.by_condition,
        resurrected=followed.resurrected,
        tracks=followed.tracks,
        undeclared=followed.undeclared,
        wells=_wells([row for row in analysed if at_h is None or row["hours"] <= at_h], rates),
        at_h=at_h,
        crops=_crops(record, [row["frame"] for row in analysed]),
        frame_rows=[_csv_row(row) for row in analysed],
        simulated=simulated,
        border=rule,
        dye=gather_dye(record, dye, rule),
        unplaced=unplaced,
        deaths=followed.deaths,
        followed="fates" in record.tables,
        left_out=tuple(dict.fromkeys(row["position"] or "unnamed" for row in analysed if row["condition"] is None)),
        shift=[(row["hours"], value) for row in analysed for value in [shift.get(row["frame"])] if value is not None],
    )


def _take_culture_time(record: Record, frames: list[dict[str, Any]]) -> bool:
    """Put the culture's own time in place of the clock's, and return True, where all frames of a simulation tell it."""
    if record.settings.source.kind != "simulated":
        return False
    told = [record.frame(number, pixels=False) for number in range(len(record))]
    culture_s = {frame.index: frame.culture_s for frame in told if CULTURE_MINUTES in (frame.metadata or {})}
    if not frames or any(row["frame"] not in culture_s for row in frames):
        return False
    for row in frames:
        row["time_s"] = culture_s[row["frame"]]
    return True


def _card(record: Record) -> Card | None:
    """Return the card of the model that made the calls, if it is at hand and still the same file."""
    wanted = record.manifest.get("backend", {}).get("model_sha256")
    try:
        bundle = load_bundle(record.settings.detector.model)
    except ModelError:
        return None
    return bundle.card if wanted in (None, bundle.sha256) else None


def _pool(rows: list[dict[str, Any]], rates: ErrorRates | None) -> Viability:
    """Pool frames of different fields; by well where there are several, for fields of one well are alike."""
    cluster = "well" if len({row["well"] for row in rows}) > 1 else "position"
    totals: dict[str | None, Counter[str]] = {}
    for row in rows:
        totals.setdefault(row[cluster], Counter()).update({name: row[name] for name in _COUNTS})
    counts = (np.array([total[name] for total in totals.values()]) for name in _COUNTS)
    return pooled_viability(*counts, rates=rates)


def _field(row: dict[str, Any]) -> tuple[str, str | None]:
    """What a frame shows: several cameras may look at one position, each at cells of its own."""
    return row["camera"], row["position"]


def _curves(analysed: list[dict[str, Any]], rates: ErrorRates | None) -> dict[str, Curve]:
    """Pool the newest frames of all fields of each condition, at the end of at most 200 stretches of time.

    A field that is not visited again counts as it was last seen, as in `_wells`. A curve begins when all fields were
    seen: else it would change with the fields that it is made of. Only places that rules add join it later.
    """
    curves = {}
    for name in dict.fromkeys(row["condition"] for row in analysed if row["condition"] is not None):
        rows = [row for row in analysed if row["condition"] == name]
        hours = np.array([row["hours"] for row in rows])
        # a stretch holds one visit to every field, or a 200th of the run
        fields = {_field(row) for row in rows}
        awaited = {(camera, place) for camera, place in fields if not _ADDED.search(place or "")}
        n_stretches = max(1, min(200, len(rows) // len(fields)))
        edges = np.quantile(hours, np.linspace(0, 1, n_stretches + 1))
        stretch = np.clip(np.searchsorted(edges, hours, side="right") - 1, 0, n_stretches - 1)
        middles, values = [], []
        newest: dict[tuple[str, str | None], dict[str, Any]] = {}
        for k in np.unique(stretch):
            # one frame of each field, lest the same cells count twice
            seen = {_field(rows[i]): rows[i] for i in np.flatnonzero(stretch == k)}
            newest |= seen
            if awaited <= newest.keys():
                middles.append(float(np.mean([row["hours"] for row in seen.values()])))
                values.append(_pool(list(newest.values()), rates))
        curves[name] = Curve(np.array(middles), tuple(values))
    return curves


def _wells(analysed: list[dict[str, Any]], rates: ErrorRates | None) -> dict[str, Viability]:
    """Viability of each well, from the newest of these frames of each of its fields."""
    newest: dict[str, dict[tuple[str, str | None], dict[str, Any]]] = {}
    for row in analysed:
        if row["well"] is not None:
            newest.setdefault(row["well"], {})[_field(row)] = row
    return {name: _pool(list(fields.values()), rates) for name, fields in newest.items()}


@dataclass(slots=True)
class _FollowedCells:
    by_condition: dict[str, Lives]
    tracks: int = 0
    resurrected: int = 0
    undeclared: int = 0
    deaths: int = 0


def _followed(record: Record, frames: dict[int, dict[str, Any]], start_s: float) -> _FollowedCells:
    """Return when every track was watched and died, by condition."""
    if "fates" not in record.tables or not frames:
        return _FollowedCells({})
    table = record.table("fates")
    frame, track = table["frame"].to_numpy(), table["track"].to_numpy()
    known = np.isin(frame, list(frames))
    order = np.lexsort((frame[known], track[known]))
    frame, track = frame[known][order], track[known][order]
    if not len(track):
        return _FollowedCells({})
    last = np.flatnonzero(np.append(np.diff(track) != 0, True))
    first = np.append(0, last[:-1] + 1)
    index = np.array(sorted(frames))
    seconds = np.array([frames[int(k)]["time_s"] - start_s for k in index])[np.searchsorted(index, frame)]
    columns = {
        name: table[name].to_numpy(zero_copy_only=False)[known][order][last]
        for name in ("death_frame", "arrived_dead", "declared", "resurrected")
    }
    death_frame = columns["death_frame"].astype(float)
    # a time of death is there where death is likelier than life at the last sight. To wait for it to be declared, as
    # actions do while the run goes on, would take those that died in the last frames before it for alive to its end
    declared, timed = columns["declared"].astype(bool), np.isfinite(death_frame)
    death_s = np.full(len(last), np.nan)
    for k in np.flatnonzero(timed):
        # the filter divides the time between two sights of the cell: frames of other positions lie between them
        own = slice(first[k], last[k] + 1)
        death_s[k] = np.interp(death_frame[k], frame[own], seconds[own])
    # declared dead without a time, though it was seen alive: nothing is known of when
    arrived = columns["arrived_dead"].astype(bool) | (declared & ~timed)
    condition = np.array([frames[int(k)]["condition"] or "" for k in frame[last]], dtype=object)
    well = np.array([frames[int(k)]["well"] or "" for k in frame[last]])
    by_condition = {
        str(name): Lives.of_tracks(
            seconds[first][rows],
            seconds[last][rows],
            death_s[rows],
            arrived[rows],
            well[rows] if (well[rows] != "").all() else None,
        )
        for name in dict.fromkeys(condition.tolist())
        if name and (rows := condition == name).any()
    }
    resurrected = int(columns["resurrected"].astype(bool).sum())

    def seen_to_die(rows: NDArray[np.bool_]) -> int:
        lives = Lives.of_tracks(seconds[first][rows], seconds[last][rows], death_s[rows], arrived[rows])
        return int(lives.died.sum())

    undeclared, deaths = seen_to_die((condition != "") & ~declared), seen_to_die(np.ones(len(last), bool))
    return _FollowedCells(by_condition, len(last), resurrected, undeclared, deaths)


def _crops(record: Record, analysed: list[int]) -> list[Crop]:
    """Choose cells of each state from frames of the last third; always the same ones for the same record."""
    rng = np.random.default_rng(0)
    late = analysed[-max(1, len(analysed) // 3) :] if analysed else []
    number_of = {int(frame): number for number, frame in enumerate(record.frame_table["frame"].to_pylist())}
    wanted = dict.fromkeys(State, _CROPS_EACH)
    crops: list[Crop] = []
    for index in rng.permutation(late)[:12].tolist():
        calls = record.calls_of(index)
        if calls is None or not len(calls) or index not in number_of:
            continue
        frame = record.frame(number_of[index])
        for row in rng.permutation(len(calls)).tolist():
            state = State(int(calls.state[row]))
            pixels = _cut(frame.pixels, float(calls.y_px[row]), float(calls.x_px[row]))
            # no more than four of a state from one frame, so that the gallery shows the run and not a moment
            if pixels is None or wanted[state] == 0 or sum(c.frame == index and c.state == state for c in crops) >= 4:
                continue
            wanted[state] -= 1
            crops.append(Crop(pixels, state, float(calls.p_dead[row]), index))
    return crops


def _cut(pixels: NDArray[Any], y: float, x: float) -> NDArray[Any] | None:
    top, left = round(y) - _CROP_PX // 2, round(x) - _CROP_PX // 2
    if top < 0 or left < 0 or top + _CROP_PX > pixels.shape[0] or left + _CROP_PX > pixels.shape[1]:
        return None
    return pixels[top : top + _CROP_PX, left : left + _CROP_PX].copy()


def _csv_row(row: dict[str, Any]) -> dict[str, Any]:
    viability = viability_of_counts(row["n_live"], row["n_dead"], row["n_uncertain"])
    return {
        "frame": row["frame"],
        "hours": round(row["hours"], 6),
        "position": row["position"],
        "condition": row["condition"],
        "n_live": row["n_live"],
        "n_dead": row["n_dead"],
        "n_uncertain": row["n_uncertain"],
        "viability": viability.fraction,
        "viability_low": viability.low,
        "viability_high": viability.high,
    }
