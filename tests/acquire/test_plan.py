"""Plans as they are written: what is wrong with one is told in livescope's words, the nearest key with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.acquire.plan import load_plan
from livescope.errors import SettingsError

AT = "stage_positions: [{x: 0, y: 0, name: A1}]\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time_plan: {intervall: 1, loops: 4}", "unknown key 'time_plan.intervall'. Did you mean 'interval'?"),
        ("time_plan: {interval: 1, loop: 4}", "unknown key 'time_plan.loop'. Did you mean 'loops'?"),
        ("time_plan: [{interval: 1, loop: 4}]", "unknown key 'time_plan.0.loop'. Did you mean 'loops'?"),
        ("time_plan: {interval: 1, loops: 0}", "time_plan.loops: Input should be greater than 0 (given: 0)."),
        (
            "time_plan: [{interval: 1, loops: 0}]",
            "time_plan.phases.0.loops: Input should be greater than 0 (given: 0).",
        ),
        ("time_plan: {interval: soon, loops: 2}", "time_plan.interval: Input should be a valid time"),
        ("time_plan: {interval: 1}", "time_plan: needs 'phases' or needs 'duration' or needs 'loops'"),
        ("time_plan: 5", "time_plan: Input should be a valid dictionary (given: 5)."),
        ("channels: [{config: DAPI, exposure: -1}]", "channels.exposure: Input should be greater than 0 (given: -1)."),
        ("channels: [{exposure: 5}]", "channels: needs 'config' (given: {'exposure': 5})."),
        ("time_plan: {interval: {secs: 1}, loops: 2}", "'secs'"),
        ("keep_shutter_open_across: no", "keep_shutter_open_across has 'n'; its axes are 't'"),
        ("grid_plan: {rows: 2, columns: none}", "grid_plan"),
    ],
)
def test_what_is_wrong_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as told:
        load_plan(write(tmp_path, AT + text))
    message = str(told.value)
    assert says in message
    assert "plan.yaml" in message
    assert "pydantic" not in message
    assert "\n" not in message


def test_every_wrong_value_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as told:
        load_plan(write(tmp_path, "stage_positions: [{x: abc}]\ntime_plan: {interval: 1, loops: 0}"))
    first, second = str(told.value).splitlines()
    assert "stage_positions.x" in first
    assert "number" in first
    assert "'abc'" in first
    assert "time_plan.loops" in second


@pytest.mark.parametrize(
    ("time_plan", "says"),
    [
        ("{interval: -1, loops: 3}", "the interval -1 s"),
        ("[{interval: 1, loops: 2}, {interval: -0.5, loops: 2}]", "the interval -0.5 s"),
        ("{phases: [{interval: 1, loops: 2}, {duration: -5, loops: 2}]}", "the duration -5 s"),
        ("{interval: 1, duration: -5}", "the duration -5 s"),
        ("{interval: 0, duration: 5}", "an interval above 0"),
        ("{duration: 5, loops: 1}", "more loops"),
    ],
)
def test_times_that_cannot_be_kept_to(tmp_path: Path, time_plan: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_plan(write(tmp_path, f"{AT}time_plan: {time_plan}"))
    with pytest.raises(SettingsError, match=says):
        load_plan(write(tmp_path, f"stage_positions: [{{x: 0, sequence: {{time_plan: {time_plan}}}}}]"))


@pytest.mark.parametrize(
    ("time_plan", "visits"),
    [("{interval: 0, loops: 3}", 3), ("{interval: 0:00:10, loops: 010}", 10), ("[{interval: 1, loops: 2}]", 2)],
)
def test_times_that_can(tmp_path: Path, time_plan: str, visits: int) -> None:
    assert len(list(load_plan(write(tmp_path, f"{AT}time_plan: {time_plan}")))) == visits


def test_names_that_yaml_takes_for_something_else(tmp_path: Path) -> None:
    text = "{stage_positions: [{x: 010, name: 2024-05-01}, {x: 5, name: 7}], channels: [{config: No, do_stack: off}]}"
    plan = load_plan(write(tmp_path, text))
    assert [(position.x, position.name) for position in plan.stage_positions] == [(10, "2024-05-01"), (5, "7")]
    assert [(channel.config, channel.do_stack) for channel in plan.channels] == [("No", False)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (AT + AT, "not YAML: the key 'stage_positions' stands twice, in line 1 and in line 2"),
        ("stage_positions: &a [*a]", "not YAML"),
        ("stage_positions: " + "[" * 3000, "not YAML"),
        ("stage_positions: [{x: .nan}]", "valid number"),
    ],
)
def test_what_no_plan_may_be(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_plan(write(tmp_path, text))


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ("[{x: nan, y: 0}]", r"a position lies at \(nan, 0\.0\); give x, y and z in micrometres"),
        ("[{x: 0, y: 0, z: 0, name: A1}, {x: 0, y: 0, z: 40, name: A1}]", r"two positions are named 'A1' .*40\.0\)"),
    ],
)
def test_where_no_position_may_lie(tmp_path: Path, positions: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_plan(write(tmp_path, f"stage_positions: {positions}"))
