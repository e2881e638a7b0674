from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livescope.errors import SettingsError
from livescope.respond.rules import Condition, Reading, RuleEngine, Rules, dry_run, load_rules


def rules(repeat: bool = False, per: str = "position", cooldown_s: float = 0.0, **condition: Any) -> Rules:
    when = {"metric": "viability", "below": 0.8, "clear": 0.85, **condition}
    rule = {
        "name": "r",
        "when": when,
        "per": per,
        "repeat": repeat,
        "cooldown_s": cooldown_s,
        "do": [{"action": "stop"}],
    }
    return Rules.model_validate({"rules": [rule]})


def fired(given_rules: Rules, values: list[float], n_cells: int = 100, positions: list[str] | None = None) -> list[int]:
    readings = [
        Reading(index, float(index), positions[index] if positions else None, {"viability": value}, n_cells)
        for index, value in enumerate(values)
    ]
    return [firing.frame_index for firing in dry_run(given_rules, readings)]


NAN = float("nan")


@pytest.mark.parametrize(
    ("condition", "values", "frames"),
    [
        ({}, [0.9, 0.8, 0.79], [2]),  # the threshold itself does not fire
        ({}, [0.7, 0.7, 0.7], [0]),  # once
        ({"repeat": True}, [0.7, 0.82, 0.7], [0]),  # inside the band it is not over
        ({"repeat": True}, [0.7, 0.85, 0.7], [0, 2]),  # at clear it is
        ({"repeat": False}, [0.7, 0.9, 0.7], [0]),
        ({"repeat": True, "clear": None}, [0.7, 0.8, 0.7], [0, 2]),
        ({"frames": 3}, [0.7, 0.7, 0.9, 0.7, 0.7, 0.7], [5]),
        ({"frames": 2}, [0.7, NAN, 0.7, 0.7], [3]),  # unknown is not in a row
        ({"frames": 2, "repeat": True}, [0.7, 0.7, 0.9, 0.7, 0.7], [1]),  # one good frame is not the end
        ({"frames": 2, "repeat": True}, [0.7, 0.7, 0.9, 0.9, 0.7, 0.7], [1, 5]),
        ({"min_cells": 101}, [0.1, 0.1], []),
        ({"min_cells": 100}, [0.1, 0.1], [0]),
        ({"below": None, "above": 0.5, "clear": 0.4, "repeat": True}, [0.6, 0.45, 0.6, 0.4, 0.6], [0, 4]),
        ({"below": None, "above": 0.0, "clear": None}, [0.0, 0.1], [1]),
        ({"repeat": True, "cooldown_s": 3.0}, [0.7, 0.9, 0.7, 0.9, 0.7], [0, 4]),
        ({"repeat": True, "cooldown_s": 4.0}, [0.7, 0.9, 0.7, 0.7, 0.7, 0.7], [0, 4]),  # on again, it waits
        ({"repeat": True, "cooldown_s": 4.0}, [0.7, 0.9, 0.7, 0.9, 0.9, 0.9], [0]),  # but for what is over
        ({"repeat": True, "cooldown_s": 2.0}, [0.7, 0.7, 0.7, 0.7], [0]),  # one time on is answered once
        ({"repeat": False, "cooldown_s": 1.0}, [0.7, 0.9, 0.7, 0.7], [0]),
        ({"repeat": True, "cooldown_s": 3.0}, [0.7, 0.9, 0.7, NAN, NAN, 0.7], [0, 5]),  # unknown at its end, it waits
        ({"repeat": True, "cooldown_s": 3.0}, [0.7, 0.9, 0.7, NAN, NAN, 0.9], [0]),  # and then it was over
        ({}, [], []),
    ],
)
def test_truth_table(condition: dict[str, Any], values: list[float], frames: list[int]) -> None:
    assert fired(rules(**condition), values) == frames


def test_two_conditions_fire_at_a_reading_that_knows_both() -> None:
    """The rate was high before it became unknown: it fired for ``nan`` deaths an hour."""
    when = [{"metric": "death_rate_per_h", "above": 0.1}, {"metric": "viability", "below": 0.8}]
    both = Rules.model_validate({"rules": [{"name": "r", "when": when, "do": [{"action": "stop"}]}]})
    values = [(0.2, 0.9), (NAN, 0.7), (0.3, 0.7)]
    readings = [
        Reading(k, 60.0 * k, None, {"death_rate_per_h": rate, "viability": viability}, 100)
        for k, (rate, viability) in enumerate(values)
    ]
    (firing,) = dry_run(both, readings)
    assert firing.reason == "death_rate_per_h > 0.1 (0.3) and viability < 0.8 (0.7), held for 60 s, 100 cells"


@pytest.mark.parametrize(("per", "frames"), [("position", []), ("run", [1])])
def test_cameras_at_one_position_are_watched_apart(per: str, frames: list[int]) -> None:
    readings = [
        Reading(k, float(k), "A1", {"viability": 0.7}, 100, camera) for k, camera in enumerate(["left", "right"])
    ]
    assert [firing.frame_index for firing in dry_run(rules(per=per, frames=2), readings)] == frames


def test_reason_of_a_firing_that_waited_for_the_cooldown() -> None:
    """The value may lie between the threshold and `clear` by then."""
    readings = [
        Reading(k, 60.0 * k, "A", {"viability": value}, 100) for k, value in enumerate([0.7, 0.9, 0.7, 0.7, 0.82])
    ]
    first, second = dry_run(rules(repeat=True, cooldown_s=240.0), readings)
    assert first.reason == "viability < 0.8 (0.7), 100 cells"
    assert second.reason == "viability < 0.8 (0.82), held for 120 s until the cooldown was over, 100 cells"


def test_positions_are_counted_apart_or_together() -> None:
    values, positions = [0.7, 0.7, 0.7, 0.7], ["A", "B", "A", "B"]
    assert fired(rules(frames=2), values, positions=positions) == [2, 3]
    assert fired(rules(frames=2, per="run"), values, positions=positions) == [1]


def test_all_conditions_must_hold_together() -> None:
    both = [{"metric": "viability", "below": 0.8}, {"metric": "n_dead", "above": 10}]
    given_rules = Rules.model_validate({"rules": [{"name": "r", "when": both, "do": [{"action": "stop"}]}]})
    engine = RuleEngine(given_rules)
    assert not engine.update(Reading(0, 0.0, None, {"viability": 0.7, "n_dead": 5}, 100))
    assert not engine.update(Reading(1, 1.0, None, {"viability": 0.9, "n_dead": 15}, 100))
    (firing,) = engine.update(Reading(2, 2.0, None, {"viability": 0.7, "n_dead": 15}, 100))
    assert firing.reason == "viability < 0.8 (0.7) and n_dead > 10 (15), 100 cells"


@given(st.lists(st.floats(0.8, 0.8499), max_size=60), st.integers(1, 4), st.booleans())
def test_no_chatter_inside_the_band(inside: list[float], frames: int, started: bool) -> None:
    lead = [0.7] * frames if started else [0.9] * frames
    assert len(fired(rules(repeat=True, frames=frames), lead + inside)) == int(started)


@given(st.lists(st.floats(0, 1) | st.just(NAN), max_size=80), st.integers(1, 5))
def test_between_two_firings_the_value_was_over_clear_and_under_the_threshold(values: list[float], frames: int) -> None:
    at = fired(rules(repeat=True, frames=frames), values)
    for index in at:
        assert all(value < 0.8 for value in values[index - frames + 1 : index + 1])
    for first, second in itertools.pairwise(at):
        between = values[first + 1 : second - frames + 1]
        runs = [between[k : k + frames] for k in range(len(between) - frames + 1)]
        assert any(all(value >= 0.85 for value in run) for run in runs)


def test_live_and_dry_run_agree() -> None:
    values = [0.9, 0.7, 0.7, 0.86, 0.86, 0.7, 0.7]
    readings = [Reading(k, float(k), "A", {"viability": v}, 50) for k, v in enumerate(values)]
    engine = RuleEngine(rules(repeat=True, frames=2))
    assert [f for r in readings for f in engine.update(r)] == dry_run(rules(repeat=True, frames=2), readings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "rules: [{name: a, when: {metric: viability}, do: [{action: stop}]}]",
            r"rule 'a'.*exactly one of below and above",
        ),
        (
            "rules: [{name: a, when: {metric: vitality, below: 1}, do: [{action: stop}]}]",
            r"\.metric: Input should be 'viability'",
        ),
        (
            "rules: [{name: a, when: {metric: viability, below: 1, clear: 0.5}, do: [{action: stop}]}]",
            "must not lie under",
        ),
        ("rules: [{name: a, when: {metric: viability, below: 1}, do: [{action: explode}]}]", "explode.*'snap'"),
        ("rules: [{name: a, when: {metric: viability, below: 1}, do: [{action: webhook, url: 'file:///x'}]}]", "http"),
        ("rules: [{name: a, when: {metric: viability, belov: 1}, do: [{action: stop}]}]", "belov"),
        (
            "rules: [{name: a, when: {metric: viability, below: 0.8, frame: 3}, do: [{action: stop}]}]",
            "rule 'a': unknown key 'when.0.frame'. Did you mean 'frames'?",
        ),
        (
            "rules: [{name: a, when: {metric: viability, below: 0.8}, do: [{action: snap, channel: C, exposure: 5}]}]",
            r"'do.0.snap.exposure'. Did you mean 'exposure_ms'\? Known here: 'action', 'channel', 'exposure_ms'",
        ),
        ("source: {kind: demo}", "unknown key 'source'. Known here: 'rules'"),
        (
            "rules: [{name: a, when: {metric: viability, below: 80}, do: [{action: stop}]}]",
            "viability lies between 0 and 1, not 80; 80 % is 0.8",
        ),
        ("rules: 3", r"should be a list \(given: 3\)"),
        ("", "hold a NoneType; expected is the key 'rules'"),
        ("[{name: a}]", "hold a list; expected is the key 'rules'"),
        ("rules: [", "not YAML"),
        ("rules: []\nrules: []", "not YAML: the key 'rules' stands twice, in line 1 and in line 2"),
        ("rules: &a [*a]", "not YAML"),
    ],
)
def test_wrong_rules_are_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says) as told:
        load_rules(path)
    assert str(told.value).count("rules.yaml") == 1  # nothing that only follows from it


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "nan", "inf", "yes"])
@pytest.mark.parametrize(
    "condition", ["{metric: n_dead, below: N}", "{metric: n_dead, above: N}", "{metric: n_dead, above: 1, clear: N}"]
)
def test_a_threshold_that_is_no_number(tmp_path: Path, condition: str, number: str) -> None:
    """A guard that would never fire, or always."""
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules: [{{name: a, when: {condition.replace('N', number)}, do: [{{action: stop}}]}}]")
    with pytest.raises(SettingsError, match=rf"rule 'a': when.0.\w+: Input should be a .*number.*{number}"):
        load_rules(path)


def test_a_cooldown_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    rule = "{name: a, when: {metric: n_dead, above: 1}, cooldown_s: .inf, do: [{action: stop}]}"
    path.write_text(f"rules: [{rule}]")
    with pytest.raises(SettingsError, match="cooldown_s"):
        load_rules(path)


def test_a_channel_whose_name_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{name: 7, when: {metric: viability, below: 0.8}, do: [{action: snap, channel: 0488}]}]")
    (rule,) = load_rules(path).rules
    assert (rule.name, rule.do[0].channel) == ("7", "0488")


def test_rules_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not YAML"):
        load_rules(path)


def test_same_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    rule = "{name: a, when: {metric: viability, below: 0.5}, do: [{action: stop}]}"
    path.write_text(f"rules: [{rule}, {rule}]")
    with pytest.raises(SettingsError, match="names must differ; twice: 'a'"):
        load_rules(path)


def test_condition_in_words() -> None:
    assert str(Condition(metric="death_rate_per_h", above=0.3)) == "death_rate_per_h > 0.3"


def test_the_example_in_configs_is_right() -> None:
    example = load_rules(Path(__file__).parents[2] / "configs" / "rules.yaml")
    assert [rule.name for rule in example.rules] == [
        "confirm the drop with the dye",
        "look closer while they die",
        "leave room on the disk",
    ]
