"""What people said against the calls of a run: a log beside the frames, only ever added to.

Owns `Correction`, the log's file, its account in the manifest and how corrections change calls. The calls as the model
made them are never touched; training and re-analysis read both. The log may grow after the run has been finished: the
manifest says who said how much and when, and the hash of the lines it knows of.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from livescope.calls import N_RAYS, CellCalls, State
from livescope.errors import RecordError, one_of
from livescope.record.layout import LOCK, MANIFEST
from livescope.record.manifest import read_manifest, write_manifest
from livescope.record.place import is_locked, lock_record

__all__ = ["LOG", "Correction", "CorrectionLog", "apply_corrections", "check_corrections", "corrections_account"]

LOG = Path("corrections") / "log.ndjson"
"""The log inside a record."""
_KINDS = ("state", "remove", "add", "undo")
_LOCK_S = 10.0
"""How long writing waits for another window, which holds the log for an instant."""


@dataclass(slots=True, frozen=True)
class Correction:
    """One thing a person said of one cell.

    Attributes
    ----------
    number
        Number in the log, from 0.
    kind
        ``"state"``: the cell is in `state`; ``"remove"``: there is no cell; ``"add"``: there is one that was missed;
        ``"undo"``: correction `undone` does not hold any more.
    frame_index
        `Frame.index` of the frame looked at.
    track
        Identity of the cell, -1 where it has none. What is said holds for the track from this frame on.
    y_px, x_px, radius_px
        Where it is, and how large, in pixels of the raw frame.
    state
        What it is, None for ``"remove"`` and ``"undo"``.
    called, p_dead
        What the model said of it, None for a cell that it missed.
    author, wall_time
        Who said so, and when (seconds since the epoch).
    undone
        Number of the correction that is undone, else None.
    """

    number: int
    kind: str
    frame_index: int
    track: int
    y_px: float
    x_px: float
    radius_px: float
    state: State | None
    called: State | None
    p_dead: float | None
    author: str
    wall_time: float
    undone: int | None = None


class CorrectionLog:
    """The log of one record: read at once, then only added to.

    Another window may write the same log: what it says is kept, and not seen here. Numbers are this log's own; `save`
    gives those of the file, by which what is said here is told from what is said there.

    Parameters
    ----------
    record
        Folder of the record; the log may not exist yet.

    Raises
    ------
    RecordError
        The log cannot be read, or a line of it is damaged.
    """

    def __init__(self, record: Path) -> None:
        self.path = record / LOG
        self._lines: tuple[Correction, ...] = tuple(_read(self.path))
        self._stored = {line.number: line.number for line in self._lines}
        """Number of a line here -> its number in the file."""

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def lines(self) -> tuple[Correction, ...]:
        """Every line ever written, undone ones among them."""
        return self._lines

    @property
    def standing(self) -> tuple[Correction, ...]:
        """The corrections that hold, oldest first."""
        gone = {line.undone for line in self._lines if line.kind == "undo"}
        return tuple(line for line in self._lines if line.kind != "undo" and line.number not in gone)

    def take(self, corrections: Iterable[Correction]) -> tuple[Correction, ...]:
        """Number corrections and let them hold; `save` puts them on the disk."""
        first = len(self._lines)
        new = tuple(replace(line, number=first + k) for k, line in enumerate(corrections))
        self._lines = (*self._lines, *new)
        return new

    def save(self, new: Iterable[Correction]) -> None:
        """Write corrections and make sure they are on the disk. In the order of `take`; any thread.

        Raises
        ------
        RecordError
            The log cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(LOCK), timeout=_LOCK_S), self.path.open("a+b") as stream:
                before = self.path.read_bytes()
                told, stored = self._numbered(new, before.count(b"\n"))
                stream.truncate(before.rfind(b"\n") + 1)  # a line that a crash tore must not be written on
                stream.writelines(json.dumps(_to_json(line)).encode() + b"\n" for line in told)
                stream.flush()
                os.fsync(stream.fileno())
            self._stored = stored
            self._tell_manifest()
        except OSError as error:
            raise RecordError(
                f"correction log {str(self.path)!r} cannot be written: {error.strerror or error}. Free space or make "
                "the record writable, then say it again: the last correction is not on the disk."
            ) from None

    def _numbered(self, new: Iterable[Correction], first: int) -> tuple[list[Correction], dict[int, int]]:
        """Return lines with their numbers in the file, and `_stored` as it is when they are written."""
        told: list[Correction] = []
        stored = dict(self._stored)
        for line in new:
            undone = None if line.undone is None else stored.get(line.undone)
            if line.kind == "undo" and undone is None:
                continue  # the disk had refused it
            stored[line.number] = first + len(told)
            told.append(replace(line, number=stored[line.number], undone=undone))
        return told, stored

    def _tell_manifest(self) -> None:
        """Bring the manifest up to date, unless a recorder still writes it: that does so when it closes."""
        record = self.path.parent.parent
        if not (record / MANIFEST).exists() or is_locked(record):
            return
        try:
            with lock_record(record):
                manifest = read_manifest(record)
                if manifest["closed"] is not None:
                    write_manifest(record, {**manifest, "corrections": corrections_account(record)})
        except RecordError:  # locked: the run goes on
            return


def corrections_account(record: Path) -> dict[str, Any] | None:
    """Return what the manifest says of the log: lines, their hash, and for each author how many, from when to when.

    None where nothing was corrected.
    """
    lines = _read(record / LOG)
    if not lines:
        return None
    authors: dict[str, dict[str, Any]] = {}
    for line in lines:
        known = authors.setdefault(line.author, {"lines": 0, "first_wall_time": line.wall_time})
        known["lines"] += 1
        known["last_wall_time"] = line.wall_time
    return {"lines": len(lines), "sha256": _hash(record, len(lines)), "authors": authors}


def check_corrections(record: Path, account: Mapping[str, Any] | None) -> list[str]:
    """Compare the log with the manifest's account of it; returns a line a problem.

    Lines beyond those that the manifest knows are none: a crash may have come between the two.
    """
    try:
        lines = _read(record / LOG)
    except RecordError as error:
        return [str(error)]
    known = 0 if account is None else int(account["lines"])
    if len(lines) < known:
        return [f"{LOG.as_posix()} has {len(lines)} corrections, there were {known}"]
    if account is not None and _hash(record, known) != account["sha256"]:
        return [f"{LOG.as_posix()} has changed"]
    return []


def _hash(record: Path, lines: int) -> str:
    """Return the SHA-256 of the first lines of the log."""
    return hashlib.sha256(b"".join((record / LOG).read_bytes().splitlines(keepends=True)[:lines])).hexdigest()


def apply_corrections(calls: CellCalls, corrections: Iterable[Correction]) -> CellCalls:
    """Return the calls of a frame as the standing corrections say.

    A tracked cell follows the newest correction of its track made at this frame or before it. An untracked one follows
    the newest correction of this very frame whose place lies inside it.
    """
    state, keep = calls.state.copy(), np.ones(len(calls), bool)
    added: list[Correction] = []
    for line in corrections:
        if line.kind == "add":
            if line.frame_index == calls.frame_index:
                added.append(line)
            continue
        if line.track >= 0:
            rows = (calls.track == line.track) if line.frame_index <= calls.frame_index else np.zeros(len(calls), bool)
        else:
            near = np.hypot(calls.y_px - line.y_px, calls.x_px - line.x_px) <= max(line.radius_px, 1.0)
            rows = near & (line.frame_index == calls.frame_index)
            added = [kept for one in added for kept in _change(one, line)]
        keep[rows] = line.kind != "remove"
        if line.state is not None:
            state[rows] = int(line.state)
    return _with_added(_rows(replace(calls, state=state), keep), added)


def _change(added: Correction, line: Correction) -> list[Correction]:
    """Return what becomes of a cell that was added, after a later correction of the same frame."""
    away_px = float(np.hypot(added.y_px - line.y_px, added.x_px - line.x_px))
    if line.frame_index != added.frame_index or away_px > max(line.radius_px, 1.0):
        return [added]
    return [] if line.kind == "remove" else [replace(added, state=line.state)]


def _rows(calls: CellCalls, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> CellCalls:
    if keep.all():
        return calls
    columns = ("y_px", "x_px", "radii_px", "p_cell", "p_dead", "state", "area_px", "edge", "track")
    return replace(calls, **{name: getattr(calls, name)[keep] for name in columns})


def _with_added(calls: CellCalls, added: list[Correction]) -> CellCalls:
    """Append cells that were missed, as circles; their probability of being dead is that of their state."""
    if not added:
        return calls
    radius = np.array([line.radius_px for line in added], np.float32)
    states = [line.state or State.UNCERTAIN for line in added]
    new = {
        "y_px": np.array([line.y_px for line in added], np.float32),
        "x_px": np.array([line.x_px for line in added], np.float32),
        "radii_px": np.repeat(radius[:, None], N_RAYS, axis=1),
        "p_cell": np.ones(len(added), np.float32),
        "p_dead": np.array([{State.LIVE: 0.0, State.DEAD: 1.0}.get(s, 0.5) for s in states], np.float32),
        "state": np.array([int(s) for s in states], np.uint8),
        "area_px": (np.pi * radius**2).astype(np.float32),
        "edge": np.zeros(len(added), bool),
        "track": np.full(len(added), -1, np.int64),
    }
    columns: dict[str, Any] = {name: np.concatenate([getattr(calls, name), values]) for name, values in new.items()}
    return replace(calls, **columns)


def _to_json(line: Correction) -> dict[str, Any]:
    plain = asdict(line)
    for name in ("state", "called"):
        plain[name] = None if plain[name] is None else State(plain[name]).label
    return plain


def _read(path: Path) -> list[Correction]:
    if not path.exists():
        return []
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RecordError(f"correction log {str(path)!r} cannot be read: {error.strerror}.") from None
    lines = []
    for number, text in enumerate(texts):
        try:
            plain = json.loads(text)
            for name in ("state", "called"):
                plain[name] = None if plain[name] is None else State[plain[name].upper()]
            line = Correction(**plain)
        except (ValueError, TypeError, KeyError) as error:
            if number == len(texts) - 1:
                break  # torn by a crash while it was written; it was never reported as taken
            raise RecordError(
                f"line {number + 1} of correction log {str(path)!r} is damaged: {error}. Delete that line."
            ) from None
        if line.kind not in _KINDS:
            raise RecordError(f"line {number + 1} of {str(path)!r} has kind {line.kind!r}; known: {one_of(_KINDS)}.")
        lines.append(line)
    return _by_position(lines)


def _by_position(lines: list[Correction]) -> list[Correction]:
    """Number lines by where they stand: two windows once gave the same numbers, and an undo is of the same cell."""
    numbers: dict[tuple[object, ...], int] = {}
    numbered = []
    for number, line in enumerate(lines):
        place = line.frame_index, line.track, line.y_px, line.x_px
        undone = None if line.undone is None else numbers.get((line.undone, *place), line.undone)
        numbers[line.number, *place] = number
        numbered.append(replace(line, number=number, undone=undone))
    return numbered
