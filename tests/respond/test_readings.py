from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorder_kit import recorder_at

from livescope.assay.viability import viability_of_counts
from livescope.record.reader import open_record
from livescope.respond.readings import Readings, deaths_by_frame, readings_of_record
from livescope.respond.rules import Rules, dry_run
from livescope.track.fate import FateFilter
from livescope.track.testing import calls_at, frame_of

pytestmark = pytest.mark.timeout(600)  # a record is written; machines may be busy


def test_death_rate_is_deaths_over_cell_hours_of_the_window() -> None:
    readings = Readings(window_s=3600)
    rates = [
        readings.make(k, 600.0 * k, "A", viability_of_counts(100, 10), died=1).values["death_rate_per_h"]
        for k in range(20)
    ]
    assert np.isnan(rates[0])
    assert rates[1:] == pytest.approx([0.06] * 19)
    other = readings.make(20, 12_000.0, "B", viability_of_counts(100, 10), died=5)
    assert np.isnan(other.values["death_rate_per_h"])
    assert other.values["elapsed_h"] == pytest.approx(12_000 / 3600)


@pytest.mark.parametrize("interval_s", [600.0, 1800.0, 1801.0, 3600.0])
def test_death_rate_of_frames_further_apart_than_the_window(interval_s: float) -> None:
    """A plan that looks once an hour: the rate was unknown at every frame, and no rule on it could fire."""
    readings = Readings()
    rates = [
        readings.make(k, interval_s * k, "A", viability_of_counts(100, 10), died=k % 2).values["death_rate_per_h"]
        for k in range(8)
    ]
    window_frames = max(1800.0 // interval_s, 1)
    expected = sum(k % 2 for k in range(8 - int(window_frames), 8)) / (100 * window_frames * interval_s / 3600)
    assert rates[-1] == pytest.approx(expected)


def test_death_rate_after_a_pause_is_of_the_pause() -> None:
    readings = Readings()
    for k in range(60):
        readings.make(k, 60.0 * k, "A", viability_of_counts(100, 0), died=0)
    after = readings.make(60, 59 * 60.0 + 7200.0, "A", viability_of_counts(100, 0), died=10)
    assert after.values["death_rate_per_h"] == pytest.approx(10 / 200)


def test_each_camera_has_its_own_death_rate() -> None:
    """Two cameras in turn, each with 100 cells of which one dies a frame: it was told as more than twice as many."""
    readings = Readings()
    rates = [
        readings.make(k, 600.0 * (k // 2), "A", viability_of_counts(100, 0), 1, "AB"[k % 2]).values["death_rate_per_h"]
        for k in range(12)
    ]
    assert rates[2:] == pytest.approx([0.06] * 10)
    assert [readings.make(k, 9000.0, "A", viability_of_counts(9, 0), 0, "AB"[k]).camera for k in (0, 1)] == ["A", "B"]


def test_nothing_counted_is_unknown() -> None:
    reading = Readings().make(0, 0.0, None, viability_of_counts(0, 0), died=0)
    assert np.isnan(reading.values["viability"])
    assert reading.n_cells == 0


def test_deaths_of_a_record_are_those_of_the_run(tmp_path: Path) -> None:
    """Cells that are declared dead, taken back and declared dead again: seen alive at first, and dead at first."""
    recorder = recorder_at(tmp_path / "run.ome.zarr")
    fate, told = FateFilter(), dict[int, int]()
    for index in range(120):
        frame = frame_of(index, time_s=60.0 * index, pixels=np.zeros((128, 128), np.uint8))
        looks_dead = [index % 60 > 20, index % 60 < 20, index > 90, False]
        calls = calls_at([[20, 20], [20, 80], [80, 20], [80, 80]], p_dead=np.where(looks_dead, 0.99, 0.01))
        calls = replace(calls, frame_index=index, track=np.arange(1, 5))
        fates = fate.update(calls, frame)
        if fates.died:
            told[index] = len(fates.died)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls)
        columns = {"declared": fates.declared, "arrived_dead": fates.arrived_dead}
        recorder.put_table("fates", {"frame": np.full(4, index), "track": calls.track, **columns})
    recorder.close({})
    assert sum(told.values()) == 4
    assert deaths_by_frame(open_record(tmp_path / "run.ome.zarr")) == told


def test_dry_run_over_a_record(tmp_path: Path) -> None:
    """A recorded run in which the viability falls: the rule fires where it first lay low three times in a row."""
    places = np.random.default_rng(0).uniform(20, 100, (40, 2))
    recorder = recorder_at(tmp_path / "run.ome.zarr")
    for index in range(12):
        frame = frame_of(index, time_s=60.0 * index, pixels=np.zeros((128, 128), np.uint8))
        dead = np.where(np.arange(40) < 2 * index, 0.97, 0.03)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls_at(places, p_dead=dead, radius_px=4.0, frame_index=index))
    recorder.close({})
    record = open_record(tmp_path / "run.ome.zarr")
    readings = list(readings_of_record(record))
    assert [reading.values["n_dead"] for reading in readings] == [2.0 * index for index in range(12)]
    rule = {
        "name": "drop",
        "when": {"metric": "viability", "below": 0.8, "frames": 3, "min_cells": 30},
        "do": [{"action": "snap", "channel": "Cy5"}],
    }
    (firing,) = dry_run(Rules.model_validate({"rules": [rule]}), readings)
    assert firing.frame_index == 7
    assert firing.reason == "viability < 0.8 (0.65) in 3 frames in a row, 40 cells"
