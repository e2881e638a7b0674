"""The instruments between threads."""

from __future__ import annotations

import itertools
import threading

import pytest

from livescope.meters import LatencyMeter, Mailbox, RateMeter, ThinningSeries


def test_mailbox_of_one_keeps_the_newest_and_hands_back_what_it_evicts() -> None:
    box = Mailbox[int](1)
    evicted = [box.put(i) for i in range(5)]
    assert evicted == [[], [0], [1], [2], [3]]
    assert box.get(0.0) == 4
    assert box.get(0.0) is None


def test_mailbox_of_many_is_a_queue_in_order() -> None:
    box = Mailbox[int](3)
    assert [box.put(i) for i in range(4)] == [[], [], [], [0]]
    assert [box.get(0.0) for _ in range(4)] == [1, 2, 3, None]


def test_closing_a_mailbox_wakes_a_waiting_reader() -> None:
    box = Mailbox[int]()
    got: list[int | None] = []
    reader = threading.Thread(target=lambda: got.append(box.get(60.0)))
    reader.start()
    box.close()
    reader.join(10.0)
    assert not reader.is_alive()
    assert got == [None]
    assert box.exhausted


def test_nothing_put_before_closing_is_lost() -> None:
    box = Mailbox[int](2)
    box.put(1)
    box.close()
    assert not box.exhausted
    assert box.get(0.0) == 1
    assert box.exhausted


def test_a_mailbox_between_threads_accounts_for_every_item() -> None:
    box, taken, evicted = Mailbox[int](4), [], []

    def write() -> None:
        for i in range(2000):
            evicted.extend(box.put(i))
        box.close()

    writer = threading.Thread(target=write)
    writer.start()
    while not box.exhausted:
        item = box.get(1.0)
        if item is not None:
            taken.append(item)
    writer.join()
    assert sorted(taken + evicted) == list(range(2000))
    assert taken == sorted(taken)


def test_rate_needs_two_events() -> None:
    meter = RateMeter()
    assert meter.rate_hz() == 0.0
    meter.tick()
    assert meter.rate_hz() == 0.0
    meter.tick()
    assert meter.rate_hz() > 0.0


def test_latency_percentiles() -> None:
    meter = LatencyMeter()
    assert meter.percentiles_ms() is None
    for latency_ms in range(101):
        meter.add(float(latency_ms))
    assert meter.percentiles_ms() == pytest.approx((50.0, 95.0, 99.0))


def test_series_stays_bounded_and_spans_the_whole_run() -> None:
    series = ThinningSeries[int](keep=100)
    for i in range(10_000):
        series.append(i)
    kept = series.items()
    assert len(kept) <= 100
    assert kept[0] == 0
    assert kept[-1] > 9_800
    steps = {b - a for a, b in itertools.pairwise(kept)}
    assert len(steps) == 1
