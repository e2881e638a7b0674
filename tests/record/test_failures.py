"""What a disk refuses is told once a kind, and again with grown counts; no kind hides another."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.record import failures
from livescope.record.failures import KINDS, Failures

TOO_LARGE = (
    'OUT_OF_RANGE: Error writing local file "/r/0/c/{0}/0": Failed to write {0} bytes to file {0}: File too large'
)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def tell(told: list[str], tmp_path: Path) -> Failures:
    return Failures(tmp_path / "r", lambda error: told.append(str(error)))


def test_a_failure_of_each_frame_is_one(tell: Failures, told: list[str]) -> None:
    for k in range(1, 50):
        tell.tell(TOO_LARGE.format(k), k, 0)
    tell.tell("the disk is full; free space", 50, 0)
    assert len(told) == 2
    assert "/r/0/c/1/0" in told[0]
    assert "the disk is full" in told[1]


def test_while_it_lasts_it_is_told_again_with_its_count(
    tell: Failures, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "REPEAT_S", 0.0)
    for k in range(1, 50):
        tell.tell(TOO_LARGE.format(k), k, 7)
    assert len(told) == 49
    assert told[-1] == told[0].replace("1 frames lost", "49 frames lost")
    assert tell.messages == [told[-1]]


def test_memory_is_bounded(tell: Failures, told: list[str]) -> None:
    for k in range(3 * KINDS):
        tell.tell(f"reason {'x' * k}", k, 0)
    assert len(tell.messages) == KINDS + 1
