"""Which labelled fields train a network, which stop and calibrate it, and which test it.

Owns `Part` and the dealing: whole groups, each once however many data sets it lies in, and none to the test that the
network to start from has learnt from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from livescope.errors import SourceError
from livescope.train.data import Field, fingerprint, split_groups
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset

__all__ = ["Part", "deal"]


@dataclass(slots=True, frozen=True)
class Part:
    """One data set of the config, dealt by group: `valid` stops the training and chooses the thresholds.

    `note` says why nothing is left for `test` where something was asked for, empty where it is as asked.
    """

    dataset: Dataset
    train: list[Field]
    valid: list[Field]
    test: list[Field]
    note: str = ""


def deal(datasets: Sequence[Dataset], settings: TrainSettings, seen: Collection[str] = ()) -> list[Part]:
    """Deal data sets by group into training, validation and test, always in the same way.

    Data sets that share a group are dealt as one, so that no group of theirs is trained on here and tested there.

    Parameters
    ----------
    datasets
        What there is.
    settings
        `fractions`, and the seed of `fit`.
    seen
        Fingerprints of the fields that the network to start from has learnt from. Their groups are for training and
        validation only: a test on them would flatter, and so would a comparison with that network.

    Raises
    ------
    SourceError
        There are too few groups.
    """
    parts: dict[int, Part] = {}
    for kin in _kin(datasets):
        parts |= zip(kin, _dealt([datasets[k] for k in kin], settings, seen), strict=True)
    return [parts[k] for k in range(len(datasets))]


def _kin(datasets: Sequence[Dataset]) -> list[list[int]]:
    """Lay together the numbers of data sets that share a group, also by way of others."""
    kin: list[tuple[list[int], set[str]]] = []
    for number, dataset in enumerate(datasets):
        numbers, groups, strangers = [number], {field.group for field in dataset.fields}, []
        for others, theirs in kin:
            if groups & theirs:
                numbers, groups = [*others, *numbers], groups | theirs
            else:
                strangers.append((others, theirs))
        kin = [*strangers, (numbers, groups)]
    return [numbers for numbers, _ in kin]


def _dealt(datasets: Sequence[Dataset], settings: TrainSettings, seen: Collection[str]) -> list[Part]:
    fields = [field for dataset in datasets for field in dataset.fields]
    known = {field.group for field in fields if fingerprint(field) in seen} if seen else set()
    names, (learn, check), seed = [field.group for field in fields], settings.fractions, settings.fit.seed
    if known:
        # the test takes its part of the new groups only; of the others each is for training or validation
        test = split_groups([name for name in names if name not in known], (learn + check,), seed)[1]
        train, valid = split_groups([name for name in names if name not in test], (learn / (learn + check),), seed)
    else:
        train, valid, test = split_groups(names, settings.fractions, seed)
    untested = learn + check > 1 - 1e-6  # asked for: the bundle then has no validation of its own
    described, count = "; ".join(dataset.described for dataset in datasets), len(set(names))
    if not (train and valid and (test or untested or known)):
        if untested or count < 2:
            what, way = "training and validation", "label more groups, or name smaller ones (group of the data)"
        else:
            what = "training, validation and test"
            way = "label more groups, name smaller ones (group of the data), or test on none (fractions: [0.75, 0.25])"
        raise SourceError(f"{described}: {count} groups cannot be split into {what}; {way}.")
    note = ""
    if not (test or untested):
        note = f"The network to start from has seen {len(known)} of the {count} groups of {described}: no test is left"
    return [Part(one, _of(one, train), _of(one, valid), _of(one, test), note) for one in datasets]


def _of(dataset: Dataset, groups: set[str]) -> list[Field]:
    return [field for field in dataset.fields if field.group in groups]
