"""Two hours of a dying culture in seconds: the drop of its viability has the microscope take the dye, and the record
says why."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "mm_test_adapters", reason="the simulated microscope needs the demo stages: pip install livescope[demo]"
)

from livescope.analysis import FrameAnalyser
from livescope.calls import State
from livescope.detect.bundle import load_bundle
from livescope.frames import Frame, LossLedger
from livescope.record.reader import open_record
from livescope.record.writer import Recorder
from livescope.respond.actions import ActionRunner, Outcome
from livescope.respond.readings import Readings, readings_of_record
from livescope.respond.rules import RuleEngine, Rules, dry_run
from livescope.settings import CameraSettings, DetectorSettings, RecordSettings, Settings, SimulationSettings
from livescope.simulate.camera import SimulatedCore, open_simulated_core, truth_of
from livescope.track.fate import FateFilter
from livescope.track.link import Linker

MINUTES_PER_FRAME = 2.0
SIMULATION = SimulationSettings(
    width=512,
    height=512,
    rate_fps=500,
    seed=11,
    dead_fraction=0.02,
    death_rate_per_h=0.4,
    division_rate_per_h=0.0,
    minutes_per_frame=MINUTES_PER_FRAME,
)
RULES = Rules.model_validate(
    {
        "rules": [
            {
                "name": "confirm with the dye",
                "when": {"metric": "viability", "below": 0.8, "clear": 0.85, "frames": 3, "min_cells": 30},
                "do": [{"action": "snap", "channel": "Cy5", "exposure_ms": 50}],
            }
        ]
    }
)


class Bench:
    """The simulated microscope, one frame at a time, with a record."""

    def __init__(self, core: SimulatedCore, recorder: Recorder) -> None:
        self.core, self.recorder = core, recorder
        self.taken = 0
        self.lock = threading.Lock()

    def take(self, channel: str, metadata: dict[str, str]) -> Frame:
        """One frame, two simulated minutes after the one before on the frames' clock."""
        self.core.startSequenceAcquisition(1, 0, True)
        while not self.core.getRemainingImageCount():
            time.sleep(0.001)
        pixels, told = self.core.popNextImageAndMD()
        index, self.taken = self.taken, self.taken + 1
        frame = Frame(
            np.asarray(pixels),
            index,
            0,
            "Camera",
            60 * MINUTES_PER_FRAME * index,
            0.0,
            self.core.getImageBitDepth(),
            pixel_um=self.core.getPixelSizeUm(),
            channel=channel,
            metadata={**told, **metadata},
        )
        assert self.recorder.put(frame)
        return frame

    def snap_channel(self, channel: str, exposure_ms: float | None, reason: str) -> None:
        with self.lock:
            before = self.core.getExposure()
            self.core.setConfig("Channel", channel)
            self.core.setExposure(exposure_ms or before)
            self.take(channel, {"reason": reason})
            self.core.setConfig("Channel", "Brightfield")
            self.core.setExposure(before)

    def set_exposure_ms(self, exposure_ms: float) -> None:
        self.core.setExposure(exposure_ms)

    def set_interval_s(self, seconds: float) -> None:
        pytest.fail("nobody asked for this")

    def revisit(self, position: str | None) -> None:
        pytest.fail("nobody asked for this")

    def skip(self, position: str | None) -> None:
        pytest.fail("nobody asked for this")

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> None:
        pytest.fail("nobody asked for this")

    def stop_run(self, reason: str) -> None:
        pytest.fail("nobody asked for this")


def test_a_drop_of_the_viability_takes_the_dye_into_the_record(tmp_path: Path) -> None:
    path = tmp_path / "drop.ome.zarr"
    core = open_simulated_core(SIMULATION, CameraSettings(exposure_ms=2.0))
    core.setExposure(20.0)
    recorder = Recorder(
        path, RecordSettings(), LossLedger(), run_settings=Settings(), on_error=lambda error: pytest.fail(str(error))
    )
    bench, outcomes = Bench(core, recorder), list[Outcome]()
    runner = ActionRunner(bench, allow_actions=False, on_outcome=outcomes.append)
    analyser = FrameAnalyser(load_bundle("simulated"), DetectorSettings(threads=1))
    linker, fate, readings, engine = Linker(), FateFilter(), Readings(), RuleEngine(RULES)
    fired, true_viability = [], {}
    for _ in range(round(120 / MINUTES_PER_FRAME)):
        with bench.lock:
            frame = bench.take("Brightfield", {})
        analysis = analyser(frame)
        calls = linker.update(analysis.calls, frame)
        fates = fate.update(calls, frame, linker.report.shift_yx_px)
        recorder.put_calls(frame, calls)
        true_viability[frame.index] = float((truth_of(core, frame).in_frame().state == State.LIVE).mean())
        reading = readings.make(frame.index, frame.time_s, None, analysis.viability, len(fates.died))
        firings = engine.update(reading)
        runner.put(firings)
        fired += firings
    assert runner.close()
    recorder.close({})
    core.stopSequenceAcquisition()
    core.unloadAllDevices()
    analyser.close()

    (firing,), (outcome,) = fired, outcomes
    assert (outcome.ok, outcome.message) == (True, "done")
    assert true_viability[firing.frame_index] == pytest.approx(0.8, abs=0.06)
    record = open_record(path)
    snaps = [frame for frame in record.iter_frames() if frame.channel == "Cy5"]
    assert len(snaps) == 1
    assert snaps[0].metadata is not None
    assert snaps[0].metadata["reason"] == f"confirm with the dye: {firing.reason}"
    assert snaps[0].index > firing.frame_index
    # the dye confirms: the dead are bright
    truth = truth_of(core, replace(snaps[0], metadata=dict(snaps[0].metadata))).in_frame()
    at = snaps[0].pixels[truth.y_px.round().astype(int), truth.x_px.round().astype(int)].astype(float)
    assert np.median(at[truth.state == State.DEAD]) > 3 * np.median(at[truth.state == State.LIVE])
    # a dry run over the record says the same
    (again,) = dry_run(RULES, readings_of_record(record))
    assert (again.frame_index, again.reason) == (firing.frame_index, firing.reason)
