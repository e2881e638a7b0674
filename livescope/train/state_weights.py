"""How much each marked state counts in training: so much that the group it was seen in does not give it away.

Owns that arithmetic. An experiment in which most cells died looks like no other in light, density and company; a
network that learns the look of the experiment instead of the look of death fails on the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from livescope.calls import State
from livescope.train.data import Field

__all__ = ["state_weights"]

_PRIOR_CELLS = 10.0
"""Cells of the usual mixture that every group is given besides its own: a handful of cells is no mixture of its own."""


def state_weights(fields: Sequence[Field]) -> dict[str, NDArray[np.float32]]:
    """Weigh states as if live and dead were as frequent in every group as they are in all of them together.

    A state's weight is its frequency in all over that in its group: the stabilised inverse propensity weights of Robins
    et al. 2000 (Epidemiology 11:550), with the group in the place of the confounder.

    Parameters
    ----------
    fields
        Of the training.

    Returns
    -------
    Of each group (256,), by code of `State`; 1 for states that are not known.
    """
    counts: dict[str, NDArray[np.float64]] = {}
    for field in fields:
        own = np.array([np.sum(field.state == state) for state in (State.LIVE, State.DEAD)], float)
        counts[field.group] = counts.get(field.group, np.zeros(2)) + own
    every = sum(counts.values(), np.zeros(2))
    weights = {group: np.ones(256, np.float32) for group in counts}
    if every.all():
        usual = every / every.sum()
        for group, own in counts.items():
            frequency = (own + _PRIOR_CELLS * usual) / (own.sum() + _PRIOR_CELLS)
            weights[group][[State.LIVE, State.DEAD]] = usual / frequency
    return weights
