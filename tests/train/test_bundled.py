"""Golden frames: the networks that ship, on pictures that their training never saw."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from livescope.calls import State
from livescope.detect.bundle import bundled_names, load_bundle
from livescope.train.data import read_coco, simulated_fields, split_groups
from livescope.train.evaluate import call_fields
from livescope.train.scoring import match_field, score

DATA = Path(os.environ.get("LIVESCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize("name", bundled_names())
def test_bundles_are_small_and_say_what_they_are_good_for(name: str) -> None:
    bundle = load_bundle(name)
    assert bundle.onnx_path.stat().st_size < 2_000_000
    assert bundle.card.validation
    assert len(bundle.card.limits) > 40


def test_simulated_on_an_unseen_culture() -> None:
    fields = simulated_fields(4, seed=77, side_px=512)
    calls = call_fields(load_bundle("simulated"), fields, pixel_um=0.65)
    found = score([match_field(f, c, reach=0.5) for f, c in zip(fields, calls, strict=True)])
    assert found.n_live + found.n_dead > 100
    assert found.f1 > 0.95
    assert found.balanced_accuracy > 0.93


@pytest.mark.skipif(not (DATA / "ldc").is_dir(), reason="LIVESCOPE_DATA is absent: no LDC tiles")
def test_suspension_on_tiles_kept_apart_by_near_duplicates() -> None:
    fields = read_coco(DATA / "ldc", group="dup_group")
    kept_apart = split_groups([f.group for f in fields], (0.8, 0.08), seed=0)[-1]
    fields = [f for f in fields if f.group in kept_apart]
    calls = call_fields(load_bundle("suspension"), fields)
    found = score([match_field(f, c, reach=1.0) for f, c in zip(fields, calls, strict=True)])
    assert found.f1 >= 0.93
    assert found.auc_dead >= 0.98
    assert np.concatenate([c.state for c in calls]).tolist().count(State.UNCERTAIN) < 0.1 * found.n_live
