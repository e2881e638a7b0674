from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from livescope.errors import SettingsError
from livescope.respond.actions import TOO_LATE, ActionRunner, Outcome, check_allowed
from livescope.respond.rules import Firing, Rules


class Bench:
    """A microscope that writes down what it is asked, and refuses channels it does not have."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def snap_channel(self, position: str | None, channel: str, exposure_ms: float | None, reason: str) -> None:
        if channel == "none":
            raise RuntimeError("no channel 'none'")
        self.done.append(("snap", position, channel, exposure_ms, reason))

    def set_exposure_ms(self, exposure_ms: float) -> None:
        self.done.append(("exposure", exposure_ms))

    def set_interval_s(self, seconds: float) -> None:
        self.done.append(("interval", seconds))

    def revisit(self, position: str | None, reason: str) -> None:
        self.done.append(("revisit", position, reason))

    def skip(self, position: str | None) -> None:
        self.done.append(("skip", position))

    def add_position(self, beside: str | None, dx_um: float, dy_um: float) -> None:
        self.done.append(("add", beside, dx_um, dy_um))

    def stop_run(self, reason: str) -> None:
        self.done.append(("stop", reason))


def rules_of(*actions: dict[str, Any]) -> Rules:
    rule = {"name": "drop", "when": {"metric": "viability", "below": 0.8}, "do": list(actions)}
    return Rules.model_validate({"rules": [rule]})


def carry_out(*actions: dict[str, Any], allow: bool = False) -> tuple[Bench, list[Outcome]]:
    bench, outcomes = Bench(), list[Outcome]()
    runner = ActionRunner(bench, allow_actions=allow, on_outcome=outcomes.append)
    runner.put([Firing("drop", "A1", 7, 12.5, "viability < 0.8 (0.7), 90 cells", rules_of(*actions).rules[0].do)])
    assert runner.close(30)
    return bench, outcomes


def test_every_action_reaches_the_microscope_in_order() -> None:
    bench, outcomes = carry_out(
        {"action": "snap", "channel": "Cy5", "exposure_ms": 100},
        {"action": "set_exposure", "exposure_ms": 20},
        {"action": "set_interval", "seconds": 60},
        {"action": "revisit"},
        {"action": "skip"},
        {"action": "add_position", "dx_um": 300, "dy_um": 0},
        {"action": "stop"},
    )
    reason = "drop: viability < 0.8 (0.7), 90 cells"
    assert bench.done == [
        ("snap", "A1", "Cy5", 100.0, reason),
        ("exposure", 20.0),
        ("interval", 60.0),
        ("revisit", "A1", reason),
        ("skip", "A1"),
        ("add", "A1", 300.0, 0.0),
        ("stop", reason),
    ]
    assert all(outcome.ok for outcome in outcomes)


def test_a_failing_action_is_noted_and_the_next_is_carried_out() -> None:
    bench, outcomes = carry_out({"action": "snap", "channel": "none"}, {"action": "skip"})
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert outcomes[0].message == "RuntimeError: no channel 'none'"
    assert bench.done == [("skip", "A1")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({"action": "add_position", "dx_um": 0, "dy_um": 0}, "dx_um"),
        ({"action": "add_position", "dx_um": 0, "dy_um": 0}, "dy_um"),
        ({"action": "set_interval"}, "seconds"),
        ({"action": "set_exposure"}, "exposure_ms"),
        ({"action": "snap", "channel": "Cy5"}, "exposure_ms"),
        ({"action": "command", "args": ["true"]}, "timeout_s"),
        ({"action": "webhook", "url": "http://x"}, "timeout_s"),
    ],
)
def test_what_is_no_number_is_refused(action: dict[str, Any], field: str, number: float) -> None:
    with pytest.raises(ValidationError, match=f"{field}\n.*(finite|greater|less)"):
        rules_of({**action, field: number})


def test_an_interval_is_a_week_at_most() -> None:
    rules_of({"action": "set_interval", "seconds": 604_800})
    with pytest.raises(ValidationError, match="less than or equal to 604800"):
        rules_of({"action": "set_interval", "seconds": 1e12})  # no thread waits that long


def command(text: str, **more: Any) -> dict[str, Any]:
    return {"action": "command", "args": [sys.executable, "-c", text], **more}


def test_a_command_learns_why() -> None:
    told = "import os; print(*(os.environ['LIVESCOPE_' + name] for name in ('RULE', 'POSITION', 'FRAME')))"
    _, (outcome,) = carry_out(command(told), allow=True)
    assert (outcome.ok, outcome.message) == (True, "drop A1 7")


def test_a_command_that_fails_hangs_or_is_missing() -> None:
    missing = {"action": "command", "args": ["no-such-program-here"]}
    hanging = command("import time; time.sleep(60)", timeout_s=0.5)
    _, outcomes = carry_out(command("raise SystemExit('broken')"), hanging, missing, allow=True)
    assert [outcome.ok for outcome in outcomes] == [False, False, False]
    assert "exit status 1: broken" in outcomes[0].message
    assert "TimeoutExpired" in outcomes[1].message
    assert "no-such-program-here" in outcomes[2].message


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if self.path == "/ok" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhook(listener: tuple[str, list[dict[str, Any]]]) -> None:
    url, heard = listener
    _, outcomes = carry_out(
        {"action": "webhook", "url": f"{url}/ok"}, {"action": "webhook", "url": f"{url}/bad"}, allow=True
    )
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert outcomes[0].message == "status 204"
    assert "500" in outcomes[1].message
    assert heard[0] == {"rule": "drop", "position": "A1", "frame": 7, "time_s": 12.5, "reason": heard[0]["reason"]}


@pytest.mark.parametrize("action", [{"action": "command", "args": ["true"]}, {"action": "webhook", "url": "http://x"}])
def test_reaching_out_needs_leave(action: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"'drop'.*--allow-actions"):
        check_allowed(rules_of(action), allow_actions=False)
    check_allowed(rules_of(action), allow_actions=True)
    check_allowed(rules_of({"action": "skip"}), allow_actions=False)
    _, (outcome,) = carry_out(action)  # and the runner itself refuses
    assert not outcome.ok
    assert "--allow-actions" in outcome.message


class Slow(Bench):
    """Its skips take until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.gate = threading.Event(), threading.Event()

    def skip(self, position: str | None) -> None:
        self.begun.set()
        self.gate.wait(30)
        super().skip(position)


def slow_runner() -> tuple[Slow, ActionRunner, list[Outcome]]:
    bench, outcomes = Slow(), list[Outcome]()
    return bench, ActionRunner(bench, allow_actions=False, on_outcome=outcomes.append), outcomes


def firing_of(*actions: str) -> Firing:
    return Firing("drop", None, 0, 0.0, "why", rules_of(*({"action": action} for action in actions)).rules[0].do)


def test_too_many_actions_are_refused_not_waited_for() -> None:
    bench, runner, outcomes = slow_runner()
    runner.put([firing_of("skip")] * 100)
    refused = [outcome for outcome in outcomes if not outcome.ok]
    assert len(refused) >= 100 - 65
    assert "waiting" in refused[0].message
    runner.put([firing_of("stop")])
    assert bench.done == [("stop", "drop: why")]
    bench.gate.set()
    assert runner.close(30)
    assert len(outcomes) == 101


def test_a_stop_waits_for_its_own_rule_only() -> None:
    bench, runner, outcomes = slow_runner()
    runner.put([firing_of("skip", "stop"), firing_of("revisit"), firing_of("stop")])
    assert bench.done == [("stop", "drop: why")]
    assert [(outcome.action, outcome.ok) for outcome in outcomes] == [("stop", True)]
    bench.gate.set()
    assert runner.close(30)
    assert [what for what, *_ in bench.done] == ["stop", "skip", "stop", "revisit"]
    assert [outcome.action for outcome in outcomes] == ["stop", "skip", "stop", "revisit"]


def test_what_had_no_turn_when_the_run_ends_is_dropped_and_says_so() -> None:
    bench, runner, outcomes = slow_runner()
    runner.put([firing_of("skip", "revisit"), firing_of("stop")])
    assert bench.begun.wait(30)
    assert not runner.close(0.01)
    assert [(outcome.action, outcome.ok, outcome.message) for outcome in outcomes] == [
        ("stop", True, "done"),
        ("revisit", False, TOO_LATE),
    ]
    bench.gate.set()
    assert runner.close(30)  # the thread is at its end
    assert [what for what, *_ in bench.done] == ["stop", "skip"]
    assert [outcome.action for outcome in outcomes] == ["stop", "revisit", "skip"]
