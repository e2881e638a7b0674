"""Which frames are called: every one while the detector keeps up, the newest while it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livescope.cadence import BACKLOG, CALM, CAPACITY, AnalysisQueue, Cadence
from livescope.frames import Frame

PIXELS = np.zeros((1, 1), np.uint8)


def frame(index: int, camera: str = "Camera") -> Frame:
    return Frame(PIXELS, index, 0, camera, 0.0, 0.0, 8)


def indices(frames: list[Frame]) -> list[int]:
    return [one.index for one in frames]


def drain(queue: AnalysisQueue) -> list[int]:
    taken = []
    while (one := queue.get(0.0)) is not None:
        taken.append(one.index)
    return taken


def test_the_newest_of_each_camera() -> None:
    queue = AnalysisQueue(every=False)
    assert queue.cadence is Cadence.NEWEST
    skipped = [indices(queue.put(frame(k, "AB"[k % 2]))) for k in range(6)]
    assert skipped == [[], [], [0], [1], [2], [3]]
    assert drain(queue) == [4, 5]


def test_every_frame_in_order_up_to_a_limit() -> None:
    queue = AnalysisQueue(every=True)
    skipped = [k for n in range(CAPACITY + 3) for k in indices(queue.put(frame(n)))]
    assert skipped == [0, 1, 2]
    assert drain(queue) == list(range(3, CAPACITY + 3))
    assert queue.cadence is Cadence.EVERY


def test_a_detector_that_keeps_up_gets_every_frame() -> None:
    queue = AnalysisQueue(every=None)
    for k in range(1000):
        assert queue.put(frame(k)) == []
        if k % BACKLOG == BACKLOG - 1:  # late now and then
            drain(queue)
    assert queue.cadence is Cadence.EVERY


def test_it_falls_back_to_the_newest_and_returns_when_the_detector_keeps_up_again() -> None:
    queue, number, proofs = AnalysisQueue(every=None), 0, []
    for _ in range(3):
        skipped: list[int] = []
        while queue.cadence is Cadence.EVERY:  # nobody reads
            skipped += indices(queue.put(frame(number)))
            number += 1
        assert len(skipped) == BACKLOG
        assert drain(queue) == [number - 1]  # nothing old is called after that
        proofs.append(0)
        while queue.cadence is Cadence.NEWEST:
            assert queue.put(frame(number)) == []
            drain(queue)
            number, proofs[-1] = number + 1, proofs[-1] + 1
    assert proofs == [CALM, 2 * CALM, 4 * CALM]


@pytest.mark.parametrize("every", [None, True, False])
@given(reads=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ABC")), max_size=200))
def test_every_frame_is_called_or_handed_back_once(every: bool | None, reads: list[tuple[int, str]]) -> None:
    queue = AnalysisQueue(every)
    called: list[int] = []
    skipped: list[int] = []
    for k, (count, camera) in enumerate(reads):
        skipped += indices(queue.put(frame(k, camera)))
        called += [one.index for one in (queue.get(0.0) for _ in range(count)) if one is not None]
    queue.close()
    called += drain(queue)
    assert queue.exhausted
    assert sorted(called + skipped) == list(range(len(reads)))
    assert called == sorted(called)
    assert reads == [] or len(reads) - 1 in called
