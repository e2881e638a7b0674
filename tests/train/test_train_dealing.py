"""Who trains, who calibrates, who tests: no group on two sides, and no test on what the start has learnt from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from livescope.errors import SourceError
from livescope.train.data import Field, fingerprint, split_groups
from livescope.train.dealing import Part, deal
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset, Simulated

SETTINGS = TrainSettings(name="x", data=(Simulated(),), fractions=(0.8, 0.1))
NONE = np.zeros((0, 2), np.float32), np.zeros((0, 4, 2), np.float32), np.zeros(0, np.uint8)


def fields(groups: list[str], shots: int = 1, first: int = 0) -> list[Field]:
    """Pictures that differ, some of each group."""
    return [
        Field(f"{group}-{shot}", group, np.full((4, 4), first + shots * k + shot, np.uint8), *NONE)
        for k, group in enumerate(groups)
        for shot in range(shots)
    ]


def dataset(some: list[Field]) -> Dataset:
    return Dataset(some, None, 0.5, True, f"{len(some)} fields")


def groups_of(some: list[Field]) -> set[str]:
    return {field.group for field in some}


def dealt(part: Part) -> tuple[int, int, int]:
    return len(groups_of(part.train)), len(groups_of(part.valid)), len(groups_of(part.test))


def test_without_a_start_groups_are_dealt_as_ever() -> None:
    some = fields([f"g{k:02}" for k in range(20)], shots=2)
    (part,) = deal([dataset(some)], SETTINGS)
    expected = split_groups([field.group for field in some], SETTINGS.fractions, SETTINGS.fit.seed)
    assert [groups_of(one) for one in (part.train, part.valid, part.test)] == expected
    assert part.note == ""


def test_too_few_groups_are_told_what_would_do() -> None:
    with pytest.raises(SourceError, match=r"2 groups cannot be split .* test on none \(fractions: \[0.75, 0.25\]\)"):
        deal([dataset(fields(["a", "b"]))], SETTINGS)
    without = SETTINGS.model_copy(update={"fractions": (0.75, 0.25)})
    for seed in range(6):  # a large and a small one, in either order
        seeded = without.model_copy(update={"fit": without.fit.model_copy(update={"seed": seed})})
        (part,) = deal([dataset(fields(["a", "a", "a", "b"]))], seeded)
        assert dealt(part) == (1, 1, 0)
    for settings in (SETTINGS, without):
        with pytest.raises(SourceError, match=r"1 groups cannot be split into training and validation; label more"):
            deal([dataset(fields(["a", "a"]))], settings)


def test_label_more_and_train_again_from_the_first_network() -> None:
    some = fields([f"g{k:02}" for k in range(40)], shots=2)
    (first,) = deal([dataset(some[:40])], SETTINGS)
    # of each group one picture was seen: its near duplicates are no test either
    seen = {fingerprint(field) for field in (*first.train, *first.valid) if field.name.endswith("-0")}
    (second,) = deal([dataset(some)], SETTINGS, seen)
    known = groups_of(first.train) | groups_of(first.valid)
    assert not groups_of(second.test) & known
    new = {field.group for field in some} - known
    assert dealt(second)[2] == round(0.1 * len(new))
    assert len(groups_of(second.train) & new) > len(new) / 2, "what was labelled since is learnt from"
    assert sum(dealt(second)) == 40
    assert second.note == ""


@pytest.mark.parametrize(("known", "expected"), [(5, (4, 1, 0)), (4, (4, 1, 0)), (3, (3, 1, 1)), (1, (3, 1, 1))])
def test_of_few_new_groups_one_is_for_the_test_where_another_can_be_learnt(
    known: int, expected: tuple[int, int, int]
) -> None:
    some = fields(list("abcde"))
    (part,) = deal([dataset(some)], SETTINGS, {fingerprint(field) for field in some[:known]})
    assert dealt(part) == expected
    assert groups_of(part.test) <= set("abcde"[known:])
    assert part.note == (
        "" if part.test else f"The network to start from has seen {known} of the 5 groups of 5 fields: no test is left"
    )
    untested = SETTINGS.model_copy(update={"fractions": (0.8, 0.2)})
    (part,) = deal([dataset(some)], untested, {fingerprint(field) for field in some[:known]})
    assert (len(part.test), part.note) == (0, "")


def test_an_experiment_in_two_data_sets_is_dealt_once() -> None:
    one = fields([f"exp{k:02}" for k in range(12)])
    other = fields([f"exp{k:02}" for k in range(3, 13)], first=100)
    third = fields(["exp12", "exp99"], first=150)  # shares a group with the second only
    alone = fields([f"day{k}" for k in range(9)], first=200)
    parts = deal([dataset(one), dataset(alone), dataset(other), dataset(third)], SETTINGS)
    assert [part.dataset.fields for part in parts] == [one, alone, other, third]
    learnt = groups_of([field for part in parts for field in (*part.train, *part.valid)])
    assert not groups_of([field for part in parts for field in part.test]) & learnt
    assert not groups_of([f for part in parts for f in part.train]) & groups_of([f for p in parts for f in p.valid])
    assert deal([dataset(alone)], SETTINGS) == [parts[1]], "a data set of its own groups is dealt by itself"


def test_a_picture_seen_in_one_data_set_keeps_its_group_from_the_test_of_another() -> None:
    one = fields([f"exp{k}" for k in range(9)])
    other = fields([f"exp{k}" for k in range(9)], first=100)
    parts = deal([dataset(one), dataset(other)], SETTINGS, {fingerprint(field) for field in one[:6]})
    assert groups_of([f for part in parts for f in part.test]) <= {"exp6", "exp7", "exp8"}
    assert all(part.test for part in parts)


def test_a_picture_under_two_names_is_never_trained_on_here_and_tested_there() -> None:
    """The same pictures as outlines and as boxes once had groups of different names, dealt each by itself."""
    for seed in range(6):
        seeded = SETTINGS.model_copy(update={"fit": SETTINGS.fit.model_copy(update={"seed": seed})})
        outlines, boxes = fields([f"img{k:02}" for k in range(20)]), fields([f"day{k // 2}" for k in range(20)])
        alone = fields([f"other{k}" for k in range(9)], first=100)
        parts = deal([dataset(outlines), dataset(alone), dataset(boxes)], seeded)
        trained, checked, tested = (
            {fingerprint(field) for part in parts for field in getattr(part, which)}
            for which in ("train", "valid", "test")
        )
        assert not trained & tested
        assert not trained & checked
        assert not checked & tested
        assert len(trained | checked | tested) == 29
        assert deal([dataset(alone)], seeded) == [parts[1]]


def test_groups_that_share_a_picture_count_as_one() -> None:
    """Also by way of others, and with what the start has seen."""
    chain = [replace(one, group=f"g{k + n}") for k, one in enumerate(fields(list("abcd"))) for n in (0, 1)]
    rest = fields([f"h{k}" for k in range(8)], first=50)
    (part,) = deal([dataset(chain + rest)], SETTINGS, {fingerprint(chain[-1])})
    assert part.test
    assert groups_of(part.test) <= groups_of(rest)
    with pytest.raises(SourceError, match=r"1 groups \(those that share a picture are one\) cannot be split"):
        deal([dataset(chain)], SETTINGS)
