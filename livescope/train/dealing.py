"""Which labelled fields train a network, which stop and calibrate it, and which test it.

Owns `Part` and the dealing: whole groups, each once however many data sets it lies in, groups that share a picture as
one, and none to the test that the network to start from has learnt from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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

    Groups that share a picture (of the same pixels, under any name) are one, and data sets that share a group are dealt
    as one, so that nothing is trained on here and tested there.

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
    fields = [field for dataset in datasets for field in dataset.fields]
    prints = [fingerprint(field) for field in fields]
    one_of = _united([field.group for field in fields], prints)
    known = {one_of[field.group] for field, named in zip(fields, prints, strict=True) if named in seen}
    parts: dict[int, Part] = {}
    for kin in _kin(datasets, one_of):
        parts |= zip(kin, _dealt([datasets[k] for k in kin], settings, one_of, known), strict=True)
    return [parts[k] for k in range(len(datasets))]


def _united(groups: Sequence[str], prints: Sequence[str]) -> dict[str, str]:
    """Name each group by the first in the alphabet of those that it shares a picture with, also by way of others.

    Parameters
    ----------
    groups, prints
        Group and fingerprint of each field.
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    pictures, picture = np.unique(np.asarray(prints, dtype=str), return_inverse=True)
    size = len(names) + len(pictures)
    links = coo_array((np.ones(len(group)), (group, len(names) + picture)), shape=(size, size))
    united = connected_components(links, directed=False)[1][: len(names)]
    first = np.unique(united, return_index=True)[1]
    return {str(name): str(names[first[k]]) for name, k in zip(names, united, strict=True)}


def _kin(datasets: Sequence[Dataset], one_of: Mapping[str, str]) -> list[list[int]]:
    """Lay together the numbers of data sets that share a group, also by way of others."""
    kin: list[tuple[list[int], set[str]]] = []
    for number, dataset in enumerate(datasets):
        numbers, groups, strangers = [number], {one_of[field.group] for field in dataset.fields}, []
        for others, theirs in kin:
            if groups & theirs:
                numbers, groups = [*others, *numbers], groups | theirs
            else:
                strangers.append((others, theirs))
        kin = [*strangers, (numbers, groups)]
    return [numbers for numbers, _ in kin]


def _dealt(
    datasets: Sequence[Dataset], settings: TrainSettings, one_of: Mapping[str, str], seen: set[str]
) -> list[Part]:
    """Deal kin by the groups that `_united` names; `seen` are those that the start has learnt from."""
    groups = [field.group for dataset in datasets for field in dataset.fields]
    names, (learn, check), seed = [one_of[group] for group in groups], settings.fractions, settings.fit.seed
    known = seen.intersection(names)
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
        shared = " (those that share a picture are one)" if count < len(set(groups)) else ""
        raise SourceError(f"{described}: {count} groups{shared} cannot be split into {what}; {way}.")
    note = ""
    if not (test or untested):
        note = f"The network to start from has seen {len(known)} of the {count} groups of {described}: no test is left"

    def of(dataset: Dataset, part: set[str]) -> list[Field]:
        return [field for field in dataset.fields if one_of[field.group] in part]

    return [Part(one, of(one, train), of(one, valid), of(one, test), note) for one in datasets]
