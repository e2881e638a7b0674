"""The arithmetic of losses, by properties."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livescope.acquire import account as module
from livescope.acquire import health
from livescope.acquire.account import CameraAccount
from livescope.simulate import fake_core


@pytest.mark.parametrize("which", [module, health, fake_core])
def test_examples_run(which: object) -> None:
    assert doctest.testmod(which).failed == 0  # type: ignore[arg-type]


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_delivered_and_lost_are_all_that_was_made(arrives: list[bool]) -> None:
    arrives[-1] = True  # what is lost after the last frame leaves no trace; the loop stops at a frame
    account = CameraAccount()
    lost = sum(account.see(n, 10.0 * n).core for n, here in enumerate(arrives) if here)
    assert lost + sum(arrives) == len(arrives) == account.produced


def test_a_foreign_stream_begins_at_its_first_number() -> None:
    account = CameraAccount(first=None)
    assert account.see(500, None).core == 0
    assert account.see(503, None).core == 2
    assert account.produced == 4


def test_a_numbering_that_begins_again_is_told() -> None:
    account = CameraAccount()
    account.see(0, 0.0)
    account.see(1, 10.0)
    gap = account.see(2, 20.0)
    assert not gap.restarted
    gap = account.see(1, 5.0)
    assert gap.restarted
    assert gap.core == 1


def clock(steps: list[float], lost: dict[int, int], period: float = 20.0) -> int:
    """Suspected losses for frames that deviate by `steps` ms from a steady clock, `lost[k]` missing before frame k."""
    account, missing, suspected = CameraAccount(), 0, 0
    for k, deviation in enumerate(steps):
        missing += lost.get(k, 0)
        suspected += account.see(k, (k + missing) * period + deviation).camera
    return suspected


@pytest.mark.parametrize("count", [1, 2, 7])
def test_frames_lost_in_the_camera_are_suspected_by_its_clock(count: int) -> None:
    assert clock([0.0] * 100, {60: count}) == count
    assert clock([0.3 * (k % 3) for k in range(100)], {60: count}) == count


def test_late_frames_that_are_caught_up_are_no_loss() -> None:
    late = [0.0] * 100
    late[60], late[61] = 45.0, 25.0
    assert clock(late, {}) == 0


def test_an_unsteady_clock_is_no_witness() -> None:
    assert clock([9.0 * (k % 2) for k in range(100)], {60: 3}) == 0


def test_a_clock_of_whole_milliseconds_is_no_witness_of_a_fast_camera() -> None:
    account = CameraAccount()
    assert sum(account.see(k, float(int(1.2 * k))).camera for k in range(500)) == 0


def test_a_rate_that_changes_by_itself_is_no_loss_and_is_learned_anew() -> None:
    account, elapsed, suspected = CameraAccount(), 0.0, 0
    for k in range(300):
        elapsed += 10.0 if k < 100 else 15.0
        suspected += account.see(k, elapsed).camera
    assert suspected == 0
    assert account.see(300, elapsed + 45.0).camera == 0  # told only once the frames after it are steady
    assert sum(account.see(301 + k, elapsed + 45.0 + 15.0 * (k + 1)).camera for k in range(20)) == 2


def test_a_new_exposure_is_no_loss() -> None:
    account = CameraAccount()
    suspected = sum(account.see(k, 10.0 * k).camera for k in range(50))
    account.forget_clock()
    suspected += sum(account.see(50 + k, 500.0 + 40.0 * k).camera for k in range(50))
    assert suspected == 0


def test_losses_in_the_core_are_not_suspected_again() -> None:
    account = CameraAccount()
    gaps = [account.see(k, 10.0 * k) for k in range(100) if not 60 <= k < 70]
    assert sum(g.core for g in gaps) == 10
    assert sum(g.camera for g in gaps) == 0


def test_without_numbers_only_the_clock_speaks() -> None:
    account = CameraAccount()
    assert [account.see(None, 10.0 * k).core for k in range(5)] == [0] * 5
    assert account.produced == 5


def test_pictures_taken_apart_say_nothing_of_the_numbered_frames_around_them() -> None:
    account = CameraAccount()
    gaps = [account.see(number, None) for number in (0, 1, None, None, None, 2, 3, 6)]
    assert [gap.core for gap in gaps] == [0, 0, 0, 0, 0, 0, 0, 2]
    assert not any(gap.restarted for gap in gaps)
    assert account.produced == 7
