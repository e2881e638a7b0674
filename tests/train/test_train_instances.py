from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from livescope.detect.bundle import load_bundle
from livescope.train.data import simulated_fields
from livescope.train.evaluate import call_fields
from livescope.train.instances import Instances, _with_interval, match_instances, outline_scores, painted


def squares(*corners: tuple[int, int], side: int = 10) -> np.ndarray:
    labels = np.zeros((60, 60), np.int32)
    for value, (y, x) in enumerate(corners, 1):
        labels[y : y + side, x : x + side] = value
    return labels


def test_equal_images_agree_whatever_their_values() -> None:
    truth = squares((0, 0), (20, 20), (40, 5))
    assert match_instances(truth, truth * 7) == Instances(3, 3, 3)
    assert match_instances(truth, truth * 7).f1 == 1.0


@pytest.mark.parametrize(("shift", "matched"), [(0, 1), (3, 1), (4, 0), (10, 0)])
def test_the_overlap_decides(shift: int, matched: int) -> None:
    # a square of 10 moved by 3: 70 / 130 = .54; by 4: 60 / 140 = .43
    assert match_instances(squares((5, 5)), squares((5, 5 + shift))) == Instances(matched, 1, 1)


def test_merged_split_missed_and_false_cells_count() -> None:
    truth = squares((0, 0), (0, 10), (30, 30))
    merged = truth.copy()
    merged[merged == 2] = 1
    assert match_instances(truth, merged) == Instances(2, 3, 2)  # half of the merged one is 100 / 200: just enough
    assert match_instances(truth, squares((50, 0))) == Instances(0, 3, 1)
    assert match_instances(truth, np.zeros_like(truth)) == Instances(0, 3, 0)


def test_low_overlaps_are_paired_for_most_matches() -> None:
    truth = np.array([[1, 1, 1, 2, 2, 2, 2, 2]])
    called = np.array([[5, 5, 5, 5, 5, 5, 6, 6]])  # 5 overlaps both (3/6 and 3/8), 6 only the second (2/5)
    assert match_instances(truth, called, least_iou=0.3).matched == 2


def test_fields_add_up_and_nothing_has_no_f1() -> None:
    empty = np.zeros((5, 5), np.uint16)
    assert math.isnan(match_instances(empty, empty).f1)
    total = Instances(1, 2, 2) + Instances(2, 2, 4)
    assert total == Instances(3, 4, 6)
    assert total.f1 == 0.6


def test_outlines_are_painted_in_pixels() -> None:
    square = np.array([[4.5, 4.5], [4.5, 14.5], [14.5, 14.5], [14.5, 4.5]])
    labels = painted(np.stack([square, square + 20]), (60, 60))
    assert (labels == squares((5, 5), (25, 25))).all()


def test_outlines_of_simulated_cells_are_scored_with_intervals() -> None:
    bundle, fields = load_bundle("simulated"), simulated_fields(3, seed=77, side_px=256, pixel_um=1.3)
    calls = call_fields(bundle, fields, 1.3)
    scores = outline_scores(bundle, fields, calls, 1.3)
    assert scores is not None
    assert set(scores) == {"rays", "refined"}
    for one in scores.values():
        assert one["interval"][0] <= one["value"] <= one["interval"][1] <= 1
        assert one["value"] > 0.7
    boxes = [replace(field, visible_only=True) for field in fields]
    assert outline_scores(bundle, boxes, calls, 1.3) is None
    alone = outline_scores(bundle, fields[:1], calls[:1], 1.3)
    assert alone is not None
    assert alone["rays"]["interval"] is None
    two = outline_scores(bundle, fields[:2], calls[:2], 1.3)
    assert two is not None
    assert two["rays"]["interval"] is None, "two groups tell nothing of a third"


def test_intervals_of_outlines_hold_more_than_their_resamples() -> None:
    groups = [Instances(k, 20, 20) for k in (14, 16, 18)]
    scored = _with_interval(groups)
    low, high = scored["interval"]
    assert scored["value"] == pytest.approx(0.8)
    assert low < 0.7 < 0.9 < high < 1, "the groups' own span 0.7 to 0.9, and all resamples lie in it"
    assert _with_interval([*groups, *[Instances()] * 3])["interval"] is not None
    assert _with_interval([*groups[:2], *[Instances()] * 3])["interval"] is None, "two of five groups hold cells"
    assert _with_interval([Instances(20, 20, 20)] * 5) == {"value": 1.0, "interval": None}
    assert _with_interval([Instances()] * 5)["interval"] is None
