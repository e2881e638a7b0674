from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread, imsave

from livescope.errors import SourceError
from livescope.train.proposal import gather_pairs, propose
from livescope.train.settings import TrainSettings

ENDS = ("_BF.tif", "_PI.tif", "_H.tif")


def test_channels_are_gathered_under_the_names_that_training_reads(tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "pairs"
    source.mkdir()
    for k, field in enumerate(("d1_A1", "d1_A2")):
        for c, end in enumerate(ENDS):
            imsave(source / (field + end), np.full((8, 8), 10 * k + c, np.uint16), check_contrast=False)
    (source / "d1_A3_BF.tif").touch()  # without its dyes
    out.mkdir()
    (out / "stale.brightfield.tif").touch()
    assert gather_pairs(source, ENDS, out) == 2
    names = {path.name for path in out.iterdir()}
    assert names == {f"d1_A{k}.{channel}.tif" for k in (1, 2) for channel in ("brightfield", "dead_dye", "nuclear_dye")}
    assert imread(out / "d1_A2.dead_dye.tif")[0, 0] == 11
    assert gather_pairs(source, ENDS, out) == 2
    with pytest.raises(SourceError, match=r"no field with all three channels: 3 named \*_BF.tif, 0 named"):
        gather_pairs(source, ("_BF.tif", "_dead.tif", "_H.tif"), out)


def test_labels_are_drawn_and_counted(tmp_path: Path) -> None:
    settings = TrainSettings.model_validate(
        {"name": "a", "data": [{"kind": "simulated", "fields": 3, "side_px": 160, "seed": 4}]}
    )
    found = propose(settings, tmp_path / "labels")
    assert (found["fields"], found["groups"], found["thresholds"], found["histogram"]) == (3, 3, None, None)
    assert found["live"] + found["dead"] > 0
    assert found["unknown"] == 0
    assert len(found["pictures"]) == 3
    drawn = imread(found["pictures"][0])
    assert drawn.shape[:2] == (900, 900)
    assert np.ptp(drawn[..., :3].astype(int), axis=-1).max() > 60  # outlines are in colour, the picture is grey
