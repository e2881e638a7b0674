"""The log of corrections, and what it does to calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livescope.calls import CellCalls, State
from livescope.errors import RecordError
from livescope.record.corrections import LOG, Correction, CorrectionLog, apply_corrections

LIVE, DEAD, UNCERTAIN = State.LIVE, State.DEAD, State.UNCERTAIN


@pytest.fixture
def calls(make_calls: Callable[..., CellCalls]) -> CellCalls:
    """Four tracked live cells far from one another, of frame 5."""
    made = make_calls(5, 4, linked=True)
    place = np.array([10, 30, 50, 70], np.float32)
    return replace(made, state=np.full(4, int(LIVE), np.uint8), y_px=place, x_px=place)


def correction(calls: CellCalls, row: int, kind: str = "state", state: State | None = DEAD, **facts: Any) -> Correction:
    known: dict[str, Any] = {
        "number": 0,
        "kind": kind,
        "frame_index": calls.frame_index,
        "track": int(calls.track[row]),
        "y_px": float(calls.y_px[row]),
        "x_px": float(calls.x_px[row]),
        "radius_px": 6.0,
        "state": state,
        "called": LIVE,
        "p_dead": 0.1,
        "author": "someone",
        "wall_time": 1.7e9,
    }
    return Correction(**(known | facts))


def save(log: CorrectionLog, *lines: Correction) -> tuple[Correction, ...]:
    new = log.take(lines)
    log.save(new)
    return new


def test_log_is_read_back_as_it_was_written(tmp_path: Path, calls: CellCalls) -> None:
    log = CorrectionLog(tmp_path)
    first, second = save(log, correction(calls, 0), correction(calls, 1, "remove", None))
    save(log, correction(calls, 0, "undo", None, undone=first.number))
    again = CorrectionLog(tmp_path)
    assert again.lines == log.lines
    assert again.standing == (second,)
    assert [line.number for line in again.lines] == [0, 1, 2]


def test_torn_last_line_is_left_out_and_a_damaged_one_before_is_an_error(tmp_path: Path, calls: CellCalls) -> None:
    log = CorrectionLog(tmp_path)
    save(log, correction(calls, 0), correction(calls, 1))
    text = log.path.read_text()
    log.path.write_text(text[:-20])
    assert len(CorrectionLog(tmp_path)) == 1
    log.path.write_text(text[20:])
    with pytest.raises(RecordError, match=r"line 1 .*damaged"):
        CorrectionLog(tmp_path)


def test_a_torn_line_is_not_written_on(tmp_path: Path, calls: CellCalls) -> None:
    log = CorrectionLog(tmp_path)
    save(log, correction(calls, 0), correction(calls, 1))
    log.path.write_text(log.path.read_text()[:-20])
    again = CorrectionLog(tmp_path)
    save(again, correction(calls, 2))
    assert [line.track for line in CorrectionLog(tmp_path).lines] == [line.track for line in again.lines]
    assert len(again) == 2


def test_two_windows_keep_what_the_other_one_says(tmp_path: Path, calls: CellCalls) -> None:
    one, other = CorrectionLog(tmp_path), CorrectionLog(tmp_path)
    (first,) = save(one, correction(calls, 0))
    save(other, correction(calls, 1), correction(calls, 2))
    (last,) = save(one, correction(calls, 3))
    for mine in (last, first):
        save(one, correction(calls, mine.track - 7, "undo", None, undone=mine.number))
    found = CorrectionLog(tmp_path)
    assert [(line.number, line.kind, line.undone) for line in found.lines] == [
        *((number, "state", None) for number in range(4)),
        *((4, "undo", 3), (5, "undo", 0)),
    ]
    assert [line.track for line in found.standing] == [8, 9]
    assert one.standing == ()
    assert [line.track for line in other.standing] == [8, 9]


def test_two_processes_write_whole_lines_with_numbers_of_their_own(tmp_path: Path, calls: CellCalls) -> None:
    logs = [CorrectionLog(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(len(logs)) as pool:
        list(pool.map(lambda log: [save(log, correction(calls, 0), correction(calls, 1)) for _ in range(5)], logs))
    assert [json.loads(line)["number"] for line in (tmp_path / LOG).read_text().splitlines()] == list(range(40))


def test_numbers_that_were_given_twice_are_those_of_their_lines(tmp_path: Path, calls: CellCalls) -> None:
    log = CorrectionLog(tmp_path)
    save(log, correction(calls, 0), correction(calls, 1), correction(calls, 1, "undo", None, undone=1))
    text = log.path.read_text().replace('"number": 1', '"number": 0').replace('"undone": 1', '"undone": 0')
    log.path.write_text(text.replace('"number": 2', '"number": 1'))
    found = CorrectionLog(tmp_path)
    assert [(line.number, line.undone) for line in found.lines] == [(0, None), (1, None), (2, 1)]
    assert [line.track for line in found.standing] == [7]


def test_what_the_disk_refused_is_not_undone_on_it(tmp_path: Path, calls: CellCalls) -> None:
    log = CorrectionLog(tmp_path)
    (refused,) = log.take([correction(calls, 0)])
    save(CorrectionLog(tmp_path), correction(calls, 1))
    save(log, correction(calls, 0, "undo", None, undone=refused.number))
    assert [line.track for line in CorrectionLog(tmp_path).standing] == [8]


def test_unwritable_log_is_one_clear_error(tmp_path: Path, calls: CellCalls) -> None:
    (tmp_path / "corrections").write_text("a file where the folder should be")
    log = CorrectionLog(tmp_path)
    with pytest.raises(RecordError, match="not on the disk"):
        log.save(log.take([correction(calls, 0)]))


def test_a_track_keeps_its_correction_in_later_frames_only(calls: CellCalls) -> None:
    said = [correction(calls, 2)]
    assert apply_corrections(calls, said).state.tolist() == [1, 1, 2, 1]
    moved = replace(calls, frame_index=9, track=calls.track[::-1].copy())
    assert apply_corrections(moved, said).state.tolist() == [1, 2, 1, 1]
    assert apply_corrections(replace(calls, frame_index=4), said).state.tolist() == [1, 1, 1, 1]
    assert calls.state.tolist() == [1, 1, 1, 1]


def test_an_untracked_cell_is_corrected_in_its_frame_only(calls: CellCalls) -> None:
    unlinked = replace(calls, track=np.full(4, -1, np.int64))
    said = [correction(unlinked, 1)]
    assert apply_corrections(unlinked, said).state.tolist() == [1, 2, 1, 1]
    assert apply_corrections(replace(unlinked, frame_index=6), said).state.tolist() == [1, 1, 1, 1]


def test_the_newest_correction_wins_and_a_removed_cell_can_come_back(calls: CellCalls) -> None:
    said = [correction(calls, 0), correction(calls, 0, state=UNCERTAIN), correction(calls, 3, "remove", None)]
    changed = apply_corrections(calls, said)
    assert changed.state.tolist() == [3, 1, 1]
    assert len(changed.radii_px) == len(changed.track) == 3
    assert apply_corrections(calls, [*said, correction(calls, 3)]).state.tolist() == [3, 1, 1, 2]


def test_a_missed_cell_is_added_changed_and_removed(calls: CellCalls) -> None:
    new = correction(calls, 0, "add", LIVE, y_px=90.0, x_px=5.0, track=-1)
    added = apply_corrections(calls, [new])
    assert (len(added), added.state[-1], added.p_dead[-1]) == (5, LIVE, 0.0)
    assert added.area_px[-1] == pytest.approx(np.pi * 36)
    assert apply_corrections(calls, [new, replace(new, kind="state", state=DEAD)]).state[-1] == DEAD
    assert len(apply_corrections(calls, [new, replace(new, kind="remove", state=None)])) == 4
    assert len(apply_corrections(replace(calls, frame_index=6), [new])) == 4
