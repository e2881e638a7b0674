"""Rules on a running session: two hours of a dying culture in seconds, and what the microscope does about it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "mm_test_adapters", reason="the simulated microscope needs the demo stages: pip install livescope[demo]"
)

import livescope
from livescope.calls import State
from livescope.errors import SettingsError
from livescope.frames import ASIDE, REASON
from livescope.record.reader import Record, open_record
from livescope.respond.readings import readings_of_record
from livescope.respond.rules import dry_run, load_rules
from livescope.session import Session
from livescope.settings import CameraSettings, Settings, SimulationSettings
from livescope.simulate.camera import open_simulated_core, truth_of

pytestmark = pytest.mark.timeout(900)  # sessions end by what they have seen, however slow the machine

DROP = "{metric: viability, below: 0.8, clear: 0.85, frames: 3, min_cells: 30}"
ALWAYS = "{metric: n_cells, above: 0}"


def settings_of(tmp_path: Path, rules: str, **more: Any) -> Settings:
    """A culture that dies within two hours, two minutes a frame, followed by rules."""
    (tmp_path / "rules.yaml").write_text(rules)
    tree: dict[str, Any] = {
        "simulation": {
            "width": 384,
            "height": 384,
            "cells_per_mm2": 900,
            "rate_fps": 20,
            "seed": 11,
            "dead_fraction": 0.02,
            "death_rate_per_h": 0.4,
            "division_rate_per_h": 0.0,
            "minutes_per_frame": 2.0,
        },
        "camera": {"exposure_ms": 20},
        "detector": {"threads": 1, "every_frame": True},
        "record": {"path": tmp_path / "run.ome.zarr"},
        "run": {"rules": tmp_path / "rules.yaml"},
    }
    for section, values in more.items():
        tree.setdefault(section, {}).update(values)
    return Settings.model_validate(tree)


def run(settings: Settings, **more: Any) -> tuple[Session, Record]:
    with Session(settings, **more) as session:
        session.start().result(60)
        assert session.wait(800)
    assert settings.record.path is not None
    return session, open_record(settings.record.path)


def rule(when: str, *actions: str, name: str = "rule", more: str = "") -> str:
    return f"  - {{name: {name}, when: {when}, do: [{', '.join(actions)}]{more}}}\n"


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Record, Path]:
    """The run whose viability drops below 80 %, in which two more actions fail in their own ways."""
    tmp_path = tmp_path_factory.mktemp("drop")
    failing = [
        f"{{action: command, args: [{sys.executable!r}, -c, 'raise SystemExit(3)']}}",
        "{action: webhook, url: 'http://127.0.0.1:1/', timeout_s: 5}",
    ]
    text = "rules:\n" + rule(DROP, "{action: snap, channel: Cy5, exposure_ms: 50}", name="confirm with the dye")
    text += rule("{metric: elapsed_h, above: 0.1}", *failing, name="fails")
    text += rule("{metric: elapsed_h, above: 1.95}", "{action: stop}", name="two hours are over")
    session, record = run(settings_of(tmp_path, text), allow_actions=True)
    return session, record, tmp_path / "rules.yaml"


def test_a_drop_of_the_viability_takes_the_dye_into_the_record(drop: tuple[Session, Record, Path]) -> None:
    session, record, rules = drop
    (outcome,) = (one for one in session.status().actions if one["action"] == "snap")
    assert (outcome["ok"], outcome["message"]) == (True, "done")
    frames = {frame.index: frame for frame in record.iter_frames()}
    (snap,) = (frame for frame in frames.values() if frame.aside)
    assert (snap.channel, snap.exposure_ms) == ("Cy5", 50.0)
    assert snap.metadata is not None
    assert snap.metadata[ASIDE] == "channel Cy5"
    assert snap.metadata[REASON] == f"confirm with the dye: {outcome['reason']}"
    assert outcome["reason"].startswith("viability < 0.8 (")
    assert snap.index > outcome["frame"]
    assert snap.index not in record.analysed
    # the culture was as the rule says
    core = open_simulated_core(record.settings.simulation, CameraSettings())
    truth = truth_of(core, frames[outcome["frame"]]).in_frame()
    # 53 cells; three frames in a row make the rule some minutes late, and cells that are dying are left uncertain
    assert 0.65 < float((truth.state == State.LIVE).mean()) < 0.83
    # the dye confirms: the dead are bright
    truth = truth_of(core, replace(snap, metadata=dict(snap.metadata))).in_frame()
    core.unloadAllDevices()
    at = snap.pixels[truth.y_px.round().astype(int), truth.x_px.round().astype(int)].astype(float)
    assert np.median(at[truth.state == State.DEAD]) > 3 * np.median(at[truth.state == State.LIVE])
    # a dry run over the record says the same
    told = {(one["rule"], one["frame"], one["reason"]) for one in session.status().actions}
    fired = dry_run(load_rules(rules), readings_of_record(record))
    assert {(firing.rule, firing.frame_index, firing.reason) for firing in fired} == told


def test_every_firing_is_in_the_record_with_its_reason(drop: tuple[Session, Record, Path]) -> None:
    session, record, _ = drop
    rows = record.table("firings").to_pylist()
    assert record.manifest["firings"] == rows == list(session.status().actions)
    assert {(row["rule"], row["action"], row["ok"]) for row in rows} == {
        ("confirm with the dye", "snap", True),
        ("fails", "command", False),
        ("fails", "webhook", False),
        ("two hours are over", "stop", True),
    }
    assert record.manifest["rules"]["allow_actions"] is True
    assert [one["name"] for one in record.manifest["rules"]["rules"]] == [
        "confirm with the dye",
        "fails",
        "two hours are over",
    ]


def test_failing_actions_harm_nothing(drop: tuple[Session, Record, Path]) -> None:
    session, record, _ = drop
    status = session.status()
    assert status.errors == ()
    assert status.state.value == "idle"
    assert str(status.reason).startswith("two hours are over: elapsed_h > 1.95")
    assert len(record) == status.delivered == status.analysed + status.lost["analysis"] + 1  # and the dye
    assert len(record.analysed) == status.analysed
    assert not any(status.lost[cause] for cause in ("core", "camera", "recorder"))
    assert [warning for warning in status.warnings if warning.startswith("rule 'fails': command failed")]
    assert [note["reason"].split(" (")[0] for note in record.manifest["segments"]] == [
        "start",
        "channel Cy5",
        "after channel Cy5",
    ]


def test_a_rule_ends_the_run_and_says_why(tmp_path: Path) -> None:
    text = "rules:\n" + rule(ALWAYS, "{action: stop}", name="enough")
    session, record = run(settings_of(tmp_path, text, run={"frames": None}))
    assert session.status().state.value == "idle"
    assert str(session.status().reason).startswith("enough: n_cells > 0 (")
    assert record.manifest["firings"][0]["action"] == "stop"


PLAN = """
axis_order: tpc
stage_positions: [{x: 0, y: 0, name: A1}, {x: 400, y: 0, name: A2}]
time_plan: {interval: 0.2, loops: 100000}
channels: [{config: Brightfield, group: Channel, exposure: 20}, {config: Cy5, group: Channel, exposure: 30}]
"""


def test_a_channel_to_call_that_is_none_of_the_plans(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("100000", "1"))
    small = ["simulation.width=96", "simulation.height=96", "detector.channel=Brightfeld", "run.frames=2"]
    refused = pytest.raises(SettingsError, match="'Brightfeld' is none of the plan's channels: 'Brightfield', 'Cy5'")
    with livescope.open_session(None, *small, f"run.plan={tmp_path / 'plan.yaml'}") as session, refused:
        session.start().result()
    with livescope.open_session(None, *small) as session:  # a stream: one may yet be chosen
        assert list(session.results()) == []
        assert "'Brightfeld', but no plan names channels" in session.status().warnings[0]


def test_rules_change_a_planned_run(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    actions = [
        "{action: add_position, dx_um: 0, dy_um: 300}",
        "{action: revisit}",
        "{action: set_interval, seconds: 0.3}",
    ]
    snap = "{action: snap, channel: Cy5, exposure_ms: 5}"
    text = "rules:\n" + rule(ALWAYS, *actions, snap, name="at once", more=", per: run")
    text += rule("{metric: elapsed_h, above: 0.15}", "{action: skip}", name="later", more=", per: run")
    text += rule("{metric: elapsed_h, above: 2.0}", "{action: stop}", name="enough", more=", per: run")
    small = {"width": 256, "height": 256}
    settings = settings_of(tmp_path, text, run={"plan": tmp_path / "plan.yaml"}, simulation=small)
    session, record = run(settings)
    assert session.status().errors == ()
    assert all(one["ok"] for one in session.status().actions), session.status().actions
    frames = list(record.iter_frames())
    fired = {one["action"]: one for one in session.status().actions}
    first, left_out = fired["snap"]["position"], fired["skip"]["position"]
    assert {frame.position for frame in frames} == {"A1", "A2", f"{first}+1"}
    (aside,) = (frame for frame in frames if frame.aside)
    assert (aside.position, aside.exposure_ms) == (first, 5.0)
    again = [f for f in frames if f.metadata and REASON in f.metadata and not f.aside]
    assert {frame.position for frame in again} == {first}
    rounds: dict[str | None, list[int]] = {}
    for frame in frames:
        if frame.metadata and "t" in frame.metadata:
            rounds.setdefault(frame.position, []).append(int(frame.metadata["t"]))
    (kept,) = {"A1", "A2"} - {left_out}
    assert max(rounds[left_out]) < max(rounds[kept])
    # the plan's second channel is stored and never called
    called = [frame for frame in frames if frame.index in record.analysed]
    assert {frame.channel for frame in called} == {"Brightfield"}
    assert any(frame.channel == "Cy5" for frame in frames)


def test_a_rule_changes_the_exposure_that_a_plan_states(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("interval: 0.2, loops: 100000", "interval: 3600, loops: 3"))
    actions = "{action: set_exposure, exposure_ms: 60}", "{action: set_interval, seconds: 0.1}"
    text = "rules:\n" + rule(ALWAYS, *actions, name="longer", more=", per: run")
    small = {"width": 256, "height": 256}
    session, record = run(settings_of(tmp_path, text, run={"plan": tmp_path / "plan.yaml"}, simulation=small))
    assert session.status().errors == ()
    assert [one["message"] for one in session.status().actions] == ["done", "done"]
    rounds = [(f.metadata["t"], f.channel, f.exposure_ms) for f in record.iter_frames() if f.metadata]
    assert {(channel, ms) for t, channel, ms in rounds if t > 0} == {("Brightfield", 60.0), ("Cy5", 30.0)}
    assert {ms for _, channel, ms in rounds if channel == "Cy5"} == {30.0}
    assert rounds[0] == (0, "Brightfield", 20.0)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("{action: command, args: [ls]}", "run a command or call a URL.*--allow-actions"),
        ("{action: snap, channel: DAPI}", "there is no channel 'DAPI'; group 'Channel' has: 'Brightfield', 'Cy5'"),
        ("{action: set_interval, seconds: 3}", "set_interval needs a planned run"),
        ("{action: snap}", "channel: Field required"),
    ],
)
def test_what_cannot_work_is_refused_before_the_run(tmp_path: Path, action: str, says: str) -> None:
    refused(settings_of(tmp_path, "rules:\n" + rule(ALWAYS, action), record={"path": None}), says)


def refused(settings: Settings, says: str) -> None:
    with Session(settings) as session:
        with pytest.raises(SettingsError, match=says):
            session.start().result(60)
        assert session.status().delivered == 0


@pytest.mark.parametrize(
    ("plan", "action", "says"),
    [
        ("[{x: 0, y: 0}]", "{action: set_interval, seconds: 3}", "'rule': set_interval needs rounds.*no time_plan"),
        ("[{x: 0, y: 0}]", "{action: add_position, dx_um: 1, dy_um: 1}", "add_position needs rounds.*no time_plan"),
        (
            "[{x: 0, y: 0}, {name: A2}]\ntime_plan: {interval: 1, loops: 2}",
            "{action: add_position, dx_um: 1, dy_um: 1}",
            "the plan gives no x and y to 'A2'",
        ),
    ],
)
def test_what_a_plan_cannot_do_is_refused_before_the_run(tmp_path: Path, plan: str, action: str, says: str) -> None:
    (tmp_path / "plan.yaml").write_text(f"stage_positions: {plan}\n")
    more = {"run": {"plan": tmp_path / "plan.yaml"}, "record": {"path": None}}
    refused(settings_of(tmp_path, "rules:\n" + rule(ALWAYS, action), **more), says)


@pytest.mark.parametrize(
    "action",
    [
        "{action: snap, channel: Cy5}",
        "{action: set_exposure, exposure_ms: 5}",
        "{action: revisit}",
    ],
)
def test_a_rule_changes_nothing_on_a_core_of_another_program(tmp_path: Path, action: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n" + rule(ALWAYS, "{action: stop}", action))
    core = open_simulated_core(SimulationSettings(width=256, height=256), CameraSettings(exposure_ms=20))
    with livescope.attach(core, f"run.rules={rules}") as session:
        with pytest.raises(SettingsError, match=r"only watched. Possible there are 'stop', 'command' and 'webhook'"):
            session.start().result(60)
        rules.write_text("rules:\n" + rule(ALWAYS, "{action: stop}"))
        session.start().result(60)
    core.unloadAllDevices()
