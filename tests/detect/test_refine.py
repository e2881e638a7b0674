from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from network_kit import as_frame, blob_network, disc_frame, make_bundle
from skimage.io import imread

from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import load_bundle
from livescope.detect.refine import Outliner, refine, with_outlines
from livescope.settings import DetectorSettings

SHAPE = (70, 101)
"""No multiple of the network's stride."""


def calls_at(centres: list[tuple[float, float]], radius: float = 6.0) -> CellCalls:
    n = len(centres)
    y, x = np.asarray(centres, np.float32).reshape(n, 2).T
    ones = np.ones(n, np.float32)
    radii = np.full((n, 32), radius, np.float32)
    state = np.full(n, State.LIVE, np.uint8)
    area = (ones * np.pi * radius**2).astype(np.float32)
    return CellCalls(0, y, x, radii, ones, 0 * ones, state, area, np.zeros(n, bool), np.full(n, -1))


def chance_of(covered: np.ndarray, bin_px: int = 1) -> np.ndarray:
    """What a good network says of a mask: the covered part of each of its cells."""
    pitch = 4 * bin_px
    rows, columns = (-(-n // pitch) * pitch for n in covered.shape)
    padded = np.zeros((rows, columns), np.float32)
    padded[: covered.shape[0], : covered.shape[1]] = covered
    return padded.reshape(rows // pitch, pitch, columns // pitch, pitch).mean(axis=(1, 3)).astype(np.float32)


def bars() -> np.ndarray:
    """Two long cells that no ray of length 6 covers."""
    covered = np.zeros(SHAPE, bool)
    covered[12:24, 8:92] = True
    covered[40:52, 8:92] = True
    return covered


@pytest.mark.parametrize("bin_px", [1, 2])
def test_a_cell_is_filled_to_its_ends_where_its_rays_come_out_short(bin_px: int) -> None:
    covered = bars()
    calls = calls_at([(17.5, 50), (45.5, 50)], radius=30)  # 42 are right
    labels = refine(calls, chance_of(covered, bin_px), bin_px, SHAPE)
    assert labels.shape == SHAPE
    assert set(np.unique(labels)) == {0, 1, 2}
    for row, rows in enumerate((slice(12, 24), slice(40, 52))):
        truth = np.zeros(SHAPE, bool)
        truth[rows, 8:92] = True
        found = labels == row + 1
        assert (truth & found).sum() / (truth | found).sum() > 0.8


def test_a_neighbour_that_nobody_called_is_not_taken_over() -> None:
    labels = refine(calls_at([(17.5, 26)], radius=20), chance_of(bars()), 1, SHAPE)
    assert (labels[18, 10:50] == 1).all()
    assert not labels[:, 60:].any()


def test_touching_cells_part_where_their_outlines_meet() -> None:
    """A long and a short one in a bar without a dip: the long one does not end half way."""
    calls = calls_at([(17.5, 40), (17.5, 82)])
    calls.radii_px[:] = [[32.0], [10.0]]
    labels = refine(calls, chance_of(bars()), 1, SHAPE)
    assert (labels[18, 12:70] == 1).all()  # 40 + 32 = 82 - 10 = 72
    assert (labels[18, 74:90] == 2).all()


def test_foreground_without_a_call_stays_background() -> None:
    labels = refine(calls_at([(17.5, 50)]), chance_of(bars()), 1, SHAPE)
    assert labels[30:].max() == 0
    assert refine(calls_at([]), chance_of(bars()), 1, SHAPE).max() == 0


def test_a_cell_that_the_map_does_not_see_keeps_its_rays() -> None:
    labels = refine(calls_at([(35, 50), (2, 2)]), np.zeros((18, 26), np.float32), 1, SHAPE)
    assert np.count_nonzero(labels == 1) == pytest.approx(np.pi * 36, rel=0.1)
    assert labels[2, 2] == 2


def test_of_two_centres_in_one_pixel_the_surer_has_it() -> None:
    calls = calls_at([(17.5, 50), (17.6, 50.1)])
    labels = refine(calls, chance_of(bars()), 1, SHAPE)
    assert set(np.unique(labels)) == {0, 1}
    measured = with_outlines(calls, labels)
    assert measured.area_px[0] == np.count_nonzero(labels == 1)
    assert measured.area_px[1] == calls.area_px[1]
    np.testing.assert_array_equal(measured.radii_px[1], calls.radii_px[1])


def test_areas_rays_and_edges_are_those_of_the_labels() -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[10:31, 0:81] = 1
    calls = calls_at([(20, 40), (60, 60)])
    measured = with_outlines(calls, labels)
    assert measured.area_px[0] == 21 * 81
    np.testing.assert_allclose(measured.radii_px[0, [0, 8, 16, 24]], [40.5, 10.5, 40.5, 10.5])
    assert measured.edge.tolist() == [True, False]
    assert measured.state is calls.state


def test_the_outliner_labels_what_the_analyser_called(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    live = [(30, 40), (90, 150)]
    frame = as_frame(disc_frame(live, [], (117, 203)))
    analyser = FrameAnalyser(bundle, DetectorSettings(backend="onnx", threads=1))
    calls = analyser(frame).calls
    outliner = Outliner(bundle, threads=1)
    labels = outliner(frame, calls)
    assert labels.shape == (117, 203)
    assert labels[30, 40] != labels[90, 150]
    assert np.unique(labels).tolist() == [0, 1, 2]
    small = as_frame(disc_frame([(30, 40)], [], (64, 80)))
    assert outliner(small, analyser(small).calls).shape == (64, 80)
    analyser.close()


def test_refined_outlines_fit_real_cells_better_than_rays(data_dir: Path) -> None:
    """On the Usiigaci fields that the bundled network was not trained on: .90 against .87 when this was written."""
    from livescope.train.instances import Instances, match_instances, painted
    from livescope.train.seen import seen_path

    bundle = load_bundle("adherent")
    seen = seen_path(bundle.onnx_path).read_text().split()
    analyser = FrameAnalyser(bundle, DetectorSettings(backend="onnx", threads=1))
    outliner = Outliner(bundle, threads=1)
    rays, refined, redrawn = Instances(), Instances(), Instances()
    for path in sorted((data_dir / "usiigaci" / "images").glob("*.tif")):
        pixels = imread(path)
        if hashlib.sha256(pixels.tobytes()).hexdigest()[:12] in seen:
            continue
        truth = imread(data_dir / "usiigaci" / "masks" / f"{path.stem}.png")
        frame = as_frame(pixels, pixel_um=0.65)
        calls = analyser(frame).calls
        labels = outliner(frame, calls)
        rays += match_instances(truth, painted(calls.outlines_yx()[::-1], truth.shape))
        refined += match_instances(truth, labels)
        redrawn += match_instances(truth, painted(with_outlines(calls, labels).outlines_yx()[::-1], truth.shape))
    analyser.close()
    assert rays.marked > 50
    assert refined.f1 > max(0.85, rays.f1)
    assert redrawn.f1 > max(0.85, rays.f1)
