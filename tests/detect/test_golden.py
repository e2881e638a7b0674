from __future__ import annotations

import json

import numpy as np
import pytest
from golden_kit import GOLDEN, golden_frame, summary_of

from livescope.detect.bundle import bundled_names, load_bundle


def test_there_are_bundled_networks() -> None:
    assert bundled_names()


def test_the_golden_frame_never_changes() -> None:
    frame = golden_frame()
    assert (frame.sum(), frame[50, 60], frame[191, 255], frame.min(), frame.max()) == (46955057, 929, 1030, 573, 1282)


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_network_says_what_it_said(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert golden.pop("sha256") == load_bundle(name).sha256, (
        f"network {name!r} is another than the golden file's: run `python tests/detect/golden_kit.py` and look at it"
    )
    found = summary_of(name)
    assert len(golden["y_px"]) >= 3  # an answer that says something
    tolerance = {"y_px": 0.02, "x_px": 0.02, "p_cell": 1e-3, "p_dead": 1e-3, "mean_radius_px": 0.02}
    assert set(golden) == set(tolerance)
    for key, expected in golden.items():
        assert len(found[key]) == len(expected)
        np.testing.assert_allclose(found[key], expected, atol=tolerance[key], err_msg=key)
