from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from network_kit import blob_network, make_bundle

from livescope.calls import State
from livescope.detect.bundle import Card
from livescope.detect.decode import decode
from livescope.detect.detector import Table
from livescope.errors import BackendError
from livescope.frames import FrameSpec
from livescope.settings import DetectorSettings

SPEC = FrameSpec(100, 200, "uint16", 12, pixel_um=0.5)
DEFAULTS = DetectorSettings()


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    return make_bundle(tmp_path_factory.mktemp("kit"), blob_network(), temperature=2.0).card


def table(*rows: tuple[float, float, float, float, float], size: int = 8) -> Table:
    """Rows of (score, dead logit, y, x, radius)."""
    out = np.zeros((size, 36), np.float32)
    for i, (score, dead, y, x, radius) in enumerate(rows):
        out[i, :4] = score, dead, y, x
        out[i, 4:] = radius
    return Table(out, 5)


def test_states_follow_the_calibrated_chance(card: Card) -> None:
    calls = decode(table((0.9, -4, 20, 20, 5), (0.8, 4, 20, 60, 5), (0.7, 0.1, 20, 99, 5)), SPEC, card, DEFAULTS)
    assert [State(s) for s in calls.state] == [State.LIVE, State.DEAD, State.UNCERTAIN]
    np.testing.assert_allclose(calls.p_dead, 1 / (1 + np.exp([2.0, -2.0, -0.05])), rtol=1e-6)  # temperature 2
    assert calls.frame_index == 5
    assert calls.pixel_um == 0.5
    assert (calls.track == -1).all()
    calls = decode(table((0.9, 0.1, 20, 20, 5)), SPEC, card, DetectorSettings(uncertain=(0.5, 0.5)))
    assert calls.state.tolist() == [State.DEAD]


def test_a_band_of_all_chances_leaves_all_uncertain_also_where_a_chance_is_rounded_to_certainty(card: Card) -> None:
    sure = table((0.9, -500, 20, 20, 5), (0.8, 500, 20, 60, 5))
    calls = decode(sure, SPEC, card, DetectorSettings(uncertain=(0.0, 1.0)))
    assert calls.p_dead.tolist() == [0, 1]
    assert [State(s) for s in calls.state] == [State.UNCERTAIN] * 2
    calls = decode(sure, SPEC, card, DetectorSettings(uncertain=(0.01, 0.99)))
    assert [State(s) for s in calls.state] == [State.LIVE, State.DEAD]


def test_threshold_is_the_card_s_unless_set(card: Card) -> None:
    rows = table((0.9, 0, 20, 20, 5), (0.5, 0, 20, 60, 5), (0.49, 0, 20, 100, 5))
    assert len(decode(rows, SPEC, card, DEFAULTS)) == 2
    assert len(decode(rows, SPEC, card, DetectorSettings(p_cell=0.0))) == 3  # and never the empty rows
    assert len(decode(rows, SPEC, card, DetectorSettings(p_cell=0.95))) == 0


def test_a_weaker_peak_inside_a_stronger_cell_is_the_same_cell(card: Card) -> None:
    near, far = 9.9, 10.1
    calls = decode(table((0.9, 0, 50, 50, 10), (0.8, 0, 50, 50 + near, 30)), SPEC, card, DEFAULTS)
    assert calls.p_cell.tolist() == [np.float32(0.9)]
    assert len(decode(table((0.9, 0, 50, 50, 10), (0.8, 0, 50, 50 + far, 30)), SPEC, card, DEFAULTS)) == 2
    # a chain: the suppressed one in the middle suppresses nobody
    chain = table((0.9, 0, 50, 50, 10), (0.8, 0, 50, 50 + near, 10), (0.7, 0, 50, 50 + 2 * near, 10))
    np.testing.assert_allclose(decode(chain, SPEC, card, DEFAULTS).x_px, [50, 50 + 2 * near])


def test_area_is_the_polygon_s_and_edge_cells_are_marked(card: Card) -> None:
    calls = decode(table((0.9, 0, 50, 50, 10), (0.8, 0, 9, 100, 10), (0.7, 0, 50, 189.5, 10)), SPEC, card, DEFAULTS)
    np.testing.assert_allclose(calls.area_px, np.pi * 100, rtol=0.01)
    np.testing.assert_allclose(calls.area_um2, np.pi * 25, rtol=0.01)
    assert calls.edge.tolist() == [False, True, True]


def test_area_is_that_of_the_outline_s_polygon(card: Card) -> None:
    rows = table((0.9, 0, 50, 100, 1))
    rows.rows[0, 4:] = np.random.default_rng(0).uniform(5, 30, 32)
    calls = decode(rows, SPEC, card, DEFAULTS)
    y, x = calls.outlines_yx()[0].astype(float).T
    shoelace = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    np.testing.assert_allclose(calls.area_px, shoelace, rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "x", "inside"), [(-0.5, 0, True), (-0.6, 0, False), (99.4, 199.4, True), (99.5, 9, False)]
)
def test_centres_outside_the_frame_are_no_cells_of_it(card: Card, y: float, x: float, inside: bool) -> None:
    assert len(decode(table((0.9, 0, y, x, 5)), SPEC, card, DEFAULTS)) == inside


def test_a_full_table_is_said(card: Card) -> None:
    rows = [(0.9, 0.0, 10.0, 20.0 * i + 5, 5.0) for i in range(8)]
    assert decode(table(*rows), SPEC, card, DEFAULTS).saturated
    assert not decode(table(*rows, size=9), SPEC, card, DEFAULTS).saturated
    assert not decode(table(*rows[:7], (0.4, 0, 50, 50, 5)), SPEC, card, DEFAULTS).saturated


def test_no_cell_is_an_answer(card: Card) -> None:
    calls = decode(table(), SPEC, card, DEFAULTS)
    assert len(calls) == 0
    assert calls.radii_px.shape == (0, 32)
    assert calls.outlines_yx().shape == (0, 32, 2)
    assert not calls.saturated


@pytest.mark.parametrize("column", [0, 1, 2, 35])
def test_numbers_that_are_not_finite_are_a_failure(card: Card, column: int) -> None:
    broken = table((0.9, 0, 50, 50, 10))
    broken.rows[0, column] = np.nan
    with pytest.raises(BackendError, match="not finite for frame 5"):
        decode(broken, SPEC, card, DEFAULTS)


@given(hnp.arrays(np.float32, (20, 36), elements=st.floats(0, 1, width=32)), st.integers(1, 200))
def test_any_table_gives_calls_inside_the_frame_and_apart(card: Card, rows: np.ndarray, reach: int) -> None:
    rows = rows[np.argsort(-rows[:, 0])]
    rows[:, 2:] *= reach
    calls = decode(Table(rows, 0), SPEC, card, DEFAULTS)
    assert ((calls.y_px < 99.5) & (calls.x_px < 199.5)).all()
    for i in range(len(calls)):
        apart = np.hypot(calls.y_px[i + 1 :] - calls.y_px[i], calls.x_px[i + 1 :] - calls.x_px[i])
        assert (apart >= np.median(calls.radii_px[i]) * (1 - 1e-5)).all()
