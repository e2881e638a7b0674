"""Planned runs: positions, times, channels, events fed by rules; pause and cancel that act."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import useq

from livescope.acquire import recovery
from livescope.acquire.changes import Roi
from livescope.acquire.planned import PlannedRun, load_plan
from livescope.acquire.stream import StreamState
from livescope.errors import AcquisitionError, SettingsError
from livescope.frames import REASON
from livescope.settings import CameraSettings
from livescope.simulate import FakeCore

PLAN = """
stage_positions:
  - {x: 10, y: 20, z: 3, name: A1}
  - {x: 40, y: 50, z: 3}
time_plan: {interval: 0, loops: 2}
grid_plan: {rows: 1, columns: 3, fov_width: 30, fov_height: 30}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


def run(sink: Any, core: Any, plan: Any, **more: Any) -> PlannedRun:
    return PlannedRun(core, sink.frames.append, sink.ledger, CameraSettings(exposure_ms=2), plan=plan, **more)


def wait_for_frames(sink: Any, count: int) -> None:
    while len(sink.frames) < count:
        time.sleep(0.002)


def points(n: int, interval_s: float = 0.0) -> list[useq.MDAEvent]:
    due_s = [k * interval_s for k in range(n)]
    return [useq.MDAEvent(index={"t": k, "p": 0}, x_pos=k, y_pos=0.0, min_start_time=due_s[k]) for k in range(n)]


def test_a_plan_from_yaml(any_core: Any, sink: Any, tmp_path: Path) -> None:
    planned = run(sink, any_core, load_plan(write(tmp_path, PLAN)))
    planned.start()
    assert planned.wait(60)
    assert planned.state is StreamState.ENDED, planned.error
    assert [f.index for f in sink.frames] == list(range(12))
    assert [f.position for f in sink.frames] == [f"{name}_000{tile}" for name in ("A1", "p1") for tile in range(3)] * 2
    assert [f.x_um for f in sink.frames[:3]] == pytest.approx([-20.0, 10.0, 40.0], abs=0.05)
    assert (sink.frames[4].x_um, sink.frames[4].y_um) == pytest.approx((40.0, 50.0), abs=0.05)
    assert [f.z_um for f in sink.frames] == pytest.approx([3.0] * 12, abs=0.05)
    assert {k: sink.frames[-1].metadata[k] for k in "tpg"} == {"t": 1, "p": 1, "g": 2}
    assert sink.ledger.delivered == 12
    assert {f.segment for f in sink.frames} == {0}


def test_wells_channels_and_exposures(demo_core: Any, sink: Any) -> None:
    plan = useq.MDASequence(
        stage_positions=useq.WellPlatePlan(plate=24, a1_center_xy=(0, 0), selected_wells=([0, 1], [0, 1])),
        channels=[
            useq.Channel(group="Channel", config="DAPI", exposure=3),
            useq.Channel(group="Channel", config="FITC", exposure=5),
        ],
    )
    planned = run(sink, demo_core, plan)
    planned.start()
    assert planned.wait(60), planned.error
    stamps = [(f.position, f.channel, f.exposure_ms) for f in sink.frames]
    assert stamps == [(well, *rest) for well in ("A1", "B2") for rest in (("DAPI", 3.0), ("FITC", 5.0))]


def test_times_are_kept(sink: Any) -> None:
    planned = run(sink, FakeCore(), points(4, interval_s=0.1))
    planned.start()
    assert planned.wait(60)
    assert all(f.time_s - planned._begin_s >= 0.1 * k for k, f in enumerate(sink.frames))  # never before its time


def test_cancel_wakes_a_waiting_run_and_a_waiting_queue(any_core: Any, sink: Any) -> None:
    planned = run(sink, any_core, points(2, interval_s=3600.0))
    planned.start()
    wait_for_frames(sink, 1)
    planned.stop()  # would take an hour otherwise
    assert planned.state is StreamState.STOPPED
    queue = run(sink, any_core, [], stay_open=True)
    queue.start()
    queue.stop()
    assert queue.state is StreamState.STOPPED
    assert sink.ledger.delivered == 1


def test_pause_holds_the_next_event_and_moves_later_ones(sink: Any) -> None:
    """The runner's own pause took effect in 1 of 8 trials at this interval."""
    for _ in range(8):
        frames: list[Any] = []
        endless = (useq.MDAEvent(min_start_time=0.01 * k) for k in itertools.count())
        planned = PlannedRun(FakeCore(), frames.append, sink.ledger, CameraSettings(exposure_ms=1), plan=endless)
        planned.start()
        while len(frames) < 3:
            time.sleep(0.002)
        planned.pause()
        held = len(frames)
        time.sleep(0.1)
        assert len(frames) == held
        planned.resume()
        while len(frames) == held:
            time.sleep(0.002)
        planned.pause()
        planned.stop()
        assert planned.state is StreamState.STOPPED


def test_rules_feed_events_while_it_runs(any_core: Any, sink: Any) -> None:
    planned = run(sink, any_core, points(2), stay_open=True)
    planned.start()
    wait_for_frames(sink, 2)
    planned.add(
        useq.MDAEvent(pos_name="hit", x_pos=77.0, y_pos=0.0), useq.MDAEvent(pos_name="hit", x_pos=78.0, y_pos=0.0)
    )
    wait_for_frames(sink, 4)
    planned.finish()
    assert planned.wait(60)
    assert planned.state is StreamState.ENDED
    assert [f.position for f in sink.frames] == ["p0", "p0", "hit", "hit"]
    assert sink.frames[-1].x_um == pytest.approx(78.0, abs=0.05)


def test_added_events_go_before_a_planned_one_that_waits(sink: Any) -> None:
    planned = run(sink, FakeCore(), points(2, interval_s=3600.0))
    planned.start()
    wait_for_frames(sink, 1)
    planned.add(useq.MDAEvent(pos_name="urgent"))
    wait_for_frames(sink, 2)
    planned.stop()
    assert [f.position for f in sink.frames] == ["p0", "urgent"]


HOURLY = useq.MDASequence(
    axis_order="tpc",
    stage_positions=[{"x": 0, "y": 0, "name": "A1"}],
    channels=[{"config": "DAPI", "group": "Channel"}, {"config": "FITC", "group": "Channel"}],
    time_plan={"interval": 3600, "loops": 3},
)


def test_rules_change_the_round_that_waits(demo_core: Any, sink: Any) -> None:
    planned = run(sink, demo_core, HOURLY)
    planned.start()
    wait_for_frames(sink, 2)
    planned.replan(lambda itinerary: itinerary.revisit("A1", "why"))
    wait_for_frames(sink, 4)
    planned.replan(lambda itinerary: itinerary.set_interval(0.01))
    assert planned.wait(60)  # would take two hours otherwise
    assert planned.state is StreamState.ENDED, planned.error
    rounds = [(f.metadata["t"], f.channel, f.metadata.get(REASON)) for f in sink.frames]
    assert rounds[:4] == [(0, "DAPI", None), (0, "FITC", None), (0, "DAPI", "why"), (0, "FITC", "why")]
    assert rounds[4:] == [(t, channel, None) for t in (1, 2) for channel in ("DAPI", "FITC")]


def test_a_plan_whose_rest_is_left_out_while_it_waits_ends(sink: Any) -> None:
    planned = run(sink, FakeCore(), HOURLY.replace(channels=()))
    planned.start()
    wait_for_frames(sink, 1)
    planned.replan(lambda itinerary: itinerary.skip("A1"))
    assert planned.wait(60)
    assert (planned.state, len(sink.frames)) == (StreamState.ENDED, 1)


def test_a_revisit_wakes_a_run_that_stays_open(sink: Any) -> None:
    planned = run(sink, FakeCore(), points(1), stay_open=True)
    planned.start()
    wait_for_frames(sink, 1)
    planned.replan(lambda itinerary: itinerary.revisit("p0", "why"))
    wait_for_frames(sink, 2)
    planned.finish()
    assert planned.wait(60)
    assert [f.metadata.get(REASON) for f in sink.frames] == [None, "why"]


def test_an_endless_plan_ends_after_so_many_frames(sink: Any) -> None:
    def endless() -> Iterator[useq.MDAEvent]:
        while True:
            yield useq.MDAEvent()

    planned = run(sink, FakeCore(), endless())
    planned.start(frames=7)
    assert planned.wait(60)
    assert (planned.state, len(sink.frames)) == (StreamState.ENDED, 7)


def test_a_roi_in_a_plan_is_a_new_segment(demo_core: Any, sink: Any) -> None:
    plan = [useq.MDAEvent(), useq.MDAEvent(roi=(8, 8, 101, 33)), useq.MDAEvent()]
    planned = run(sink, demo_core, plan)
    planned.start()
    assert planned.wait(60), planned.error
    assert [(f.segment, f.pixels.shape) for f in sink.frames] == [(0, (512, 512)), (1, (33, 101)), (1, (33, 101))]


def test_changes_and_misuse_while_it_runs(sink: Any) -> None:
    planned = run(sink, FakeCore(), [], stay_open=True)
    planned.start()
    with pytest.raises(AcquisitionError, match="already running"):
        planned.start()
    with pytest.raises(AcquisitionError, match="stop it before a burst"):
        planned.burst(3)
    assert planned.change(Roi(0, 0, 9, 7)).segment == 1
    planned.add(useq.MDAEvent())
    wait_for_frames(sink, 1)
    assert sink.frames[0].pixels.shape == (7, 9)
    planned.stop()


@pytest.mark.parametrize("call", ["snapImage", "setExposure", "setXYPosition"])
def test_a_call_that_fails_ends_the_run_with_the_light_off(sink: Any, call: str) -> None:
    core = FakeCore()
    core.setAutoShutter(False)
    core.setShutterOpen(True)
    planned = run(sink, core, [*points(2), useq.MDAEvent(x_pos=1, y_pos=1, exposure=5)], on_health=sink.health.append)
    core.fail[call] = RuntimeError("broken cable")
    planned.start()
    assert planned.wait(60)
    assert planned.state is StreamState.FAILED
    assert "broken cable" in str(planned.error)
    assert not core.getShutterOpen()
    assert sink.told_lost == 1


def test_a_camera_that_comes_back_misses_no_event(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "FIRST_PAUSE_S", 0.01)
    core, attempts, lamps = FakeCore(), [], []
    core.setAutoShutter(False)
    core.setShutterOpen(True)

    def receive(frame: Any) -> None:
        sink.frames.append(frame)
        if len(sink.frames) == 2:
            core.fail["snapImage"] = RuntimeError("unplugged")

    def reopen() -> None:
        attempts.append(len(sink.frames))
        lamps.append(core.getShutterOpen())
        if len(attempts) == 1:
            raise RuntimeError("still unplugged")
        if len(attempts) == 3:
            core.fail.clear()

    camera = CameraSettings(exposure_ms=2, when_lost="restart")
    planned = PlannedRun(
        core, receive, sink.ledger, camera, plan=points(5), on_health=sink.health.append, reopen=reopen
    )
    planned.start()
    assert planned.wait(60)
    assert (planned.state, planned.error) == (StreamState.ENDED, None)
    assert attempts == [2, 2, 2]
    assert [f.metadata["t"] for f in sink.frames] == list(range(5))
    assert [f.index for f in sink.frames] == list(range(5))
    assert "attempt 3 to start again" in planned.notes[-1].reason
    assert lamps == [False] * 3  # dark while it was away, and as found afterwards
    assert core.getShutterOpen()
    assert sink.told_lost >= 1
    assert sink.health[-1].health == "ok"


@pytest.mark.parametrize("ending", ["limit", "stop"])
def test_a_camera_that_stays_away_ends_the_run(sink: Any, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(recovery, "FIRST_PAUSE_S", 0.01 if ending == "limit" else 600.0)
    core = FakeCore()
    core.setAutoShutter(False)
    core.setShutterOpen(True)
    core.fail["snapImage"] = RuntimeError("unplugged")
    camera = CameraSettings(exposure_ms=2, when_lost="restart", restart_limit_s=0.1 if ending == "limit" else 600)
    planned = PlannedRun(core, sink.frames.append, sink.ledger, camera, plan=points(2))
    planned.start()
    if ending == "stop":
        while planned.state is not StreamState.RESTARTING:
            time.sleep(0.002)
        planned.stop()
        assert planned.state is StreamState.STOPPED
        return
    assert planned.wait(60)
    assert planned.state is StreamState.FAILED
    assert "did not come back in" in str(planned.error)
    assert not core.getShutterOpen()


def test_a_place_that_is_no_number_ends_the_run_in_words(demo_core: Any, sink: Any) -> None:
    planned = run(sink, demo_core, [*points(1), useq.MDAEvent(x_pos=float("nan"), y_pos=0.0, pos_name="A2")])
    planned.start()
    assert planned.wait(60)
    assert planned.state is StreamState.FAILED
    assert "move to A2: x = nan um, y = 0 um is no place" in str(planned.error)
    assert sink.ledger.delivered == 1


def test_a_rule_changes_the_exposure_of_one_channel(demo_core: Any, sink: Any) -> None:
    channels = [useq.Channel(config="DAPI", exposure=3), useq.Channel(config="FITC", exposure=5)]
    plan = useq.MDASequence(
        axis_order="tpc", stage_positions=[(0, 0)], channels=channels, time_plan={"interval": 3600, "loops": 2}
    )
    planned = run(sink, demo_core, plan)
    planned.start()
    wait_for_frames(sink, 2)
    planned.replan(lambda itinerary: itinerary.set_exposure("DAPI", 8))
    planned.replan(lambda itinerary: itinerary.set_interval(0.01))
    assert planned.wait(60), planned.error
    assert [(f.channel, f.exposure_ms) for f in sink.frames] == [("DAPI", 3), ("FITC", 5), ("DAPI", 8), ("FITC", 5)]


def test_a_receiver_that_raises_ends_the_run(sink: Any) -> None:
    def receive(frame: Any) -> None:
        raise ValueError("bad receiver")

    planned = PlannedRun(FakeCore(), receive, sink.ledger, plan=points(3))
    planned.start()
    assert planned.wait(60)
    assert isinstance(planned.error.__cause__, ValueError)


def test_a_shutter_held_open_over_events_is_left_as_found(sink: Any) -> None:
    core = FakeCore()
    states: list[tuple[bool, bool]] = []
    plan = [useq.MDAEvent(keep_shutter_open=True), useq.MDAEvent(keep_shutter_open=True), useq.MDAEvent()]
    planned = PlannedRun(
        core, lambda frame: states.append((core.getAutoShutter(), core.getShutterOpen())), sink.ledger, plan=plan
    )
    planned.start()
    assert planned.wait(60), planned.error
    assert states == [(False, True), (False, True), (True, False)]
    assert core.getAutoShutter()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_plan: {interval: 1, loops: 2}", "no position"),
        ("stage_positions: []", "no position"),
        ("stage_postions: [{x: 1, y: 2}]", "unknown key 'stage_postions'.*'stage_positions'"),
        ("stage_positions: [{x: one, y: 2}]", "valid number"),
        ("{stage_positions: [{z: 5}], z_plan: {range: 4, step: 2}}", "z_plan asks for a stack.*each position the z"),
        ("stage_positions: [{z: 5, sequence: {z_plan: {range: 4, step: 2}}}]", "z_plan asks for a stack"),
        ("{stage_positions: [{x: 0}], grid_plan: {rows: 1, columns: 2}}", "needs fov_width and fov_height"),
        ("{axis_order: tp, stage_positions: [{x: 0}], grid_plan: {rows: 1, columns: 1}}", "axis_order 'tp' has no g"),
        (
            "{stage_positions: [{x: 0}], channels: [{config: DAPI}, {config: Cy5, exposure: 50}]}",
            "channel 'DAPI' has no exposure.*Give each channel its exposure",
        ),
        ("stage_positions: [{x: 0, y: 0, nam: B1}]", r"unknown key 'stage_positions.0.nam'. Did you mean 'name'"),
        (
            "{stage_positions: [{x: 0}], channels: [{config: DAPI, exposre: 60}]}",
            r"unknown key 'channels.0.exposre'. Did you mean 'exposure'",
        ),
        ("{stage_positions: [{x: 0}], time_plan: {interval: 1, loops: 2, lops: 3}}", "'time_plan.lops'.*'loops'"),
        ("{stage_positions: [{x: 0}], time_plan: [{interval: 1, loops: 2, lops: 3}]}", r"'time_plan.0.lops'.*'loops'"),
        (
            "stage_positions: [{x: 0, sequence: {channels: [{config: DAPI, aquire_every: 2}]}}]",
            r"'stage_positions.0.sequence.channels.0.aquire_every'. Did you mean 'acquire_every'",
        ),
        (
            "stage_positions: [{x: 0, y: 0, name: A1}, {x: 400, y: 0, name: A1}]",
            "two positions are named 'A1'.*A1_0 and A1_1",
        ),
        ("stage_positions: [{x: 0, y: 0, name: p1}, {x: 400, y: 0}]", "two positions are named 'p1'"),
        ("[1, 2]", "holds a list"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_plan_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_plan(write(tmp_path, text))


def test_a_missing_plan_and_a_misspelt_channel_are_explained(demo_core: Any, sink: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_plan(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes("stage_positions: [{x: 1, y: 2, name: Gefäß}]".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin\.yaml' is no UTF-8 text.*save it as UTF-8"):
        load_plan(tmp_path / "latin.yaml")
    plan = useq.MDASequence(stage_positions=[(0, 0, 0)], channels=[{"group": "Channel", "config": "DAPPI"}])
    with pytest.raises(SettingsError, match=r"channel 'DAPPI'.*'DAPI'"):
        run(sink, demo_core, plan).start()
    own = {"channels": [{"group": "Channel", "config": "Nope"}]}
    plan = useq.MDASequence(stage_positions=[{"x": 0, "y": 0, "sequence": own}])
    with pytest.raises(SettingsError, match=r"channel 'Nope'.*'DAPI'"):
        run(sink, demo_core, plan).start()
    again = run(sink, demo_core, points(1))
    again.start()
    assert again.wait(60)
    assert len(sink.frames) == 1


def test_what_is_asked_of_the_plan_after_its_end_is_refused(any_core: Any, sink: Any) -> None:
    planned = run(sink, any_core, useq.MDASequence(stage_positions=[{"x": 0, "y": 0, "name": "A1"}]))
    planned.start()
    assert planned.wait(60)
    with pytest.raises(AcquisitionError, match="ended before its turn"):
        planned.replan(lambda itinerary: itinerary.revisit("A1", "why"))
    assert len(sink.frames) == 1


def test_a_place_visited_twice_in_a_round_keeps_its_name(tmp_path: Path) -> None:
    twice = "stage_positions: [{x: 0, y: 0, name: A1}, {x: 400, y: 0, name: B1}, {x: 0, y: 0, name: A1}]"
    assert len(load_plan(write(tmp_path, twice)).stage_positions) == 3


def focused(offset_um: float | None, device: str | None, rounds: int = 2) -> useq.MDASequence:
    """Rounds of two positions, focused by hardware before each, and a second tile that is not."""
    return useq.MDASequence(
        axis_order="tpg",
        stage_positions=[{"x": 0, "y": 0, "z": 10, "name": "A1"}, {"x": 50, "y": 0, "z": 20, "name": "A2"}],
        grid_plan={"rows": 1, "columns": 2, "fov_width": 10, "fov_height": 10},
        time_plan={"interval": 0, "loops": rounds},
        autofocus_plan={"autofocus_device_name": device, "autofocus_motor_offset": offset_um, "axes": ("t", "p")},
    )


def test_hardware_autofocus_is_kept_by_position(demo_core: Any, sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drift_um = iter([7.0, -2.0, 1.0, 0.5])  # what autofocus finds, one after the other
    found_at: list[float] = []
    motor: list[Any] = []

    def focus() -> None:
        found_at.append(demo_core.getPosition())
        demo_core.setPosition(demo_core.getPosition() + next(drift_um))

    monkeypatch.setattr(demo_core, "fullFocus", focus)
    monkeypatch.setattr(demo_core, "setAutoFocusOffset", motor.append)
    planned = run(sink, demo_core, focused(42.0, None))
    planned.start()
    assert planned.wait(60), planned.error
    assert planned.state is StreamState.ENDED, planned.error
    assert found_at == pytest.approx([10, 20, 17, 18], abs=0.05)
    assert [f.z_um for f in sink.frames] == pytest.approx([17, 17, 18, 18, 18, 18, 18.5, 18.5], abs=0.05)
    assert motor == [42.0] * 4


def test_the_motor_of_the_autofocus_is_set_by_its_name(demo_core: Any, sink: Any) -> None:
    demo_core.loadDevice("Offset", "DemoCamera", "DStage")
    demo_core.initializeDevice("Offset")
    planned = run(sink, demo_core, focused(3.0, "Offset"))
    planned.start()
    assert planned.wait(60)
    assert planned.state is StreamState.ENDED, planned.error
    assert demo_core.getPosition("Offset") == pytest.approx(3.0, abs=0.05)
    assert sink.frames[0].z_um == pytest.approx(10.0, abs=0.05)


def test_autofocus_that_fails_is_tried_again_and_ends_no_run(
    demo_core: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # at A1 fails once and then finds; at A2 fails for good in two rounds, far away, and finds in the third
    outcomes = iter([None, 4.0, None, None, None, 1.0, None, None, None, 1.0, 2.0])

    why = itertools.count(1)  # as drivers put numbers into their messages

    def focus() -> None:
        moved_um = next(outcomes)
        demo_core.setPosition(demo_core.getPosition() + (9.0 if moved_um is None else moved_um))
        if moved_um is None:
            raise RuntimeError(f"no reflex found ({next(why)})")

    monkeypatch.setattr(demo_core, "fullFocus", focus)
    planned = run(sink, demo_core, focused(None, None, rounds=3))
    planned.start()
    assert planned.wait(60), planned.error
    assert planned.state is StreamState.ENDED, planned.error
    assert next(outcomes, "none left") == "none left"
    where = [(frame.position, (frame.metadata or {}).get("autofocus_failed")) for frame in sink.frames]
    assert where == [
        (f"{site}_{tile:04d}", None if said is None else f"no reflex found ({said})")
        for site, said in (("A1", None), ("A2", 4), ("A1", None), ("A2", 7), ("A1", None), ("A2", None))
        for tile in (0, 1)
    ]
    (warning,) = planned.warnings
    assert warning == "hardware autofocus failed at 'A2' (no reflex found (4)); the run goes on with the focus before"
    assert [f.z_um for f in sink.frames[2:4]] == pytest.approx([20, 20], abs=0.05), "put back to where it was"


def test_continuous_focusing_is_off_while_autofocus_works_and_on_again_once_it_has(
    demo_core: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []
    outcomes = iter([True, False, False, False, True, True])  # at the second position in vain
    switch = demo_core.enableContinuousFocus

    def focus() -> None:
        did.append("focus")
        if not next(outcomes):
            raise RuntimeError("no reflex found")

    def enable(on: bool) -> None:
        did.append("on" if on else "off")
        switch(on)

    demo_core.enableContinuousFocus(True)
    monkeypatch.setattr(demo_core, "fullFocus", focus)
    monkeypatch.setattr(demo_core, "enableContinuousFocus", enable)
    planned = run(sink, demo_core, focused(None, None))
    planned.start()
    assert planned.wait(60), planned.error
    # frames taken where it failed are taken without, as with the core's own engine
    assert " ".join(did) == "off focus on off focus focus focus focus on off focus on"


def test_autofocus_without_a_device_ends_the_run_in_words(demo_core: Any, sink: Any) -> None:
    demo_core.setAutoFocusDevice("")
    planned = run(sink, demo_core, focused(None, None))
    planned.start()
    assert planned.wait(60)
    assert "no autofocus device" in str(planned.error)


def test_unknown_actions_are_refused(sink: Any) -> None:
    planned = run(sink, FakeCore(), [useq.MDAEvent(action=useq.CustomAction(name="dance"))])
    planned.start()
    assert planned.wait(60)
    assert "custom" in str(planned.error)


def test_a_stalled_event_is_told(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from livescope.acquire import health

    monkeypatch.setattr(health, "stall_limit_s", lambda exposure_ms: 0.05)
    monkeypatch.setattr(health, "POLL_S", 0.01)
    core, go = FakeCore(), threading.Event()
    core.snapImage = lambda: go.wait(60)  # type: ignore[method-assign]
    planned = run(sink, core, points(1), on_health=sink.health.append)
    planned.start()
    while not sink.health:
        time.sleep(0.002)
    go.set()
    assert planned.wait(60)
    assert sink.health[0].health == "stalled"


def test_only_a_snap_can_stall(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage may take its time: that says nothing of the camera."""
    core = FakeCore()
    planned = run(sink, core, points(2))
    watched: dict[str, list[bool]] = {"setXYPosition": [], "snapImage": []}
    for name, seen in watched.items():
        call = getattr(core, name)

        def look(*args: Any, call: Any = call, seen: list[bool] = seen) -> Any:
            seen.append(planned._pulse().running)
            return call(*args)

        monkeypatch.setattr(core, name, look)
    planned.start()
    assert planned.wait(60)
    assert watched == {"setXYPosition": [False, False], "snapImage": [True, True]}
