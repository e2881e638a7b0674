"""LOST and STALLED."""

from __future__ import annotations

import threading

import pytest

from livescope.acquire.health import Health, HealthEvent, Pulse, Watchdog, judge
from livescope.acquire.lock import CameraLock


@pytest.mark.parametrize(
    ("running", "lost", "silent_s", "exposure_ms", "expected"),
    [
        (True, False, 1.9, 10, Health.OK),
        (True, False, 2.1, 10, Health.STALLED),
        (True, False, 4.9, 1000, Health.OK),
        (True, False, 5.1, 1000, Health.STALLED),
        (False, False, 60, 10, Health.OK),
        (False, True, 0, 10, Health.LOST),
    ],
)
def test_judgement(running: bool, lost: bool, silent_s: float, exposure_ms: float, expected: Health) -> None:
    health, why = judge(Pulse(running, lost, 100.0, exposure_ms, "gone"), 100.0 + silent_s)
    assert health is expected
    assert why


def test_the_watchdog_tells_every_change_once() -> None:
    pulse = [Pulse(True, False, float("-inf"), 1.0)]
    events: list[HealthEvent] = []
    told = threading.Event()

    def tell(event: HealthEvent) -> None:
        events.append(event)
        told.set()

    dog = Watchdog(lambda: pulse[0], tell)
    dog.start()
    assert told.wait(60)
    pulse[0] = Pulse(False, True, 0.0, 1.0, "unplugged")
    dog.finish()
    dog.join()
    dog.join()
    assert [(e.health, "unplugged" in e.message) for e in events] == [(Health.STALLED, False), (Health.LOST, True)]
    assert dog.error is None


def test_a_listener_that_raises_is_kept() -> None:
    def tell(event: HealthEvent) -> None:
        raise ValueError("bad listener")

    dog = Watchdog(lambda: Pulse(False, True, 0.0, 1.0), tell)
    dog.start()
    dog.finish()
    dog.join()
    assert isinstance(dog.error, ValueError)


def test_the_lock_tells_that_a_command_waits() -> None:
    lock = CameraLock()
    entered = threading.Event()

    def command() -> None:
        with lock:
            entered.set()

    with lock:
        assert not lock.contended
        with lock:  # re-entrant
            pass
        thread = threading.Thread(target=command)
        thread.start()
        while not lock.contended:
            assert not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert not lock.contended
